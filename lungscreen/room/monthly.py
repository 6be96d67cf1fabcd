"""Final reads of a month ─► counts, agreement, times, what CAD changed; by subgroup, with intervals."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from sqlalchemy import Connection, select

from lungscreen.room import tables
from lungscreen.room.against_cad import document_of, nodules_of, subgroups_of
from lungscreen.room.double import MANAGEMENT_GROUPS
from lungscreen.room.folders import RoomFolders
from lungscreen.shares import LEAST_OF_A_SHARE, share_of

__all__ = ["month_figures"]

MEANING = (
    "CAD's marks against nodules in signed reads, which CAD helped to find; not against truth. First reads were signed "
    "before CAD was shown."
)


def month_figures(connection: Connection, folders: RoomFolders, month: str) -> dict[str, Any]:
    """month: YYYY-MM, UTC, of the last signature. A lead's page: it names readers by their accounts.

    Leads read too. What CAD said, and categories that were signed knowing it, are counted of studies that nobody reads
    any more: of the others nothing is told, not even as a count.
    """
    reads = list(_final_reads(connection, month))
    done = [read for read in reads if read["finished"]]
    documents = [document_of(folders, read["pin"]) for read in done]
    marks = [mark for both in zip(done, documents, strict=True) for mark in nodules_of(both[0]["signed"], both[1])]
    alone = [
        mark
        for both in zip(done, documents, strict=True)
        for mark in nodules_of(both[0]["signed"], both[1], before_cad=True)
    ]
    return {
        "month": month,
        "reads": len(reads),
        "reads_of_open_studies": len(reads) - len(done),
        "by_reader": _by_reader(reads),
        "agreement": _agreement(reads),
        "cad": {
            "sensitivity_against_reads": share_of(sum(m["cad"] for m in marks), len(marks)),
            "sensitivity_against_first_reads": share_of(sum(m["cad"] for m in alone), len(alone)),
            **_changes(done),
        },
        "subgroups": subgroups_of(marks),
        "least_of_a_share": LEAST_OF_A_SHARE,
        "meaning": MEANING,
    }


def _final_reads(connection: Connection, month: str) -> Iterable[dict[str, Any]]:
    year, number = map(int, month.split("-"))
    start = datetime(year, number, 1, tzinfo=UTC).timestamp()
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp()
    table = tables.reads
    query = (
        select(table, tables.users.c.name, tables.studies.c.state.label("study_state"))
        .join_from(table, tables.users)
        .join(tables.studies)
        .where(table.c.signed_final >= start, table.c.signed_final < end)
        .order_by(table.c.signed_final)
    )
    for row in connection.execute(query):
        yield {
            "reader": row.name, "study": row.study, "kind": row.kind, "mode": row.mode,
            "pin": json.loads(row.pins)["pin"], "signed": json.loads(row.final_text),
            "finished": row.study_state == "final", "first_s": row.active_first_s, "second_s": row.active_second_s,
        }  # fmt: skip


def _by_reader(reads: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for read in reads:
        found[read["reader"]].append(read)
    return [
        {
            "reader": reader,
            "reads": len(own),
            "median_first_s": round(median(read["first_s"] for read in own), 1),
            "median_second_s": round(median(read["second_s"] for read in own), 1),
            "categories": dict(Counter(read["signed"]["computed"]["category"] for read in own if read["finished"])),
        }
        for reader, own in sorted(found.items())
    ]


def _agreement(reads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Cohen's kappa over the management groups of studies that two people read."""
    by_study: dict[str, list[str]] = defaultdict(list)
    for read in reads:
        if read["kind"] != "arbitration":
            category = read["signed"]["computed"]["category"]
            by_study[read["study"]].append(MANAGEMENT_GROUPS.get(category, category))
    pairs = [(groups[0], groups[1]) for groups in by_study.values() if len(groups) == 2]
    arbitrated = sum(read["kind"] == "arbitration" for read in reads)
    return {"studies_read_twice": len(pairs), "kappa": _kappa(pairs), "arbitrations": arbitrated}


def _kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """None where there are too few, or all say the same."""
    if len(pairs) < LEAST_OF_A_SHARE:
        return None
    first, second = (Counter(side) for side in zip(*pairs, strict=True))
    seen = sum(a == b for a, b in pairs) / len(pairs)
    chance = sum(first[name] * second[name] for name in first) / len(pairs) ** 2
    return None if chance == 1 else round((seen - chance) / (1 - chance), 3)


def _changes(reads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the reader changed after CAD was shown."""
    gated = [read["signed"] for read in reads if read["signed"]["before_cad"]]
    up = down = 0
    order = ["1", "2", "3", "4A", "4B", "4X"]
    for signed in gated:
        before, after = signed["before_cad"]["category"], signed["computed"]["category"]
        if before in order and after in order:
            up += order.index(after) > order.index(before)
            down += order.index(after) < order.index(before)
    verdicts = Counter(d["verdict"] for read in reads for d in read["signed"]["content"]["decisions"])
    return {
        "reads_with_a_gate": len(gated),
        "category_raised": share_of(up, len(gated)),
        "category_lowered": share_of(down, len(gated)),
        "marks": {verdict: verdicts[verdict] for verdict in ("accept", "reject", "unsure")},
    }
