"""Volume, Lungs of this exam and of an earlier one ─► Alignment: rigid, then affine, then a coarse B-spline.

Only the lungs and a little around them are looked at: ribs and diaphragm slide along the lung and would pull it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.comparison.config import ComparisonConfig
from lungscreen.geometry import Geometry, Vector
from lungscreen.morphology import box_around
from lungscreen.records import Lungs, Volume

__all__ = ["Alignment", "align_exams"]

DARKEST_HU, BRIGHTEST_HU = -1000.0, 0.0
"""Values are clipped to these: bone and contrast in the wall say nothing of the lung."""
SAMPLED = 0.06
"""Share of the voxels that a step looks at, drawn with a fixed seed."""
BEND_STEPS = 20
"""Looks at the metric that the B-spline gets: nearly all of the time goes there."""
SEED = 17
INVERSE_STEPS = 30
INVERSE_TOLERANCE_MM = 0.01
STARTS_MM = (0.0, -40.0, -20.0, 20.0, 40.0)
"""Shifts up and down that are tried from the lungs' centres: one scan may be cut."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where places of this exam lay in the earlier one.

    transform: of SimpleITK, LPS mm of this exam → LPS mm of the earlier exam.
    overlap: Dice of the lungs once aligned, within what both scans show.
    """

    transform: Any
    overlap: float

    def to_earlier(self, point_mm: Vector) -> Vector:
        """A place of this exam → the same place in the earlier one, LPS mm."""
        x, y, z = self.transform.TransformPoint([float(v) for v in point_mm])
        return x, y, z

    def to_current(self, point_mm: Vector) -> Vector:
        """A place of the earlier exam → the same place in this one, LPS mm; by fixed-point steps."""
        wanted = np.array(point_mm, dtype=np.float64)
        place = 2 * wanted - np.array(self.to_earlier(point_mm))
        for _ in range(INVERSE_STEPS):
            error = wanted - np.array(self.to_earlier((place[0], place[1], place[2])))
            place = place + error
            if np.abs(error).max() < INVERSE_TOLERANCE_MM:
                break
        return float(place[0]), float(place[1]), float(place[2])


def align_exams(
    current: Volume, current_lungs: Lungs, earlier: Volume, earlier_lungs: Lungs, config: ComparisonConfig | None = None
) -> Alignment:
    """Align the lungs of two exams of one patient. Deterministic but for the last digits (threads add in any order).

    Volumes are canonical; each has its lungs on its own grid. An alignment that failed shows in `overlap`.
    """
    config = config or ComparisonConfig()
    now = _Coarse.make(current, current_lungs, config)
    then = _Coarse.make(earlier, earlier_lungs, config)
    rigid = _rigid(now, then)
    affine = _affine(now, then, rigid)
    whole = _bend(now, then, affine, config)
    options = [(_overlap(now, then, transform), transform) for transform in (whole, affine, rigid)]
    overlap, transform = max(options, key=lambda option: option[0])
    return Alignment(transform, overlap)


@dataclass(frozen=True, eq=False)
class _Coarse:
    """An exam on a coarse grid: image, where it counts, and the lungs."""

    image: Any
    near: Any
    lungs: NDArray[np.float32]
    geometry: Geometry
    centre_mm: NDArray[np.float64]

    @classmethod
    def make(cls, volume: Volume, lungs: Lungs, config: ComparisonConfig) -> _Coarse:
        """Block means of the lungs' box."""
        inside = lungs.mask > 0
        z, y, x = (int(np.ceil(3 * config.margin_mm / s)) for s in volume.geometry.spacing_mm)
        part = box_around(inside, (z, y, x))
        blocks = [max(1, round(config.coarse_mm / s)) for s in volume.geometry.spacing_mm]
        hu = _block_means(np.clip(volume.hu[part], DARKEST_HU, BRIGHTEST_HU), blocks)
        share = _block_means(inside[part], blocks)
        geometry = _block_geometry(volume.geometry, [s.start for s in part], blocks, hu.shape)
        radius = [max(1, round(config.margin_mm / s)) for s in geometry.spacing_mm]
        near = ndimage.maximum_filter((share >= 0.5).astype(np.uint8), [2 * r + 1 for r in radius])
        centre = geometry.to_mm(np.array(ndimage.center_of_mass(share)))
        return cls(_to_itk(hu, geometry), _to_itk(near, geometry), share, geometry, centre)


