"""Choice data ─► the curves that make one probability of heatmap and second look, and the operating points on it.

Marks on the cubes of the choice subsets, mirrored outwards as the in-place protocol has them and without their outer
4 mm, and on whole scans for choices; what is weighed is what a scan of 5 litres of lung would hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from lungscreen.classify.second_look import ScoreScale, SecondLook, cut_logit
from lungscreen.classify.two_views import TwoViews
from lungscreen.detect import DetectConfig, Detector, propose_masses
from lungscreen.detect.stage import merge_marks
from lungscreen.operating_points import OPERATING_POINTS
from lungscreen.training.classifier.data import SIDE, Cubes
from lungscreen.training.second_look.chests import WholeChest
from lungscreen.training.second_look.insertion import LungBox, cut_box, set_in_mass, set_in_nodule
from lungscreen.training.second_look.samples import Deck, spot_for_mass

__all__ = ["DOUBTFUL_RATE", "Answered", "Choice", "answer_chest", "answer_cube", "answer_masses", "bare_look", "choose"]

Floats = NDArray[np.float64]

LITRES = 5.0
"""Of lung in a scan, as the in-place protocol has it."""

NODULES_A_SCAN = 1186 / 888
"""LUNA16's; this many are taken for granted when a probability is said."""

MASSES_A_SCAN = 0.03
"""The same for masses: they are rare in screening, and a false one makes the worst category."""

DOUBTFUL_RATE = 4.0
"""False marks per scan at which doubtful marks begin to be listed."""

DECIDING_SHARE, DECIDING_MM = 0.95, 6.0
"""This share of the nodules from this size on (below it they are category 2 at baseline) that are findings decides the
exam's category; what scores lower is doubtful."""

MIRROR = 25
"""Voxels by which cubes are mirrored outwards."""

MARGIN = 4
"""Voxels of a cube's faces that do not count: there the mirror makes nodules of vessels."""

LEAST_HIT_MM, LEAST_NEAR_MM = 2.5, 5.0
"""A mark finds a nodule within its radius or this; it is not false within its radius or the second."""

NEAR_LUNGS_MM = 4
"""How far outside the lungs marks count, as in the product."""

RIDGE = 0.02
"""Penalty on the curves' slopes: the choice data are few, and masses are told without a mistake."""


@dataclass(frozen=True, eq=False)
class Answered:
    """Marks of one cube or scan, and what both networks say of them.

    heat, look: (n,).
    hit: (n,) index of the nodule that a mark finds, -1 for a false one; what is neither is left out.
    nodules: how many there are.
    litres: of lung in which false marks count.
    size_mm: of a cube's nodule, 0 where not known.
    """

    heat: Floats
    look: Floats
    hit: NDArray[np.intp]
    nodules: int
    litres: float
    size_mm: float = 0.0


@dataclass(frozen=True)
class Choice:
    """What belongs to the weights."""

    scale: ScoreScale
    points: Mapping[str, float]
    doubtful: float
    deciding: float
    """Score from which a finding decides the exam's category."""
    sensitivity: Mapping[str, float]
    """On the choice data, at each point."""


def bare_look(network: TwoViews, version: str) -> SecondLook:
    """The second look of a network that has no curves yet: only its logits say something."""
    return SecondLook(network, ScoreScale((0, 0, 1), (0, 1), (0, 1), (0, 1)), version)


