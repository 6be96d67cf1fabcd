"""Instance ─► incoming/ ─► inbox/: written whole or not at all, kept back until its study is complete.

A study leaves incoming/ when no association sends it any more; where one broke off, `half_sent_s` later, or when an
association that sends it again ends well. Names of files and folders are keyed hashes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lungscreen.dicomfile import get_text, get_uid, parse_dicom
from lungscreen.errors import InputError
from lungscreen.node.config import NodeConfig
from lungscreen.pseudonyms import Pseudonyms

__all__ = ["Arrivals", "FullError", "Origin", "received_name"]

MB = 1 << 20
Origin = Literal["sent", "archive", "fetched"]
"""How an instance came: sent by somebody; sent by the archive, which may be because it was asked; because it was."""
TAGS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Manufacturer", "SeriesDescription")
OWN_MANUFACTURER, OWN_SERIES = "lungscreen", "RESEARCH USE ONLY"
"""What own results say of themselves; phantoms have the manufacturer too, but not the description."""


class FullError(Exception):
    """There is no room for an instance."""


@dataclass
class _Arriving:
    """A study of incoming/.

    until: monotonic seconds before which it is kept back, after an association broke off.
    """

    senders: set[int]
    until: float = 0.0


class Arrivals:
    """What was received. Used by all associations at once."""

    def __init__(self, config: NodeConfig, names: Pseudonyms, clock: Callable[[], float] = time.monotonic) -> None:
        """Errors: OSError where the folders cannot be made."""
        self._config, self._names, self._clock = config, names, clock
        self._lock = threading.Lock()
        self._studies: dict[str, _Arriving] = {}
        self.instances: Counter[str] = Counter()
        """Since the node was started: kept, again (an instance that was there), returned, fetched."""
        self._expected: set[str] = set()
        for folder in (config.incoming, config.inbox, config.returned, config.results, config.priors_folder):
            folder.mkdir(parents=True, exist_ok=True)
        for draft in config.priors_folder.glob("*/.*.part"):
            draft.unlink()
        for folder in config.incoming.iterdir():  # of a node that was killed: the senders will try again
            for draft in folder.glob(".*.part"):
                draft.unlink()
            self._studies[folder.name] = _Arriving(set(), self._clock() + config.limits.half_sent_s)

    def keep(self, sender: int, sop_uid: str, meta: bytes, data: bytes, origin: Origin = "sent") -> None:
        """Write an instance; when this returns, it is on the disk.

        sender: the association.
        meta: preamble and file meta.
        data: its data set as it came.
        origin: why it came.
        Errors: `FullError`; OSError; ValueError where the instance has no SOP Instance UID.
        """
        limits = self._config.limits
        if len(data) > limits.instance_mb * MB:
            raise FullError("larger than instance_mb")
        if shutil.disk_usage(self._config.folder).free < limits.keep_free_mb * MB + len(data):
            raise FullError("less free space than keep_free_mb")
        study, own = self._whose(sender, sop_uid, meta, data)
        content = self._names.digest("content", hashlib.sha256(data).hexdigest())
        name = f"{self._names.digest('instance', sop_uid)[:24]}-{content[:16]}.dcm"
        if own:
            _write(self._config.returned / study / name, meta, data)
            self.instances["returned"] += 1
        elif origin == "fetched" or (origin == "archive" and study in self._expected):
            self._keep_prior(study, name, meta, data)
        else:
            self._keep_received(sender, study, name, meta, data)

    def _keep_received(self, sender: int, study: str, name: str, meta: bytes, data: bytes) -> None:
        with self._lock:
            self._studies.setdefault(study, _Arriving(set())).senders.add(sender)
        if (self._config.inbox / study / name).exists():
            self.instances["again"] += 1
            return
        _write(self._config.incoming / study / name, meta, data)
        self.instances["kept"] += 1

    def _keep_prior(self, study: str, name: str, meta: bytes, data: bytes) -> None:
        """Beside what was received, which is read and compared with anyway."""
        places = (self._config.inbox, self._config.incoming, self._config.priors_folder)
        if any((place / study / name).exists() for place in places):
            self.instances["again"] += 1
            return
        _write(self._config.priors_folder / study / name, meta, data)
        self.instances["fetched"] += 1

    def expect(self, study_uid: str) -> int:
        """An earlier exam is about to be fetched. Returns how many instances of it are here."""
        study = self.folder_name(study_uid)
        self._expected.add(study)
        places = (self._config.inbox, self._config.incoming, self._config.priors_folder)
        return sum(1 for place in places for _ in (place / study).glob("*.dcm"))

    def folder_name(self, study_uid: str) -> str:
        """What a study's folder is called."""
        return received_name(self._names, study_uid)

    def _whose(self, sender: int, sop_uid: str, meta: bytes, data: bytes) -> tuple[str, bool]:
        """The folder of the instance's study, and whether it is one of our own results."""
        if not sop_uid:
            raise ValueError("no SOP Instance UID")
        try:
            header = parse_dicom(meta + data, TAGS)
        except InputError:  # kept as it came: the batch refuses it with a code
            return self._names.digest("unread", str(sender))[:24], False
        uid = get_uid(header, "StudyInstanceUID")
        own = get_text(header, "Manufacturer") == OWN_MANUFACTURER
        own = own and OWN_SERIES in get_text(header, "SeriesDescription")
        return received_name(self._names, uid or f"unread {sender}"), own

    def end_association(self, sender: int, broke_off: bool) -> None:
        """An association is over; where it broke off, what it sent waits."""
        with self._lock:
            for study in self._studies.values():
                if sender in study.senders:
                    study.senders.remove(sender)
                    study.until = self._clock() + self._config.limits.half_sent_s if broke_off else 0.0

    def publish(self, may_go: Callable[[str, Path], bool] = lambda *_: True) -> tuple[str, ...]:
        """Move studies that nobody sends any more into the inbox. Returns the half-sent ones among them.

        may_go: of a study's name and folder, whether it may go now; else it is asked again at the next look.

        Errors: OSError.
        """
        half = []
        with self._lock:
            for name, study in list(self._studies.items()):
                if study.senders or self._clock() < study.until:
                    continue
                if not may_go(name, self._config.incoming / name):
                    continue
                if self._move(name) and study.until:
                    half.append(name)
                del self._studies[name]
        return tuple(half)

    def _move(self, study: str) -> int:
        source, target = self._config.incoming / study, self._config.inbox / study
        files = sorted(source.glob("*.dcm")) if source.is_dir() else []
        target.mkdir(exist_ok=True)
        for file in files:
            file.replace(target / file.name)
            (self._config.priors_folder / study / file.name).unlink(missing_ok=True)
        if files:
            _sync(target)
        with suppress(OSError):
            source.rmdir()
        return len(files)


def received_name(names: Pseudonyms, study_uid: str) -> str:
    """What the folder of a received study is called: a keyed hash of its UID."""
    return names.digest("received", study_uid)[:24]


def _write(path: Path, meta: bytes, data: bytes) -> None:
    """Under another name, synced, then renamed; the folder is synced too. Nothing is left where it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{threading.get_ident()}.part")
    try:
        with draft.open("wb") as file:
            file.write(meta)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
