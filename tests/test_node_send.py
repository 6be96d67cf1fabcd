"""What the node sends, and what destinations say of it: stored, refused, warned, committed, silent."""

from __future__ import annotations

import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom_factory import save
from node_peers import (
    Archive,
    CommittingArchive,
    WebService,
    certificate,
    config_of,
    free_port,
    states,
    stow_answer,
    wait_for,
)
from pydicom import Dataset

from lungscreen.errors import UsageError
from lungscreen.node.config import Destination, NodeConfig, Tls
from lungscreen.node.run import open_doors
from lungscreen.node.status import node_status, retry_letters

SUMMARY = "1.2.840.10008.5.1.4.1.1.7"
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
pytestmark = pytest.mark.filterwarnings(
    # pynetdicom drops a socket that it cannot connect
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
    "ignore:unclosed <socket:ResourceWarning",
)


@pytest.fixture
def archive() -> Iterator[Archive]:
    found = Archive()
    yield found
    found.close()


# -- what is sent badly ----------------------------------------------------------------------------------------------
def put_result(config: NodeConfig, key: str = "k1", revision: int = 1) -> int:
    """A study's folder of results with three objects. Returns how many."""
    folder = config.results / "studies" / key
    folder.mkdir(parents=True, exist_ok=True)
    for number, uid in enumerate((SUMMARY, SUMMARY, REPORT)):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = uid, f"2.25.{revision}{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.PatientID = "2.25.8", "2.25.9", "ID001"
        save(dataset, folder / f"dicom-{number}.dcm")
    (folder / "report.json").write_text("{}")
    return 3


def sent_to(archive: Archive, tmp_path: Path, until: str, **limits: object) -> tuple[NodeConfig, list[dict]]:
    """A result's objects in the outbox, once none is queued and one is in the state `until`."""
    config = config_of(tmp_path, send={"pacs": archive.destination()}, limits=limits)
    put_result(config)
    with open_doors(config):
        wait_for(lambda: states(config).get(until, 0) and not states(config)["queued"])
    return config, node_status(config)["objects"]


def test_a_refused_result_becomes_a_dead_letter_and_can_be_sent_again(tmp_path: Path) -> None:
    archive = Archive(lambda d: 0xA900 if d.SOPClassUID == SUMMARY else 0)
    try:
        config, rows = sent_to(archive, tmp_path, "dead", most_refusals=2)
        dead = [row for row in rows if row["state"] == "dead"]
        assert {(row["code"], row["status"], row["refusals"]) for row in dead} == {("result-refused", "0xA900", 2)}
        assert {row["state"] for row in rows if row not in dead} == {"sent"}
        assert retry_letters(config) == len(dead)
        archive.answer = lambda _: 0
        with open_doors(config):
            wait_for(lambda: states(config)["sent"] == len(rows))
    finally:
        archive.close()
    assert len({d.SOPInstanceUID for d in archive.got}) == len(archive.got) == len(rows)


def test_a_warning_counts_as_sent_and_is_said(tmp_path: Path) -> None:
    archive = Archive(lambda _: 0xB000)
    try:
        _, rows = sent_to(archive, tmp_path, "sent")
    finally:
        archive.close()
    assert {(row["state"], row["code"], row["status"]) for row in rows} == {("sent", "result-warned", "0xB000")}


def test_a_destination_that_is_away_costs_nothing_but_time(tmp_path: Path) -> None:
    """Away for longer than all attempts would take; then everything arrives, once."""
    port = free_port()
    config = config_of(tmp_path, send={"pacs": Destination("127.0.0.1", port, "ARCHIVE")}, limits={"most_refusals": 1})
    count = put_result(config)
    with open_doors(config):
        wait_for(lambda: states(config).get("queued", 0))
        time.sleep(2.0)
        assert states(config) == {"queued": count, "sent": 0, "committed": 0, "dead": 0, "superseded": 0}
        archive = Archive(port=port)
        try:
            wait_for(lambda: states(config)["sent"] == count)
        finally:
            archive.close()
    assert len(archive.got) == count


def test_a_class_that_a_destination_does_not_take_holds_up_no_other(tmp_path: Path) -> None:
    archive = Archive(classes=(SUMMARY,))
    try:
        _, rows = sent_to(archive, tmp_path, "dead", most_refusals=1)
    finally:
        archive.close()
    assert [(row["state"], row["code"]) for row in rows] == [
        ("sent", ""),
        ("sent", ""),
        ("dead", "result-class-refused"),
    ]


