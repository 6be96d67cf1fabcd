"""What several commands take and say alike."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import UsageError
from lungscreen.logs import tell
from lungscreen.operating_points import OPERATING_POINTS
from lungscreen.text import plain_text

if TYPE_CHECKING:
    from lungscreen.clinical import ClinicalTable
    from lungscreen.outputs.registry import OutputsConfig
    from lungscreen.pipeline import Pipeline

__all__ = [
    "add_clinical",
    "add_log_json",
    "add_operating_point",
    "add_outputs",
    "add_pipeline",
    "add_umask",
    "chosen_pipeline",
    "clinical_table",
    "comma_names",
    "exit_code",
    "name_missing",
    "stopping_at_signals",
]


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    """`--pipeline`."""
    parser.add_argument(
        "--pipeline", default="screening", metavar="NAME_OR_FILE", help="pipeline: a shipped name or a TOML file"
    )


def add_operating_point(parser: argparse.ArgumentParser) -> None:
    """`--operating-point`."""
    parser.add_argument(
        "--operating-point", choices=tuple(OPERATING_POINTS),
        help="which candidates become findings (default: as the pipeline says)",
    )  # fmt: skip


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """`--outputs` and its shorthand `--save-masks`."""
    from lungscreen.outputs.registry import OUTPUTS

    parser.add_argument(
        "--outputs", type=comma_names, metavar="A,B",
        help=f"outputs of each study beside report.json, in place of the pipeline's: {', '.join(OUTPUTS)}",
    )  # fmt: skip
    parser.add_argument(
        "--save-masks", action="store_true",
        help="write lungs.nii.gz and findings.nii.gz per study: masks, beside the other outputs",
    )  # fmt: skip


def comma_names(text: str) -> tuple[str, ...]:
    """Names parted by commas, each once, in their order."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def add_clinical(
    parser: argparse.ArgumentParser, text: str = "patient data as CSV or JSON (docs/clinical-rules.md)"
) -> None:
    """`--clinical`."""
    parser.add_argument("--clinical", type=Path, metavar="FILE", help=text)


def add_log_json(parser: argparse.ArgumentParser) -> None:
    """`--log-json`."""
    parser.add_argument("--log-json", action="store_true", help="log every event to stderr, one JSON object a line")


def chosen_pipeline(args: argparse.Namespace) -> Pipeline:
    """The pipeline that was named, at the operating point and with the outputs that were chosen.

    Errors: `config-invalid`; `usage` where the pipeline sets a threshold of its own, or for an output there is not;
    `extra-missing` for an output whose packages are not installed.
    """
    from lungscreen.pipeline import read_pipeline

    pipeline = read_pipeline(args.pipeline)
    pipeline = replace(pipeline, outputs=_chosen_outputs(args, pipeline.outputs))
    if not args.operating_point:
        return pipeline
    if pipeline.findings.threshold is not None:
        raise UsageError("usage", "the pipeline sets findings.threshold, so no operating point can be chosen")
    return replace(pipeline, findings=replace(pipeline.findings, operating_point=args.operating_point))


def _chosen_outputs(args: argparse.Namespace, outputs: OutputsConfig) -> OutputsConfig:
    """What the command line says is written; as the pipeline has it where it says nothing."""
    names = outputs.write if getattr(args, "outputs", None) is None else args.outputs
    if getattr(args, "save_masks", False):
        names = (*names, "masks")
    from lungscreen.outputs.registry import check_extras

    try:
        chosen = replace(outputs, write=tuple(dict.fromkeys(names)))
    except ValueError as error:
        raise UsageError("usage", str(error), "--outputs") from None
    check_extras(chosen.names)
    return chosen


def clinical_table(path: Path | None) -> ClinicalTable | None:
    """The patient data that were named; what is to be said of the file goes to stderr.

    Errors: `clinical-invalid`.
    """
    from lungscreen.clinical import read_clinical

    if path is None:
        return None
    table = read_clinical(path)
    for notice in table.notices:
        tell("patient data", f"{path.name}: {plain_text(notice.text)}", code=notice.code)
    return table


def add_umask(parser: argparse.ArgumentParser) -> None:
    """`--umask`."""
    parser.add_argument(
        "--umask", type=_octal, default=0o027, metavar="OCTAL",
        help="rights that results do not get (default: 027, nobody but owner and group may read them)",
    )  # fmt: skip


def _octal(text: str) -> int:
    if not (text.isdecimal() and set(text) <= set("01234567") and int(text, 8) <= 0o777):
        raise argparse.ArgumentTypeError(f"expected an octal number up to 777, got {text!r}")
    return int(text, 8)


def name_missing(inputs: Sequence[Path]) -> None:
    """Say which of the inputs do not exist; the rest is read all the same."""
    for number, path in enumerate(inputs, 1):
        if not os.path.lexists(path):
            tell("input missing", f"{plain_text(str(path))} does not exist.", code="input-missing", input=number)


def exit_code(out: Path, complete: bool) -> ExitCode:
    """How a run over studies ends; says where to look when not everything was read."""
    if complete:
        return ExitCode.OK
    tell("run incomplete", f"Not everything was read: see {out / 'refused.csv'}")
    return ExitCode.SOME_REFUSED


@contextmanager
def stopping_at_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set the event, as long as this lasts."""
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
