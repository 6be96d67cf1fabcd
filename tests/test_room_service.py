"""Uploads, jobs and other servers; a real PostgreSQL; a server that is killed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the reading room's extra is not installed")

import httpx
from report_examples import key_of
from room_factory import PASSWORD, Client, Rooms, graded_finding, make_room, one_report, write_studies

from lungscreen.room.config import Limits, RoomConfig
from lungscreen.room.core import open_room
from lungscreen.room.service import _ask_ledger

KEY = key_of(one_report("1.2.3.4"))
DICOM = b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0"


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    limits = Limits(upload_bytes=4 * 1024 * 1024, upload_members=100, uploads_a_day=5)
    with make_room(write_studies(tmp_path / "results", one_report("1.2.3.4")), RoomConfig(limits=limits)) as found:
        yield found


def archive(*members: tuple[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as made:
        for name, content in members:
            made.writestr(name, content)
    return file.getvalue()


def symlink() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        info = zipfile.ZipInfo("link.dcm")
        info.external_attr = 0o120777 << 16
        made.writestr(info, "/etc/passwd")
    return file.getvalue()


def lying_size() -> bytes:
    """An archive whose directory says that a small member is large."""
    whole = bytearray(archive(("a.dcm", DICOM), packing=zipfile.ZIP_STORED))
    place = whole.rfind(b"PK\1\2")
    struct.pack_into("<I", whole, place + 24, 3 * 1024 * 1024 * 1024)
    return bytes(whole)


def send(client: Client, content: Any, kind: str = "application/zip", **headers: str) -> httpx.Response:
    return client.post("/api/v1/studies", content=content, headers={"Content-Type": kind, **headers})


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no archive", "archive-damaged"),
        (archive(("a.dcm", DICOM))[:-30], "archive-damaged"),
        (archive(), "input-empty"),
        (archive(("../../a.dcm", DICOM)), "archive-unsafe"),
        (archive(("/etc/a.dcm", DICOM)), "archive-unsafe"),
        (archive(("..\\a.dcm", DICOM)), "archive-unsafe"),
        (archive(("C:\\a.dcm", DICOM)), "archive-unsafe"),
        (symlink(), "archive-unsafe"),
        (archive(*((f"{n}.dcm", b"") for n in range(10_000))), "archive-too-large"),
        (archive(("bomb.dcm", b"\0" * (3 * 1024 * 1024))), "archive-too-large"),
        (lying_size(), "archive-too-large"),
    ],
    ids=["none", "half", "empty", "up", "absolute", "windows", "drive", "link", "members", "bomb", "lies"],
)
def test_a_hostile_upload_is_refused_and_leaves_nothing(rooms: Rooms, content: bytes, code: str) -> None:
    answer = send(rooms.client("prog", "machine"), content)
    assert (answer.status_code, answer.json()["code"], answer.json()["reason_code"]) == (422, "upload-refused", code)
    folders = rooms.room.folders
    assert [*folders.inbox.iterdir(), *(folders.room / "spool").iterdir()] == []


def test_what_is_no_dicom_is_refused(rooms: Rooms) -> None:
    assert send(rooms.client("prog", "machine"), b"x" * 200, "application/dicom").json()["reason_code"] == "not-dicom"
    assert send(rooms.client("prog", "machine"), b"x", "text/plain").json()["code"] == "body-kind"


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_above_the_limit_is_stopped(rooms: Rooms, declared: bool) -> None:
    content = os.urandom(5 * 1024 * 1024)

    async def parts() -> Any:
        for start in range(0, len(content), 1 << 16):
            yield content[start : start + (1 << 16)]

    assert send(rooms.client("prog", "machine"), content if declared else parts()).status_code == 413
    assert [*rooms.room.folders.inbox.iterdir()] == []


def test_the_same_upload_twice_is_one_job(rooms: Rooms) -> None:
    """Same key and body: the same job. Same key, another body: refused. Another sender's job is not there."""
    sender, content = rooms.client("prog", "machine"), archive(("a.dcm", DICOM))
    first, again = (send(sender, content, **{"Idempotency-Key": "one"}) for _ in range(2))
    assert first.status_code == again.status_code == 202
    assert first.headers["location"] == again.headers["location"] == f"/api/v1/jobs/{first.json()['id']}"
    other = send(sender, archive(("b.dcm", DICOM)), **{"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-reused")
    assert [p.name for p in rooms.room.folders.inbox.iterdir()] == [first.json()["id"]]
    place = first.headers["location"]
    assert sender.get(place).json() == {"id": first.json()["id"], "state": "waiting", "code": "", "study": ""}
    assert rooms.client("other", "machine").get(place).status_code == 404
    assert sender.request("DELETE", place).status_code == 204
    assert sender.get(place).status_code == 404
    assert [*rooms.room.folders.inbox.iterdir()] == []


def test_a_day_has_a_quota(rooms: Rooms) -> None:
    sender = rooms.client("prog", "machine")
    answers = [send(sender, archive((f"{n}.dcm", DICOM))) for n in range(6)]
    assert [answer.status_code for answer in answers] == [202] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) > 80_000


