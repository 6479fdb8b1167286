"""The fixture `perf`: what a test measures by itself, of any code, with or without worlds."""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from numbers import Integral, Real
from typing import TYPE_CHECKING

import pytest

from pytest_tinytroupe.metrics import CATALOGUE
from pytest_tinytroupe.records import Better, Metric, Tier
from pytest_tinytroupe.versus import ROUNDS, Comparison, compare

if TYPE_CHECKING:
    from pytest_tinytroupe.probe import Probe
    from tinytroupe.runtime.clock import VirtualClock

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,79}")
TIERS = ("exact", "heap", "ratio", "process", "wall")
QUICK_ROUNDS = 3
"""Rounds of a comparison in passes that measure something else."""


class Perf:
    """Records a test's own metrics, which are judged, kept in baselines and reported like all others.

    Parameters
    ----------
    probe
        Where the metrics go.
    judged
        Whether the run judges them (``--perf``); if not, `compare` asserts by itself.
    measuring
        Whether times count in this pass; under tracemalloc they do not.
    alone
        Gives a context in which nothing else of ours is measured or tested on this machine.
    kept
        Whether anything becomes of what is recorded: of a test without the marker, in a run that judges, nothing does.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        judged: bool,
        measuring: bool = True,
        alone: Callable[[], AbstractContextManager[None]] = nullcontext,
        kept: bool = True,
    ) -> None:
        self._alone = alone
        self._probe = probe
        self._judged = judged
        self._kept = kept
        self._measuring = measuring
        self._measured: dict[str, float] = {}

    def record(self, name: str, value: float, unit: str = "", better: Better = "lower", tier: Tier = "exact") -> None:
        """Record a metric of your own.

        Parameters
        ----------
        name
            Letters, digits, ``_``, ``.`` and ``-``; not one of the plugin's own, and once a test.
        value
            A finite number.
        unit
            Unit to show.
        better
            ``lower`` or ``higher``: which direction is an improvement.
        tier
            How far the value can be trusted: ``exact`` and ``heap`` are held against the baseline, ``ratio``,
            ``process`` and ``wall`` are shown only.

        Raises
        ------
        ValueError
            Any of these is something else.
        RuntimeError
            The test's call is over and its verdict given, as in the teardown of a fixture.
        """
        self._check_name(name)
        self._check_marker(name)
        given: object = value
        number = isinstance(given, Real) and not isinstance(given, bool)  # NumPy's, too
        if not (number and abs(value) <= sys.float_info.max):
            raise ValueError(f"perf.record({name!r}): the value must be a finite number, not {value!r}")
        if better not in ("lower", "higher"):
            raise ValueError(f"perf.record({name!r}): better must be 'lower' or 'higher', not {better!r}")
        if tier not in TIERS:
            raise ValueError(f"perf.record({name!r}): tier must be one of {', '.join(TIERS)}, not {tier!r}")
        if not isinstance(unit, str):
            raise ValueError(f"perf.record({name!r}): unit must be a text, not {unit!r}")
        # Plain ones, whatever NumPy or an enumeration makes of them: workers send them to the controller.
        plain = int(value) if isinstance(given, Integral) else float(value)
        self._probe.recorded.append(Metric(_plain(name), plain, _plain(unit), tier, better))

    def step(self) -> None:
        """Mark the end of a step, where a test has steps of its own: ``memory_growth_mb_per_step`` is taken over them.

        Steps of worlds count by themselves.
        """
        self._probe.stepped()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Record how long the block takes, in seconds: exact on virtual time, else real and shown only.

        Several blocks of one name add up, nested and concurrent ones, too. Computing takes no virtual
        time; where nothing else was done, a note in the reports says so.
        """
        if name not in self._measured:
            self._check_name(name)
            self._check_marker(name)
        virtual = self._virtual_s()
        start = time.perf_counter() if virtual is None else virtual
        try:
            yield
        finally:  # an error that the test expects ends the block, not the measurement
            now = self._virtual_s()
            if virtual is None or now is None:
                self._add(name, time.perf_counter() - start, "wall")
            else:
                self._add(name, now - start, "exact")

    def _add(self, name: str, took_s: float, tier: Tier) -> None:
        total_s = self._measured[name] = self._measured.get(name, 0.0) + took_s
        probe = self._probe
        still = f"{name}: 0 s, as the virtual clock stood still in the block; computing takes none of its time"
        probe.notes[:] = [note for note in probe.notes if note != still]
        if tier == "exact" and total_s == 0:
            probe.notes.append(still)
        recorded = [each for each in probe.recorded if each.name != name]
        probe.recorded[:] = [*recorded, Metric(_plain(name), round(total_s, 9), "s", tier)]

    def compare(
        self,
        baseline_callable: Callable[[], object],
        candidate_callable: Callable[[], object],
        min_ratio: float = 2.0,
        rounds: int = ROUNDS,
        name: str = "ratio",
    ) -> Comparison:
        """Require that the candidate is `min_ratio` times as fast as the baseline, here and now, on any machine.

        Both are timed in turn in this process, in rotated order; what else the machine does falls on both. What only
        computes is timed in CPU time, what waits or computes in several threads in real time. The test
        fails unless the lower bound (by ranks) of the median of the paired ratios reaches `min_ratio`; as long as the
        bounds lie on both sides of it, the rounds are doubled, up to 16 times as many, and to 64 times within 10 s.
        All looks together, a bound is exceeded with a probability of at most 5 %. In a test that is
        measured, what misses `min_ratio` has to miss it in fresh processes, too: now and then a process is slower at
        one of two things from its start to its end.

        Parameters
        ----------
        baseline_callable, candidate_callable
            Plain functions without arguments.
        min_ratio
            Least duration of the baseline over that of the candidate; above 0.
        rounds
            Rounds to begin with, at least 3.
        name
            Of the metric.

        Raises
        ------
        AssertionError
            It is not met, in a test that is not measured; else the verdict fails the test.
        TypeError
            One of them is a coroutine or generator function, or returns a coroutine: calling it runs nothing.
        ValueError
            An argument is out of range.
        """
        self._check_name(name)
        name, min_ratio = _plain(name), float(min_ratio)
        self._probe.limits[name] = (
            "min",
            min_ratio,
        )  # it stands, also where one of them raises and the test catches it
        if self._measuring:
            with self._alone():
                found = compare(baseline_callable, candidate_callable, min_ratio, rounds)
        else:
            found = compare(baseline_callable, candidate_callable, min_ratio, QUICK_ROUNDS)
        if not self._judged and not found.met:
            raise AssertionError(f"{name}: {found.told}")
        # The bound is what is judged; the median is in the note.
        self._probe.recorded.append(Metric(name, found.lower, "x", "ratio", "higher"))
        self._probe.notes.append(f"{name}: {found.told}")
        self._probe.comparisons[name] = found
        return found

    @contextmanager
    def virtual_time(self) -> Iterator[VirtualClock]:
        """Run what is inside on a virtual clock of its own, which is measured; worlds and persons use it, too.

        ``clock.run(coroutine)`` runs a coroutine on it.
        """
        from tinytroupe.runtime.clock import VirtualClock, use_clock

        with VirtualClock() as clock, use_clock(clock):
            self._probe.add_clock(clock)
            yield clock

    def _virtual_s(self) -> float | None:
        clocks = self._probe.clocks.sources
        return sum(clock.now() for clock in clocks) if clocks else None

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a metric: letters, digits, '_', '.' and '-', up to 80, a letter first"
            )
        if name in CATALOGUE:
            raise ValueError(f"{name!r} is a metric that the plugin measures itself; choose another name")
        if any(each.name == name for each in self._probe.recorded):
            raise ValueError(f"{name!r} is recorded already in this test; give each its own name")
        if self._probe.call_is_over:
            raise RuntimeError(
                f"{name!r} comes when the test's call is over and judged; record it in the call or before"
            )

    def _check_marker(self, name: str) -> None:
        """Warn, once a test, where a figure is lost on a run that judges: what is no gate must not look like one."""
        if not self._kept:
            self._kept = True
            text = f"{name!r} is neither judged nor kept: the test is not marked perf"
            warnings.warn(text, pytest.PytestWarning, stacklevel=3)


def _plain(text: str) -> str:
    """Return a text without what a class of its own makes of it."""
    return str.__str__(text)
