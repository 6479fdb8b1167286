"""The files in baselines/: stable, atomic, shared, and never overwritten when they cannot be understood."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinytroupe import baseline
from pytest_tinytroupe.baseline import BaselineError, Baselines, Entry, dump, entry_of, environment_key, load
from pytest_tinytroupe.records import Metric
from pytest_tinytroupe.verdict import judge

HERE = environment_key()


def entry(test="test_a", heap=1.0, environment=HERE, **exact):
    return Entry("tests/test_x.py", test, environment, exact or {"llm_calls": 3}, {"heap_mb": heap})


def test_update_then_read(tmp_path):
    path = tmp_path / "tests" / "test_x.json"
    assert Baselines(tmp_path).update([entry(llm_calls=3, time_s=1.5)]) == [path]
    assert Baselines(tmp_path).stored("tests/test_x.py", "test_a") == {"llm_calls": 3, "time_s": 1.5, "heap_mb": 1.0}
    assert Baselines(tmp_path).stored("tests/test_x.py", "test_b") == {}
    assert Baselines(tmp_path).stored("tests/other.py", "test_a") == {}
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert json.loads(text) == {
        "schema": 1,
        "tests": {"test_a": {"exact": {"llm_calls": 3, "time_s": 1.5}, "heap": {HERE: {"heap_mb": 1.0}}}},
    }
    assert os.listdir(path.parent) == ["test_x.json"]  # no temporary file stays


def test_an_update_keeps_other_tests_and_environments(tmp_path):
    Baselines(tmp_path).update([entry("test_a"), entry("test_b"), entry("test_a", 7.0, "pypy-3.10-darwin-arm64")])
    Baselines(tmp_path).update([entry("test_a", 2.0, llm_calls=9)])
    tests = load(tmp_path / "tests" / "test_x.json")["tests"]
    assert tests["test_b"]["exact"] == {"llm_calls": 3}
    assert tests["test_a"] == {
        "exact": {"llm_calls": 9},
        "heap": {HERE: {"heap_mb": 2.0}, "pypy-3.10-darwin-arm64": {"heap_mb": 7.0}},
    }


def test_a_metric_that_is_gone_leaves_the_baseline(tmp_path):
    Baselines(tmp_path).update([entry(llm_calls=1, tokens=2)])
    Baselines(tmp_path).update([entry(llm_calls=1)])
    assert "tokens" not in Baselines(tmp_path).stored("tests/test_x.py", "test_a")


@pytest.mark.parametrize(("heap", "changes"), [(10.19, False), (10.21, True), (9.81, False), (9.79, True)])
def test_a_heap_figure_that_still_holds_is_kept(tmp_path, heap, changes):
    Baselines(tmp_path).update([entry(heap=10.0)])
    assert bool(Baselines(tmp_path).update([entry(heap=heap)])) is changes


@given(
    names=st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.floats(0, 9), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_the_same_figures_give_the_same_bytes(names, order):
    shuffled = list(names.items())
    order.shuffle(shuffled)
    one = {"schema": 1, "tests": {"t": {"exact": names}}}
    two = {"tests": {"t": {"exact": dict(shuffled)}}, "schema": 1}
    assert dump(one) == dump(two)


def test_entry_of_keeps_only_what_means_the_same_tomorrow():
    metrics = [
        Metric("llm_calls", 3),
        Metric("time_s", 0.5, "s", tier="wall"),
        Metric("heap_mb", 1.5, "MB", tier="heap"),
        Metric("peak_memory_mb", 90.0, "MB", tier="process"),
        Metric("tokens", None),
    ]
    kept = entry_of("a.py", "t", [judge(metric) for metric in metrics])
    assert (kept.exact, kept.heap) == ({"llm_calls": 3}, {"heap_mb": 1.5})
    assert Entry.from_json(json.loads(json.dumps(kept.to_json()))) == kept


BAD = {
    "empty": b"",
    "not json": b"{'schema': 1}",
    "cut short": b'{"schema": 1, "tests": {',
    "merge conflict": b'<<<<<<< HEAD\n{"schema": 1, "tests": {}}\n=======\n',
    "not utf-8": b"\xff\xfe",
    "a list": b"[]",
    "no schema": b'{"tests": {}}',
    "schema true": b'{"schema": true, "tests": {}}',
    "schema 0": b'{"schema": 0, "tests": {}}',
    "no tests": b'{"schema": 1}',
    "tests a list": b'{"schema": 1, "tests": []}',
    "entry a number": b'{"schema": 1, "tests": {"t": 1}}',
    "figure a text": b'{"schema": 1, "tests": {"t": {"exact": {"m": "1"}}}}',
    "figure true": b'{"schema": 1, "tests": {"t": {"exact": {"m": true}}}}',
    "figure NaN": b'{"schema": 1, "tests": {"t": {"exact": {"m": NaN}}}}',
    "figure infinite": b'{"schema": 1, "tests": {"t": {"exact": {"m": 1e999}}}}',
    "heap without environment": b'{"schema": 1, "tests": {"t": {"heap": {"heap_mb": 1.0}}}}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_file_that_makes_no_sense_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "tests" / "test_x.json"
    path.parent.mkdir()
    path.write_bytes(content)
    baselines = Baselines(tmp_path)
    for _ in range(2):  # also from the cache
        with pytest.raises(BaselineError, match=r"test_x\.json.*version control"):
            baselines.stored("tests/test_x.py", "test_a")
    with pytest.raises(BaselineError):
        baselines.update([entry()])
    assert path.read_bytes() == content


def test_a_newer_schema_asks_for_an_upgrade(tmp_path):
    path = tmp_path / "test_x.json"
    path.write_text('{"schema": 2, "tests": []}', encoding="utf-8")
    with pytest.raises(BaselineError, match=r"schema 2 is newer than 1; upgrade"):
        load(path)


def test_a_directory_in_place_of_the_file(tmp_path):
    (tmp_path / "test_x.json").mkdir()
    with pytest.raises(BaselineError, match="cannot be read"):
        load(tmp_path / "test_x.json")


def test_a_read_only_file_is_left_alone(tmp_path):
    Baselines(tmp_path).update([entry(llm_calls=1)])
    path = tmp_path / "tests" / "test_x.json"
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(BaselineError, match=r"cannot be written \(Permission denied\)"):
        Baselines(tmp_path).update([entry(llm_calls=2)])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["test_x.json"]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    Baselines(tmp_path).update([entry(llm_calls=1)])
    path = tmp_path / "tests" / "test_x.json"
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(baseline.os, "replace", full)
    with pytest.raises(BaselineError, match="No space left"):
        Baselines(tmp_path).update([entry(llm_calls=2)])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["test_x.json"]
