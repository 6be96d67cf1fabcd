"""Ledgers of several folders ─► one status, one morning page: the parts of a night that machines shared out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lungscreen.batch.ledger import TaskRow
from lungscreen.batch.night import describe_night, night_page
from lungscreen.batch.status import open_ledger, read_status
from lungscreen.errors import UsageError
from lungscreen.files import LEDGER_FILE, replace_file
from lungscreen.results.folder import ResultsFolder

__all__ = ["find_parts", "join_nights", "missing_parts", "read_joint_status"]

STATES = ("waiting", "running", "done", "refused", "failed")


def find_parts(nights: Sequence[Path]) -> list[Path]:
    """The folders with a ledger: those named, and of a folder that was read in parts its parts.

    Errors: `input-missing`.
    """
    parts: list[Path] = []
    for night in nights:
        inside = [path.parent for path in sorted(night.glob(f"shard-*-of-*/{LEDGER_FILE}"))]
        if (night / LEDGER_FILE).is_file() or not inside:
            open_ledger(night, read_only=True).close()
            inside = [night]
        parts += inside
    return list(dict.fromkeys(parts))


def _summed_states(parts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {state: sum(part[state] for part in parts) for state in STATES}


def _latest_end(parts: Sequence[Mapping[str, Any]]) -> str | None:
    """When the last of those that have studies left is done; None where one of them does not know."""
    ends = [part["done_at"] for part in parts if part["waiting"] + part["running"]]
    return max(ends) if ends and all(ends) else None


def _summed_codes(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Studies of each state and code, of all parts together."""
    codes: dict[tuple[str, str], dict[str, Any]] = {}
    for part in parts:
        for row in part["codes"]:
            entry = codes.setdefault((row["state"], row["code"]), {**row, "studies": 0})
            entry["studies"] += row["studies"]
    return [codes[key] for key in sorted(codes)]


def read_joint_status(parts: Sequence[Path]) -> dict[str, Any]:
    """What `read_status` says of one folder, of all of them together; each stands in `parts`.

    studies_per_hour: of the parts at work. done_at: of the last one; None where one that is not at work has studies
    left.
    missing: parts of a folder that are not among them.

    Errors: `input-missing`, `ledger-invalid`.
    """
    found = [(part, read_status(part)) for part in parts]
    statuses = [status for _, status in found]
    at_work = [s for s in statuses if s["at_work"]]
    rates = [s["studies_per_hour"] for s in at_work if s["studies_per_hour"] is not None]
    return {
        "at_work": bool(at_work),
        **_summed_states(statuses),
        "studies_per_hour": round(sum(rates), 1) if rates else None,
        "done_at": _latest_end(statuses),
        "codes": _summed_codes(statuses),
        "missing": missing_parts(parts),
        "parts": [{"folder": str(part), **{s: status[s] for s in ("at_work", *STATES)}} for part, status in found],
    }


def missing_parts(parts: Sequence[Path]) -> list[str]:
    """Names of parts that belong to the ones that are there, and are not."""
    missing = []
    for base, count in dict.fromkeys((part.parent, part.name.rpartition("-of-")[2]) for part in parts):
        if not count.isdecimal():
            continue
        names = (f"shard-{number}-of-{count}" for number in range(1, int(count) + 1))
        missing += [str(base / name) for name in names if base / name not in parts]
    return missing


def join_nights(parts: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write one night.json and night.html over all parts into `out`, with links into the parts. Returns the document.

    A study that stands in several of them counts as the one that ended last says.

    Errors: `key-differs` where parts were begun with different keys, `input-missing`, `ledger-invalid`, `usage`,
    `output-failed`.
    """
    ResultsFolder(out).make(parts)
    latest: dict[str, tuple[TaskRow, Path]] = {}
    fingerprints = set()
    for part in parts:
        ledger = open_ledger(part, read_only=True)
        try:
            fingerprints.add(ledger.key_fingerprint())
            rows = ledger.rows()
        finally:
            ledger.close()
        for row in rows:
            if row.key not in latest or row.finished > latest[row.key][0].finished:
                latest[row.key] = row, part
    if len(fingerprints - {""}) > 1:
        raise UsageError(
            "key-differs", "the parts were begun with different key files: their studies cannot be told apart"
        )

    def link(key: str) -> str:
        part = latest[key][1]
        return f"{_link(part, out)}/{ResultsFolder(part).link(key)}"

    document = describe_night([row for row, _ in latest.values()], link=link)
    document["parts"] = [{"folder": _link(part, out), "missing": False} for part in parts]
    document["parts"] += [{"folder": _link(Path(name), out), "missing": True} for name in missing_parts(parts)]
    replace_file(out / "night.json", json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    replace_file(out / "night.html", night_page(document))
    return document


def _link(part: Path, out: Path) -> str:
    return Path(os.path.relpath(part.resolve(), out.resolve())).as_posix()
