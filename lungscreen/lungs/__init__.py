"""Volume ─► Lungs: right and left lung on the volume's grid."""

from lungscreen.lungs.stage import LungsConfig, segment_lungs

__all__ = ["LungsConfig", "segment_lungs"]
