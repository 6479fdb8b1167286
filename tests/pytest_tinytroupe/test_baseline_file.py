"""The files in baselines/: stable, atomic, shared, and never overwritten when they cannot be understood."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinytroupe import baseline
from pytest_tinytroupe.baseline import Baselines, Entry, entry_of
from pytest_tinytroupe.baseline_file import BaselineError, dump, load
from pytest_tinytroupe.environment import environment_key, machine_key
from pytest_tinytroupe.records import Metric
from pytest_tinytroupe.timing import Run
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
        "schema": 2,
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


def test_heap_figures_that_are_gone_leave_the_baseline_of_their_environment(tmp_path):
    Baselines(tmp_path).update([entry(), entry(environment="pypy-3.10-darwin-arm64")])
    gone = Entry("tests/test_x.py", "test_a", HERE, {"llm_calls": 3})
    Baselines(tmp_path).update([gone])
    assert Baselines(tmp_path).other_environments("tests/test_x.py", "test_a") == ["pypy-3.10-darwin-arm64"]
    Baselines(tmp_path).update([Entry("tests/test_x.py", "test_a", "pypy-3.10-darwin-arm64", {"llm_calls": 3})])
    assert load(tmp_path / "tests" / "test_x.json")["tests"]["test_a"] == {"exact": {"llm_calls": 3}}


def test_an_interpreter_of_another_build_has_figures_of_its_own(monkeypatch):
    usual = environment_key()
    monkeypatch.setattr("sys.abiflags", "t", raising=False)
    assert environment_key() == usual.replace(f"-3.{sys.version_info.minor}", f"-3.{sys.version_info.minor}t")


@pytest.mark.skipif(os.name == "nt", reason="links take a privilege there")
def test_a_link_goes_on_to_lead_where_it_does(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.json").symlink_to("../shared.json")
    Baselines(tmp_path).update([entry()])
    assert (tmp_path / "tests" / "test_x.json").is_symlink()
    assert load(tmp_path / "shared.json")["tests"]["test_a"]["exact"] == {"llm_calls": 3}


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


FILES = st.lists(
    st.sampled_from(["..", "tests", "test_a", "test_a.py", "a.txt", "a.txt.py", "a.other", "a.other.py", "b.json"]),
    min_size=1,
    max_size=4,
).filter(lambda parts: parts[-1] != "..")


@given(FILES)
def test_every_test_file_has_a_baseline_file_of_its_own_that_leads_back_to_it(parts):
    baselines, file = Baselines(Path("/baselines")), "/".join(parts)
    assert baselines.file_of(baselines.path_of(file)) == file


def test_a_baseline_file_is_called_as_its_test_file():
    found = [Baselines(Path("b")).path_of(file).as_posix() for file in ("t/test_a.py", "../test_a.py", "docs/a.txt")]
    assert found == ["b/t/test_a.json", "b/__up__/test_a.json", "b/docs/a.txt.other.json"]


def test_entry_of_keeps_only_what_means_the_same_tomorrow():
    metrics = [
        Metric("llm_calls", 3),
        Metric("time_s", 0.5, "s", tier="wall"),
        Metric("heap_mb", 1.5, "MB", tier="heap"),
        Metric("peak_memory_mb", 90.0, "MB", tier="process"),
        Metric("tokens", None),
    ]
    kept = entry_of("a.py", "t", [judge(metric) for metric in metrics])
    assert (kept.exact, kept.heap, kept.process, kept.wall) == ({"llm_calls": 3}, {"heap_mb": 1.5}, {}, ())
    assert kept.machine == ""
    assert Entry.from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_entry_of_keeps_what_fresh_processes_measured():
    metrics = [
        Metric("cpu_s", 0.5, "s", tier="wall", steady=True),
        Metric("peak_memory_mb", 90.0, "MB", tier="process", steady=True),
    ]
    runs = [Run(0.5, 0.25, 0.015)] * 9
    kept = entry_of("a.py", "t", [judge(metric) for metric in metrics], {}, {"llm_calls": {"1": 3}}, runs)
    assert (kept.exact, kept.process, kept.steps) == ({}, {"peak_memory_mb": 90.0}, {"llm_calls": {"1": 3}})
    assert (kept.machine, kept.wall) == (machine_key(), ("0.5 0.25 0.015",) * 9)
    assert Entry.from_json(json.loads(json.dumps(kept.to_json()))) == kept


BAD = {
    "empty": b"",
    "not json": b"{'schema': 1}",
    "cut short": b'{"schema": 1, "tests": {',
    "not utf-8": b"\xff\xfe",
    "a test twice": b'{"schema": 2, "tests": {"t": {}, "t": {}}}',
    "a figure twice": b'{"schema": 2, "tests": {"t": {"exact": {"m": 1, "n": 2, "m": 3}}}}',
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
    "schema -1": b'{"schema": -1, "tests": {}}',
    "schema 1.5": b'{"schema": 1.5, "tests": {}}',
    "unknown part": b'{"schema": 2, "tests": {"t": {"exakt": {}}}}',
    "wall no list": b'{"schema": 2, "tests": {"t": {"wall": {"m": "1 1 1"}}}}',
    "wall empty": b'{"schema": 2, "tests": {"t": {"wall": {"m": []}}}}',
    "wall numbers": b'{"schema": 2, "tests": {"t": {"wall": {"m": [1, 1, 1]}}}}',
    "wall two numbers": b'{"schema": 2, "tests": {"t": {"wall": {"m": ["1 1"]}}}}',
    "wall zero": b'{"schema": 2, "tests": {"t": {"wall": {"m": ["0 0 1"]}}}}',
    "process without environment": b'{"schema": 2, "tests": {"t": {"process": {"peak_memory_mb": 1.0}}}}',
    "steps no figures": b'{"schema": 2, "tests": {"t": {"steps": {"llm_calls": {"1": "x"}}}}}',
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


OLD = {
    "schema": 1,
    "tests": {
        "test_a": {
            "exact": {"llm_calls": 3},
            "heap": {HERE: {"heap_mb": 1.0}},
            "people": {"llm_calls": {"Lisa": 3}},
        },
        "test_b": {"exact": {"llm_calls": 9}},
    },
}


def test_a_file_of_the_first_schema_is_read_and_an_update_writes_it_anew(tmp_path):
    path = tmp_path / "tests" / "test_x.json"
    path.parent.mkdir()
    path.write_text(dump(OLD), encoding="utf-8")
    assert Baselines(tmp_path).stored("tests/test_x.py", "test_a") == {"llm_calls": 3, "heap_mb": 1.0}
    assert Baselines(tmp_path).causes("tests/test_x.py", "test_a") == ({"llm_calls": {"Lisa": 3}}, {})
    assert Baselines(tmp_path).runs("tests/test_x.py", "test_a") == {}
    assert path.read_text(encoding="utf-8") == dump(OLD)  # reading changes nothing

    people = {"llm_calls": {"Lisa": 3}}
    same = Entry("tests/test_x.py", "test_a", HERE, {"llm_calls": 3}, {"heap_mb": 1.0}, people)
    assert Baselines(tmp_path).update([same]) == [path]
    assert json.loads(path.read_text(encoding="utf-8")) == {**OLD, "schema": 2}
    assert Baselines(tmp_path).update([same]) == []


def timed(*lines, machine="m", process=None):
    return Entry("tests/test_x.py", "test_a", HERE, process=process or {}, machine=machine, wall=lines)


def test_machines_and_environments_share_one_file(tmp_path):
    Baselines(tmp_path).update(
        [timed("1 1 1", "2 2 2"), timed("3 3 3", machine="other", process={"peak_memory_mb": 9.0})]
    )
    assert Baselines(tmp_path).runs("tests/test_x.py", "test_a") == {
        "m": (Run(1, 1, 1), Run(2, 2, 2)),
        "other": (Run(3, 3, 3),),
    }
    assert Baselines(tmp_path).stored("tests/test_x.py", "test_a") == {"peak_memory_mb": 9.0}
    Baselines(tmp_path).update([timed("4 4 4")])
    assert sorted(Baselines(tmp_path).runs("tests/test_x.py", "test_a")) == ["m", "other"]
    # Too busy here for times that are fit to be kept: those of before stay, here and elsewhere.
    Baselines(tmp_path).update([timed(process={"peak_memory_mb": 9.0})])
    assert sorted(Baselines(tmp_path).runs("tests/test_x.py", "test_a")) == ["m", "other"]
    # No longer isolated, no longer timed: nowhere.
    Baselines(tmp_path).update([timed(machine="")])
    assert load(tmp_path / "tests" / "test_x.json")["tests"]["test_a"] == {"exact": {}}


@pytest.mark.parametrize(("peak", "changes"), [(102.9, False), (103.1, True), (97.1, False), (96.9, True)])
def test_a_peak_that_still_holds_is_kept(tmp_path, peak, changes):
    Baselines(tmp_path).update([timed(process={"peak_memory_mb": 100.0})])
    assert bool(Baselines(tmp_path).update([timed(process={"peak_memory_mb": peak})])) is changes


def test_only_new_figures_fill_what_is_missing_at_every_depth(tmp_path):
    Baselines(tmp_path).update([entry(heap=1.0, llm_calls=3)])
    more = Entry("tests/test_x.py", "test_a", HERE, {"llm_calls": 9, "tokens": 5}, {"heap_mb": 7.0, "more_mb": 2.0})
    Baselines(tmp_path).update([more, timed("1 1 1")], only_new=True)
    assert load(tmp_path / "tests" / "test_x.json")["tests"]["test_a"] == {
        "exact": {"llm_calls": 3, "tokens": 5},
        "heap": {HERE: {"heap_mb": 1.0, "more_mb": 2.0}},
        "wall": {"m": ["1 1 1"]},
    }
    Baselines(tmp_path).update([timed("2 2 2")], only_new=True)
    assert Baselines(tmp_path).runs("tests/test_x.py", "test_a") == {"m": (Run(1, 1, 1),)}


def test_a_merge_conflict_is_called_by_its_name_and_left_as_it_is(tmp_path):
    Baselines(tmp_path).update([entry(llm_calls=3)])
    path = tmp_path / "tests" / "test_x.json"
    sides = '<<<<<<< HEAD\n"llm_calls": 3\n=======\n"llm_calls": 4\n>>>>>>> other'
    conflict = path.read_text().replace('"llm_calls": 3', sides)
    path.write_text(conflict)
    acts = (
        lambda: Baselines(tmp_path).stored("tests/test_x.py", "test_a"),
        lambda: Baselines(tmp_path).update([entry(llm_calls=5)]),
        lambda: Baselines(tmp_path).prune({"tests/test_x.py": ["test_a"]}),
    )
    for act in acts:
        with pytest.raises(
            BaselineError, match=r"test_x\.json: in the middle of a merge; take either side .* then run"
        ):
            act()
    assert path.read_text() == conflict
    assert Baselines(tmp_path).files() == {}  # and so never counts as unused


def test_where_both_sides_of_a_merge_were_kept_it_says_of_what(tmp_path):
    Baselines(tmp_path).update([entry(llm_calls=3)])
    path = tmp_path / "tests" / "test_x.json"
    path.write_text(path.read_text().replace('"llm_calls": 3', '"llm_calls": 3,\n"llm_calls": 4'))
    with pytest.raises(BaselineError, match="'llm_calls' stands there twice: were both sides of a merge kept"):
        Baselines(tmp_path).stored("tests/test_x.py", "test_a")


def test_a_newer_schema_asks_for_an_upgrade(tmp_path):
    path = tmp_path / "test_x.json"
    path.write_text('{"schema": 3, "tests": []}', encoding="utf-8")
    with pytest.raises(BaselineError, match=r"schema 3 is newer than 2; upgrade"):
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
