"""Logs: one line an event on stderr, as text or JSON. They carry study keys and codes, never a name, an ID or a
path.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from pathlib import Path
from typing import TextIO

from lungscreen.text import plain_text

__all__ = ["LOG", "logs_are_json", "start_logs", "stop_logs", "tell", "where_raised"]

LOG = logging.getLogger("lungscreen")
"""Events are logged as `LOG.info("study done", extra={"fields": {"key": ..., "seconds": ...}})`."""


class _Json(logging.Formatter):
    """One JSON object a line: time (UTC), level, event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = {"time": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(line | getattr(record, "fields", {}), default=str)


class _Text(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={plain_text(str(v))}" for k, v in getattr(record, "fields", {}).items())
        return f"{record.levelname.lower()}: {record.getMessage()} {fields}".rstrip()


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # a subscript fails where the class is made
    """Writes to a stream, or to what stderr is at that moment."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._given = stream

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = self._given or sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """A line that cannot be written is lost: logging's own traceback would show values, which may name a
        patient.
        """


def start_logs(as_json: bool, stream: TextIO | None = None) -> None:
    """Send the package's log to stderr, or to a stream in its place, once, in the chosen form."""
    handler = _Stderr(stream)
    handler.setFormatter(_Json() if as_json else _Text())
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO if as_json else logging.WARNING)
    LOG.propagate = False


def stop_logs() -> None:
    """Send the package's log nowhere any more."""
    LOG.handlers.clear()


def logs_are_json() -> bool | None:
    """How this process logs: JSON, text, or (None) not at all."""
    formatters = [handler.formatter for handler in LOG.handlers]
    return isinstance(formatters[0], _Json) if formatters else None


def tell(event: str, sentence: str, **fields: object) -> None:
    """Say something to the person at the terminal, on stderr; where logs are JSON, as an event with these fields.

    sentence: may name a path that the person gave. fields: go to a log, so they never do.
    """
    if logs_are_json():
        LOG.info(event, extra={"fields": fields})
    else:
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()


def where_raised(error: Exception) -> str:
    """Where an unexpected exception came from: files and lines, no values (they may name a patient)."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
