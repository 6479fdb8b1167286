"""The index of a report: every test with its verdict and its most telling figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pytest_tinytroupe.records import SessionReport, TestRecord
from pytest_tinytroupe.report.shown import ATTENTION, LOOKS, duration, sentence, status_of, verdict_view
from tinytroupe.visualization import pages
from tinytroupe.visualization.charts import spark_view
from tinytroupe.visualization.text import display_text, format_number, safe_file_name

PACKAGE = "pytest_tinytroupe.report"
HEADLINE_METRICS = 4
"""Metrics a test shows on the index; those that need attention come first."""
ISSUE_LIMIT = 50
"""The most tests listed under what needs attention."""

TIERS = (
    (
        "exact",
        "Counted, or timed on the virtual clock, where simulated latency costs no real time.",
        "None: identical on every machine. Fails at any change for the worse.",
    ),
    (
        "heap",
        "tracemalloc, in a pass of its own because it slows the code down.",
        "±2 %, at least 64 KiB, for one Python version and platform.",
    ),
    (
        "ratio",
        "Two pieces of code timed in turn in one process; the median of the paired ratios, and its bounds by ranks.",
        "None: the lower bound has to reach the limit.",
    ),
    (
        "process",
        "Resident memory of the whole process: the kernel's high-water mark where it can be reset, and samples "
        "every 20 ms for the chart. The notes of each test say which.",
        "±3 % where the test runs isolated, for one Python version and platform; else it depends on what ran before in "
        "the process, and only a limit can fail it.",
    ),
    (
        "wall",
        "Real time and CPU time, in fresh processes beside a calibration loop; times that a test takes by itself, as "
        "they were.",
        "±10 %, confirmed by three to nine more processes and significant, for one machine; else it is shown only.",
    ),
    (
        "price",
        "What the tokens cost by the price list that is installed.",
        "Depends on the price list: held to limits only.",
    ),
)


def index_page(title: str, session: SessionReport, tests: Sequence[dict[str, Any]]) -> str:
    """Render the index of tests, each as `test_view` describes it."""
    counts = Counter(kind for test in tests for kind in test["kinds"])
    failed = sum(test["failed"] for test in tests)
    issues = [test for test in tests if test["problems"]]
    tiles = [
        {"label": "test" if len(tests) == 1 else "tests", "value": len(tests), "css": ""},
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


def test_view(record: TestRecord) -> dict[str, Any]:
    """Work out what the index, and the head of its own page, say about a test."""
    key = status_of(record)
    path, _, name = record.nodeid.partition("::")
    failed = key in ATTENTION
    verdicts = sorted(record.verdicts, key=lambda verdict: verdict.status not in ATTENTION)
    href = f"tests/{safe_file_name(record.nodeid)}.html"
    shown_name = display_text(name.replace("::", " › ") or path, 120)
    groups = [group for group, holds in (("attention", key in ATTENTION), ("passed", not failed)) if holds]
    groups += sorted({verdict.status for verdict in record.verdicts} & {"improved", "new"})
    problems = [(sentence(v), display_text(v.note, 300)) for v in verdicts if v.status in ATTENTION]
    if failed and not any(v.failed for v in record.verdicts):
        what = "the test itself failed, whatever its figures" if key == "failed" else "set-up or tear-down failed"
        problems.insert(0, (what, display_text(record.reason, 300)))
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
        "problems": problems,
        "metrics": [verdict_view(verdict) for verdict in verdicts[:HEADLINE_METRICS]],
        "more": max(0, len(verdicts) - HEADLINE_METRICS),
        "spark": spark_view(memory.points) if memory is not None else None,
        "took": duration(record.duration_s),
    }


test_view.__test__ = False  # type: ignore[attr-defined]


def _headline(tests: int, failed: int) -> str:
    if not tests:
        return "No perf test ran."
    if failed and tests == 1:
        return "The perf test failed."
    if failed:
        return f"{format_number(failed)} of {format_number(tests)} perf tests failed."
    return f"All {format_number(tests)} perf tests passed." if tests > 1 else "The perf test passed."


def _when(started: str) -> str:
    try:
        return f"{datetime.fromisoformat(started):%d %B %Y, %H:%M %Z}".strip(" ,")
    except ValueError:
        return display_text(started, 60)
