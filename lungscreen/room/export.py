"""Final reads ─► tables: marks for training, and what RJafroc, iMRMC and `lungscreen evaluate` read.

    marks.csv         every mark with source, verdict, confidence, times, mode, before or after CAD
    candidates/       a reader's marks with their confidence, in the format of `lungscreen evaluate detection`
    rjafroc-*.csv     TP and FP sheets' rows as marks without truth; truth is the site's to add
    imrmc.csv         one score a reader, case and modality

A rejected mark is one reader's negative, not the truth: it stands in a column of its own. `split` parts by patient.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from lungscreen.files import replace_file
from lungscreen.results.columns import csv_text
from lungscreen.results.document import ReportDocument
from lungscreen.results.reader import read_result
from lungscreen.results.values import UnreadableError
from lungscreen.room import tables

if TYPE_CHECKING:
    from lungscreen.room.core import Room

__all__ = ["MARK_COLUMNS", "export_reads"]

MARK_COLUMNS = (
    "patient", "split", "study", "seriesuid", "coordX", "coordY", "coordZ", "source", "verdict", "reason",
    "diameter_mm", "type", "category", "confidence", "reader", "kind", "mode", "phase", "opened", "signed",
    "active_first_s", "active_second_s", "weights", "read",
)  # fmt: skip
"""Places are LPS mm, as LUNA16's. patient, reader: pseudonyms. phase: before-cad or after-cad."""

HELD_OUT = 0.2
"""Share of the patients that `split` keeps for testing, whatever was read of them."""

UNSAID = 50
"""Confidence of a mark for which the reader gave none, in the tables that must have one; marks.csv leaves it empty."""


def export_reads(room: Room, out: Path) -> int:
    """Write all tables. Returns how many final reads they hold.

    Errors: `output-failed`.
    """
    key = room.folders.secret("export")
    rows: list[dict[str, Any]] = []
    cases: list[dict[str, Any]] = []
    with room.store.read() as connection:
        table = tables.reads
        query = select(table, tables.users.c.pseudonym).join_from(table, tables.users).where(table.c.state == "final")
        reads = connection.execute(query.order_by(table.c.signed_final)).all()
    for read in reads:
        try:
            document = read_result(room.folders.pinned_report(json.loads(read.pins)["pin"]))
        except UnreadableError:
            continue
        signed = json.loads(read.final_text)
        own = list(_marks(read, signed, document, key))
        rows += own
        cases.append(_case(read, signed))
    replace_file(out / "marks.csv", csv_text([MARK_COLUMNS, *([row[name] for name in MARK_COLUMNS] for row in rows)]))
    _write_candidates(out / "candidates", rows)
    _write_rjafroc(out, rows)
    scores = [[case["reader"], case["study"], case["modality"], case["score"]] for case in cases]
    replace_file(out / "imrmc.csv", csv_text([("reader", "case", "modality", "score"), *scores]))
    return len(cases)


def _marks(read: Any, signed: dict[str, Any], document: ReportDocument, key: bytes) -> Iterable[dict[str, Any]]:
    whole = {
        "patient": _pseudonym(key, document.patient.patient_id or document.exam.study_uid),
        "split": _split(key, document.patient.patient_id or document.exam.study_uid),
        "study": read.study,
        "seriesuid": document.series.series_uid,
        "reader": read.pseudonym,
        "kind": read.kind,
        "mode": read.mode,
        "opened": read.opened,
        "signed": read.signed_final,
        "active_first_s": round(read.active_first_s, 1),
        "active_second_s": round(read.active_second_s, 1),
        "weights": " ".join(f"{w.name}-{w.version}" for w in document.provenance.weights),
        "read": read.id,
    }
    graded = {row["ref"]: row for row in signed["computed"]["findings"]}
    late = {mark["id"] for mark in signed["marks"] if mark["after_cad"]}
    for mark in signed["content"]["marks"]:
        phase = "after-cad" if mark["id"] in late or read.mode != "second-reader" else "before-cad"
        yield {**whole, **_own_row(mark, graded[mark["id"]]), "phase": phase}
    decided = {decision["finding"]: decision for decision in signed["content"]["decisions"]}
    for finding in document.findings:
        if finding.number in decided:
            yield {**whole, **_cad_row(finding, decided[finding.number], graded), "phase": "after-cad"}


