"""`lungscreen evaluate robustness`: the physics of the variants, what is counted, and what is said."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_chest import chest, mm, write_image

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.errors import VolumeError
from lungscreen.evaluation import Nodules, RobustnessConfig, measure_robustness, robustness_lines, write_robustness
from lungscreen.evaluation import robustness_output as output
from lungscreen.evaluation.robustness import ORIGINAL
from lungscreen.evaluation.variants import (
    SHARP_GAIN,
    SHARP_PER_MM,
    SMOOTH_PER_MM,
    Noise,
    estimate_noise,
    lower_dose,
    sharpen_kernel,
    smooth_kernel,
    thicken_slices,
)
from lungscreen.geometry import Geometry
from lungscreen.records import Acquisition, Candidate, Exam, Patient, Series, Volume

PIXEL_MM = (0.75, 0.65)


def volume_of(hu: NDArray[np.floating], spacing_z: float = 2.5, uid: str = "1.2.3", thickness: float = 2.5) -> Volume:
    acquisition = Acquisition(slice_thickness_mm=thickness)
    series = Series("image", uid, Patient(), Exam("1.2"), acquisition)
    geometry = Geometry.axial((len(hu), *hu.shape[1:]), (spacing_z, *PIXEL_MM), (-70.0, 30.0, -400.0))
    return Volume(np.rint(hu).astype(np.int16), geometry, series, instance_numbers=tuple(range(len(hu))))


def ct_noise(shape: tuple[int, int, int], sd: float, between: float = 0.0, seed: int = 0) -> NDArray[np.floating]:
    """Noise with a CT's spectrum within the slice (none at 0, fading), neighbours correlated as said."""
    rows, columns = np.fft.fftfreq(shape[1], PIXEL_MM[0]), np.fft.rfftfreq(shape[2], PIXEL_MM[1])
    f = np.hypot(rows[:, None], columns[None])
    white = np.random.default_rng(seed).standard_normal((shape[0] + 1, *shape[1:]))
    flat = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(f) * np.exp(-((f / 0.45) ** 2)), s=shape[1:])
    own = np.sqrt((1 + np.sqrt(1 - 4 * between**2)) / 2)
    mixed = own * flat[1:] + np.sqrt(1 - own**2) * flat[:-1]
    return sd * mixed / mixed.std()


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


# -- noise and dose --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("sd", "between"), [(12.0, 0.0), (40.0, 0.3)])
def test_noise_is_measured(sd: float, between: float) -> None:
    """On noise that is known, within 10 %, although organs of several densities and air lie around it."""
    hu = 50 + ct_noise((24, 160, 208), sd, between)
    hu[:, :40] = -1000
    hu[:, 100:, 120:] += 130
    noise = estimate_noise(volume_of(hu))
    assert noise is not None
    assert noise.sd_hu == pytest.approx(sd, rel=0.1)
    assert noise.between == pytest.approx(between, abs=0.06)


def test_noise_of_air_or_of_nothing_is_not_measured() -> None:
    assert estimate_noise(volume_of(-1000 + ct_noise((24, 160, 208), 20))) is None
    assert estimate_noise(volume_of(np.full((24, 160, 208), 40.0))) is None
    assert estimate_noise(volume_of(np.full((2, 20, 20), 40.0))) is None


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_variance_goes_with_one_over_dose(share: float) -> None:
    """The whole noise is what physics says; what was added has the scan's own grain in all directions."""
    own = ct_noise((24, 160, 208), 20, 0.3)
    scan = volume_of(50 + own)
    noise = estimate_noise(scan)
    assert noise is not None
    less = lower_dose(scan, noise, share, seed=0)
    assert less.hu.std() == pytest.approx(20 / np.sqrt(share), rel=0.08)
    assert less.hu.mean() == pytest.approx(50, abs=0.5)
    added = less.hu.astype(float) - scan.hu
    for axis in (1, 2):
        lag = [
            np.take(part, range(start, part.shape[axis] - 1 + start), axis) for part in (own, added) for start in (0, 1)
        ]
        assert correlation(*lag[2:]) == pytest.approx(correlation(*lag[:2]), abs=0.12)
    assert correlation(added[1:], added[:-1]) == pytest.approx(0.3, abs=0.06)
    assert abs(correlation(added, own)) < 0.02


def test_one_seed_is_one_pattern_at_every_dose() -> None:
    scan = volume_of(50 + ct_noise((8, 160, 208), 20))
    noise = estimate_noise(scan)
    assert noise is not None
    half, quarter, again, other = (
        lower_dose(scan, noise, share, seed).hu - scan.hu for share, seed in ((0.5, 1), (0.25, 1), (0.5, 1), (0.5, 2))
    )
    assert np.array_equal(half, again)
    assert correlation(half, quarter) > 0.99
    assert abs(correlation(half, other)) < 0.02


