"""Made-up requests, by what the room's own OpenAPI says: as every role, no answer is one that it does not describe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("schemathesis", reason="no made-up requests: schemathesis is not installed (lungscreen[browser])")
pytest.importorskip("fastapi", reason="the reading room is not installed")

from room_factory import ROLES, graded_finding, make_room, one_report, write_studies
from test_room_pages import listening

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
RUN = "import sys; from schemathesis.cli import schemathesis; sys.argv[0] = 'st'; schemathesis()"
ENDS_THE_SESSION = ("/api/v1/logout", "/api/v1/me/password")


@pytest.mark.slow
@pytest.mark.parametrize("role", ["", *ROLES])
def test_no_made_up_request_is_answered_as_the_openapi_does_not_say(tmp_path: Path, role: str) -> None:
    """Statuses, content types and bodies of some hundred requests, and no 5xx but the described 503."""
    with make_room(write_studies(tmp_path, one_report("1.2.3.4", graded_finding()))) as rooms:
        client = rooms.client("who" if role else "", role)
        who = f"Authorization: Bearer {rooms.tokens['who']}" if role == "machine" else "Sec-Fetch-Site: same-origin"
        headers = ["-H", who]
        if role not in ("", "machine"):
            headers += ["-H", f"Cookie: room={client.cookies['room']}"]
        left_out = [word for path in ENDS_THE_SESSION for word in ("--exclude-path", path)]
        with listening(rooms.app) as url:
            command = [sys.executable, "-c", RUN, "run", f"{url}/openapi.json", "--url", url, *headers, *left_out]
            options = ["--max-examples", "4", "--phases", "fuzzing", "--checks", ",".join(CHECKS), "--seed", "1"]
            done = subprocess.run(
                [*command, *options, "--no-color"],
                capture_output=True,
                text=True,
                timeout=300,
                cwd=tmp_path,
                check=False,
            )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "generated" in done.stdout
