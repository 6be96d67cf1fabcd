"""The key file ─► Pseudonyms: names for studies and patients that say nothing to who lacks the key.

A plain hash of a UID or PatientID is no pseudonym: who has a list of them hashes it and compares. HMAC-SHA256 under a
key that only the site has (RFC 2104) stands between.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from lungscreen.errors import UsageError
from lungscreen.files import open_regular

__all__ = ["Pseudonyms", "default_key_file", "load_key"]

KEY_BYTES = 32
"""Length of a key that is made here; a shorter one than half of it is refused."""

KEY_DIGITS = 12
"""Hex digits of a study's key, which names its folder: 48 bits. The ledger sees to it that two studies never share
one."""

MOST_KEY_BYTES = 4096
"""A larger key file is no key."""


@dataclass(frozen=True)
class Pseudonyms:
    """Keyed hashes of one key."""

    key: bytes = field(repr=False)
    identified: bool = False
    """Whether the site wants PatientIDs to stand as they are."""

    def digest(self, kind: str, *parts: str) -> str:
        """64 hex digits. `kind` keeps hashes of equal text for different ends apart."""
        message = "\0".join((kind, *parts)).encode("utf-8", "surrogatepass")
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()

    def study_key(self, study_uid: str, patient_id: str, name: str, attempt: int = 0) -> str:
        """Names a study: by its UID and the person, since a copy under another name keeps its UID.

        name: as names are compared; of an image file, its path.
        attempt: where the key is taken, 1 and up give others.
        """
        more = (str(attempt),) if attempt else ()
        return self.digest("study", study_uid, patient_id, name, *more)[:KEY_DIGITS]

    def patient(self, patient_id: str) -> str:
        """What stands for a patient in the ledger and on the morning page."""
        if not patient_id:
            return ""
        return patient_id if self.identified else f"p-{self.digest('patient', patient_id)[:KEY_DIGITS]}"

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without giving the key away."""
        return self.digest("fingerprint")[:16]


def default_key_file() -> Path:
    """`lungscreen/key` in the user's configuration folder."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path.home() / ".config") / "lungscreen" / "key"


def load_key(path: Path | None = None, identified: bool = False) -> Pseudonyms:
    """The key of a file; the user's own is made, readable to them only, where it is not there yet.

    Errors: `key-invalid` where a named file is absent, a file is no key, is open to others, or none can be made.
    """
    file = path or _default()
    try:
        if path is None and not file.exists():
            _make(file)
        with open_regular(file) as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(MOST_KEY_BYTES + 1).strip()
    except OSError as error:
        reason = f"cannot be read or made ({error.strerror}); name one with --key-file"
        raise UsageError("key-invalid", reason, str(file)) from None
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError("key-invalid", "others may read it: chmod 600", str(file))
    if not KEY_BYTES // 2 <= len(text) <= MOST_KEY_BYTES:
        raise UsageError("key-invalid", f"expected {KEY_BYTES // 2} to {MOST_KEY_BYTES} bytes", str(file))
    return Pseudonyms(text, identified)


def _default() -> Path:
    try:
        return default_key_file()
    except RuntimeError:  # no home folder at all
        raise UsageError("key-invalid", "there is no home folder for a key; name one with --key-file") from None


def _make(file: Path) -> None:
    """Write a new key beside and link it to its name: of two runs that start at once, both get the first one's."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as opened:
            opened.write(secrets.token_hex(KEY_BYTES) + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