@pytest.mark.parametrize("share", [0.0, 1.0, 2.0])
def test_an_impossible_dose_is_refused(share: float) -> None:
    noise = Noise(20.0, np.array([0.1, 0.5]), np.array([1.0, 0.5]), 0.0)
    with pytest.raises(ValueError, match="share"):
        lower_dose(volume_of(np.zeros((2, 20, 20))), noise, share, 0)


def test_hu_stay_in_their_range() -> None:
    noise = Noise(400.0, np.array([0.1, 0.5]), np.array([1.0, 0.5]), 0.0)
    less = lower_dose(volume_of(np.full((3, 40, 40), -1000.0)), noise, 0.25, 0)
    assert less.hu.min() == -1024


# -- slices ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("spacing", "thick", "count"), [(2.5, 5.0, 6), (1.25, 2.5, 6), (2.0, 5.0, 5), (0.7, 2.5, 3)])
def test_thick_slices_are_means_in_the_right_place(spacing: float, thick: float, count: int) -> None:
    """A ramp along z: the mean of a slice is the ramp's value in its middle, also where slices do not divide evenly."""
    thin = volume_of(np.broadcast_to(np.arange(13.0)[:, None, None] * 40, (13, 9, 11)), spacing, thickness=spacing)
    made = thicken_slices(thin, thick)
    assert made is not None
    assert made.hu.shape == (count, 9, 11)
    assert made.geometry.spacing_mm == pytest.approx((thick, *PIXEL_MM))
    for k in range(count):
        z = made.geometry.to_mm((k, 0, 0))
        expected = 40 * thin.geometry.to_index(z)[0]
        bottom, top = k * thick / spacing, (k + 1) * thick / spacing
        partly = any(abs(edge - round(edge)) > 1e-6 for edge in (bottom, top))
        assert made.hu[k, 3, 4] == pytest.approx(expected, abs=0.51 if not partly else 40 * 0.51)
        assert z[:2] == pytest.approx(thin.geometry.to_mm((0, 0, 0))[:2])
    assert made.instance_numbers == ()


def test_a_slice_that_is_cut_counts_by_its_part() -> None:
    """Slices of 2 mm to 5 mm: the third slice lies half in the first thick one and half in the second."""
    hu = np.array([0.0, 100.0, 200.0, 300.0, 400.0])
    made = thicken_slices(volume_of(np.broadcast_to(hu[:, None, None], (5, 4, 6)), 2.0, thickness=2.0), 5.0)
    assert made is not None
    assert made.hu[:, 0, 0].tolist() == [80, 320]


def test_slices_as_thick_already_are_left_alone() -> None:
    assert thicken_slices(volume_of(np.zeros((8, 4, 6)), 2.5, thickness=2.5), 2.5) is None
    assert thicken_slices(volume_of(np.zeros((8, 4, 6)), 1.25, thickness=5.0), 5.0) is None
    assert thicken_slices(volume_of(np.zeros((3, 4, 6)), 2.5), 5.0) is None


# -- kernels ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("per_mm", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("axis", [1, 2])
def test_kernels_change_each_frequency_as_said(axis: int, per_mm: float) -> None:
    """A wave of known frequency along either axis, whose pixels differ, comes out at the stated gain; its mean
    stays.
    """
    shape = [3, 160, 208]
    place = np.arange(shape[axis]) * PIXEL_MM[axis - 1]
    wave = 200 * np.cos(2 * np.pi * per_mm * place)
    scan = volume_of(np.broadcast_to(np.expand_dims(wave, [n for n in (0, 1, 2) if n != axis]), shape) + 100)
    inner = (slice(None), slice(40, -40), slice(40, -40))
    before = float(scan.hu[inner].std())
    for change, gain in (
        (smooth_kernel, 0.5 ** ((per_mm / SMOOTH_PER_MM) ** 2)),
        (sharpen_kernel, 1 + SHARP_GAIN * (1 - np.exp(-((per_mm / SHARP_PER_MM) ** 2)))),
    ):
        made = change(scan)
        assert float(made.hu[inner].std()) / before == pytest.approx(gain, rel=0.05)
        assert made.hu[inner].mean() == pytest.approx(scan.hu[inner].mean(), abs=5)


def test_kernels_leave_even_tissue_and_borders_alone() -> None:
    scan = volume_of(np.full((2, 40, 50), -300.0))
    for change in (smooth_kernel, sharpen_kernel):
        assert np.abs(change(scan).hu + 300).max() <= 1


