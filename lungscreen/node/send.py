"""Outbox ─► a destination, by C-STORE. One thread for each destination: a slow one holds up no other.

A destination that cannot be reached costs no attempt: its results wait, for longer each time. One that refuses a result
is asked again `most_refusals` times in all.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungscreen.dicomfile import parse_dicom, quiet_pydicom
from lungscreen.errors import InputError, LungscreenError
from lungscreen.logs import LOG
from lungscreen.node.config import Destination, NodeConfig, NodeLimits
from lungscreen.node.outbox import Outbox, Outgoing
from lungscreen.node.receive import client_tls
from lungscreen.results.folder import ResultsFolder

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Sender"]

RESULT_FILES = "dicom-*.dcm"
TAGS = ("SOPClassUID", "SOPInstanceUID")
WAIT_S = 30.0
"""How long a destination may take to answer."""


class Sender:
    """Queues the results of a folder for one destination, and sends them."""

    def __init__(self, name: str, config: NodeConfig) -> None:
        """Errors: `config-invalid`."""
        self._name, self._limits = name, config.limits
        self._destination: Destination = config.send[name]
        self._ae_title = config.ae_title
        self._results = ResultsFolder(config.results)
        self._tls = client_tls(self._destination.tls) if self._destination.tls else None

    def run(self, stop: threading.Event) -> None:
        """Until told to stop."""
        failures = 0
        while not stop.is_set():
            try:
                reached = self.send_due(stop)
            except LungscreenError as error:  # the disk is full, or the outbox is locked for long
                self._say(error.code)
                reached = False
            failures = 0 if reached else failures + 1
            stop.wait(self._limits.poll_s if reached else _back_off(self._limits, failures))

    def send_due(self, stop: threading.Event) -> bool:
        """Queue what is new and send what is due. Returns False where the destination could not be reached.

        Errors: `output-failed`, `ledger-invalid`.
        """
        outbox = Outbox(self._results.path)
        try:
            self._queue_new(outbox)
            while not stop.is_set() and (items := outbox.due(self._name)):
                if not self._send_study(outbox, [item for item in items if item.study == items[0].study]):
                    return False
        finally:
            outbox.close()
        return True

    def _queue_new(self, outbox: Outbox) -> None:
        """Queue the objects of every result that was written since the last look."""
        for key in self._results.study_keys():
            try:
                stamp = self._results.stamp(key)
                if outbox.is_seen(self._name, key, stamp):
                    continue
                files = sorted(self._results.study(key).glob(RESULT_FILES))
                objects = [(file.name, _uid_of(file)) for file in files]
                if self._results.stamp(key) == stamp:  # else it was replaced meanwhile: at the next look
                    outbox.queue(self._name, key, stamp, objects)
            except (OSError, InputError):
                continue  # being replaced at this moment

    def _send_study(self, outbox: Outbox, items: Sequence[Outgoing]) -> bool:
        there = []
        for item in items:
            try:
                dataset = _read(self._results.study(item.study) / item.file)
            except (OSError, InputError):
                dataset = None
            if dataset is None or str(dataset.SOPInstanceUID) != item.sop_uid:
                outbox.mark(item, "superseded")
            else:
                there.append((item, dataset))
        return not there or self._associate(outbox, there)

    def _associate(self, outbox: Outbox, items: Sequence[tuple[Outgoing, Dataset]]) -> bool:
        from pydicom.uid import ExplicitVRLittleEndian
        from pynetdicom import AE

        entity = AE(ae_title=self._ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = WAIT_S
        for uid in sorted({str(dataset.SOPClassUID) for _, dataset in items}):
            entity.add_requested_context(uid, ExplicitVRLittleEndian)
        to = self._destination
        tls = (self._tls, to.host) if self._tls else None
        association = entity.associate(to.host, to.port, ae_title=to.ae_title, tls_args=tls)
        if not association.is_established:
            self._say("destination-unreachable")
            return False
        try:
            return all(self._send(outbox, association, item, dataset) for item, dataset in items)
        finally:
            association.release()

    def _send(self, outbox: Outbox, association: Any, item: Outgoing, dataset: Dataset) -> bool:
        """Returns False where the destination is gone."""
        if str(dataset.SOPClassUID) not in {str(c.abstract_syntax) for c in association.accepted_contexts}:
            self._refused(outbox, item, "result-class-refused", "")
            return True
        try:
            with quiet_pydicom():
                answer = association.send_c_store(dataset)
        except RuntimeError:  # the association is gone
            answer = None
        if not answer:
            self._say("destination-unreachable")
            return False
        status = int(answer.Status)
        if status == 0:
            outbox.mark(item, "sent")
        elif status == 0x0001 or status >> 12 == 0xB:
            outbox.mark(item, "sent", "result-warned", f"0x{status:04X}")
            self._say("result-warned", study=item.study, status=f"0x{status:04X}")
        else:
            self._refused(outbox, item, "result-refused", f"0x{status:04X}")
        return True

    def _refused(self, outbox: Outbox, item: Outgoing, code: str, status: str) -> None:
        wait_s = _back_off(self._limits, item.refusals + 1)
        state = outbox.count_refusal(item, code, status, wait_s, self._limits.most_refusals)
        self._say(code, study=item.study, state=state, status=status)

    def _say(self, code: str, **fields: str) -> None:
        LOG.warning("not sent as it should", extra={"fields": {"code": code, "destination": self._name, **fields}})


def _back_off(limits: NodeLimits, failures: int) -> float:
    return float(min(limits.retry_s * 2 ** min(failures - 1, 30), limits.longest_retry_s))


def _uid_of(file: Path) -> str:
    return str(parse_dicom(file.read_bytes(), TAGS).SOPInstanceUID)


def _read(file: Path) -> Dataset:
    return parse_dicom(file.read_bytes(), pixels=True)
