"""`lungscreen predict`: the smallest client of a reading room's service."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from lungscreen import RESEARCH_USE
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]

KINDS = {".zip": "application/zip", ".dcm": "application/dicom"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a study as .zip, or one DICOM file (.dcm)")
    parser.add_argument("--server", required=True, metavar="URL", help="address of the reading room")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE",
        help="file with the token of a machine account (default: the variable LUNGSCREEN_TOKEN)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the report goes (default: stdout)")
    parser.add_argument("--limit", type=float, default=3600.0, metavar="S", help="seconds to wait (default: 3600)")


def run(args: argparse.Namespace) -> int:
    """Send, wait, fetch."""
    try:
        import httpx
    except ModuleNotFoundError:
        raise UsageError("extra-missing", "this command is not installed: pip install 'lungscreen[room]'") from None
    from lungscreen.files import replace_file

    kind = KINDS.get(args.file.suffix.lower())
    if kind is None or not args.file.is_file():
        raise UsageError("usage", "expected a .zip or .dcm file", str(args.file))
    headers = {"Authorization": f"Bearer {_token(args.token_file)}"}
    try:
        with httpx.Client(base_url=args.server, headers=headers, timeout=600.0, trust_env=False) as client:
            report = _ask(client, args.file, kind, args.limit)
    except httpx.HTTPError as error:
        raise InputError("input-missing", f"the service cannot be reached ({type(error).__name__})") from None
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    if args.out is None:
        print(text, end="")
    else:
        replace_file(args.out, text)
    print(RESEARCH_USE, file=sys.stderr)
    return ExitCode.OK


def _token(path: Path | None) -> str:
    try:
        token = os.environ.get("LUNGSCREEN_TOKEN", "") if path is None else path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        raise UsageError("usage", "the token cannot be read", str(path)) from None
    if not token.strip():
        raise UsageError("usage", "no token: name a file with --token-file, or set LUNGSCREEN_TOKEN")
    return token.strip()


def _ask(client: Any, file: Path, kind: str, limit_s: float) -> Any:
    with file.open("rb") as content:
        sent = _checked(client.post("/api/v1/studies", content=content, headers={"Content-Type": kind}))
    end = time.monotonic() + limit_s
    job = sent.json()
    while job["state"] in ("waiting", "running"):
        if time.monotonic() > end:
            raise InputError("time-limit", f"not read within {limit_s:g} s; job {job['id']} goes on")
        time.sleep(2.0)
        job = _checked(client.get(f"/api/v1/jobs/{job['id']}")).json()
    if job["state"] != "done":
        raise InputError(_known(job["code"]), f"the study was {job['state']}")
    return _checked(client.get(f"/api/v1/studies/{job['study']}/report")).json()


def _checked(answer: Any) -> Any:
    if answer.status_code < 400:
        return answer
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    reason = f"the service answered {answer.status_code}: {problem.get('detail') or 'no reason'}"
    raise InputError(_known(str(problem.get("reason_code") or "")), reason)


def _known(code: str) -> str:
    """A code of ours; what the service alone knows is `usage`."""
    from lungscreen.codes import CODES

    return code if code in CODES else "usage"
