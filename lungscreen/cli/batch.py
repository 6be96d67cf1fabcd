"""`lungscreen batch run|status|retry|join|audit`: many studies overnight."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
import time
from datetime import datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen import RESEARCH_USE
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.shared import (
    add_clinical,
    add_log_json,
    add_operating_point,
    add_outputs,
    add_pipeline,
    add_umask,
    chosen_pipeline,
    clinical_table,
    name_missing,
    stopping_at_signals,
)
from lungscreen.logs import tell

if TYPE_CHECKING:
    from lungscreen.batch import BatchRun, Ended

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their options."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    _run_arguments(commands.add_parser("run", help="read what is new, and go on where an earlier run left off"))
    status = commands.add_parser("status", help="what waits, runs, is done; when it will be done")
    status.add_argument("nights", nargs="+", type=Path, metavar="NIGHT", help="results folders; of parts, all together")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    retry = commands.add_parser("retry", help="put failed and refused studies back")
    retry.add_argument("night", type=Path, metavar="NIGHT", help="the results folder of a batch")
    join = commands.add_parser("join", help="one morning page over the parts of a night")
    join.add_argument("nights", nargs="+", type=Path, metavar="NIGHT", help="results folders, or one of parts")
    join.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for night.html and night.json")
    audit = commands.add_parser("audit", help="who ran what, when, on which input, with which weights")
    audit.add_argument("night", type=Path, metavar="NIGHT", help="the results folder of a batch")
    audit.add_argument("--sent", action="store_true", help="instead: what a node sent where, when, how acknowledged")
    audit.add_argument("--json", action="store_true", help="as a JSON list")
    retry.add_argument("--code", metavar="CODE", help="only those with this code")


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "inputs", nargs="+", type=Path, metavar="INBOX",
        help="folder (searched recursively), DICOM file, DICOMDIR, zip, or a NIfTI / NRRD / MHA / MHD volume",
    )  # fmt: skip
    add("--out", required=True, type=Path, metavar="NIGHT", help="folder for the results and the ledger")
    add_pipeline(parser)
    add_operating_point(parser)
    add_clinical(parser, "patient data as CSV or JSON; its column priority puts studies first")
    add(
        "--priors",
        type=Path,
        metavar="DIR",
        help="earlier exams of the same patients: images, report.json files or both",
    )
    add_outputs(parser)
    add("--watch", action="store_true", help="go on taking studies as they arrive, until --until or SIGTERM")
    add(
        "--until",
        type=_clock_time,
        metavar="HH:MM",
        help="stop at this local time; what is running is finished or put back",
    )
    add(
        "--quiet",
        type=float,
        metavar="S",
        help="with --watch: a study that stood still for so long is complete (default: 60)",
    )
    add(
        "--poll",
        type=float,
        metavar="S",
        help="with --watch: seconds from one look at the inputs to the next (default: 10)",
    )
    add("--shard", type=_shard, default=(1, 1), metavar="I/N", help="read the I-th of N parts, into NIGHT/shard-I-of-N")
    add(
        "--engine", choices=("local", "ray"), default="local",
        help="where studies are read: processes of this machine, or the nodes of a Ray cluster (docs/batch.md)",
    )  # fmt: skip
    add("--metrics", type=Path, metavar="FILE", help="OpenMetrics file for node_exporter (default: NIGHT/metrics.prom)")
    add("--workers", type=int, metavar="N", help="processes that read studies (default: by cores and memory)")
    add("--threads", type=int, metavar="N", help="threads of each worker (default: the cores, shared out)")
    add(
        "--worker-memory",
        type=float,
        metavar="MB",
        help="memory that a worker may take before its study costs an attempt (default: its share of the machine's)",
    )
    add("--study-limit", type=float, metavar="S", help="seconds that a study may take (default: 1800)")
    add("--key-file", type=Path, metavar="FILE", help="key for pseudonyms (default: the user's own, made when absent)")
    add("--identified", action="store_true", help="keep PatientIDs in the ledger and on the morning page")
    add_umask(parser)
    add_log_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    return {"run": _run, "status": _status, "retry": _retry, "join": _join, "audit": _audit}[args.what](args)


def _say_how_it_ended(ended: Ended) -> None:
    states = ", ".join(f"{count} {state}" for state, count in ended.states.items() if count)
    sentence = f"{ended.studies} studies: {states or 'none'}. {RESEARCH_USE}"
    tell("run ended", sentence, studies=ended.studies, **ended.states, note=RESEARCH_USE)
    if ended.how == "stopped" and ended.left:
        tell("run stopped", f"{ended.left} studies wait; the same command goes on.", left=ended.left)


def _run(args: argparse.Namespace) -> int:
    from lungscreen.batch import run_batch

    os.umask(args.umask)
    batch = _batch_run(args)
    stop = threading.Event()
    end = time.monotonic() + _seconds_until(args.until) if args.until else math.inf
    with stopping_at_signals(stop):
        ended = run_batch(batch, stopped=lambda: stop.is_set() or time.monotonic() >= end)
    name_missing(args.inputs)
    print(args.out / "worklist.html")
    _say_how_it_ended(ended)
    if stop.is_set() and not args.watch:
        return ExitCode.INTERRUPTED
    return ExitCode.OK if ended.complete else ExitCode.SOME_REFUSED


def _batch_run(args: argparse.Namespace) -> BatchRun:
    from lungscreen.batch import BatchConfig, BatchRun
    from lungscreen.errors import UsageError

    pipeline = chosen_pipeline(args)
    clinical = clinical_table(args.clinical)
    given = {
        "workers": args.workers,
        "threads": args.threads,
        "worker_memory_mb": args.worker_memory,
        "study_limit_s": args.study_limit,
        "quiet_s": args.quiet,
        "poll_s": args.poll,
    }
    try:
        config = BatchConfig(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError("usage", str(error)) from None
    return BatchRun(
        args.inputs,
        args.out,
        pipeline,
        clinical=clinical,
        priors=args.priors,
        config=config,
        key_file=args.key_file,
        identified=args.identified,
        watch=args.watch,
        metrics=args.metrics,
        shard=args.shard,
        engine=args.engine,
    )


def _status(args: argparse.Namespace) -> int:
    from lungscreen.batch.parts import find_parts, read_joint_status
    from lungscreen.batch.status import read_status, status_text

    parts = find_parts(args.nights)
    status = read_status(parts[0]) if parts == args.nights[:1] else read_joint_status(parts)
    print(json.dumps(status, indent=1) if args.json else status_text(status))
    return ExitCode.OK


def _retry(args: argparse.Namespace) -> int:
    from lungscreen.batch.status import retry_studies
    from lungscreen.node.outbox import retry_outbox

    count = retry_studies(args.night, args.code)
    print(f"{count} studies put back; `lungscreen batch run` reads them again.", file=sys.stderr)
    if letters := retry_outbox(args.night, args.code):
        print(f"{letters} results queued again; `lungscreen node` sends them.", file=sys.stderr)
    return ExitCode.OK


def _join(args: argparse.Namespace) -> int:
    from lungscreen.batch.parts import find_parts, join_nights

    join_nights(find_parts(args.nights), args.out)
    print(args.out / "night.html")
    return ExitCode.OK


def _audit(args: argparse.Namespace) -> int:
    from lungscreen.batch.audit import audit_text, read_audit, sent_text
    from lungscreen.node.outbox import outbox_rows

    rows = read_audit(args.night)
    words = audit_text
    if args.sent:
        rows, words = outbox_rows(args.night), sent_text
    print(json.dumps(rows, indent=1) if args.json else words(rows))
    return ExitCode.OK


def _clock_time(text: str) -> clock_time:
    """HH:MM."""
    try:
        return datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HH:MM, got {text!r}") from None


def _shard(text: str) -> tuple[int, int]:
    """I/N."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 1 to N, got {text!r}")
    return int(number), int(count)


def _seconds_until(when: clock_time) -> float:
    """Until the next time that the local clock says so."""
    now = datetime.now()
    end = now.replace(hour=when.hour, minute=when.minute, second=0, microsecond=0)
    return (end - now + timedelta(days=int(end <= now))).total_seconds()
