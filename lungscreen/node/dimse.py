"""C-STORE to a destination, and storage commitment: N-ACTION asks, N-EVENT-REPORT answers.

The answer comes on the association that asked, within a moment, or later on one that the destination opens to us
(PS3.4 annex J). Either way it is written down before it is acknowledged.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lungscreen.dicomfile import quiet_pydicom
from lungscreen.logs import LOG
from lungscreen.node.config import Destination, NodeConfig
from lungscreen.node.deliveries import Delivery, UnreachableError, dicom_status, stored_or_refused
from lungscreen.node.outbox import Outbox, Outgoing
from lungscreen.node.tls import client_tls

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["CommitmentAnswers", "DimseRoute", "open_association"]

WAIT_S = 30.0
"""How long a destination may take to answer."""
NETWORK_S = 60.0
"""An association on which nothing comes for so long is given up, at the least."""
SAME_ASSOCIATION_S = 1.0
"""How long the association that asked for commitment is kept open for an answer."""
MOST_REPORTED = 10_000
"""Objects of one answer that are looked at."""
NOT_TAKEN = 0x0110
"""Processing failure (PS3.7 C.5.16): the destination may say it again."""


class DimseRoute:
    """To one DICOM node."""

    def __init__(self, destination: Destination, config: NodeConfig) -> None:
        """Errors: `config-invalid`."""
        self._to, self._limits, self._ae_title = destination, config.limits, config.ae_title
        self._answers = CommitmentAnswers(config)
        self._tls = client_tls(destination.tls) if destination.tls else None

    def store(self, objects: Sequence[Dataset]) -> Iterator[Delivery]:
        """See `lungscreen.node.send.Route`: all in one association."""
        classes = sorted({str(dataset.SOPClassUID) for dataset in objects})
        with open_association(self._to, self._ae_title, classes, tls=self._tls) as association:
            for dataset in objects:
                yield _store(association, dataset)

    def ask_commitment(self, outbox: Outbox, items: Sequence[Outgoing]) -> None:
        """Ask the destination to commit to objects, of several studies at once.

        Errors: `UnreachableError`; one that takes no such requests is silent (`commitment-missing`).
        """
        from pydicom.dataset import Dataset
        from pydicom.uid import generate_uid
        from pynetdicom import evt
        from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]  # made at run time

        answered = threading.Event()

        def take(event: Any) -> tuple[int, None]:
            answer = self._answers.take(event)
            answered.set()
            return answer

        request = Dataset()
        request.TransactionUID = generate_uid(prefix=None)
        request.ReferencedSOPSequence = [_reference(item) for item in items]
        outbox.note_asked(request.TransactionUID, items, self._limits.commitment_s)
        handlers = [(evt.EVT_N_EVENT_REPORT, take)]
        classes = [StorageCommitmentPushModel]
        with open_association(self._to, self._ae_title, classes, tls=self._tls, handlers=handlers) as association:
            status = _ask(association, request)
            if status == "":
                answered.wait(SAME_ASSOCIATION_S)
            else:
                _say("commitment-missing", destination=self._to.ae_title, status=status)


class CommitmentAnswers:
    """Writes down what destinations commit to, wherever they say so."""

    def __init__(self, config: NodeConfig) -> None:
        self._results, self._limits = config.results, config.limits

    def take(self, event: Any) -> tuple[int, None]:
        """An N-EVENT-REPORT; the status that it is answered with, once it is written down."""
        try:
            outbox = Outbox(self._results)
            try:
                return self._take(outbox, event.event_information), None
            finally:
                outbox.close()
        except Exception as error:  # a hostile data set raises whatever its parts raise
            _say(getattr(error, "code", "commitment-unknown"))
            return NOT_TAKEN, None

    def _take(self, outbox: Outbox, report: Dataset) -> int:
        asked = {item.sop_uid: item for item in outbox.asked_in(str(report.get("TransactionUID", "")))}
        failed = {_named(row): row for row in _rows(report, "FailedSOPSequence")}
        committed = {_named(row) for row in _rows(report, "ReferencedSOPSequence")} - set(failed)
        if not asked.keys() & (committed | failed.keys()):
            _say("commitment-unknown")
            return NOT_TAKEN
        outbox.mark_committed([item for uid, item in asked.items() if uid in committed])
        for uid in asked.keys() & failed.keys():
            status = dicom_status(int(failed[uid].get("FailureReason") or 0))
            wait_s, most = self._limits.retry_s, self._limits.most_refusals
            state = outbox.count_refusal(asked[uid], "commitment-failed", status, wait_s, most)
            _say("commitment-failed", study=asked[uid].study, state=state, status=status)
        return 0


@contextmanager
def open_association(
    to: Destination,
    ae_title: str,
    classes: Sequence[str],
    *,
    tls: Any = None,
    handlers: Sequence[Any] = (),
    wait_s: float = WAIT_S,
) -> Iterator[Any]:
    """An association for these SOP classes, released at the end.

    wait_s: how long the other side may take to answer.

    Errors: `UnreachableError`.
    """
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
    from pynetdicom import AE

    entity = AE(ae_title=ae_title)
    entity.acse_timeout = entity.connection_timeout = min(wait_s, WAIT_S)
    entity.dimse_timeout = wait_s
    entity.network_timeout = max(wait_s, NETWORK_S)
    storage = any(uid.startswith("1.2.840.10008.5.1.4.1.1.") for uid in classes)
    for uid in classes:
        entity.add_requested_context(
            uid, [ExplicitVRLittleEndian] if storage else [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        )
    association = entity.associate(
        to.host, to.port, ae_title=to.ae_title, tls_args=(tls, to.host) if tls else None, evt_handlers=list(handlers)
    )
    if not (association.is_established or association.rejected_contexts):
        raise UnreachableError
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _ask(association: Any, request: Dataset) -> str:
    """Send the N-ACTION. Returns what went wrong; empty where it was accepted.

    Errors: `UnreachableError`.
    """
    from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
        StorageCommitmentPushModel,
        StorageCommitmentPushModelInstance,
    )

    if not association.accepted_contexts:
        return "no storage commitment"
    try:
        answer, _ = association.send_n_action(
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except RuntimeError:  # the association is gone
        raise UnreachableError from None
    if not answer:
        raise UnreachableError
    return "" if answer.Status == 0 else dicom_status(answer.Status)


def _reference(item: Outgoing) -> Dataset:
    from pydicom.dataset import Dataset

    row = Dataset()
    row.ReferencedSOPClassUID, row.ReferencedSOPInstanceUID = item.sop_class, item.sop_uid
    return row


def _rows(report: Dataset, keyword: str) -> Sequence[Dataset]:
    return list(report.get(keyword) or ())[:MOST_REPORTED]


def _named(row: Dataset) -> str:
    return str(row.get("ReferencedSOPInstanceUID", ""))


def _say(code: str, **fields: str) -> None:
    LOG.warning("not committed", extra={"fields": {"code": code, **fields}})


def _store(association: Any, dataset: Dataset) -> Delivery:
    if str(dataset.SOPClassUID) not in {str(c.abstract_syntax) for c in association.accepted_contexts}:
        return Delivery(False, "result-class-refused")
    try:
        with quiet_pydicom():
            answer = association.send_c_store(dataset)
    except RuntimeError:  # the association is gone
        raise UnreachableError from None
    if not answer:
        raise UnreachableError
    return stored_or_refused(int(answer.Status))
