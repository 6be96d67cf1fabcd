"""A node in a thread, and the peers around it: archives and senders by pynetdicom."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batch_models import MODELS
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt

from lungscreen.node.config import Destination, NodeConfig, NodeLimits
from lungscreen.node.run import run_node

CT = "1.2.840.10008.5.1.4.1.1.2"
FAST = {"poll_s": 0.2, "quiet_s": 0.3, "half_sent_s": 0.0, "keep_free_mb": 1.0, "retry_s": 0.2, "longest_retry_s": 0.4}


def config_of(folder: Path, *, limits: dict[str, Any] | None = None, **more: Any) -> NodeConfig:
    """A node with short waits at a free port."""
    key = folder / "key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    values: dict[str, Any] = {"calling": ("SENDER",), "port": 0, "key_file": str(key)}
    return NodeConfig(folder=str(folder / "node"), limits=NodeLimits(**FAST | (limits or {})), **values | more)


@contextmanager
def running(config: NodeConfig) -> Iterator[int]:
    """A whole node, with networks of a few lines. Gives its port; ends well, or the test fails."""
    stop, there, ports, errors = threading.Event(), threading.Event(), [], []

    def work() -> None:
        try:
            run_node(config, stopped=stop.is_set, ready=lambda p: (ports.append(p), there.set()), models=MODELS)
        except BaseException as error:
            errors.append(error)
            there.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert there.wait(30)
        if errors:
            raise errors[0]
        yield ports[0]
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert not errors, errors


def wait_for(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What it gives, as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def associate(
    port: int, *, calling: str = "SENDER", called: str = "LUNGSCREEN", classes: Sequence[str] = (CT,), **more: Any
) -> Any:
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    for uid in classes:
        entity.add_requested_context(uid, ExplicitVRLittleEndian)
    return entity.associate("127.0.0.1", port, ae_title=called, **more)


def send(port: int, files: Sequence[Path], **more: Any) -> list[int]:
    """Each file by C-STORE in one association; the statuses."""
    datasets = [dcmread(path) for path in files]
    association = associate(port, classes=sorted({d.SOPClassUID for d in datasets}), **more)
    assert association.is_established
    statuses = [association.send_c_store(d).Status for d in datasets]
    association.release()
    return statuses


class Archive:
    """Stores what it is sent in memory; answers what `answer` says."""

    def __init__(
        self, answer: Callable[[Any], int] = lambda _: 0x0000, port: int = 0, classes: Sequence[str] = ()
    ) -> None:
        self.got: list[Any] = []
        self.answer = answer
        entity = AE(ae_title="ARCHIVE")
        for uid in classes or [c.abstract_syntax for c in AllStoragePresentationContexts]:
            entity.add_supported_context(str(uid), ExplicitVRLittleEndian)
        self._server = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def destination(self) -> Destination:
        return Destination("127.0.0.1", self.port, "ARCHIVE")

    def _store(self, event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        status = self.answer(dataset)
        if status == 0 or status >> 12 == 0xB:
            self.got.append(dataset)
        return status

    def close(self) -> None:
        self._server.shutdown()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
