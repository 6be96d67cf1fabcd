"""CSV or JSON of patient data → ClinicalTable; ClinicalTable + Patient + Exam → ClinicalData.

The file is foreign: bounded in size, nothing in it is run, and what is not understood counts as not known, and is said.
Texts of notices name rows and columns, never values: they may reach a log.
"""

from __future__ import annotations

from lungscreen.clinical.matching import match_clinical
from lungscreen.clinical.table import COLUMNS, ClinicalRow, ClinicalTable, read_clinical
from lungscreen.clinical.values import RACES

__all__ = ["COLUMNS", "RACES", "ClinicalRow", "ClinicalTable", "match_clinical", "read_clinical"]
