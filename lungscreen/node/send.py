"""Outbox ─► a destination. One thread for each destination: a slow one holds up no other.

A destination that cannot be reached costs no attempt: its results wait, for longer each time. One that refuses a result
is asked again `most_refusals` times in all. How objects travel is the route's matter: `dimse` (C-STORE and storage
commitment), `dicomweb` (STOW-RS).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lungscreen.dicomfile import parse_dicom
from lungscreen.errors import InputError, LungscreenError
from lungscreen.logs import LOG
from lungscreen.node.config import NodeConfig, NodeLimits
from lungscreen.node.deliveries import Delivery, UnreachableError
from lungscreen.node.dimse import DimseRoute
from lungscreen.node.outbox import Outbox, Outgoing
from lungscreen.results.folder import ResultsFolder

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Route", "Sender"]

RESULT_FILES = "dicom-*.dcm"
TAGS = ("SOPClassUID", "SOPInstanceUID")


class Route(Protocol):
    """How objects get to one destination."""

    def store(self, objects: Sequence[Dataset]) -> Iterator[Delivery]:
        """Give the objects of one study to the destination; an answer for each, in their order, as they come.

        Errors: `UnreachableError` where the destination is away, or goes away in between.
        """


class Sender:
    """Queues the results of a folder for one destination, and sends them."""

    def __init__(self, name: str, config: NodeConfig) -> None:
        """Errors: `config-invalid`, `extra-missing`."""
        self._name, self._limits = name, config.limits
        self._results = ResultsFolder(config.results)
        destination = config.send[name]
        self._commits = destination.commitment
        self._dimse: DimseRoute | None = None
        self._route: Route
        if destination.url:
            from lungscreen.node.dicomweb import WebRoute

            self._route = WebRoute(destination)
        else:
            self._route = self._dimse = DimseRoute(destination, config)

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
        """Queue what is new, send what is due and ask for commitment. Returns False where the destination could not be
        reached.

        Errors: `output-failed`, `ledger-invalid`.
        """
        outbox = Outbox(self._results.path)
        try:
            self._queue_new(outbox)
            while not stop.is_set() and (items := outbox.due(self._name)):
                self._send_study(outbox, [item for item in items if item.study == items[0].study])
            self._ask_commitment(outbox)
        except UnreachableError as error:
            self._say("destination-unreachable", status=error.status)
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
                objects = [(file.name, *_uids_of(file)) for file in files]
                if self._results.stamp(key) == stamp:  # else it was replaced meanwhile: at the next look
                    outbox.queue(self._name, key, stamp, objects)
            except (OSError, InputError):
                continue  # being replaced at this moment

    def _send_study(self, outbox: Outbox, items: Sequence[Outgoing]) -> None:
        """Errors: `UnreachableError`."""
        there = []
        for item in items:
            try:
                dataset = _read(self._results.study(item.study) / item.file)
            except (OSError, InputError):
                dataset = None
            if dataset is None or str(dataset.SOPInstanceUID) != item.sop_uid:
                outbox.supersede(item)
            else:
                there.append((item, dataset))
        answers = self._route.store([dataset for _, dataset in there]) if there else ()
        for (item, _), answer in zip(there, answers, strict=True):
            if not answer.stored:
                self._refused(outbox, item, answer)
                continue
            outbox.mark_sent(item, answer.code, answer.status)
            if answer.code:
                self._say(answer.code, study=item.study, status=answer.status)

    def _refused(self, outbox: Outbox, item: Outgoing, answer: Delivery) -> None:
        wait_s = _back_off(self._limits, item.refusals + 1)
        state = outbox.count_refusal(item, answer.code, answer.status, wait_s, self._limits.most_refusals)
        self._say(answer.code, study=item.study, state=state, status=answer.status)

    def _ask_commitment(self, outbox: Outbox) -> None:
        """Ask the destination to commit to what it has, where it was not asked or did not answer in time.

        Errors: `UnreachableError`.
        """
        if self._dimse is None or not self._commits:
            return
        while items := outbox.uncommitted(self._name):
            if waits := [item for item in items if not self._is_given_up(outbox, item)]:
                self._dimse.ask_commitment(outbox, waits)

    def _is_given_up(self, outbox: Outbox, item: Outgoing) -> bool:
        """Whether the destination was silent about it once too often."""
        dead = item.asked and outbox.count_silence(item, self._limits.most_refusals) == "dead"
        if dead:
            self._say("commitment-missing", study=item.study, state="dead")
        return dead

    def _say(self, code: str, **fields: str) -> None:
        LOG.warning("not sent as it should", extra={"fields": {"code": code, "destination": self._name, **fields}})


def _back_off(limits: NodeLimits, failures: int) -> float:
    return float(min(limits.retry_s * 2 ** min(failures - 1, 30), limits.longest_retry_s))


def _uids_of(file: Path) -> tuple[str, str]:
    header = parse_dicom(file.read_bytes(), TAGS)
    return str(header.SOPInstanceUID), str(header.SOPClassUID)


def _read(file: Path) -> Dataset:
    return parse_dicom(file.read_bytes(), pixels=True)
