"""The node: studies come in by C-STORE, results go out by C-STORE, and nothing is lost on the way."""

from __future__ import annotations

import gc
import importlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from batch_inbox import add_dicom
from node_peers import CT, Archive, associate, certificate, config_of, free_port, running, send, states, wait_for
from pydicom import dcmread

from lungscreen.cli.main import main
from lungscreen.errors import UsageError
from lungscreen.node import arrivals as arrivals_module
from lungscreen.node.arrivals import Arrivals, FullError
from lungscreen.node.config import NodeConfig, read_node_config
from lungscreen.node.outbox import Outbox, Outgoing
from lungscreen.node.run import open_doors
from lungscreen.node.status import node_status
from lungscreen.pseudonyms import Pseudonyms

NAMES = Pseudonyms(b"k" * 32)
pytestmark = pytest.mark.filterwarnings(
    # pynetdicom drops a socket that it cannot connect
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
    "ignore:unclosed <socket:ResourceWarning",
)
ECHO = "1.2.840.10008.1.1"
SUMMARY = "1.2.840.10008.5.1.4.1.1.7"
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"


@pytest.fixture
def archive() -> Iterator[Archive]:
    found = Archive()
    yield found
    found.close()


def slices(folder: Path, number: int = 1) -> list[Path]:
    """A study's files, from the lowest slice up: without its last one it has no hole."""
    return sorted(add_dicom(folder, number).iterdir(), key=lambda path: dcmread(path).ImagePositionPatient[2])


def not_received(config: NodeConfig) -> dict[str, int]:
    return (node_status(config)["receiving"] or {"not_received": {}})["not_received"]


