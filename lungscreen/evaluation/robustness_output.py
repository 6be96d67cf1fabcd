"""RobustnessResult ─► robustness.json, robustness.csv, robustness.md, robustness.png, scans.csv, candidates-*.csv."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lungscreen.errors import Notice
from lungscreen.evaluation.output import make_folder, write_csv, write_json, write_picture
from lungscreen.evaluation.plots import ACCENT, INK, MUTED, Drawing, new_figure, png
from lungscreen.evaluation.robustness import RobustnessResult, VariantOutcome
from lungscreen.files import replace_file
from lungscreen.outputs.candidates import candidates_csv

__all__ = ["robustness_lines", "write_robustness"]

COLUMNS = (
    "variant",
    "scans",
    "nodules",
    "found",
    "sensitivity",
    "lower",
    "upper",
    "false_marks",
    "false_per_scan",
    "found_original",
    "false_marks_original",
    "gained",
    "lost",
    "noise_hu",
)
SCAN_COLUMNS = (
    "variant",
    "seriesuid",
    "nodules",
    "found",
    "false_marks",
    "noise_hu",
    "spacing_z_mm",
    "scores",
    "left_out",
    "failed",
)


def write_robustness(result: RobustnessResult, folder: Path, provenance: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Write the tables, the plot and every variant's candidates into `folder`; files of the same name are replaced.

    Returns all notices. Errors: `output-failed`.
    """
    make_folder(folder)
    drawn, said = _draw(result)
    notices = (*result.notices, *said)
    write_csv(folder / "robustness.csv", COLUMNS, [[_value(v, name) for name in COLUMNS] for v in result.variants])
    write_csv(folder / "scans.csv", SCAN_COLUMNS, _scan_rows(result))
    replace_file(folder / "robustness.md", "\n".join(robustness_lines(result)) + "\n")
    write_picture(folder / "robustness.png", drawn)
    for name, found in result.marks.items():
        replace_file(folder / f"candidates-{_plain(name)}.csv", candidates_csv(found))
    figures = {
        "settings": dataclasses.asdict(result.config),
        "variants": [{name: _value(v, name) for name in COLUMNS} for v in result.variants],
        "by_scan": [dataclasses.asdict(scan) for scan in result.scans],
        "notices": [dataclasses.asdict(notice) for notice in notices],
    }
    write_json(folder / "robustness.json", "robustness", figures, provenance)
    return notices


def robustness_lines(result: RobustnessResult) -> list[str]:
    """The table in Markdown."""
    percent = round(100 * result.config.confidence)
    lines = [
        f"Marks that score {result.config.threshold:g} and more. Brackets: {percent} % interval (Wilson). "
        '"Original" in brackets: the same scans as they are.',
        "",
        "| variant | scans | noise, HU | nodules found | sensitivity | lost / gained | false marks per scan |",
        "|---|---|---|---|---|---|---|",
    ]
    return [*lines, *map(_line, result.variants)]


def _line(v: VariantOutcome) -> str:
    if not v.scans:
        return f"| {v.variant} | 0 | – | – | – | – | – |"
    noise = "–" if v.noise_hu is None else f"{v.noise_hu:.0f}"
    share = "–" if v.sensitivity is None else f"{v.sensitivity:.2f} ({v.lower:.2f} – {v.upper:.2f})"
    false = f"{v.false_marks / v.scans:.2f} ({v.false_marks_original / v.scans:.2f})"
    found = f"{v.found} of {v.nodules} ({v.found_original})"
    return f"| {v.variant} | {v.scans} | {noise} | {found} | {share} | {v.lost} / {v.gained} | {false} |"


def _value(variant: VariantOutcome, name: str) -> Any:
    return getattr(variant, name)


def _scan_rows(result: RobustnessResult) -> list[tuple[Any, ...]]:
    return [
        (
            scan.variant,
            scan.series_uid,
            None if scan.left_out else scan.nodules,
            None if scan.left_out else scan.found,
            None if scan.left_out else scan.false_marks,
            scan.noise_hu,
            scan.spacing_mm[0] if scan.spacing_mm else None,
            " ".join("none" if score is None else f"{score:.4f}" for score in scan.scores),
            scan.left_out,
            scan.failed,
        )
        for scan in result.scans
    ]


def _plain(name: str) -> str:
    """A variant's name as part of a file's."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def _draw(result: RobustnessResult) -> Drawing:
    """Sensitivity with its interval, and false marks per scan, side by side."""
    made = new_figure(8.4, 3.4)
    if isinstance(made, Notice):
        return None, (made,)
    left, right = made.subplots(1, 2, sharey=True)
    rows = [v for v in result.variants if v.scans]
    for place, v in enumerate(rows):
        if v.sensitivity is not None:
            left.hlines(place, v.lower, v.upper, color=INK, linewidth=1.2)
            left.plot(v.sensitivity, place, "o", color=ACCENT, markersize=5)
            left.plot(v.found_original / v.nodules, place, "|", color=MUTED, markersize=12)
        right.barh(place, v.false_per_scan, color=ACCENT, height=0.55)
        right.plot(v.false_marks_original / v.scans, place, "|", color=INK, markersize=12)
    left.set_yticks(range(len(rows)), [v.variant for v in rows])
    left.invert_yaxis()
    left.set(xlim=(0, 1.02), xlabel="sensitivity")
    right.set(xlabel="false marks per scan")
    right.set_xlim(left=0)
    left.set_title(f"at score {result.config.threshold:g}; strokes: the same scans as they are", loc="left", fontsize=9)
    return png(made, left, right), ()
