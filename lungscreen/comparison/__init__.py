"""An exam against earlier ones: which exams they are, and how each nodule changed.

read_priors       folder, inventory ─► PriorTable: earlier studies and earlier reports
match_priors      PriorTable, Study ─► the patient's earlier exams, the latest first, and notices about the others
align_exams       Volume, Lungs × 2 ─► Alignment: where a place of this exam lay in the earlier one, and back
pair_exams        Reading × 2, Alignment ─► Pairing: pairs of nodules, and marks still to be measured in either exam
compare_images    Pairing, those marks measured ─► Comparison: findings with their changes, lost nodules, notices
add_earlier_views findings, earlier Volume, Alignment ─► findings with the earlier exam's slice at their place
compare_by_report findings, earlier report ─► Comparison by sizes alone
"""

from lungscreen.comparison.again import Sighting, look_again
from lungscreen.comparison.align import Alignment, align_exams
from lungscreen.comparison.compare import Between, Comparison, compare_by_report, compare_images
from lungscreen.comparison.config import ComparisonConfig
from lungscreen.comparison.earlier import earlier_exams
from lungscreen.comparison.match import Matches, NodulePlace, Pair, match_by_size, match_nodules
from lungscreen.comparison.pairing import Pairing, Sought, pair_exams
from lungscreen.comparison.priors import (
    Prior,
    PriorTable,
    contradictions,
    match_priors,
    names_somebody,
    read_priors,
)
from lungscreen.comparison.reports import EarlierReport, read_report
from lungscreen.comparison.views import add_earlier_views

__all__ = [
    "Alignment",
    "Between",
    "Comparison",
    "ComparisonConfig",
    "EarlierReport",
    "Matches",
    "NodulePlace",
    "Pair",
    "Pairing",
    "Prior",
    "PriorTable",
    "Sighting",
    "Sought",
    "add_earlier_views",
    "align_exams",
    "compare_by_report",
    "compare_images",
    "contradictions",
    "earlier_exams",
    "look_again",
    "match_by_size",
    "match_nodules",
    "match_priors",
    "names_somebody",
    "pair_exams",
    "read_priors",
    "read_report",
]
