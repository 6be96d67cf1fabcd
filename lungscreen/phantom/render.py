"""Body, structures and nodules → HU as a scanner would give them: partial volume, slice profile, kernel, noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter, map_coordinates

from lungscreen.geometry import Geometry
from lungscreen.phantom.anatomy import Fields, stream
from lungscreen.phantom.config import PhantomConfig
from lungscreen.phantom.nodules import CORE_HU, NODULE_HU, Blob, blob_distance
from lungscreen.phantom.raster import CoarseGrid, Slab, coverage, draw_tubes
from lungscreen.phantom.structures import Structures
from lungscreen.phantom.trees import Tubes
from lungscreen.records import NoduleType

__all__ = ["Drawn", "Scene", "render"]

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]

AIR, FAT, SKIN, MUSCLE, BLOOD, LIVER = -1000.0, -105.0, 5.0, 52.0, 42.0, 58.0
LUNG, GRADIENT_HU, TEXTURE_HU = -868.0, 34.0, 9.0
"""Lung in the middle of the chest; rise from the middle to the back (supine); spread of its texture."""
EMPHYSEMA_HU = -24.0
"""What emphysema takes from the lung between its holes."""
SLAB_SLICES = 8
"""Sub-slices rendered at once: bounds the memory."""
SUB_SLICE_MM = 1.3
"""Sub-slices are no thicker than this, or than 0.7 pixels."""

NOISE_HU = {"standard": 13.0, "low": 28.0, "ultra-low": 55.0}
"""Standard deviation in the middle of the chest at 1 mm slices and the standard kernel."""
KERNELS = {"soft": (0.75, 0.26, 0.62), "standard": (0.55, 0.38, 1.0), "sharp": (0.40, 0.62, 1.9)}
"""Kernel → blur (sigma, mm), where its noise fades (cycles per mm), factor on the noise."""
EDGE_GAIN, EDGE_MM = 0.9, 0.9
"""How much the sharp kernel overshoots, and over what distance."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything to be drawn, in the scan's LPS mm; `axes` are the coarse grid's (z, y, x) coordinates."""

    config: PhantomConfig
    geometry: Geometry
    fields: Fields
    axes: tuple[Floats, Floats, Floats]
    structures: Structures
    blobs: tuple[tuple[Blob, Floats], ...]
    """Shape and centre, LPS mm of the scan."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What came out: HU, lungs (1 right, 2 left), nodules by number."""

    hu: NDArray[np.int16]
    lungs: NDArray[np.uint8]
    nodules: NDArray[np.uint8]


def render(scene: Scene, progress: Callable[[int, int], None] | None = None) -> Drawn:
    """Draw the scene; `progress(done, all)` counts slices."""
    shape = scene.geometry.shape
    hu = np.empty(shape, dtype=np.int16)
    lungs = np.zeros(shape, dtype=np.uint8)
    nodules = _nodule_labels(scene)
    finish = _Scanner(scene)
    for k, image, right, left in _slices(scene):
        hu[k] = finish(k, image)
        lungs[k] = np.where(right + left >= 0.5, np.where(right > left, 1, 2), 0)
        if progress:
            progress(k + 1, shape[0])
    return Drawn(hu, lungs, nodules)


# -- slices from sub-slices ------------------------------------------------------------------------------------------
def _grid(scene: Scene) -> tuple[Slab, Floats]:
    """All sub-slices as one slab, and the weight (slices, sub-slices) of each in each slice."""
    geometry, config = scene.geometry, scene.config
    sz, sy, sx = geometry.spacing_mm
    nz, ny, nx = geometry.shape
    x0, y0, z0 = geometry.origin_mm
    parts = int(np.ceil(sz / max(SUB_SLICE_MM, 0.7 * config.pixel_mm)))
    step = sz / parts
    beyond = int(np.ceil(max(config.slice_thickness_mm - sz, 0) / 2 / step - 1e-9))
    z = z0 - sz / 2 + (np.arange(-beyond, nz * parts + beyond) + 0.5) * step
    slab = Slab(x0 + np.arange(nx) * sx, y0 + np.arange(ny) * sy, z, (step, sy, sx))
    centre = (z0 + np.arange(nz) * sz)[:, None]
    half = config.slice_thickness_mm / 2
    overlap = np.minimum(z + step / 2, centre + half) - np.maximum(z - step / 2, centre - half)
    overlap = np.where(overlap > 1e-9, overlap, 0)
    return slab, overlap / overlap.sum(axis=1, keepdims=True)