def answer_cube(
    cubes: Cubes, n: int, known: Floats | None, detector: Detector, look: SecondLook, config: DetectConfig
) -> Answered:
    """A cube's marks.

    known: as `read_annotated` has it; None where its surroundings were not read: false marks do not count.
    """
    hu = np.pad(cubes.hu[n], MIRROR, mode="reflect")
    marks = merge_marks(detector.find_marks(hu, None), detector.spacing_mm, config)[: look.most]
    places = marks[:, :3] - MIRROR
    voxels = (6 * max(int(cubes.masks[n].sum()), 8) / np.pi) ** (1 / 3)
    nodule = np.linalg.norm(places - cubes.centres[n], axis=1) < max(voxels / 2, LEAST_HIT_MM)
    lung = ndimage.gaussian_filter((cubes.hu[n] < -500).astype(np.float32), 4, mode="nearest") > 0.3
    inner = np.zeros_like(lung)
    inner[MARGIN:-MARGIN, MARGIN:-MARGIN, MARGIN:-MARGIN] = lung[MARGIN:-MARGIN, MARGIN:-MARGIN, MARGIN:-MARGIN]
    at = np.round(places).astype(int)
    counts: NDArray[np.bool_] = np.all((at >= 0) & (at < SIDE), axis=1)
    counts[counts] = inner[tuple(at[counts].T)]
    if known is None:
        counts[:] = False
    else:
        apart = np.linalg.norm(places[:, None] - known[None, :, :3], axis=2)
        counts &= (apart >= np.maximum(known[None, :, 3] - 2, LEAST_NEAR_MM)).all(axis=1)
    litres = 0.0 if known is None else float(inner.sum()) / 1e6
    asked = _ask(hu, marks, np.where(nodule, 0, -1), nodule | counts, 1, litres, look)
    return replace(asked, size_mm=float(voxels))


def answer_chest(chest: WholeChest, detector: Detector, look: SecondLook, config: DetectConfig) -> Answered:
    """A whole scan's marks, every nodule of which is known."""
    near = chest.lung.astype(np.uint8)
    for axis in range(3):
        near = ndimage.maximum_filter1d(near, 2 * NEAR_LUNGS_MM + 1, axis=axis)
    marks = merge_marks(detector.find_marks(chest.hu, near > 0), detector.spacing_mm, config)[: look.most]
    hit, left_out = np.full(len(marks), -1), np.zeros(len(marks), bool)
    for n, (*centre, size) in enumerate(chest.nodules):
        away = np.linalg.norm(marks[:, :3] - centre, axis=1)
        hit[away < max(size / 2, LEAST_HIT_MM)] = n
        left_out |= (away < max(size / 2, LEAST_NEAR_MM)) & (hit < 0)
    for *centre, size in chest.excluded:
        left_out |= (np.linalg.norm(marks[:, :3] - centre, axis=1) < max(size / 2, LEAST_NEAR_MM)) & (hit < 0)
    return _ask(chest.hu, marks, hit, ~left_out, len(chest.nodules), LITRES, look)


def answer_masses(
    deck: Deck, chests: Sequence[WholeChest], look: SecondLook, count: int, seed: int = 0
) -> tuple[Floats, Floats]:
    """Logits of masses that are set into chests, and of the balls there that are none."""
    rng, masses, others = np.random.default_rng(seed), [], []
    for chest in chests:
        balls = [b for b in propose_masses(chest.hu, chest.lung) if _is_apart(b, chest)]
        if balls:
            others += list(look.ask(chest.hu, np.array(balls)[:, :3])[0])
        for _ in range(count):
            radius = float(np.exp(rng.uniform(np.log(10), np.log(30))))
            centre = spot_for_mass(chest, rng, radius)
            hu = np.asarray(cut_box(chest.hu, centre), np.float32)
            place = LungBox(hu, np.zeros(hu.shape, bool), np.asarray(cut_box(chest.lung, centre), bool))
            sources = deck.cubes.large
            source = sources[rng.integers(len(sources))] if sources and rng.random() < 0.5 else None
            scale = 1.0 if source is None else min(2 * radius / source.diameter_mm, 6.0)
            done = set_in_mass(rng, place, radius) if source is None else set_in_nodule(rng, place, source, scale, True)
            if done:
                middle = np.array([hu.shape]) / 2 + rng.uniform(-0.2, 0.2, (1, 3)) * radius
                masses.append(look.ask(np.rint(place.hu).astype(np.int16), middle)[0][0])
    return np.array(masses), np.array(others)


