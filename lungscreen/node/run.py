"""`run_node`: the receiver in front of the batch, a sender for each destination behind it."""

from __future__ import annotations

import importlib.util
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen.batch import BatchConfig, BatchRun, Ended, Models, run_batch
from lungscreen.config import read_table
from lungscreen.errors import LungscreenError, OutputError, UsageError
from lungscreen.files import replace_file
from lungscreen.logs import LOG
from lungscreen.node.arrivals import Arrivals
from lungscreen.node.config import NodeConfig
from lungscreen.node.outbox import Outbox
from lungscreen.node.priors import PriorFetcher, prior_remarks
from lungscreen.node.status import RECEIVING_FILE, write_node_metrics
from lungscreen.outputs.registry import OutputsConfig, check_extras
from lungscreen.pipeline import Pipeline, read_pipeline
from lungscreen.pseudonyms import load_key

if TYPE_CHECKING:
    from lungscreen.node.receive import Receiver

__all__ = ["open_doors", "run_node"]

LEAVE_S = 5.0
"""How long a thread may take to end."""
LOOK_S = 1.0
"""From one look at what is arriving to the next; sooner where `poll_s` is."""


def run_node(
    config: NodeConfig,
    *,
    stopped: Callable[[], bool] = lambda: False,
    ready: Callable[[int], None] = lambda _: None,
    models: Models | None = None,
) -> Ended:
    """Receive, read and send back, until told to stop. What was received or waits to be sent then is on the disk.

    stopped: asked all the time.
    ready: is told the port, once the node listens.
    models: other networks than the shipped ones.

    Errors: `config-invalid`, `extra-missing`, `node-address`, and those of `lungscreen.batch.run_batch`.
    """
    pipeline, limits = _pipeline(config), config.limits
    settings = BatchConfig(quiet_s=limits.quiet_s, poll_s=limits.poll_s, keep_free_mb=limits.keep_free_mb)
    run = BatchRun(
        [config.inbox], config.results, pipeline, config=settings, key_file=_key_file(config), watch=True,
        companions=[config.priors_folder] if config.priors else (),
        remarks=prior_remarks(config, load_key(_key_file(config))),
    )  # fmt: skip
    with open_doors(config) as receiver:
        ready(receiver.port)
        return run_batch(run, stopped=stopped, models=models)


@contextmanager
def open_doors(config: NodeConfig) -> Iterator[Receiver]:
    """All of a node but the reading: as long as this lasts, studies come in and results go out.

    Errors: `config-invalid`, `extra-missing`, `key-invalid`, `node-address`, `output-failed`, `ledger-invalid`.
    """
    if importlib.util.find_spec("pynetdicom") is None:
        raise UsageError("extra-missing", "the node needs pynetdicom: pip install 'lungscreen[node]'")
    from lungscreen.node.receive import Receiver

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # its lines quote identifiers
    try:
        arrivals = Arrivals(config, load_key(_key_file(config)))
    except OSError as error:
        raise OutputError("output-failed", f"cannot make the folders: {error.strerror}", config.folder) from None
    Outbox(config.results).close()  # an outbox that is damaged is seen now
    with ExitStack() as stack:
        for name in config.send:
            stack.callback(_start(f"to {name}", _sending(name, config)))
        fetcher = _fetcher(config, arrivals)
        receiver = Receiver(config, arrivals)
        stack.callback(receiver.close)
        stack.callback(_start("arrivals", lambda stop: _keep_arrivals(config, arrivals, receiver, fetcher, stop)))
        yield receiver


def _key_file(config: NodeConfig) -> Path | None:
    return Path(config.key_file) if config.key_file else None


def _pipeline(config: NodeConfig) -> Pipeline:
    check_extras(config.outputs)
    outputs = read_table(OutputsConfig, {"write": list(config.outputs)}, "outputs")
    return replace(read_pipeline(config.pipeline), outputs=outputs)


def _start(name: str, work: Callable[[threading.Event], None]) -> Callable[[], None]:
    """Start a thread. Returns what ends it."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name, daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(LEAVE_S)

    return end


def _sending(name: str, config: NodeConfig) -> Callable[[threading.Event], None]:
    from lungscreen.node.send import Sender

    sender = Sender(name, config)  # its TLS files are read now
    return sender.run


def _fetcher(config: NodeConfig, arrivals: Arrivals) -> PriorFetcher | None:
    if config.priors is None:
        return None
    if config.priors.archive.url:
        from lungscreen.node.dicomweb import WebArchive

        return PriorFetcher(config, WebArchive(config.priors.archive, arrivals), arrivals)
    from lungscreen.node.retrieve import DimseArchive

    return PriorFetcher(config, DimseArchive(config.priors.archive, config), arrivals)


def _keep_arrivals(
    config: NodeConfig, arrivals: Arrivals, receiver: Receiver, fetcher: PriorFetcher | None, stop: threading.Event
) -> None:
    """Hand over what is complete, close what is idle, write down what there is to see; a full disk passes."""
    outbox = Outbox(config.results)
    may_go = fetcher.is_done if fetcher else lambda *_: True
    try:
        while not stop.wait(min(LOOK_S, config.limits.poll_s)):
            try:
                receiver.close_idle()
                for received in arrivals.publish(may_go):
                    outbox.note_half_sent(received)
                    LOG.warning("half sent", extra={"fields": {"code": "half-sent", "received": received}})
                _write_counts(config, arrivals, receiver)
                write_node_metrics(config, outbox)
            except (OSError, LungscreenError) as error:
                code = getattr(error, "code", "output-failed")
                LOG.error("arrivals cannot be handed over", extra={"fields": {"code": code}})
    finally:
        outbox.close()


def _write_counts(config: NodeConfig, arrivals: Arrivals, receiver: Receiver) -> None:
    """What `lungscreen node status` shows of this process."""
    counts = {
        "associations": receiver.associations,
        "instances": {name: arrivals.instances[name] for name in ("kept", "again", "returned", "fetched")},
        "not_received": dict(sorted(receiver.codes.items())),
    }
    replace_file(config.results / RECEIVING_FILE, json.dumps(counts) + "\n")
