"""Body, structures and nodules → HU of slices, with partial volume and slice profile; then the scanner's part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from lungscreen.geometry import Geometry
from lungscreen.phantom.anatomy import MIDLINE_MM, PLEURA_MM, Fields
from lungscreen.phantom.config import PhantomConfig
from lungscreen.phantom.nodules import CORE_HU, NODULE_HU, Blob, blob_distance
from lungscreen.phantom.raster import RasterGrid, Slab, coverage, draw_tubes
from lungscreen.phantom.scanner import ScannerModel
from lungscreen.phantom.structures import Structures
from lungscreen.phantom.trees import Tubes
from lungscreen.records import NoduleType

__all__ = ["RenderedScan", "Scene", "blob_coverage", "render", "true_volume_mm3"]

Floats = NDArray[np.floating[Any]]

AIR, FAT, MEDIASTINAL_FAT, SKIN, MUSCLE, BLOOD, LIVER = -1000.0, -105.0, -92.0, 5.0, 52.0, 42.0, 58.0
CORTICAL_BONE, SPONGY_BONE, CARTILAGE, DISC = 620.0, 175.0, 95.0, 78.0
BRONCHUS, STOMACH_WALL, STOMACH_CONTENT, HOLE = 20.0, 45.0, 28.0, -972.0
"""HU of what the body is made of."""
CORTEX_MM, SKIN_MM, MAIN_WALL_MM, DIAPHRAGM_MM = 1.5, 1.8, 1.4, 3.5
"""Thickness of the bones' cortex, the skin, the trachea's wall, the diaphragm."""
GAS_LEVEL_Y_MM = -42.0
"""Where gas lies on the stomach's content."""
FISSURE_HU_MM, FISSURE_BLUR_MM = 150.0, 0.7
"""What a fissure adds to the lung, times its thickness."""
VOLUME_STEPS = 64
"""Samples across a nodule that the pleura cuts when its volume is counted."""
LUNG, GRADIENT_HU, TEXTURE_HU = -868.0, 34.0, 9.0
"""Lung in the middle of the chest; rise from the middle to the back (supine); spread of its texture."""
EMPHYSEMA_HU = -24.0
"""What emphysema takes from the lung between its holes."""
SLAB_VOXELS = 5_000_000
"""Voxels of sub-slices that are rendered at once: bounds the memory."""
SUB_SLICE_MM, SUB_SLICE_PIXELS = 1.3, 1.25
"""Sub-slices are no thicker than the larger of these."""


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
class RenderedScan:
    """What came out: HU, lungs (1 right, 2 left), nodules by number."""

    hu: NDArray[np.int16]
    lungs: NDArray[np.uint8]
    nodules: NDArray[np.uint8]


def render(scene: Scene, progress: Callable[[int, int], None] | None = None) -> RenderedScan:
    """Draw the scene; `progress(done, all)` counts slices."""
    shape = scene.geometry.shape
    hu = np.empty(shape, dtype=np.int16)
    lungs, nodules = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    slab, weights = _grid(scene)
    inserts = [_Insert(blob, centre, slab) for blob, centre in scene.blobs]
    scan = ScannerModel(scene.config, scene.geometry)
    for k, image, right, left in _slices(scene, slab, weights, inserts):
        hu[k] = scan.finish(k, image)
        lungs[k] = np.where(right + left >= 0.5, np.where(right > left, 1, 2), 0)
        if progress:
            progress(k + 1, shape[0])
    _label(nodules, inserts, weights)
    return RenderedScan(hu, lungs, nodules)


# -- slices from sub-slices ------------------------------------------------------------------------------------------
def _grid(scene: Scene) -> tuple[Slab, Floats]:
    """All sub-slices as one slab, and the weight (slices, sub-slices) of each in each slice."""
    geometry, config = scene.geometry, scene.config
    sz, sy, sx = geometry.spacing_mm
    nz, ny, nx = geometry.shape
    x0, y0, z0 = geometry.origin_mm
    parts = int(np.ceil(sz / max(SUB_SLICE_MM, SUB_SLICE_PIXELS * config.pixel_mm)))
    step = sz / parts
    beyond = int(np.ceil(max(config.slice_thickness_mm - sz, 0) / 2 / step - 1e-9))
    z = z0 - sz / 2 + (np.arange(-beyond, nz * parts + beyond) + 0.5) * step
    slab = Slab(x0 + np.arange(nx) * sx, y0 + np.arange(ny) * sy, z, (step, sy, sx))
    centre = (z0 + np.arange(nz) * sz)[:, None]
    half = config.slice_thickness_mm / 2
    overlap = np.minimum(z + step / 2, centre + half) - np.maximum(z - step / 2, centre - half)
    overlap = np.where(overlap > 1e-9, overlap, 0)
    return slab, overlap / overlap.sum(axis=1, keepdims=True)


