"""Figures ─► PNG bytes, where matplotlib is installed; where it is not, a notice says so."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from lungscreen.errors import Notice
from lungscreen.evaluation.classification import ClassificationResult
from lungscreen.evaluation.detection import DetectionResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawing", "draw_confusion", "draw_froc", "draw_reliability", "draw_roc", "new_figure", "png"]

Drawing = tuple[bytes | None, tuple[Notice, ...]]
"""PNG bytes, or None and the reason."""

INK, ACCENT, MUTED = "#1f2933", "#0b6e8a", "#9aa5b1"


def draw_froc(result: DetectionResult) -> Drawing:
    """The FROC curve over a logarithmic axis of false marks per scan, with the bootstrap's bounds at the seven
    rates.
    """
    if not result.curve.defined:
        return None, (Notice("picture-missing", "no FROC plot: the curve is undefined"),)
    made = new_figure(7.0, 4.6)
    if isinstance(made, Notice):
        return None, (made,)
    figures = result.figures
    rates, axes = np.array(figures["fp_rates"]), made.add_subplot()
    grid = np.geomspace(rates[0] / 2, rates[-1] * 2, 600)
    # the corners of the curve as they are, not only the grid's points
    inside = result.curve.fp_per_scan[(result.curve.fp_per_scan > grid[0]) & (result.curve.fp_per_scan < grid[-1])]
    places = np.unique(np.concatenate([grid, inside]))
    axes.plot(places, result.curve.at(places), color=ACCENT, linewidth=1.8)
    interval = figures["bootstrap"]["at_exact_rates"]
    bounds = np.array([interval["lower"], interval["upper"]], dtype=float)
    values = np.array(figures["sensitivity"])
    axes.vlines(rates, bounds[0], bounds[1], color=INK, linewidth=1.2)
    axes.plot(rates, values, "o", color=INK, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(rates, [f"1/{round(1 / r)}" if r < 1 else f"{r:g}" for r in rates])
    axes.set(xlim=(grid[0], grid[-1]), ylim=(0, 1.02), xlabel="false marks per scan", ylabel="sensitivity")
    axes.set_title(_froc_title(figures), loc="left", fontsize=10)
    return png(made, axes), ()


def _froc_title(figures: dict[str, Any] | Any) -> str:
    percent = round(100 * figures["bootstrap"]["confidence"])
    return (
        f"CPM {figures['cpm']:.3f} – {figures['nodules']} nodules, {figures['scans']} scans; "
        f"bars: {percent} % of {figures['bootstrap']['samples']} bootstrap draws of scans"
    )


def new_figure(width_inch: float, height_inch: float) -> Figure | Notice:
    """An empty figure that no display is needed for, or the notice that nothing can draw it."""
    if importlib.util.find_spec("matplotlib") is None:
        return Notice("picture-missing", "matplotlib is not installed: no plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inch, height_inch), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, *all_axes: Any) -> bytes:
    """The figure's bytes, its axes in the house's plain style."""
    for axes in all_axes:
        axes.grid(color=MUTED, alpha=0.35, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def draw_roc(result: ClassificationResult) -> Drawing:
    """The ROC curve with its area and DeLong's interval."""
    false_rate, sensitivity, _ = result.roc
    if not len(false_rate):
        return None, (Notice("picture-missing", "no ROC plot: all cases are of one class"),)
    made = new_figure(4.8, 4.8)
    if isinstance(made, Notice):
        return None, (made,)
    axes, area = made.add_subplot(), result.figures["auc"]
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    axes.plot(false_rate, sensitivity, color=ACCENT, linewidth=1.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="1 – specificity", ylabel="sensitivity", aspect="equal")
    low, high = area["delong"]["lower"], area["delong"]["upper"]
    interval = "" if low is None else f" ({low:.3f} – {high:.3f}, DeLong)"
    axes.set_title(f"AUC {area['value']:.3f}{interval}", loc="left", fontsize=10)
    return png(made, axes), ()


def draw_reliability(result: ClassificationResult) -> Drawing:
    """What share was positive where the classifier said so much; bars are Wilson's intervals."""
    made = new_figure(4.8, 4.8)
    if isinstance(made, Notice):
        return None, (made,)
    axes, calibration = made.add_subplot(), result.figures["calibration"]
    bins = calibration["bins"]
    said, share = [b["mean_probability"] for b in bins], [b["share_positive"] for b in bins]
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    axes.vlines(said, [b["lower"] for b in bins], [b["upper"] for b in bins], color=INK, linewidth=1.0)
    axes.plot(said, share, "o-", color=ACCENT, markersize=4.5, linewidth=1.0)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set(xlabel="mean probability of a bin", ylabel="share that is positive")
    error = calibration["expected_calibration_error"]
    axes.set_title(f"expected calibration error {error:.3f}, {len(bins)} bins of equal count", loc="left", fontsize=10)
    return png(made, axes), ()


def draw_confusion(result: ClassificationResult) -> Drawing:
    """The four counts at the first threshold."""
    made = new_figure(4.2, 3.6)
    if isinstance(made, Notice):
        return None, (made,)
    axes, counts = made.add_subplot(), result.figures["confusion"]
    matrix = np.array(
        [[counts["true_negative"], counts["false_positive"]], [counts["false_negative"], counts["true_positive"]]]
    )
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if shares[row, column] > 0.5 else INK
        axes.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center", color=colour)
    axes.set_xticks([0, 1], ["called 0", "called 1"])
    axes.set_yticks([0, 1], ["is 0", "is 1"])
    axes.set_title(f"at probability ≥ {result.figures['threshold']:g}", loc="left", fontsize=10)
    return png(made), ()
