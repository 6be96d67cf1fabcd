"""Frames ─► the frames of one pass: copies dropped, passes, phases and stacks told apart, the one with most lung kept.

A pass holds each position once and covers one stretch of the body. What other passes show beyond its ends is joined to
it; different temporal positions never are.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lungscreen.errors import Notice, Refusal, VolumeError
from lungscreen.volume.config import FILLED_SLICES, SAME_POSITION_MM
from lungscreen.volume.frames import Frame, split_stacks
from lungscreen.volume.pixels import PixelReader
from lungscreen.volume.stack import is_uniform, same_positions, slice_normal

__all__ = ["Pass", "choose_pass"]

SAMPLES = 9
"""Slices of each pass that are looked at to find the one with most lung."""
LUNG_HU = (-950, -500)
"""What counts as lung there."""

CONTAINED_SHARE = 0.9
"""A pass shorter than this share of one that contains it is not chosen."""
LEAST_JOINED = 3
"""Slices by which another pass goes on beyond an end, to be joined; passes that alternate differ by one or two."""


@dataclass
class Pass:
    """The frames to read, and what was left out on the way."""

    frames: list[Frame]
    notices: list[Notice] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


def choose_pass(frames: Sequence[Frame], reader: PixelReader, series_uid: str) -> Pass:
    """One frame per position, of one pass.

    Errors: `several-images-per-position`, `same-uid-other-pixels`, `pixels-damaged`, `not-axial-image`, `not-hu`.
    """
    stacks, others = split_stacks(frames)
    chosen = _with_most_lung(stacks, reader, series_uid, "stack")
    chosen.refused += [
        Refusal(series_uid, "series-part", f"{len(other)} frames that are no axial slices in HU", "series")
        for other in others
    ]
    moment = _with_most_lung(_moments(chosen.frames), reader, series_uid, "temporal position")
    notices, refused = chosen.notices + moment.notices, chosen.refused + moment.refused
    kept, copies = _drop_copies(moment.frames, reader)
    if copies:
        notices.append(Notice("slices-duplicate", f"{copies} slices occur twice with the same pixels."))
    if kept is not None and is_uniform(_along(kept)):
        return Pass(kept, notices, refused)
    passes = _split_passes(moment.frames if kept is None else kept)
    if kept is not None and (passes is None or not _overlap(passes)):
        return Pass(kept, notices, refused)
    if passes is None:
        raise VolumeError(
            "several-images-per-position",
            "several different images lie at one position; acquisition number, temporal position and time do not "
            "tell them apart",
            series_uid,
        )
    best = _join_ends(_with_most_lung(passes, reader, series_uid, "pass"), passes)
    return Pass(best.frames, notices + best.notices, refused + best.refused)


def _along(frames: Sequence[Frame]) -> np.ndarray:
    normal = slice_normal(np.array(frames[0].orientation))
    return np.asarray(np.array([frame.position_mm for frame in frames]) @ normal)


def _drop_copies(frames: Sequence[Frame], reader: PixelReader) -> tuple[list[Frame] | None, int]:
    """One frame per position where those that share one have the same pixels; None where they differ.

    Errors: `same-uid-other-pixels`; `pixels-damaged` where no frame is left.
    """
    _check_uids(frames)
    kept: list[Frame] = []
    copies = 0
    for cluster in same_positions(_along(frames)):
        same = [frames[i] for i in cluster]
        if len(same) > 1:
            pictures = [(frame, reader.read(frame)) for frame in same]
            readable = [(frame, hu) for frame, hu in pictures if hu is not None]
            for frame, hu in readable[1:]:
                if not np.array_equal(hu, readable[0][1]):
                    _refuse_same_uid(frame, readable[0][0])
                    return None, 0
            copies += max(len(readable) - 1, 0)
            same = [frame for frame, _ in readable[:1]]
        kept += same
    if not kept:
        raise VolumeError("pixels-damaged", "no slice can be read")
    return kept, copies


def _check_uids(frames: Sequence[Frame]) -> None:
    """Errors: `same-uid-other-pixels` where one SOP Instance UID stands at two positions."""
    places: dict[tuple[str, int], Frame] = {}
    for frame in frames:
        other = places.setdefault((frame.instance.sop_instance_uid, frame.index), frame)
        if other is not frame and other.position_mm != frame.position_mm:
            _refuse_same_uid(frame, other)


def _refuse_same_uid(frame: Frame, other: Frame) -> None:
    if (frame.instance.sop_instance_uid, frame.index) == (other.instance.sop_instance_uid, other.index):
        raise VolumeError(
            "same-uid-other-pixels", "two files have one SOP Instance UID but different images", frame.where
        )


def _contained(part: Sequence[Frame], others: Sequence[Sequence[Frame]]) -> bool:
    """Whether a part lies wholly within a clearly longer one, so that it shows nothing that the other does not."""
    along = _along(part)
    low, high = float(along.min()), float(along.max())
    ranges = [(float(places.min()), float(places.max())) for places in map(_along, others)]
    return any(start <= low and high <= end and high - low < CONTAINED_SHARE * (end - start) for start, end in ranges)


def _moments(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames of each temporal position; all of them where it numbers the slices."""
    parts = _parts_by(frames, lambda frame: frame.temporal_position)
    return [list(frames)] if max(map(len, parts)) == 1 else sorted(parts, key=len, reverse=True)


