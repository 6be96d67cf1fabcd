"""Ledger ─► night.json and night.html: how the night went, without names.

Studies are named by their keys; the worklist and the reports, to which the page links, say whose they are.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lungscreen import RESEARCH_USE, __version__
from lungscreen.batch.drift import HISTORY_NIGHTS, NightComparison, compare_nights, drift_notices
from lungscreen.batch.ledger import Ledger, TaskRow, hourly_rate
from lungscreen.codes import CODES
from lungscreen.errors import LungscreenError
from lungscreen.files import LEDGER_FILE, replace_file
from lungscreen.outputs.page import category_chip, html_page, study_table
from lungscreen.results.document import MALIGNANCY_MEANING
from lungscreen.results.facts import StudyFacts, recall_facts
from lungscreen.results.folder import ResultsFolder, page_link
from lungscreen.results.ranking import suspicion_order
from lungscreen.results.text import escape

__all__ = ["NIGHT_SCHEMA", "describe_night", "night_of", "night_page", "write_night"]

NIGHT_SCHEMA = "1.1"
"""Of night.json. The first number rises when a field changes or goes, the second when one is added."""

NIGHT_BEGINS_H = 12
"""A night goes from noon to noon, local time, and is named by the day on which it began."""

WORST_FIRST = 20
"""Refusals of one code that are listed by key; of more, the number is given."""


def write_night(ledger: Ledger, out: Path, key_fingerprint: str) -> None:
    """Write night.json and night.html.

    Errors: `output-failed`.
    """
    document = describe_night(ledger.rows(), _earlier(out, key_fingerprint), ResultsFolder(out).link)
    replace_file(out / "night.json", json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    replace_file(out / "night.html", night_page(document))


def night_of(finished: str) -> str:
    """The night that a time (ISO 8601 with its zone) belongs to, as YYYY-MM-DD; local time."""
    return (datetime.fromisoformat(finished).astimezone() - timedelta(hours=NIGHT_BEGINS_H)).date().isoformat()


def _latest_night(ended: Sequence[TaskRow]) -> tuple[str, list[TaskRow]]:
    """The night of the study that ended last, and all of its studies; today without any."""
    nights = [night_of(row.finished) for row in ended]
    latest = max(nights, default=datetime.now().astimezone().date().isoformat())
    return latest, [row for row, night in zip(ended, nights, strict=True) if night == latest]


def _facts(rows: Sequence[TaskRow]) -> list[StudyFacts]:
    return [recall_facts(row.facts) for row in rows]


def _drift(comparisons: Sequence[NightComparison]) -> dict[str, Any]:
    """Tonight against the nights before, and what is to be warned of."""
    return {
        "drift": [{**asdict(c), "drifted": c.drifted} for c in comparisons],
        "warnings": [{"code": notice.code, "text": notice.text} for notice in drift_notices(comparisons)],
    }


def describe_night(
    rows: Sequence[TaskRow], earlier: Sequence[TaskRow] = (), link: Callable[[str], str] = page_link
) -> dict[str, Any]:
    """The night of the study that ended last: `rows` of this ledger, `earlier` of the ones beside it.

    link: from the page to a study's own, by key.
    """
    ended = [row for row in rows if row.finished and row.state in ("done", "refused", "failed")]
    night, tonight = _latest_night(ended)
    done = [row for row in tonight if row.state == "done"]
    history = _history([*ended, *earlier], night)
    comparisons = compare_nights(_facts(done), _facts(history))
    states = Counter(row.state for row in tonight)
    left = Counter(row.state for row in rows if row.state in ("waiting", "running"))
    return {
        "schema": "lungscreen-night",
        "schema_version": NIGHT_SCHEMA,
        "research_use": RESEARCH_USE,
        "software_version": __version__,
        "night": night,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "studies": len(tonight) + left.total(),
        "done": states["done"],
        "refused": states["refused"],
        "failed": states["failed"],
        "waiting": left["waiting"],
        "running": left["running"],
        "not_read": [_not_read(code, group) for code, group in _by_code(tonight)],
        "ranked": [_ranked(rank, row, link) for rank, row in enumerate(sorted(done, key=_order), 1)],
        "seconds": _seconds(done),
        "studies_per_hour": _per_hour(tonight),
        "quality": _quality(done),
        "compared_nights": len({night_of(row.finished) for row in history}),
        **_drift(comparisons),
    }


def night_page(document: Mapping[str, Any]) -> str:
    """The page for the morning."""
    facts = (("in", "studies"), ("read", "done"), ("refused", "refused"), ("failed", "failed"))
    more = tuple((name, name) for name in ("waiting", "running") if document[name])
    counts = "".join(f"<div><dt>{label}</dt><dd>{document[name]}</dd></div>" for label, name in (*facts, *more))
    parts = (
        f"<header><h1>Night of {escape(document['night'])}</h1><dl"
        f" class='facts'>{counts}{_speed(document)}</dl></header>",
        _warnings(document),
        _not_read_table(document),
        _ranked_table(document),
        _quality_table(document),
        _seconds_table(document),
        _drift_table(document),
        _whose(document),
    )
    return html_page("Night – lungscreen", "", "\n".join(part for part in parts if part))


def _whose(document: Mapping[str, Any]) -> str:
    """Where names stand; of a page over several parts, in each part's worklist."""
    parts = document.get("parts", [{"folder": ".", "missing": False}])
    there = [
        f"<a href='{escape('' if row['folder'] == '.' else row['folder'] + '/')}worklist.html'>"
        f"{'the worklist' if row['folder'] == '.' else escape(row['folder'])}</a>"
        for row in parts
        if not row["missing"]
    ]
    absent = "".join(f" <b>{escape(row['folder'])} is missing.</b>" for row in parts if row["missing"])
    return f"<p class='note'>Studies are named by keys. Whose they are: {', '.join(there)}.{absent}</p>"


