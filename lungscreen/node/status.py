"""Where everything is that a node received: received, waiting, read, to be sent, sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lungscreen.batch.metrics import Gauges
from lungscreen.batch.status import read_status
from lungscreen.errors import UsageError
from lungscreen.files import LEDGER_FILE
from lungscreen.node.config import NodeConfig
from lungscreen.node.outbox import OUTBOX_FILE, OUTBOX_STATES, Outbox, retry_outbox

__all__ = ["RECEIVING_FILE", "STEPS", "node_status", "node_text", "retry_letters", "write_node_metrics"]

RECEIVING_FILE = "receiving.json"
"""Counts of the running node, in the results folder."""
METRICS_FILE = "node.prom"
"""The same and the outbox for node_exporter's textfile collector, beside the batch's metrics.prom."""
STEPS = ("received", "waiting", "running", "read", "not_read", "queued", "sent", "committed", "dead")
"""Where a study can be on its way. read: it has a result, and none of it is queued for a destination. queued, sent,
committed, dead: its results, by what is least far."""


def node_status(config: NodeConfig) -> dict[str, Any]:
    """What there is to see of a node, while it runs or after. No names.

    Errors: `input-missing` where no node was run into the folder, `ledger-invalid`.
    """
    outbox = _open(config, read_only=True)
    try:
        return _numbers(config, outbox) | {"objects": outbox.rows()}
    finally:
        outbox.close()


def _numbers(config: NodeConfig, outbox: Outbox) -> dict[str, Any]:
    """All of it that is no list of objects."""
    counts = outbox.counts()
    destinations = sorted({*config.send, *(name for name, _ in counts)})
    arriving = _folders(config.incoming)
    studies = read_status(config.results) if (config.results / LEDGER_FILE).is_file() else None
    return {
        "receiving": _receiving(config),
        "arriving": arriving,
        "half_sent": outbox.count_half_sent(),
        "priors": outbox.count_priors(),
        "studies": studies,
        "way": _way(arriving, _folders(config.inbox), studies, outbox.studies()),
        "results": {name: {state: counts.get((name, state), 0) for state in OUTBOX_STATES} for name in destinations},
    }


def _folders(place: Path) -> int:
    return sum(folder.is_dir() for folder in place.glob("*"))


def _way(
    arriving: int, handed_over: int, studies: dict[str, Any] | None, sending: Mapping[str, Collection[str]]
) -> dict[str, int]:
    """How many studies are at each step.

    arriving, handed_over: folders of studies that still come, and of those that came.
    sending: study → the states of its results for destinations.
    """
    known = studies or {}
    entered = sum(known.get(state, 0) for state in ("waiting", "running", "done", "refused", "failed"))
    way = dict.fromkeys(STEPS, 0)
    way |= {"waiting": known.get("waiting", 0), "running": known.get("running", 0)}
    way["received"] = arriving + max(0, handed_over - entered)
    way["not_read"] = known.get("refused", 0) + known.get("failed", 0)
    for states in sending.values():
        way[next(state for state in ("dead", "queued", "sent", "committed") if state in states)] += 1
    way["read"] = max(0, known.get("done", 0) - len(sending))
    return way


def write_node_metrics(config: NodeConfig, outbox: Outbox) -> None:
    """Write what there is to watch, in place of the last file. No names, no UIDs, no paths.

    Errors: `ledger-invalid`, `output-failed`.
    """
    numbers = _numbers(config, outbox)
    receiving = numbers["receiving"] or {"instances": {}, "not_received": {}, "associations": 0}
    results: dict[tuple[str, ...], float] = {
        (name, state): count for name, counts in numbers["results"].items() for state, count in counts.items()
    }
    gauges = Gauges()
    gauges.add("node_studies", "Studies by the step of their way", _by_name(numbers["way"]), "step")
    gauges.add("node_half_sent_studies", "Studies that were taken half sent", {(): numbers["half_sent"]})
    gauges.add("node_results", "Results by destination and state", results, "destination", "state")
    gauges.add("node_prior_exams", "Earlier exams that were asked for", _by_name(numbers["priors"]), "what")
    gauges.add("node_instances", "Instances received", _by_name(receiving["instances"]), "what")
    gauges.add("node_not_received", "Instances not received", _by_name(receiving["not_received"]), "code")
    gauges.add("node_associations", "Associations that are open", {(): receiving["associations"]})
    gauges.write(config.results / METRICS_FILE)


def _by_name(counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): count for name, count in counts.items()}


def node_text(status: dict[str, Any]) -> str:
    """The same for people."""
    on_the_way = ", ".join(f"{count} {step.replace('_', ' ')}" for step, count in status["way"].items())
    lines = [f"studies on their way: {on_the_way}", *_incoming_lines(status), *_study_lines(status["studies"])]
    for name, counts in status["results"].items():
        lines.append(f"to {name}: " + ", ".join(f"{counts[state]} {state}" for state in OUTBOX_STATES))
    codes = Counter((row["destination"], row["state"], row["code"]) for row in status["objects"] if row["code"])
    lines += [f"to {name}: {count} {state}: {code}" for (name, state, code), count in sorted(codes.items())]
    return "\n".join(lines)


def _incoming_lines(status: dict[str, Any]) -> list[str]:
    lines = [f"{status['arriving']} studies arrive or are kept back until their sender tries again"]
    if status["half_sent"]:
        lines.append(f"{status['half_sent']} studies were taken half sent: half-sent")
    if (priors := status["priors"])["studies"]:
        lines.append(
            f"earlier exams: {priors['came']} of {priors['found']} came, for {priors['studies']} studies; "
            f"{priors['not_fetched']} studies with a remark"
        )
    if receiving := status["receiving"]:
        kept = receiving["instances"]
        lines.append(f"instances received: {kept['kept']}, again: {kept['again']}, own results: {kept['returned']}")
        lines += [f"{count} not received: {code}" for code, count in receiving["not_received"].items()]
    return lines


def _study_lines(studies: dict[str, Any] | None) -> list[str]:
    if studies is None:
        return []
    states = ("waiting", "running", "done", "refused", "failed")
    return [
        "studies: " + ", ".join(f"{studies[name]} {name}" for name in states),
        *(f"{row['studies']} {row['state']}: {row['code']}: {row['meaning']}" for row in studies["codes"]),
        "the node is at work" if studies["at_work"] else "the node is not at work",
    ]


def retry_letters(config: NodeConfig) -> int:
    """Queue the dead letters again; a node that runs takes them up. Returns how many.

    Errors: `input-missing`, `ledger-invalid`, `output-failed`.
    """
    _open(config, read_only=True).close()
    return retry_outbox(config.results)


def _open(config: NodeConfig, *, read_only: bool = False) -> Outbox:
    if not (config.results / OUTBOX_FILE).is_file():
        raise UsageError("input-missing", "no node was run into this folder", config.folder)
    return Outbox(config.results, read_only=read_only)


def _receiving(config: NodeConfig) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((config.results / RECEIVING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
