"""Room ─► a listening service, and the batch that reads what is uploaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lungscreen.batch.lifeline import end_with
from lungscreen.room.app import make_app
from lungscreen.room.core import Room

__all__ = ["Listener", "serve"]


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the service listens.

    proxy: address of the one that speaks TLS for it; empty without one.
    """

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None
    proxy: str = ""


def serve(room: Room, listener: Listener, *, with_batch: bool = True) -> None:
    """Answer until SIGINT or SIGTERM. Access is not logged: addresses name studies.

    with_batch: also run the batch that watches the inbox; it ends with the service.
    """
    import uvicorn

    tls = bool(listener.tls_cert and listener.tls_key)
    config = uvicorn.Config(
        make_app(room),
        host=listener.host,
        port=listener.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(listener.proxy),
        forwarded_allow_ips=listener.proxy or "127.0.0.1",
        ssl_certfile=str(listener.tls_cert) if tls else None,
        ssl_keyfile=str(listener.tls_key) if tls else None,
        timeout_graceful_shutdown=10,
    )
    # uvicorn raises a signal again once it has ended: by default that would end us before the batch is told
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    batch = _start_batch(room) if with_batch else None
    try:
        uvicorn.Server(config).run()
    finally:
        if batch is not None:
            batch.terminate()
            batch.wait(timeout=120)
        signal.signal(signal.SIGTERM, before)


def _start_batch(room: Room) -> subprocess.Popen[bytes]:
    """`lungscreen batch run` on the inbox: the one engine that reads studies.

    It is told to end when this thread ends, so that a killed service leaves nothing reading behind.
    """
    command = [
        sys.executable, "-m", "lungscreen.cli.main", "batch", "run", str(room.folders.inbox),
        "--out", str(room.folders.results), "--pipeline", room.config.pipeline, "--watch", "--quiet", "5",
        "--outputs", "page,candidates,masks,room",
        "--poll", "5",
    ]  # fmt: skip
    if room.key_file is not None:
        command += ["--key-file", str(room.key_file)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=partial(end_with, os.getpid(), signal.SIGTERM),  # no thread of ours runs yet
    )