def _slices(scene: Scene) -> Iterator[tuple[int, F32, F32, F32]]:
    """Slice number, HU before the kernel, share of right and of left lung."""
    slab, weights = _grid(scene)
    open_slices: dict[int, list[F32]] = {}
    for start in range(0, len(slab.z), SLAB_SLICES):
        part = Slab(slab.x, slab.y, slab.z[start : start + SLAB_SLICES], slab.step)
        for j, images in enumerate(_sub_slices(scene, part), start):
            for k in np.flatnonzero(weights[:, j]).tolist():
                weight = np.float32(weights[k, j])
                if k in open_slices:
                    for total, image in zip(open_slices[k], images, strict=True):
                        total += weight * image
                else:
                    open_slices[k] = [weight * image for image in images]
            for k in sorted(open_slices):
                if not weights[k, j + 1 :].any():
                    image, right, left = open_slices.pop(k)
                    yield k, image, right, left


def _sub_slices(scene: Scene, slab: Slab) -> Iterator[tuple[F32, F32, F32]]:
    s = scene.structures
    layers = {
        "bone": draw_tubes(s.bone, slab),
        "marrow": draw_tubes(s.bone, slab, -1.6),
        "cartilage": draw_tubes(s.cartilage, slab),
        "vessels": draw_tubes(s.vessels, slab),
        "lumen": np.maximum(draw_tubes(s.airways, slab, _walls(s.airways, -1.0)), draw_tubes(s.main_airways, slab)),
        "main": draw_tubes(s.main_airways, slab, 1.4),
        "wall": draw_tubes(s.airways, slab),
        "holes": draw_tubes(s.holes, slab),
    }
    grid = CoarseGrid(scene.axes, slab)
    table = _table(scene, slab)
    for n, z in enumerate(slab.z):
        picked = {name: layer[n] for name, layer in layers.items()}
        yield _compose(scene, grid, float(z), slab, picked, table)


def _walls(tubes: Tubes, sign: float) -> Floats:
    """Thickness of a bronchus's wall: a fifth of its radius and a third of a millimetre, less in thin ones."""
    return sign * np.minimum(0.2 * tubes.radii.mean(axis=1) + 0.35, 0.45 * tubes.radii.mean(axis=1))


def _compose(
    scene: Scene, grid: CoarseGrid, z: float, slab: Slab, layers: dict[str, F32], table: F32
) -> tuple[F32, F32, F32]:
    """One sub-slice: HU, share of right and left lung."""
    f, width = scene.fields, slab.voxel_mm

    def at(field: F32) -> F32:
        return grid.slice_at(field, z)

    skin, cage, middle, dome = at(f.skin), at(f.cage), at(f.middle), at(f.diaphragm)
    hu = table.copy()
    _mix(hu, coverage(skin, width), SKIN)
    _mix(hu, coverage(skin + 2.0, width), FAT)
    _mix(hu, coverage(at(f.muscle), width), MUSCLE)
    within = coverage(cage, width)
    _mix(hu, within, FAT + 15)
    blood = coverage(at(f.blood), width)
    below = coverage(-dome, width)
    _mix(hu, blood * (1 - below * (cage < 0)) * (cage < 6), BLOOD)
    _abdomen(hu, scene, grid, z, slab, within * below, dome)
    lung = coverage(np.maximum(np.maximum(cage + 1.5, 2.0 - middle), dome + 1.0), width)
    _mix(hu, lung, _parenchyma(scene, grid, z, slab, layers["holes"]))
    _spine(hu, at(f.vertebra), width)
    _mix(hu, layers["cartilage"], 95.0)
    _mix(hu, layers["bone"], 560.0)
    _mix(hu, layers["marrow"], 210.0)
    _raise(hu, layers["vessels"], BLOOD)
    _raise(hu, layers["wall"], 10.0)
    _raise(hu, layers["main"], 30.0)
    _mix(hu, layers["lumen"], AIR)
    lung = lung * (1 - layers["main"])
    _nodules(hu, scene, z, slab, lung)
    right = at(f.x) < -2
    return hu, lung * right, lung * ~right


