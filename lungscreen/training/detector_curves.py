"""What a training run writes down: CSV files that grow, and a picture of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from lungscreen.errors import OutputError
from lungscreen.training.detector_measure import Measured

__all__ = ["append_rows", "draw_curves", "forget_after", "log_measured"]


def log_measured(path: Path, step: int, measured: Measured) -> None:
    """A row of `measured.csv`."""
    append_rows(path, [{"step": step, **measured.row()}])


def append_rows(path: Path, rows: list[dict[str, float]]) -> None:
    """Rows to the end of a CSV file, which starts with their names.

    Errors: `output-failed`.
    """
    try:
        new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            if new:
                writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise OutputError("output-failed", f"cannot write: {error}", str(path)) from None


def forget_after(path: Path, step: int) -> None:
    """Rows of steps that the checkpoint has not seen go: they will be made again."""
    if not path.exists():
        return
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if int(row.split(",")[0]) <= step]
    path.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")


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
