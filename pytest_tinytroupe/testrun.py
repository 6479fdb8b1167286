"""What becomes of one perf test: what its passes have measured, and the verdict on it."""

from __future__ import annotations

import abc
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tinytroupe import coroutines, xdist
from pytest_tinytroupe.baseline_file import BaselineError
from pytest_tinytroupe.cause import By, cause_of
from pytest_tinytroupe.comparisons import compare_again
from pytest_tinytroupe.environment import machine_key
from pytest_tinytroupe.gate import Gate
from pytest_tinytroupe.instruments import Instrument, Reading
from pytest_tinytroupe.marker import PerfMarker, changed_since
from pytest_tinytroupe.metrics import ON_DEMAND, TIMED
from pytest_tinytroupe.passes import PassName, instruments_of, plan
from pytest_tinytroupe.phases import PROBE
from pytest_tinytroupe.probe import Probe, probe_of
from pytest_tinytroupe.records import Metric, Site, Tier, Timeline, TurnSpan, Verdict
from pytest_tinytroupe.times import metrics_of, settled, take_times, tolerances
from pytest_tinytroupe.timing import WARMUP, Run, Timing, enough, expected_s
from pytest_tinytroupe.verdict import judge_all
from pytest_tinytroupe.versus import Comparison

if TYPE_CHECKING:
    from pytest_tinytroupe.instruments.leaks import Leaks
    from tinytroupe.visualization.agent_memory import AgentMemory

KEPT = "no world took a step in the sequential pass: what the main pass has done is kept somewhere, such as in a cache"


