"""Metric × limit × baseline -> verdict, at every edge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinytroupe.records import FAILING, Metric
from pytest_tinytroupe.verdict import HEAP_FLOOR_MB, judge, judge_all, tolerance_of, worst_first

CALLS = Metric("llm_calls", 10)
SPEEDUP = Metric("speedup", 3.0, "x", better="higher")


@pytest.mark.parametrize(
    ("metric", "limit", "status"),
    [
        (CALLS, ("max", 10), "ok"),
        (CALLS, ("max", 9.999), "over limit"),
        (SPEEDUP, ("min", 3.0), "ok"),
        (SPEEDUP, ("min", 3.0000001), "over limit"),
        (Metric("llm_calls", 0), ("max", 0), "ok"),
    ],
)
def test_a_value_equal_to_its_limit_is_within(metric, limit, status):
    assert judge(metric, limit, metric.value).status == status


@pytest.mark.parametrize(
    ("metric", "baseline", "status"),
    [
        (CALLS, 10, "ok"),
        (CALLS, 9, "regressed"),
        (CALLS, 11, "improved"),
        (SPEEDUP, 3.0, "ok"),
        (SPEEDUP, 3.000001, "regressed"),
        (SPEEDUP, 2.9, "improved"),
        (CALLS, None, "new"),
        (CALLS, 0, "regressed"),
    ],
)
def test_exact_metrics_have_no_tolerance(metric, baseline, status):
    assert judge(metric, None, baseline).status == status


@pytest.mark.parametrize(
    ("value", "baseline", "status"),
    [
        (102.0, 100.0, "ok"),
        (102.01, 100.0, "regressed"),
        (98.0, 100.0, "ok"),
        (97.99, 100.0, "improved"),
        (1.0625, 1.0, "ok"),  # the floor of 64 KiB outweighs 2 %
        (1.0626, 1.0, "regressed"),
        (0.05, 0.0, "ok"),
    ],
)
def test_heap_has_two_percent_and_a_floor(value, baseline, status):
    assert judge(Metric("heap_mb", value, "MB", tier="heap"), None, baseline).status == status


def test_a_broken_limit_outweighs_a_regression():
    verdict = judge(CALLS, ("max", 8), 9)
    assert verdict.status == "over limit"
    assert (verdict.baseline, verdict.change) == (9, pytest.approx(1 / 9))


@pytest.mark.parametrize("tier", ["process", "wall"])
def test_what_depends_on_the_machine_is_held_to_limits_only(tier):
    metric = Metric("time_s", 2.0, "s", tier=tier)
    assert judge(metric, None, 1.0).status == "advisory"
    assert judge(metric, None, 1.0).baseline is None
    assert judge(metric, ("max", 2.0)).status == "ok"
    assert judge(metric, ("max", 1.9)).status == "over limit"


def test_a_test_without_baseline_has_nothing_new():
    assert judge(CALLS, keeps_baseline=False).status == "ok"


def test_change_is_relative_and_absent_where_the_baseline_is_zero():
    assert judge(CALLS, None, 8).change == 0.25
    assert judge(CALLS, None, 0).change is None
    assert judge(CALLS, None, None).change is None


def test_a_limit_that_nothing_measured_fails_and_says_what_to_do():
    (verdict,) = judge_all([], {"llm_calls": [("max", 3.0)]}, {})
    assert verdict.status == "unmeasured"
    assert verdict.failed
    assert "mock_llm" in verdict.note


def test_a_baseline_that_nothing_measures_any_more_fails():
    verdicts = judge_all([Metric("heap_mb", 1.0, "MB", tier="heap")], {}, {"llm_calls": 3, "heap_mb": 1.0})
    assert [(v.metric.name, v.status) for v in verdicts] == [("llm_calls", "unmeasured"), ("heap_mb", "ok")]
    assert "--perf-update" in verdicts[0].note


def test_verdicts_come_in_a_fixed_order_and_unknown_metrics_last():
    metrics = [Metric("zeta", 1), Metric("heap_mb", 1.0, tier="heap"), Metric("alpha", 1), SPEEDUP]
    assert [v.metric.name for v in judge_all(metrics, {}, {})] == ["speedup", "heap_mb", "alpha", "zeta"]
    assert [v.metric.name for v in judge_all(reversed(metrics), {}, {})] == ["speedup", "heap_mb", "alpha", "zeta"]


def test_failing_ones_can_be_put_first():
    verdicts = judge_all([CALLS, Metric("tokens", 5)], {"tokens": [("max", 1.0)]}, {})
    assert [v.metric.name for v in worst_first(verdicts)] == ["tokens", "llm_calls"]


FINITE = st.floats(min_value=0, max_value=1e12)
NAMES = st.sampled_from(["m", "heap_mb"])


def test_what_a_test_records_itself_has_no_floor():
    assert judge(Metric("g", 0.05, "GB", tier="heap"), None, 0.01).status == "regressed"
    assert judge(Metric("g", 0.0101, "GB", tier="heap"), None, 0.01).status == "ok"
    assert judge(Metric("heap_mb", 0.05, "MB", tier="heap"), None, 0.01).status == "ok"


@given(FINITE, FINITE, st.sampled_from(["lower", "higher"]), st.sampled_from(["exact", "heap"]), NAMES)
def test_a_value_passes_exactly_when_it_is_not_worse_than_the_tolerance(value, baseline, better, tier, name):
    verdict = judge(Metric(name, value, tier=tier, better=better), None, baseline)
    worse = value - baseline if better == "lower" else baseline - value
    assert verdict.failed == (worse > tolerance_of(name, tier, baseline))
    assert (verdict.status in FAILING) == verdict.failed


@given(baseline=FINITE)
def test_the_same_value_never_fails(baseline):
    for tier in ("exact", "heap"):
        assert judge(Metric("m", baseline, tier=tier), None, baseline).status == "ok"


def test_the_floor_is_64_kib():
    assert HEAP_FLOOR_MB * 2**20 == 64 * 1024


@pytest.mark.parametrize(("must_have", "status"), [(False, "new"), (True, "no baseline")])
def test_what_has_no_baseline_is_new_or_fails(must_have, status):
    verdict = judge(Metric("llm_calls", 3), must_have=must_have)
    assert (verdict.status, verdict.failed) == (status, must_have)
