"""Times that depend on the machine, made comparable: runs in fresh processes, calibration, baseline, confirmation.

Pure functions and values: whoever calls them brings the processes. How a verdict is reached, with the formulas and
their sources, is told in ``docs/verdicts.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from statistics import fmean, median, median_low

from pytest_tinytroupe.statistics import student_t_tail

TOLERANCE = 0.10
"""How far a time may stray from its baseline. Two runs of the same code differ by 2 to 6 % after calibration."""

COLD = 0.05
"""Share of its waits by which the CPU time of a call may stray: after each, caches are cold and the clock is slow."""

FLOOR_S = 1e-3
"""Less than this is no regression: one garbage collection more or less takes as long."""

SUSPICIOUS = 0.5
"""Share of the tolerance from which on a single run is measured again: it is confirmation that decides, either way."""

CLEAR = 1.5
"""Share of the tolerance from which on `CONFIRMATIONS` settle it; below it, down to `SUSPICIOUS`, it takes more."""

BASELINE_RUNS = 9
CONFIRMATIONS = 3

BUSY = 0.25
"""From this share of queueing on (see `Run.busy`) others crowd a run's caches so much that it says little."""

PATIENCE = 2
"""At most so many times as many runs are taken, for want of those that are not busy."""

SPREAD_FLOOR = 0.02
"""Least standard deviation of the logarithms: runs that happen to be alike must not make everything significant."""

SIGNIFICANCE = 0.005
"""Probability of any false alarm among all times of one session, by chance alone, at each of two looks: 1 % in all."""

WARMUP = 1
ROUNDS = (5, 75)
"""Fewest and most rounds of a run where the marker does not say: as many as fill `ROUNDS_S`."""

ROUNDS_S = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """The times of one call, or of one process as a whole.

    Attributes
    ----------
    wall_s, cpu_s
        Real time without `queued_s`, and CPU time of all threads of the process.
    calibration_s
        CPU time that a fixed piece of work took around that call: how slow the machine was just then.
    queued_s
        How long the call was ready to run and had no core, because others had them. A baseline does not keep it.
    """

    wall_s: float
    cpu_s: float
    calibration_s: float
    queued_s: float = 0.0

    @property
    def busy(self) -> bool:
        """Whether others had the cores for too much of the time that it wanted one."""
        return self.share > BUSY

    @property
    def share(self) -> float:
        """How much of the time that it wanted a core it queued for one, from 0 to 1."""
        return self.queued_s / (self.queued_s + self.cpu_s) if self.queued_s > 0 else 0.0

    def at(self, name: str, calibration_s: float) -> float:
        """Return ``wall_s`` or ``cpu_s`` as it would have been on a machine as fast as `calibration_s` says.

        Only computing scales with the machine; what a call waited, it waits anywhere.
        """
        scale = calibration_s / self.calibration_s
        if name == "cpu_s":
            return self.cpu_s * scale
        computing_s = min(self.cpu_s, self.wall_s)  # several threads may compute at once
        return self.wall_s - computing_s + computing_s * scale

    def text(self) -> str:
        """Return the run as a baseline keeps it: its three times in one line, to five digits."""
        return " ".join(f"{value:.5g}" for value in (self.wall_s, self.cpu_s, self.calibration_s))

    @classmethod
    def from_text(cls, text: str) -> Run:
        """Build the run from `text`'s result.

        Raises
        ------
        ValueError
            It is something else: not three numbers above 0 (the CPU time may be 0).
        """
        wall_s, cpu_s, calibration_s = map(float, text.split())
        if not (0 < wall_s < math.inf and 0 <= cpu_s < math.inf and 0 < calibration_s < math.inf):
            raise ValueError(f"{text!r} is no run: times are finite and positive")
        return cls(wall_s, cpu_s, calibration_s)


def run_of(rounds: Sequence[Run]) -> Run:
    """Return one run for the rounds of a process.

    CPU time is the ratio of what all calls and all calibrations took, times the median calibration. The wait is the
    shortest, because whatever else the machine does only makes it longer, of the half of the rounds that queued least:
    what queued may have been a thread that nothing waited for. Queueing is in the proportion of all rounds.
    """
    calibration_s = median(each.calibration_s for each in rounds)
    wanted_s = math.fsum(each.cpu_s for each in rounds)
    cpu_s = wanted_s / math.fsum(each.calibration_s for each in rounds) * calibration_s
    usual_s = median_low(each.queued_s for each in rounds)
    waited_s = min(each.wall_s - each.cpu_s for each in rounds if each.queued_s <= usual_s)
    queued_s = sum(each.queued_s for each in rounds) / wanted_s * cpu_s if wanted_s else 0.0
    return Run(max(waited_s + cpu_s, 1e-9), cpu_s, calibration_s, queued_s)


def enough(rounds: Sequence[Run], wanted: int | None) -> bool:
    """Whether a process has taken its rounds: as many as `wanted`, or where that is None as many as fill a second."""
    if wanted is not None:
        return len(rounds) >= wanted
    fewest, most = ROUNDS
    return len(rounds) >= fewest and (len(rounds) >= most or sum(each.wall_s for each in rounds) >= ROUNDS_S)


def expected_s(name: str, baseline: Sequence[Run], calibration_s: float) -> float:
    """Return what the baseline's runs would take on a machine as fast as `calibration_s` says: their median."""
    return median(run.at(name, calibration_s) for run in baseline)


def measured_s(name: str, runs: Sequence[Run]) -> tuple[float, float]:
    """Return the median time of the runs, and the calibration that it belongs to."""
    calibration_s = median(run.calibration_s for run in runs)
    return median(run.at(name, calibration_s) for run in runs), calibration_s


