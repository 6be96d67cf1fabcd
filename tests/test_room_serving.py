"""The service as it is started: `make room` in a fresh clone, TLS of its own, and a proxy that speaks TLS for it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the reading room is not installed")

import httpx
from node_peers import certificate, free_port
from report_examples import key_of
from room_browser import open_browser, watched_page
from room_factory import PASSWORD, graded_finding, one_report, write_studies
from test_room_pages import REFUSED

pytestmark = pytest.mark.slow

HERE = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "lungscreen.cli.main", "room"]
KEY = key_of(one_report("1.2.3.4"))
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {cert}; ssl_certificate_key {key};
{location}
  }}
}}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from open_browser()


@contextmanager
def started(command: list[str], **more: Any) -> Iterator[Queue[str]]:
    """A process in a group of its own, ended with all that it began; the lines that it prints."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **more
    )
    lines: Queue[str] = Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True)
    reader.start()
    try:
        yield lines
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reader.join(10)
        process.stdout.close()


def answering(url: str, verify: Any = True) -> None:
    """Wait until the room is ready."""
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz", verify=verify, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError("the room did not answer within a minute")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One study, and Anna."""
    made = write_studies(tmp_path / "results", one_report("1.2.3.4", graded_finding()))
    add = [*COMMAND, "user", "add", "anna", "--role", "reader", "--password-stdin", "--results", str(made)]
    subprocess.run(add, input=PASSWORD, text=True, check=True, capture_output=True)
    return made


def context_of(cert: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=cert)


# -- a fresh clone ---------------------------------------------------------------------------------------------------
def fresh_clone(folder: Path) -> Path:
    """The files that git knows or would take, and an environment that is installed: that of these tests."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HERE,
        capture_output=True,
        check=False,
    )
    if names.returncode:
        pytest.skip("no clone here: git does not know these files")
    for name in filter(None, names.stdout.decode().split("\0")):
        if (HERE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(HERE / name, folder / name)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    for stamp in ("torch", "installed", "installed-room"):
        (folder / ".venv" / stamp).touch()
    return folder


def test_make_room_is_ready_in_a_fresh_clone(browser: Any, tmp_path: Path) -> None:
    """Phantoms, screening, an account and the service from one command; then a person signs in with what it printed,
    opens a study and sees its slices, without an error in the console.
    """
    if shutil.which("make") is None:
        pytest.skip("no make here")
    clone, port = fresh_clone(tmp_path), free_port()
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    with started(["make", "room", f"ROOM_PORT={port}"], cwd=clone, env=environment) as lines:
        said, password = "", ""
        while f"http://127.0.0.1:{port}/" not in said:
            try:
                said += lines.get(timeout=240)
            except Empty:
                pytest.fail(said[-2000:])
        password = re.search(r"Password: (\S+)", said)[1]  # type: ignore[index]
        url = f"http://127.0.0.1:{port}"
        answering(url)
        with watched_page(browser, url, expected=REFUSED) as page:
            page.goto(url)
            page.wait_for_url("**/static/login.html**")
            page.get_by_label("Name").fill("reader")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_selector("a.open", timeout=20_000)
            assert page.locator("a.open").count() >= 2
            page.locator("a.open").first.click()
            page.wait_for_selector("#panes[data-complete]", state="attached", timeout=60_000)
            page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=60_000)
    assert (clone / "room" / "login").stat().st_size > 12


# -- TLS of its own --------------------------------------------------------------------------------------------------
def test_the_service_speaks_tls(browser: Any, results: Path, tmp_path: Path) -> None:
    """The cookie is the guarded kind, browsers are told to stay on https, and plain http gets nothing."""
    cert, key = certificate(tmp_path, "room")
    port = free_port()
    serve = [*COMMAND, "serve", str(results), "--port", str(port), "--tls-cert", cert, "--tls-key", key, "--no-batch"]
    with started(serve):
        url = f"https://127.0.0.1:{port}"
        answering(url, context_of(cert))
        with httpx.Client(base_url=url, verify=context_of(cert), trust_env=False) as http:
            answer = http.post("/api/v1/login", json={"name": "anna", "password": PASSWORD}, headers={"Origin": url})
            assert answer.status_code == 200
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-room=")
            assert "secure" in cookie.lower()
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False)
        read_in_a_browser(browser, url)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_another_address_without_tls_is_refused(results: Path, address: str) -> None:
    """Before anything listens: names and passwords never cross a network in the clear."""
    done = subprocess.run(
        [*COMMAND, "serve", str(results), "--host", address, "--port", str(free_port()), "--no-batch"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "--tls-cert" in done.stderr


def read_in_a_browser(browser: Any, url: str) -> None:
    """Sign in, open the study, see all slices, sign out: as a person behind TLS does."""
    context = browser.new_context(ignore_https_errors=True)
    page, wrong = context.new_page(), []
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.goto(url)
    page.wait_for_url("**/static/login.html**")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.locator("a.open").first.click()
    page.wait_for_selector("#panes[data-complete]", state="attached", timeout=60_000)
    assert [cookie["name"] for cookie in context.cookies()] == ["__Host-room"]
    page.locator("#leave").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/static/login.html**")
    context.close()
    assert [text for text in wrong if not any(part in text for part in REFUSED)] == []


# -- behind a proxy --------------------------------------------------------------------------------------------------
def nginx_location(room_port: int) -> str:
    """The block of docs/room-admin.md, with this test's port."""
    page = (HERE / "docs" / "room-admin.md").read_text(encoding="utf-8")
    found = re.search(r"```nginx\n(.*?)```", page, re.DOTALL)
    assert found, "docs/room-admin.md has an nginx block"
    assert "127.0.0.1:8080" in found[1]
    return found[1].replace("127.0.0.1:8080", f"127.0.0.1:{room_port}")


