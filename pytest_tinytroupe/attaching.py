"""From the reports of several passes to one set, with the test's rows on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_tinytroupe import xdist
from pytest_tinytroupe.baseline import entry_of
from pytest_tinytroupe.cause import PEOPLE, By
from pytest_tinytroupe.fresh import FIGURES_ATTRIBUTE
from pytest_tinytroupe.gate import REPORT_ATTRIBUTE, reason_of
from pytest_tinytroupe.records import TestRecord

if TYPE_CHECKING:
    from pytest_tinytroupe.testrun import TestRun

Outcome = Literal["passed", "failed", "skipped", "xfailed", "error"]


def error_report(item: pytest.Item, text: str) -> pytest.TestReport:
    """Return a report that says why a test could not be measured: an error, as if its set-up had failed."""
    call = pytest.CallInfo.from_call(lambda: pytest.fail(text, pytrace=False), when="setup")
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    if not report.failed:  # that a test is expected to fail excuses its verdict, not that there is none
        vars(report).pop("wasxfail", None)
        report.outcome, report.longrepr = "failed", text
    return report


def one_set(run: TestRun, taken: list[list[pytest.TestReport]]) -> list[pytest.TestReport]:
    """Return the reports of the last pass taken, with the durations of all passes."""
    reports = taken[-1]
    for report in reports:
        twins = [twin for earlier in taken[:-1] for twin in earlier if twin.when == report.when]
        report.duration += sum(twin.duration for twin in twins)
        report.start = min([report.start, *(twin.start for twin in twins)])
        if report.failed and len(run.passes) > 1 and not run.judged and not run.problem:
            text = f"This happened in the {run.current} pass (pass {len(taken)} of {max(len(taken), len(run.passes))})."
            if run.current == "sequential":
                text += (
                    " min_speedup runs the body once more with worlds stepping sequentially: it has to hold in both"
                    " modes. Keep assertions about time in the marker (max_time_s), which judges the main pass."
                )
            report.sections.append(("perf", text))
    for report in reports:
        crash = getattr(report.longrepr, "reprcrash", None)
        if report.failed and run.judged and report.when == "call" and crash is not None:
            crash.message = crash.message.partition("\n")[0]  # in CI pytest's summary has it whole, once more
    if run.passes and not run.judged:
        _refuse(run, reports, len(taken))
    return reports


def _refuse(run: TestRun, reports: list[pytest.TestReport], passes: int) -> None:
    """Fail a call that ended well and yet without a verdict; a test that is skipped at once is skipped."""
    skipped = next((report for report in reports if report.skipped), None)
    call = next((report for report in reports if report.when == "call" and report.passed), None)
    if skipped is not None and passes > 1:
        reason = skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else str(skipped.longrepr)
        text = f"it was skipped in its {run.current} pass, after {passes - 1} without that: {reason}"
        vars(skipped).pop("wasxfail", None)
        skipped.outcome, skipped.longrepr = "failed", f"perf: not judged: {text}"
    elif skipped is None and call is not None:
        teardown = next((report for report in reports if report.when == "teardown" and report.failed), None)
        if run.subtest_failed:
            text = "a subtest failed"
        elif teardown is not None:
            text = f"its {run.current} pass failed when it was torn down: {reason_of(teardown)}"
        else:
            text = f"the test ended after its {run.current} pass, before {run.passes[-1]}"
        call.outcome, call.longrepr = "failed", f"perf: not judged: {text}"


def attach(run: TestRun, reports: list[pytest.TestReport], main: list[pytest.TestReport]) -> None:
    """Hang the test's rows on its report; of a child that gives no verdict, its figures."""
    carrier = next((report for report in reports if report.when == "call"), reports[0])
    if carrier.when == "setup" and carrier.passed:  # --setup-only: there was no call
        return
    if not run.passes:
        setattr(carrier, FIGURES_ATTRIBUTE, run.figures)
        return
    outcome = _outcome(reports)
    verdicts = run.verdicts
    record = TestRecord(
        run.nodeid,
        outcome,
        next((report.duration for report in main if report.when == "call"), 0.0),
        verdicts,
        tuple(run.timelines),
        tuple(run.notes),
        xdist.worker_name(run.gate.config),
        line=_line(run.item),
        people=_busiest(run.people),
        sites=tuple(run.sites),
        agents=tuple(run.agents),
        turns=tuple(run.turns),
        calls_s=tuple(run.calls_s),
    )
    entry = None
    if outcome == "passed" and run.marker.baseline:
        runs = run.timing.keepable if run.timing is not None else None
        entry = entry_of(run.file, run.nodeid.partition("::")[2], verdicts, run.people, run.steps, runs).to_json()
    properties = [(f"perf_{each.metric.name}", each.metric.value) for each in verdicts if each.metric.value is not None]
    for report in reports:  # JUnit takes them from whichever it sees last
        report.user_properties += properties
    setattr(carrier, REPORT_ATTRIBUTE, {"record": record.to_json(), "entry": entry})


def attach_error(item: pytest.Item, report: pytest.TestReport) -> None:
    """Hang a row without figures on the report of a test that could not be measured at all."""
    record = TestRecord(xdist.nodeid_of(item), "error", 0.0, worker=xdist.worker_name(item.config), line=_line(item))
    setattr(report, REPORT_ATTRIBUTE, {"record": record.to_json(), "entry": None})


def adopt(report: pytest.TestReport, worker: str) -> None:
    """Make a child's report this process's own."""
    data: dict[str, Any] | None = getattr(report, REPORT_ATTRIBUTE, None)
    if data is not None:
        data["record"]["worker"] = worker


def _line(item: pytest.Item) -> int:
    return (item.location[1] or 0) + 1


def _busiest(people: By) -> tuple[tuple[str, int, int], ...]:
    calls, tokens = people.get("llm_calls", {}), people.get("tokens", {})
    ranked = sorted(calls, key=lambda name: (-calls[name], name))[:PEOPLE]
    return tuple((name, calls[name], tokens.get(name, 0)) for name in ranked)


def _outcome(reports: list[pytest.TestReport]) -> Outcome:
    if any(report.failed and report.when != "call" for report in reports):
        return "error"
    if any(report.failed for report in reports):
        return "failed"
    skipped = [report for report in reports if report.skipped]
    if skipped:
        return "xfailed" if hasattr(skipped[0], "wasxfail") else "skipped"
    return "passed"
