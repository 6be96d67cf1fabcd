"""Earlier exams that the node fetches before it reads a study: they come, or it is said that they did not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_inbox import add_dicom
from node_peers import QueryArchive, WebService, config_of, running, send, wait_for
from pydicom import Dataset, dcmread

from lungscreen.node.config import Destination, NodeConfig, PriorSource
from lungscreen.node.priors import prior_remarks
from lungscreen.node.run import open_doors
from lungscreen.node.status import node_status
from lungscreen.pseudonyms import load_key

pytestmark = pytest.mark.filterwarnings(
    # pynetdicom drops a socket that it cannot connect
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
    "ignore:unclosed <socket:ResourceWarning",
)
PERSON = {"PatientID": "ID7", "PatientName": "Name^Nr7", "PatientBirthDate": "19500101"}
UID = "1.2.826.0.1.7"


def exam(folder: Path, number: int, day: str, **tags: str) -> list[Path]:
    """An exam of the person."""
    return sorted(add_dicom(folder, number, tags=PERSON | {"StudyDate": day} | tags).iterdir())


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Three exams of the person, and a later one."""
    folder = tmp_path_factory.mktemp("exams")
    days = {"oldest": (1, "20180101"), "older": (2, "20190101"), "old": (3, "20200101"), "now": (7, "20210101")}
    return {name: exam(folder, number, day) for name, (number, day) in days.items()}


def node(tmp_path: Path, source: Destination, *, most: int = 2, wait_s: float = 20.0) -> NodeConfig:
    return config_of(tmp_path, calling=("SENDER", "QR"), priors=PriorSource(source, most, wait_s))


@pytest.fixture
def archives() -> Iterator[Callable[..., QueryArchive]]:
    made: list[QueryArchive] = []

    def make(*args: Any, **more: Any) -> QueryArchive:
        made.append(QueryArchive(*args, **more))
        return made[-1]

    yield make
    for archive in made:
        archive.close()


@pytest.mark.slow
def test_priors_come_before_the_study_is_read(
    exams: dict[str, list[Path]], archives: Callable[..., QueryArchive], tmp_path: Path
) -> None:
    """The latest two are asked for, one comes; it is compared and not read itself; that the other did not is said."""
    archive = archives(
        [exams["oldest"], exams["older"], exams["old"], exams["now"]], lost=lambda path: path in exams["old"][4:6]
    )
    config = node(tmp_path, archive.source())
    with running(config) as port:
        archive.node_port = port
        assert set(send(port, exams["now"])) == {0}
        wait_for(lambda: (node_status(config)["studies"] or {}).get("done") == 1)
    uids = [dcmread(exams[name][0]).StudyInstanceUID for name in ("old", "older")]
    assert archive.moved == uids, "the latest two, the latest first"
    assert archive.asked[0].StudyDate == "-20201231"
    (report,) = (config.results / "studies").glob("*/report.json")
    document = json.loads(report.read_text())
    assert document["prior"]["date"] == "2019-01-01", "what came of the other is no whole chest"
    said = {notice["code"]: notice["text"] for notice in document["notices"]}
    assert said["prior-not-fetched"].startswith("1 of 2 earlier CT exams did not come")
    status = node_status(config)
    assert status["studies"]["done"] == 1, "earlier exams are not read themselves"
    assert sum(status["studies"][state] for state in ("waiting", "running", "refused", "failed")) == 0
    assert status["priors"] == {"studies": 1, "found": 2, "came": 1, "not_fetched": 1}


def received(config: NodeConfig, archive: QueryArchive | None, files: list[Path]) -> str:
    """What is said of a study once it may be read."""
    with open_doors(config) as doors:
        if archive:
            archive.node_port = doors.port
        assert set(send(doors.port, files)) == {0}
        wait_for(lambda: len(list(config.inbox.rglob("*.dcm"))) == len(files))
    uid = str(dcmread(files[0]).StudyInstanceUID)
    return " ".join(notice.text for notice in prior_remarks(config, load_key(Path(config.key_file)))(uid))


def fetched(config: NodeConfig) -> int:
    return len(list(config.priors_folder.rglob("*.dcm")))


