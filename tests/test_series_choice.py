"""The rule tables of the choice, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_factory import make_series
from pydicom.uid import generate_uid

from lungscreen.records import Acquisition, Exam, Patient, Series
from lungscreen.series import classify_kernel, find_series
from lungscreen.series.choice import EXCLUSIONS, PREFERENCES, Facts, choose_series, exclude_series


def facts(
    uid: str = "1",
    kernel: str = "STANDARD",
    thickness: float = 1.0,
    spacing: float = 1.0,
    slices: int = 300,
    coverage: float = 300.0,
    width: float = 350.0,
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL"),
) -> Facts:
    """A good series but for what is named."""
    acquisition = Acquisition(kernel=(kernel,), slice_thickness_mm=thickness, image_type=image_type)
    series = Series("dicom", uid, Patient("P"), Exam("S"), acquisition)
    return Facts(series, slices, spacing, coverage, width, 0.0, 0.0)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (facts(thickness=1.25, spacing=1.25), facts(thickness=2.5, spacing=2.5)),
        (facts(thickness=2.5, spacing=2.5), facts(thickness=3.0, spacing=3.0)),
        (facts(thickness=1.25, spacing=1.0), facts(thickness=2.5, spacing=1.0)),
        (facts(kernel="LUNG", thickness=1.25), facts(thickness=2.0)),
        (facts(kernel="B30f"), facts(kernel="B70f")),
        (facts(kernel="STANDARD"), facts(kernel="XYZ")),
        (facts(kernel="XYZ"), facts(kernel="BONE")),
        (facts(), facts(image_type=("DERIVED", "SECONDARY", "AXIAL"))),
        (facts(), facts(image_type=())),
        (facts(image_type=()), facts(image_type=("DERIVED", "PRIMARY"))),
        (facts(thickness=2.5, spacing=2.5), facts(coverage=120.0)),
        (facts(thickness=2.5, spacing=2.5), facts(width=180.0)),
        (facts(coverage=320.0), facts(coverage=300.0)),
        (facts(thickness=1.0), facts(thickness=1.4)),
        (facts(thickness=2.0), facts(image_type=("ORIGINAL", "PRIMARY", "AXIAL", "CTAC"))),
        (facts(width=380.0), facts(width=350.0)),
        (facts(slices=301), facts(slices=300)),
        (facts(uid="1"), facts(uid="2")),
    ],
    ids=[
        "thin", "medium before thick", "thickness, not spacing", "thin sharp before medium soft", "soft before sharp",
        "known before unknown kernel", "unknown before sharp", "original before derived", "original before unknown",
        "unknown before derived", "whole before part", "full before targeted field", "longer", "thinner of two thin",
        "diagnostic before attenuation",
        "wider", "more slices", "UID at last",
    ],
)  # fmt: skip
@pytest.mark.parametrize("swapped", [False, True])
def test_preferences(better: Facts, worse: Facts, swapped: bool) -> None:
    """The better one is first whatever the order, and the other's row says why."""
    ordered, rows = choose_series([worse, better] if swapped else [better, worse])
    assert ordered == [better, worse]
    assert [row.code for row in rows] == ["series-other-chosen"]
    assert rows[0].reason.endswith("was chosen")


def test_each_preference_decides_some_pair() -> None:
    """No row of the table is dead."""
    reasons = {why for why, _ in PREFERENCES}
    said = set()
    pairs = [
        (facts(), facts(coverage=100.0)),
        (facts(), facts(thickness=2.0)),
        (facts(), facts(kernel="BONE")),
        (facts(), facts(image_type=("DERIVED",))),
        (facts(), facts(coverage=280.0)),
        (facts(), facts(image_type=("ORIGINAL", "PRIMARY", "AXIAL", "CTAC"))),
        (facts(), facts(width=330.0)),
        (facts(), facts(slices=200)),
    ]
    for first, second in pairs:
        reason = choose_series([first, second])[1][0].reason
        said |= {why for why in reasons if why in reason}
    assert said == reasons


