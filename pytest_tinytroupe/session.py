"""One perf test: takes it through its passes, and raises its verdict.

Each pass (see `pytest_tinytroupe.passes`) is a full set-up, call and teardown with fresh function-scoped fixtures.
Times are taken in fresh processes before the last pass, and a test with ``isolate=True`` runs in one as a whole. The
verdict is raised in the call of the last pass, so that a regression is an ordinary failure of the test.
"""

from __future__ import annotations

import abc
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_tinytroupe import _pytest_private, coroutines, flames, xdist
from pytest_tinytroupe.attaching import adopt, attach, attach_error, error_report, one_set
from pytest_tinytroupe.baseline_file import BaselineError
from pytest_tinytroupe.cause import By, cause_of
from pytest_tinytroupe.command_line import tell
from pytest_tinytroupe.environment import machine_key
from pytest_tinytroupe.fresh import FreshError, run_fresh
from pytest_tinytroupe.gate import Gate
from pytest_tinytroupe.marker import PerfMarker
from pytest_tinytroupe.measuring_lock import LockError
from pytest_tinytroupe.metrics import ON_DEMAND, TIMED
from pytest_tinytroupe.passes import PassName, instruments_of, plan
from pytest_tinytroupe.phases import CHILD, GATE, MARKER, PROBE, RUN, forget_probe
from pytest_tinytroupe.probe import Probe, probe_of
from pytest_tinytroupe.records import Metric, Site, Tier, Timeline, TurnSpan, Verdict
from pytest_tinytroupe.settings import read_settings
from pytest_tinytroupe.times import metrics_of, settled, take_times
from pytest_tinytroupe.timing import WARMUP, Run, Timing, enough, expected_s
from pytest_tinytroupe.verdict import judge_all

if TYPE_CHECKING:
    from pytest_tinytroupe.instruments import Instrument
    from pytest_tinytroupe.instruments.leaks import Leaks
    from tinytroupe.visualization.agent_memory import AgentMemory