# -- other servers ---------------------------------------------------------------------------------------------------
@pytest.fixture
def pacs() -> Iterator[str]:
    """A server that answers WADO-RS for one study, and redirects for another."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/studies/1.2.3"):
                body = b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + DICOM + b"\r\n--xx--\r\n"
                self.send_response(200)
                self.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=xx')
                self.end_headers()
                self.wfile.write(body)
            else:
                self.send_response(302)
                self.send_header("Location", "/dicom/studies/1.2.3")
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/dicom"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_study_is_fetched_from_named_servers_only(tmp_path: Path, pacs: str) -> None:
    """An address outside the list, a way up, a user name and a redirect lead nowhere."""
    with make_room(write_studies(tmp_path, one_report("1.2.3.4")), RoomConfig(dicomweb=(pacs,))) as rooms:
        sender = rooms.client("prog", "machine")

        def ask(address: str, uid: str = "1.2.3") -> httpx.Response:
            return sender.post("/api/v1/studies", json={"dicomweb": address, "study": uid})

        host = pacs.removeprefix("http://").removesuffix("/dicom")
        for address in (
            "http://169.254.169.254/dicom", f"http://{host}/other", f"http://{host}/dicomx", f"{pacs}/../other",
            f"http://user@{host}/dicom", f"https://{host}/dicom", f"{pacs}?x=1", f"{pacs}/%2e%2e/x", "file:///etc",
        ):  # fmt: skip
            assert ask(address).json()["code"] == "body-invalid", address
        assert ask(pacs, "1.2/../3").json()["code"] == "body-invalid"
        assert ask(pacs, "9.9").json()["reason_code"] == "input-missing"
        taken = ask(pacs)
        assert taken.status_code == 202
        (upload,) = (rooms.room.folders.inbox / taken.json()["id"]).iterdir()
        with zipfile.ZipFile(upload) as found:
            assert [found.read(name) for name in found.namelist()] == [DICOM]


# -- how a job goes --------------------------------------------------------------------------------------------------
def test_a_job_follows_the_ledger(rooms: Rooms) -> None:
    """The worst of an upload's studies is told; the ledger is only read."""
    results = rooms.room.folders.results
    sender = rooms.client("prog", "machine")
    job = send(sender, archive(("a.dcm", DICOM))).json()["id"]
    index = sqlite3.connect(results / "index.sqlite")
    index.executescript(
        "CREATE TABLE place (id INTEGER, path BLOB); CREATE TABLE folder (id INTEGER, place INTEGER, path BLOB);"
        "CREATE TABLE file (folder INTEGER, study INTEGER); CREATE TABLE study (id INTEGER, key TEXT)"
    )
    index.execute("INSERT INTO place VALUES (1, ?)", (os.fsencode(rooms.room.folders.inbox),))
    index.execute("INSERT INTO folder VALUES (1, 1, ?)", (os.fsencode(rooms.room.folders.inbox / job),))
    index.execute("INSERT INTO file VALUES (1, 7)")
    index.execute("INSERT INTO study VALUES (7, ?)", (KEY,))
    index.commit()
    index.close()
    ledger = sqlite3.connect(results / "ledger.sqlite")
    ledger.execute("CREATE TABLE study (key TEXT, state TEXT, code TEXT)")
    ledger.execute("INSERT INTO study VALUES (?, 'running', '')", (KEY,))
    ledger.commit()
    assert _ask_ledger(rooms.room.folders, job) == ("running", "", KEY)
    assert _ask_ledger(rooms.room.folders, "0" * 32) is None
    assert sender.get(f"/api/v1/jobs/{job}").json()["state"] == "running"
    ledger.execute("UPDATE study SET state = 'refused', code = 'no-lungs'")
    ledger.commit()
    ledger.close()
    answer = sender.get(f"/api/v1/jobs/{job}")
    assert answer.json() == {"id": job, "state": "refused", "code": "no-lungs", "study": KEY}
    assert "retry-after" not in answer.headers


