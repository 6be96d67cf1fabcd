"""Where the room keeps what: beside the results, in a folder that only the service may read.

<results>/room/room.sqlite         the database, unless an address was given
<results>/room/audit.key, anchor   the audit trail's key and the heads of its chain
<results>/room/pinned/<pin>/       report.json and room.pack as they were when a study was opened
<results>/room/unpacked/           voxels of the studies that are marked now
<results>/room/inbox/<job>/        what was uploaded
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from lungscreen.errors import OutputError
from lungscreen.files import replace_file
from lungscreen.outputs.room_pack import PACK_FILE, Pack
from lungscreen.results.folder import ResultsFolder

__all__ = ["KEY", "RoomFolders"]

KEY = re.compile(r"[0-9a-f]{12}")
"""A study's key. Nothing else ever becomes part of a path."""

_PIN = re.compile(r"[0-9a-f]{32}")
_REPORT = "report.json"


@dataclass(frozen=True)
class RoomFolders:
    """The folders of one room.

    results: of `screen` or `batch run`.
    """

    results: Path

    @property
    def room(self) -> Path:
        """Of the room's own."""
        return self.results / "room"

    @property
    def database(self) -> Path:
        """The default one."""
        return self.room / "room.sqlite"

    @property
    def anchor(self) -> Path:
        """Of the audit trail."""
        return self.room / "audit.anchor"

    @property
    def unpacked(self) -> Path:
        """Of the voxels that the measuring process maps: a cache."""
        return self.room / "unpacked"

    @property
    def inbox(self) -> Path:
        """What the batch reads."""
        return self.room / "inbox"

    def make(self) -> None:
        """Errors: `output-failed`."""
        try:
            for folder in (self.room, self.room / "pinned", self.unpacked, self.inbox):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.chmod(0o700)
        except OSError as error:
            raise OutputError("output-failed", f"cannot make the room's folder: {error.strerror}") from None

    def secret(self, name: str) -> bytes:
        """A key of this room, made once, readable to the service only.

        Errors: `output-failed`.
        """
        path = self.room / f"{name}.key"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_bytes()
        except OSError as error:
            raise OutputError("output-failed", f"cannot make a key: {error.strerror}") from None
        with os.fdopen(descriptor, "wb") as file:
            key = secrets.token_bytes(32)
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        return key

    # -- results as they are now -------------------------------------------------------------------------------------
    def study(self, key: str) -> Path:
        """A study's folder in the results."""
        if not KEY.fullmatch(key):
            raise ValueError("expected a study's key")
        return ResultsFolder(self.results).study(key)

    def study_keys(self) -> list[str]:
        """Of all studies that have whole results."""
        return [key for key in ResultsFolder(self.results).study_keys() if KEY.fullmatch(key)]

    def stamp(self, key: str) -> str:
        """Of a study's report: another stamp, another report.

        Errors: OSError where there is none.
        """
        return "-".join(map(str, ResultsFolder(self.results).stamp(key)))

    # -- results as a read saw them ----------------------------------------------------------------------------------
    def pinned(self, pin: str) -> Path:
        """The folder of a pin."""
        if not _PIN.fullmatch(pin):
            raise ValueError("expected a pin")
        return self.room / "pinned" / pin

    def pinned_report(self, pin: str) -> Path:
        """The report as it was."""
        return self.pinned(pin) / _REPORT

    def pack(self, pin: str) -> Pack:
        """The voxels as they were; they may not be there yet."""
        return Pack(self.pinned(pin) / PACK_FILE)

    def pin_of(self, key: str) -> str:
        """What a study's results would be pinned under now: a hash of its report.

        Errors: OSError where there is none.
        """
        return hashlib.sha256((self.study(key) / _REPORT).read_bytes()).hexdigest()[:32]

    def pin(self, key: str) -> str:
        """Keep a study's report and, where screening made one, its pack as they are now. Returns the pin.

        Errors: OSError where there is no report; `output-failed`.
        """
        content = (self.study(key) / _REPORT).read_bytes()
        pin = hashlib.sha256(content).hexdigest()[:32]
        folder = self.pinned(pin)
        folder.mkdir(exist_ok=True, mode=0o700)
        if not (folder / _REPORT).exists():
            replace_file(folder / _REPORT, content)
        made = self.study(key) / PACK_FILE
        if made.exists() and not (folder / PACK_FILE).exists():
            _link(made, folder / PACK_FILE)
        return pin

    def drop_old_packs(self, most_bytes: int, needed: frozenset[str]) -> int:
        """Remove the packs of pins that nobody needs, the longest unused first, until the rest is small enough.

        needed: pins of reads that are not final. Returns how many went.
        """
        found = []
        for path in (self.room / "pinned").glob(f"*/{PACK_FILE}"):
            status = path.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
        left, gone = sum(size for _, size, _ in found), 0
        for _, size, path in sorted(found):
            if left <= most_bytes:
                break
            if path.parent.name not in needed:
                path.unlink(missing_ok=True)
                shutil.rmtree(path.parent / "gzip", ignore_errors=True)
                left, gone = left - size, gone + 1
        return gone


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the two lie on different disks."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        try:
            os.link(source, draft)
        except OSError:
            shutil.copyfile(source, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
