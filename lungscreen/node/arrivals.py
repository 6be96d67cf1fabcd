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

from lungscreen.dicomfile import get_text, get_uid, parse_dicom
from lungscreen.errors import InputError
from lungscreen.node.config import NodeConfig
from lungscreen.pseudonyms import Pseudonyms

__all__ = ["Arrivals", "FullError"]

MB = 1 << 20
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
        """Since the node was started: kept, again (an instance that was there), returned."""
        for folder in (config.incoming, config.inbox, config.returned, config.results):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in config.incoming.iterdir():  # of a node that was killed: the senders will try again
            for draft in folder.glob(".*.part"):
                draft.unlink()
            self._studies[folder.name] = _Arriving(set(), self._clock() + config.limits.half_sent_s)

    def keep(self, sender: int, sop_uid: str, meta: bytes, data: bytes) -> None:
        """Write an instance; when this returns, it is on the disk.

        sender: the association.
        meta: preamble and file meta.
        data: its data set as it came. Errors: `FullError`; OSError; ValueError where the instance has no SOP Instance
            UID.
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
            return
        with self._lock:
            self._studies.setdefault(study, _Arriving(set())).senders.add(sender)
        if (self._config.inbox / study / name).exists():
            self.instances["again"] += 1
            return
        _write(self._config.incoming / study / name, meta, data)
        self.instances["kept"] += 1

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
        return self._names.digest("received", uid or f"unread {sender}")[:24], own

    def end_association(self, sender: int, broke_off: bool) -> None:
        """An association is over; where it broke off, what it sent waits."""
        with self._lock:
            for study in self._studies.values():
                if sender in study.senders:
                    study.senders.remove(sender)
                    study.until = self._clock() + self._config.limits.half_sent_s if broke_off else 0.0

    def publish(self) -> tuple[str, ...]:
        """Move studies that nobody sends any more into the inbox. Returns the half-sent ones among them.

        Errors: OSError.
        """
        half = []
        with self._lock:
            for name, study in list(self._studies.items()):
                if study.senders or self._clock() < study.until:
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
        if files:
            _sync(target)
        with suppress(OSError):
            source.rmdir()
        return len(files)


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