# -- figures ---------------------------------------------------------------------------------------------------------
def _history(ended: Sequence[TaskRow], night: str) -> list[TaskRow]:
    """Studies that were read in the nights before."""
    by_night: dict[str, list[TaskRow]] = {}
    for row in ended:
        when = night_of(row.finished)
        if row.state == "done" and when < night:
            by_night.setdefault(when, []).append(row)
    return [row for when in sorted(by_night)[-HISTORY_NIGHTS:] for row in by_night[when]]


def _earlier(out: Path, key_fingerprint: str) -> list[TaskRow]:
    """Studies of the ledgers in the folders beside this one, where each night has a folder of its own."""
    rows: list[TaskRow] = []
    for path in sorted(out.resolve().parent.glob(f"*/{LEDGER_FILE}")):
        if path.parent == out.resolve():
            continue
        # somebody else's, damaged or not readable: nothing of this night depends on it
        with suppress(LungscreenError, OSError, ValueError, TypeError):
            rows += _ended_rows(path.parent, key_fingerprint)
    return rows


def _ended_rows(folder: Path, key_fingerprint: str) -> list[TaskRow]:
    """Studies of another ledger that ended, if it was begun with this key.

    Errors: those of `Ledger`; ValueError, TypeError where a time is none.
    """
    other = Ledger(folder, read_only=True)
    try:
        rows = other.rows() if other.key_fingerprint() == key_fingerprint else []
    finally:
        other.close()
    ended = [row for row in rows if row.finished]
    for row in ended:
        night_of(row.finished)
    return ended


def _by_code(rows: Sequence[TaskRow]) -> list[tuple[str, list[TaskRow]]]:
    groups: dict[str, list[TaskRow]] = {}
    for row in rows:
        if row.state != "done":
            groups.setdefault(row.code, []).append(row)
    return sorted(groups.items(), key=lambda item: (item[1][0].state != "failed", -len(item[1]), item[0]))


def _not_read(code: str, rows: Sequence[TaskRow]) -> dict[str, Any]:
    known = CODES.get(code)
    return {
        "code": code,
        "state": rows[0].state,
        "studies": len(rows),
        "meaning": known.meaning if known else "",
        "action": known.action if known else "",
        "keys": sorted(row.key for row in rows),
    }


def _order(row: TaskRow) -> tuple[Any, ...]:
    """As the worklist ranks."""
    facts = recall_facts(row.facts)
    return suspicion_order(facts.category, facts.top_probability, facts.top_score), row.key


def _ranked(rank: int, row: TaskRow, link: Callable[[str], str]) -> dict[str, Any]:
    facts = recall_facts(row.facts)
    return {
        "rank": rank,
        "key": row.key,
        "patient": row.patient,
        "category": facts.category,
        "findings": facts.findings,
        "doubtful": facts.doubtful,
        "top_probability": facts.top_probability,
        "seconds": round(row.seconds.get("study", sum(row.seconds.values())), 1),
        "report": link(row.key),
    }


