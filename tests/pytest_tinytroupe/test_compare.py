"""Two results against each other: what is worse, what is gone, and what a marker allows."""

from __future__ import annotations

import pytest

from pytest_tinytroupe.compare import differences
from pytest_tinytroupe.metrics import metric
from pytest_tinytroupe.records import Metric, SessionReport, TestRecord
from pytest_tinytroupe.verdict import judge


def result(*records):
    return SessionReport("t", "", tuple(records))


def record(outcome="passed", value=None, *, baseline=None, share=None, name="queries", nodeid="t.py::t"):
    figure = metric(name, value) if name == "heap_mb" else Metric(name, value)
    verdicts = (judge(figure, None, baseline, share=share),) if value is not None else ()
    return TestRecord(nodeid, outcome, 0.0, verdicts)


def compared(before, after, **options):
    (found,) = differences(result(*before), result(*after), **options) or [None]
    return found


LOST = {
    "gone": ([record("passed", 1)], [], True, False),
    "skipped before, gone now": ([record("skipped")], [], False, False),
    "skipped": ([record("passed", 1)], [record("skipped")], True, False),
    "xfailed": ([record("passed", 1)], [record("xfailed")], True, True),
    "failed": ([record("passed", 1)], [record("failed")], True, True),
    "crashed": ([record("passed", 1)], [record("error")], True, True),
    "passes again": ([record("failed")], [record("passed", 1)], False, False),
    "fails as before": ([record("failed")], [record("error")], False, False),
    "new": ([], [record("passed", 1)], False, False),
    "new and broken": ([], [record("error")], True, True),
    "passed without figures": ([record("passed", 1)], [record("passed")], True, True),
}


@pytest.mark.parametrize(("before", "after", "worse", "allowed"), LOST.values(), ids=LOST.keys())
def test_what_is_not_measured_any_more(before, after, worse, allowed):
    found = compared(before, after)
    assert found.failed is worse
    assert found.note or found.verdicts
    assert compared(before, after, allow_missing=True).failed is allowed


@pytest.mark.parametrize(("value", "worse"), [(109, False), (110, False), (111, True)])
@pytest.mark.parametrize("kept", ["both", "before", "after"])
def test_the_tolerance_of_the_marker_holds(value, worse, kept):
    # The baseline is another number than either figure: what the marker allows is a share.
    held = {"baseline": 50, "share": 0.1}
    before = record("passed", 100, **(held if kept != "after" else {}))
    after = record("passed", value, **(held if kept != "before" else {}))
    found = compared([before], [after])
    assert (found is not None and found.failed) is worse


def test_a_stricter_tolerance_holds_too():
    before, after = (record("passed", mb, name="heap_mb", baseline=100.0, share=0.005) for mb in (100.0, 101.0))
    assert compared([before], [after]).failed  # 2 % is what the tier allows
    usual = [record("passed", mb, name="heap_mb", baseline=100.0) for mb in (100.0, 101.0)]
    assert compared(usual[:1], usual[1:]) is None


def test_the_floor_of_a_small_baseline_is_no_tolerance_of_a_large_figure():
    before, after = (record("passed", mb, name="heap_mb", baseline=0.01) for mb in (10.0, 15.0))
    assert compared([before], [after]).failed