def _slices(
    scene: Scene, slab: Slab, weights: Floats, inserts: list[_Insert]
) -> Iterator[tuple[int, Floats, Floats, Floats]]:
    """Slice number, HU before the kernel, share of right and of left lung."""
    open_slices: dict[int, list[Floats]] = {}
    at_once = max(1, SLAB_VOXELS // (len(slab.x) * len(slab.y)))
    for start in range(0, len(slab.z), at_once):
        part = Slab(slab.x, slab.y, slab.z[start : start + at_once], slab.step)
        for j, images in enumerate(_sub_slices(scene, part, inserts, start), start):
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


def _sub_slices(
    scene: Scene, slab: Slab, inserts: list[_Insert], start: int
) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Render neighbouring sub-slices, the first of which has the number `start`."""
    s = scene.structures
    layers: dict[str, Floats] = {}
    layers["bone"], layers["marrow"] = draw_tubes(s.bone, slab, (0.0, -CORTEX_MM))
    (layers["cartilage"],) = draw_tubes(s.cartilage, slab)
    (layers["vessels"],) = draw_tubes(s.vessels, slab)
    layers["main"], layers["main lumen"] = draw_tubes(s.main_airways, slab, (MAIN_WALL_MM, 0.0))
    layers["wall"], layers["lumen"] = draw_tubes(s.airways, slab, (0.0, -_walls(s.airways)))
    (layers["holes"],) = draw_tubes(s.holes, slab)
    grid = RasterGrid(scene.axes, slab)
    table = _table(scene, slab)
    for n, z in enumerate(slab.z):
        picked = {name: layer[n] for name, layer in layers.items()}
        yield _compose(scene, _Cut(grid, float(z), slab.voxel_mm), picked, table, inserts, start + n)


def _walls(tubes: Tubes) -> Floats:
    """Thickness of each bronchus's wall: a sixth of its radius and a third of a millimetre, less in thin ones."""
    radius = tubes.radii.mean(axis=1)
    return np.asarray(np.minimum(radius / 6 + 0.33, 0.4 * radius))


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where one sub-slice lies in the coarse grid."""

    grid: RasterGrid
    z: float
    width: float

    def at(self, field: Floats) -> Floats:
        return self.grid.slice_at(field, self.z)

    def share(self, field: Floats) -> Floats:
        return coverage(self.at(field), self.width)


def _compose(
    scene: Scene, cut: _Cut, layers: dict[str, Floats], table: Floats, inserts: list[_Insert], number: int
) -> tuple[Floats, Floats, Floats]:
    """One sub-slice: HU, share of right and left lung."""
    f, width = scene.fields, cut.width
    skin, dome = cut.at(f.skin), cut.at(f.diaphragm)
    hu = table.copy()
    _mix(hu, coverage(skin, width), SKIN)
    _mix(hu, coverage(skin + SKIN_MM, width), FAT)
    _mix(hu, cut.share(f.muscle), MUSCLE)
    within = coverage(cut.at(f.cage) + PLEURA_MM, width)
    blood = cut.share(f.blood)
    _mix(hu, within, MEDIASTINAL_FAT)
    _mix(hu, blood, BLOOD)
    _abdomen(hu, scene, cut, within * coverage(-dome, width), dome, blood)
    lung = cut.share(f.lung)
    _mix(hu, lung, _parenchyma(scene, cut, layers["holes"]))
    _skeleton(hu, scene, cut, layers)
    _raise(hu, layers["vessels"], BLOOD)
    _raise(hu, layers["wall"] * lung, BRONCHUS)
    _raise(hu, layers["main"], BRONCHUS)
    _mix(hu, np.maximum(layers["lumen"] * lung, layers["main lumen"]), AIR)
    lung = lung * (1 - layers["main"])
    for insert in inserts:
        insert.set_into(hu, lung, number)
    right = cut.at(f.x) < MIDLINE_MM
    return hu, lung * right, lung * ~right


def _mix(hu: Floats, share: Floats, value: float | Floats) -> None:
    hu += share * ((np.float32(value) if isinstance(value, float) else value) - hu)


def _raise(hu: Floats, share: Floats, value: float) -> None:
    """Mix in where it makes the voxel denser: a vessel does not dim what it runs in."""
    hu += share * np.maximum(np.float32(value) - hu, 0)


def _parenchyma(scene: Scene, cut: _Cut, holes: Floats) -> Floats:
    """Lung: denser behind, with texture, fissures, and holes where there is emphysema."""
    f = scene.fields
    hu = np.float32(LUNG) + cut.at(f.y) * np.float32(GRADIENT_HU / 80) + np.float32(TEXTURE_HU) * cut.at(f.texture)
    if scene.config.emphysema:
        hu += np.float32(EMPHYSEMA_HU)
    width = max(cut.width, FISSURE_BLUR_MM)
    hu += np.float32(FISSURE_HU_MM / width) * np.clip(1 - cut.at(f.fissure) / np.float32(width), 0, 1)
    _mix(hu, holes, HOLE)
    return hu


def _abdomen(hu: Floats, scene: Scene, cut: _Cut, share: Floats, dome: Floats, blood: Floats) -> None:
    """What lies below the diaphragm, where `share` is above 0."""
    if not share.any():
        return
    f, width = scene.fields, cut.width
    inner = np.full_like(hu, FAT)
    y, stomach = cut.at(f.y), cut.at(f.stomach)
    _mix(inner, coverage(np.maximum(stomach, 5.0 - dome), width), STOMACH_WALL)
    content = np.maximum(stomach + 4, 9.0 - dome)
    _mix(inner, coverage(content, width), STOMACH_CONTENT)
    _mix(inner, coverage(np.maximum(content, y - GAS_LEVEL_Y_MM), width), AIR)
    _mix(inner, cut.share(f.liver), LIVER)
    # the great vessels go on; the part of the heart that the dome cuts off does not
    _mix(inner, blood * (y > 0), BLOOD)
    _mix(inner, coverage(dome - DIAPHRAGM_MM, width), MUSCLE)
    _mix(hu, share, inner)


def _skeleton(hu: Floats, scene: Scene, cut: _Cut, layers: dict[str, Floats]) -> None:
    vertebra = cut.at(scene.fields.vertebra)
    if float(vertebra.min()) < cut.width:
        disc = coverage(-cut.at(scene.fields.disc), cut.width)
        _mix(hu, coverage(vertebra, cut.width), CORTICAL_BONE * 0.6)
        _mix(hu, coverage(vertebra + 1.3, cut.width), SPONGY_BONE)
        _mix(hu, coverage(vertebra, cut.width) * (1 - disc), DISC)
    _mix(hu, layers["cartilage"], CARTILAGE)
    _mix(hu, layers["bone"], CORTICAL_BONE)
    _mix(hu, layers["marrow"], SPONGY_BONE)


def _table(scene: Scene, slab: Slab) -> Floats:
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
class _Insert:
    """One nodule on the sub-slices: how much of each voxel it fills, before the pleura cuts it."""

    def __init__(self, blob: Blob, centre: Floats, slab: Slab) -> None:
        self._blob = blob
        self.window = tuple(
            _window(c, m, blob.reach_mm) for c, m in zip((slab.z, slab.y, slab.x), centre[::-1], strict=True)
        )
        self._cover = self._core = self.seen = np.zeros((0, 0, 0), dtype=np.float32)
        if all(w.stop > w.start for w in self.window):
            z, y, x = self.window
            part = Slab(slab.x[x], slab.y[y], slab.z[z], slab.step)
            self._cover = blob_coverage(blob, centre, part)
            if blob.spec.type == NoduleType.PART_SOLID:
                self._core = blob_coverage(blob, centre, part, blob.spec.solid_fraction)
            self.seen = np.zeros_like(self._cover)

    def set_into(self, hu: Floats, lung: Floats, number: int) -> None:
        """Into the sub-slice of that number; what lies outside the lung is cut. `seen` keeps what was drawn."""
        n = number - self.window[0].start
        if not 0 <= n < len(self._cover):
            return
        box = hu[self.window[1:]]
        self.seen[n] = self._cover[n] * lung[self.window[1:]]
        _raise(box, self.seen[n], NODULE_HU[self._blob.spec.type])
        if len(self._core):
            _raise(box, self._core[n] * lung[self.window[1:]], CORE_HU)


def _window(centres: Floats, middle: float, reach: float) -> slice:
    step = centres[1] - centres[0]
    first = int(np.floor((middle - reach - centres[0]) / step))
    last = int(np.ceil((middle + reach - centres[0]) / step)) + 1
    return slice(max(first, 0), min(max(last, 0), len(centres)))


def blob_coverage(blob: Blob, centre: Floats, slab: Slab, share: float = 1.0) -> Floats:
    """Share of each voxel that the nodule fills, from samples a sixth of its radius apart."""
    fine = float(np.clip(blob.size * share / 6, 0.12, 0.5))
    axes, counts = [], []
    for centres, step in zip((slab.z, slab.y, slab.x), slab.step, strict=True):
        n = int(np.ceil(step / fine))
        axes.append((centres[:, None] + ((np.arange(n) + 0.5) / n - 0.5) * step).ravel())
        counts.append(n)
    offset = np.empty((*(len(a) for a in axes), 3), dtype=np.float32)
    offset[..., 0] = axes[2] - centre[0]
    offset[..., 1] = (axes[1] - centre[1])[:, None]
    offset[..., 2] = (axes[0] - centre[2])[:, None, None]
    width = float(np.prod([s / n for s, n in zip(slab.step, counts, strict=True)]) ** (1 / 3))
    cover = coverage(blob_distance(blob, offset, share), width)
    shaped = cover.reshape(len(slab.z), counts[0], len(slab.y), counts[1], len(slab.x), counts[2])
    return np.asarray(shaped.mean(axis=(1, 3, 5)), dtype=np.float32)


def _label(nodules: NDArray[np.uint8], inserts: list[_Insert], weights: Floats) -> None:
    """Number of the nodule that fills at least half of a voxel (half of its fullest voxel, in a very small one)."""
    for number, insert in enumerate(inserts, 1):
        if not insert.seen.any():
            continue
        z, y, x = insert.window
        for k in np.flatnonzero(weights[:, z].any(axis=1)).tolist():
            insert_slices = weights[k, z].astype(np.float32)
            cover = (insert_slices[:, None, None] * insert.seen).sum(axis=0)
            least = min(0.5, 0.5 * float(insert.seen.max()))
            nodules[k, y, x][cover >= least] = number


def _lung_at(scene: Scene, slab: Slab) -> Floats:
    """Distance to the lungs' surface at the voxels of a slab."""
    index = [(c - a[0]) / (a[1] - a[0]) for c, a in zip((slab.z, slab.y, slab.x), scene.axes, strict=True)]
    grid = np.meshgrid(*index, indexing="ij")
    return np.asarray(map_coordinates(scene.fields.lung, grid, order=1, mode="nearest"))


def true_volume_mm3(scene: Scene, blob: Blob, centre: Floats, share: float = 1.0) -> float:
    """Volume of the part of a nodule (of its core: `share`) that lies in the lung."""
    whole = 4 / 3 * np.pi * (blob.size * share) ** 3
    reach = blob.reach_mm * share
    step = 2 * reach / VOLUME_STEPS
    line = (np.arange(VOLUME_STEPS) + 0.5) * step - reach
    slab = Slab(centre[0] + line, centre[1] + line, centre[2] + line, (step, step, step))
    lung = coverage(_lung_at(scene, slab), step)
    if lung.min() >= 1:
        return float(whole)
    cover = coverage(blob_distance(blob, np.stack(np.meshgrid(line, line, line, indexing="ij")[::-1], -1), share), step)
    return float(whole * (cover * lung).sum() / cover.sum())