def choose(answered: Sequence[Answered], masses: tuple[Floats, Floats], chests: int) -> Choice:
    """The curves, then the operating points: scores at which the choice data have so many false marks a scan.

    masses: as `answer_masses` gives them, of `chests` scans.
    """
    litres = sum(one.litres for one in answered)
    heat = np.concatenate([one.heat for one in answered])
    look = np.concatenate([one.look for one in answered])
    hit = np.concatenate([one.hit >= 0 for one in answered])
    weight = np.where(hit, NODULES_A_SCAN / max(hit.sum(), 1), LITRES / max(litres, 1e-9))
    one = np.ones(len(heat))
    mark = _logistic(np.column_stack([one, cut_logit(heat), look]), hit, weight)
    alone = _logistic(np.column_stack([one, cut_logit(heat)]), hit, weight)
    asked = _logistic(np.column_stack([one, look]), hit, weight)
    both = np.concatenate(masses)
    are = np.arange(len(both)) < len(masses[0])
    share = np.where(are, MASSES_A_SCAN / max(are.sum(), 1), 1 / max(chests, 1))
    mass = _logistic(np.column_stack([np.ones(len(both)), both]), are, share)
    scale = ScoreScale((mark[0], mark[1], mark[2]), (alone[0], alone[1]), (asked[0], asked[1]), (mass[0], mass[1]))
    return _choose_points(answered, scale)


def _choose_points(answered: Sequence[Answered], scale: ScoreScale) -> Choice:
    """The points on a scale, and how many nodules each finds."""
    scans = sum(one.litres for one in answered) / LITRES
    scored = [(a, scale.of_marks(a.heat, a.look)) for a in answered]
    false = np.sort(np.concatenate([score[a.hit < 0] for a, score in scored]))[::-1]
    best = np.array([max(score[a.hit == n], default=0.0) for a, score in scored for n in range(a.nodules)])
    points = {name: _score_at(false, rate * scans) for name, rate in OPERATING_POINTS.items()}
    found = {name: float(np.mean(best >= point)) for name, point in points.items()}
    doubtful = _score_at(false, DOUBTFUL_RATE * scans)
    return Choice(scale, points, doubtful, _choose_deciding(scored, points["screening"]), found)


def _choose_deciding(scored: Sequence[tuple[Answered, Floats]], screening: float) -> float:
    """The score that `DECIDING_SHARE` of the cubes' nodules that change a category reach, of those that are findings;
    whole scans are too few to say.
    """
    found = [max(score[a.hit == 0], default=0.0) for a, score in scored if a.size_mm >= DECIDING_MM]
    found = [best for best in found if best >= screening]
    return float(np.quantile(found, 1 - DECIDING_SHARE)) if found else screening


def _ask(
    hu: NDArray[np.int16], marks: NDArray[np.float32], hit: NDArray[np.intp], keep: NDArray[np.bool_], nodules: int,
    litres: float, look: SecondLook,
) -> Answered:  # fmt: skip
    marks, hit = marks[keep], hit[keep]
    answers = look.ask(hu, marks[:, :3])[0] if len(marks) else np.empty(0)
    return Answered(marks[:, 4].astype(float), answers, hit, nodules, litres)


def _is_apart(ball: NDArray[np.float32], chest: WholeChest) -> bool:
    """Whether a ball lies away from every nodule."""
    return all(np.linalg.norm(ball[:3] - centre) > size / 2 + ball[3] for *centre, size in chest.nodules)


def _score_at(false: Floats, count: float) -> float:
    """The score that so many false marks reach, from the highest down."""
    if not len(false):
        return 0.5
    return float(false[min(int(count), len(false) - 1)])


def _logistic(inputs: Floats, positive: NDArray[np.bool_], weight: Floats) -> list[float]:
    """Weighted logistic regression with a small penalty on all but the constant; slopes not below 0."""
    truth = positive.astype(float)

    def loss(numbers: Floats) -> tuple[float, Floats]:
        z = inputs @ numbers
        value = float((weight * (np.logaddexp(0, z) - truth * z)).sum()) + RIDGE * float((numbers[1:] ** 2).sum())
        slope = inputs.T @ (weight * (1 / (1 + np.exp(-z)) - truth))
        slope[1:] += 2 * RIDGE * numbers[1:]
        return value, slope

    bounds = [(None, None), *((0.0, None),) * (inputs.shape[1] - 1)]
    found = optimize.minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds)
    return [float(number) for number in found.x]
