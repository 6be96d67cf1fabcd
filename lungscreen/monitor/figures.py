"""Outcomes ─► monitor.json: figures with intervals, by month and subgroup, and charts; each pipeline by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from lungscreen import RESEARCH_USE, __version__
from lungscreen.monitor.chart import ChartConfig, EventKind, draw_chart
from lungscreen.monitor.outcomes import SignedStudy, StudyOutcome
from lungscreen.shares import LEAST_OF_A_SHARE, share_of

__all__ = ["LEAST_READS", "MONITOR_SCHEMA", "describe_performance"]

MONITOR_SCHEMA = "1.0"
"""Of monitor.json. The first number rises when a field changes or goes, the second when one is added."""

LEAST_READS = 20
"""Of fewer signed studies nothing is claimed."""

MEANING = (
    "CAD against people, not against truth: nodules of first reads were signed before CAD was shown; final reads were"
    " made with its help. Studies that somebody may still read are left out. Intervals are 95 % (Wilson) and take"
    " nodules of one person for independent."
)

Study = TypeVar("Study", StudyOutcome, SignedStudy)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A figure with a chart."""

    name: str
    what: str
    kind: EventKind
    factor: float
    action: str


_LOOK_AT = "Look at ten such studies, and at what changed then: scanner, protocol, kernel, people, software. "

OF_READS = (
    _Watched(
        "missed", "nodules of first reads that CAD lacks", "share", 2.0,
        _LOOK_AT + "Until it is explained readers should know that CAD misses more; go back to the weights before.",
    ),
    _Watched(
        "rejected", "marks of CAD that readers reject, by study", "count", 2.0,
        _LOOK_AT + "If nothing else explains it, choose another operating point.",
    ),
    _Watched(
        "changed", "reads whose category is another one after CAD", "share", 2.0,
        _LOOK_AT + "See whether the changes were right: CAD may mislead readers, or new readers may lean on it.",
    ),
)  # fmt: skip

OF_NIGHTS = (
    _Watched("more-findings", "studies with a finding (more)", "share", 2.0, _LOOK_AT + "CAD may mark too much."),
    _Watched("fewer-findings", "studies with a finding (fewer)", "share", 0.5, _LOOK_AT + "Nodules may be missed."),
    _Watched("not-read", "studies that were not read", "share", 2.0, "See the codes on the morning pages since then."),
)  # fmt: skip


def describe_performance(
    studies: Sequence[StudyOutcome],
    signed: Sequence[SignedStudy] | None,
    *,
    unreadable: int = 0,
    config: ChartConfig | None = None,
) -> dict[str, Any]:
    """The document.

    signed: None where no room was named.
    unreadable: signed studies without a report that can be read.
    """
    config = config or ChartConfig()
    nights = [_night(pipeline, own, config) for pipeline, own in _by_pipeline(studies)]
    reads = [_reads(pipeline, own, config) for pipeline, own in _by_pipeline(signed or ())]
    return {
        "schema": "lungscreen-monitor",
        "schema_version": MONITOR_SCHEMA,
        "research_use": RESEARCH_USE,
        "software_version": __version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "meaning": MEANING,
        "charts": asdict(config),
        "least_reads": LEAST_READS,
        "least_of_a_share": LEAST_OF_A_SHARE,
        "alarms": [alarm for part in (*reads, *nights) for alarm in part["alarms"]],
        "reads": reads if signed is not None else None,
        "signed_without_report": unreadable,
        "nights": nights,
    }


def _by_pipeline(studies: Sequence[Study]) -> list[tuple[str, list[Study]]]:
    """Reads of one pipeline say nothing about another."""
    ordered = sorted(studies, key=lambda study: study.pipeline)
    return [(name, list(own)) for name, own in groupby(ordered, key=lambda study: study.pipeline)]


def _night(pipeline: str, studies: Sequence[StudyOutcome], config: ChartConfig) -> dict[str, Any]:
    done = [study for study in studies if study.was_read]
    with_finding = [(study.finished, float(study.findings > 0), 1.0) for study in done]
    not_read = [(study.finished, float(not study.was_read), 1.0) for study in studies]
    rows = {"more-findings": with_finding, "fewer-findings": with_finding, "not-read": not_read}
    return {
        "pipeline": pipeline,
        "studies": len(studies),
        **_span([study.finished for study in studies]),
        "with_finding": share_of(sum(study.findings > 0 for study in done), len(done)),
        "not_read": share_of(len(studies) - len(done), len(studies)),
        **_charts(OF_NIGHTS, rows, config),
    }


