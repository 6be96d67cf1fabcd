"""Ledger ─► an OpenMetrics text file for node_exporter's textfile collector. No names, no UIDs, no paths."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from lungscreen.batch.ledger import Ledger
from lungscreen.files import replace_file

__all__ = ["METRICS_FILE", "Gauges", "write_metrics"]

METRICS_FILE = "metrics.prom"

RATE_HOURS = 1.0


class Gauges:
    """Numbers to be watched, one file of them."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self._registry = CollectorRegistry()

    def add(self, name: str, text: str, values: Mapping[tuple[str, ...], float], *labels: str) -> None:
        """values: by the labels' values; `()` where there are no labels."""
        from prometheus_client import Gauge

        one = Gauge(f"lungscreen_{name}", text, labels, registry=self._registry)
        for key, value in values.items():
            (one.labels(*key) if labels else one).set(value)

    def write(self, target: Path) -> None:
        """Write them in place of the last file.

        Errors: `output-failed`.
        """
        from prometheus_client.openmetrics.exposition import generate_latest

        replace_file(target, generate_latest(self._registry))  # type: ignore[no-untyped-call]  # it has no types


def write_metrics(ledger: Ledger, out: Path, target: Path | None = None) -> None:
    """Write what there is to watch, in place of the last file.

    Errors: `output-failed`.
    """
    gauges = Gauges()
    gauges.add("studies", "Studies in the ledger by state", {(s,): n for s, n in ledger.counts().items()}, "state")
    gauges.add(
        "not_read_studies", "Studies that were refused or failed, by code",
        {(state, code): count for (state, code), count in ledger.codes().items()}, "state", "code",
    )  # fmt: skip
    gauges.add(
        "studies_per_hour",
        "Studies that ended per hour, over the last hour of work",
        {(): ledger.rate(RATE_HOURS) or 0.0},
    )
    gauges.add("free_bytes", "Free space where the results go", {(): float(shutil.disk_usage(out).free)})
    gauges.add("written_timestamp_seconds", "When this file was written", {(): time.time()})
    seconds, peaks = ledger.stage_figures()
    gauges.add("stage_seconds_mean", "Mean seconds of a stage over the studies that were read", seconds, "stage")
    gauges.add("stage_peak_mebibytes", "Largest memory of a worker during a stage", peaks, "stage")
    gauges.write(target or out / METRICS_FILE)
