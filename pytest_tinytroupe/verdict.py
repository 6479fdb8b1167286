"""Metric × limit × baseline -> verdict. Pure functions: no files, no pytest, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pytest_tinytroupe.records import LimitKind, Metric, Tier, Verdict

HEAP_TOLERANCE = 0.02
"""tracemalloc's peaks repeat to 0.1 % in one process; other tests before this one add to that."""

HEAP_FLOOR_MB = 64 / 1024
"""Below this, caches filled by whoever ran first weigh more than the code under test."""

BASELINE_TIERS: frozenset[Tier] = frozenset({"exact", "heap"})
"""Tiers whose figures mean the same tomorrow; only they are kept in baselines."""

TIER_OF: dict[str, Tier] = {"heap_mb": "heap", "peak_memory_mb": "process"}
"""Tier of the metrics that are not exact, needed where one of them was not measured."""

HIGHER_IS_BETTER = frozenset({"speedup", "efficiency"})

ORDER = (
    "speedup",
    "efficiency",
    "time_s",
    "llm_calls",
    "tokens",
    "prompt_tokens",
    "completion_tokens",
    "errors",
    "timeouts",
    "memory_entries",
    "heap_mb",
    "peak_memory_mb",
)

WHY_UNMEASURED = {
    "speedup": "nothing ran on virtual time: run the simulation in a `world` (or make_world) with mock_llm.latency set",
    "efficiency": "no world took a step: run the simulation in a `world` (or make_world)",
    "time_s": "the virtual clock stood still during the call: set mock_llm.latency, or drop the limit",
    "llm_calls": "no model was watched: add the fixture mock_llm to the test",
    "tokens": "no model was watched: add the fixture mock_llm to the test",
}


def tolerance_of(tier: Tier, baseline: float) -> float:
    """Return how far a value of this tier may stray from `baseline`, in the metric's unit."""
    return max(HEAP_TOLERANCE * abs(baseline), HEAP_FLOOR_MB) if tier == "heap" else 0.0


def judge(
    metric: Metric,
    limit: tuple[LimitKind, float] | None = None,
    baseline: float | None = None,
    *,
    keeps_baseline: bool = True,
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
    """
    kind: LimitKind
    kind, threshold = limit if limit is not None else ("", None)
    value = metric.value
    if metric.tier not in BASELINE_TIERS:
        baseline, keeps_baseline = None, False
    if value is None:
        note = WHY_UNMEASURED.get(metric.name, "nothing measured it")
        if limit is None:
            note = f"in the baseline, but not measured any more: {note}; or accept it with --perf-update"
        return Verdict(metric, "unmeasured", threshold, kind, baseline, note=note)

    tolerance = 0.0 if baseline is None else tolerance_of(metric.tier, baseline)
    change = (value - baseline) / baseline if baseline else None
    # Positive is worse, whichever direction the metric prefers.
    worse = 0.0 if baseline is None else (value - baseline) * (1 if metric.better == "lower" else -1)
    over = threshold is not None and (value > threshold if kind == "max" else value < threshold)
    if over:
        status = "over limit"
    elif worse > tolerance:
        status = "regressed"
    elif worse < -tolerance:
        status = "improved"
    elif baseline is None and keeps_baseline:
        status = "new"
    elif metric.tier in BASELINE_TIERS or threshold is not None:
        status = "ok"
    else:
        status = "advisory"
    return Verdict(metric, status, threshold, kind, baseline, tolerance, change)  # type: ignore[arg-type]


def judge_all(
    metrics: Iterable[Metric],
    limits: Mapping[str, tuple[LimitKind, float]],
    baseline: Mapping[str, float],
    *,
    keeps_baseline: bool = True,
) -> tuple[Verdict, ...]:
    """Judge every metric that was measured, limited or is in the baseline.

    A limit without a measurement, and a baseline without one, give an ``unmeasured`` verdict: a gate that did not run
    must not look like one that passed.
    """
    measured = {metric.name: metric for metric in metrics}
    names = dict.fromkeys([*measured, *limits, *baseline])
    return tuple(
        judge(measured.get(name) or _missing(name), limits.get(name), baseline.get(name), keeps_baseline=keeps_baseline)
        for name in sorted(names, key=_place)
    )


def worst_first(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts with the failing ones first, else in their order."""
    return sorted(verdicts, key=lambda verdict: not verdict.failed)


def _missing(name: str) -> Metric:
    better = "higher" if name in HIGHER_IS_BETTER else "lower"
    return Metric(name, None, tier=TIER_OF.get(name, "exact"), better=better)  # type: ignore[arg-type]


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