def test_behind_nginx_as_the_guide_has_it(browser: Any, results: Path, tmp_path: Path) -> None:
    """The guide's own block: sign-in from pages of the outer address, guarded cookies, pixels as they were compressed,
    uploads larger than nginx lets through by itself; wrong passwords count for the client, whatever it claims to be.
    """
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(nginx).exists():
        pytest.skip("no nginx here (Debian: nginx-light)")
    cert, key = certificate(tmp_path, "proxy")
    room_port, port = free_port(), free_port()
    (tmp_path / "nginx.conf").write_text(
        NGINX.format(folder=tmp_path, port=port, cert=cert, key=key, location=nginx_location(room_port))
    )
    token = subprocess.run(
        [*COMMAND, "user", "add", "pacs", "--role", "machine", "--results", str(results)],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    serve = [*COMMAND, "serve", str(results), "--port", str(room_port), "--behind-proxy", "--no-batch"]
    url = f"https://127.0.0.1:{port}"
    with started(serve), started([nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]):
        answering(url, context_of(cert))
        read_in_a_browser(browser, url)
        with httpx.Client(base_url=url, verify=context_of(cert), trust_env=False, timeout=60) as http:
            login = {"name": "anna", "password": PASSWORD}
            answer = http.post("/api/v1/login", json=login, headers={"Origin": "https://elsewhere.example"})
            assert answer.json()["code"] == "foreign-origin"
            own = {"Origin": url}
            answer = http.post("/api/v1/login", json=login, headers=own)
            assert answer.headers["set-cookie"].startswith("__Host-room=")
            pixels = http.get(f"/api/v1/studies/{KEY}/slices/0/16", headers={"Accept-Encoding": "zstd"})
            assert (pixels.status_code, pixels.headers["content-encoding"]) == (200, "zstd")
            with_token = {"Authorization": f"Bearer {token}", "Content-Type": "application/zip"}
            sent = http.post("/api/v1/studies", content=bytes(3 * 1024 * 1024), headers=with_token)
            assert sent.json()["code"] == "upload-refused", "it came through whole: it is no archive"
            for n in range(10):
                wrong = {"name": f"nobody-{n}", "password": "a wrong one of length"}
                claimed = {**own, "X-Forwarded-For": f"203.0.113.{n}"}
                assert http.post("/api/v1/login", json=wrong, headers=claimed).status_code == 401
            answer = http.post("/api/v1/login", json=login, headers=own)
            assert (answer.status_code, answer.json()["code"]) == (429, "too-many-attempts")
