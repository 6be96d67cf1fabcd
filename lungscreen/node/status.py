"""Where everything is that a node received: received, waiting, read, to be sent, sent."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from lungscreen.batch.status import read_status
from lungscreen.errors import UsageError
from lungscreen.files import LEDGER_FILE
from lungscreen.node.config import NodeConfig
from lungscreen.node.outbox import OUTBOX_FILE, OUTBOX_STATES, Outbox

__all__ = ["RECEIVING_FILE", "node_status", "node_text", "retry_letters"]

RECEIVING_FILE = "receiving.json"
"""Counts of the running node, in the results folder."""


def node_status(config: NodeConfig) -> dict[str, Any]:
    """What there is to see of a node, while it runs or after. No names.

    Errors: `input-missing` where no node was run into the folder, `ledger-invalid`.
    """
    outbox = _open(config, read_only=True)
    try:
        rows, half_sent, priors = outbox.rows(), outbox.count_half_sent(), outbox.count_priors()
    finally:
        outbox.close()
    counts: Counter[tuple[str, str]] = Counter((row["destination"], row["state"]) for row in rows)
    destinations = sorted({*config.send, *(row["destination"] for row in rows)})
    return {
        "receiving": _receiving(config),
        "arriving": sum(folder.is_dir() for folder in config.incoming.glob("*")),
        "half_sent": half_sent,
        "priors": priors,
        "studies": read_status(config.results) if (config.results / LEDGER_FILE).is_file() else None,
        "results": {name: {state: counts[name, state] for state in OUTBOX_STATES} for name in destinations},
        "objects": rows,
    }


def node_text(status: dict[str, Any]) -> str:
    """The same for people."""
    lines = [*_incoming_lines(status), *_study_lines(status["studies"])]
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
    outbox = _open(config)
    try:
        return outbox.retry()
    finally:
        outbox.close()


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
