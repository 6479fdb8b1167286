"""Metric × limit × baseline -> verdict. Pure functions: no files, no pytest, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pytest_tinytroupe.metrics import CATALOGUE, kind_of, metric, place_of
from pytest_tinytroupe.records import LimitKind, Metric, Status, Tier, Verdict
from pytest_tinytroupe.timing import FLOOR_S
from pytest_tinytroupe.timing import TOLERANCE as TIME_TOLERANCE

Limit = tuple[LimitKind, float]

HEAP_TOLERANCE = 0.02
"""tracemalloc's peaks repeat to 0.1 % in one process; other tests before this one add to that."""

HEAP_FLOOR_MB = 64 / 1024
"""Below this, caches filled by whoever ran first weigh more than the code under test."""

PROCESS_TOLERANCE = 0.03
"""The memory of a fresh process repeats within 0.7 %; which pages are in at the peak is a matter of chance."""

BASELINE_TIERS: frozenset[Tier] = frozenset({"exact", "heap"})
"""Tiers whose figures mean the same tomorrow; others are kept in baselines where they are `steady`."""

_SHARES: dict[Tier, float] = {"heap": HEAP_TOLERANCE, "process": PROCESS_TOLERANCE, "wall": TIME_TOLERANCE}


def keeps_figure(metric: Metric) -> bool:
    """Whether a metric is held against a baseline."""
    return (metric.tier in BASELINE_TIERS or metric.steady) and kind_of(metric.name).kept


def tolerance_of(name: str, tier: Tier, baseline: float, share: float | None = None) -> float:
    """Return how far a value of this tier may stray from `baseline`, in the metric's unit.

    Parameters
    ----------
    name, tier
        Of the metric. What a test records by itself has units of its own, and no floor.
    baseline
        The stored value.
    share
        What the marker allows, as a share of `baseline`; None for what the tier allows.
    """
    floor = {"heap": HEAP_FLOOR_MB, "wall": FLOOR_S}.get(tier, 0.0) if name in CATALOGUE else 0.0
    if share is None:
        share = _SHARES.get(tier, 0.0)
    return max(share * abs(baseline), floor)


def judge(
    metric: Metric,
    limit: Limit | None = None,
    baseline: float | None = None,
    *,
    keeps_baseline: bool = True,
    share: float | None = None,
    must_have: bool = False,
) -> Verdict:
    """Hold one metric against its limit and its baseline.

    Parameters
    ----------
    metric
        What was measured; its value may be None.
    limit
        Direction and threshold; a value equal to it is within.
    baseline
        The stored value, None where there is none.
    keeps_baseline
        Whether the test has a baseline at all; if not, a missing one is nothing new.
    share
        How far it may stray from its baseline, as a share of that; None for what its tier allows.
    must_have
        Whether a missing baseline fails, as it does in continuous integration.
    """
    kind: LimitKind
    kind, threshold = limit if limit is not None else ("", None)
    value = metric.value
    if not keeps_figure(metric):
        baseline, keeps_baseline = None, False
    if value is None:
        note = kind_of(metric.name).why
        if limit is None and baseline is not None:
            note = f"in the baseline, but not measured any more: {note}; or accept it with --perf-update"
        return Verdict(metric, "unmeasured", threshold, kind, baseline, note=note)

    tolerance = tolerance_of(metric.name, metric.tier, value if baseline is None else baseline, share)
    change = (value - baseline) / baseline if baseline else None
    # Positive is worse, whichever direction the metric prefers.
    worse = 0.0 if baseline is None else (value - baseline) * (1 if metric.better == "lower" else -1)
    status: Status
    if limit is not None and breaks(value, limit):
        status = "over limit"
    elif worse > tolerance:
        status = "regressed"
    elif worse < -tolerance:
        status = "improved"
    elif baseline is None and keeps_baseline:
        status = "no baseline" if must_have else "new"
    elif keeps_figure(metric) or threshold is not None:
        status = "ok"
    else:
        status = "advisory"
    return Verdict(metric, status, threshold, kind, baseline, tolerance, change)


def judge_all(
    metrics: Iterable[Metric],
    limits: Mapping[str, Sequence[Limit]],
    baseline: Mapping[str, float],
    *,
    keeps_baseline: bool = True,
    shares: Mapping[str, float] | None = None,
    must_have: Iterable[Tier] = (),
) -> tuple[Verdict, ...]:
    """Judge every metric that was measured, limited or is in the baseline.

    A limit without a measurement, and a baseline without one, give an ``unmeasured`` verdict: a gate that did not run
    must not look like one that passed. So does a tolerance for a metric that nobody knows.

    Parameters
    ----------
    metrics, limits, baseline, keeps_baseline
        As for `judge`, by the metric's name.
    shares
        Metric name -> tolerance as a share of the baseline.
    must_have
        Tiers in which a missing baseline fails.
    """
    shares, must_have = shares or {}, frozenset(must_have)
    measured = {each.name: each for each in metrics}
    unknown = [name for name in shares if name not in CATALOGUE] if keeps_baseline else []
    names = dict.fromkeys([*measured, *limits, *baseline, *unknown])
    verdicts = []
    for name in sorted(names, key=place_of):
        found, bounds = measured.get(name) or metric(name, None), limits.get(name, ())
        if keeps_baseline and name in baseline and not keeps_figure(found):
            # Measured in a way that says nothing about the baseline, such as real time in place of virtual time: that a
            # limit holds does not make up for it.
            found, bounds = replace(found, value=None, steady=True), ()
        verdict = judge(
            found,
            _telling(found.value, bounds),
            baseline.get(name),
            keeps_baseline=keeps_baseline,
            share=shares.get(name),
            must_have=found.tier in must_have,
        )
        verdicts.append(verdict)
    return tuple(verdicts)


def worst_first(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts with the failing ones first, else in their order."""
    return sorted(verdicts, key=lambda verdict: not verdict.failed)


def breaks(value: float, limit: Limit) -> bool:
    """Whether a value is beyond its limit; one that is equal to it is within."""
    kind, threshold = limit
    return value > threshold if kind == "max" else value < threshold


def _telling(value: float | None, limits: Sequence[Limit]) -> Limit | None:
    """Return the limit to show of two: the broken one, else the first."""
    broken = [limit for limit in limits if value is not None and breaks(value, limit)]
    return next(iter([*broken, *limits]), None)