class TestRun:
    """One perf test from its first pass to its verdict, or, in a child that takes times, to its last round."""

    __test__ = False
    runnable = staticmethod(coroutines.runnable)

    def __init__(self, gate: Gate, item: pytest.Item, marker: PerfMarker) -> None:
        self.gate = gate
        self.item = item
        self.marker = marker
        self.nodeid = xdist.nodeid_of(item)
        self.passes = () if gate.takes_times or gate.trace else plan(marker)
        self.current: PassName = "main"
        self.body_passed = False
        self._seeded = ""
        self._properties = list(item.user_properties)
        self._cold = False
        self.metrics: dict[PassName, list[Metric]] = {}
        self.rounds: list[Run] = []
        self.timing: Timing | None = None
        self.remarks: dict[str, str] = {}
        self.timelines: list[Timeline] = []
        self.notes: list[str] = []
        self.sites: list[Site] = []
        self.agents: list[AgentMemory] = []
        self.turns: list[TurnSpan] = []
        self.calls_s: list[tuple[float, int]] = []
        self.leaks: Leaks | None = None
        self.verdicts: tuple[Verdict, ...] = ()
        self.people: dict[str, dict[str, int]] = {}
        self.steps: dict[str, dict[str, int]] = {}
        self.limits = marker.limits()
        self.judged = False
        self.problem = ""
        self.subtest_failed = False

    @property
    def file(self) -> str:
        """Path of the test file relative to the root directory, with forward slashes."""
        return self.nodeid.partition("::")[0]

    @property
    def test(self) -> str:
        """Id of the test within its file."""
        return self.nodeid.partition("::")[2]

    @property
    def last(self) -> bool:
        """Whether this is the last pass; of rounds nobody knows beforehand."""
        return self.current == self.passes[-1] if self.passes else False

    def upcoming(self) -> Iterator[PassName]:
        """Yield the passes, or warm-up and rounds until there are enough of them."""
        if self.passes:
            for name in self.passes:
                if self._cold and (name == "heap" or (name == "leak" and self.leaks is None)):
                    yield "warm"
                yield name
            return
        if self.gate.trace:
            yield "flame"
            return
        for _ in range(WARMUP if self.marker.warmup is None else self.marker.warmup):
            yield "timed"
        self.rounds.clear()
        while not enough(self.rounds, self.marker.rounds):
            yield "timed"

    def begin(self, name: PassName) -> None:
        """Forget what belonged to the pass before."""
        self.current = name
        self.body_passed = False
        self._seeded = ""
        self.item.user_properties[:] = self._properties  # else those of each pass add up
        self.item.stash[PROBE] = Probe()
        if name == "leak" and self.leaks is None:
            from pytest_tinytroupe.instruments.leaks import Leaks

            self.leaks = Leaks(self.item.config.rootpath)
            self.leaks.start()

    def end(self) -> None:
        """Look at what is left of the current pass, which has been torn down."""
        if self.current == "leak" and self.leaks is not None:
            self.leaks.look()

    def take_times(self) -> None:
        """Take the times that the marker asks for, in fresh processes.

        Raises
        ------
        FreshError, LockError
            They could not be measured.
        """
        try:
            stored = self.gate.baselines.runs(self.file, self.test) if self.marker.baseline else {}
        except BaselineError:
            stored = {}  # the verdict tells
        self.timing, remarks = take_times(self.gate, self.item, self.marker, stored)
        self.remarks.update(remarks)

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
        if self.gate.trace:
            from pytest_tinytroupe.instruments.flame import Flame

            instruments: list[Instrument] = [Flame(self.gate.trace)]
        else:
            instruments = instruments_of(
                self.current, self.marker, probe_of(self.item), self.rounds, self.item.config.rootpath
            )
        with ExitStack() as stack:
            if self.current == "sequential":
                from tinytroupe.engine import force_scheduler

                stack.enter_context(force_scheduler("sequential"))
            for instrument in instruments:
                instrument.start()
                stack.callback(instrument.stop)
            known = _imported()
            yield
            self._cold = known != _imported()
        readings = [instrument.read() for instrument in instruments]
        self.metrics[self.current] = [metric for reading in readings for metric in reading.metrics]
        if self.current == "main":
            probe = probe_of(self.item)
            self.people, self.steps = probe.by_person(), probe.by_step()
            self.limits.update({name: [limit] for name, limit in probe.limits.items()})
            if not probe.worlds.counts().get("steps"):
                self.remarks["speedup"] = "no world took a step, and only worlds can be told to step sequentially"
        self.timelines += [timeline for reading in readings for timeline in reading.timelines]
        self.notes += [note for reading in readings for note in reading.notes]
        self.sites += [site for reading in readings for site in reading.sites]
        self.agents += [agent for reading in readings for agent in reading.agents]
        self.turns += [turn for reading in readings for turn in reading.turns]
        self.calls_s += [pair for reading in readings for pair in reading.calls_s]

    def conclude(self) -> str:
        """Take note that the body passed; in the last pass, return why the verdict fails the test, or nothing."""
        self.body_passed = True
        return self._judge() if self.last and not self.subtest_failed else ""

    def _judge(self) -> str:
        from pytest_tinytroupe.instruments import Reading
        from pytest_tinytroupe.instruments.exact import speedup
        from pytest_tinytroupe.report.text import failure_message

        main, sequential = self.metrics["main"], self.metrics.get("sequential", [])
        heap = [metric for metric in self.metrics.get("heap", []) if self._wanted(metric.name)]
        times, expected = metrics_of(self.marker.timed, self.timing) if self.timing is not None else ([], {})
        leaks = self.leaks.read() if self.leaks is not None else Reading()
        self.notes += leaks.notes
        main = [each for each in main if self._means_something(each)]
        metrics = [*main, *speedup(sequential, main), *heap, *leaks.metrics, *times]
        stored: dict[str, float] = {}
        before: tuple[By, By] = {}, {}
        must_have: list[Tier] = []
        problem = ""
        if self.marker.baseline:
            baselines = self.gate.baselines
            try:
                stored = {**baselines.stored(self.file, self.test), **expected}
                before = baselines.causes(self.file, self.test)
                runs = baselines.runs(self.file, self.test).get(machine_key())
                if runs and not self.marker.timed:  # the test does not ask any more, which must not go unnoticed
                    stored["cpu_s"] = expected_s("cpu_s", runs, runs[0].calibration_s)
                if self.gate.settings.must_have:
                    # Another machine's heap says nothing here; that this one has no figures yet is no test's fault.
                    known_elsewhere = baselines.other_environments(self.file, self.test)
                    excused = known_elsewhere and not self.gate.settings.strict
                    must_have = ["exact"] if excused else ["exact", "heap", "process"]
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
        settings = self.gate.settings
        return failure_message(
            self.nodeid, self.verdicts, accept=settings.update, problem=problem, command=settings.command
        )

    def _wanted(self, name: str) -> bool:
        return name not in ON_DEMAND or self.marker.wants(name)

    def _means_something(self, metric: Metric) -> bool:
        if not self._wanted(metric.name):
            return False
        # On wall time the main pass is the first, cold one; the time of a test is its wall_s then.
        return metric.name != "time_s" or self.marker.clock == "virtual" or self.marker.wants("time_s")

    def _told(self, name: str) -> str:
        """Return what an instrument had to remark on a metric, or nothing."""
        return next((each.partition(": ")[2] for each in self.notes if each.startswith(f"{name}: ")), "")

    def _explained(self, verdict: Verdict, before: tuple[By, By]) -> Verdict:
        """Say who is behind a regression, or why there is no figure, where that is known."""
        if self.timing is not None:
            verdict = settled(verdict, self.timing, self.gate.family)
        name, note = verdict.metric.name, verdict.note
        if verdict.status in ("regressed", "over limit"):
            note = cause_of(name, self.people, before[0], self.steps, before[1]) or note or self._told(name)
        elif verdict.status == "unmeasured" and all(name != each.name for each in self.metrics["main"]):
            note = self._told(name) or note
        if verdict.status == "new" or name not in TIMED:
            note = note or self.remarks.get(name, "")
        return replace(verdict, note=note)


