"""Looks ─► one hash over what their files hold: a file that was rewritten under the same UIDs and size is another one.

Reading a study hashes what it read; a later look compares only where a file's time is newer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from lungscreen.errors import InputError
from lungscreen.series.looks import Look, is_unchanged
from lungscreen.sources import MOST_FILE_BYTES, SourceReader

__all__ = ["CHANGED_MEANWHILE", "hash_content", "hash_unchanged"]

CHANGED_MEANWHILE = "changed meanwhile"
"""Stands for a study whose files changed while it was read: no content is equal to it."""

_BLOCK = 1 << 20


def hash_content(looks: Iterable[Look]) -> str:
    """Of all images among the looks, wherever they lie; `CHANGED_MEANWHILE` where one cannot be read."""
    parts = set()
    with SourceReader() as reader:
        for look in looks:
            if look.kind not in ("ct", "image"):
                continue
            digest = hashlib.blake2b(digest_size=20)
            if look.kind == "ct" and look.size > MOST_FILE_BYTES:
                # it is not read either
                parts.add(f"{look.size}\t{look.mtime_ns}")
                continue
            try:
                with reader.open(look.source) as file:
                    while block := file.read(_BLOCK):
                        digest.update(block)
            except InputError:
                return CHANGED_MEANWHILE
            uid = look.header.instance.sop_instance_uid if look.header is not None else ""
            parts.add(f"{uid}\t{digest.hexdigest()}")
    return hashlib.blake2b("\n".join(sorted(parts)).encode(), digest_size=20).hexdigest()


def hash_unchanged(looks: Iterable[Look]) -> str:
    """The same of a study that was just read; `CHANGED_MEANWHILE` where a file is not as it was when looked at."""
    looks = tuple(looks)
    content = hash_content(looks)
    return content if all(map(is_unchanged, looks)) else CHANGED_MEANWHILE
