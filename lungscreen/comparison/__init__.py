"""An exam against earlier ones: which exams they are, and what became of each nodule.

read_priors     folder, inventory ─► PriorTable: earlier studies and earlier reports
match_priors    PriorTable, Study ─► the patient's earlier exams, the latest first, and what is to be said of the others
compare_exams   Reading, priors ─► Comparison: each finding with its change, lost nodules, notices
"""

from lungscreen.comparison.compare import Comparison, Reading, Tools, compare_exams, earlier_exams
from lungscreen.comparison.find import Prior, PriorTable, exam_day, match_priors, read_priors, unmatched_priors
from lungscreen.comparison.reports import EarlierReport, read_report

__all__ = [
    "Comparison",
    "EarlierReport",
    "Prior",
    "PriorTable",
    "Reading",
    "Tools",
    "compare_exams",
    "earlier_exams",
    "exam_day",
    "match_priors",
    "read_priors",
    "read_report",
    "unmatched_priors",
]
