"""The results folder ─► the worklist's rows in the room's database. Results are only read, and so is the ledger.

What is not CAD's (who, when, which series, what the images lack) stands in columns of its own; what CAD said stands in
`cad`, `suspicion` and `tier`, which only `gate` lets through.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select, update

from lungscreen.batch.ledger import Ledger
from lungscreen.errors import LungscreenError
from lungscreen.files import LEDGER_FILE
from lungscreen.logs import LOG
from lungscreen.results.document import ReportDocument
from lungscreen.results.ranking import CATEGORY_ORDER
from lungscreen.results.reader import read_result
from lungscreen.results.values import UnreadableError
from lungscreen.room import tables
from lungscreen.room.folders import RoomFolders
from lungscreen.room.store import Store

__all__ = ["FREE_NOTICES", "cad_facts", "free_notices", "freeze_tiers", "pins_of", "sync_studies"]

FREE_NOTICES = frozenset(
    {
        "altered-image",
        "body-part-unclear",
        "sharp-kernel",
        "kernel-unknown",
        "contrast",
        "lossy",
        "burned-in",
        "small-field-of-view",
        "low-dose",
        "dose-unknown",
        "multi-energy",
        "unit-unspecified",
        "derived",
        "stand-in-series",
        "series-split",
        "two-names-one-id",
        "duplicate-files",
        "slices-filled",
        "slices-stray",
        "slices-duplicate",
        "slices-damaged",
        "values-uneven",
        "values-odd",
        "values-shifted",
        "spacing-resampled",
        "gantry-tilt",
        "several-passes",
        "thick-slices",
        "overlapping",
        "gaps-between-slices",
        "values-clipped",
        "padding-ignored",
        "image-geometry-guessed",
        "lung-apex-cut",
        "lung-base-cut",
        "lung-missing",
        "lung-unequal",
        "lung-small",
        "lung-left-out",
        "upside-down",
        "lung-incomplete",
        "airways-not-found",
        "not-adult",
        "attenuation-correction",
        "kvp-not-validated",
        "dose-not-validated",
        "kernel-not-validated",
        "thickness-not-validated",
        "acquisition-unknown",
        "clinical-value",
        "clinical-age",
        "clinical-contradicts",
        "clinical-unmatched",
        "not-evaluable",
    }
)
"""Notices that say something of the images or the person and nothing of what CAD found: shown before the gate
opens. A code that is not among them is CAD's until somebody says otherwise."""

_SEARCHED = ("patient_id", "name", "accession_number")
_PART = 200
"""Rows that are written at once: the worklist fills while a large folder is read for the first time."""


def free_notices(document: ReportDocument) -> list[dict[str, str]]:
    """The notices of a report that anybody may see before CAD is shown."""
    return [{"code": n.code, "text": n.text} for n in document.notices if n.code in FREE_NOTICES]


def sync_studies(folders: RoomFolders, store: Store) -> int:
    """Bring the rows up to date with the results. Returns how many changed."""
    with store.read() as connection:
        query = select(tables.studies.c.key, tables.studies.c.stamp)
        known = {row.key: row.stamp for row in connection.execute(query)}
    arrivals, changed = _Arrivals(folders.results), 0
    for part in _parts(_changed_rows(folders, known, arrivals)):
        with store.write() as connection:
            for row in part:
                _put(connection, row, row["key"] in known)
        changed += len(part)
    if changed:
        with store.write() as connection:
            _give_tiers(connection)
    return changed


def cad_facts(document: ReportDocument) -> dict[str, Any]:
    """What the worklist tells of CAD, behind the gate."""
    return {
        "category": document.category,
        "findings": len(document.findings),
        "top_probability": document.top_probability,
        "top_score": document.top_score,
    }


# -- rows ------------------------------------------------------------------------------------------------------------
def _changed_rows(folders: RoomFolders, known: dict[str, str], arrivals: _Arrivals) -> Iterator[dict[str, Any]]:
    read = set()
    for key in folders.study_keys():
        try:
            stamp = folders.stamp(key)
            if known.get(key) == stamp:
                continue
            document = read_result(folders.study(key) / "report.json")
            pin = folders.pin_of(key)
        except OSError:
            continue  # replaced at this very moment: the next look sees it
        except UnreadableError:
            LOG.warning("report not readable", extra={"fields": {"key": key}})
            continue
        read.add(document.exam.study_uid)
        row = _study_row(key, stamp, document, arrivals)
        yield {**row, "pins": json.dumps({**pins_of(document), "pin": pin})}
    yield from (row for row in _refused_rows(folders, arrivals) if known.get(row["key"]) != row["stamp"])


def _study_row(key: str, stamp: str, document: ReportDocument, arrivals: _Arrivals) -> dict[str, Any]:
    arrived, urgent = arrivals.of(key, document.provenance.created)
    facts = {
        "patient_id": document.patient.patient_id or "",
        "name": document.patient.name or "",
        "accession_number": document.exam.accession_number or "",
    }
    return {
        **facts,
        "key": key,
        "stamp": stamp,
        "status": "done",
        "date": document.exam.date or "",
        "description": document.exam.description or "",
        "study_uid": document.exam.study_uid,
        "search": "\n".join(facts[name] for name in _SEARCHED).casefold(),
        "urgent": urgent,
        "arrived": arrived,
        "priors": len(document.priors),
        "notices": json.dumps([notice["code"] for notice in free_notices(document)]),
        "cad": json.dumps(cad_facts(document)),
        "suspicion": _suspicion(document),
        "tier": None,
    }


