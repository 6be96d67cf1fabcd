"""findings.csv, patient data, outcomes ─► Cases: what a site's own model is fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lungscreen.assess.site_model import LOGIT, logit, person_terms
from lungscreen.clinical import ClinicalRow, ClinicalTable
from lungscreen.errors import InputError, Notice
from lungscreen.evaluation.tables import Table, read_table_file
from lungscreen.records import ClinicalData

__all__ = ["Cases", "read_cases"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Cases:
    """Exams' most suspicious findings, or findings, whose outcome is known.

    labels: (n,).
    network: (n,) the network's probability.
    values: (n, columns), NaN is not known.
    patients: whose each is.
    """

    labels: Bools
    network: Floats
    columns: tuple[str, ...]
    values: Floats
    patients: tuple[str, ...]
    unit: Literal["exam", "finding"] = "exam"
    notices: tuple[Notice, ...] = ()


def read_cases(predictions: Path, clinical: ClinicalTable, outcomes: Path) -> Cases:
    """Bring the three tables together.

    predictions: findings.csv of a screening run, or any table with patient_id, malignancy_probability and, as far as
        they are known, study_uid, finding, accession_number, study_date; rows without a probability are counted.
    outcomes: patient_id, outcome (0 or 1; empty is not known), and study_uid or finding where an outcome is one exam's
        or one finding's. Where the outcomes do not tell findings apart, a person's (or exam's) most suspicious finding
        stands for all.

    Errors: those of tables, `predictions-duplicate` where an outcome stands twice, `training-data-invalid` where
    nothing is left.
    """
    said, known = read_table_file(predictions), read_table_file(outcomes)
    keys = [name for name in ("patient_id", "study_uid", "finding") if known.place((name,)) is not None]
    known.text(("patient_id",))
    truth = _outcomes(known, keys)
    network = _probabilities(said)
    chosen = _most_suspicious(_keys(said, keys), network)
    used = {key: row for key, row in chosen.items() if truth.get(key) is not None}
    if not used:
        raise InputError("training-data-invalid", "no prediction has an outcome: do patient_id and study_uid agree?")
    rows = list(used.values())
    people, unmatched = _people(said, rows, clinical)
    columns = (LOGIT, *person_terms(None))
    values = np.column_stack([[*map(logit, network[rows])], [[*person_terms(who).values()] for who in people]])
    left_out = {
        "rows without a probability": int(np.isnan(network).sum()),
        "predictions without an outcome": len(chosen) - len(used),
        "outcomes without a prediction": len(truth.keys() - chosen.keys()),
        "cases without a row of patient data, or with several that differ": unmatched,
    }
    return Cases(
        labels=np.array([truth[key] for key in used], dtype=bool),
        network=network[rows],
        columns=columns,
        values=values,
        patients=tuple(key[0] for key in used),
        unit="finding" if "finding" in keys else "exam",
        notices=(*said.notices, *known.notices, *_left_out_notice(left_out)),
    )


def _outcomes(table: Table, keys: Sequence[str]) -> dict[tuple[str, ...], bool | None]:
    found: dict[tuple[str, ...], bool | None] = {}
    cells = table.text(("outcome",))
    for number, (key, cell) in enumerate(zip(_keys(table, keys), cells, strict=True)):
        if cell not in ("0", "1", ""):
            raise InputError("table-value-invalid", "expected 0, 1 or nothing in column outcome", table.row(number))
        if key in found:
            raise InputError("predictions-duplicate", "an outcome stands twice", table.row(number))
        found[key] = cell == "1" if cell else None
    return found


def _keys(table: Table, names: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(table.text((name,)) for name in names), strict=True))


def _most_suspicious(keys: Sequence[tuple[str, ...]], network: Floats) -> dict[tuple[str, ...], int]:
    """Of the rows of each key, the one with the highest probability; rows without one are passed over."""
    chosen: dict[tuple[str, ...], int] = {}
    for row, key in enumerate(keys):
        if np.isnan(network[row]):
            continue
        if key not in chosen or network[row] > network[chosen[key]]:
            chosen[key] = row
    return chosen


def _people(table: Table, rows: Sequence[int], clinical: ClinicalTable) -> tuple[list[ClinicalData | None], int]:
    """What is known of each row's person, and for how many nothing is."""
    ids = table.text(("patient_id",))
    accessions, dates = (
        table.text((name,)) if table.place((name,)) is not None else ("",) * len(ids)
        for name in ("accession_number", "study_date")
    )
    people = [_person(clinical, ids[row], accessions[row], dates[row]) for row in rows]
    return people, sum(person is None for person in people)


def _person(clinical: ClinicalTable, patient_id: str, accession: str, day: str) -> ClinicalData | None:
    """The row that is meant, by as much as is known of the exam; none where several are left that differ."""
    found = list(clinical.rows.get(patient_id, ()))
    for mine, theirs in ((accession, "accession_number"), (day.replace("-", ""), "study_date")):
        if mine:
            found = [row for row in found if getattr(row, theirs) in ("", mine)]
            found = [row for row in found if getattr(row, theirs) == mine] or found
    return found[0].data if found and _are_alike(found) else None


def _probabilities(said: Table) -> Floats:
    """The network's, NaN where a row has none."""
    network = said.numbers(("malignancy_probability", "probability"), gaps=True)
    if (network < 0).any() or (network > 1).any():
        raise InputError("table-value-invalid", "expected probabilities from 0 to 1", said.where)
    return network


def _are_alike(rows: Sequence[ClinicalRow]) -> bool:
    return all(row.data == rows[0].data for row in rows)


def _left_out_notice(counts: Mapping[str, int]) -> tuple[Notice, ...]:
    """How many of what were left out, if any were."""
    text = "; ".join(f"{count} {what}" for what, count in counts.items() if count)
    return (Notice("fusion-cases", f"{text}."),) if text else ()
