"""Volume ─► Lungs: right and left lung on the volume's grid."""

from lungscreen.lungs.mask import LungMask
from lungscreen.lungs.stage import LungsConfig, LungSegmenter, segment_lungs

__all__ = ["LungMask", "LungSegmenter", "LungsConfig", "segment_lungs"]
