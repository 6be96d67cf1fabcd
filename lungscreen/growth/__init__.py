"""Two exams of one patient → which nodule of one is which of the other.

align_exams     Volume, Lungs × 2 ─► Alignment: where a place of this exam lay in the earlier one, and back
match_nodules   places × 2, Alignment ─► Matches: pairs, and what only one exam shows
look_again      Volume, place × 2 ─► Sighting: the same thing at the corresponding place, or not
"""

from lungscreen.growth.again import Sighting, look_again
from lungscreen.growth.align import Alignment, align_exams
from lungscreen.growth.config import GrowthConfig
from lungscreen.growth.match import Matches, NodulePlace, Pair, match_by_size, match_nodules

__all__ = [
    "Alignment",
    "GrowthConfig",
    "Matches",
    "NodulePlace",
    "Pair",
    "Sighting",
    "align_exams",
    "look_again",
    "match_by_size",
    "match_nodules",
]