def pins_of(document: ReportDocument) -> dict[str, Any]:
    """What a read is tied to: input, pipeline, weights and software. The same with and without findings."""
    provenance = document.provenance
    return {
        "sop_instance_uids_sha256": provenance.sop_instance_uids_sha256,
        "pipeline_hash": provenance.pipeline_hash,
        "weights": [{"name": w.name, "version": w.version, "sha256": w.sha256} for w in provenance.weights],
        "software_version": provenance.software_version,
    }


def _suspicion(document: ReportDocument) -> float:
    """Orders studies as the worklist does: category first, then probability, then score."""
    order = CATEGORY_ORDER.index(document.category) if document.category in CATEGORY_ORDER else len(CATEGORY_ORDER)
    probability, score = document.top_probability, document.top_score
    return (len(CATEGORY_ORDER) - order) * 10 + 5 * (probability or 0.0) + (score or 0.0)


def _refused_rows(folders: RoomFolders, arrivals: _Arrivals) -> Iterator[dict[str, Any]]:
    """Studies that were not read, from refused.csv."""
    try:
        with (folders.results / "refused.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("scope") == "study"]
    except (OSError, UnicodeDecodeError, csv.Error):
        return
    for row in rows:
        uid, patient_id = row.get("study_uid") or row.get("path_or_uid") or "", row.get("patient_id") or ""
        stamp = hashlib.sha256(json.dumps(row, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
        yield {
            "key": hashlib.sha256(f"refused\0{uid}".encode("utf-8", "surrogatepass")).hexdigest()[:12],
            "stamp": stamp,
            "status": "refused",
            "code": row.get("code") or "",
            "reason": row.get("reason") or "",
            "patient_id": patient_id,
            "study_uid": uid,
            "search": patient_id.casefold(),
            "arrived": arrivals.refused_file,
        }


def _put(connection: Connection, row: dict[str, Any], known: bool) -> None:
    table = tables.studies
    if known:
        connection.execute(update(table).where(table.c.key == row["key"]).values(**row))
    else:
        connection.execute(table.insert().values(**row, state="unread"))


class _Arrivals:
    """When a study arrived and whether it is urgent, from the ledger where there is one."""

    def __init__(self, results: Path) -> None:
        self._results = results
        refused = results / "refused.csv"
        self.refused_file = refused.stat().st_mtime if refused.exists() else 0.0

    refused_file = 0.0
    """When the table of what was not read was last written."""

    @cached_property
    def _known(self) -> dict[str, tuple[float, bool]]:
        """By key. Read when the first new study is asked about: a look that finds nothing new reads no ledger."""
        if not (self._results / LEDGER_FILE).exists():
            return {}
        try:
            ledger = Ledger(self._results, read_only=True)
        except LungscreenError:
            return {}
        try:
            return {row.key: (row.arrived, row.urgent) for row in ledger.rows()}
        finally:
            ledger.close()

    def of(self, key: str, created: str) -> tuple[float, bool]:
        """POSIX seconds, and whether it is urgent."""
        from datetime import datetime

        if key in self._known and self._known[key][0] > 0:
            return self._known[key]
        try:
            return datetime.fromisoformat(created).timestamp(), False
        except ValueError:
            return 0.0, False


def _parts(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == _PART:
            yield part
            part = []
    if part:
        yield part


# -- suspicion tiers -------------------------------------------------------------------------------------------------
def freeze_tiers(connection: Connection, least: int) -> int | None:
    """Take the deciles of the suspicion over all studies that are there. Returns the version, None where too few."""
    query = select(tables.studies.c.suspicion).where(tables.studies.c.status == "done").order_by("suspicion")
    scores = list(connection.execute(query).scalars())
    if len(scores) < least:
        return None
    cuts = [scores[math.ceil(len(scores) * tenth / 10) - 1] for tenth in range(1, 10)]
    version = (connection.execute(select(func.max(tables.tiers.c.version))).scalar() or 0) + 1
    row = {"version": version, "frozen": time.time(), "cuts": json.dumps(cuts), "reference": len(scores)}
    connection.execute(tables.tiers.insert().values(**row))
    connection.execute(update(tables.studies).values(tier=None))
    _give_tiers(connection)
    return version


def _give_tiers(connection: Connection) -> None:
    """The tier of every study that has none, by the newest cuts."""
    row = connection.execute(select(tables.tiers.c.cuts).order_by(tables.tiers.c.version.desc()).limit(1)).first()
    if row is None:
        return
    cuts = json.loads(row.cuts)
    table = tables.studies
    open_ones = select(table.c.key, table.c.suspicion).where(table.c.tier.is_(None), table.c.status == "done")
    for key, suspicion in connection.execute(open_ones).all():
        tier = 1 + sum(suspicion > cut for cut in cuts)
        connection.execute(update(table).where(table.c.key == key).values(tier=tier))
