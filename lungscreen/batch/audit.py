"""Who ran what, when, on which input, with which weights: every attempt of a ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lungscreen.batch.status import open_ledger

__all__ = ["AUDIT_COLUMNS", "SENT_COLUMNS", "audit_text", "read_audit", "sent_text"]

AUDIT_COLUMNS = (
    "started", "ended", "study", "outcome", "code", "user", "host", "worker", "engine", "software", "pipeline_name",
    "pipeline_hash", "input", "weights",
)  # fmt: skip

SENT_COLUMNS = (
    "queued", "sent", "committed", "study", "file", "sop_uid", "destination", "state", "refusals", "code", "status",
)  # fmt: skip


def read_audit(night: Path) -> list[dict[str, Any]]:
    """Every attempt, oldest first; `weights` as name, version and sha256.

    Errors: `input-missing` where there is no ledger, `ledger-invalid`.
    """
    ledger = open_ledger(night, read_only=True)
    try:
        found = ledger.attempts()
    finally:
        ledger.close()
    rows = []
    for attempt in found:
        row = {name: attempt[name] for name in AUDIT_COLUMNS}
        row["weights"] = json.loads(attempt["weights"])
        rows.append(row)
    return rows


def audit_text(rows: Sequence[dict[str, Any]]) -> str:
    """One line an attempt, columns divided by tabs, under their names."""
    lines = ["\t".join(AUDIT_COLUMNS)]
    for row in rows:
        weights = ",".join(f"{w['name']}@{w['version']}:{w['sha256'][:12]}" for w in row["weights"])
        lines.append("\t".join([*(str(row[name]) for name in AUDIT_COLUMNS[:-1]), weights]))
    return "\n".join(lines)


def sent_text(rows: Sequence[dict[str, Any]]) -> str:
    """One line a result and destination, columns divided by tabs, under their names; times as in ISO 8601, UTC."""
    lines = ["\t".join(SENT_COLUMNS)]
    for row in rows:
        moments = [_moment(row[name]) for name in SENT_COLUMNS[:3]]
        lines.append("\t".join([*moments, *(str(row[name]) for name in SENT_COLUMNS[3:])]))
    return "\n".join(lines)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""
