"""node.toml ─► NodeConfig: where the node listens, who may send, what it may take, where results go."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lungscreen.config import read_table, read_toml

__all__ = ["Destination", "NodeConfig", "NodeLimits", "PriorSource", "Tls", "read_node_config"]

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LONGEST_TITLE = 16
"""Characters of an AE title (PS3.5, VR AE)."""


@dataclass(frozen=True)
class Tls:
    """Files in PEM.

    certificate, key: the node's own.
    authority: who signs the other side's certificates; a listener that has one takes only peers with such a certificate
        (mutual TLS), a destination without one is checked by the system's.
    """

    certificate: str = ""
    key: str = ""
    authority: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("expected certificate and key, or neither")


@dataclass(frozen=True)
class Destination:
    """Where results are sent: a DICOM node (host, port, ae_title), or a DICOMweb service (url).

    credentials: a file for the service, readable to its owner only, with `token`, or with `user` and `password`.
    commitment: whether the node is asked to commit to what it stored.
    tls: without it the connection to a node is plain; of a service the files that its https needs beside the system's.
    """

    host: str = ""
    port: int = 0
    ae_title: str = ""
    url: str = ""
    credentials: str = ""
    commitment: bool = False
    tls: Tls | None = None

    def __post_init__(self) -> None:
        if self.url:
            _check_service(self)
            return
        if not self.host or self.credentials:
            raise ValueError("expected host, port and ae_title of a DICOM node, or the url of a DICOMweb service")
        _check_title(self.ae_title)
        _check_port(self.port)


@dataclass(frozen=True)
class PriorSource:
    """Where earlier exams are asked for before a study is read.

    archive: a DICOM node (C-FIND, C-MOVE to this node's AE title) or a DICOMweb service (QIDO-RS, WADO-RS).
    most: earlier exams of a person that are fetched, the latest first.
    wait_s: how long a study waits for them at most.
    """

    archive: Destination
    most: int = 2
    wait_s: float = 300.0

    def __post_init__(self) -> None:
        if self.most < 1 or self.wait_s <= 0:
            raise ValueError("priors: expected most of at least 1 and wait_s above 0")
        if self.archive.commitment:
            raise ValueError("priors: nothing is committed there")


@dataclass(frozen=True)
class NodeLimits:
    """What the node takes, and how long it waits."""

    associations: int = 10
    """That are open at once; a further one is rejected."""
    instance_mb: float = 2048.0
    """A larger instance is answered with 0xA700 and not kept."""
    keep_free_mb: float = 1024.0
    """Free space below which instances are answered with 0xA700."""
    idle_s: float = 60.0
    """An association from which no whole PDU came for so long is closed."""
    quiet_s: float = 60.0
    """A study to which nothing was added for so long, and that no association sends, is read."""
    half_sent_s: float = 900.0
    """A study whose association broke off is kept back for so long, for its sender to try again."""
    poll_s: float = 5.0
    """From one look at what was received, and at what is to be sent, to the next."""
    retry_s: float = 10.0
    """Wait before the second attempt to send; it doubles with each attempt."""
    longest_retry_s: float = 600.0
    """The longest of those waits."""
    most_refusals: int = 6
    """A result that a destination refused so often is a dead letter. One that is away costs no attempt."""
    commitment_s: float = 3600.0
    """A destination that has not said for so long that it committed a result is asked again, `most_refusals` times."""

    def __post_init__(self) -> None:
        for name in ("associations", "most_refusals"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1")
        for name in ("instance_mb", "idle_s", "poll_s", "retry_s", "longest_retry_s", "commitment_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0")
        for name in ("keep_free_mb", "quiet_s", "half_sent_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more")


@dataclass(frozen=True)
class NodeConfig:
    """One node.

    folder: for what is received and for the results.
    calling: AE titles that may send.
    addresses: networks that may connect (all where empty).
    send: named destinations.
    priors: where earlier exams are asked for; nowhere where None.
    """

    folder: str
    calling: tuple[str, ...]
    ae_title: str = "LUNGSCREEN"
    host: str = "127.0.0.1"
    port: int = 11112
    addresses: tuple[str, ...] = ()
    pipeline: str = "screening"
    outputs: tuple[str, ...] = ("page", "candidates", "dicom")
    key_file: str = ""
    tls: Tls | None = None
    limits: NodeLimits = field(default_factory=NodeLimits)
    send: dict[str, Destination] = field(default_factory=dict)
    priors: PriorSource | None = None

    def __post_init__(self) -> None:
        _check_port(self.port)
        for title in (self.ae_title, *self.calling):
            _check_title(title)
        if not self.calling:
            raise ValueError("calling: name the AE titles that may send")
        for address in self.addresses:
            ipaddress.ip_network(address)
        self._check_doors()

    def _check_doors(self) -> None:
        if self.tls is not None and not self.tls.certificate:
            raise ValueError("tls: a node that listens needs a certificate and its key")
        if self.send and not any(name.startswith("dicom") for name in self.outputs):
            raise ValueError("outputs: what is sent is DICOM: add dicom")
        if self.host not in LOOPBACK and self.tls is None and not self.addresses:
            raise ValueError("host: another one than 127.0.0.1 needs tls or addresses: AE titles are no protection")

    # -- where things lie --------------------------------------------------------------------------------------------
    @property
    def incoming(self) -> Path:
        """What was received and is not taken yet."""
        return Path(self.folder) / "incoming"

    @property
    def inbox(self) -> Path:
        """What the batch reads."""
        return Path(self.folder) / "inbox"

    @property
    def returned(self) -> Path:
        """Own results that came back: kept, never read."""
        return Path(self.folder) / "returned"

    @property
    def priors_folder(self) -> Path:
        """Earlier exams that were fetched: compared with, never read themselves."""
        return Path(self.folder) / "priors"

    @property
    def results(self) -> Path:
        """The results folder of the batch."""
        return Path(self.folder) / "results"


def _check_service(service: Destination) -> None:
    """Errors: ValueError where it is no address of a service, or would give credentials away."""
    address = urlsplit(service.url)
    if address.scheme not in ("http", "https") or not address.hostname or address.username or address.query:
        raise ValueError("url: expected http(s)://HOST/PATH; credentials stand in a file")
    if any((service.host, service.port, service.ae_title, service.commitment)):
        raise ValueError("url: host, port, ae_title and commitment belong to DICOM nodes")
    if service.credentials and address.scheme == "http" and address.hostname not in LOOPBACK:
        raise ValueError("credentials: they would be sent in plain text: expected https")


def _check_title(title: str) -> None:
    """Errors: ValueError where it is no AE title."""
    plain = title.isascii() and title.isprintable() and "\\" not in title
    if not (plain and title.strip() and len(title) <= LONGEST_TITLE):
        raise ValueError(f"expected an AE title of 1 to {LONGEST_TITLE} printable characters, got {title!r}")


def _check_port(port: int) -> None:
    """Errors: ValueError where it is no port."""
    if not 0 <= port <= 65535:
        raise ValueError(f"expected a port up to 65535, got {port}")


def read_node_config(path: Path) -> NodeConfig:
    """The file.

    Errors: `config-invalid`.
    """
    return read_table(NodeConfig, read_toml(path), str(path))
