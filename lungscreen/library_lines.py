"""What C libraries write on the process' own error stream becomes events of the log.

descriptor 2 ─► pipe ─► a small process beside this one ─► one event a line, without paths, names and numbers

The process beside keeps what a library says last before it crashes, and a library never waits for this program to
read. Python's own lines go straight to where descriptor 2 led before.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lungscreen.logs import LOG, start_logs

__all__ = ["HeardLines", "clean_line", "error_stream", "hear_libraries"]

_CODE = "library-said"
MOST_LINES = 30
"""Events in `WINDOW_S`; the lines above are counted."""
WINDOW_S = 60.0
LONGEST_LINE = 1024
"""Bytes of a line that are looked at."""
LONGEST_TEXT = 160
"""Characters of a line that are logged."""

_END_WITHIN_S = 10.0
"""The process beside ends by itself; it is waited for so long."""
_BLOCK = 1 << 16
_LEFT_OUT = "…"

_EDGES = "()[]{}<>:;,.!?'\"`*=-"
_PLAIN_WORD = re.compile(r"[a-z]{1,20}(?:[-'][a-z]{1,20})?|\d{1,3}|0x[0-9a-fA-F]{1,2}")
_NAME_OF_CODE = re.compile(
    r"(?:ITK|itk|GDCM|gdcm|opj_|OPJ_|jpeg_|H5|omp|OMP|MKL|mkl|at::|c10::|std::)[\w:]{0,40}|"
    r"[A-Za-z]{1,30}(?:Error|Exception|Warning)"
)
_SOURCE_FILE = re.compile(r"(?:.*[/\\])?([A-Za-z_]\w{0,40}\.(?:c|cc|cpp|cxx|h|hpp|hxx|py|so))")
_VOCABULARY = """
    A Aborted Application Bad Bogus Broken Cannot Codestream Corrupt Could DICOM DHT DQT EOF EOI ERROR Error
    Exception Expected FATAL Failed Fatal Fault File HDF5 Huffman I INFO Image In Inconsistent Input Invalid JFIF JPEG
    JPEG-LS JPEG2000 JPEG-2000 Memory Missing NIfTI NRRD No Not OpenJPEG OpenMP Out Premature Process Python SOF SOI SOS
    Segmentation Stream The There This Thread Traceback Unable Unexpected Unknown Unsupported WARNING Warning Wrong ZLIB
"""
"""Words that do not begin with a small letter and name nobody."""
_KNOWN_WORDS = frozenset(_VOCABULARY.split())

_where: list[int] = []
"""Where descriptor 2 led before it was heard."""


def error_stream() -> int:
    """The descriptor on which the program's own lines belong."""
    return _where[-1] if _where else 2


@contextmanager
def hear_libraries(as_json: bool) -> Iterator[None]:
    """As long as this lasts, what is written on descriptor 2 is logged as `library-said`; Python's warnings too.

    as_json: the log's form. Processes that are started meanwhile are heard as well. Where the process has no error
    stream nothing is heard.
    """
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    heard, written = os.pipe()
    beside = _start_beside(heard, as_json)
    os.close(heard)
    stream = sys.stderr
    own = os.fdopen(os.dup(kept), "w", buffering=1, encoding=stream.encoding, errors="backslashreplace")
    try:
        os.dup2(written, 2)
        os.close(written)
        _where.append(kept)
        if _leads_to_descriptor_2(stream):
            sys.stderr = own
        with _logged_warnings():
            yield
    finally:
        os.dup2(kept, 2)
        sys.stderr = stream
        own.close()
        _where.remove(kept)
        os.close(kept)
        _end_beside(beside)


def _start_beside(heard: int, as_json: bool) -> subprocess.Popen[bytes]:
    """The process that reads the pipe. It ends when its input is closed: when this process says so, or is gone."""
    # -P: a folder in which somebody works is never searched for modules
    command = [sys.executable, "-P", "-m", "lungscreen.library_lines", str(heard), "json" if as_json else "text"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(heard,), start_new_session=True
    )


