"""`lungscreen monitor`: how well it goes after deployment."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen import RESEARCH_USE
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import UsageError
from lungscreen.text import plain_text

if TYPE_CHECKING:
    from lungscreen.monitor import SignedStudy

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("nights", nargs="+", type=Path, metavar="NIGHT", help="results folders of `batch run`")
    add("--reads", type=Path, metavar="ROOM", help="results folder whose reading room people signed in")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for monitor.html, monitor.json, monitor.prom")
    add(
        "--since",
        type=_day,
        default=0.0,
        metavar="DATE",
        help="leave out what ended or was signed before this day (UTC)",
    )
    add("--config", type=Path, metavar="FILE", help="room.toml (docs/room-admin.md)")
    add("--database", default="", metavar="URL", help="postgresql://… (default: ROOM/room/room.sqlite)")


def run(args: argparse.Namespace) -> int:
    """Look at the nights and the reads, write the files, say each alarm."""
    from lungscreen.monitor import describe_performance, read_nights, write_monitor

    studies = read_nights(args.nights, args.since)
    signed, unreadable = _signed(args) if args.reads else (None, 0)
    document = describe_performance(studies, signed, unreadable=unreadable)
    write_monitor(document, args.out)
    for alarm in document["alarms"]:
        print(f"{alarm['code']}: {plain_text(alarm['text'])}", file=sys.stderr)
    said = "" if signed is None else f", {len(signed)} signed"
    print(f"{len(studies)} studies{said}; {len(document['alarms'])} alarms. {RESEARCH_USE}", file=sys.stderr)
    print(args.out / "monitor.html")
    return ExitCode.OK


def _signed(args: argparse.Namespace) -> tuple[list[SignedStudy], int]:
    if not args.database and not (args.reads / "room" / "room.sqlite").is_file():
        raise UsageError("input-missing", "there is no reading room: nobody signed in this folder", str(args.reads))
    from lungscreen.cli.room import room_of_results
    from lungscreen.monitor.reads import read_signed

    room = room_of_results(args.reads, args.config, args.database)
    try:
        return read_signed(room, args.since)
    finally:
        room.close()


def _day(text: str) -> float:
    """YYYY-MM-DD, UTC."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected YYYY-MM-DD, got {text!r}") from None
