"""Double reading: who reads next, whether two reads differ, and what becomes of the study when a read is final."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from lungscreen.room import tables
from lungscreen.room.accounts import Principal
from lungscreen.room.config import DoubleReading

__all__ = ["MANAGEMENT_GROUPS", "decide_after_final", "differences", "next_kind", "wants_second"]

MANAGEMENT_GROUPS = {
    "1": "annual",
    "2": "annual",
    "3": "6 months",
    "4A": "3 months",
    "4B": "referral",
    "4X": "referral",
}
"""Lung-RADS category → what follows from it. Two reads in one group lead the person the same way."""

NEAR_MM = 8.0


def next_kind(study: Row[Any], who: Principal) -> str | None:
    """What a person's read of a study would be; None where none is wanted of them.

    A study's state and the reader's role decide. Nobody reads a study twice, and an arbiter has not read it before.
    """
    if study.state == "arbitration":
        return "arbitration" if who.role in ("arbiter", "lead") else None
    kinds = {"unread": "first", "second": "second"}
    return kinds.get(study.state) if who.role in ("reader", "arbiter", "lead") else None


def decide_after_final(connection: Connection, policy: DoubleReading, read: Row[Any]) -> None:
    """Where a study goes when a read of it is final: a second reader, arbitration, or its end."""
    study = connection.execute(select(tables.studies).where(tables.studies.c.key == read.study)).one()
    state = "final"
    if read.kind == "first" and policy.active and wants_second(policy, study, json.loads(read.final_text)):
        state = "second"
    elif read.kind == "second":
        texts = [json.loads(text) for text in _final_texts(connection, read.study)]
        state = "arbitration" if differences(texts[0], texts[1], policy.nodule_mm) else "final"
    connection.execute(update(tables.studies).where(tables.studies.c.key == read.study).values(state=state))


def wants_second(policy: DoubleReading, study: Row[Any], first: dict[str, Any]) -> bool:
    """Whether a second person reads a study: by its tier, or because too little is certain about it."""
    if study.tier in policy.tiers:
        return True
    uncertain = study.tier is None or json.loads(study.notices) or first["content"]["exam"]["quality"] != "good"
    return policy.uncertain and bool(uncertain)


def differences(first: dict[str, Any], second: dict[str, Any], nodule_mm: float) -> list[dict[str, str]]:
    """In what two signed reads differ: where the person goes next, a nodule that only one has, modifier S."""
    one, two = first["computed"], second["computed"]
    found: list[dict[str, str]] = []
    if _group(one) != _group(two):
        found.append({"what": "management", "first": _said(one), "second": _said(two)})
    for mine, other, side in ((one, two, "first"), (two, one, "second")):
        for row in mine["findings"]:
            large = (row["mean_diameter_mm"] or nodule_mm) >= nodule_mm
            if large and not any(_near(row, theirs) for theirs in other["findings"]):
                words = f"{row['type']}, {row['mean_diameter_mm']} mm, category {row['category']}"
                found.append({"what": "nodule", "first": "", "second": "", side: words})
    modifiers = [text["content"]["exam"]["s_modifier"] for text in (first, second)]
    if bool(modifiers[0]) != bool(modifiers[1]):
        answers = ["yes" if modifier else "no" for modifier in modifiers]
        found.append({"what": "modifier S", "first": answers[0], "second": answers[1]})
    return found


def _final_texts(connection: Connection, key: str) -> Sequence[str]:
    table = tables.reads
    query = select(table.c.final_text).where(
        table.c.study == key, table.c.state == "final", table.c.kind != "arbitration"
    )
    return list(connection.execute(query.order_by(table.c.signed_final)).scalars())


def _group(computed: dict[str, Any]) -> str:
    return str(MANAGEMENT_GROUPS.get(computed["category"], computed["category"]))


def _said(computed: dict[str, Any]) -> str:
    return f"{computed['label']}: {computed['management']}" if computed["management"] else str(computed["label"])


def _near(row: dict[str, Any], other: dict[str, Any]) -> bool:
    apart = sum((a - b) ** 2 for a, b in zip(row["position_mm"], other["position_mm"], strict=True)) ** 0.5
    sizes = [one["mean_diameter_mm"] or 0.0 for one in (row, other)]
    return bool(apart <= max(NEAR_MM, max(sizes) / 2))