@pytest.mark.parametrize(
    ("keyword", "value"), [("PatientName", "Other^Name"), ("PatientBirthDate", "19600101"), ("PatientSex", "M")]
)
def test_an_exam_of_another_person_is_not_fetched(
    keyword: str, value: str, archives: Callable[..., QueryArchive], tmp_path: Path
) -> None:
    """Under the same patient ID: its images never come here."""
    files = exam(tmp_path / "now", 7, "20210101", PatientSex="F")[:3]
    archive = archives([exam(tmp_path / "old", 3, "20200101", **{"PatientSex": "F", keyword: value})])
    config = node(tmp_path, archive.source())
    assert "1 CT exams in the archive under this patient ID have another" in received(config, archive, files)
    assert (fetched(config), archive.moved) == (0, [])


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PatientID": "ANON"}, "nobody in particular"),
        ({"PatientID": "12*4"}, "takes as any"),
        ({"StudyDate": ""}, "no date"),
    ],
)
def test_what_cannot_be_asked_for_is_said(
    tags: dict[str, str], reason: str, archives: Callable[..., QueryArchive], tmp_path: Path
) -> None:
    archive = archives([])
    files = exam(tmp_path / "now", 7, "20210101", **tags)[:3]
    assert reason.replace("takes", "take") in received(node(tmp_path, archive.source()), archive, files)
    assert archive.asked == []


def test_an_archive_that_says_too_much_is_not_believed(
    exams: dict[str, list[Path]], archives: Callable[..., QueryArchive], tmp_path: Path
) -> None:
    """Rows of another patient ID, of a later day and of the study itself are passed over."""

    def says(row: Dataset) -> None:
        if row.get("StudyInstanceUID") == dcmread(exams["old"][0]).StudyInstanceUID:
            row.PatientID = "ID70"

    archive = archives([exams["old"], exam(tmp_path / "later", 9, "20220101"), exams["now"]], says=says)
    config = node(tmp_path, archive.source())
    assert received(config, archive, exams["now"][:3]) == ""
    assert archive.moved == []


def test_a_silent_archive_costs_its_time_limit(
    exams: dict[str, list[Path]], archives: Callable[..., QueryArchive], tmp_path: Path
) -> None:
    archive = archives([exams["old"]], silent=True)
    said = received(node(tmp_path, archive.source(), wait_s=1.0), archive, exams["now"][:3])
    assert "did not come from the archive within 1 s" in said or "could not be asked" in said


def test_an_archive_that_is_away_is_said(exams: dict[str, list[Path]], tmp_path: Path) -> None:
    said = received(node(tmp_path, Destination("127.0.0.1", 9, "QR")), None, exams["now"][:3])
    assert said == "The archive could not be asked for earlier exams."


def test_a_prior_that_is_sent_to_be_read_is_read(
    exams: dict[str, list[Path]], archives: Callable[..., QueryArchive], tmp_path: Path
) -> None:
    """It was fetched as an earlier exam first: the copy goes, and the study stands in the inbox."""
    archive = archives([exams["old"]])
    config = node(tmp_path, archive.source())
    with open_doors(config) as doors:
        archive.node_port = doors.port
        send(doors.port, exams["now"][:3])
        wait_for(lambda: list(config.inbox.rglob("*.dcm")))
        assert fetched(config) == len(exams["old"])
        send(doors.port, exams["old"])
        wait_for(lambda: len(list(config.inbox.rglob("*.dcm"))) == 3 + len(exams["old"]))
        assert fetched(config) == 0


def test_priors_come_from_a_service(exams: dict[str, list[Path]], tmp_path: Path) -> None:
    """By QIDO-RS and WADO-RS; a service that is not there is said."""
    service = WebService(files=exams["old"])
    try:
        config = node(tmp_path, Destination(url=service.url))
        assert received(config, None, exams["now"][:3]) == ""
        assert fetched(config) == len(exams["old"])
        assert all("PatientID=ID7" in query for query in service.asked[:1])
        pixels = {dcmread(path).PixelData for path in exams["old"]}
        assert {dcmread(path).PixelData for path in config.priors_folder.rglob("*.dcm")} == pixels
        service.files = []
        (tmp_path / "away").mkdir()
        assert "HTTP 503" in received(node(tmp_path / "away", Destination(url=service.url)), None, exams["now"][:3])
    finally:
        service.close()
