"""What a run of the detector's training shows: a table of what was measured, and a picture of both tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lungscreen.training.detector.measure import DetectorFigures
from lungscreen.training.loop import append_rows

__all__ = ["draw_curves", "log_measured"]


def log_measured(path: Path, step: int, measured: DetectorFigures) -> None:
    """A row of `measured.csv`."""
    append_rows(path, [{"step": step, **measured.row()}])


def draw_curves(out: Path) -> None:
    """`curves.png`: the loss, and sensitivity where it was measured. Without matplotlib the CSV files are all."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    losses = np.genfromtxt(out / "losses.csv", delimiter=",", names=True)
    loss = np.atleast_1d(losses["loss"])
    width = max(1, len(loss) // 100)
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    left.semilogy(np.atleast_1d(losses["step"])[width - 1 :], smooth)
    left.set(xlabel="step", ylabel=f"loss (mean of {width})")
    if (out / "measured.csv").exists():
        measured = np.genfromtxt(out / "measured.csv", delimiter=",", names=True)
        for name in ("at_1", "at_4", "at_8"):
            right.plot(np.atleast_1d(measured["step"]), np.atleast_1d(measured[name]), label=name, marker=".")
        right.legend()
        right.set(xlabel="step", ylabel="sensitivity in place")
    figure.savefig(out / "curves.png", dpi=110)