def test_a_newer_result_of_a_study_is_sent_too(tmp_path: Path, archive: Archive) -> None:
    config, _ = sent_to(archive, tmp_path, "sent")
    shutil.rmtree(config.results / "studies")
    put_result(config, revision=2)
    with open_doors(config):
        wait_for(lambda: states(config)["sent"] == 6)
    assert len({d.SOPInstanceUID for d in archive.got}) == len(archive.got) == 6


# -- DICOMweb --------------------------------------------------------------------------------------------------------
Rows = set[tuple[str, str, str]]


def posted(tmp_path: Path, service: WebService, until: str, **limits: object) -> tuple[NodeConfig, Rows]:
    """What became of a result's objects: (state, code, status)."""
    try:
        config = config_of(tmp_path, send={"pacs": Destination(url=service.url)}, limits=limits)
        put_result(config)
        with open_doors(config):
            wait_for(lambda: states(config).get(until, 0) and not states(config)["queued"])
    finally:
        service.close()
    return config, outcomes(config)


def outcomes(config: NodeConfig) -> Rows:
    return {(row["state"], row["code"], row["status"]) for row in node_status(config)["objects"]}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda d: (200, stow_answer(d)), ("sent", "", "")),
        (lambda d: (202, stow_answer(d, warned=0xB000)), ("sent", "result-warned", "0xB000")),
        (lambda d: (200, stow_answer(d, failed=0x0110)), ("dead", "result-refused", "0x0110")),
        (lambda d: (409, stow_answer(d, failed=0xA700)), ("dead", "result-refused", "0xA700")),
        (lambda _: (200, {}), ("dead", "result-refused", "not acknowledged")),
        (lambda _: (200, ["nonsense"]), ("dead", "result-refused", "not acknowledged")),
        (lambda _: (413, "too large"), ("dead", "result-refused", "HTTP 413")),
    ],
    ids=["stored", "warned", "failed-with-200", "failed", "silent", "nonsense", "too-large"],
)
def test_a_service_has_stored_what_it_says_that_it_stored(
    answer: Callable[[list[Any]], tuple[int, Any]], outcome: tuple[str, str, str], tmp_path: Path
) -> None:
    """A 200 alone says nothing: what is not named in ReferencedSOPSequence is not there."""
    service = WebService(answer)
    config, rows = posted(tmp_path, service, outcome[0], most_refusals=1)
    assert rows == {outcome}
    folder = config.results / "studies" / "k1"
    assert {d.SOPInstanceUID for d in service.got} == {"2.25.10", "2.25.11", "2.25.12"}
    assert len(list(folder.glob("dicom-*"))) == len(service.got)


@pytest.mark.parametrize("status", [302, 401, 503])
def test_a_service_that_does_not_let_us_in_is_away(status: int, tmp_path: Path) -> None:
    """It costs no attempt; a redirect is not followed; what waits is sent when the service takes it."""
    service = WebService(lambda _: (status, {}))
    try:
        config = config_of(tmp_path, send={"pacs": Destination(url=service.url)}, limits={"most_refusals": 1})
        count = put_result(config)
        with open_doors(config):
            wait_for(lambda: len(service.headers) > 2)
            assert states(config)["queued"] == count
            service.answer = lambda datasets: (200, stow_answer(datasets))
            wait_for(lambda: states(config)["sent"] == count)
    finally:
        service.close()