# -- what is counted -------------------------------------------------------------------------------------------------
AT = (-60.0, 50.0, -380.0)


def nodules(*rows: tuple[str, float, float, float, float]) -> Nodules:
    return Nodules(
        tuple(r[0] for r in rows), np.array([r[1:4] for r in rows]).reshape(-1, 3), np.array([r[4] for r in rows])
    )


class Scripted:
    """Finds what it was told to find, by how many slices a volume has and how its middle differs from the original."""

    def __init__(self, original: NDArray[np.int16]) -> None:
        self.original = original

    def __call__(self, volume: Volume) -> Sequence[Candidate]:
        there = Candidate(AT, 6.0, 0.9)
        false = Candidate((AT[0] + 40, AT[1], AT[2]), 6.0, 0.5)
        ignored = Candidate((AT[0], AT[1] + 40, AT[2]), 6.0, 0.5)
        if len(volume.hu) != len(self.original):
            raise VolumeError("no-lungs", "nothing there")
        if np.array_equal(volume.hu, self.original):
            return there, false, ignored
        return dataclasses.replace(there, score=0.2), false, dataclasses.replace(false, centre_mm=(0.0, 0.0, 0.0))


def measured() -> tuple[Volume, RobustnessConfig]:
    return volume_of(50 + ct_noise((24, 160, 208), 20)), RobustnessConfig(threshold=0.4, doses=(0.5,))


def test_what_is_found_lost_false_and_refused_is_counted() -> None:
    scan, config = measured()
    known = nodules(("1.2.3", *AT, 6.0), ("9.9", 0.0, 0.0, 0.0, 5.0))
    excluded = nodules(("1.2.3", AT[0], AT[1] + 40, AT[2], -1.0))
    result = measure_robustness(iter([scan]), known, excluded, Scripted(scan.hu), config)
    rows = {v.variant: v for v in result.variants}
    assert list(rows) == [ORIGINAL, "dose 50 %", "slices 2.5 mm", "slices 5 mm", "sharp kernel", "smooth kernel"]
    first, less, same, thick = (rows[name] for name in list(rows)[:4])
    assert (first.scans, first.nodules, first.found, first.false_marks, first.sensitivity) == (1, 1, 1, 1, 1.0)
    assert (less.found, less.lost, less.gained, less.false_marks, less.sensitivity) == (0, 1, 0, 2, 0.0)
    assert (less.found_original, less.false_marks_original) == (1, 1)
    assert less.noise_hu == pytest.approx(20 * np.sqrt(2), rel=0.1)
    assert (same.scans, same.sensitivity, same.false_per_scan) == (0, None, None)
    assert (thick.nodules, thick.found, thick.lost, thick.false_marks) == (1, 0, 1, 0)
    by_scan = {scan.variant: scan for scan in result.scans}
    assert by_scan["dose 50 %"].scores == (0.2,)
    assert by_scan["slices 5 mm"].failed == "no-lungs"
    assert by_scan["slices 2.5 mm"].left_out == "slices as thick already"
    assert [n.code for n in result.notices] == ["series-not-listed", "variant-left-out", "variant-refused"]


def test_scans_without_tissue_have_no_dose_variant_and_without_nodules_no_sensitivity() -> None:
    scan = volume_of(np.full((24, 160, 208), -1000.0))
    config = RobustnessConfig(threshold=0.4, doses=(0.5,), slices_mm=(), kernels=False)
    result = measure_robustness([scan], Nodules.none(), Nodules.none(), Scripted(scan.hu), config)
    assert [(v.scans, v.false_marks, v.sensitivity) for v in result.variants] == [(1, 3, None), (0, 0, None)]
    assert [n.code for n in result.notices] == ["variant-left-out", "figures-undefined"]


