"""`lungscreen node run|status|retry`: a DICOM node that a PACS sends studies to and gets results from."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen import RESEARCH_USE
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.shared import add_log_json, add_umask, stopping_at_signals
from lungscreen.logs import tell

if TYPE_CHECKING:
    from lungscreen.node.config import NodeConfig

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand and its options."""
    parser.add_argument(
        "what", nargs="?", choices=("run", "status", "retry"), default="run",
        help="run it until SIGTERM (default); show where studies and results are; queue dead letters again",
    )  # fmt: skip
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="node.toml (docs/node.md)")
    parser.add_argument("--json", action="store_true", help="status as one JSON object")
    add_umask(parser)
    add_log_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    from lungscreen.node.config import read_node_config

    return {"run": _run, "status": _status, "retry": _retry}[args.what](args, read_node_config(args.config))


def _run(args: argparse.Namespace, config: NodeConfig) -> int:
    from lungscreen.node.run import run_node

    os.umask(args.umask)
    stop = threading.Event()
    tell("started", RESEARCH_USE, note=RESEARCH_USE)

    def ready(port: int) -> None:
        print(f"{config.ae_title} listens at {config.host}:{port}", flush=True)

    with stopping_at_signals(stop):
        run_node(config, stopped=stop.is_set, ready=ready)
    return ExitCode.OK


def _status(args: argparse.Namespace, config: NodeConfig) -> int:
    from lungscreen.node.status import node_status, node_text

    status = node_status(config)
    print(json.dumps(status, indent=1) if args.json else node_text(status))
    return ExitCode.OK


def _retry(_: argparse.Namespace, config: NodeConfig) -> int:
    from lungscreen.node.status import retry_letters

    print(f"{retry_letters(config)} dead letters queued again.", file=sys.stderr)
    return ExitCode.OK