def _mix(hu: F32, share: F32, value: float | F32) -> None:
    hu += share * (np.float32(value) - hu if isinstance(value, float) else value - hu)


def _raise(hu: F32, share: F32, value: float) -> None:
    """Mix in where it makes the voxel denser: a vessel does not dim what it runs in."""
    hu += share * np.maximum(np.float32(value) - hu, 0)


def _parenchyma(scene: Scene, grid: CoarseGrid, z: float, slab: Slab, holes: F32) -> F32:
    """Lung: denser behind, with texture, fissures, and holes where there is emphysema."""
    f = scene.fields
    y = grid.slice_at(f.y, z)
    hu = LUNG + GRADIENT_HU * (y / 80) + TEXTURE_HU * grid.slice_at(f.texture, z)
    if scene.config.emphysema:
        hu += EMPHYSEMA_HU
    fissure = np.abs(grid.slice_at(f.fissure, z))
    width = max(slab.voxel_mm, 0.7)
    hu += 330 * (0.45 / width) * np.clip(1.0 - fissure / width, 0, 1)
    _mix(hu, holes, -972.0)
    return np.asarray(hu, dtype=np.float32)


def _abdomen(hu: F32, scene: Scene, grid: CoarseGrid, z: float, slab: Slab, share: F32, dome: F32) -> None:
    if not share.any():
        return
    f, width = scene.fields, slab.voxel_mm
    blood = coverage(grid.slice_at(f.blood, z), width) * (grid.slice_at(f.y, z) > 0)
    inner = np.full_like(hu, FAT)
    stomach = grid.slice_at(f.stomach, z)
    _mix(inner, coverage(np.maximum(stomach, 5.0 - dome), width), 45.0)
    gas = coverage(np.maximum(np.maximum(stomach + 4, 9.0 - dome), grid.slice_at(f.y, z) + 42), width)
    food = coverage(np.maximum(stomach + 4, 9.0 - dome), width)
    _mix(inner, food, 28.0)
    _mix(inner, gas, AIR + 10)
    _mix(inner, coverage(grid.slice_at(f.liver, z), width), LIVER)
    _mix(inner, blood, BLOOD)
    _mix(inner, coverage(dome - 3.5, width), MUSCLE)
    _mix(hu, share, inner)


def _spine(hu: F32, distance: F32, width: float) -> None:
    _mix(hu, coverage(distance, width), 330.0)
    _mix(hu, coverage(distance + 2.0, width), 165.0)


def _table(scene: Scene, slab: Slab) -> F32:
    """Air, and the table under the patient: a shell of carbon fibre around foam."""
    back = scene.axes[1][np.flatnonzero((scene.fields.skin < 0).any(axis=(0, 2)))[-1]] + 2.0
    top = back - 16 * (slab.x / 200) ** 2
    x, y = np.abs(slab.x)[None, :], slab.y[:, None]
    depth = np.maximum(np.maximum(top[None, :] - y, y - back - 24 + 10 * (x / 210) ** 4), x - 212).astype(np.float32)
    hu = np.full(depth.shape, AIR, dtype=np.float32)
    _mix(hu, coverage(depth, slab.step[1]), -140.0)
    _mix(hu, coverage(depth + 1.6, slab.step[1]), -935.0)
    return hu


