"""monitor.json ─► the files: JSON, page, OpenMetrics."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lungscreen.batch.metrics import Gauges
from lungscreen.files import replace_file
from lungscreen.monitor.page import monitor_page

__all__ = ["write_monitor"]


def write_monitor(document: Mapping[str, Any], out: Path) -> None:
    """Write monitor.json, monitor.html and monitor.prom.

    Errors: `output-failed`.
    """
    replace_file(out / "monitor.json", json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    replace_file(out / "monitor.html", monitor_page(document))
    _gauges(document).write(out / "monitor.prom")


def _gauges(document: Mapping[str, Any]) -> Gauges:
    """What is not claimed is not among them."""
    reads = document["reads"] or ()
    gauges = Gauges()
    signed: dict[tuple[str, ...], float | None] = {(part["pipeline"],): part["reads"] for part in reads}
    _add(gauges, "signed_studies", "Signed studies", signed, "pipeline")
    told: dict[tuple[str, ...], Any] = {(part["pipeline"],): part["figures"] for part in reads if part["claimed"]}
    for name in ("sensitivity_first_reads", "sensitivity_final_reads", "category_changed"):
        shares = {pipeline: figures[name]["share"] for pipeline, figures in told.items()}
        _add(gauges, name, "Share of all signed studies, or of their nodules", shares, "pipeline")
    charts = dict(_charts("reads", reads)) | dict(_charts("nights", document["nights"]))
    for name, text, value in (
        ("alarm", "1 where the chart alarms", lambda chart: float(chart["alarm"] is not None)),
        ("sum", "The chart's sum after the last study", lambda chart: chart["sums"][-1]),
        ("threshold", "Where it alarms", lambda chart: chart["threshold"]),
    ):
        _add(gauges, name, text, {key: value(chart) for key, chart in charts.items()}, "of", "pipeline", "chart")
    return gauges


def _add(gauges: Gauges, name: str, text: str, values: Mapping[tuple[str, ...], float | None], *labels: str) -> None:
    there = {key: value for key, value in values.items() if value is not None}
    gauges.add(f"monitor_{name}", text, there, *labels)


def _charts(of: str, parts: Iterable[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """What tells them apart, and those that were drawn."""
    for part in parts:
        drawn = (chart for chart in part["charts"] if chart["drawn"])
        yield from (((of, part["pipeline"], chart["name"]), chart) for chart in drawn)