def _own_row(mark: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return {
        **_place(mark["position_mm"]),
        "source": "reader",
        "verdict": "mark",
        "reason": "",
        "diameter_mm": row["mean_diameter_mm"],
        "type": row["type"],
        "category": row["category"],
        "confidence": mark["words"]["confidence"],
    }


def _cad_row(finding: Any, decision: dict[str, Any], graded: dict[str, Any]) -> dict[str, Any]:
    row = graded.get(str(finding.number), {})
    size = finding.measurement.mean_diameter_mm if finding.measurement else None
    return {
        **_place(finding.position_mm),
        "source": "cad",
        "verdict": decision["verdict"],
        "reason": decision["reason"] or "",
        "diameter_mm": row.get("mean_diameter_mm", size),
        "type": row.get("type", str(finding.type)),
        "category": row.get("category", finding.category),
        "confidence": decision["words"]["confidence"],
    }


def _place(position_mm: Sequence[float]) -> dict[str, float]:
    return dict(zip(("coordX", "coordY", "coordZ"), position_mm, strict=True))


def _case(read: Any, signed: dict[str, Any]) -> dict[str, Any]:
    """One score of a case: the highest confidence of a nodule that stayed, 0 where there is none."""
    stayed = [row["confidence"] for row in signed["computed"]["findings"]]
    score = max((UNSAID if value is None else value for value in stayed), default=0)
    return {"reader": read.pseudonym, "study": read.study, "modality": read.mode, "score": score}


def _write_candidates(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A file a reader: their own marks before CAD, as `evaluate detection` reads a detector's."""
    head = ("seriesuid", "coordX", "coordY", "coordZ", "probability")
    for reader in sorted({row["reader"] for row in rows}):
        own = [row for row in rows if row["reader"] == reader and row["verdict"] in ("mark", "accept", "unsure")]
        for phase in ("before-cad", "with-cad"):
            chosen = [row for row in own if phase == "with-cad" or row["phase"] == "before-cad"]
            lines = [[*(row[name] for name in head[:4]), _probability(row)] for row in chosen]
            replace_file(folder / f"{reader}-{phase}.csv", csv_text([head, *lines]))


def _probability(row: dict[str, Any]) -> float:
    return (UNSAID if row["confidence"] is None else int(row["confidence"])) / 100


def _write_rjafroc(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Marks as RJafroc's sheets have them, before they are told into TP and FP by the site's truth."""
    head = ("ReaderID", "ModalityID", "CaseID", "coordX", "coordY", "coordZ", "Rating")
    lines = []
    for row in rows:
        if row["verdict"] != "reject":
            modality = "unaided" if row["phase"] == "before-cad" else "aided"
            place = [row[name] for name in ("coordX", "coordY", "coordZ")]
            rating = UNSAID if row["confidence"] is None else row["confidence"]
            lines.append([row["reader"], modality, row["study"], *place, rating])
            if modality == "unaided":
                lines.append([row["reader"], "aided", row["study"], *place, rating])
    replace_file(out / "rjafroc-marks.csv", csv_text([head, *lines]))


def _pseudonym(key: bytes, patient: str) -> str:
    return f"p-{hmac.new(key, patient.encode('utf-8', 'surrogatepass'), hashlib.sha256).hexdigest()[:12]}"


def _split(key: bytes, patient: str) -> str:
    """Test or train, the same for every exam of a patient and for every export."""
    digest = hmac.new(key, b"split\0" + patient.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return "test" if digest[0] < 256 * HELD_OUT else "train"
