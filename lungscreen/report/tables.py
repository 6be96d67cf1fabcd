"""The tables over all studies: written anew from `studies/*/` and this run's refusals.

The studies' folders are the source, so a run that adds to an `--out`, or resumes in it, keeps what is there.
Columns are only ever added at the end.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lungscreen.errors import Refusal
from lungscreen.files import replace_file
from lungscreen.records import Candidate
from lungscreen.report.assemble import category_rank
from lungscreen.results.text import csv_cell

__all__ = [
    "CANDIDATE_COLUMNS",
    "FINDING_COLUMNS",
    "REFUSED_COLUMNS",
    "WORKLIST_COLUMNS",
    "StudyRows",
    "WorklistRow",
    "candidates_csv",
    "findings_csv",
    "refused_csv",
    "write_tables",
]

WORKLIST_COLUMNS = (
    "rank", "patient_id", "study_uid", "status", "code", "category", "top_probability", "findings", "report",
)  # fmt: skip
FINDING_COLUMNS = (
    "patient_id", "study_uid", "series_uid", "finding", "x_mm", "y_mm", "z_mm", "long_axis_mm", "short_axis_mm",
    "mean_diameter_mm", "volume_mm3", "type", "detection_score", "malignancy_probability", "category",
    "growth_state", "growth_days", "diameter_change_mm", "volume_change_percent", "doubling_days",
    "doubling_shortest_days", "doubling_longest_days", "prior_date",
    "estimated_sphericity", "estimated_margin", "estimated_lobulation", "estimated_spiculation", "estimated_texture",
    "estimated_calcified", "side", "zone", "estimated_lobe", "pleura_mm", "nodule_probability", "second_look",
    "brock_1a", "brock_1b", "brock_2a", "brock_2b", "mayo", "notices",
    "estimated_perifissural", "fissure_mm",
    "effective_diameter_mm", "max_transverse_mm", "volume_sd_mm3", "solid_mean_diameter_mm", "solid_volume_mm3",
    "mean_hu", "min_hu", "max_hu", "mass_mg", "category_clause",
)  # fmt: skip
RISK_COLUMNS = ("brock_1a", "brock_1b", "brock_2a", "brock_2b", "mayo")
"""Of findings.csv: the model's name in report.json up to a bracket, in lower case."""
CANDIDATE_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "probability", "verdict")
"""LUNA16's format, and what became of each."""
REFUSED_COLUMNS = ("path_or_uid", "code", "reason", "scope", "patient_id", "study_uid")

FAILED_CODES = frozenset(
    {"internal-error", "output-failed", "time-limit", "worker-died", "out-of-memory", "interrupted"}
)
"""Codes that are not the input's fault: the study's status is "failed", not "refused"."""

