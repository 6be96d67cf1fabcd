"""Patients ─► train, validation, test: no patient is ever on two sides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lungscreen.errors import InputError
from lungscreen.evaluation.tables import SERIES_COLUMNS, read_table_file

__all__ = ["SPLITS", "SplitConfig", "assign_split", "check_disjoint", "patient_key", "read_column"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitConfig:
    """Shares of patients. Each patient's side depends on the seed and on that patient alone: more data move nobody."""

    seed: int = 0
    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test <= 1):
            raise ValueError("validation and test: expected shares from 0 that sum to at most 1")


def patient_key(patient: str, series_uid: str) -> str:
    """12 hex digits for a patient, or for the scan where the patient is not known."""
    text = f"patient {patient}" if patient else f"series {series_uid}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def assign_split(key: str, config: SplitConfig) -> str:
    """The side of a patient."""
    place = int(hashlib.sha256(f"{config.seed} {key}".encode()).hexdigest()[:12], 16) / 16**12
    if place < config.test:
        return "test"
    return "validation" if place < config.test + config.validation else "train"


def check_disjoint(rows: Sequence[tuple[str, str]]) -> None:
    """Refuse a division that has one patient on two sides; `rows` are (patient key, split).

    Errors: `split-leaks`.
    """
    side: dict[str, str] = {}
    for patient, split in rows:
        if side.setdefault(patient, split) != split:
            raise InputError("split-leaks", f"patient {patient} is in {side[patient]} and in {split}")


def read_column(path: Path, column: str, allowed: Sequence[str] = ()) -> Mapping[str, str]:
    """Series UID → the cell of a column, from a table with a series column.

    Errors: as `lungscreen.evaluation.read_marks`, `series-duplicate`.
    """
    table = read_table_file(path)
    uids, cells = table.text(SERIES_COLUMNS), table.text((column,))
    if len(set(uids)) != len(uids):
        raise InputError("series-duplicate", "a series has two rows", str(path))
    for uid, cell in zip(uids, cells, strict=True):
        if allowed and cell not in allowed:
            raise InputError(
                "table-value-invalid", f"expected one of {', '.join(allowed)}, got {cell[:40]!r}", uid[:80]
            )
    return dict(zip(uids, cells, strict=True))
