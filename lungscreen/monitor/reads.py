"""The reading room ─► signed studies, in time order. Its packages are needed (`lungscreen[room]`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from lungscreen.monitor.outcomes import SignedStudy
from lungscreen.results.document import ReportDocument
from lungscreen.room import tables
from lungscreen.room.against_cad import document_of, groups_of, nodules_of
from lungscreen.room.core import Room

__all__ = ["read_signed"]


def read_signed(room: Room, since: float = 0.0) -> tuple[list[SignedStudy], int]:
    """Studies that nobody reads any more, and how many of them cannot be used: their report cannot be read.

    Of a study that somebody may still read nothing is told: what CAD said of it stays behind the gate.

    since: seconds since 1970; what was signed before is left out.
    """
    table = tables.reads
    query = (
        select(table)
        .join(tables.studies)
        .where(table.c.state == "final", tables.studies.c.state == "final")
        .order_by(table.c.signed_final, table.c.id)
    )
    by_study: dict[str, list[Any]] = {}
    with room.store.read() as connection:
        for row in connection.execute(query):
            by_study.setdefault(row.study, []).append(row)
    found, unreadable = [], 0
    for reads in by_study.values():
        document = document_of(room.folders, json.loads(reads[-1].pins)["pin"])
        if reads[-1].signed_final < since:
            continue
        if document is None:
            unreadable += 1
            continue
        found.append(_signed(reads, document))
    return sorted(found, key=lambda study: study.signed), unreadable


def _signed(reads: Sequence[Any], document: ReportDocument) -> SignedStudy:
    """reads: final ones of one study, the last decides; of those that were begun without CAD, the first."""
    texts = [json.loads(read.final_text) for read in reads]
    gated = next((text for text in texts if text["before_cad"]), None)
    last = texts[-1]
    before = last["before_cad"]
    return SignedStudy(
        signed=reads[-1].signed_final,
        pipeline=_pipeline(document),
        groups=groups_of(document),
        alone=_had(gated, document, before_cad=True) if gated else (),
        final=_had(last, document),
        rejected=sum(decision["verdict"] == "reject" for decision in last["content"]["decisions"]),
        changed=before["category"] != last["computed"]["category"] if before else None,
    )


def _had(text: dict[str, Any], document: ReportDocument, *, before_cad: bool = False) -> tuple[bool, ...]:
    return tuple(bool(nodule["cad"]) for nodule in nodules_of(text, document, before_cad=before_cad))


def _pipeline(document: ReportDocument) -> str:
    """What must be alike for two studies to be read by one system."""
    made = document.provenance
    weights = "+".join(sorted(one.sha256[:8] for one in made.weights))
    return f"{made.pipeline_name} {made.software_version} {made.pipeline_hash[:12]} {weights}"