def tolerance(name: str, baseline: Sequence[Run]) -> float:
    """Return the share by which a time may stray from what `baseline` leads to expect, unless the marker says.

    What CPU time a call takes that mostly waits is decided by how cold it finds the machine after each wait, and that
    by its neighbours. Nobody would notice it either: `COLD` of the waits is less than the real time may stray.
    """
    if name != "cpu_s" or not baseline:
        return TOLERANCE
    return max(TOLERANCE, COLD * median(max(run.wall_s - run.cpu_s, 0.0) / max(run.cpu_s, 1e-9) for run in baseline))


def p_value(name: str, runs: Sequence[Run], baseline: Sequence[Run]) -> float:
    """Return how likely runs as different as these are, in their direction, where nothing has changed.

    Student's t for two samples with a common variance, on the logarithms of the calibrated times, one-sided; the
    standard deviation counts as at least `SPREAD_FLOOR`.
    """
    calibration_s = median(run.calibration_s for run in (*runs, *baseline))
    now, then = ([math.log(max(run.at(name, calibration_s), 1e-9)) for run in each] for each in (runs, baseline))
    freedom = len(now) + len(then) - 2
    squares = sum((value - fmean(each)) ** 2 for each in (now, then) for value in each)
    spread = max(math.sqrt(squares / freedom), SPREAD_FLOOR)
    t = (fmean(now) - fmean(then)) / (spread * math.sqrt(1 / len(now) + 1 / len(then)))
    return student_t_tail(abs(t), freedom)


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one test.

    Attributes
    ----------
    runs
        What is judged: one run, or those that were to confirm it.
    baseline
        The runs it is held against; empty where there are none of this machine.
    keep
        The runs to keep as the baseline from now on; empty where nothing is to be kept.
    """

    runs: tuple[Run, ...]
    baseline: tuple[Run, ...] = ()
    keep: tuple[Run, ...] = ()

    @property
    def confirmed(self) -> bool:
        """Whether several runs stand behind the figures."""
        return len(self.runs) > 1

    @property
    def busy(self) -> bool:
        """Whether the machine was too busy with other things for any of it to count."""
        return any(run.busy for run in self.runs)

    @property
    def keepable(self) -> tuple[Run, ...]:
        """The runs to keep, where none of them is busy: else times of a calmer day would pass for improvements."""
        return self.keep if not any(run.busy for run in self.keep) else self.baseline


def take(
    sample: Callable[[], Run],
    baseline: Sequence[Run],
    tolerances: Mapping[str, float],
    *,
    significance: float = SIGNIFICANCE,
    replace: bool = False,
    fill: bool = False,
    within: Callable[[str, float], bool] = lambda name, value_s: True,
) -> Timing:
    """Measure a test as often as it takes to judge it, and to renew its baseline where that is asked for.

    Parameters
    ----------
    sample
        Measures the test in a fresh process.
    baseline
        Earlier runs on this machine.
    tolerances
        ``wall_s``, ``cpu_s`` or both -> share by which it may stray.
    significance
        Largest p-value of a change that replaces a baseline.
    replace
        Whether a baseline that does not hold any more is replaced.
    fill
        Whether a missing baseline is taken.
    within
        Whether a time is within its limit: one that is not has to be confirmed as well.
    """
    runs: tuple[Run, ...] = (sample(),)
    baseline = tuple(baseline)
    suspicious = not all(within(name, measured_s(name, runs)[0]) for name in tolerances)
    if suspicious:
        runs = _calmest(sample, CONFIRMATIONS)
    if not baseline:
        taken = _calmest(sample, BASELINE_RUNS, runs) if fill or replace else ()
        return Timing(runs, keep=taken)
    if not suspicious and _strays(runs, baseline, {name: share * SUSPICIOUS for name, share in tolerances.items()}):
        runs = _calmest(sample, CONFIRMATIONS)
    if len(runs) > 1 and not any(run.busy for run in runs) and _unclear(runs, baseline, tolerances, significance):
        runs = _calmest(sample, BASELINE_RUNS, runs)
    different = {name: share for name, share in tolerances.items() if p_value(name, runs, baseline) <= significance}
    timing = Timing(runs, baseline, baseline)
    if replace and timing.confirmed and not timing.busy and _strays(runs, baseline, different):
        return replaced(timing, keep=_calmest(sample, BASELINE_RUNS))
    return timing


def _calmest(sample: Callable[[], Run], count: int, taken: Sequence[Run] = ()) -> tuple[Run, ...]:
    """Take runs until so many were not busy, or patience is at its end; return those that queued least."""
    runs = list(taken)
    while sum(not run.busy for run in runs) < count and len(runs) < count * PATIENCE:
        runs.append(sample())
    return tuple(sorted(runs, key=lambda run: run.share)[:count])


def _unclear(
    runs: Sequence[Run], baseline: Sequence[Run], tolerances: Mapping[str, float], significance: float
) -> bool:
    """Whether more runs may tell otherwise: a time is near to its tolerance, on either side, or may be chance."""

    def clear(name: str, share: float) -> bool:
        if not _strays(runs, baseline, {name: share * SUSPICIOUS}):
            return True
        return _strays(runs, baseline, {name: share * CLEAR}) and p_value(name, runs, baseline) <= significance

    return not all(clear(name, share) for name, share in tolerances.items())


def _strays(runs: Sequence[Run], baseline: Sequence[Run], tolerances: Mapping[str, float]) -> bool:
    for name, share in tolerances.items():
        value_s, calibration_s = measured_s(name, runs)
        expected = expected_s(name, baseline, calibration_s)
        if abs(value_s - expected) > max(share * expected, FLOOR_S):
            return True
    return False
