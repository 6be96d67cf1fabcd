"""Lungs: phantoms made of ellipsoids, whose truth is known to the voxel."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import shared_folder
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.errors import VolumeError
from lungscreen.geometry import Geometry
from lungscreen.lungs import LungMask, LungsConfig, segment_lungs
from lungscreen.lungs.references import References, reference_notices
from lungscreen.phantom import make_phantom, sized
from lungscreen.records import Acquisition, Exam, Lungs, Patient, Series, Volume
from lungscreen.series import find_series
from lungscreen.volume import build_volume

SPACING = (3.0, 2.0, 1.8)
"""mm along (z, y, x): anisotropic on purpose."""

SHAPE = (100, 160, 210)


@dataclass
class Chest:
    """A chest of ellipsoids around the origin (mm: x to the left, y back, z up), painted one after the other."""

    shape: tuple[int, int, int] = SHAPE
    origin_mm: tuple[float, float, float] = (-187.0, -160.0, -150.0)
    hu: NDArray[np.float32] = field(init=False)
    truth: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.geometry = Geometry.axial(self.shape, SPACING, self.origin_mm)
        self.hu = np.full(self.shape, -1000, np.float32)
        self.truth = np.zeros(self.shape, np.uint8)
        z, y, x = (
            np.arange(n, dtype=np.float32) * s + o
            for n, s, o in zip(self.shape, SPACING, self.origin_mm[::-1], strict=True)
        )
        self.z, self.y, self.x = z[:, None, None], y[None, :, None], x[None, None, :]

    def ball(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.bool_]:
        """Voxels of an ellipsoid; an infinite radius makes a cylinder."""
        away = [(a - c) / r for a, c, r in zip((self.x, self.y, self.z), centre, radii, strict=True)]
        return np.asarray(away[0] ** 2 + away[1] ** 2 + away[2] ** 2 <= 1)

    def paint(self, where: NDArray[np.bool_], hu: float, truth: int | None = None) -> None:
        self.hu[where] = hu
        if truth is not None:
            self.truth[where] = truth

    def volume(self, noise_hu: float = 30.0) -> Volume:
        noise = np.random.default_rng(5).normal(0, noise_hu, self.shape).astype(np.float32)
        hu = np.clip(self.hu + noise, -1024, 3000).astype(np.int16)
        return Volume(hu, self.geometry, Series("image", "test", Patient(), Exam("test"), Acquisition()))


def chest(lung_hu: float = -850, gap_mm: float = 10, **kwargs: object) -> Chest:
    """Body, two lungs over a dome of diaphragm, heart, vessels, trachea with main bronchi."""
    made = Chest(**kwargs)  # type: ignore[arg-type]
    made.paint(made.ball((0, 0, 0), (170, 115, np.inf)), 40)
    heart = made.ball((15, -30, -40), (50, 45, 55))
    for label, side in ((1, -1), (2, 1)):
        lung = made.ball((side * (62 + gap_mm / 2), 0, -30), (62, 90, 140)) & (made.z > -90)
        lung &= ~made.ball((side * 65, 0, -95), (58, 80, 45)) & ~heart
        made.paint(lung, lung_hu, label)
        for n in range(6):
            made.paint(made.ball((side * 70, -50 + 20 * n, 0), (50, 3, 3)) & lung, 40)
    made.paint(made.ball((0, 5, 0), (11, 11, np.inf)) & (made.z > 20), 40, 0)
    made.paint(made.ball((0, 5, 0), (8, 8, np.inf)) & (made.z > 20), -1000, 0)
    for side in (-1, 1):
        along = np.abs(made.x) / 30
        tube = (side * made.x >= 0) & (along <= 1)
        across = np.hypot(made.y - 5, made.z - 20 + 20 * along)
        made.paint(tube & (across <= 9), 40, 0)
        made.paint(tube & (across <= 6), -1000, 0)
    return made


def dice(lungs: Lungs, truth: NDArray[np.uint8], label: int) -> float:
    found, true = lungs.mask == label, truth == label
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def codes(lungs: Lungs) -> set[str]:
    return {notice.code for notice in lungs.notices}


def assert_good(lungs: Lungs, made: Chest, least: float = 0.98) -> None:
    assert min(dice(lungs, made.truth, 1), dice(lungs, made.truth, 2)) >= least


@pytest.fixture(scope="module")
def plain() -> tuple[Chest, Volume, Lungs]:
    """The plain chest, and what is found in it."""
    made = chest()
    volume = made.volume()
    return made, volume, segment_lungs(volume, LungsConfig())


def test_both_lungs_of_a_plain_chest_are_found_without_airways_and_with_vessels(
    plain: tuple[Chest, Volume, Lungs],
) -> None:
    made, _, lungs = plain
    assert_good(lungs, made)
    assert codes(lungs) == set()
    voxel_ml = made.geometry.voxel_mm3 / 1000
    assert lungs.right_ml == pytest.approx((made.truth == 1).sum() * voxel_ml, rel=0.03)
    assert lungs.left_ml == pytest.approx((made.truth == 2).sum() * voxel_ml, rel=0.03)
    assert lungs.mask.dtype == np.uint8
    assert lungs.mask.shape == made.shape


def test_the_same_volume_gives_the_same_mask_and_small_lungs_are_said(plain: tuple[Chest, Volume, Lungs]) -> None:
    _, volume, lungs = plain
    again = segment_lungs(volume, LungsConfig(small_ml=20_000))
    assert np.array_equal(again.mask, lungs.mask)
    assert codes(again) == {"lung-small"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda hu: hu, set()),
        (lambda hu: hu + 60, {"values-shifted"}),
        (lambda hu: np.maximum(hu - 60, -1024), {"values-odd"}),
        (lambda hu: hu + 130, {"values-odd"}),
        (lambda hu: ((hu + 1024) * 0.9 - 1024).astype(np.int16), {"values-odd"}),
    ],
    ids=["as they are", "60 HU too much", "60 HU too little", "130 HU too much", "a tenth too little"],
)
def test_air_in_the_windpipe_fat_and_blood_tell_values_that_are_off(
    change: Callable[[NDArray[np.int16]], NDArray[np.int16]], said: set[str]
) -> None:
    """Also in a box around the lungs, where no air outside the body could tell."""
    made = chest()
    made.paint(made.ball((0, 0, 0), (170, 115, np.inf)) & ~made.ball((0, 0, 0), (152, 104, np.inf)), -104)
    within = made.ball((0, 0, 0), (170, 115, np.inf))
    made.paint(~within, -104)
    volume = made.volume()
    lungs = segment_lungs(replace(volume, hu=change(volume.hu)), LungsConfig())
    assert codes(lungs) == said
    assert_good(lungs, made, 0.95)


def test_what_is_said_of_values_that_are_off_has_them() -> None:
    (notice,) = reference_notices(References(airway_hu=-910.4, blood_hu=90.0, fat_hu=-48.0))
    assert (notice.code, notice.text) == (
        "values-shifted",
        "Air in the windpipe measures -910 HU and fat -48 HU: all values may be off by as much.",
    )
    found = reference_notices(References(airway_hu=-870.0, blood_hu=-21.0, fat_hu=None))
    assert [notice.code for notice in found] == ["values-odd", "values-odd"]
    assert not list(reference_notices(References()))
    assert not list(reference_notices(References(airway_hu=-985.0, blood_hu=110.0, fat_hu=-79.0)))


@pytest.mark.parametrize("hu", [40, -250])
def test_a_nodule_on_the_chest_wall_belongs_to_the_lung(hu: float) -> None:
    made = chest()
    nodule = made.ball((-118, 0, 0), (13, 13, 13)) & (made.truth == 1)
    made.paint(nodule, hu)
    lungs = segment_lungs(made.volume(), LungsConfig())
    assert (lungs.mask[nodule] == 1).mean() > 0.95
    assert_good(lungs, made)
    assert not lungs.incomplete
    assert lungs.opacity_mm is None


def test_a_mass_on_the_chest_wall_belongs_to_the_lung_and_is_said() -> None:
    made = chest()
    mass = made.ball((118, 10, 10), (28, 28, 28)) & (made.truth == 2)
    made.paint(mass, 40)
    lungs = segment_lungs(made.volume(), LungsConfig())
    assert (lungs.mask[mass] == 2).mean() > 0.9
    assert lungs.incomplete
    _names_the_place(lungs, made, mass)
    assert codes(lungs) == {"lung-incomplete"}


def _names_the_place(lungs: Lungs, made: Chest, mass: NDArray[np.bool_]) -> None:
    """The place that is told lies in the mass."""
    assert lungs.opacity_mm is not None
    assert lungs.opacity_ml is not None
    assert lungs.opacity_ml > LungsConfig().opacity_ml
    z, y, x = np.round(made.geometry.to_index(lungs.opacity_mm)).astype(int)
    assert mass[z, y, x]


def test_a_mass_against_the_mediastinum_is_taken_in_and_said() -> None:
    made = chest()
    mass = made.ball((42, 45, 20), (30, 26, 36)) & (made.truth == 2)
    made.paint(mass, 40)
    lungs = segment_lungs(made.volume(), LungsConfig())
    index = np.round(made.geometry.to_index((50, 45, 20))).astype(int)
    assert lungs.mask[tuple(index)] == 2
    assert lungs.incomplete
    _names_the_place(lungs, made, mass)


def test_arms_beside_the_body_and_a_hollow_table_change_nothing(plain: tuple[Chest, Volume, Lungs]) -> None:
    made = chest()
    for side in (-1, 1):
        made.paint(made.ball((side * 175, 20, 0), (15, 20, np.inf)), 40)
    table = (np.abs(made.x) < 150) & (made.y > 118) & (made.z > -1e9)
    made.paint(table & ((made.y < 122) | (made.y > 146) | (np.abs(made.x) > 146)) & (made.y < 150), 100)
    lungs = segment_lungs(made.volume(), LungsConfig())
    assert_good(lungs, made)
    assert (lungs.mask != plain[2].mask).mean() < 1e-3


def test_a_box_cut_out_of_the_scan_gives_the_same_lungs(plain: tuple[Chest, Volume, Lungs]) -> None:
    """As in data that were cut around the lungs: no air around the body, no skin."""
    made, volume, whole = plain
    z, y, x = (slice(int(i.min()) - 4, int(i.max()) + 5) for i in np.nonzero(made.truth))
    geometry = made.geometry.crop((z.start, y.start, x.start), (z.stop - z.start, y.stop - y.start, x.stop - x.start))
    box = Volume(np.ascontiguousarray(volume.hu[z, y, x]), geometry, volume.series)
    assert (segment_lungs(box, LungsConfig()).mask != whole.mask[z, y, x]).mean() < 0.01


def test_lungs_that_touch_are_told_apart() -> None:
    made = chest(gap_mm=-4)
    lungs = segment_lungs(made.volume(), LungsConfig())
    middle = np.broadcast_to(made.x, made.shape)
    made.truth[(made.truth > 0) & (middle < 0)] = 1
    made.truth[(made.truth > 0) & (middle > 0)] = 2
    assert_good(lungs, made, 0.97)


def test_dark_lungs_of_emphysema_are_lungs_and_keep_their_airways_out() -> None:
    made = chest(lung_hu=-940)
    lungs = segment_lungs(made.volume(), LungsConfig())
    assert_good(lungs, made)
    assert "airways-not-found" not in codes(lungs)


def test_gas_in_the_stomach_under_a_thin_diaphragm_is_no_lung() -> None:
    made = chest()
    stomach = made.ball((65, 0, -90), (45, 60, 35)) & (made.truth == 0) & (made.z < -62)
    made.paint(stomach, -1000)
    lungs = segment_lungs(made.volume(), LungsConfig())
    assert (lungs.mask[stomach] > 0).mean() < 0.05
    assert_good(lungs, made, 0.97)


@pytest.mark.parametrize(("end", "code"), [("apex", "lung-apex-cut"), ("base", "lung-base-cut")])
def test_a_scan_that_ends_within_the_lungs_says_so(end: str, code: str, plain: tuple[Chest, Volume, Lungs]) -> None:
    made, volume, _ = plain
    keep = slice(0, 60) if end == "apex" else slice(40, None)
    count = len(range(*keep.indices(made.shape[0])))
    geometry = made.geometry.crop((keep.start, 0, 0), (count, *made.shape[1:]))
    lungs = segment_lungs(Volume(volume.hu[keep], geometry, volume.series), LungsConfig())
    assert (lungs.apex_cut, lungs.base_cut) == (end == "apex", end == "base")
    assert code in codes(lungs)
    assert codes(lungs) & {"lung-apex-cut", "lung-base-cut"} == {code}
    for label in (1, 2):
        found, true = lungs.mask == label, made.truth[keep] == label
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) >= 0.975


@pytest.mark.parametrize(("missing", "word"), [(1, "right"), (2, "left")])
def test_a_lung_without_air_is_said(missing: int, word: str) -> None:
    made = chest()
    other = 3 - missing
    made.paint(made.truth == missing, 40, 0)
    lungs = segment_lungs(made.volume(), LungsConfig())
    assert [n.text for n in lungs.notices if n.code == "lung-missing"] == [f"no air-filled {word} lung was found"]
    assert dice(lungs, made.truth, other) > 0.97
    assert (lungs.mask == missing).sum() == 0


def test_a_lung_half_filled_is_said_to_be_unequal() -> None:
    made = chest()
    made.paint((made.truth == 2) & (made.z < 20), 40)
    lungs = segment_lungs(made.volume(), LungsConfig())
    assert "lung-unequal" in codes(lungs)
    assert lungs.left_ml < lungs.right_ml


def test_a_scan_without_a_trachea_says_so() -> None:
    made = chest()
    made.paint(made.ball((0, 5, 0), (20, 20, np.inf)) & (made.truth == 0), 40)
    assert "airways-not-found" in codes(segment_lungs(made.volume(), LungsConfig()))


def water() -> Chest:
    made = Chest()
    made.paint(made.ball((0, 0, 0), (150, 100, np.inf)), 0)
    return made


def colon() -> Chest:
    """An abdomen with a litre of gas in its bowel."""
    made = water()
    for n in range(4):
        made.paint(made.ball((-75 + 50 * n, -20, 0), (20, 35, 100)), -1000)
    return made


def bases() -> Chest:
    """An abdomen with the lowest 2 cm of lung."""
    made = chest()
    made.paint((made.truth > 0) & (made.z < 115), 40)
    return made


@pytest.mark.parametrize("body", [Chest, water, colon, bases])
def test_an_object_without_lungs_is_refused(body: Callable[[], Chest]) -> None:
    with pytest.raises(VolumeError) as refused:
        segment_lungs(body().volume(), LungsConfig())
    assert refused.value.code == "no-lungs"


@pytest.mark.parametrize(
    "wrong", [{"coarse_mm": 0}, {"air_hu": 100}, {"small_share": 0.7}, {"airway_wall_mm": -1}, {"opacity_ml": -3}]
)
def test_a_config_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        LungsConfig(**wrong)


class Halves:
    """A segmenter that takes what is as dark as lung, split at the volume's middle column."""

    def __init__(self, config: LungsConfig) -> None:
        self.config = config

    def find_lungs(self, volume: Volume) -> LungMask:
        mask = (volume.hu < self.config.air_hu).astype(np.uint8)
        mask[:, :, mask.shape[2] // 2 :] *= 2
        return LungMask(mask, opacity_ml=50.0, airways_found=False)


def test_another_segmenter_comes_in_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured and said of its lungs is what is said of the classical ones."""
    monkeypatch.setattr("lungscreen.lungs.stage.SEGMENTERS", {"halves": f"{__name__}.Halves"})
    volume = Chest().volume()
    lungs = segment_lungs(volume, LungsConfig(segmenter="halves"))
    dark = np.count_nonzero(volume.hu < -320) * volume.geometry.voxel_mm3 / 1000
    assert lungs.right_ml + lungs.left_ml == pytest.approx(dark)
    assert lungs.incomplete
    assert {"lung-incomplete", "airways-not-found"} <= set(codes(lungs))
    with pytest.raises(ValueError, match="expected one of halves, got 'classical'"):
        LungsConfig()
    with pytest.raises(VolumeError, match="no more than"):
        segment_lungs(volume, LungsConfig(segmenter="halves", min_ml=1e6))


# -- real scans ------------------------------------------------------------------------------------------------------
def real_volume(folder: Path) -> Volume:
    (study,) = find_series([folder]).studies
    return build_volume(study.series[0])


def distance_to_mask(volume: Volume, lungs: Lungs, centre_mm: tuple[float, float, float]) -> float:
    """From a point to the nearest voxel centre of the mask, looked for within 15 mm."""
    spacing = np.array(volume.geometry.spacing_mm)
    index = volume.geometry.to_index(centre_mm)
    low = np.maximum(0, np.floor(index - 15 / spacing)).astype(int)
    high = np.ceil(index + 15 / spacing).astype(int) + 1
    near = np.argwhere(lungs.mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]) + low
    return float(np.linalg.norm((near - index) * spacing, axis=1).min(initial=np.inf))


def lesions(scan: str) -> list[tuple[float, float, float]]:
    with shared_folder("data", "lesions.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["scan"] == scan]
    return [(float(r["x_mm"]), float(r["y_mm"]), float(r["z_mm"])) for r in rows]


def test_outlined_lungs_and_tumour_of_a_real_scan() -> None:
    """Dice outside the tumour grown by 5 mm; the outline leaves motion-blurred domes of the diaphragm in the lungs."""
    volume = real_volume(shared_folder("data", "lungbox", "LUNG1-003"))
    lungs = segment_lungs(volume, LungsConfig())
    outline = nib.load(shared_folder("data", "rtstruct", "LUNG1-003_lungs.nii.gz"))
    truth = np.asarray(outline.dataobj).transpose(2, 1, 0)
    away = ndimage.distance_transform_edt(truth != 3, sampling=volume.geometry.spacing_mm) > 5
    found, true = (lungs.mask > 0) & away, np.isin(truth, (1, 2)) & away
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) >= 0.96
    for label in (1, 2):
        found, true = (lungs.mask == label) & away, (truth == label) & away
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) >= 0.95
    (centre,) = lesions("LUNG1-003")
    assert distance_to_mask(volume, lungs, centre) <= 3


def test_a_mass_of_90_mm_against_the_mediastinum_is_in_the_mask_and_said() -> None:
    scan = "4D-Lung_113_HM10395_p4_40pct"
    volume = real_volume(shared_folder("data", "lungbox", scan))
    lungs = segment_lungs(volume, LungsConfig())
    (centre,) = lesions(scan)
    assert distance_to_mask(volume, lungs, centre) <= 3
    assert lungs.incomplete


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder",
    [
        *("dicom/LIDC-IDRI-0001", "dicom/NSCLC-Radiogenomics-R01-001"),
        *(f"lungbox/LIDC-IDRI-{n}" for n in ("0003", "0004", "0005", "0007", "0063")),
        *(f"lungbox/QIN-LSC-{n}" for n in ("0014", "0028", "0055")),
    ],
)
def test_every_annotated_lesion_lies_in_the_lungs(folder: str) -> None:
    volume = real_volume(shared_folder("data", *folder.split("/")))
    lungs = segment_lungs(volume, LungsConfig())
    centres = lesions(folder.split("/")[1])
    assert centres
    for centre in centres:
        assert distance_to_mask(volume, lungs, centre) <= 3
    assert lungs.notices == ()


@pytest.mark.parametrize(
    "options",
    [{"emphysema": True, "arms_down": True, "cut_apex": True}, {"seed": 3}],
    ids=["emphysema, arms down, apex cut", "plain"],
)
def test_lungs_of_a_synthetic_thorax(options: dict[str, Any]) -> None:
    made = make_phantom(sized("small", **options))
    volume = Volume(made.hu, made.geometry, Series("image", "test", Patient(), Exam("test"), Acquisition()))
    lungs = segment_lungs(volume, LungsConfig())
    assert min(dice(lungs, made.lungs, 1), dice(lungs, made.lungs, 2)) >= 0.98
    assert lungs.apex_cut == ("cut_apex" in options)
    assert not lungs.incomplete
