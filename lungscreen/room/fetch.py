"""A study from another server by DICOMweb (WADO-RS, PS3.18 10.4): only from addresses that room.toml names."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lungscreen.room.problems import Problem
from lungscreen.room.service import Upload

if TYPE_CHECKING:
    from lungscreen.room.core import Room

__all__ = ["fetch_study"]

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
TIMEOUT_S = 60.0
MOST_PARTS = 20_000


def fetch_study(room: Room, reference: dict[str, str], path: Path) -> Upload:
    """Fetch every instance of a study into an archive at `path`. No redirect is followed.

    Errors: `body-invalid` for an address that is not allowed; `upload-refused` where it does not answer as it should.
    """
    import httpx

    address, uid = reference["dicomweb"].rstrip("/"), reference["study"]
    if not _UID.fullmatch(uid) or len(uid) > 64 or not _is_allowed(address, room.config.dicomweb):
        raise Problem("body-invalid", "this address is not among those that may be asked, or no study's UID")
    accept = {"Accept": 'multipart/related; type="application/dicom"'}
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", f"{address}/studies/{uid}", headers=accept) as answer,
        ):
            if answer.status_code != 200:
                raise Problem(
                    "upload-refused", f"the server answered {answer.status_code}", reason_code="input-missing"
                )
            boundary = _boundary(answer.headers.get("content-type", ""))
            body, most = bytearray(), int(room.config.limits.upload_bytes)
            for part in answer.iter_bytes():
                body += part
                if len(body) > most:
                    raise Problem("body-too-large")
    except httpx.HTTPError:
        raise Problem("upload-refused", "the server cannot be reached", reason_code="input-missing") from None
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, content in enumerate(_parts(bytes(body), boundary)):
            archive.writestr(f"{number:05d}.dcm", content)
    return Upload(path, "application/zip", hashlib.sha256(bytes(body)).hexdigest())


def _is_allowed(address: str, prefixes: tuple[str, ...]) -> bool:
    """Whether an address is one of those named, or below one: same scheme, host and port, no way up."""
    asked = urlsplit(address)
    if asked.username or asked.password or asked.query or asked.fragment or ".." in asked.path or "%" in asked.path:
        return False
    for prefix in prefixes:
        known = urlsplit(prefix.rstrip("/"))
        below = asked.path == known.path or asked.path.startswith(f"{known.path}/")
        if (asked.scheme, asked.netloc) == (known.scheme, known.netloc) and below:
            return True
    return False


def _boundary(kind: str) -> bytes:
    found = re.search(r'boundary="?([^";,]{1,70})"?', kind)
    if not kind.lower().startswith("multipart/related") or found is None:
        raise Problem("upload-refused", "the server sent no parts", reason_code="input-missing")
    return found[1].encode("latin-1")


def _parts(body: bytes, boundary: bytes) -> list[bytes]:
    pieces = body.split(b"--" + boundary)[1:-1]
    if not 0 < len(pieces) <= MOST_PARTS:
        raise Problem("upload-refused", "the server sent no parts", reason_code="input-missing")
    return [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces]
