"""Report ─► report.json, report.html, masks; and the tables over all studies.

build_report   Study, Reading, Conclusion ─► Report
write_report   Report ─► studies/<key>/, replaced only when the new results are whole
write_tables   studies/*/ and refusals ─► worklist, findings.csv, candidates.csv, refused.csv
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from lungscreen.files import clean_leftovers, replace_folder
from lungscreen.records import Report
from lungscreen.report.assemble import CATEGORY_ORDER, build_report, rank_findings, study_key
from lungscreen.report.document import (
    ATTRIBUTES_MEANING,
    MALIGNANCY_MEANING,
    SCHEMA_VERSION,
    finding_document,
    report_document,
    report_json,
    report_schema,
)
from lungscreen.report.masks import finding_labels, finding_position, nifti_bytes
from lungscreen.report.page import report_page
from lungscreen.report.pictures import PictureConfig
from lungscreen.report.tables import (
    CANDIDATE_COLUMNS,
    FINDING_COLUMNS,
    REFUSED_COLUMNS,
    WORKLIST_COLUMNS,
    StudyRows,
    candidates_csv,
    findings_csv,
    refused_csv,
    write_tables,
)
from lungscreen.results.validated import check_acquisition

__all__ = [
    "ATTRIBUTES_MEANING",
    "CANDIDATE_COLUMNS",
    "CATEGORY_ORDER",
    "FINDING_COLUMNS",
    "MALIGNANCY_MEANING",
    "REFUSED_COLUMNS",
    "SCHEMA_VERSION",
    "WORKLIST_COLUMNS",
    "PictureConfig",
    "StudyRows",
    "build_report",
    "candidates_csv",
    "check_acquisition",
    "clean_leftovers",
    "finding_document",
    "finding_position",
    "findings_csv",
    "rank_findings",
    "refused_csv",
    "report_document",
    "report_schema",
    "study_key",
    "write_report",
    "write_tables",
]


def write_report(report: Report, out: Path, save_masks: bool = False, config: PictureConfig | None = None) -> Path:
    """Write a study's results to `out/studies/<key>/`, in place of earlier ones once they are whole. Returns the folder.

    report.json, report.html, candidates.csv; with `save_masks` lungs.nii.gz (1 right, 2 left lung) and findings.nii.gz
    (label = the finding's number) on the grid of the series that was read. Where that folder holds another patient's
    study of the same UID (a copy under another name), both stay: this one gets a key of its own.

    Errors: `output-failed`, `internal-error`; earlier results are whole then.
    """
    report = _with_own_key(report, out)
    target = out / "studies" / report.key
    with replace_folder(target) as folder:
        (folder / "report.json").write_text(report_json(report), encoding="utf-8")
        (folder / "report.html").write_text(report_page(report, config or PictureConfig()), encoding="utf-8")
        verdicts = dict(zip(report.candidates, report.verdicts, strict=True)) if report.verdicts else None
        candidates = candidates_csv([(report.volume.series_uid, report.candidates)], verdicts)
        (folder / "candidates.csv").write_text(candidates, encoding="utf-8")
        if save_masks:
            (folder / "lungs.nii.gz").write_bytes(nifti_bytes(report.lungs.mask, report.volume))
            (folder / "findings.nii.gz").write_bytes(nifti_bytes(finding_labels(report), report.volume))
    return target


def _with_own_key(report: Report, out: Path) -> Report:
    """The report, its key changed where that names the results of somebody else."""
    mine = report_document(report)["patient"]
    try:
        there = json.loads((out / "studies" / report.key / "report.json").read_text(encoding="utf-8"))["patient"]
        other = (there["patient_id"], there["name"]) != (mine["patient_id"], mine["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return report
    whose = "\n".join((report.study.exam.study_uid, str(mine["patient_id"]), str(mine["name"])))
    return dataclasses.replace(report, key=study_key(whose)) if other else report
