"""The data file that a header names: a regular file of the header's own folder, or a member beside it in its
archive.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from lungscreen.errors import InputError
from lungscreen.records import Source

__all__ = ["file_beside"]


def file_beside(source: Source, name: str) -> Source:
    """The file `name` beside `source`; a leading `./` may stand before it.

    Errors: `image-reference` where it lies elsewhere, is a link that leads elsewhere, or is no regular file.
    """
    name = name.removeprefix("./").removeprefix(".\\")
    if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
        raise InputError("image-reference", "its header names a data file outside its own folder")
    if source.member:
        return Source(source.path, str(PurePosixPath(source.member).with_name(name)))
    path = source.path.parent / name
    try:
        inside = path.resolve(strict=True).parent in (source.path.parent.resolve(), source.path.resolve().parent)
        regular = path.is_file()
    except OSError:
        raise InputError("image-reference", "its data file is not beside it") from None
    if not inside or not regular:
        raise InputError("image-reference", "its data file is a link to elsewhere, or no regular file")
    return Source(path)