def _block_means(array: NDArray[Any], blocks: list[int]) -> NDArray[np.float32]:
    """Means of whole blocks; what is left over at the end is dropped."""
    z, y, x = (max(n // b, 1) * b if n >= b else n for n, b in zip(array.shape, blocks, strict=True))
    a, b, c = (min(k, n) for k, n in zip(blocks, array.shape, strict=True))
    whole = array[:z, :y, :x].astype(np.float32)
    return np.asarray(whole.reshape(z // a, a, y // b, b, x // c, c).mean(axis=(1, 3, 5)), dtype=np.float32)


def _block_geometry(geometry: Geometry, start: list[int], blocks: list[int], shape: tuple[int, ...]) -> Geometry:
    affine = geometry.affine.copy()
    first = np.array(start) + (np.array(blocks) - 1) / 2
    affine[:3, 3] = geometry.to_mm(first)
    affine[:3, :3] = geometry.affine[:3, :3] * np.array(blocks)
    return Geometry(affine, (shape[0], shape[1], shape[2]))


def _to_itk(array: NDArray[Any], geometry: Geometry) -> Any:
    sitk = _sitk()
    image: Any = sitk.GetImageFromArray(array)
    _, spacing, origin, direction = geometry.to_itk()
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def _sitk() -> Any:
    """SimpleITK, imported when it is needed; its functions carry no types."""
    import SimpleITK as sitk

    return sitk


# -- the three steps -------------------------------------------------------------------------------------------------
def _method(now: _Coarse) -> Any:
    """What all steps share: correlation within the lungs and their margin, linear interpolation."""
    sitk = _sitk()
    method: Any = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(now.near)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLED, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _rigid(now: _Coarse, then: _Coarse) -> Any:
    sitk = _sitk()
    starts = []
    for shift in STARTS_MM:
        start: Any = sitk.Euler3DTransform()
        start.SetCenter(now.centre_mm.tolist())
        start.SetTranslation((then.centre_mm - now.centre_mm + np.array([0.0, 0.0, shift])).tolist())
        starts.append((_overlap(now, then, start), start))
    best = max(starts, key=lambda option: option[0])[1]
    method = _method(now)
    method.SetOptimizerAsRegularStepGradientDescent(4.0, 0.05, 60, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([4.0, 0.0])
    method.SetInitialTransform(best, inPlace=True)
    return best if _ran(method, now, then) else starts[0][1]


def _affine(now: _Coarse, then: _Coarse, rigid: Any) -> Any:
    sitk = _sitk()
    affine: Any = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    method = _method(now)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.05, 60, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(affine, inPlace=True)
    return affine if _ran(method, now, then) else rigid


def _bend(now: _Coarse, then: _Coarse, affine: Any, config: ComparisonConfig) -> Any:
    """The affine alignment with a smooth displacement before it."""
    sitk = _sitk()
    mesh = [max(2, round(n * s / config.control_mm)) for n, s in zip(now.image.GetSize(), now.image.GetSpacing())]  # noqa: B905
    spline: Any = sitk.BSplineTransformInitializer(now.image, mesh, 3)
    method = _method(now)
    method.SetOptimizerAsLBFGSB(
        gradientConvergenceTolerance=1e-5,
        numberOfIterations=BEND_STEPS,
        maximumNumberOfCorrections=5,
        maximumNumberOfFunctionEvaluations=BEND_STEPS,
    )
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(spline, inPlace=True)
    if not _ran(method, now, then):
        return affine
    whole: Any = sitk.CompositeTransform(3)
    whole.AddTransform(affine)
    whole.AddTransform(spline)
    return whole


def _ran(method: Any, now: _Coarse, then: _Coarse) -> bool:
    """Run; whether it came to an end (ITK throws where the images come to lie apart)."""
    try:
        method.Execute(now.image, then.image)
    except RuntimeError:
        return False
    return bool(np.isfinite(method.GetMetricValue()))


def _overlap(now: _Coarse, then: _Coarse, transform: Any) -> float:
    """Dice of the lungs, the earlier ones brought to this exam's grid, within what both scans show."""
    sitk = _sitk()
    moved = sitk.GetArrayViewFromImage(
        sitk.Resample(_to_itk(then.lungs, then.geometry), now.image, transform, sitk.sitkLinear, -1.0)
    )
    both = moved >= 0
    mine, theirs = (now.lungs >= 0.5) & both, (moved >= 0.5) & both
    total = int(mine.sum()) + int(theirs.sum())
    return 2.0 * int((mine & theirs).sum()) / total if total else 0.0
