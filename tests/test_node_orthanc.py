"""The node beside a real Orthanc (Debian's orthanc and orthanc-dicomweb): `make test-node` installs both and runs this.

Orthanc is the PACS: it sends the study, and gets the results back beside it, where QIDO finds them.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_inbox import add_dicom
from node_peers import config_of, free_port, running, wait_for

from lungscreen.node.config import Destination
from lungscreen.node.status import node_status

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("Orthanc") and PLUGIN.exists()),
        reason="Orthanc and its DICOMweb plugin are not installed: make test-node",
    ),
]


class Orthanc:
    """A server with an empty store, which knows the node."""

    def __init__(self, folder: Path, node_port: int) -> None:
        self.folder, self.http, self.dicom, self.node_port = folder, free_port(), free_port(), node_port
        folder.mkdir()
        settings = {
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "DicomAet": "ORTHANC",
            "DicomPort": self.dicom,
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [str(PLUGIN)],
            "DicomModalities": {"lungscreen": ["LUNGSCREEN", "127.0.0.1", node_port]},
            "DicomAlwaysAllowStore": True,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(["Orthanc", str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        wait_for(self._answers, 60)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False

    def ask(self, path: str, data: bytes | None = None, accept: str = "application/json") -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=data, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def series(self, study_uid: str) -> dict[str, int]:
        """Modality → instances of it in a study, by QIDO-RS."""
        fields = "includefield=00201209"
        found = self.ask(f"/dicom-web/studies/{study_uid}/series?{fields}", accept="application/dicom+json")
        counts: dict[str, int] = {}
        for row in found:
            modality = row["00080060"]["Value"][0]
            counts[modality] = counts.get(modality, 0) + int(row["00201209"]["Value"][0])
        return counts


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc", free_port())
    yield server
    server.stop()


def test_results_stand_beside_the_study_exactly_once(orthanc: Orthanc, tmp_path: Path) -> None:
    """Also after the archive was away while they were to be sent, and when it sends all of the study back."""
    files = sorted(add_dicom(tmp_path / "source", 1).iterdir())
    for path in files:
        orthanc.ask("/instances", path.read_bytes())
    (study,) = orthanc.ask("/studies")
    uid = orthanc.ask(f"/studies/{study}")["MainDicomTags"]["StudyInstanceUID"]
    assert orthanc.series(uid) == {"CT": len(files)}
    pacs = Destination("127.0.0.1", orthanc.dicom, "ORTHANC")
    config = config_of(
        tmp_path, calling=("ORTHANC",), port=orthanc.node_port, send={"pacs": pacs}, limits={"quiet_s": 2.0}
    )
    with running(config):
        sent = orthanc.ask("/modalities/lungscreen/store", study.encode())
        assert sent["FailedInstancesCount"] == 0
        orthanc.stop()  # before the study is quiet: nobody takes the results
        wait_for(lambda: node_status(config)["results"]["pacs"]["queued"])
        orthanc.start()
        wait_for(lambda: _all_sent(config))
        beside = orthanc.series(uid)
        assert beside.pop("CT") == len(files)
        assert set(beside) == {"SR", "SEG", "OT", "DOC"}
        assert len(orthanc.ask("/studies")) == 1, "in the study, not beside it"
        count = orthanc.ask("/statistics")["CountInstances"]
        assert orthanc.ask("/modalities/lungscreen/store", study.encode())["FailedInstancesCount"] == 0
        time.sleep(6)  # longer than a study is waited for
        assert orthanc.ask("/statistics")["CountInstances"] == count
        status = node_status(config)
        assert status["studies"]["done"] == 1
        assert status["receiving"]["instances"]["returned"] == sum(beside.values())


def _all_sent(config: Any) -> bool:
    results = node_status(config)["results"]["pacs"]
    return bool(results["sent"]) and not results["queued"]


def _is_settled(config: Any) -> bool:
    """Nothing arrives, waits, is read or is to be sent any more."""
    way = node_status(config)["way"]
    return not any(way[step] for step in ("received", "waiting", "running", "queued", "read"))


COMPLETE, HALF, NODE_KILLS = 100, 10, 10


def start(*words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.node_storm", *map(str, words)], cwd=Path(__file__).parents[1])


def test_a_storm_of_studies_through_kills_and_restarts(orthanc: Orthanc, tmp_path: Path) -> None:
    """Every complete study has its results in the archive exactly once; half a study is taken as such, and said.

    Two senders at once; ten studies stop half-way; a sender is killed and begins anew; the archive is restarted twice;
    the node is killed ten times. The networks are made of a few lines: this is about the node.
    """
    studies = [add_dicom(tmp_path / "source", n) for n in range(COMPLETE + HALF)]
    whole, broken = studies[:COMPLETE], studies[COMPLETE:]
    (done := tmp_path / "done").mkdir()
    config = config_of(
        tmp_path, port=orthanc.node_port, send={"pacs": Destination("127.0.0.1", orthanc.dicom, "ORTHANC")}
    )
    node = start("node", tmp_path, orthanc.node_port, orthanc.dicom)
    first = start("send", orthanc.node_port, done, *whole[::2])
    second = start("send", orthanc.node_port, done, *whole[1::2])
    halves = start("half", orthanc.node_port, *broken)
    chance = random.Random(4)
    try:
        for n in range(NODE_KILLS):
            time.sleep(chance.uniform(4.0, 10.0))
            node.kill()
            node.wait()
            if n == 2:
                second.kill()
                second.wait()
                second = start("send", orthanc.node_port, done, *whole[1::2])
            if n in (4, 7):
                orthanc.stop()
                orthanc.start()
            node = start("node", tmp_path, orthanc.node_port, orthanc.dicom)
        assert (first.wait(600), second.wait(600), halves.wait(600)) == (0, 0, 0)
        assert len(list(done.iterdir())) == COMPLETE
        wait_for(lambda: _is_settled(config), 900)
    finally:
        for process in (node, first, second, halves):
            process.kill()
            process.wait()
    status = node_status(config)
    assert status["studies"]["failed"] == 0
    assert status["studies"]["done"] >= COMPLETE
    rows = [row for row in status["objects"] if row["state"] != "superseded"]
    assert {row["state"] for row in rows} == {"sent"}
    expected = Counter(row["study"] for row in rows)
    assert {len(list((config.results / "studies" / key).glob("*.dcm"))) for key in expected} == set(expected.values())
    for study in whole:
        uid = f"1.2.826.0.1.{int(study.name[-3:])}"
        beside = orthanc.series(uid)
        assert (beside.pop("SR"), beside.pop("DOC")) == (1, 1), (uid, beside)
    assert status["half_sent"] >= 1
