"""Report ─► report.json, report.html, masks; and the tables over all studies.

build_report   study, volume, lungs, candidates, findings ─► Report
write_report   Report ─► studies/<key>/, replaced only when the new results are whole
write_tables   studies/*/ and refusals ─► worklist, findings.csv, candidates.csv, refused.csv
"""

from __future__ import annotations

from pathlib import Path

from lungscreen.records import Report
from lungscreen.report.assemble import CATEGORY_ORDER, NOT_ASSESSED, build_report, rank_findings, study_key
from lungscreen.report.document import (
    MALIGNANCY_MEANING,
    SCHEMA_VERSION,
    report_document,
    report_json,
    report_schema,
)
from lungscreen.report.files import clean_leftovers, replace_file, replace_folder
from lungscreen.report.masks import finding_labels, finding_position, nifti_bytes
from lungscreen.report.page import report_page
from lungscreen.report.pictures import PictureConfig
from lungscreen.report.tables import (
    CANDIDATE_COLUMNS,
    FINDING_COLUMNS,
    REFUSED_COLUMNS,
    WORKLIST_COLUMNS,
    candidates_csv,
    refused_csv,
    write_tables,
)
from lungscreen.report.validated import check_acquisition

__all__ = [
    "CANDIDATE_COLUMNS",
    "CATEGORY_ORDER",
    "FINDING_COLUMNS",
    "MALIGNANCY_MEANING",
    "NOT_ASSESSED",
    "REFUSED_COLUMNS",
    "SCHEMA_VERSION",
    "WORKLIST_COLUMNS",
    "PictureConfig",
    "build_report",
    "candidates_csv",
    "check_acquisition",
    "clean_leftovers",
    "finding_position",
    "rank_findings",
    "refused_csv",
    "replace_file",
    "report_document",
    "report_schema",
    "study_key",
    "write_report",
    "write_tables",
]


def write_report(report: Report, out: Path, save_masks: bool = False, config: PictureConfig | None = None) -> None:
    """Write a study's results to `out/studies/<key>/`, in place of earlier ones once they are whole.

    report.json, report.html, candidates.csv; with `save_masks` lungs.nii.gz (1 right, 2 left lung) and findings.nii.gz
    (label = the finding's number) on the grid of the series that was read.

    Errors: `output-failed`; earlier results are whole then.
    """
    with replace_folder(out / "studies" / report.key) as folder:
        (folder / "report.json").write_text(report_json(report), encoding="utf-8")
        (folder / "report.html").write_text(report_page(report, config or PictureConfig()), encoding="utf-8")
        (folder / "candidates.csv").write_text(
            candidates_csv([(report.volume.series_uid, report.candidates)]), encoding="utf-8"
        )
        if save_masks:
            (folder / "lungs.nii.gz").write_bytes(nifti_bytes(report.lungs.mask, report.volume))
            (folder / "findings.nii.gz").write_bytes(nifti_bytes(finding_labels(report), report.volume))
