"""Events per study, in time order ─► CUSUM chart: whether a rate changed, with a threshold that simulation gives.

Sources: Page 1954 (cumulative sums), Steiner et al. 2000 (log-likelihood steps for outcomes of patients), Hawkins 1987
(self-starting: the usual rate is estimated while the chart runs). The threshold follows from a Bayesian bootstrap
(Rubin 1981) of the first studies: it allows for several events in one study, and for how little a short beginning
tells about the usual rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChartConfig", "ControlChart", "EventKind", "draw_chart"]

Floats = NDArray[np.float64]
EventKind = Literal["share", "count"]
"""Events are a share of trials, or are counted by study."""


@dataclass(frozen=True, slots=True)
class ChartConfig:
    """How changes are looked for.

    first: studies at the beginning that only say what is usual.
    least_after: studies after them, below which nothing is said.
    lag: the latest studies, which do not yet count for what is usual: a change would hide itself.
    horizon: studies over which false alarms are counted.
    false_alarms: share of unchanged series of that length in which a chart may alarm.
    notice: studies within which a change is to be noticed, for the figure that says how often it is.
    runs: simulated series.
    """

    first: int = 100
    least_after: int = 20
    lag: int = 100
    horizon: int = 1000
    false_alarms: float = 0.05
    notice: int = 200
    runs: int = 2000


@dataclass(frozen=True, slots=True)
class ControlChart:
    """A chart that was drawn. Rates are events per trial (`share`) or per study (`count`)."""

    usual: float
    """Of the first studies."""
    looked_for: float
    """The changed rate that the steps are made for, by the first studies."""
    threshold: float
    sums: tuple[float, ...]
    """After each study that followed the first ones."""
    alarm: int | None
    """Number of the study, from 0, at which the sum first passed the threshold."""
    since: float
    """Rate of the studies since the sum that passed the threshold began to rise; without an alarm, of the latest."""
    false_alarms: float
    """Share of other simulated series without a change, `horizon` studies long, that alarm."""
    noticed: float
    """Share of simulated series with the changed rate that alarm within `notice` studies."""


def draw_chart(
    events: Floats, trials: Floats, kind: EventKind, factor: float, config: ChartConfig | None = None
) -> ControlChart | None:
    """The chart of one figure; None where there are too few studies.

    events, trials: (studies,), in time order; studies without a trial are left out beforehand.
    factor: what the odds (`share`) or the rate (`count`) are multiplied by in the change that is looked for.
    """
    config = config or ChartConfig()
    if len(events) < config.first + config.least_after:
        return None
    chance = np.random.default_rng(0)  # the same studies give the same threshold every night
    series = _Series(events[: config.first], trials[: config.first], kind, factor, config)
    threshold = float(np.quantile(series.maxima(config.horizon, 1.0, chance), 1 - config.false_alarms))
    unchanged = series.maxima(config.horizon, 1.0, chance)
    changed = series.maxima(config.notice, factor, chance)
    sums = series.sums(events[None], trials[None])[0]
    beyond = np.flatnonzero(sums > threshold)
    usual = (events[: config.first].sum() + 0.5) / (trials[: config.first].sum() + 1)
    begin = _rise(sums, int(beyond[0])) + config.first if len(beyond) else max(len(events) - config.lag, config.first)
    return ControlChart(
        usual=float(usual),
        looked_for=float(_changed(usual, kind, factor)),
        threshold=threshold,
        sums=tuple(float(value) for value in sums),
        alarm=int(beyond[0]) + config.first if len(beyond) else None,
        since=float(events[begin:].sum() / trials[begin:].sum()),
        false_alarms=float((unchanged > threshold).mean()),
        noticed=float((changed > threshold).mean()),
    )


def _rise(sums: Floats, alarm: int) -> int:
    """The first study of the rise that led to an alarm."""
    still = np.flatnonzero(sums[:alarm] <= 0)
    return int(still[-1]) + 1 if len(still) else 0


def _changed(usual: Floats, kind: EventKind, factor: float) -> Floats:
    return factor * usual / (1 - usual + factor * usual) if kind == "share" else factor * usual


@dataclass(frozen=True, slots=True)
class _Series:
    """Series of studies that look like the first ones, and their sums."""

    events: Floats
    trials: Floats
    kind: EventKind
    factor: float
    config: ChartConfig

    def sums(self, events: Floats, trials: Floats) -> Floats:
        """(series, studies) → (series, studies after the first ones): sums that never fall below nought."""
        first, studies = self.config.first, events.shape[1]
        known = np.maximum(np.arange(first, studies) - 1 - self.config.lag, first - 1)
        # half an event in one trial: a rate of nothing, or of everything, is never taken for certain
        usual = (np.cumsum(events, axis=1)[:, known] + 0.5) / (np.cumsum(trials, axis=1)[:, known] + 1)
        changed = _changed(usual, self.kind, self.factor)
        new, tried = events[:, first:], trials[:, first:]
        if self.kind == "share":
            steps = new * np.log(changed / usual) + (tried - new) * np.log((1 - changed) / (1 - usual))
        else:
            steps = new * math.log(self.factor) + tried * (usual - changed)
        total = np.cumsum(steps, axis=1)
        return np.asarray(total - np.minimum(np.minimum.accumulate(total, axis=1), 0.0))

    def maxima(self, length: int, factor: float, chance: np.random.Generator) -> Floats:
        """(runs,) the largest sum of each simulated series, `length` studies after the first ones.

        factor: what changes after the first studies; 1 for nothing.
        """
        runs, first = self.config.runs, self.config.first
        # two made-up studies of half a study's weight, without and with more events: what never happened yet can happen
        more = 1.0 if self.kind == "share" else self.events.max() + 1
        events, trials = np.append(self.events, (0.0, more)), np.append(self.trials, (1.0, 1.0))
        weights = chance.gamma(np.append(np.ones(len(self.events)), (0.5, 0.5)), size=(runs, len(events)))
        drawn = np.concatenate([_draw(weights, first, chance), _draw(weights, length, chance)], axis=1)
        new = events[drawn]
        if factor != 1 and self.kind == "share":
            drawn[:, first:] = _draw(weights * factor**events, length, chance)
            new = events[drawn]
        elif factor != 1:
            # as many events as so many studies have
            new[:, first:] = sum(events[_draw(weights, length, chance)] for _ in range(round(factor)))
        return np.asarray(self.sums(new, trials[drawn]).max(axis=1))


def _draw(weights: Floats, length: int, chance: np.random.Generator) -> NDArray[np.intp]:
    """(series, studies) weights → (series, length) numbers of studies, drawn by them."""
    reach = np.cumsum(weights, axis=1)
    reach /= reach[:, -1:]
    found = [np.searchsorted(row, chance.random(length), side="right") for row in reach]
    return np.asarray(np.minimum(np.stack(found), weights.shape[1] - 1))
