"""Processes of the storm test: a node that can be killed, and a sender that tries until every study was taken.

python -m tests.node_storm node FOLDER PORT ARCHIVE_PORT
python -m tests.node_storm send PORT DONE STUDY...        a study's folder is touched as DONE/NAME once it was taken
python -m tests.node_storm half PORT STUDY...             the first half of each, then the association breaks off
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from batch_models import MODELS
from node_peers import associate, config_of
from pydicom import dcmread

from lungscreen.node.config import Destination
from lungscreen.node.run import run_node

LIMITS = {"quiet_s": 1.5, "half_sent_s": 30.0, "poll_s": 0.5, "retry_s": 0.5, "longest_retry_s": 1.0}


def run(folder: Path, port: int, archive: int) -> None:
    """A node, with networks of a few lines, that gives its results to the archive."""
    pacs = Destination("127.0.0.1", archive, "ORTHANC")
    run_node(config_of(folder, port=port, send={"pacs": pacs}, limits=LIMITS), models=MODELS)


def send(port: int, done: Path, studies: list[Path]) -> None:
    """As a PACS does: a study that was not taken whole is sent again, from its beginning."""
    for study in studies:
        while not _is_taken(port, study):
            time.sleep(0.3)
        (done / study.name).touch()


def _is_taken(port: int, study: Path) -> bool:
    files = sorted(study.iterdir())
    return _store(port, files, release=True) == len(files)


def half(port: int, studies: list[Path]) -> None:
    """Studies of which the upper half never comes: without a hole, for which a study would be waited 15 minutes."""
    for study in studies:
        files = sorted(study.iterdir(), key=lambda path: dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])
        while _store(port, files[: len(files) // 2], release=False) < len(files) // 2:
            time.sleep(0.3)


def _store(port: int, files: list[Path], *, release: bool) -> int:
    """How many files were taken in one association, which is released or breaks off."""
    association = associate(port)
    taken = 0
    with suppress(RuntimeError, ValueError, OSError):  # it broke off
        while taken < len(files) and association.is_established:
            if getattr(association.send_c_store(dcmread(files[taken])), "Status", None) != 0:
                break
            taken += 1
        if release and taken == len(files):
            association.release()
    if association.is_established:
        association.abort()
    return taken


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "node":
        run(Path(words[0]), int(words[1]), int(words[2]))
    elif what == "send":
        send(int(words[0]), Path(words[1]), [Path(word) for word in words[2:]])
    else:
        half(int(words[0]), [Path(word) for word in words[1:]])
