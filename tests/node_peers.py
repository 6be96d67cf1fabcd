"""A node in a thread, and the peers around it: archives and senders by pynetdicom."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

from batch_models import MODELS
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import (
    AE,
    AllStoragePresentationContexts,
    QueryRetrievePresentationContexts,
    build_context,
    build_role,
    evt,
)

from lungscreen.node.config import Destination, NodeConfig, NodeLimits
from lungscreen.node.outbox import OUTBOX_FILE
from lungscreen.node.run import run_node
from lungscreen.node.status import node_status

COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
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


class CommittingArchive(Archive):
    """Stores, and commits to what it stored as `commit` says: on the association that asked, or on a new one.

    commit: of a SOP Instance UID a failure reason, or 0; None where no answer is to come at all.
    """

    def __init__(self, commit: Callable[[str], int | None], *, node_port: int = 0, status: int = 0) -> None:
        super().__init__()
        self.close()
        self.commit, self.node_port, self.status = commit, node_port, status
        self.asked: list[Any] = []
        entity = AE(ae_title="ARCHIVE")
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), ExplicitVRLittleEndian)
        entity.add_supported_context(COMMITMENT)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._asked)]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def _asked(self, event: Any) -> tuple[int, None]:
        request = event.action_information
        self.asked.append(request)
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        answers = [(row, self.commit(str(row.ReferencedSOPInstanceUID))) for row in request.ReferencedSOPSequence]
        if self.status == 0 and all(reason is not None for _, reason in answers):
            threading.Thread(target=self.report, args=(event.assoc, report, answers)).start()
        return self.status, None

    def report(self, association: Any, report: Dataset, answers: list[tuple[Dataset, int]]) -> None:
        report.ReferencedSOPSequence = [row for row, reason in answers if reason == 0]
        report.FailedSOPSequence = [row for row, reason in answers if reason]
        for row, reason in answers:
            if reason:
                row.FailureReason = reason
        if self.node_port:
            entity = AE(ae_title="SENDER")
            entity.add_requested_context(COMMITMENT)
            association = entity.associate(
                "127.0.0.1", self.node_port, ae_title="LUNGSCREEN", ext_neg=[build_role(COMMITMENT, scp_role=True)]
            )
        else:
            time.sleep(0.2)  # the request is answered first
        kind = 2 if report.FailedSOPSequence else 1
        association.send_n_event_report(report, kind, COMMITMENT, COMMITMENT_INSTANCE)
        if self.node_port:
            association.release()


class QueryArchive:
    """Has studies (files by folder), tells of them by C-FIND and sends them by C-MOVE.

    lost: of a file, whether it cannot be sent.
    says: changes what is told of a study.
    silent: says nothing at all.
    """

    def __init__(
        self,
        studies: Sequence[Sequence[Path]],
        *,
        lost: Callable[[Path], bool] = lambda _: False,
        says: Callable[[Dataset], None] = lambda _: None,
        silent: bool = False,
    ) -> None:
        self.studies = [[(path, dcmread(path)) for path in files] for files in studies]
        self.lost, self.says, self.silent = lost, says, silent
        self.node_port = 0
        self.asked: list[Dataset] = []
        self.moved: list[str] = []
        entity = AE(ae_title="QR")
        for context in QueryRetrievePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax))
        handlers = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_MOVE, self._move)]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def source(self) -> Destination:
        return Destination("127.0.0.1", int(self._server.server_address[1]), "QR")

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        self.asked.append(query)
        while self.silent and not event.is_cancelled and event.assoc.is_alive():
            time.sleep(0.05)
        for files in self.studies:
            first = files[0][1]
            if query.QueryRetrieveLevel == "STUDY" and query.PatientID == first.PatientID:
                yield 0xFF00, self._row(query, first, 0)
            if query.QueryRetrieveLevel == "SERIES" and query.StudyInstanceUID == first.StudyInstanceUID:
                yield 0xFF00, self._row(query, first, len(files))
        yield 0x0000, None

    def _row(self, query: Dataset, first: Dataset, count: int) -> Dataset:
        row = Dataset()
        for element in query:
            row[element.tag] = first.get(element.tag, element)
        if count:
            row.NumberOfSeriesRelatedInstances = count
        self.says(row)
        return row

    def _move(self, event: Any) -> Iterator[Any]:
        query, title = event.identifier, event.move_destination
        files = [f for study in self.studies for f in study if f[1].SeriesInstanceUID == query.SeriesInstanceUID]
        self.moved.append(str(query.StudyInstanceUID))
        yield ("127.0.0.1", self.node_port, {"ae_title": title, "contexts": self._contexts()})
        yield len(files)
        for path, dataset in files:
            if self.lost(path):
                yield 0xA700, None
            else:
                yield 0xFF00, dataset

    def _contexts(self) -> list[Any]:
        return [build_context(CT, ExplicitVRLittleEndian)]

    def close(self) -> None:
        self._server.shutdown()


class WebService:
    """DICOMweb on the loopback: what is posted is kept, and answered as `answer` says (HTTP status, DICOM JSON).

    files: of one series, which QIDO-RS tells of and WADO-RS gives.
    """

    def __init__(
        self,
        answer: Callable[[list[Any]], tuple[int, Any]] = lambda _: (200, {}),
        tls: ssl.SSLContext | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        self.answer, self.got, self.headers, self.files, self.asked = answer, [], [], files, []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.headers.append(dict(self.headers))
                status, answer = service.answer(service.keep(body))
                content = json.dumps(answer).encode()
                self.send_response(status)
                if status // 100 == 3:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                service.asked.append(query)
                status, kind, content = service.give(path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}/dicom-web"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def give(self, path: str) -> tuple[int, str, bytes]:
        """Status, type and content of what is asked for."""
        if not self.files:
            return 503, "text/plain", b""
        if path.endswith(("/studies", "/series")):
            first = dcmread(self.files[0], stop_before_pixels=True)
            first.NumberOfSeriesRelatedInstances = len(self.files)
            return 200, "application/dicom+json", json.dumps([first.to_json_dict()]).encode()
        parts = b"".join(
            b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() for file in self.files
        )
        return 200, 'multipart/related; type="application/dicom"; boundary=x', parts + b"\r\n--x--"

    def keep(self, body: bytes) -> list[Any]:
        """The data sets of a multipart body."""
        body = body.lstrip(b"\r\n")
        boundary = body[: body.index(b"\r\n")]
        parts = [part.split(b"\r\n\r\n", 1)[1][:-2] for part in body.split(boundary)[1:-1]]
        self.got += (datasets := [dcmread(BytesIO(part)) for part in parts])
        return datasets

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def stow_answer(datasets: Sequence[Any], failed: int = 0, warned: int = 0) -> dict[str, Any]:
    """A service's answer; failed: of all of them, the reason; warned: of all that it stored."""
    rows = []
    for dataset in datasets:
        row = {"00081155": {"vr": "UI", "Value": [dataset.SOPInstanceUID]}}
        if failed or warned:
            row["00081197" if failed else "00081196"] = {"vr": "US", "Value": [failed or warned]}
        rows.append(row)
    return {"00081198" if failed else "00081199": {"vr": "SQ", "Value": rows}}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def states(config: NodeConfig, destination: str = "pacs") -> dict[str, int]:
    """Objects for a destination by state."""
    return node_status(config)["results"][destination] if (config.results / OUTBOX_FILE).is_file() else {}


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """One that signs itself, and its key."""
    paths = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run([*command, *more], check=True, capture_output=True)
    return paths
