"""Series ─► Volume: int16 HU with exact LPS geometry, in canonical orientation; or a refusal with a code.

read headers' places ─► plan the stack ─► decode ─► plan again without what failed ─► straighten, fill ─► canonical
"""

from __future__ import annotations

from lungscreen.records import Series, Volume
from lungscreen.sources import source_fingerprint
from lungscreen.volume.config import VolumeConfig
from lungscreen.volume.dicom import build_from_dicom
from lungscreen.volume.images import build_from_image

__all__ = ["VolumeConfig", "build_volume", "source_fingerprint"]


def build_volume(series: Series, config: VolumeConfig | None = None) -> Volume:
    """Read a series' pixels and check that they make a volume that can be trusted.

    The volume's notices are the series' own and those of reading it; its `refused` are files and parts left out.

    Errors: VolumeError or InputError with the codes under "volume" in `lungscreen/codes.py`, `file-unreadable`,
    `dicom-damaged`, `rescale-missing`, `rescale-invalid`, `position-invalid`, `not-axial`, `same-uid-other-pixels`.
    """
    build = build_from_image if series.kind == "image" else build_from_dicom
    return build(series, config or VolumeConfig())
