"""One run of ``pytest --perf``: which passes a test takes, in which order, and the rows they leave.

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
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_tinytroupe import _pytest_private, xdist
from pytest_tinytroupe.baseline import BaselineError, Baselines, Entry, entry_of
from pytest_tinytroupe.marker import PerfMarker
from pytest_tinytroupe.phases import GATE, MARKER, PROBE, RUN, forget_probe
from pytest_tinytroupe.probe import Probe, probe_of
from pytest_tinytroupe.records import Metric, SessionReport, TestRecord, Timeline, Verdict
from pytest_tinytroupe.settings import Settings, check_writable, read_settings
from pytest_tinytroupe.verdict import judge_all

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tinytroupe.instruments import Instrument

PassName = Literal["main", "sequential", "heap"]
Outcome = Literal["passed", "failed", "skipped", "xfailed", "error"]

REPORT_ATTRIBUTE = "tinytroupe_perf"
"""Attribute of the call report that carries a test's rows; pytest and xdist keep plain attributes."""


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
            self.timelines = [timeline for _, timelines, _ in readings for timeline in timelines]
        self.notes += [note for _, _, notes in readings for note in notes]

    def conclude(self) -> str:
        """Take note that the body passed; in the last pass, return why the verdict fails the test, or nothing."""
        self.body_passed = True
        return self._judge() if self.last else ""

    def _judge(self) -> str:
        from pytest_tinytroupe.instruments.exact import speedup
        from pytest_tinytroupe.report.terminal import failure_message

        main, sequential = self.metrics["main"], self.metrics.get("sequential", [])
        metrics = [*main, *speedup(sequential, main), *self.metrics.get("heap", [])]
        stored: dict[str, float] = {}
        problem = ""
        if self.marker.baseline:
            try:
                stored = self.gate.baselines.stored(self.file, self.nodeid.partition("::")[2])
            except BaselineError as error:
                problem = str(error)
        self.verdicts = judge_all(metrics, self.marker.limits(), stored, keeps_baseline=self.marker.baseline)
        self.judged = True
        return failure_message(self.nodeid, self.verdicts, accept=self.gate.settings.update, problem=problem)

    def _instruments(self) -> list[Instrument]:
        # Imported here: without --perf nobody needs them.
        from pytest_tinytroupe.instruments.exact import Exact

        if self.current == "heap":
            from pytest_tinytroupe.instruments.heap import Heap

            return [Heap()]
        if self.current == "sequential":
            return [Exact(probe_of(self.item))]
        from pytest_tinytroupe.instruments.process import Process

        instruments: list[Instrument] = [Process(), Exact(probe_of(self.item))]
        if probe_of(self.item).monitors:
            from pytest_tinytroupe.instruments.memories import Memories

            instruments.append(Memories(probe_of(self.item)))
        return instruments


def plan(marker: PerfMarker) -> tuple[PassName, ...]:
    """Return the passes that a marker asks for, in order."""
    passes: list[PassName] = ["main"]
    if marker.min_speedup is not None:
        passes.append("sequential")
    if marker.baseline or marker.max_heap_mb is not None:
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


class Gate:
    """What one run of ``pytest --perf`` gathers: on the controller everything, on a worker nothing but settings."""

    def __init__(self, settings: Settings, config: pytest.Config) -> None:
        self.settings = settings
        self.config = config
        self.baselines = Baselines(settings.baseline_dir)
        self.records: list[TestRecord] = []
        self.entries: list[Entry] = []
        self.updated: list[Path] = []
        self.report_path: Path | None = None
        self.errors: list[str] = []
        self.started = ""
        self.active = False

    def begin(self) -> None:
        """Become the one that gathers, and refuse directories that cannot be written: before the tests, not after.

        Raises
        ------
        pytest.UsageError
            The directory of the report or of the baselines cannot be written.
        """
        from datetime import datetime

        self.active = True
        self.started = datetime.now().astimezone().isoformat(timespec="seconds")
        if self.settings.report_dir is not None:
            check_writable(
                self.settings.report_dir, "--perf-report", "name another directory, or give --no-perf-report"
            )
        if self.settings.update:
            check_writable(
                self.settings.baseline_dir, "--perf-update", "mend its permissions, or give --perf-baseline-dir"
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows from a report, whichever process made it."""
        data: dict[str, Any] | None = getattr(report, REPORT_ATTRIBUTE, None)
        if self.active and data is not None:
            self.records.append(TestRecord.from_json(data["record"]))
            if data["entry"] is not None:
                self.entries.append(Entry.from_json(data["entry"]))

    def finish(self, session: pytest.Session) -> None:
        """Update the baselines and write the report. Problems go to `errors` and change no test's verdict."""
        if not self.active:
            return
        self.records.sort(key=lambda record: record.nodeid)
        if self.settings.update:
            try:
                self.updated = self.baselines.update(self.entries)
            except BaselineError as error:
                self.errors.append(str(error))
                if session.exitstatus == pytest.ExitCode.OK:  # what was asked for has not happened
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.settings.report_dir is not None and self.records:
            try:
                from pytest_tinytroupe.report.html import write_report

                self.report_path = write_report(self.settings.report_dir, self.session_report())
            except Exception as error:  # whatever it is, the tests have their verdicts and the user must hear of it
                self.errors.append(f"report {self.settings.report_dir}: {type(error).__name__}: {error}")

    def session_report(self) -> SessionReport:
        """Return everything the reports show."""
        import shlex

        root = self.config.rootpath
        return SessionReport(
            title=f"Performance of {root.name}",
            started=self.started,
            records=tuple(self.records),
            environment=environment(),
            baseline_dir=relative(self.settings.baseline_dir, root),
            command=shlex.join(["pytest", *self.config.invocation_params.args]),
        )


def environment() -> tuple[tuple[str, str], ...]:
    """Return what the figures were measured with."""
    import os
    import platform

    pairs = [
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Platform", platform.platform()),
        ("Processors", str(os.cpu_count() or "unknown")),
    ]
    pairs += [(package, _version(package)) for package in ("pytest-tinytroupe", "pytest", "openai")]
    return tuple(pairs)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def relative(path: PurePath, root: PurePath) -> str:
    """Return `path` relative to `root` where it is below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


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
        run.nodeid, outcome, duration_s, verdicts, timelines, tuple(run.notes), xdist.worker_name(run.gate.config)
    )
    entry = None
    if outcome == "passed" and run.marker.baseline:
        entry = entry_of(run.file, run.nodeid.partition("::")[2], verdicts).to_json()
    setattr(carrier, REPORT_ATTRIBUTE, {"record": record.to_json(), "entry": entry})


def _outcome(reports: list[pytest.TestReport]) -> Outcome:
    if any(report.failed and report.when != "call" for report in reports):
        return "error"
    if any(report.failed for report in reports):
        return "failed"
    skipped = [report for report in reports if report.skipped]
    if skipped:
        return "xfailed" if hasattr(skipped[0], "wasxfail") else "skipped"
    return "passed"