class TestRun:
    """One perf test from its first pass to its verdict, or, in a child that gives none, to its last figure."""

    __test__ = False
    runnable = staticmethod(coroutines.runnable)

    def __init__(self, gate: Gate, item: pytest.Item, marker: PerfMarker) -> None:
        self.gate = gate
        self.item = item
        self.marker = marker
        self.nodeid = xdist.nodeid_of(item)
        self.passes: list[PassName] = list(plan(marker)) if gate.purpose == "whole" else []
        self._begun = 0
        self.current: PassName = "main"
        self.body_passed = False
        self._seeded = ""
        self._properties = list(item.user_properties)
        self._cold = False
        self.heaps: list[Reading] = []
        self.metrics: dict[PassName, list[Metric]] = {}
        self.rounds: list[Run] = []
        self.timing: Timing | None = None
        self.comparisons: dict[str, Comparison] = {}
        self._compared_again = False
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
        """Whether this is the last pass as far as is known; of rounds nobody knows beforehand."""
        return bool(self.passes) and self._begun == len(self.passes)

    @property
    def figures(self) -> list[tuple[Any, ...]]:
        """What a child that gives no verdict has measured."""
        if self.gate.purpose == "comparisons":
            return [(name, *astuple(found)) for name, found in self.comparisons.items()]
        return [astuple(each) for each in self.rounds]

    def upcoming(self) -> Iterator[PassName]:
        """Yield the passes, or warm-up and rounds until there are enough of them."""
        if self.gate.purpose == "whole":
            for name in self.passes:  # there may be more on the way
                if self._cold and (name == "heap" or (name == "leak" and self.leaks is None)):
                    yield "warm"
                self._begun += 1
                yield name
        elif self.gate.purpose == "comparisons":
            yield "main"
        elif self.gate.purpose == "flame":
            yield "flame"
        else:
            yield from self._rounds()

    def _rounds(self) -> Iterator[PassName]:
        from pytest_tinytroupe.instruments.timed import set_aside

        for _ in range(WARMUP if self.marker.warmup is None else self.marker.warmup):
            yield "timed"
        set_aside()
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

    def ask_fresh_processes(self) -> None:
        """Measure what only fresh processes can tell, once: times, and whether comparisons have to miss their limits.

        Raises
        ------
        FreshError, LockError
            They could not be measured.
        """
        if self._has_suspicions():
            self._compare_again()
        if self.marker.timed and self.timing is None:
            self._take_times()

    def _has_suspicions(self) -> bool:
        """Whether a comparison has missed its limit, in this process only so far."""
        return not self._compared_again and not all(found.met for found in self.comparisons.values())

    def _compare_again(self) -> None:
        self._compared_again = True
        suspicions = {name: found for name, found in self.comparisons.items() if not found.met}
        for name, confirmed in compare_again(self.gate, self.item, suspicions).items():
            self.comparisons[name] = confirmed.median
            self.metrics["main"] = [
                replace(each, value=confirmed.median.lower) if each.name == name else each
                for each in self.metrics["main"]
            ]
            self.notes = [
                f"{name}: {confirmed.told}" if each == f"{name}: {confirmed.first.told}" else each
                for each in self.notes
            ]

    def _take_times(self) -> None:
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
        if self.current == "heap":
            self.heaps += readings
        else:
            self._keep(self.current, readings)
        probe = probe_of(self.item)
        stepped = probe.worlds.counts().get("steps")
        if self.current == "sequential" and not stepped and "speedup" not in self.remarks:
            self.notes.append(f"speedup: {KEPT}")
        if self.current == "main":
            self.people, self.steps = probe.by_person(), probe.by_step()
            self.limits.update({name: [limit] for name, limit in probe.limits.items()})
            self.comparisons = dict(probe.comparisons)
            if not stepped:
                self.remarks["speedup"] = "no world took a step, and only worlds can be told to step sequentially"

    def _keep(self, name: PassName, readings: Sequence[Reading]) -> None:
        self.metrics[name] = [metric for reading in readings for metric in reading.metrics]
        self.timelines += [timeline for reading in readings for timeline in reading.timelines]
        self.notes += [note for reading in readings for note in reading.notes]
        self.sites += [site for reading in readings for site in reading.sites]
        self.agents += [agent for reading in readings for agent in reading.agents]
        self.turns += [turn for reading in readings for turn in reading.turns]
        self.calls_s += [pair for reading in readings for pair in reading.calls_s]

    def conclude(self) -> str:
        """Take note that the body passed; in the last pass, return why the verdict fails the test, or nothing."""
        self.body_passed = True
        if not self.last or self.subtest_failed:
            return ""
        changed = changed_since(self.item, self.marker)
        if changed:
            return changed
        if self.current == "heap" and len(self.heaps) == 1 and self._doubts_heap():
            self.passes.append("heap")
        elif self._has_suspicions():  # there was no later pass before which to look into them
            self.passes.append("verdict")
        return self._judge() if self.last else ""

    def _doubts_heap(self) -> bool:
        """Whether heap is to be looked at once more, and the lower peak to count.

        Tables of the interpreter's own grow now and then, by megabytes, at whoever's string is one too many. That
        happens once: what a test needs it needs twice.
        """
        stored: dict[str, float] = {}
        if self.marker.baseline:
            with suppress(BaselineError):
                stored = self.gate.baselines.stored(self.file, self.test)
        found = [metric for metric in self.heaps[0].metrics if self._wanted(metric.name)]
        limits = {metric.name: self.limits.get(metric.name, []) for metric in found}
        held = {metric.name: stored[metric.name] for metric in found if metric.name in stored}
        verdicts = judge_all(found, limits, held, keeps_baseline=self.marker.baseline, shares=self.marker.tolerance)
        taken = ("new",) if self.gate.settings.update else ()
        return any(each.failed or each.status in ("improved", *taken) for each in verdicts)

    def _judge(self) -> str:
        from pytest_tinytroupe.instruments.exact import speedup
        from pytest_tinytroupe.report.text import failure_message

        if self.heaps:
            self._keep(
                "heap", [min(self.heaps, key=lambda reading: [each.value or 0.0 for each in reading.metrics[:1]])]
            )
        main, sequential = self.metrics["main"], self.metrics.get("sequential", [])
        heap = [metric for metric in self.metrics.get("heap", []) if self._wanted(metric.name)]
        times, expected = metrics_of(self.marker.timed, self.timing) if self.timing is not None else ([], {})
        leaks = self.leaks.read() if self.leaks is not None else Reading()
        self.notes += leaks.notes
        main = [each for each in main if self._means_something(each)]
        metrics = [*main, *speedup(sequential, main), *heap, *leaks.metrics, *times]
        shares = {**self.marker.tolerance}
        if self.timing is not None:
            shares.update(tolerances(self.marker, self.timing.baseline))
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
            shares=shares,
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
