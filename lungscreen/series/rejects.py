"""What was not read, gathered so that nothing is lost and a thousand like files do not make a thousand rows."""

from __future__ import annotations

from collections import defaultdict

from lungscreen.dicomfile import LONGEST_WHERE, plain_value
from lungscreen.errors import Refusal

__all__ = ["ROWS_PER_CODE", "Rejects"]

ROWS_PER_CODE = 10
"""Files of one place with one code that get a row each; more become one row with their number and the first names."""

QUIET_CODES = frozenset({"not-dicom"})
"""Codes that always become one row."""

NAMES_SHOWN = 3
"""Names in a row that stands for many files."""


class Rejects:
    """Files that were not read, by place (an input, a series) and code."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)

    def add(self, place: str, where: str, code: str, reason: str) -> None:
        """`place` names what the rows are summed over."""
        self._found[place, code].append((where, reason))

    def __bool__(self) -> bool:
        return bool(self._found)

    def count(self, place: str) -> int:
        """Files of a place that were not read."""
        return sum(len(files) for (at, _), files in self._found.items() if at == place)

    def codes(self, place: str) -> list[str]:
        """Codes of a place, the most frequent first."""
        found = [(len(files), code) for (at, code), files in self._found.items() if at == place]
        return [code for _, code in sorted(found, key=lambda row: (-row[0], row[1]))]

    def rows(self, place: str, study_uid: str = "", patient_id: str = "") -> tuple[Refusal, ...]:
        """Rows of one place."""
        rows: list[Refusal] = []
        for (at, code), files in self._found.items():
            if at != place:
                continue
            few = len(files) <= ROWS_PER_CODE and (code not in QUIET_CODES or len(files) == 1)
            listed = files if few else [(at, _sum_up(files))]
            rows += [
                Refusal(plain_value(where, LONGEST_WHERE), code, reason, "file", study_uid, patient_id)
                for where, reason in listed
            ]
        return tuple(rows)

    def places(self) -> list[str]:
        """All places, in the order of their first file."""
        return list(dict.fromkeys(place for place, _ in self._found))


def _sum_up(files: list[tuple[str, str]]) -> str:
    names = ", ".join(plain_value(where.rsplit("/", 1)[-1]) for where, _ in files[:NAMES_SHOWN])
    return f"{files[0][1]}: {len(files)} files ({names}{', ...' if len(files) > NAMES_SHOWN else ''})"