def _end_beside(beside: subprocess.Popen[bytes]) -> None:
    assert beside.stdin is not None
    beside.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        beside.wait(_END_WITHIN_S)


def _leads_to_descriptor_2(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 2)
    except (AttributeError, OSError, ValueError):
        return False


@contextmanager
def _logged_warnings() -> Iterator[None]:
    """Python's warnings, cleaned as the lines are: they may quote what a library quotes."""
    lines = HeardLines(_log)
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *_more: object, **_options: object) -> None:
        lines.hear(f"{category.__name__}: {message}".encode())

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
        lines.end()


class HeardLines:
    """Lines ─► events: cleaned, and so many a minute at most."""

    def __init__(self, log: Callable[[dict[str, object]], None], clock: Callable[[], float] = time.monotonic) -> None:
        """log: takes the fields of an event."""
        self._log = log
        self._clock = clock
        self._begun = -WINDOW_S
        self._count = 0
        self._left_out = 0
        self._lock = threading.Lock()

    def hear(self, line: bytes) -> None:
        """One line, without its end."""
        text = clean_line(line)
        with self._lock:
            now = self._clock()
            if now - self._begun >= WINDOW_S:
                self._say_left_out()
                self._begun, self._count = now, 0
            self._count += bool(text)
            if self._count > MOST_LINES:
                self._left_out += bool(text)
            elif text:
                self._log({"code": _CODE, "text": text})

    def end(self) -> None:
        """Say how many lines were left out."""
        with self._lock:
            self._say_left_out()

    def _say_left_out(self) -> None:
        if self._left_out:
            self._log({"code": _CODE, "left_out": self._left_out})
        self._left_out = 0


def clean_line(line: bytes) -> str:
    """A library's line without what could name a patient or a place; empty where it was blank.

    Kept are words in small letters, numbers of up to three digits, names of source files and of code, and the words
    with which libraries begin their messages. All else becomes `…`.
    """
    kept: list[str] = []
    for word in line[:LONGEST_LINE].decode("ascii", "replace").split():
        plain = _clean_word(word)
        if plain != _LEFT_OUT or kept[-1:] != [_LEFT_OUT]:
            kept.append(plain)
    return " ".join(kept)[:LONGEST_TEXT]


def _clean_word(word: str) -> str:
    core = word.strip(_EDGES)
    if not core:
        return word if len(word) <= 3 else _LEFT_OUT
    source = _SOURCE_FILE.fullmatch(core)
    if source:
        return word.replace(core, source[1])
    known = core in _KNOWN_WORDS or _PLAIN_WORD.fullmatch(core) or _NAME_OF_CODE.fullmatch(core)
    return word if known else _LEFT_OUT


def _log(fields: dict[str, object]) -> None:
    LOG.warning("library said", extra={"fields": fields})


# -- the process beside -----------------------------------------------------------------------------------------------
def _read_lines(heard: int, until: int, lines: HeardLines) -> None:
    """Hear the pipe until its writers are gone or `until` is closed; then what is left in it."""
    import selectors

    os.set_blocking(heard, False)
    rest = b""
    with selectors.DefaultSelector() as ready:
        ready.register(heard, selectors.EVENT_READ)
        ready.register(until, selectors.EVENT_READ)
        ended = False
        while not ended:
            ended = any(key.fd == until for key, _ in ready.select())
            with suppress(BlockingIOError):
                while True:
                    block = os.read(heard, _BLOCK)
                    if not block:
                        ended = True
                        break
                    *whole, rest = (rest + block).replace(b"\r", b"\n").split(b"\n")
                    rest = rest[:LONGEST_LINE]
                    for line in whole:
                        lines.hear(line)
    lines.hear(rest)
    lines.end()


def _main() -> None:
    """`python -m lungscreen.library_lines DESCRIPTOR json|text`: started by `hear_libraries` alone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    start_logs(sys.argv[2] == "json")
    _read_lines(int(sys.argv[1]), sys.stdin.fileno(), HeardLines(_log))


if __name__ == "__main__":
    _main()
