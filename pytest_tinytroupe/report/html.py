"""The report as pages: an index, and a page a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pytest_tinytroupe.records import SessionReport, TestRecord, Timeline, Verdict
from tinytroupe.runtime.files import write_atomically
from tinytroupe.visualization import pages
from tinytroupe.visualization.charts import SERIES_LIMIT, Chart, Mark, Series, chart_view, spark_view
from tinytroupe.visualization.text import (
    display_text,
    format_change,
    format_number,
    format_quantity,
    safe_file_name,
)

PACKAGE = "pytest_tinytroupe.report"
HEADLINE_METRICS = 4
"""Metrics a test shows on the index; those that need attention come first."""
ISSUE_LIMIT = 50
"""The most verdicts listed under what needs attention."""
NOTE_LIMIT = 50
"""The most notes on a test's page."""
CHART_LIMIT = 12
"""The most charts on a test's page."""


class Look(NamedTuple):
    """How a verdict is shown: its word, the class of its colour, and a sign for those who see no colour."""

    word: str
    css: str
    sign: str


# Gravest first: a test is as bad as the worst that is true of it.
LOOKS = {
    "error": Look("error", "bad", "✕"),
    "over limit": Look("over limit", "bad", "✕"),
    "regressed": Look("regressed", "bad", "✕"),
    "unmeasured": Look("unmeasured", "bad", "?"),
    "no baseline": Look("no baseline", "bad", "?"),
    "failed": Look("failed", "bad", "✕"),
    "improved": Look("improved", "better", "↗"),
    "new": Look("new", "", "+"),
    "xfailed": Look("expected failure", "", "–"),
    "skipped": Look("skipped", "", "–"),
    "ok": Look("ok", "good", "✓"),
    "advisory": Look("shown only", "", "·"),
}
ATTENTION = frozenset({"error", "over limit", "regressed", "unmeasured", "no baseline", "failed"})

TIERS = (
    (
        "exact",
        "Counted, or timed on the virtual clock, where simulated latency costs no real time.",
        "None: identical on every machine. Fails at any change for the worse.",
    ),
    (
        "heap",
        "tracemalloc, in a pass of its own because it slows the code down.",
        "±2 %, for one Python version and platform.",
    ),
    (
        "ratio",
        "Two pieces of code timed in turn in one process; the median of the paired ratios, and its bootstrap bounds.",
        "None: the lower bound has to reach the limit.",
    ),
    (
        "process",
        "Resident memory of the whole process: the kernel's high-water mark where it can be reset, and samples "
        "every 20 ms for the chart. The notes of each test say which.",
        "Depends on what ran before in the process: advisory against a baseline unless the test runs isolated.",
    ),
    (
        "wall",
        "Real time on this machine, with whatever else it did.",
        "Depends on the machine and its load: advisory against a baseline.",
    ),
    (
        "price",
        "What the tokens cost by the price list that is installed.",
        "Depends on the price list: held to limits only.",
    ),
)


