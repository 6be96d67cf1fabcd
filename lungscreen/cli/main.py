"""`lungscreen COMMAND ...`: names the commands, imports the one that was called, turns errors into exit codes.

A command is a module `lungscreen/cli/<name>.py` with `add_arguments(parser)` and `run(args) -> int`.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lungscreen import RESEARCH_USE, __version__
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import LungscreenError, UsageError
from lungscreen.logs import LOG, logs_are_json, tell, where_raised
from lungscreen.text import plain_text

__all__ = ["COMMANDS", "CONNECTED", "command_parser", "main"]

COMMANDS: dict[str, str] = {
    "screen": "read studies and write a report for each",
    "batch": "read a whole inbox overnight, resume, show how far it is",
    "detect": "search volumes of any size for nodules: candidates only",
    "assess": "measure, type and grade a reader's own marks",
    "pipelines": "list the pipelines that are installed, or print one to change",
    "grade": "grade typed-in nodules of whole cohorts by the rules, without images",
    "phantom": "make synthetic chest CT as DICOM, with its truth",
    "evaluate": "measure detection or classification against what is known",
    "export": "write DICOM objects, PDF or FHIR of results that stand on disk",
    "deidentify": "write CT series without what names a person, for research",
    "data": "make annotated scans ready for training",
    "node": "a DICOM node: a PACS sends studies to it and gets the results back",
    "room": "the reading room: people read studies in a browser, CAD keeps quiet until they have signed",
    "monitor": "performance after deployment: signed reads and nights over time, with control charts",
    "predict": "send a study to a reading room and wait for its report",
    "train": "make the weights of a network again, or with other data",
}
"""Command → what it does, in the order of `--help`."""

CONNECTED = frozenset({"node", "room", "predict"})
"""Commands with connections: a peer that goes away is an error of that connection, not the end of the process."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code (`lungscreen.cli.exit_codes`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in words if not word.startswith("-")), "")
    parser = _parser(command)
    args = parser.parse_args(words)
    with _broken_pipes(args.command), _logged(args):
        return _run(args)


@contextmanager
def _broken_pipes(command: str) -> Iterator[None]:
    """`lungscreen … | head` ends quietly when head does; commands with connections live on. As before afterwards."""
    if not hasattr(signal, "SIGPIPE") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN if command in CONNECTED else signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)


@contextmanager
def _logged(args: argparse.Namespace) -> Iterator[None]:
    """The log of a command that has one, with what libraries write on stderr."""
    if not hasattr(args, "log_json"):
        yield
        return
    from lungscreen.library_lines import hear_libraries
    from lungscreen.logs import start_logs, stop_logs

    start_logs(args.log_json)
    try:
        with hear_libraries(args.log_json):
            yield
    finally:
        stop_logs()


def _run(args: argparse.Namespace) -> int:
    try:
        return int(importlib.import_module(f"lungscreen.cli.{args.command.replace('-', '_')}").run(args))
    except UsageError as error:
        _complain(error)
        return ExitCode.USAGE
    except LungscreenError as error:
        _complain(error)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        tell("interrupted", "interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:
        if not logs_are_json():
            raise
        LOG.critical("crashed", extra={"fields": {"where": where_raised(error)}})
        return ExitCode.FAILED


def command_parser(command: str) -> argparse.ArgumentParser:
    """The parser of one command, as its own help shows it."""
    (subparsers,) = (a for a in _parser(command)._actions if isinstance(a, argparse._SubParsersAction))
    parser: argparse.ArgumentParser = subparsers.choices[command]
    return parser


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lungscreen",
        description=f"Reads low-dose chest CT for lung-cancer screening. {RESEARCH_USE}",
    )
    parser.add_argument("--version", action="version", version=f"lungscreen {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {RESEARCH_USE}"
        )
        if name == command:
            importlib.import_module(f"lungscreen.cli.{name.replace('-', '_')}").add_arguments(sub)
    return parser


def _complain(error: LungscreenError) -> None:
    tell("command failed", f"lungscreen: {plain_text(str(error))}", code=error.code, reason=plain_text(error.reason))


if __name__ == "__main__":
    sys.exit(main())
