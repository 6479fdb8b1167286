"""Records survive the journey from worker to controller."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pytest_tinytroupe.records import Metric, SessionReport, TestRecord, Timeline, Verdict

numbers = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
metrics = st.builds(
    Metric,
    st.text(),
    st.one_of(st.none(), numbers),
    st.text(),
    st.sampled_from(["exact", "heap", "process", "wall"]),
    st.sampled_from(["lower", "higher"]),
)
verdicts = st.builds(
    Verdict,
    metrics,
    st.sampled_from(["ok", "regressed", "new"]),
    st.none() | numbers,
    st.sampled_from(["", "max", "min"]),
    st.none() | numbers,
    numbers,
    st.none() | numbers,
    st.text(),
)
timelines = st.builds(
    Timeline,
    st.text(),
    st.text(),
    st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    st.lists(st.tuples(numbers, st.text()), max_size=3).map(tuple),
)
records = st.builds(
    TestRecord,
    st.text(),
    st.text(),
    numbers,
    st.lists(verdicts, max_size=3).map(tuple),
    st.lists(timelines, max_size=2).map(tuple),
    st.lists(st.text(), max_size=2).map(tuple),
    st.text(),
)


@given(record=records)
def test_a_session_report_survives_json(record):
    report = SessionReport("t", "2026-01-01T00:00:00+00:00", (record,), (("Python", "3"),), "baselines", "pytest")
    assert SessionReport.from_json(json.loads(json.dumps(report.to_json()))) == report