def _parts_by(frames: Sequence[Frame], key: Callable[[Frame], str]) -> list[list[Frame]]:
    parts: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[key(frame)].append(frame)
    return list(parts.values())


def _split_passes(frames: Sequence[Frame]) -> list[list[Frame]] | None:
    """Passes, the largest first, by the first property that makes such parts; None where none does."""
    along = np.sort(_along(frames))
    steps = np.diff(along)
    longest = (FILLED_SLICES + 1.5) * float(np.median(steps[steps > SAME_POSITION_MM] if steps.any() else [0.0]))
    most = max(len(cluster) for cluster in same_positions(along))
    for parts in (
        _parts_by(frames, lambda frame: frame.acquisition_number),
        _parts_by(frames, lambda frame: frame.acquisition_time),
        _runs(frames, longest),
    ):
        # where passes clash there are as many as images at one position; more of them would be made of several
        if 1 < len(parts) <= max(most, 2) and all(_is_pass(part, longest) for part in parts):
            return sorted(parts, key=len, reverse=True)
    return None


def _is_pass(part: Sequence[Frame], longest_mm: float) -> bool:
    """Each position once, and no hole that could not be filled."""
    steps = np.diff(np.sort(_along(part)))
    return bool(((steps > SAME_POSITION_MM) & (steps <= longest_mm)).all())


def _runs(frames: Sequence[Frame], longest_mm: float) -> list[list[Frame]]:
    """In the order of their times: a run ends where the next slice is there already, or lies elsewhere."""
    if not all(frame.acquisition_time for frame in frames):
        return []
    places = _along(frames)
    order = sorted(range(len(frames)), key=lambda n: (frames[n].acquisition_time, places[n]))
    runs: list[list[int]] = []
    for n in order:
        steps = np.abs(places[runs[-1]] - places[n]) if runs else np.array([np.inf])
        if SAME_POSITION_MM < steps.min() <= longest_mm:
            runs[-1].append(n)
        else:
            runs.append([n])
    return [[frames[n] for n in run] for run in runs]


def _overlap(parts: Sequence[Sequence[Frame]]) -> bool:
    """Whether parts lie in the same place (interleaved passes), not one after the other (runs of one scan)."""
    ranges = sorted((_along(part).min(), _along(part).max()) for part in parts)
    return any(second[0] < first[1] - SAME_POSITION_MM for first, second in itertools.pairwise(ranges))


def _join_ends(best: Pass, passes: Sequence[Sequence[Frame]]) -> Pass:
    """The pass, and what the others show beyond its ends, where that goes on without a hole: the largest first."""
    frames = list(best.frames)
    step = float(np.median(np.diff(np.sort(_along(frames))))) if len(frames) > 1 else 0.0
    joined = 0
    for other in passes:
        for sign in (1, -1):
            end = float((sign * _along(frames)).max())
            beyond = []
            for place, n in sorted(zip(sign * _along(other), range(len(other)), strict=True)):
                if 0.5 * step < place - end < 1.5 * step:
                    beyond.append(other[n])
                    end = float(place)
            if len(beyond) >= LEAST_JOINED:
                frames += beyond
                joined += len(beyond)
    if not joined:
        return best
    text = f"{joined} slices that only another pass shows were joined to it: look at the seam."
    return Pass(frames, [*best.notices, Notice("several-passes", text)], best.refused)


def _with_most_lung(parts: list[list[Frame]], reader: PixelReader, series_uid: str, what: str) -> Pass:
    if len(parts) == 1:
        return Pass(list(parts[0]))
    volumes = [-1.0 if _contained(part, parts) else _lung_ml(part, reader) for part in parts]
    best = int(np.argmax(volumes))
    text = f"{len(parts)} parts ({what}) in this series; the one with most lung, {len(parts[best])} slices, was read."
    refused = [
        Refusal(series_uid, "series-part", f"{what} {number + 1} of {len(parts)}: {len(part)} slices", "series")
        for number, part in enumerate(parts)
        if number != best
    ]
    return Pass(list(parts[best]), [Notice("several-passes", text)], refused)


def _lung_ml(frames: Sequence[Frame], reader: PixelReader) -> float:
    """Rough volume of lung-like voxels, from a few slices; enough to tell passes apart."""
    along = _along(frames)
    order = np.argsort(along)
    chosen = order[np.unique(np.linspace(0, len(order) - 1, SAMPLES).round().astype(int))]
    shares = []
    for number in chosen:
        hu = reader.read(frames[number])
        if hu is not None:
            shares.append(float(((hu >= LUNG_HU[0]) & (hu <= LUNG_HU[1])).mean()))
    first = frames[0]
    area = first.instance.rows * first.pixel_spacing_mm[0] * first.instance.columns * first.pixel_spacing_mm[1]
    return float(np.mean(shares or [0.0]) * area * (along.max() - along.min())) / 1000
