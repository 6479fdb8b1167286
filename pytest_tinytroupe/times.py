"""The times of one test: asks for runs in fresh processes, and settles what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_tinytroupe import fresh
from pytest_tinytroupe.environment import machine_key
from pytest_tinytroupe.metrics import TIMED
from pytest_tinytroupe.records import Metric, Verdict
from pytest_tinytroupe.timing import SIGNIFICANCE, Run, Timing, expected_s, measured_s, p_value, run_of, take, tolerance
from pytest_tinytroupe.verdict import breaks

if TYPE_CHECKING:
    import pytest

    from pytest_tinytroupe.gate import Gate
    from pytest_tinytroupe.marker import PerfMarker

TOO_BUSY = "beyond its tolerance, but not judged: others had the cores"
"""How the note of a time begins that is not judged because the machine was too busy."""

NOT_KEPT = "no baseline was taken: others had the cores"
"""The remark on times whose runs were not fit to be kept."""


def take_times(
    gate: Gate, item: pytest.Item, marker: PerfMarker, stored: Mapping[str, Sequence[Run]]
) -> tuple[Timing, dict[str, str]]:
    """Measure a test in fresh processes, each alone on the machine as far as it is up to us.

    Parameters
    ----------
    gate, item, marker
        The run, the test, and its marker.
    stored
        Machine -> runs of the baseline.

    Returns
    -------
    Timing, dict of str to str
        The times, and remarks on them by metric.

    Raises
    ------
    FreshError
        A process could not measure it.
    LockError
        The machine was never free.
    """

    def sample() -> Run:
        with gate.lock.alone():
            return _sample(gate, item)

    limits = marker.limits()
    update = gate.settings.update if marker.baseline else ""
    timing = take(
        sample,
        stored.get(machine_key(), ()),
        tolerances(marker, stored.get(machine_key(), ())),
        significance=SIGNIFICANCE / max(gate.family, 1),
        fill=bool(update),
        replace=update == "all",
        within=lambda name, value_s: not any(breaks(value_s, limit) for limit in limits.get(name, ())),
    )
    if timing.keep != timing.keepable:
        return timing, dict.fromkeys(marker.timed, NOT_KEPT)
    return timing, {} if timing.baseline or not marker.baseline else _elsewhere(marker.timed, timing, stored)


def tolerances(marker: PerfMarker, baseline: Sequence[Run]) -> dict[str, float]:
    """Return by which share each time of a test may stray from its baseline: what the marker says goes first."""
    return {name: marker.tolerance.get(name, tolerance(name, baseline)) for name in marker.timed}


def metrics_of(names: Sequence[str], timing: Timing) -> tuple[list[Metric], dict[str, float]]:
    """Return the measured times, and what the baseline's runs would take today, by name."""
    metrics, expected = [], {}
    for name in names:
        value_s, calibration_s = measured_s(name, timing.runs)
        metrics.append(Metric(name, round(value_s, 7), "s", "wall", steady=True))
        if timing.baseline:
            expected[name] = round(expected_s(name, timing.baseline, calibration_s), 7)
    return metrics, expected


def settled(verdict: Verdict, timing: Timing, family: int) -> Verdict:
    """Return the verdict on a time with its p-value: what chance explains well enough neither fails nor is announced.

    Alone it has to be significant among all of its session (Bonferroni); when the session ends, the gate also fails
    those that are significant beside others (Holm).
    """
    name = verdict.metric.name
    if name not in TIMED or verdict.status not in ("regressed", "improved") or not timing.confirmed:
        return verdict
    if timing.busy:
        return replace(
            verdict,
            status="advisory",
            note=f"{TOO_BUSY} ({max(run.share for run in timing.runs):.0%} of the time it wanted one)",
        )
    p = p_value(name, timing.runs, timing.baseline)
    told = f"confirmed by {len(timing.runs)} fresh processes (p = {p:.2g}; times judged in this session: {family})"
    if p <= SIGNIFICANCE / max(family, 1):
        return replace(verdict, p_value=p, note=told)
    return replace(verdict, status="advisory", p_value=p, note=f"beyond its tolerance, yet it may be chance: {told}")


def _sample(gate: Gate, item: pytest.Item) -> Run:
    rounds = fresh.figures(item, "times", time_limit_s=gate.settings.time_limit_s, family=gate.family)
    return run_of([Run(*row) for row in rounds])


def _elsewhere(names: Sequence[str], timing: Timing, stored: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Say that there is nothing of this machine to hold it against, and what another one suggests."""
    remarks = {}
    for name in names:
        text = f"no baseline of this machine ({machine_key()})"
        for machine, runs in list(stored.items())[:1]:
            value_s, calibration_s = measured_s(name, timing.runs)
            change = value_s / max(expected_s(name, runs, calibration_s), 1e-9) - 1
            text += f"; calibrated against another one ({machine}) it changed by {change:+.0%}, which proves nothing"
        remarks[name] = text
    return remarks
