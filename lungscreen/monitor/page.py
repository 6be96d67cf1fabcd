"""monitor.json ─► monitor.html: alarms first, then each pipeline's figures, months, subgroups and charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lungscreen.outputs.page import html_page, study_table
from lungscreen.results.text import escape

__all__ = ["monitor_page"]

WIDTH, HEIGHT = 600, 120
"""Of a chart, in units of its own."""

MOST_POINTS = 600
"""Of a chart's line: of more studies, the highest sum of each stretch is drawn."""


def monitor_page(document: Mapping[str, Any]) -> str:
    """One self-contained page, without names."""
    parts = [
        f"<header><h1>After deployment</h1><p class='note'>{escape(document['meaning'], 1000)}</p></header>",
        _alarms(document["alarms"]),
        *(_reads(part, document) for part in document["reads"] or ()),
        *(_night(part, document) for part in document["nights"]),
    ]
    if document["reads"] is None:
        parts.insert(
            2, "<p>No reading room was named (<code>--reads</code>): nothing is said of CAD against readers.</p>"
        )
    if document["signed_without_report"]:
        parts.append(f"<p class='note'>{document['signed_without_report']} signed studies have no readable report.</p>")
    return html_page("After deployment – lungscreen", "", "\n".join(part for part in parts if part))


def _alarms(alarms: Sequence[Mapping[str, Any]]) -> str:
    if not alarms:
        return "<p>No alarm.</p>"
    items = "".join(
        f"<li>{escape(alarm['text'], 1000)} <span class='code'>{escape(alarm['code'])}</span></li>" for alarm in alarms
    )
    return f"<ul class='notices'>{items}</ul>"


def _reads(part: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    head = f"<h2>Signed reads: {escape(part['pipeline'])}</h2><p>{part['reads']} studies, {_span(part)}.</p>"
    if not part["claimed"]:
        return f"{head}<p>{escape(part['why'])}.</p>"
    heads = (
        "n:Studies", "CAD's sensitivity, first reads", "CAD's sensitivity, final reads", "n:Rejected marks a study",
        "Category changed",
    )  # fmt: skip
    return "".join(
        (
            head,
            study_table("All", heads, [_figures(part["figures"])]),
            study_table("By month", ("Month", *heads), [[row["month"], *_figures(row)] for row in part["months"]]),
            study_table(
                "By subgroup",
                ("Kind", "Group", *heads),
                [[escape(row["kind"]), escape(row["group"]), *_figures(row)] for row in part["subgroups"]],
            ),
            *_charts(part["charts"], document["charts"]),
        )
    )


def _night(part: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    shares = f"{_share(part['with_finding'])} with a finding; {_share(part['not_read'])} not read"
    head = f"<h2>Nights: pipeline {escape(part['pipeline'][:12])}</h2>"
    return "".join(
        (
            f"{head}<p>{part['studies']} studies, {_span(part)}: {shares}.</p>",
            *_charts(part["charts"], document["charts"]),
        )
    )


def _span(part: Mapping[str, Any]) -> str:
    return f"{part['first']} to {part['last']}"


def _figures(figures: Mapping[str, Any]) -> list[str]:
    rejected = figures["rejected_a_study"]
    return [
        str(figures["studies"]),
        _share(figures["sensitivity_first_reads"]),
        _share(figures["sensitivity_final_reads"]),
        "too few" if rejected is None else f"{rejected:.2f}",
        _share(figures["category_changed"]),
    ]


def _share(share: Mapping[str, Any]) -> str:
    if share["share"] is None:
        return f"too few: {escape(share['why'])} ({share['of']})"
    low, high = (100 * share[side] for side in ("low", "high"))
    return f"{100 * share['share']:.0f} % ({low:.0f} to {high:.0f}) of {share['of']}"


# -- charts ----------------------------------------------------------------------------------------------------------
def _charts(charts: Iterable[Mapping[str, Any]], config: Mapping[str, Any]) -> Iterable[str]:
    for chart in charts:
        title = f"<h3>{escape(chart['what'])}</h3>"
        if not chart["drawn"]:
            yield f"{title}<p>No chart: {escape(chart['why'])} ({chart['studies']}).</p>"
            continue
        state = f"Alarm on {chart['alarm_on']}." if chart["alarm_on"] else "No alarm."
        yield (
            f"{title}<p><b>{state}</b> Usual rate {chart['usual']:.3g}; looked for: {chart['looked_for']:.3g}."
            f" Simulated: {100 * chart['false_alarms']:.1f} % of unchanged series of {config['horizon']} studies alarm;"
            f" the change that is looked for is noticed within {config['notice']} studies in"
            f" {100 * chart['noticed']:.0f} %.</p>{_drawing(chart)}"
        )


def _drawing(chart: Mapping[str, Any]) -> str:
    sums = _thinned(chart["sums"])
    top = max(*sums, chart["threshold"], 1e-6) * 1.05
    points = " ".join(
        f"{WIDTH * number / max(len(sums) - 1, 1):.1f},{HEIGHT * (1 - value / top):.1f}"
        for number, value in enumerate(sums)
    )
    limit = HEIGHT * (1 - chart["threshold"] / top)
    label = f"Sum after each study, {escape(chart['what'])}; the broken line is the threshold, {chart['threshold']:.1f}"
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f'<line x1="0" x2="{WIDTH}" y1="{limit:.1f}" y2="{limit:.1f}" stroke="currentColor" stroke-dasharray="6 4"/>'
        "</svg>"
    )


def _thinned(sums: Sequence[float]) -> list[float]:
    step = -(-len(sums) // MOST_POINTS)
    return [max(sums[start : start + step]) for start in range(0, len(sums), step)]
