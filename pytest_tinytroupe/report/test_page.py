"""The page of one test: every figure, and what happened over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pytest_tinytroupe.records import SessionReport, TestRecord, Timeline, Verdict
from pytest_tinytroupe.report.index_page import PACKAGE, TIERS
from pytest_tinytroupe.report.shown import duration, verdict_view
from pytest_tinytroupe.statistics import percentile
from tinytroupe.visualization import pages
from tinytroupe.visualization.agents import memory_view
from tinytroupe.visualization.charts import SERIES_LIMIT, Chart, Mark, Series, chart_view
from tinytroupe.visualization.gantt import gantt_view
from tinytroupe.visualization.histogram import histogram_view
from tinytroupe.visualization.text import display_text

NOTE_LIMIT = 50
"""The most notes on a page."""
CHART_LIMIT = 12
"""The most charts of timelines on a page."""
PERCENTILES = ((50, "p50"), (95, "p95"), (99, "p99"))


def test_page(title: str, session: SessionReport, record: TestRecord, view: dict[str, Any]) -> str:
    """Render the page of a test.

    Parameters
    ----------
    title
        Of the whole report.
    session
        The run, for the environment.
    record
        The test.
    view
        What the index says about it.
    """
    facts = [f"{display_text(record.outcome, 20)} in {duration(record.duration_s)}"]
    if record.worker:
        facts.append(f"on worker {display_text(record.worker, 20)}")
    verdicts = [verdict_view(verdict) for verdict in record.verdicts]
    notes = [display_text(note, 600) for note in record.notes[:NOTE_LIMIT]]
    if len(record.notes) > NOTE_LIMIT:
        notes.append(f"… and {len(record.notes) - NOTE_LIMIT} more")
    tiers = {verdict.metric.tier for verdict in record.verdicts}
    return pages.render(
        "test.html.j2",
        PACKAGE,
        root="../",
        title=title,
        t=view,
        nodeid=display_text(record.nodeid, 400),
        facts=" · ".join(facts),
        verdicts=verdicts,
        turns=gantt_view("turns", record.turns) if record.turns else None,
        calls=_calls(record),
        charts=[chart_view(chart) for chart in _charts(record)],
        memory=memory_view(record.agents, who="person") if record.agents else None,
        sites=record.sites,
        people=record.people,
        attachments=record.attachments,
        notes=notes,
        tiers=[tier for tier in TIERS if tier[0] in tiers],
        environment=session.environment,
    )


test_page.__test__ = False  # type: ignore[attr-defined]


def _calls(record: TestRecord) -> dict[str, Any] | None:
    values_s = [seconds for seconds, count in record.calls_s for _ in range(count)]
    if not values_s:
        return None
    percentiles = [(label, percentile(values_s, share / 100)) for share, label in PERCENTILES]
    return histogram_view("calls", "Latency of model calls", values_s, percentiles, "calls")


def _charts(record: TestRecord) -> Iterable[Chart]:
    """Draw memory in MB each by itself, and curves that share another unit (entries by agent) together."""
    together: dict[str, list[Timeline]] = {}
    charts: list[Chart] = []
    for timeline in record.timelines:
        if timeline.unit == "MB":
            limit = _limit_for(timeline, record.verdicts)
            charts.append(_chart(f"c{len(charts)}", timeline.name, [timeline], limit))
        else:
            together.setdefault(timeline.unit, []).append(timeline)
    for timelines in together.values():
        ranked = sorted(timelines, key=lambda t: -max((value for _, value in t.points), default=0.0))[:SERIES_LIMIT]
        title = timelines[0].name if len(timelines) == 1 else _common_title(timelines, len(ranked))
        charts.append(_chart(f"c{len(charts)}", title, ranked, None))
    return charts[:CHART_LIMIT]


def _chart(name: str, title: str, timelines: Sequence[Timeline], limit: float | None) -> Chart:
    shown = display_text(title, 120)
    marks = sorted({mark for timeline in timelines for mark in timeline.marks})
    return Chart(
        name,
        shown[:1].upper() + shown[1:],
        timelines[0].unit,
        [
            Series(_member_name(timeline.name) if len(timelines) > 1 else timeline.name, timeline.points)
            for timeline in timelines
        ],
        [Mark(time_s, label, _kind_of(label)) for time_s, label in marks],
        limit,
        axis=timelines[0].axis,
    )


def _member_name(name: str) -> str:
    return name.partition(": ")[2] or name


def _common_title(timelines: Sequence[Timeline], shown: int) -> str:
    prefixes = {timeline.name.partition(": ")[0] for timeline in timelines}
    title = prefixes.pop() if len(prefixes) == 1 else f"in {timelines[0].unit or 'values'}"
    return title if shown == len(timelines) else f"{title}, the {shown} highest of {len(timelines)}"


def _kind_of(label: str) -> str:
    first = label.partition(":")[0].strip().lower()
    return first if first in ("critical", "warning", "info") else "step"


def _limit_for(timeline: Timeline, verdicts: Iterable[Verdict]) -> float | None:
    tier = "heap" if "heap" in timeline.name else "process"
    for verdict in verdicts:
        if verdict.metric.tier == tier and verdict.metric.unit == "MB" and verdict.limit_kind == "max":
            return verdict.limit
    return None
