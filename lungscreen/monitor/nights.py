"""Ledgers of results folders ─► outcomes of their studies, in time order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lungscreen.batch.ledger import TaskRow
from lungscreen.batch.parts import find_parts
from lungscreen.batch.status import open_ledger
from lungscreen.errors import UsageError
from lungscreen.monitor.outcomes import StudyOutcome
from lungscreen.results.facts import recall_facts

__all__ = ["read_nights"]


def read_nights(nights: Sequence[Path], since: float = 0.0) -> list[StudyOutcome]:
    """Studies that ended. A study that stands in several folders counts once, as it was read last.

    since: seconds since 1970; what ended before is left out.

    Errors: `input-missing`, `ledger-invalid`.
    """
    latest: dict[tuple[str, str], StudyOutcome] = {}
    for part in find_parts(nights):
        ledger = open_ledger(part, read_only=True)
        try:
            key = ledger.key_fingerprint()
            rows = [row for row in ledger.rows() if row.finished and row.state in ("done", "refused", "failed")]
        finally:
            ledger.close()
        for row in rows:
            found = _outcome(row)
            name = (key, row.key)
            if found.finished >= since and (name not in latest or latest[name].finished < found.finished):
                latest[name] = found
    return sorted(latest.values(), key=lambda study: study.finished)


def _outcome(row: TaskRow) -> StudyOutcome:
    try:
        finished = datetime.fromisoformat(row.finished).timestamp()
    except ValueError:
        raise UsageError("ledger-invalid", "the ledger is damaged: a time is none") from None
    return StudyOutcome(finished, row.pipeline, row.state == "done", recall_facts(row.facts).findings)
