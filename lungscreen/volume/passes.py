"""Frames ─► the frames of one pass: copies dropped, passes, phases and stacks told apart, the one with most lung kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lungscreen.errors import Notice, Refusal, VolumeError
from lungscreen.volume.frames import Frame, split_stacks
from lungscreen.volume.pixels import PixelReader
from lungscreen.volume.stack import is_uniform, same_positions, slice_normal

__all__ = ["Pass", "choose_pass"]

SAMPLES = 9
"""Slices of each pass that are looked at to find the one with most lung."""
LUNG_HU = (-950, -500)
"""What counts as lung there."""


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
    kept, copies = _drop_copies(chosen.frames, reader)
    if copies:
        chosen.notices.append(Notice("slices-duplicate", f"{copies} slices occur twice with the same pixels."))
    if kept is None:
        parts = _split_passes(chosen.frames)
        if parts is None:
            raise VolumeError(
                "several-images-per-position",
                "several different images lie at one position; acquisition number, temporal position and time do not "
                "tell them apart",
                series_uid,
            )
    else:
        chosen.frames = kept
        parts = _split_passes(kept) if not is_uniform(_along(kept)) else None
        if parts is None or not _overlap(parts):
            return chosen
    best = _with_most_lung(parts, reader, series_uid, "pass")
    return Pass(best.frames, chosen.notices + best.notices, chosen.refused + best.refused)


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


def _split_passes(frames: Sequence[Frame]) -> list[list[Frame]] | None:
    """Parts that are each evenly spaced, by the first property that makes such parts; None where none does."""
    for parts in _ways(frames):
        if len(parts) > 1 and all(len(part) > 1 and is_uniform(_along(part)) for part in parts):
            return sorted(parts, key=len, reverse=True)
    return None


def _ways(frames: Sequence[Frame]) -> Iterator[list[list[Frame]]]:
    keys: tuple[Callable[[Frame], str], ...] = (
        lambda frame: frame.acquisition_number,
        lambda frame: frame.temporal_position,
        lambda frame: frame.acquisition_time,
    )
    for key in keys:
        parts: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            parts[key(frame)].append(frame)
        yield list(parts.values())
    if all(frame.acquisition_time for frame in frames):
        # each slice has a time of its own: passes follow one another
        ordered = sorted(frames, key=lambda frame: frame.acquisition_time)
        passes = max(len(cluster) for cluster in same_positions(_along(frames)))
        if passes > 1 and len(frames) % passes == 0:
            size = len(frames) // passes
            yield [ordered[start : start + size] for start in range(0, len(frames), size)]


def _overlap(parts: Sequence[Sequence[Frame]]) -> bool:
    """Whether parts lie in the same place (interleaved passes), not one after the other (runs of one scan)."""
    ranges = [(_along(part).min(), _along(part).max()) for part in parts]
    low, high = max(start for start, _ in ranges), min(end for _, end in ranges)
    return bool(high - low > 0.5 * min(end - start for start, end in ranges))


def _with_most_lung(parts: list[list[Frame]], reader: PixelReader, series_uid: str, what: str) -> Pass:
    if len(parts) == 1:
        return Pass(list(parts[0]))
    volumes = [_lung_ml(part, reader) for part in parts]
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
