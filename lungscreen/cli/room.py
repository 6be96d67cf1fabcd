"""`lungscreen room serve|user|export|audit|tiers`: the reading room."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen import RESEARCH_USE
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.shared import add_log_json
from lungscreen.errors import UsageError
from lungscreen.logs import tell

if TYPE_CHECKING:
    from lungscreen.room.core import Room

__all__ = ["add_arguments", "room_of_results", "run"]

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ROLES = ("reader", "arbiter", "lead", "admin", "machine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their options."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    _serve_arguments(commands.add_parser("serve", help="answer browsers and programs"))
    user = commands.add_parser("user", help="make an account").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    add = user.add_parser("add", help="a person, or a program (role machine) whose token is printed once")
    add.add_argument("name", metavar="NAME", help="of the account")
    add.add_argument("--role", required=True, choices=ROLES, help="what the account may do")
    add.add_argument("--password-stdin", action="store_true", help="read the password from stdin instead of asking")
    add.add_argument("--subject", default="", help="whom the site's own sign-in knows it as (OpenID Connect: sub)")
    _room_arguments(add, "results folder that the room is for")
    export = commands.add_parser("export", help="reads as training rows and reader-study tables")
    export.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the tables")
    _room_arguments(export, "results folder that the room is for", positional=True)
    audit = commands.add_parser("audit", help="who did what; with --verify, whether the trail is whole")
    audit.add_argument("--verify", action="store_true", help="check every row, and the anchor")
    audit.add_argument("--json", action="store_true", help="as a JSON list")
    _room_arguments(audit, "results folder that the room is for", positional=True)
    tiers = commands.add_parser("tiers", help="freeze suspicion tiers 1 to 10 on the studies that are there now")
    _room_arguments(tiers, "results folder of the reference nights", positional=True)


def _room_arguments(parser: argparse.ArgumentParser, text: str, positional: bool = False) -> None:
    if positional:
        parser.add_argument("results", type=Path, metavar="RESULTS", help=text)
    else:
        parser.add_argument("--results", required=True, type=Path, metavar="RESULTS", help=text)
    parser.add_argument("--config", type=Path, metavar="FILE", help="room.toml (docs/room-admin.md)")
    parser.add_argument(
        "--database", default="", metavar="URL", help="postgresql://… (default: RESULTS/room/room.sqlite)"
    )


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    _room_arguments(parser, "results folder of `screen` or `batch run`", positional=True)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at; another one than this machine's own needs TLS")
    add("--port", type=int, default=8080, help="port to listen at")
    add("--tls-cert", type=Path, metavar="FILE", help="certificate chain (PEM)")
    add("--tls-key", type=Path, metavar="FILE", help="its key (PEM)")
    add(
        "--behind-proxy",
        action="store_true",
        help="a proxy of this site speaks TLS; its X-Forwarded headers are trusted",
    )
    add("--proxy-address", default="127.0.0.1", metavar="IP", help="where that proxy's requests come from")
    add("--key-file", type=Path, metavar="FILE", help="key for pseudonyms (default: the user's own)")
    add("--no-batch", action="store_true", help="start no batch for uploads: another one watches the inbox")
    add_log_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    _check_installed()
    return {"serve": _serve, "user": _user, "export": _export, "audit": _audit, "tiers": _tiers}[args.what](args)


def _check_installed() -> None:
    try:
        import fastapi  # noqa: F401 - only whether it is there
    except ModuleNotFoundError:
        raise UsageError("extra-missing", "the reading room is not installed: pip install 'lungscreen[room]'") from None


def _open(args: argparse.Namespace, secure: bool = False) -> Room:
    return room_of_results(args.results, args.config, args.database, secure, getattr(args, "key_file", None))


def room_of_results(
    results: Path, config: Path | None, database: str, secure: bool = False, key_file: Path | None = None
) -> Room:
    """The room of a results folder, open.

    Errors: `extra-missing`, `input-missing`, and those of `lungscreen.room.core.open_room`.
    """
    _check_installed()
    from lungscreen.room.config import read_room_config
    from lungscreen.room.core import open_room

    if not results.is_dir():
        raise UsageError("input-missing", "expected a folder of results", str(results))
    return open_room(results, read_room_config(config), database=database, secure=secure, key_file=key_file)


def _serve(args: argparse.Namespace) -> int:
    from lungscreen.room.serve import Listener, serve

    tls = bool(args.tls_cert and args.tls_key)
    if args.host not in LOOPBACK and not (tls or args.behind_proxy):
        raise UsageError("usage", "another address than 127.0.0.1 needs --tls-cert and --tls-key, or --behind-proxy")
    room = _open(args, secure=tls or args.behind_proxy)
    listener = Listener(
        args.host, args.port, args.tls_cert, args.tls_key, args.proxy_address if args.behind_proxy else ""
    )
    scheme = "https" if tls else "http"
    print(f"{scheme}://{args.host}:{args.port}/", flush=True)
    tell("started", RESEARCH_USE, note=RESEARCH_USE)
    serve(room, listener, with_batch=not args.no_batch)
    return ExitCode.OK


def _user(args: argparse.Namespace) -> int:
    room = _open(args)
    try:
        password = "" if args.role == "machine" or args.subject else _password(args.password_stdin)
        with room.store.write() as connection:
            number = room.accounts.add(connection, args.name, args.role, password, args.subject)
            token = room.accounts.add_token(connection, number) if args.role == "machine" else ""
            room.audit.add(connection, "command line", "user-added", args.name, role=args.role)
        room.audit.anchor_head(room.store)
    finally:
        room.close()
    if token:
        print(token)
    return ExitCode.OK


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("Password (at least 12 characters): ")
    if getpass.getpass("Again: ") != first:
        raise UsageError("usage", "the two are not alike")
    return first


def _export(args: argparse.Namespace) -> int:
    from lungscreen.room.export import export_reads

    room = _open(args)
    try:
        count = export_reads(room, args.out)
        room.note("command line", "export", "", reads=count)
    finally:
        room.close()
    print(f"{count} final reads in {args.out}. {RESEARCH_USE}", file=sys.stderr)
    return ExitCode.OK


def _audit(args: argparse.Namespace) -> int:
    from sqlalchemy import select

    from lungscreen.room.tables import audit

    room = _open(args)
    try:
        if args.verify:
            found = room.audit.verify(room.store)
            print("\n".join(found.faults) if found.faults else f"whole: {found.rows} rows")
            return ExitCode.SOME_REFUSED if found.faults else ExitCode.OK
        with room.store.read() as connection:
            rows = [dict(row._mapping) for row in connection.execute(select(audit).order_by(audit.c.seq))]
    finally:
        room.close()
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        print(
            "\n".join(f"{r['seq']}\t{r['at']:.3f}\t{r['who']}\t{r['what']}\t{r['object']}\t{r['detail']}" for r in rows)
        )
    return ExitCode.OK


def _tiers(args: argparse.Namespace) -> int:
    from lungscreen.room.studies import freeze_tiers

    room = _open(args)
    try:
        room.sync()
        with room.store.write() as connection:
            version = freeze_tiers(connection, room.config.double_reading.least_reference)
            room.audit.add(connection, "command line", "tiers-frozen", "", version=version)
        room.audit.anchor_head(room.store)
    finally:
        room.close()
    if version is None:
        least = room.config.double_reading.least_reference
        raise UsageError("usage", f"deciles need at least {least} studies that were read")
    print(f"tiers, version {version}")
    return ExitCode.OK