def _reads(pipeline: str, studies: Sequence[SignedStudy], config: ChartConfig) -> dict[str, Any]:
    about = {"pipeline": pipeline, "reads": len(studies), **_span([study.signed for study in studies])}
    if len(studies) < LEAST_READS:
        why = f"fewer than {LEAST_READS} signed studies: nothing is claimed"
        return {**about, "claimed": False, "why": why, "charts": [], "alarms": []}
    return {
        **about,
        "claimed": True,
        "figures": _figures(studies),
        "months": [{"month": month, **_figures(own)} for month, own in _by(studies, _month)],
        "subgroups": _subgroups(studies),
        **_charts(OF_READS, _events(studies), config),
    }


def _events(studies: Sequence[SignedStudy]) -> dict[str, list[tuple[float, float, float]]]:
    """Figure → time, events and trials of each study that has any."""
    return {
        "missed": [(s.signed, float(len(s.alone) - sum(s.alone)), float(len(s.alone))) for s in studies if s.alone],
        "rejected": [(s.signed, float(s.rejected), 1.0) for s in studies],
        "changed": [(s.signed, float(bool(s.changed)), 1.0) for s in studies if s.changed is not None],
    }


def _subgroups(studies: Sequence[SignedStudy]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for kind in sorted(studies[0].groups):
        own = _by(studies, partial(_group, kind))
        rows += [{"kind": kind, "group": group, **_figures(members)} for group, members in own]
    return rows


def _group(kind: str, study: SignedStudy) -> str:
    return study.groups[kind]


def _figures(studies: Sequence[SignedStudy]) -> dict[str, Any]:
    gated = [study for study in studies if study.changed is not None]
    return {
        "studies": len(studies),
        "sensitivity_first_reads": _found([had for study in studies for had in study.alone]),
        "sensitivity_final_reads": _found([had for study in studies for had in study.final]),
        "rejected_a_study": (
            round(sum(study.rejected for study in studies) / len(studies), 3)
            if len(studies) >= LEAST_OF_A_SHARE
            else None
        ),
        "category_changed": share_of(sum(bool(study.changed) for study in gated), len(gated)),
    }


def _found(had: Sequence[bool]) -> dict[str, Any]:
    return share_of(sum(had), len(had))


def _by(studies: Sequence[SignedStudy], name: Callable[[SignedStudy], str]) -> list[tuple[str, list[SignedStudy]]]:
    return [(key, list(own)) for key, own in groupby(sorted(studies, key=name), key=name)]


def _month(study: SignedStudy) -> str:
    return _iso(study.signed)[:7]


def _span(times: Sequence[float]) -> dict[str, Any]:
    return {"first": _iso(min(times))[:10], "last": _iso(max(times))[:10]}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


# -- charts ----------------------------------------------------------------------------------------------------------
def _charts(
    watched: Sequence[_Watched], rows: Mapping[str, Sequence[tuple[float, float, float]]], config: ChartConfig
) -> dict[str, Any]:
    """rows: figure → time, events and trials of each study, in time order."""
    charts, alarms = [], []
    for one in watched:
        own = sorted(rows[one.name])
        events, trials = (np.array([row[column] for row in own]) for column in (1, 2))
        chart = draw_chart(events, trials, one.kind, one.factor, config)
        about = {"name": one.name, "what": one.what, "kind": one.kind, "studies": len(own)}
        if chart is None:
            why = f"fewer than {config.first + config.least_after} studies with a trial"
            charts.append({**about, "drawn": False, "why": why})
            continue
        at = None if chart.alarm is None else _iso(own[chart.alarm][0])[:10]
        charts.append({**about, "drawn": True, **asdict(chart), "alarm_on": at})
        if at is not None:
            text = (
                f"{one.what}: usually {_rate(chart.usual, one.kind)}, {_rate(chart.since, one.kind)} since it began to"
                f" change (alarm on {at}). {one.action}"
            )
            alarms.append({"code": "monitor-alarm", "chart": one.name, "on": at, "text": text})
    return {"charts": charts, "alarms": alarms}


def _rate(value: float, kind: EventKind) -> str:
    return f"{100 * value:.0f} %" if kind == "share" else f"{value:.2f}"