# -- the whole way ---------------------------------------------------------------------------------------------------
def check_batch_knows_what_was_sent(config: NodeConfig, each: int, capsys: pytest.CaptureFixture[str]) -> None:
    """`batch audit --sent` lists each result; `batch retry` queues those that a destination refused for good."""
    capsys.readouterr()
    assert main(["batch", "audit", str(config.results), "--sent", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["destination"], row["state"]) for row in rows] == [("pacs", "sent")] * 2 * each
    assert all(row["queued"] <= row["sent"] for row in rows)
    assert main(["batch", "audit", str(config.results), "--sent"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split("\t")[:3] == ["queued", "sent", "committed"]
    assert {line.split("\t")[6] for line in lines} == {"pacs"}
    outbox = Outbox(config.results)
    item = Outgoing(rows[0]["id"], rows[0]["study"], rows[0]["file"], rows[0]["sop_uid"], "", 0)
    assert outbox.count_refusal(item, "result-refused", "0xA900", 60.0, most=1) == "dead"
    outbox.close()
    assert node_status(config)["way"]["dead"] == 1
    assert main(["batch", "retry", str(config.results)]) == 0
    assert "1 results queued again" in capsys.readouterr().err
    assert states(config)["queued"] == 1


def test_a_study_goes_in_and_its_results_come_back_once(
    tmp_path: Path, archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when it is sent a second time, when its results come back, and after a restart; again when it grows."""
    config = config_of(tmp_path, send={"pacs": archive.destination()})
    files = slices(tmp_path / "source")
    with running(config) as port:
        assert set(send(port, files[:-1])) == {0}
        wait_for(lambda: states(config).get("sent", 0) and not states(config)["queued"])
        first = list(archive.got)
        assert {d.StudyInstanceUID for d in first} == {dcmread(files[0]).StudyInstanceUID}
        assert {d.PatientID for d in first} == {"ID001"}
        assert len({d.SOPInstanceUID for d in first}) == len(first)
        assert set(send(port, files[:-1])) == {0}, "the same study again"
        assert set(send(port, write_all(first, tmp_path / "back"))) == {0}, "own results"
        time.sleep(1.5)
        assert len(archive.got) == len(first)
        assert len(list(config.returned.rglob("*.dcm"))) == len(first)
        status = node_status(config)
        assert status["studies"]["done"] == 1
        assert {step: count for step, count in status["way"].items() if count} == {"sent": 1}
        wait_for(lambda: 'lungscreen_node_studies{step="sent"} 1.0' in (config.results / "node.prom").read_text())
        assert status["receiving"]["instances"] == {
            "kept": len(files) - 1, "again": len(files) - 1, "returned": len(first), "fetched": 0
        }  # fmt: skip
    with running(config) as port:
        time.sleep(1.0)
        assert len(archive.got) == len(first), "nothing is sent again after a restart"
        assert set(send(port, files[-1:])) == {0}, "a slice that came late"
        wait_for(lambda: states(config)["sent"] == 2 * len(first))
    newer = archive.got[len(first) :]
    assert not {d.SOPInstanceUID for d in newer} & {d.SOPInstanceUID for d in first}
    assert states(config)["queued"] == 0
    check_batch_knows_what_was_sent(config, len(first), capsys)
    names = " ".join(path.name for path in Path(config.folder).rglob("*"))
    assert "ID001" not in names
    assert "1.2.826" not in names


def write_all(datasets: list, folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{n}.dcm" for n in range(len(datasets))]
    for dataset, path in zip(datasets, paths, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


def test_the_command_runs_until_it_is_told_to_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lungscreen node`, then `node status`: what a person types."""
    port = free_port()
    config_of(tmp_path)  # for its key
    toml = tmp_path / "node.toml"
    toml.write_text(
        f'folder = "{tmp_path}/node"\ncalling = ["SENDER"]\nport = {port}\nkey_file = "{tmp_path}/key"\n'
        "[limits]\npoll_s = 0.2\nkeep_free_mb = 1\nquiet_s = 100\n"
    )
    command = [sys.executable, "-m", "lungscreen.cli.main", "node", "--config", str(toml)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"LUNGSCREEN listens at 127.0.0.1:{port}\n"
        association = associate(port, classes=(ECHO,))
        assert association.send_c_echo().Status == 0
        association.release()
        assert set(send(port, slices(tmp_path / "source"))) == {0}
        wait_for(lambda: not list(read_node_config(toml).incoming.iterdir()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert main(["node", "status", "--config", str(toml), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["receiving"]["instances"]["kept"] == len(list((tmp_path / "source").rglob("*.dcm")))
    assert main(["node", "status", "--config", str(toml)]) == 0
    assert "not at work" in capsys.readouterr().out


# -- who may send ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("allowed", "wrong"),
    [({}, {"calling": "STRANGER"}), ({}, {"called": "OTHER"}), ({"addresses": ("10.0.0.0/8",)}, {})],
    ids=["calling", "called", "address"],
)
def test_who_is_not_on_the_list_is_refused(allowed: dict, wrong: dict, tmp_path: Path) -> None:
    config = config_of(tmp_path, **allowed)
    with open_doors(config) as doors:
        assert not associate(doors.port, **wrong).is_established
        wait_for(lambda: not_received(config).get("peer-refused") == 1)


def test_an_association_too_many_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, limits={"associations": 1})
    with open_doors(config) as doors:
        first = associate(doors.port)
        assert first.is_established
        assert not associate(doors.port).is_established
        first.release()
        wait_for(lambda: not_received(config) == {"peer-refused": 1})


# pynetdicom leaves the socket of a refused handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_tls_on_both_ends(tmp_path: Path) -> None:
    """With mutual TLS a plain peer and one without a certificate get nowhere."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    from lungscreen.node.config import Tls
    from lungscreen.node.tls import client_tls

    own, peer = certificate(tmp_path, "node"), certificate(tmp_path, "peer")
    config = config_of(tmp_path, tls=Tls(*own, authority=peer[0]))
    with open_doors(config) as doors:
        assert not associate(doors.port).is_established, "plain"
        nobody = client_tls(Tls(authority=own[0]))
        assert not associate(doors.port, tls_args=(nobody, "127.0.0.1")).is_established, "no certificate"
        known = client_tls(Tls(*peer, authority=own[0]))
        assert set(send(doors.port, slices(tmp_path / "s")[:2], tls_args=(known, "127.0.0.1"))) == {0}
    gc.collect()


# -- what comes badly ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["abort", "drop"])
def test_half_a_study_is_kept_and_waited_for(how: str, tmp_path: Path) -> None:
    config = config_of(tmp_path, limits={"half_sent_s": 300.0})
    files = slices(tmp_path / "source")
    with open_doors(config) as doors:
        association = associate(doors.port)
        for path in files[:9]:
            assert association.send_c_store(dcmread(path)).Status == 0
        if how == "abort":
            association.abort()
        else:
            association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: (node_status(config)["receiving"] or {}).get("associations") == 0)
        time.sleep(0.8)
        assert len(list(config.incoming.rglob("*.dcm"))) == 9
        assert not list(config.inbox.rglob("*.dcm"))
        assert set(send(doors.port, files)) == {0}, "its sender tries again"
        wait_for(lambda: len(list(config.inbox.rglob("*.dcm"))) == len(files))
        assert node_status(config)["half_sent"] == 0


def test_half_a_study_that_nobody_sends_again_is_taken_with_a_code(tmp_path: Path) -> None:
    config = config_of(tmp_path, limits={"half_sent_s": 0.5})
    with open_doors(config) as doors:
        association = associate(doors.port)
        assert association.send_c_store(dcmread(slices(tmp_path / "source")[0])).Status == 0
        association.abort()
        wait_for(lambda: node_status(config)["half_sent"] == 1)
        assert len(list(config.inbox.rglob("*.dcm"))) == 1


def test_a_peer_that_goes_away_does_not_end_a_command_with_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing into a closed connection is an error in Python; elsewhere a closed pipe ends the command quietly."""
    seen: dict[str, object] = {}
    for command in ("node", "screen"):
        module = importlib.import_module(f"lungscreen.cli.{command}")
        monkeypatch.setattr(
            module, "run", lambda _, name=command: seen.update({name: signal.getsignal(signal.SIGPIPE)}) or 0
        )
    before = signal.getsignal(signal.SIGPIPE)
    assert main(["node", "status", "--config", "none.toml"]) == 0
    assert main(["screen", "nowhere", "--out", "none"]) == 0
    assert seen == {"node": signal.SIG_IGN, "screen": signal.SIG_DFL}
    assert signal.getsignal(signal.SIGPIPE) == before


def test_a_peer_that_sends_a_byte_a_second_is_closed_and_others_go_on(tmp_path: Path) -> None:
    config = config_of(tmp_path, limits={"idle_s": 1.0})
    with open_doors(config) as doors, socket.create_connection(("127.0.0.1", doors.port)) as slow:
        slow.settimeout(20)
        slow.sendall(b"\x01\x00\x00\x00\x01\x00")  # an A-ASSOCIATE-RQ of 256 bytes that never comes whole
        assert set(send(doors.port, slices(tmp_path / "source")[:3])) == {0}
        closed = False
        for _ in range(40):
            time.sleep(0.2)
            try:
                slow.sendall(b"\x00")
            except OSError:
                closed = True
                break
        assert closed
        wait_for(lambda: not_received(config).get("peer-idle", 0) >= 1)


def test_an_unknown_sop_class_is_not_accepted(tmp_path: Path) -> None:
    with open_doors(config_of(tmp_path)) as doors:
        association = associate(doors.port, classes=("1.2.3.4.5", CT))
        assert [str(c.abstract_syntax) for c in association.accepted_contexts] == [CT]
        association.release()


def test_a_full_disk_is_answered_with_a700_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path)
    files = slices(tmp_path / "source")
    with open_doors(config) as doors:
        assert send(doors.port, files[:3]) == [0, 0, 0]
        with monkeypatch.context() as full:
            full.setattr(arrivals_module.os, "fsync", no_space)
            assert send(doors.port, files[3:5]) == [0xA700, 0xA700]
        assert not list(config.incoming.rglob(".*.part"))
        assert set(send(doors.port, files)) == {0}
        wait_for(lambda: len(list(config.inbox.rglob("*.dcm"))) == len(files))
        assert not_received(config) == {"node-full": 2}


def no_space(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_an_instance_of_another_patient_under_the_same_uid_stands_beside_it(tmp_path: Path) -> None:
    """Neither replaces the other; the batch refuses what it cannot tell apart, and says so."""
    config = config_of(tmp_path)
    files = slices(tmp_path / "source")
    other = dcmread(files[0])
    other.PatientName, other.PatientID = "Other^Person", "ID999"
    other.save_as(tmp_path / "other.dcm")
    with running(config) as port:
        assert set(send(port, files)) == {0}
        wait_for(lambda: (node_status(config)["studies"] or {}).get("done") == 1)
        assert send(port, [tmp_path / "other.dcm"]) == [0]
        wait_for(lambda: len(list(config.inbox.rglob("*.dcm"))) == len(files) + 1)
        codes = wait_for(lambda: [row["code"] for row in node_status(config)["studies"]["codes"]])
        assert "series-two-patients" in codes


# -- parts -----------------------------------------------------------------------------------------------------------
def test_instances_that_were_in_incoming_at_a_crash_are_waited_for(tmp_path: Path) -> None:
    clock = SimpleNamespace(now=0.0)
    config = config_of(tmp_path, limits={"half_sent_s": 50.0})
    data = slices(tmp_path / "source")[0].read_bytes()
    Arrivals(config, NAMES).keep(1, "1.2.3", data[:132], data[132:])
    (folder,) = config.incoming.iterdir()
    (folder / ".draft.part").write_bytes(b"half")
    again = Arrivals(config, NAMES, clock=lambda: clock.now)
    assert not list(folder.glob(".*")), "a draft was never answered with success"
    assert again.publish() == ()
    clock.now = 51.0
    assert again.publish() == (folder.name,)
    assert [path.read_bytes() for path in config.inbox.rglob("*.dcm")] == [data]
    assert again.publish() == ()


def test_too_large_is_too_large(tmp_path: Path) -> None:
    arrivals = Arrivals(config_of(tmp_path, limits={"instance_mb": 0.001}), NAMES)
    with pytest.raises(FullError, match="instance_mb"):
        arrivals.keep(1, "1.2.3", b"", b"x" * 2000)
    with pytest.raises(ValueError, match="SOP Instance UID"):
        arrivals.keep(1, "", b"", b"x")


def test_a_newer_result_supersedes_what_was_not_sent(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, clock=lambda: 100.0)
    outbox.queue("pacs", "k", (1, 1, 1), [("a", "1", SUMMARY), ("b", "2", SUMMARY)])
    outbox.mark_sent(outbox.due("pacs")[0])
    outbox.queue("pacs", "k", (2, 2, 2), [("a", "3", SUMMARY)])
    assert [(row["sop_uid"], row["state"]) for row in outbox.rows()] == [
        ("1", "sent"), ("2", "superseded"), ("3", "queued"),
    ]  # fmt: skip
    assert outbox.is_seen("pacs", "k", (2, 2, 2))
    assert not outbox.is_seen("pacs", "k", (1, 1, 1))
    assert not outbox.is_seen("other", "k", (2, 2, 2))
    outbox.close()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("calling = []", "calling"),
        ('calling = ["A"]\nhost = "0.0.0.0"', "tls or addresses"),
        ('calling = ["WAY-TOO-LONG-A-TITLE"]', "AE title"),
        ('calling = ["A"]\naddresses = ["10.0.0.0/99"]', "10.0.0.0/99"),
        ('calling = ["A"]\nport = 70000', "port"),
        ('calling = ["A"]\noutputs = ["page"]\nsend = {x = {host = "h", port = 1, ae_title = "X"}}', "add dicom"),
        ('calling = ["A"]\n[limits]\nidle_s = 0', "idle_s"),
        ('calling = ["A"]\ncommitment = true', "commitment"),
        ('calling = ["A"]\nsend = {x = {port = 1, ae_title = "X"}}', "host, port and ae_title"),
        ('calling = ["A"]\nsend = {x = {url = "ftp://h/x"}}', "url"),
        ('calling = ["A"]\nsend = {x = {url = "http://me:secret@h/x"}}', "credentials"),
        ('calling = ["A"]\nsend = {x = {url = "http://h/x", credentials = "c"}}', "https"),
        ('calling = ["A"]\nsend = {x = {url = "https://h/x", commitment = true}}', "commitment"),
        ('calling = ["A"]\n[tls]\nauthority = "x"', "certificate"),
    ],
)
def test_a_wrong_configuration_is_refused(line: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'folder = "{tmp_path}"\n{line}\n')
    with pytest.raises(UsageError, match=reason) as caught:
        read_node_config(file)
    assert caught.value.code == "config-invalid"


def test_an_address_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError) as caught, open_doors(config_of(tmp_path, port=taken.getsockname()[1])):
            pass
    assert caught.value.code == "node-address"


def test_status_before_any_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        node_status(config_of(tmp_path))
    assert caught.value.code == "input-missing"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
