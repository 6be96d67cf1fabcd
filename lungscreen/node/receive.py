"""Associations ─► Arrivals: C-ECHO, and C-STORE of every storage class in every transfer syntax, undecoded.

What is answered to a C-STORE: 0x0000 when the instance is on the disk; 0xA700 where there is no room for it; 0xC000
where it names no SOP instance.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lungscreen.errors import UsageError
from lungscreen.logs import LOG
from lungscreen.node.arrivals import Arrivals, FullError, Origin
from lungscreen.node.config import NodeConfig
from lungscreen.node.dimse import CommitmentAnswers
from lungscreen.node.tls import server_tls

__all__ = ["Receiver"]

SUCCESS, NO_ROOM, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000


@dataclass
class _Open:
    """An open association.

    heard: monotonic seconds of its last whole PDU.
    """

    association: Any
    heard: float
    released: bool = False


class Receiver:
    """Listens, until it is closed."""

    def __init__(self, config: NodeConfig, arrivals: Arrivals) -> None:
        """Errors: `config-invalid` for TLS files that cannot be used; `node-address` where it cannot listen."""
        self._config, self._arrivals = config, arrivals
        self._networks = [ipaddress.ip_network(address) for address in config.addresses]
        self._lock = threading.Lock()
        self._open: dict[int, _Open] = {}
        self._commitments = CommitmentAnswers(config)
        self.codes: Counter[str] = Counter()
        """What was refused or broke off since the node was started, by code."""
        self._server = self._listen()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def associations(self) -> int:
        """That are open now."""
        return len(self._open)

    def close(self) -> None:
        """Stop listening; what is open is aborted."""
        self._server.shutdown()

    def close_idle(self) -> None:
        """Close the associations from which nothing whole came for `idle_s`."""
        now = time.monotonic()
        with self._lock:
            idle = [entry for entry in self._open.values() if now - entry.heard > self._config.limits.idle_s]
        for entry in idle:
            self._count("peer-idle")
            _hang_up(entry.association)

    # -- what pynetdicom is told -------------------------------------------------------------------------------------
    def _listen(self) -> Any:
        from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
        from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]  # made at run time

        entity = AE(ae_title=self._config.ae_title)
        entity.maximum_associations = self._config.limits.associations
        entity.maximum_pdu_size = 1 << 17
        entity.network_timeout = self._config.limits.idle_s
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._config.calling)
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        if any(destination.commitment for destination in self._config.send.values()):
            # a destination opens an association to say what it commits to
            entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_PDU_RECV, self._heard),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_CONN_CLOSE, self._closed),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._commitments.take),
        ]
        context_of_tls = server_tls(self._config.tls) if self._config.tls else None
        address = (self._config.host, self._config.port)
        try:
            return entity.start_server(address, block=False, ssl_context=context_of_tls, evt_handlers=handlers)
        except OSError as error:
            where = f"{address[0]}:{address[1]}"
            raise UsageError("node-address", f"cannot listen there: {error.strerror}", where) from None

    def _opened(self, event: Any) -> None:
        association = event.assoc
        with self._lock:
            self._open[id(association)] = _Open(association, time.monotonic())
        address = ipaddress.ip_address(event.address[0])
        if self._networks and not any(address in network for network in self._networks):
            self._count("peer-refused")
            _hang_up(association)

    def _heard(self, event: Any) -> None:
        if entry := self._open.get(id(event.assoc)):
            entry.heard = time.monotonic()

    def _rejected(self, _: Any) -> None:
        self._count("peer-refused")

    def _released(self, event: Any) -> None:
        if entry := self._open.get(id(event.assoc)):
            entry.released = True

    def _closed(self, event: Any) -> None:
        with self._lock:
            entry = self._open.pop(id(event.assoc), None)
        broke_off = entry is None or not entry.released
        self._arrivals.end_association(id(event.assoc), broke_off)

    def _store(self, event: Any) -> int:
        from pynetdicom.dsutils import encode_file_meta

        try:
            meta = b"\0" * 128 + b"DICM" + encode_file_meta(event.file_meta)
            sop_uid = str(event.request.AffectedSOPInstanceUID or "")
            data = event.encoded_dataset(include_meta=False)
            self._arrivals.keep(id(event.assoc), sop_uid, meta, data, self._origin(event))
        except (FullError, OSError):
            self._count("node-full")
            return NO_ROOM
        except (ValueError, AttributeError):
            self._count("instance-unnamed")
            return NOT_UNDERSTOOD
        return SUCCESS

    def _origin(self, event: Any) -> Origin:
        """Whether it comes because the node asked for it (C-MOVE); some archives do not say so."""
        source = self._config.priors
        if source is None or not source.archive.ae_title:
            return "sent"
        if str(event.request.MoveOriginatorApplicationEntityTitle or "").strip() == self._config.ae_title.strip():
            return "fetched"
        return "archive" if event.assoc.requestor.ae_title.strip() == source.archive.ae_title.strip() else "sent"

    def _count(self, code: str) -> None:
        with self._lock:
            self.codes[code] += 1
        LOG.warning("not received", extra={"fields": {"code": code}})


def _hang_up(association: Any) -> None:
    """Wakes the thread that waits for the peer, too."""
    with suppress(OSError, AttributeError):
        association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
