"""One perf test: which passes it takes, in which order, and the rows they leave.

A test takes up to three passes, each a full set-up, call and teardown with fresh function-scoped fixtures:

``main``
    The exact metrics, and the memory of the process, which disturbs none of them.
``sequential``
    The same body with every world stepping one person after the other; only with ``min_speedup``.
``heap``
    The Python heap, under tracemalloc, which slows the code down.

The verdict is raised in the call of the last pass, so that a regression is an ordinary failure of the test.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from pytest_tinytroupe import _pytest_private, xdist
from pytest_tinytroupe.baseline import BaselineError, entry_of
from pytest_tinytroupe.cause import PEOPLE, By, cause_of
from pytest_tinytroupe.gate import REPORT_ATTRIBUTE, Gate
from pytest_tinytroupe.marker import PerfMarker
from pytest_tinytroupe.metrics import ON_DEMAND
from pytest_tinytroupe.phases import GATE, MARKER, PROBE, RUN, forget_probe
from pytest_tinytroupe.probe import Probe, probe_of
from pytest_tinytroupe.records import Metric, TestRecord, Tier, Timeline, Verdict
from pytest_tinytroupe.settings import read_settings
from pytest_tinytroupe.verdict import judge_all

if TYPE_CHECKING:
    from pytest_tinytroupe.instruments import Instrument

PassName = Literal["main", "sequential", "heap"]
Outcome = Literal["passed", "failed", "skipped", "xfailed", "error"]


class TestRun:
    """One perf test from its first pass to its verdict."""

    __test__ = False

    def __init__(self, gate: Gate, item: pytest.Item, marker: PerfMarker) -> None:
        self.gate = gate
        self.item = item
        self.marker = marker
        self.nodeid = xdist.nodeid_of(item)
        self.passes = plan(marker)
        self.current: PassName = self.passes[0]
        self.body_passed = False
        self._seeded = ""
        self.metrics: dict[PassName, list[Metric]] = {}
        self.timelines: list[Timeline] = []
        self.notes: list[str] = []
        self.verdicts: tuple[Verdict, ...] = ()
        self.people: dict[str, dict[str, int]] = {}
        self.limits = marker.limits()
        self.judged = False

    @property
    def file(self) -> str:
        """Path of the test file relative to the root directory, with forward slashes."""
        return self.nodeid.partition("::")[0]

    @property
    def last(self) -> bool:
        """Whether this is the last pass."""
        return self.current == self.passes[-1]

    def begin(self, name: PassName) -> None:
        """Forget what belonged to the pass before."""
        self.current = name
        self.body_passed = False
        self._seeded = ""
        self.item.stash[PROBE] = Probe()

    def seed(self, phase: str) -> None:
        """Seed the generator at the first function-scoped fixture and at the call of each pass.

        Other plugins seed it too, differently in every run; what comes right before the code under test counts.
        """
        if self._seeded != phase:
            self._seeded = phase
            random.seed(self.marker.seed)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measure what happens inside: the call of the current pass."""
        instruments = self._instruments()
        with ExitStack() as stack:
            if self.current == "sequential":
                from tinytroupe.engine import force_scheduler

                stack.enter_context(force_scheduler("sequential"))
            for instrument in instruments:
                instrument.start()
                stack.callback(instrument.stop)
            yield
        readings = [instrument.read() for instrument in instruments]
        self.metrics[self.current] = [metric for metrics, _, _ in readings for metric in metrics]
        if self.current == "main":
            probe = probe_of(self.item)
            self.people = probe.by_person()
            self.limits.update({name: [limit] for name, limit in probe.limits.items()})
            self.timelines = [timeline for _, timelines, _ in readings for timeline in timelines]
        self.notes += [note for _, _, notes in readings for note in notes]

    def conclude(self) -> str:
        """Take note that the body passed; in the last pass, return why the verdict fails the test, or nothing."""
        self.body_passed = True
        return self._judge() if self.last else ""

    def _judge(self) -> str:
        from pytest_tinytroupe.instruments.exact import speedup
        from pytest_tinytroupe.report.text import failure_message

        main, sequential = self.metrics["main"], self.metrics.get("sequential", [])
        heap = [metric for metric in self.metrics.get("heap", []) if self._wanted(metric.name)]
        metrics = [*main, *speedup(sequential, main), *heap]
        stored: dict[str, float] = {}
        before: By = {}
        must_have: list[Tier] = []
        problem = ""
        if self.marker.baseline:
            baselines, test = self.gate.baselines, self.nodeid.partition("::")[2]
            try:
                stored, before = baselines.stored(self.file, test), baselines.people(self.file, test)
                if self.gate.settings.must_have:
                    # Another machine's heap says nothing here; that this one has no figures yet is no test's fault.
                    must_have = ["exact"] if baselines.other_environments(self.file, test) else ["exact", "heap"]
            except BaselineError as error:
                problem = str(error)
        verdicts = judge_all(
            metrics,
            self.limits,
            stored,
            keeps_baseline=self.marker.baseline,
            shares=self.marker.tolerance,
            must_have=must_have,
        )
        self.verdicts = tuple(self._explained(verdict, before) for verdict in verdicts)
        self.judged = True
        return failure_message(self.nodeid, self.verdicts, accept=self.gate.settings.update, problem=problem)

    def _wanted(self, name: str) -> bool:
        return name not in ON_DEMAND or self.marker.wants(name)

    def _explained(self, verdict: Verdict, before: By) -> Verdict:
        """Say who is behind a regression, or why there is no figure, where that is known."""
        name, note = verdict.metric.name, verdict.note
        if verdict.status in ("regressed", "over limit"):
            note = cause_of(name, self.people, before) or note
        elif verdict.status == "unmeasured":
            told = [each.partition(": ")[2] for each in self.notes if each.startswith(f"{name}: ")]
            note = told[0] if told else note
        return replace(verdict, note=note)

    def _instruments(self) -> list[Instrument]:
        # Imported here: without --perf nobody needs them.
        from pytest_tinytroupe.instruments.exact import Exact

        if self.current == "heap":
            from pytest_tinytroupe.instruments.heap import Heap

            return [Heap(probe_of(self.item) if self.marker.wants("memory_growth_mb_per_step") else None)]
        if self.current == "sequential":
            return [Exact(probe_of(self.item))]
        from pytest_tinytroupe.instruments.process import Process
        from pytest_tinytroupe.instruments.recorded import Recorded

        probe = probe_of(self.item)
        instruments: list[Instrument] = [Process(), Exact(probe), Recorded(probe)]
        if self.marker.wants("cost_usd"):
            from pytest_tinytroupe.instruments.cost import Cost

            instruments.append(Cost(probe))
        if probe.monitors:
            from pytest_tinytroupe.instruments.memories import Memories

            instruments.append(Memories(probe))
        return instruments