_LONGEST = 2000
"""Characters of a path or reason in refused.csv."""


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """One study in the worklist; None where there is no value."""

    patient_id: str
    study_uid: str
    status: str
    """done, refused or failed."""
    code: str = ""
    category: str = ""
    top_probability: float | None = None
    top_score: float = -math.inf
    findings: int | None = None
    report: str = ""
    """Path to report.html, relative to `--out`."""
    name: str = ""
    date: str = ""
    accession_number: str = ""
    notices: tuple[str, ...] = ()
    """Codes."""

    @property
    def order(self) -> tuple[Any, ...]:
        """Refused and failed first; then category, malignancy probability, detection score."""
        probability = -1.0 if self.top_probability is None else self.top_probability
        return (
            self.status == "done", category_rank(self.category), -probability, -self.top_score,
            self.patient_id, self.study_uid,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class StudyRows:
    """What the tables need of one report.json. stamp: of that file, so that it need not be read again."""

    stamp: tuple[int, int, int]
    row: WorklistRow
    findings: str
    """Its rows of findings.csv."""
    refusals: tuple[Refusal, ...]


def write_tables(
    out: Path,
    refusals: Sequence[Refusal] = (),
    *,
    screened: Collection[str] = (),
    inputs: Collection[str] = (),
    known: dict[str, StudyRows] | None = None,
) -> None:
    """(Re)write worklist.csv, worklist.html, findings.csv, candidates.csv, refused.csv and refused.json.

    refusals: what this run did not read. Those of earlier runs stay until a later run looks at the same thing.
    screened: study UIDs that this run took up, whatever came of it.
    inputs: paths that this run was given; earlier refusals of files under them are dropped.
    known: studies by key as the last call left them, brought up to date here; reports that have not changed since are
    not read again.

    Reports are read one at a time: with ten thousand studies only their rows are in memory.

    Errors: `output-failed`.
    """
    from lungscreen.report.worklist import worklist_page

    studies = {} if known is None else known
    broken = _read_studies(out, studies)
    of_studies = [refusal for study in studies.values() for refusal in study.refusals]
    uids = frozenset(screened)
    kept = [r for r in _read_refused(out) if not _looked_at_again(r, uids, inputs)]
    # What a report tells is told there: kept twice, it would outlive the report.
    told = {(refusal.where, refusal.code) for refusal in of_studies}
    current = [
        r for r in dict.fromkeys((*refusals, *broken, *kept)) if r.scope == "study" or (r.where, r.code) not in told
    ]
    rows = _worklist([study.row for study in studies.values()], current)
    everything = [*current, *dict.fromkeys(of_studies)]
    found = {study.row.report: study.findings for study in studies.values()}
    replace_file(out / "findings.csv", (_csv([FINDING_COLUMNS]), *(found.get(row.report, "") for row in rows)))
    replace_file(out / "candidates.csv", _join_candidates(out, rows))
    replace_file(out / "refused.csv", refused_csv(everything))
    replace_file(out / "refused.json", json.dumps([asdict(r) for r in current], indent=1) + "\n")
    replace_file(
        out / "worklist.csv", _csv([WORKLIST_COLUMNS, *(_worklist_cells(n, r) for n, r in enumerate(rows, 1))])
    )
    replace_file(out / "worklist.html", worklist_page(rows, everything))


def candidates_csv(
    found: Iterable[tuple[str, Sequence[Candidate]]], verdicts: Mapping[Candidate, str] | None = None
) -> str:
    """Candidates of one or more series, (UID, candidates) each, in LUNA16's format, a series' highest score first.

    Scores keep nine significant digits. verdicts: what became of a candidate; the cell is empty where nothing is said.
    """
    known = verdicts or {}
    rows = (
        (csv_cell(uid), *(f"{c:.4f}" for c in one.centre_mm), f"{one.score:.9g}", known.get(one, ""))
        for uid, candidates in found
        for one in sorted(candidates, key=lambda candidate: -candidate.score)
    )
    return _csv([CANDIDATE_COLUMNS, *rows])


def findings_csv(found: Iterable[tuple[tuple[str, str, str], str, dict[str, Any]]]) -> str:
    """Findings, ((patient ID, study UID, series UID), name, `finding_document`) each, in the order given."""
    return _csv([FINDING_COLUMNS, *(_one_finding(*one) for one in found)])


def refused_csv(refusals: Iterable[Refusal]) -> str:
    """The table of what was not read, or not whole."""
    return _csv([REFUSED_COLUMNS, *map(_refused_cells, refusals)])


# -- reading what is there -------------------------------------------------------------------------------------------
def _read_studies(out: Path, known: dict[str, StudyRows]) -> list[Refusal]:
    """Bring `known` up to date with every study's report.json; a refusal for each that cannot be read."""
    there, broken = {}, []
    for path in sorted(out.glob("studies/[!.]*/report.json")):
        key = path.parent.name
        try:
            status = path.stat()
            stamp = status.st_ino, status.st_size, status.st_mtime_ns
            study = known.get(key)
            there[key] = study if study and study.stamp == stamp else _read_study(path, stamp)
        except (OSError, ValueError, KeyError, TypeError):
            where = path.relative_to(out).as_posix()
            broken.append(
                Refusal(where, "output-failed", "These results cannot be read; screen the study again.", "file")
            )
    known.clear()
    known.update(there)
    return broken


def _read_study(path: Path, stamp: tuple[int, int, int]) -> StudyRows:
    document = json.loads(path.read_text(encoding="utf-8"))
    if document["key"] != path.parent.name:
        raise ValueError("key")
    findings = _csv(_finding_cells(document))
    return StudyRows(stamp, _done_row(path.parent.name, document), findings, tuple(_document_refusals(document)))


def _read_refused(out: Path) -> list[Refusal]:
    """The refusals that earlier runs left; a damaged list is no reason to lose this run's."""
    try:
        return [Refusal(**row) for row in json.loads((out / "refused.json").read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, AssertionError):
        return []


def _looked_at_again(refusal: Refusal, screened: Collection[str], inputs: Collection[str]) -> bool:
    if refusal.study_uid and refusal.study_uid in screened:
        return True
    return any(refusal.where == path or refusal.where.startswith((f"{path}/", f"{path}!")) for path in inputs)


# -- rows ------------------------------------------------------------------------------------------------------------
def _worklist(done: Iterable[WorklistRow], refusals: Iterable[Refusal]) -> list[WorklistRow]:
    """A row for each refused study and for each report, as they rank.

    A study that was refused now, but read by an earlier run, has both: its earlier result keeps its rank.
    """
    refused = {
        (uid, r.patient_id): WorklistRow(r.patient_id, uid, "failed" if r.code in FAILED_CODES else "refused", r.code)
        for r in refusals
        if r.scope == "study"
        for uid in (r.study_uid or r.where,)
    }
    return sorted((*refused.values(), *done), key=lambda row: row.order)


def _done_row(key: str, document: dict[str, Any]) -> WorklistRow:
    findings = document["findings"]
    probabilities = [f["malignancy"]["probability"] for f in findings if f["malignancy"]]
    patient, exam = document["patient"], document["exam"]
    return WorklistRow(
        patient_id=patient["patient_id"] or "",
        study_uid=exam["study_uid"],
        status="done",
        category=document["category"],
        top_probability=max(probabilities, default=None),
        top_score=max((f["detection_score"] for f in findings), default=-math.inf),
        findings=len(findings),
        report=f"studies/{key}/report.html",
        name=patient.get("name") or "",
        date=exam.get("date") or "",
        accession_number=exam.get("accession_number") or "",
        notices=tuple(notice["code"] for notice in document.get("notices", ())),
    )


def _worklist_cells(rank: int, row: WorklistRow) -> tuple[Any, ...]:
    return (
        rank, csv_cell(row.patient_id), csv_cell(row.study_uid), row.status, row.code, row.category,
        _cell(row.top_probability), _cell(row.findings), row.report,
    )  # fmt: skip


def _finding_cells(document: dict[str, Any]) -> Iterable[tuple[Any, ...]]:
    whose = document["patient"]["patient_id"] or "", document["exam"]["study_uid"], document["series"]["series_uid"]
    for finding in document["findings"]:
        yield _one_finding(whose, finding["number"], finding)


def _one_finding(whose: tuple[str, str, str], name: int | str, finding: dict[str, Any]) -> tuple[Any, ...]:
    """A row of findings.csv. whose: patient, study and series; name: the finding's number, or what a reader called it."""
    measured, malignancy = finding["measurement"] or {}, finding["malignancy"] or {}
    return (
        *map(csv_cell, whose), name if isinstance(name, int) else csv_cell(name), *finding["position_mm"],
        *(_cell(measured.get(n)) for n in ("long_axis_mm", "short_axis_mm", "mean_diameter_mm", "volume_mm3")),
        finding["type"], _cell(finding["detection_score"]), _cell(malignancy.get("probability")),
        csv_cell(finding["category"] or ""), *_growth_cells(finding.get("change") or {}), *_look_cells(finding),
        *_risk_cells(finding), " ".join(dict.fromkeys(notice["code"] for notice in finding.get("notices", ()))),
        *_fissure_cells(finding.get("location") or {}), *_size_cells(finding["type"], measured),
        csv_cell(finding.get("category_clause") or ""),
    )  # fmt: skip


def _growth_cells(change: dict[str, Any]) -> tuple[Any, ...]:
    """Change against the last exam that shows it; empty where none was compared."""
    exams = change.get("exams") or [{}]
    numbers = (
        "days", "diameter_change_mm", "volume_change_percent", "doubling_days", "doubling_shortest_days",
        "doubling_longest_days",
    )  # fmt: skip
    return change.get("state", ""), *(_cell(change.get(n)) for n in numbers), exams[-1].get("date") or ""


def _look_cells(finding: dict[str, Any]) -> tuple[Any, ...]:
    """What it looks like, where it lies, and whether it is a nodule at all; reports of earlier versions have none."""
    attributes, location = finding.get("attributes") or {}, finding.get("location") or {}
    names = ("sphericity", "margin", "lobulation", "spiculation", "texture", "calcified")
    return (
        *(_cell(attributes.get(n)) for n in names), location.get("side", ""), location.get("zone", ""),
        csv_cell(location.get("lobe") or ""), _cell(location.get("pleura_mm")),
        _cell(finding.get("nodule_probability")), finding.get("second_look") or "",
    )  # fmt: skip


def _fissure_cells(location: dict[str, Any]) -> tuple[str, str]:
    """Whether a fissure touches it, yes, no or empty; and the distance to one."""
    touches = location.get("perifissural")
    return "" if touches is None else "yes" if touches else "no", _cell(location.get("fissure_mm"))


def _size_cells(kind: str, measured: Mapping[str, Any]) -> tuple[str, ...]:
    """The rest of what was measured; a solid part is a part-solid nodule's only."""
    solid = measured if kind == "part-solid" else {}
    return (
        *(_cell(measured.get(n)) for n in ("effective_diameter_mm", "max_transverse_mm", "volume_sd_mm3")),
        *(_cell(solid.get(n)) for n in ("solid_mean_diameter_mm", "solid_volume_mm3")),
        *(_cell(measured.get(n)) for n in ("mean_hu", "min_hu", "max_hu", "mass_mg")),
    )  # fmt: skip


def _risk_cells(finding: dict[str, Any]) -> tuple[str, ...]:
    """Probabilities of the published models; empty where one was not assessed."""
    told = {
        risk["model"].split(" (")[0].lower().replace(" ", "_"): risk["probability"] for risk in finding.get("risks", ())
    }
    return tuple(_cell(told.get(name)) for name in RISK_COLUMNS)


def _document_refusals(document: dict[str, Any]) -> Iterable[Refusal]:
    patient, uid = document["patient"]["patient_id"] or "", document["exam"]["study_uid"]
    for row in document["not_read"]:
        yield Refusal(row["where"], row["code"], row["reason"], row["scope"], uid, patient)


def _refused_cells(refusal: Refusal) -> tuple[Any, ...]:
    return (
        csv_cell(refusal.where, _LONGEST), refusal.code, csv_cell(refusal.reason, _LONGEST), refusal.scope,
        csv_cell(refusal.patient_id), csv_cell(refusal.study_uid),
    )  # fmt: skip


def _join_candidates(out: Path, rows: Iterable[WorklistRow]) -> Iterator[str]:
    """Every study's candidates under one header, in the worklist's order, study by study."""
    yield _csv([CANDIDATE_COLUMNS])
    for row in rows:
        path = out / row.report.replace("report.html", "candidates.csv")
        if row.report and path.is_file():
            yield _candidate_rows(path.read_text(encoding="utf-8"))


def _candidate_rows(text: str) -> str:
    """The rows of one study's table; those of an earlier version have no verdict, and get an empty one."""
    head, _, rows = text.partition("\n")
    missing = len(CANDIDATE_COLUMNS) - 1 - head.count(",")
    return rows.replace("\n", "," * missing + "\n") if missing > 0 else rows


def _cell(value: float | int | None) -> str:
    return "" if value is None else repr(value)


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