def test_tables_and_plot_are_written(tmp_path: Path) -> None:
    scan, config = measured()
    result = measure_robustness([scan], nodules(("1.2.3", *AT, 6.0)), Nodules.none(), Scripted(scan.hu), config)
    write_robustness(result, tmp_path, {"detector": "x"})
    rows = list(csv.DictReader((tmp_path / "robustness.csv").read_text().splitlines()))
    assert [row["found"] for row in rows] == ["1", "0", "0", "0", "0", "0"]
    assert rows[2]["sensitivity"] == ""
    scans = list(csv.DictReader((tmp_path / "scans.csv").read_text().splitlines()))
    assert [row["scores"] for row in scans][:4] == ["0.9000", "0.2000", "", "none"]
    figures = json.loads((tmp_path / "robustness.json").read_text())
    assert figures["kind"] == "robustness"
    assert figures["settings"]["threshold"] == 0.4
    assert figures["variants"][1]["lost"] == 1
    marks = list(csv.DictReader((tmp_path / "candidates-dose-50.csv").read_text().splitlines()))
    assert {row["seriesuid"] for row in marks} == {"1.2.3"}
    assert len(marks) == 3
    lines = robustness_lines(result)
    noise = result.variants[1].noise_hu
    assert f"| dose 50 % | 1 | {noise:.0f} | 0 of 1 (1) | 0.00 (0.00 – 0.79) | 1 / 0 | 2.00 (2.00) |" in lines
    assert "| slices 2.5 mm | 0 | – | – | – | – | – |" in lines
    assert (tmp_path / "robustness.md").read_text().splitlines() == lines
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_only_the_plot_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungscreen.evaluation.plots.importlib.util.find_spec", lambda _: None)
    scan, config = measured()
    config = dataclasses.replace(config, doses=(), slices_mm=(), kernels=False)
    result = measure_robustness([scan], nodules(("1.2.3", *AT, 6.0)), Nodules.none(), Scripted(scan.hu), config)
    said = output.write_robustness(result, tmp_path, {})
    assert "picture-missing" in {notice.code for notice in said}
    assert not (tmp_path / "robustness.png").exists()
    assert (tmp_path / "robustness.csv").exists()


@pytest.mark.parametrize(
    "wrong", [{"threshold": 1.0}, {"doses": (1.0,)}, {"slices_mm": (0.0,)}, {"confidence": 1.0}, {"threshold": -0.1}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        RobustnessConfig(**({"threshold": 0.4} | wrong))  # type: ignore[arg-type]


# -- from the command line -------------------------------------------------------------------------------------------
def write_annotations(path: Path, *rows: tuple[object, ...]) -> Path:
    lines = ["seriesuid,coordX,coordY,coordZ,diameter_mm", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def small_weights(folder: Path) -> Path:
    """Weights of a network that runs in no time and knows nothing."""
    torch = pytest.importorskip("torch")
    from lungscreen.detect.network import Architecture, NoduleNet, describe
    from lungscreen.weights import add_weights

    torch.manual_seed(0)
    small = Architecture(channels=(4, 6), blocks=(1, 1), head=4)
    folder.mkdir()
    points = {"screening": 0.25, "second-reader": 0.5, "high-specificity": 0.75}
    add_weights(
        folder, "detector", NoduleNet(small).state_dict(), "small", describe(small), {"operating_points": points}
    )
    return folder


def test_scans_are_read_changed_and_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small network on a small chest: lungs are found again in each variant, and all is said where it belongs."""
    hu = chest()
    z, y, x = np.ogrid[:60, :50, :74]
    hu[((z - 30) * 4.0) ** 2 + ((y - 24) * 3.5) ** 2 + ((x - 20) * 3.0) ** 2 < 9.0**2] = 40
    image = write_image(tmp_path / "in" / "scan.mha", hu)
    (tmp_path / "in" / "broken.mha").write_text("no image")
    truth = write_annotations(tmp_path / "a.csv", ("scan", *mm(30, 24, 20), 18.0))
    out = tmp_path / "out"
    words = ["evaluate", "robustness", str(image.parent), "--annotations", str(truth), "--out", str(out)]
    words += ["--weights", str(small_weights(tmp_path / "weights"))]
    assert main([*words, "--slices", "10", "--dose", "0.5"]) == ExitCode.SOME_REFUSED
    shown = capsys.readouterr()
    figures = json.loads((out / "robustness.json").read_text())
    rows = {row["variant"]: row for row in figures["variants"]}
    assert list(rows) == [ORIGINAL, "dose 50 %", "slices 10 mm", "sharp kernel", "smooth kernel"]
    assert (rows[ORIGINAL]["scans"], rows[ORIGINAL]["nodules"]) == (1, 1)
    assert rows["slices 10 mm"]["scans"] == 1
    assert figures["settings"]["threshold"] == 0.25
    assert figures["provenance"]["pipeline"]["operating_point"] == "screening"
    assert figures["provenance"]["detector"]["version"] == "small"
    assert len(figures["provenance"]["detector"]["sha256"]) == 64
    assert "| original | 1 |" in shown.out
    assert len((out / "refused.csv").read_text().splitlines()) == 2


def test_an_impossible_dose_is_a_usage_error(tmp_path: Path) -> None:
    truth = write_annotations(tmp_path / "a.csv", ("scan", 0, 0, 0, 8))
    words = ["evaluate", "robustness", str(tmp_path), "--annotations", str(truth), "--out", str(tmp_path / "out")]
    assert main([*words, "--dose", "2"]) == ExitCode.USAGE
    assert not (tmp_path / "out").exists()
