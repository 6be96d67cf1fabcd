"""`lungscreen evaluate detection|classification`: measure against what is known."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import UsageError
from lungscreen.text import plain_text

if TYPE_CHECKING:
    from lungscreen.errors import Notice
    from lungscreen.evaluation import DetectionResult

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lungscreen evaluate`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    detection = kinds.add_parser("detection", help="sensitivity at false marks per scan, by LUNA16's rules")
    detection.add_argument("--candidates", type=Path, required=True, metavar="CSV", help="the detector's marks")
    detection.add_argument("--annotations", type=Path, required=True, metavar="CSV", help="the nodules")
    detection.add_argument("--excluded", type=Path, metavar="CSV", help="findings that count neither way")
    detection.add_argument(
        "--series", type=Path, required=True, metavar="CSV", help="every scan searched, one UID a row"
    )
    detection.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    detection.add_argument(
        "--max-marks", type=_limit, default=100, metavar="N|none", help="marks of a scan that count at most (100)"
    )
    detection.add_argument(
        "--images", type=Path, metavar="DIR", help="the scans, for pictures of misses and false marks"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate. Returns the exit code."""
    return _run_detection(args)


def _run_detection(args: argparse.Namespace) -> int:
    from lungscreen.evaluation import (
        DetectionConfig,
        Nodules,
        evaluate_detection,
        read_marks,
        read_nodules,
        read_series_list,
        write_detection,
    )

    try:
        config = DetectionConfig(max_marks=args.max_marks)
    except ValueError as error:
        raise UsageError("usage", str(error)) from None
    excluded = read_nodules(args.excluded) if args.excluded else Nodules.none()
    series = read_series_list(args.series)
    result = evaluate_detection(read_marks(args.candidates), read_nodules(args.annotations), excluded, series, config)
    notices = write_detection(result, args.out, _provenance(args, "candidates", "annotations", "excluded", "series"))
    _say(notices)
    print("\n".join(_detection_lines(result)))
    return ExitCode.OK


def _detection_lines(result: DetectionResult) -> list[str]:
    figures = result.figures
    interval = figures["bootstrap"]["at_exact_rates"]
    lines = [
        f"scans {figures['scans']}, nodules {figures['nodules']}: found {figures['tp']}, missed {figures['fn']}, "
        f"false marks {figures['fp']}",
        "false marks per scan   sensitivity   95 % interval",
    ]
    for n, rate in enumerate(figures["fp_rates"]):
        low, high = interval["lower"][n], interval["upper"][n]
        lines.append(f"{rate:>20g}   {_number(figures['sensitivity'][n]):>11}   {_number(low)} – {_number(high)}")
    return [*lines, f"CPM {_number(figures['cpm'])}"]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _provenance(args: argparse.Namespace, *inputs: str) -> Mapping[str, Any]:
    """Inputs by content, not by path: a path can name a person."""
    from lungscreen.weights import sha256_of

    paths = {name: getattr(args, name) for name in inputs}
    return {"sha256": {name: sha256_of(path) for name, path in paths.items() if path is not None}}


def _say(notices: tuple[Notice, ...]) -> None:
    for notice in notices:
        print(f"lungscreen: {notice.code}: {plain_text(notice.text)}", file=sys.stderr)


def _limit(text: str) -> int | None:
    return None if text.lower() == "none" else int(text)
