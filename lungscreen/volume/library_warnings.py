"""What a C library says on the process' own error stream while it decodes: libjpeg tells of damage nowhere else."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["hear_warnings"]

_DAMAGE = re.compile(
    rb"Corrupt JPEG data|Premature end of JPEG|Invalid (?:SOS|SOF|component|JPEG|progressive|crop)|"
    rb"Inconsistent progression|Application transferred|Bogus |Huffman|Unsupported marker"
)
"""How libjpeg's messages begin that tell of damaged data."""
_ONE_AT_A_TIME = threading.Lock()
_LONGEST = 80


@contextmanager
def hear_warnings() -> Iterator[list[str]]:
    """A list that holds, once the block has ended, the lines on descriptor 2 that tell of damaged data.

    What others wrote there meanwhile is passed on. Where the process has no error stream nothing is heard.
    """
    heard: list[str] = []
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as file:
        try:
            kept = os.dup(2)
        except OSError:
            yield heard
            return
        try:
            os.dup2(file.fileno(), 2)
            yield heard
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            for line in file.read().splitlines(keepends=True):
                if _DAMAGE.match(line):
                    heard.append(line.decode("ascii", "replace").strip()[:_LONGEST])
                else:
                    os.write(2, line)
