"""How far a night has come; and putting studies back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lungscreen.batch.ledger import Ledger
from lungscreen.batch.lock import hold_lock, is_held
from lungscreen.codes import CODES
from lungscreen.errors import UsageError
from lungscreen.files import LEDGER_FILE

__all__ = ["open_ledger", "read_status", "retry_studies", "status_text"]

RATE_HOURS = 1.0
"""Studies per hour are counted over the last hour of work."""


def read_status(night: Path) -> dict[str, Any]:
    """Counts, codes, studies per hour and when it will be done; while a run is at work, or after.

    Errors: `input-missing` where there is no ledger, `ledger-invalid`.
    """
    ledger = open_ledger(night, read_only=True)
    try:
        counts, codes = ledger.counts(), ledger.codes()
        per_hour = ledger.rate(RATE_HOURS)
    finally:
        ledger.close()
    running = is_held(night)
    left = counts["waiting"] + counts["running"]
    interrupted = 0 if running else counts["running"]
    done_at = None
    if running and left and per_hour:
        done_at = (datetime.now(UTC) + timedelta(hours=left / per_hour)).isoformat(timespec="minutes")
    return {
        "at_work": running,
        **counts,
        "running": counts["running"] - interrupted,
        "interrupted": interrupted,
        "studies_per_hour": None if per_hour is None else round(per_hour, 1),
        "done_at": done_at,
        "codes": [
            {"state": state, "code": code, "studies": count, "meaning": CODES[code].meaning if code in CODES else ""}
            for (state, code), count in codes.items()
        ],
    }


def status_text(status: dict[str, Any]) -> str:
    """The same for people."""
    names = (
        "waiting",
        "running",
        *(("interrupted",) if status.get("interrupted") else ()),
        "done",
        "refused",
        "failed",
    )
    lines = [f"{name:<8} {status[name]:>7}" for name in names]
    if status["studies_per_hour"] is not None:
        lines.append(f"{status['studies_per_hour']:g} studies per hour")
    if status["done_at"]:
        lines.append(f"done at about {status['done_at']}")
    lines.append("a run is at work" if status["at_work"] else "no run is at work")
    lines += [f"{row['studies']:>5} {row['state']}: {row['code']}: {row['meaning']}" for row in status["codes"]]
    lines += [f"{part['folder']}: {', '.join(_counts(part)) or 'nothing'}" for part in status.get("parts", ())]
    lines += [f"missing: {name}" for name in status.get("missing", ())]
    return "\n".join(lines)


def _counts(status: dict[str, Any]) -> list[str]:
    states = ("waiting", "running", "done", "refused", "failed")
    return [f"{status[name]} {name}" for name in states if status[name]]


def retry_studies(night: Path, code: str | None = None) -> int:
    """Put failed and refused studies back, all or those of one code. Returns how many.

    Errors: `usage` for an unknown code, `out-in-use` while a run is at work, `input-missing`, `ledger-invalid`.
    """
    if code is not None and code not in CODES:
        raise UsageError("usage", "there is no such code", code)
    open_ledger(night, read_only=True).close()
    with hold_lock(night):
        ledger = open_ledger(night)
        try:
            return ledger.retry(code)
        finally:
            ledger.close()


def open_ledger(night: Path, *, read_only: bool = False) -> Ledger:
    """The ledger of a results folder.

    Errors: `input-missing`, `ledger-invalid`.
    """
    if not (night / LEDGER_FILE).is_file():
        raise UsageError("input-missing", "there is no ledger: no batch was run into this folder", str(night))
    return Ledger(night, read_only=read_only)