# -- PostgreSQL ------------------------------------------------------------------------------------------------------
@pytest.fixture
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own in a folder of the test's, reached through a socket there."""
    tools = {name: _tool(name) for name in ("initdb", "pg_ctl")}
    if None in tools.values():
        pytest.skip("PostgreSQL is not installed here")
    folder = Path("/tmp") / f"room-pg-{os.getpid()}"  # a socket's path must be short
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    as_user: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("runuser") is None or subprocess.run(["id", "postgres"], capture_output=True).returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"
    quiet = {"check": True, "capture_output": True, "cwd": "/"}
    subprocess.run([*as_user, tools["initdb"], "-D", data, "-A", "trust", "-U", "room", "--no-sync"], **quiet)
    options = f"-c listen_addresses= -c unix_socket_directories={folder}"
    start = [*as_user, tools["pg_ctl"], "-D", data, "-o", options, "-l", folder / "log", "-w", "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    yield f"postgresql://room@/postgres?host={folder}"
    subprocess.run([*as_user, tools["pg_ctl"], "-D", data, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(folder, ignore_errors=True)


def _tool(name: str) -> str | None:
    found = shutil.which(name)
    if found:
        return str(Path(found).resolve())
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else None


def test_the_same_room_on_postgresql(tmp_path: Path, postgresql: str) -> None:
    """A whole read, the trail, and the triggers, on a real server; opened twice, migrated once."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    folder = write_studies(tmp_path, one_report("1.2.3.4", graded_finding()))
    for name in ("anna", "ben"):
        with make_room(folder, RoomConfig(mode="second-reader"), database=postgresql) as rooms:
            final = rooms.client(name).read_to_end(KEY) if name == "anna" else None
            if final is not None:
                assert (final["state"], final["computed"]["category"]) == ("final", "4A")
            found = rooms.room.audit.verify(rooms.room.store)
            assert found.faults == ()
            assert found.rows >= 5
            for statement in ("DELETE FROM audit", "UPDATE audit SET who = 'x'", "UPDATE reads SET final_text = 'x'"):
                with pytest.raises(SQLAlchemyError), rooms.room.store.write() as connection:
                    connection.execute(text(statement))
            assert rooms.client("cleo").get("/api/v1/worklist?q=DOE").json()["total"] == 1


# -- killed ----------------------------------------------------------------------------------------------------------
SERVER = """
import sys
from argon2 import PasswordHasher
from pathlib import Path
from lungscreen.room.core import open_room
from lungscreen.room.serve import Listener, serve
serve(open_room(Path(sys.argv[1]), hasher=PasswordHasher(1, 8, 1), in_process=True),
      Listener("127.0.0.1", int(sys.argv[2])), with_batch=False)
"""


@pytest.mark.slow
def test_a_killed_server_loses_nothing_that_it_said_was_saved(tmp_path: Path) -> None:
    """SIGKILL at 20 random moments of saving and signing: what was answered is there, nothing is signed twice,
    the trail is whole.
    """
    reports = [one_report(f"1.2.3.{n}", graded_finding()) for n in range(20)]
    folder, keys = write_studies(tmp_path, *reports), [key_of(report) for report in reports]
    room = open_room(folder, in_process=True)
    room.sync()
    with room.store.write() as connection:
        from argon2 import PasswordHasher

        room.accounts._hasher = PasswordHasher(1, 8, 1)
        room.accounts.add(connection, "anna", "reader", PASSWORD)
    room.close()
    chance = random.Random(17)
    for number, key in enumerate(keys):
        port = 20_000 + os.getpid() % 20_000 + number
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(folder), str(port)])
        try:
            said = _work_until_killed(server, f"http://127.0.0.1:{port}", key, chance.uniform(0.0, 0.6))
        finally:
            server.kill()
            server.wait()
        _check_survived(folder, key, said)
    room = open_room(folder, in_process=True)
    assert room.audit.verify(room.store).faults == ()
    room.close()


def _work_until_killed(server: subprocess.Popen[bytes], url: str, key: str, after_s: float) -> dict[str, Any]:
    """Read as a reader does, as fast as it goes. Returns the last answer that came."""
    with httpx.Client(base_url=url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=20, trust_env=False) as http:
        for _ in range(400):
            try:
                http.get("/readyz")
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        http.post("/api/v1/login", json={"name": "anna", "password": PASSWORD})
        read = http.post(f"/api/v1/studies/{key}/reads").json()
        killer = threading.Timer(after_s, server.kill)
        killer.start()
        try:
            for step in range(10_000):
                read = _step(http, read, step)
                if read["state"] == "final":
                    time.sleep(after_s)
                    break
        except httpx.HTTPError:
            pass
        killer.cancel()
        return read


def _step(http: httpx.Client, read: dict[str, Any], step: int) -> dict[str, Any]:
    place, headers = f"/api/v1/reads/{read['id']}", {"If-Match": f'"{read["version"]}"'}
    if step in (10, 20):
        answer = http.post(f"{place}/sign", json={"password": PASSWORD}, headers=headers)
        http.get(f"{place}/cad")
    else:
        decisions = [{"finding": 1, "verdict": "accept"}] if read["state"] == "signed-first" else []
        content = {"exam": {"quality": "good", "text": f"step {step}"}, "decisions": decisions}
        answer = http.put(place, json={**content, "acknowledged": ["acquisition-unknown"]}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _check_survived(folder: Path, key: str, said: dict[str, Any]) -> None:
    database = sqlite3.connect(folder / "room" / "room.sqlite")
    row = database.execute(
        "SELECT version, state, content, first_text, first_sha256, final_text, final_sha256 FROM reads WHERE study = ?",
        (key,),
    ).fetchone()
    signed = database.execute(
        "SELECT what FROM audit WHERE object = ? AND what LIKE 'signed%'", (said["id"],)
    ).fetchall()
    database.close()
    assert row[0] - said["version"] in (0, 1), (
        "what was answered is there; at most the step that was not answered is too"
    )
    if row[0] == said["version"]:
        assert json.loads(row[2])["exam"]["text"] == said["content"]["exam"]["text"]
    for text, digest in ((row[3], row[4]), (row[5], row[6])):
        assert (hashlib.sha256(text.encode()).hexdigest() == digest) if text else digest == ""
    expected = {"reading": 0, "signed-first": 1, "final": 2}[row[1]]
    assert len(signed) == expected == len(set(signed))


def test_a_server_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    """SIGTERM ends it, cleanly, with its pages served until then."""
    folder, port = write_studies(tmp_path, one_report("1.2.3.4")), 40_000 + os.getpid() % 20_000
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(folder), str(port)])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as http:
            for _ in range(600):
                try:
                    assert http.get("/readyz").json() == {"status": "ready"}
                    break
                except httpx.HTTPError:
                    time.sleep(0.1)
            else:
                pytest.fail("the server never answered")
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, "it ends by itself: the batch beside it is told"
    finally:
        server.kill()
        server.wait()


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from lungscreen.room import serve, work
from lungscreen.room.core import open_room
room = open_room(Path(sys.argv[1]))
batch = serve._start_batch(room)
worker = room.bench.start("who", os.getpid).result(120)
print(batch.pid, worker, flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_killed_server_takes_its_processes_with_it(tmp_path: Path) -> None:
    """After SIGKILL neither the batch beside the service nor the worker that measures goes on."""
    server = subprocess.Popen([sys.executable, "-c", KILLED, str(write_studies(tmp_path))], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        children = [int(number) for number in server.stdout.readline().split()]
        assert len(children) == 2
        assert all(map(_lives, children)), "they run until then"
        server.kill()
        server.wait()
        for _ in range(600):
            if not any(map(_lives, children)):
                break
            time.sleep(0.1)
        assert [_lives(child) for child in children] == [False, False]
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def _lives(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