# -- nodules ---------------------------------------------------------------------------------------------------------
def _nodules(hu: F32, scene: Scene, z: float, slab: Slab, lung: F32) -> None:
    """Set the nodules into one sub-slice, supersampled; what lies outside the lung is cut."""
    for blob, centre in scene.blobs:
        if abs(z - centre[2]) > blob.reach_mm + slab.step[0]:
            continue
        rows, columns = _window(slab.y, centre[1], blob.reach_mm), _window(slab.x, centre[0], blob.reach_mm)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        box = hu[rows, columns]
        clip = lung[rows, columns]
        part = Slab(slab.x[columns], slab.y[rows], np.array([z]), slab.step)
        kind = blob.spec.type
        _raise(box, blob_coverage(blob, centre, part)[0] * clip, NODULE_HU[kind])
        if kind == NoduleType.PART_SOLID:
            _raise(box, blob_coverage(blob, centre, part, blob.spec.solid_fraction)[0] * clip, CORE_HU)


def _window(centres: Floats, middle: float, reach: float) -> slice:
    step = centres[1] - centres[0]
    first = int(np.floor((middle - reach - centres[0]) / step))
    last = int(np.ceil((middle + reach - centres[0]) / step)) + 1
    return slice(max(first, 0), min(max(last, 0), len(centres)))


def blob_coverage(blob: Blob, centre: Floats, slab: Slab, share: float = 1.0) -> F32:
    """Share of each voxel that the nodule fills, from samples about 0.3 mm apart (finer in small ones)."""
    fine = float(np.clip(blob.size * share / 8, 0.12, 0.4))
    axes, counts = [], []
    for centres, step in zip((slab.z, slab.y, slab.x), slab.step, strict=True):
        n = int(np.ceil(step / fine))
        axes.append((centres[:, None] + ((np.arange(n) + 0.5) / n - 0.5) * step).ravel())
        counts.append(n)
    offset = np.empty((*(len(a) for a in axes), 3))
    offset[..., 0] = axes[2] - centre[0]
    offset[..., 1] = (axes[1] - centre[1])[:, None]
    offset[..., 2] = (axes[0] - centre[2])[:, None, None]
    width = float(np.prod([s / n for s, n in zip(slab.step, counts, strict=True)]) ** (1 / 3))
    cover = coverage(blob_distance(blob, offset, share).astype(np.float32), width)
    shaped = cover.reshape(len(slab.z), counts[0], len(slab.y), counts[1], len(slab.x), counts[2])
    return np.asarray(shaped.mean(axis=(1, 3, 5)))


def _nodule_labels(scene: Scene) -> NDArray[np.uint8]:
    """Number of the nodule that fills at least half of a voxel (of the fullest voxel, in a very small one)."""
    labels = np.zeros(scene.geometry.shape, dtype=np.uint8)
    slab, _ = _grid(scene)
    nz = scene.geometry.shape[0]
    z = scene.geometry.origin_mm[2] + np.arange(nz) * scene.geometry.spacing_mm[0]
    for number, (blob, centre) in enumerate(scene.blobs, 1):
        windows = [_window(c, m, blob.reach_mm) for c, m in zip((z, slab.y, slab.x), centre[::-1], strict=True)]
        if any(w.start >= w.stop for w in windows):
            continue
        part = Slab(slab.x[windows[2]], slab.y[windows[1]], z[windows[0]], scene.geometry.spacing_mm)
        cover = blob_coverage(blob, centre, part) * coverage(_lung_at(scene, part), part.voxel_mm)
        box = labels[windows[0], windows[1], windows[2]]
        box[cover >= min(0.5, 0.5 * max(float(cover.max()), 1e-6))] = number
    return labels


def _lung_at(scene: Scene, slab: Slab) -> F32:
    """Distance to the lung's surface at the voxels of a slab."""
    index = [(c - a[0]) / (a[1] - a[0]) for c, a in zip((slab.z, slab.y, slab.x), scene.axes, strict=True)]
    grid = np.meshgrid(*index, indexing="ij")
    return np.asarray(map_coordinates(scene.fields.lung, grid, order=1, mode="nearest"), dtype=np.float32)