def plan(marker: PerfMarker) -> tuple[PassName, ...]:
    """Return the passes that a marker asks for, in order."""
    passes: list[PassName] = ["main"]
    if marker.wants("speedup"):
        passes.append("sequential")
    if marker.baseline or marker.wants("heap_mb") or marker.wants("memory_growth_mb_per_step"):
        passes.append("heap")
    return tuple(passes)


def start(config: pytest.Config) -> None:
    """Begin a run of ``pytest --perf``.

    Raises
    ------
    pytest.UsageError
        The options contradict each other, or name a directory that cannot be written.
    """
    settings = read_settings(config)
    gate = Gate(settings, config)
    if not xdist.is_worker(config) and not config.option.collectonly:
        gate.begin()
        # Workers may start elsewhere, and take over the options as they are now.
        config.option.perf_baseline_dir = str(settings.baseline_dir)
    config.stash[GATE] = gate
    config.pluginmanager.register(gate, "tinytroupe-perf-gate")


def run_test(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Take a perf test through its passes and log one set of reports."""
    run = TestRun(item.config.stash[GATE], item, item.stash[MARKER])
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    taken: list[list[pytest.TestReport]] = []
    item.stash[RUN] = run
    randomness = random.getstate()
    try:
        for name in run.passes:
            run.begin(name)
            # Only what belongs to this function is torn down between passes: its module's fixtures stay.
            reports = _pytest_private.run_phases(item, nextitem if run.last else item.parent)
            taken.append(reports)
            stopped = bool(item.session.shouldstop or item.session.shouldfail)
            if stopped or not run.body_passed or reports[-1].failed:
                break
        if not run.last:
            failed_teardown = _pytest_private.tear_down_to(item, nextitem)
            if failed_teardown is not None:
                taken[-1].append(failed_teardown)
    finally:
        random.setstate(randomness)
        del item.stash[RUN]
        forget_probe(item)
    reports = _one_set(run, taken)
    _attach(run, reports, taken[0])
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _one_set(run: TestRun, taken: list[list[pytest.TestReport]]) -> list[pytest.TestReport]:
    """Return the reports of the last pass taken, with the durations of all passes."""
    reports = taken[-1]
    for report in reports:
        twins = [twin for earlier in taken[:-1] for twin in earlier if twin.when == report.when]
        report.duration += sum(twin.duration for twin in twins)
        report.start = min([report.start, *(twin.start for twin in twins)])
        if report.failed and len(run.passes) > 1 and not run.judged:
            text = f"This happened in the {run.current} pass (pass {len(taken)} of {len(run.passes)})."
            if run.current == "sequential":
                text += (
                    " min_speedup runs the body once more with worlds stepping sequentially: it has to hold in both"
                    " modes. Keep assertions about time in the marker (max_time_s), which judges the main pass."
                )
            report.sections.append(("perf", text))
    call = next((report for report in reports if report.when == "call"), None)
    if call is not None and call.passed and not run.judged:
        call.outcome = "failed"
        call.longrepr = f"perf: not judged: the test ended after its {run.current} pass, before {run.passes[-1]}"
    return reports


def _attach(run: TestRun, reports: list[pytest.TestReport], main: list[pytest.TestReport]) -> None:
    """Hang the test's rows on its report."""
    carrier = next((report for report in reports if report.when == "call"), reports[0])
    if carrier.when == "setup" and carrier.passed:  # --setup-only: there was no call
        return
    outcome = _outcome(reports)
    duration_s = next((report.duration for report in main if report.when == "call"), 0.0)
    verdicts, timelines = run.verdicts, tuple(run.timelines)
    record = TestRecord(
        run.nodeid,
        outcome,
        duration_s,
        verdicts,
        timelines,
        tuple(run.notes),
        xdist.worker_name(run.gate.config),
        line=(run.item.location[1] or 0) + 1,
        people=_busiest(run.people),
    )
    entry = None
    if outcome == "passed" and run.marker.baseline:
        entry = entry_of(run.file, run.nodeid.partition("::")[2], verdicts, run.people).to_json()
    properties = [(f"perf_{each.metric.name}", each.metric.value) for each in verdicts if each.metric.value is not None]
    for report in reports:  # JUnit takes them from whichever it sees last
        report.user_properties += properties
    setattr(carrier, REPORT_ATTRIBUTE, {"record": record.to_json(), "entry": entry})


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