def test_nothing_to_choose_from() -> None:
    assert choose_series([]) == ([], [])


def test_a_good_series_is_not_excluded() -> None:
    assert exclude_series(facts()) is None
    assert exclude_series(facts(thickness=5.0, spacing=5.0)) is None


def test_every_exclusion_has_a_code() -> None:
    from lungscreen.codes import CODES

    assert {code for code, _ in EXCLUSIONS} <= set(CODES)


def test_overlapping_slices_count_by_their_thickness() -> None:
    """6 mm every 3 mm is too thick; 1 mm every 10 mm leaves most of the lung unseen."""
    assert exclude_series(facts(thickness=6.0, spacing=3.0)) == ("too-thick", "slices of 6.0 mm")
    assert exclude_series(facts(thickness=1.0, spacing=10.0)) == ("too-thick", "slices of 10.0 mm")


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("STANDARD", "standard"), ("SOFT", "soft"), ("LUNG", "sharp"), ("BONE", "sharp"), ("BONEPLUS", "sharp"),
        ("DETAIL", "standard"), ("EDGE", "sharp"), ("CHEST", "standard"), ("HD Standard", "standard"),
        ("B30f", "soft"), ("B31s", "soft"), ("B41f", "standard"), ("B45f", "standard"), ("B50f", "sharp"),
        ("B70f", "sharp"), ("B80s", "sharp"), ("I31f", "soft"), ("I70f", "sharp"), ("Br40d", "standard"),
        ("Br36", "soft"), ("Bl57d", "sharp"), ("Bl64", "sharp"), ("Qr44", "standard"), ("Bv49", "standard"),
        ("A", "soft"), ("B", "standard"), ("C", "standard"), ("L", "sharp"), ("YA", "sharp"), ("YB", "sharp"),
        ("D", "sharp"), ("E", "sharp"),
        ("FC01", "soft"), ("FC03", "standard"), ("FC08", "standard"), ("FC13", "standard"), ("FC30", "sharp"),
        ("FC51", "sharp"), ("FC52", "sharp"), ("FC86", "sharp"), ("FC21", "unknown"),
        ("B_SOFT_B", "soft"), ("", "unknown"), ("XYZ", "unknown"), ("13", "unknown"),
    ],
)  # fmt: skip
def test_kernels(kernel: str, kind: str) -> None:
    """GE, Siemens, Philips, Canon; what is not in the table is unknown."""
    assert classify_kernel((kernel,)) == kind
    assert classify_kernel((kernel, "3")) == kind


def test_no_kernel_is_unknown() -> None:
    assert classify_kernel(()) == "unknown"


def test_a_real_folder_is_ordered_and_the_rest_recorded(tmp_path: Path) -> None:
    """Thin soft, thin sharp, thick, a scout and an iodine map of one study, in one folder."""
    uid = generate_uid()
    hu = np.zeros((24, 16, 20), dtype=np.int16)
    make_series(tmp_path, hu[:12], step_mm=5.0, study_uid=uid, prefix="thick")
    make_series(tmp_path, hu, step_mm=2.5, study_uid=uid, prefix="sharp", tags={"ConvolutionKernel": "LUNG"})
    make_series(tmp_path, hu, step_mm=2.5, study_uid=uid, prefix="soft")
    make_series(
        tmp_path, hu[:1], study_uid=uid, prefix="scout", tags={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    )
    make_series(tmp_path, hu, step_mm=2.5, study_uid=uid, prefix="iodine", tags={"RescaleType": "MGML"})
    (study,) = find_series([tmp_path]).studies
    chosen = [(series.acquisition.kernel[0], len(series.instances)) for series in study.series]
    assert chosen == [("STANDARD", 24), ("LUNG", 24), ("STANDARD", 12)]
    codes = sorted(row.code for row in study.not_read)
    assert codes == ["localizer", "not-hu", "series-other-chosen", "series-other-chosen"]
    assert all(row.scope == "series" and row.study_uid == uid for row in study.not_read)