def write_report(directory: Path, session: SessionReport) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    directory
        Made if missing. Gets `index.html`, `report.css`, and in `tests/` a page for each test; pages of earlier runs
        are replaced where the test is the same and otherwise left.
    session
        The run.

    Returns
    -------
    Path
        That of `index.html`, which is written last: while it is there, so is all it links to.

    Raises
    ------
    OSError
        If a file cannot be written; none is left half written.
    """
    order = list(LOOKS)
    records = sorted(session.records, key=lambda r: order.index(_status_of(r)) if _status_of(r) in ATTENTION else 99)
    tests = [_test_view(record) for record in records]
    title = display_text(session.title, 120)
    write_atomically(directory / pages.STYLESHEET, pages.stylesheet())
    for record, view in zip(records, tests, strict=True):
        write_atomically(directory / view["href"], _test_page(title, record, view))
    return write_atomically(directory / "index.html", _index_page(title, session, tests))


def _index_page(title: str, session: SessionReport, tests: Sequence[dict[str, Any]]) -> str:
    counts = Counter(kind for test in tests for kind in test["kinds"])
    failed = sum(test["failed"] for test in tests)
    issues = [issue for test in tests for issue in test["issues"]]
    tiles = [
        {"label": "tests", "value": len(tests), "css": ""},
        {"label": "failed", "value": failed, "css": "bad" if failed else ""},
        *(
            {"label": LOOKS[key].word, "value": counts[key], "css": LOOKS[key].css if counts[key] else ""}
            for key in ("regressed", "over limit", "unmeasured", "no baseline", "improved", "new")
            if counts[key] or key in ("regressed", "over limit", "improved")
        ),
    ]
    filters = [
        {"id": name, "label": label, "count": sum(name in test["groups"].split() for test in tests)}
        for name, label in (
            ("attention", "Needs attention"),
            ("improved", "Improved"),
            ("new", "New"),
            ("passed", "Passed"),
        )
    ]
    return pages.render(
        "index.html.j2",
        PACKAGE,
        root="",
        title=title,
        headline=_headline(len(tests), failed),
        started=_when(session.started),
        command=session.command,
        tiles=tiles,
        issues=issues[:ISSUE_LIMIT],
        issue_total=len(issues),
        filters=[{"id": "all", "label": "All", "count": len(tests)}, *filters],
        tests=tests,
        tiers=TIERS,
        environment=[*session.environment, *([("baselines", session.baseline_dir)] if session.baseline_dir else [])],
    )


def _test_page(title: str, record: TestRecord, view: dict[str, Any]) -> str:
    facts = [f"{display_text(record.outcome, 20)} in {_duration(record.duration_s)}"]
    if record.worker:
        facts.append(f"on worker {display_text(record.worker, 20)}")
    verdicts = [_verdict_view(verdict) for verdict in record.verdicts]
    notes = [display_text(note, 600) for note in record.notes[:NOTE_LIMIT]]
    if len(record.notes) > NOTE_LIMIT:
        notes.append(f"… and {len(record.notes) - NOTE_LIMIT} more")
    return pages.render(
        "test.html.j2",
        PACKAGE,
        root="../",
        title=title,
        t=view,
        nodeid=display_text(record.nodeid, 400),
        facts=" · ".join(facts),
        verdicts=verdicts,
        any_note=any(verdict["note"] for verdict in verdicts),
        charts=[chart_view(chart) for chart in _charts(record)],
        notes=notes,
    )


def _test_view(record: TestRecord) -> dict[str, Any]:
    key = _status_of(record)
    path, _, name = record.nodeid.partition("::")
    failed = key in ATTENTION
    verdicts = sorted(record.verdicts, key=lambda verdict: verdict.status not in ATTENTION)
    href = f"tests/{safe_file_name(record.nodeid)}.html"
    shown_name = display_text(name.replace("::", " › ") or path, 120)
    groups = [group for group, holds in (("attention", key in ATTENTION), ("passed", not failed)) if holds]
    groups += sorted({verdict.status for verdict in record.verdicts} & {"improved", "new"})
    issues = [
        {
            "status": LOOKS[v.status],
            "test": shown_name,
            "href": href,
            "what": _sentence(v),
            "note": display_text(v.note, 300),
        }
        for v in verdicts
        if v.status in ATTENTION
    ]
    if failed and not any(v.failed for v in record.verdicts):
        what = "the test itself failed, whatever its figures" if key == "failed" else "set-up or tear-down failed"
        issues.insert(0, {"status": LOOKS[key], "test": shown_name, "href": href, "what": what, "note": ""})
    memory = next((timeline for timeline in record.timelines if timeline.unit == "MB"), None)
    return {
        "kinds": {key} | {verdict.status for verdict in record.verdicts},
        "status": LOOKS[key],
        "name": shown_name,
        "path": display_text(path, 120) if name else "",
        "href": href,
        "groups": " ".join(groups),
        "attention": key in ATTENTION,
        "failed": failed,
        "issues": issues,
        "metrics": [_verdict_view(verdict) for verdict in verdicts[:HEADLINE_METRICS]],
        "more": max(0, len(verdicts) - HEADLINE_METRICS),
        "spark": spark_view(memory.points) if memory is not None else None,
        "took": _duration(record.duration_s),
    }


def _status_of(record: TestRecord) -> str:
    present = {verdict.status for verdict in record.verdicts} | {record.outcome}
    return next((key for key in LOOKS if key in present), "ok")


def _verdict_view(verdict: Verdict) -> dict[str, Any]:
    metric = replace(verdict.metric, unit=display_text(verdict.metric.unit, 20))
    look = LOOKS[verdict.status]
    sign = {"max": "≤ ", "min": "≥ "}.get(verdict.limit_kind, "")
    has_baseline = verdict.baseline is not None
    return {
        "name": metric_name(metric.name, metric.unit),
        "status": look,
        "css": look.css if look.css in ("bad", "better") and verdict.status != "over limit" else "",
        "value": format_quantity(metric.value, metric.unit) if metric.value is not None else "not measured",
        "exact": format_quantity(metric.value, metric.unit, 7) if metric.value is not None else "not measured",
        "baseline": format_quantity(verdict.baseline, metric.unit) if has_baseline else None,
        "exact_baseline": format_quantity(verdict.baseline, metric.unit, 7),
        "change": _change(verdict),
        "tolerance": _tolerance(verdict),
        "same": has_baseline and metric.value == verdict.baseline,
        "over": verdict.status == "over limit",
        "limit": f"{sign}{format_quantity(verdict.limit, metric.unit)}" if verdict.limit is not None else "",
        "tier": metric.tier,
        "note": display_text(verdict.note, 300),
    }


def metric_name(name: str, unit: str) -> str:
    """Give the name of a metric as words, without the unit its key ends in."""
    suffix = f"_{unit.lower()}" if unit else ""
    words = name.removesuffix(suffix) if suffix and name != suffix[1:] else name
    return display_text(words.replace("_", " ").replace("llm", "LLM"), 40)


def _change(verdict: Verdict) -> str:
    if verdict.change is not None or verdict.baseline is None or verdict.metric.value is None:
        return format_change(verdict.change)
    return "±0" if verdict.metric.value == verdict.baseline else "from 0"


def _tolerance(verdict: Verdict) -> str:
    if verdict.baseline is None:
        return "–"
    return (
        f"±{format_quantity(verdict.tolerance, display_text(verdict.metric.unit, 20))}" if verdict.tolerance else "none"
    )


def _sentence(verdict: Verdict) -> str:
    view = _verdict_view(verdict)
    parts = [f"{view['name']} {view['value']}"]
    if verdict.limit is not None:
        parts.append(f"limit {view['limit']}")
    if view["baseline"] is not None:
        parts.append(f"baseline {view['baseline']} ({view['change']})")
    return ", ".join(parts)


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


def _headline(tests: int, failed: int) -> str:
    if not tests:
        return "No perf test ran."
    if failed:
        return f"{format_number(failed)} of {format_number(tests)} perf tests failed."
    return f"All {format_number(tests)} perf tests passed." if tests > 1 else "The perf test passed."


def _duration(seconds: float) -> str:
    if seconds < 1:
        return format_quantity(seconds * 1000, "ms", 2 if seconds < 0.01 else 3)
    return format_quantity(seconds, "s", 3)


def _when(started: str) -> str:
    try:
        return f"{datetime.fromisoformat(started):%d %B %Y, %H:%M %Z}".strip(" ,")
    except ValueError:
        return display_text(started, 60)