def test_a_service_over_https_is_checked_and_given_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the authority's certificate nothing is sent; the token is in no log line."""
    certified = certificate(tmp_path, "service")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certified)
    secret = tmp_path / "secret.toml"
    secret.write_text('token = "very-secret"\n')
    secret.chmod(0o600)
    service = WebService(lambda datasets: (200, stow_answer(datasets)), context)
    try:
        send = {
            "strict": Destination(url=service.url, credentials=str(secret)),
            "pacs": Destination(url=service.url, credentials=str(secret), tls=Tls(authority=certified[0])),
        }
        config = config_of(tmp_path, send=send)
        count = put_result(config)
        with caplog.at_level("DEBUG"), open_doors(config):
            wait_for(lambda: states(config).get("sent", 0) == count)
            wait_for(lambda: "destination-unreachable" in str([vars(r) for r in caplog.records]))
            assert states(config, "strict")["queued"] == count
    finally:
        service.close()
    assert [headers["Authorization"] for headers in service.headers] == ["Bearer very-secret"]
    assert "very-secret" not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ('token = "x"', 0o644, "others may read"),
        ('password = "x"', 0o600, "token, or user and password"),
        (None, 0o600, "cannot read"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused(
    content: str | None, mode: int, reason: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.toml"
    if content is not None:
        secret.write_text(content)
        secret.chmod(mode)
    send = {"pacs": Destination(url="https://127.0.0.1/dicom-web", credentials=str(secret))}
    with pytest.raises(UsageError, match=reason) as caught, open_doors(config_of(tmp_path, send=send)):
        pass
    assert caught.value.code == "config-invalid"


# -- storage commitment ----------------------------------------------------------------------------------------------
def committing(archive: Archive, tmp_path: Path, **limits: object) -> NodeConfig:
    """A node with a result that is to be sent there and committed."""
    to = Destination("127.0.0.1", archive.port, "ARCHIVE", commitment=True)
    config = config_of(tmp_path, send={"pacs": to}, limits=limits)
    put_result(config)
    return config


@pytest.mark.parametrize("where", ["same association", "new association"])
def test_what_is_committed_is_told_from_what_is_sent(where: str, tmp_path: Path) -> None:
    archive = CommittingArchive(lambda _: 0)
    try:
        config = committing(archive, tmp_path)
        with open_doors(config) as doors:
            archive.node_port = 0 if where == "same association" else doors.port
            wait_for(lambda: states(config).get("committed", 0) == 3)
            time.sleep(0.5)
        assert len(archive.asked) == 1, "what is committed is not asked about again"
        assert {str(row.ReferencedSOPClassUID) for row in archive.asked[0].ReferencedSOPSequence} == {SUMMARY, REPORT}
        rows = node_status(config)["objects"]
        assert all(0 < row["queued"] <= row["sent"] <= row["committed"] for row in rows)
    finally:
        archive.close()


def test_what_was_not_kept_is_sent_again_and_committed_then(tmp_path: Path) -> None:
    lost: set[str] = set()

    def commit(uid: str) -> int:
        """Of one object it says, once, that there is no such object (0x0112)."""
        reason = 0x0112 if uid == "2.25.11" and uid not in lost else 0
        lost.add(uid)
        return reason

    archive = CommittingArchive(commit)
    try:
        config = committing(archive, tmp_path)
        with open_doors(config):
            wait_for(lambda: states(config).get("committed", 0) == 3)
    finally:
        archive.close()
    assert sorted(d.SOPInstanceUID for d in archive.got) == ["2.25.10", "2.25.11", "2.25.11", "2.25.12"]


@pytest.mark.parametrize(
    ("commit", "status", "outcome"),
    [
        (lambda _: 0x0112, 0, ("dead", "commitment-failed", "0x0112")),
        (lambda _: None, 0, ("dead", "commitment-missing", "")),
        (lambda _: 0, 0x0110, ("dead", "commitment-missing", "")),
    ],
    ids=["fails", "never-comes", "is-refused"],
)
def test_what_is_never_committed_is_a_dead_letter(
    commit: Callable[[str], int | None], status: int, outcome: tuple[str, str, str], tmp_path: Path
) -> None:
    archive = CommittingArchive(commit, status=status)
    try:
        config = committing(archive, tmp_path, most_refusals=2, commitment_s=0.3)
        with open_doors(config):
            wait_for(lambda: states(config).get("dead", 0) == 3)
        assert outcomes(config) == {outcome}
        assert len(archive.asked) == 2
        assert retry_letters(config) == 3
        archive.commit, archive.status = (lambda _: 0), 0
        with open_doors(config):
            wait_for(lambda: states(config).get("committed", 0) == 3)
    finally:
        archive.close()


def test_an_archive_without_commitment_is_said_and_keeps_what_it_has(tmp_path: Path, archive: Archive) -> None:
    config = committing(archive, tmp_path, most_refusals=1, commitment_s=0.3)
    with open_doors(config):
        wait_for(lambda: states(config).get("dead", 0) == 3)
    assert outcomes(config) == {("dead", "commitment-missing", "")}
    assert len(archive.got) == 3


def test_an_answer_to_nobody_s_question_changes_nothing(tmp_path: Path) -> None:
    archive = CommittingArchive(lambda _: None)
    try:
        config = committing(archive, tmp_path)
        with open_doors(config) as doors:
            wait_for(lambda: archive.asked)
            archive.node_port = doors.port
            report = Dataset()
            report.TransactionUID = "2.25.99"
            archive.report(None, report, [(row, 0) for row in archive.asked[0].ReferencedSOPSequence])
            assert states(config)["committed"] == 0
    finally:
        archive.close()