def _imported() -> object:
    """Return what changes where modules are imported, or classes registered with abstract ones.

    After that Python finds out anew which class is a subclass of which, and keeps it: on the heap.
    """
    return len(sys.modules), abc.get_cache_token()


def start(config: pytest.Config) -> None:
    """Begin a run of ``pytest --perf``.

    Raises
    ------
    pytest.UsageError
        The options contradict each other, or name a directory that cannot be written.
    """
    settings = read_settings(config)
    gate = Gate(settings, config)
    on_behalf = xdist.is_worker(config) or CHILD in config.stash
    config.option.perf_strict = settings.strict  # fresh processes judge as this one does
    if not on_behalf and not config.option.collectonly:
        gate.begin()
        # Workers may start elsewhere, and take over the options as they are now.
        config.option.perf_baseline_dir = str(settings.baseline_dir)
        if settings.report_dir is not None:
            config.option.perf_report = str(settings.report_dir)
        tell(config, settings.command)
    config.stash[GATE] = gate
    config.pluginmanager.register(gate, "tinytroupe-perf-gate")


def run_test(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Measure a perf test and log one set of reports."""
    gate, marker = item.config.stash[GATE], item.stash[MARKER]
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    if marker.isolate and gate.child is None:
        reports = _isolated(gate, item, nextitem)
    else:
        reports = _measured(TestRun(gate, item, marker), nextitem)
    if gate.child is None:
        flames.attach(gate, item, reports)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _isolated(gate: Gate, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run a test alone in a fresh process: its reports are the test's."""
    limit_s = gate.settings.time_limit_s
    problem = ""
    try:
        reports = run_fresh(item, "whole", time_limit_s=limit_s, shares=gate.locks, family=gate.family)
        for report in reports:
            adopt(report, xdist.worker_name(gate.config))
            report.nodeid = item.nodeid
    except FreshError as error:
        problem = f"perf: the test could not be measured in a process of its own: {error}"
    if problem:
        reports = [error_report(item, problem)]
        attach_error(item, reports[0])
    # Tests before this one have left standing what this one would have used.
    failed_teardown = _pytest_private.tear_down_to(item, nextitem)
    return reports if failed_teardown is None else [*reports, failed_teardown]


def _measured(run: TestRun, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Take a test through its passes in this process."""
    item, taken = run.item, list[list[pytest.TestReport]]()
    item.stash[RUN] = run.gate.running = run
    randomness = random.getstate()
    try:
        for name in run.upcoming():
            run.begin(name)
            try:
                if run.last and run.marker.timed:
                    run.take_times()
                with run.gate.sharing():
                    # Only what belongs to this function is torn down between passes: its module's fixtures stay.
                    reports = _pytest_private.run_phases(item, nextitem if run.last else item.parent)
                run.end()
            except (FreshError, LockError) as error:
                run.problem = f"perf: the test could not be measured: {error}"
            if run.problem:
                reports = [error_report(item, run.problem)]
            taken.append(reports)
            stopped = bool(item.session.shouldstop or item.session.shouldfail)
            if stopped or not run.body_passed or run.subtest_failed or reports[-1].failed:
                break
        if not run.last or run.problem:
            failed_teardown = _pytest_private.tear_down_to(item, nextitem)
            if failed_teardown is not None:
                taken[-1].append(failed_teardown)
    finally:
        if run.leaks is not None:
            run.leaks.stop()
        random.setstate(randomness)
        run.gate.running = None
        del item.stash[RUN]
        forget_probe(item)
    reports = one_set(run, taken)
    attach(run, reports, taken[0])
    return reports