def clipped_volume_mm3(scene: Scene, blob: Blob, centre: Floats, steps: int = 60) -> float:
    """Volume of the part of a nodule that lies in the lung."""
    reach = blob.reach_mm
    step = 2 * reach / steps
    line = (np.arange(steps) + 0.5) * step - reach
    slab = Slab(centre[0] + line, centre[1] + line, centre[2] + line, (step, step, step))
    whole = blob_coverage(blob, centre, slab)
    part = whole * coverage(_lung_at(scene, slab), step)
    exact = 4 / 3 * np.pi * blob.size**3
    return float(exact * part.sum() / whole.sum())


# -- the scanner -----------------------------------------------------------------------------------------------------
class _Scanner:
    """Kernel and noise of one scan."""

    def __init__(self, scene: Scene) -> None:
        config = scene.config
        self._config = config
        self._pixel = config.pixel_mm
        self._blur_mm, fade, factor = KERNELS[config.kernel]
        ny, nx = scene.geometry.shape[1:]
        f = np.hypot(fft.fftfreq(ny, self._pixel)[:, None], fft.rfftfreq(nx, self._pixel)[None, :])
        self._filter = (np.sqrt((f + 0.02) * np.exp(-((f / fade) ** 2)))).astype(np.float32)
        g = np.linspace(0, 3 * fade, 600)
        power = (g + 0.02) * np.exp(-((g / fade) ** 2)) * g
        seen = float(power[g <= 0.5 / self._pixel].sum() / power.sum())
        self._filter /= np.float32(np.sqrt((self._filter[:, 1:-1] ** 2).mean()))
        self._sigma = NOISE_HU[config.dose] * factor * np.sqrt(seen / config.slice_thickness_mm)
        self._rho = 0.25 + 0.5 * max(0.0, 1 - config.slice_spacing_mm / config.slice_thickness_mm)
        self._before: F32 | None = None
        self._map = _noise_map(scene)

    def __call__(self, k: int, image: F32) -> NDArray[np.int16]:
        sigma = self._blur_mm / self._pixel
        if sigma > 0.15:
            image = gaussian_filter(image, sigma)
        if self._config.kernel == "sharp" and EDGE_MM / self._pixel > 0.3:
            image = image + np.float32(EDGE_GAIN) * (image - gaussian_filter(image, EDGE_MM / self._pixel))
        if self._config.noise:
            image = image + self._noise(k, image.shape) * self._map[k]
        return np.rint(np.clip(image, -1024, 3071)).astype(np.int16)

    def _noise(self, k: int, shape: tuple[int, ...]) -> F32:
        rng = stream(self._config.scan_seed, f"noise {self._config.seed} {k}")
        white = rng.standard_normal(shape, dtype=np.float32)
        if self._before is not None:
            white = self._rho * self._before + np.sqrt(1 - self._rho**2) * white
        self._before = white.astype(np.float32)
        coloured = fft.irfft2(fft.rfft2(self._before, workers=1) * self._filter, s=shape, workers=1)
        return np.asarray(coloured * np.float32(self._sigma), dtype=np.float32)


def _noise_map(scene: Scene) -> list[F32]:
    """Relative noise of each slice: more where the body is thick, in the middle more than at its edge."""
    nz, ny, nx = scene.geometry.shape
    z0, sz = scene.geometry.origin_mm[2], scene.geometry.spacing_mm[0]
    y = np.linspace(-1, 1, ny, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, nx, dtype=np.float32)[None, :]
    radial = 0.72 + 0.36 * np.exp(-1.8 * (x * x + y * y))
    heights = z0 + np.arange(nz) * sz
    shoulders = 0.55 if scene.config.arms_down else 0.3
    factor = 1 + shoulders / (1 + np.exp(-(heights - 85) / 9)) + 0.2 / (1 + np.exp((heights + 125) / 14))
    return [np.asarray(radial * np.float32(v), dtype=np.float32) for v in factor]