def _seconds(rows: Sequence[TaskRow]) -> dict[str, dict[str, float]]:
    """Median, largest and, of memory, the peak, by stage."""
    stages = dict.fromkeys(name for row in rows for name in row.seconds)
    found = {}
    for stage in stages:
        values = [row.seconds[stage] for row in rows if stage in row.seconds]
        found[stage] = {
            "median": round(statistics.median(values), 3),
            "largest": round(max(values), 3),
            "peak_mb": round(max((row.peak_mb.get(stage, 0.0) for row in rows), default=0.0), 1),
        }
    return found


def _per_hour(rows: Sequence[TaskRow]) -> float | None:
    rate = hourly_rate([datetime.fromisoformat(row.finished).timestamp() for row in rows])
    return None if rate is None else round(rate, 1)


def _quality(rows: Sequence[TaskRow]) -> list[dict[str, Any]]:
    counts = Counter(code for row in rows for code in recall_facts(row.facts).notices)
    return [
        {"code": code, "studies": count, "meaning": CODES[code].meaning if code in CODES else ""}
        for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


# -- the page --------------------------------------------------------------------------------------------------------
def _speed(document: Mapping[str, Any]) -> str:
    rate = document["studies_per_hour"]
    return f"<div><dt>studies per hour</dt><dd>{rate:g}</dd></div>" if rate is not None else ""


def _warnings(document: Mapping[str, Any]) -> str:
    items = "".join(
        f"<li>{escape(row['text'], 500)} <span class='code'>{escape(row['code'])}</span></li>"
        for row in document["warnings"]
    )
    return f"<ul class='notices'>{items}</ul>" if items else ""


def _not_read_table(document: Mapping[str, Any]) -> str:
    rows = []
    for row in document["not_read"]:
        keys, hidden = row["keys"][:WORST_FIRST], len(row["keys"]) - WORST_FIRST
        more = f" and {hidden} more" if hidden > 0 else ""
        rows.append(
            [
                f'<span class="chip {row["state"]}">{row["state"]}</span>',
                str(row["studies"]),
                f"{escape(row['meaning'], 500)}<br><small>{escape(row['action'], 500)}</small>",
                f"<span class='code'>{escape(row['code'])}</span>",
                f"<span class='code'>{escape(', '.join(keys), 1000)}{more}</span>",
            ]
        )
    return study_table("Not read", ("Status", "n:Studies", "Why, and what to do", "Code", "Keys"), rows)


def _ranked_table(document: Mapping[str, Any]) -> str:
    rows = [
        [
            str(row["rank"]),
            category_chip(row["category"]),
            f"<a href='{escape(row['report'])}' class='code'>{escape(row['key'])}</a>",
            f"<span class='code'>{escape(row['patient'])}</span>",
            f"{row['findings']}, {row['doubtful']} doubtful" if row.get("doubtful") else str(row["findings"]),
            "–" if row["top_probability"] is None else f"{100 * row['top_probability']:.0f} %",
            f"{row['seconds']:g}",
        ]
        for row in document["ranked"]
    ]
    if not rows:
        return "<h2>Read</h2><p>No study was read.</p>"
    heads = ("n:Rank", "Category", "Study", "Patient", "n:Findings", "n:Top malignancy probability*", "n:Seconds")
    return study_table("Read", heads, rows) + f"<p class='note'>* {escape(MALIGNANCY_MEANING)}.</p>"


def _quality_table(document: Mapping[str, Any]) -> str:
    rows = [
        [str(row["studies"]), escape(row["meaning"], 500), f"<span class='code'>{escape(row['code'])}</span>"]
        for row in document["quality"]
    ]
    return study_table("To know of the scans that were read", ("n:Studies", "What", "Code"), rows)


def _seconds_table(document: Mapping[str, Any]) -> str:
    rows = [
        [
            escape(stage),
            f"{value['median']:.2f}",
            f"{value['largest']:.2f}",
            f"{value['peak_mb']:.0f}" if value["peak_mb"] else "–",
        ]
        for stage, value in document["seconds"].items()
    ]
    return study_table("Seconds and memory", ("Stage", "n:Median s", "n:Largest s", "n:Peak MiB"), rows)


def _drift_table(document: Mapping[str, Any]) -> str:
    rows = [
        [
            escape(row["what"]),
            escape(row["shown_tonight"]),
            escape(row["shown_before"]),
            escape(row["test"]),
            "too few" if row["p_value"] is None else f"{row['p_value']:.2g} (warns below {row['alpha']:.2g})",
            "–" if row["size"] is None else f"{row['size']:.2f} (warns from {row['least_size']:g})",
        ]
        for row in document["drift"]
    ]
    title = f"Against the last {document['compared_nights']} nights"
    return study_table(title, ("What", "Tonight", "Before", "Test", "p", "Difference"), rows)
