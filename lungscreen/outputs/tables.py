"""The tables over all studies: written anew from the studies' reports and the store of refusals.

The studies' folders are the source, so a run that adds to an `--out`, or resumes in it, keeps what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lungscreen.errors import Refusal
from lungscreen.files import replace_file
from lungscreen.outputs.candidates import CANDIDATE_COLUMNS
from lungscreen.results.columns import (
    csv_text,
    finding_cells,
    finding_columns,
    owner_of,
    worklist_cells,
    worklist_columns,
)
from lungscreen.results.document import LONG_TEXT, WorklistRow
from lungscreen.results.folder import ResultsFolder, Stamp
from lungscreen.results.ranking import done_row, worklist_order
from lungscreen.results.text import csv_cell
from lungscreen.results.values import UnreadableError

__all__ = ["REFUSED_COLUMNS", "StudyRows", "findings_csv", "refused_csv", "write_tables"]

REFUSED_COLUMNS = ("path_or_uid", "code", "reason", "scope", "patient_id", "study_uid")

FAILED_CODES = frozenset(
    {"internal-error", "output-failed", "time-limit", "worker-died", "out-of-memory", "interrupted"}
)
"""Codes that are not the input's fault: the study's status is "failed", not "refused"."""


@dataclass(frozen=True, slots=True)
class StudyRows:
    """What the tables need of one report.

    stamp: of its file, so that it need not be read again.
    """

    stamp: Stamp
    row: WorklistRow
    findings: str
    """Its rows of findings.csv."""


def write_tables(
    folder: ResultsFolder, refusals: Sequence[Refusal] = (), *, known: dict[str, StudyRows] | None = None
) -> None:
    """(Re)write worklist.csv, worklist.html, findings.csv, candidates.csv and refused.csv.

    refusals: all that the folder's store holds.
    known: studies by key as the last call left them, brought up to date here; reports that have not changed since are
        not read again.

    Reports are read one at a time: with ten thousand studies only their rows are in memory.

    Errors: `output-failed`.
    """
    from lungscreen.outputs.page.worklist import worklist_page

    studies = {} if known is None else known
    broken = _read_studies(folder, studies)
    told = list(dict.fromkeys((*refusals, *broken)))
    ranked = sorted(_all_rows(studies, told), key=lambda one: worklist_order(one[1]))
    rows = [row for _, row in ranked]
    keys = [key for key, _ in ranked if key]
    out = folder.path
    replace_file(out / "findings.csv", (csv_text([finding_columns()]), *(studies[key].findings for key in keys)))
    replace_file(out / "candidates.csv", _join_candidates(folder, keys))
    replace_file(out / "refused.csv", refused_csv(told))
    replace_file(
        out / "worklist.csv", csv_text([worklist_columns(), *(worklist_cells(n, r) for n, r in enumerate(rows, 1))])
    )
    replace_file(out / "worklist.html", worklist_page(rows, told))


def findings_csv(rows: Iterable[Sequence[str]]) -> str:
    """Rows of findings (`finding_cells`), in the order given."""
    return csv_text([finding_columns(), *rows])


def refused_csv(refusals: Iterable[Refusal]) -> str:
    """The table of what was not read, or not whole."""
    return csv_text([REFUSED_COLUMNS, *map(_refused_cells, refusals)])


def _read_studies(folder: ResultsFolder, known: dict[str, StudyRows]) -> list[Refusal]:
    """Bring `known` up to date with every study's report; a refusal for each that cannot be read."""
    there, broken = {}, []
    for key in folder.study_keys():
        try:
            stamp = folder.stamp(key)
            study = known.get(key)
            there[key] = study if study and study.stamp == stamp else _read_study(folder, key, stamp)
        except (OSError, UnreadableError):
            where = folder.report(key).relative_to(folder.path).as_posix()
            broken.append(Refusal(where, "output-failed", "These results cannot be read; screen the study again."))
    known.clear()
    known.update(there)
    return broken


def _read_study(folder: ResultsFolder, key: str, stamp: Stamp) -> StudyRows:
    document = folder.read(key)
    owner = owner_of(document)
    findings = csv_text(finding_cells(owner, finding.number, finding) for finding in document.findings)
    return StudyRows(stamp, done_row(document, folder.link(key)), findings)


def _all_rows(studies: dict[str, StudyRows], refusals: Iterable[Refusal]) -> Iterator[tuple[str, WorklistRow]]:
    """A row for each report, with its key, and for each refused study, without.

    A study that was refused now, but read by an earlier run, has both: its earlier result keeps its rank.
    """
    refused = {(r.study_uid or r.where, r.patient_id): r for r in refusals if r.scope == "study"}
    for (uid, patient_id), refusal in refused.items():
        failed = refusal.code in FAILED_CODES
        yield (
            "",
            WorklistRow(
                patient_id=patient_id, study_uid=uid, status="failed" if failed else "refused", code=refusal.code
            ),
        )
    for key, study in studies.items():
        yield key, study.row


def _refused_cells(refusal: Refusal) -> tuple[str, ...]:
    return (
        csv_cell(refusal.where, LONG_TEXT), refusal.code, csv_cell(refusal.reason, LONG_TEXT), refusal.scope,
        csv_cell(refusal.patient_id), csv_cell(refusal.study_uid),
    )  # fmt: skip


def _join_candidates(folder: ResultsFolder, keys: Iterable[str]) -> Iterator[str]:
    """Every study's candidates under one header, in the worklist's order, study by study."""
    yield csv_text([CANDIDATE_COLUMNS])
    for key in keys:
        path = folder.study(key) / "candidates.csv"
        if path.is_file():
            yield _candidate_rows(path.read_text(encoding="utf-8"))


def _candidate_rows(text: str) -> str:
    """The rows of one study's table; those of an earlier version have no verdict, and get an empty one."""
    head, _, rows = text.partition("\n")
    missing = len(CANDIDATE_COLUMNS) - 1 - head.count(",")
    return rows.replace("\n", "," * missing + "\n") if missing > 0 else rows
