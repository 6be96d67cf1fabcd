"""candidates.csv: every candidate down to a low score, in LUNA16's format, and what was decided of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lungscreen.outputs.interface import NamedFile
from lungscreen.records import Candidate
from lungscreen.results.columns import csv_text
from lungscreen.results.finished import Finished
from lungscreen.results.text import csv_cell

__all__ = ["CANDIDATE_COLUMNS", "CandidatesTable", "candidates_csv"]

CANDIDATE_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "probability", "verdict")
"""LUNA16's format, and the verdict on each."""


class CandidatesTable:
    """candidates.csv of one study."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """One table."""
        verdicts = dict(zip(finished.candidates, finished.verdicts, strict=True)) if finished.verdicts else None
        table = candidates_csv([(finished.volume.series_uid, finished.candidates)], verdicts)
        yield NamedFile("candidates.csv", table)


def candidates_csv(
    found: Iterable[tuple[str, Sequence[Candidate]]], verdicts: Mapping[Candidate, str] | None = None
) -> str:
    """Candidates of one or more series, (UID, candidates) each, in LUNA16's format, a series' highest score first.

    Scores keep nine significant digits.
    verdicts: on each candidate; the cell is empty where nothing is said.
    """
    known = verdicts or {}
    rows = (
        (csv_cell(uid), *(f"{c:.4f}" for c in one.centre_mm), f"{one.score:.9g}", known.get(one, ""))
        for uid, candidates in found
        for one in sorted(candidates, key=lambda candidate: -candidate.score)
    )
    return csv_text([CANDIDATE_COLUMNS, *rows])
