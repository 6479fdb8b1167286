"""The figures of past runs: kept in SQLite, looked at with ``history``, never a verdict."""

from __future__ import annotations

import io
import json
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinytroupe import history as kept_history
from pytest_tinytroupe.change_points import MIN_SEGMENT, exact_changes, noisy_changes
from pytest_tinytroupe.commands import main
from pytest_tinytroupe.history import APPLICATION_ID, HistoryError, Series, append, read
from pytest_tinytroupe.records import Metric, SessionReport, TestRecord, Verdict
from pytest_tinytroupe.trends import ASCII_BLOCKS, sparkline, trend_of


@pytest.fixture(autouse=True)
def a_revision(monkeypatch):
    for variable in ("GITHUB_SHA", "CI_COMMIT_SHA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GIT_COMMIT", "c0ffee")


def report(value, metric="llm_calls", tier="exact", test="test_a.py::test_it", day=1):
    verdict = Verdict(Metric(metric, value, tier=tier), "ok")
    return SessionReport("t", f"2026-01-{day:02}T10:00:00+00:00", (TestRecord(test, "passed", 0.1, (verdict,)),))


def history(capsys, *args):
    status = main(["history", *map(str, args)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


# ---------------------------------------------------------------- the file


def test_runs_add_up_in_order_and_figures_that_were_not_measured_leave_none(tmp_path, monkeypatch):
    path = tmp_path / "h.sqlite"
    monkeypatch.setenv("GITHUB_SHA", "0123456789abcdef")
    for day, value in enumerate((50, 50, None, 62), start=1):
        assert append(path, report(value, day=day)) == path
    (series,) = read(path)
    assert (series.test, series.metric, series.where) == ("test_a.py::test_it", "llm_calls", "")
    assert series.values == (50.0, 50.0, 62.0)
    assert series.started[-1].startswith("2026-01-04")
    assert set(series.revisions) == {"0123456789ab"}
    assert read(path, last=1)[0].values == (62.0,)
    assert [each.name for each in tmp_path.iterdir()] == ["h.sqlite"]  # no log is left beside it


def test_memory_belongs_to_a_python_and_times_to_a_machine(tmp_path, monkeypatch):
    path = tmp_path / "h.sqlite"
    for name in ("one", "other"):
        for place in ("environment_key", "machine_key"):
            monkeypatch.setattr(f"pytest_tinytroupe.history.{place}", lambda name=name, place=place: f"{name} {place}")
        for metric, tier in (("heap_mb", "heap"), ("cpu_s", "wall"), ("llm_calls", "exact")):
            append(path, report(1.0, metric, tier))
    found = {(series.metric, series.where): len(series.values) for series in read(path)}
    assert found == {
        ("heap_mb", "one environment_key"): 1,
        ("heap_mb", "other environment_key"): 1,
        ("cpu_s", "one machine_key"): 1,
        ("cpu_s", "other machine_key"): 1,
        ("llm_calls", ""): 2,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no database at all, and long enough to be looked at" * 50, "not a history, or a damaged one"),
        ("CREATE TABLE t (a)", "a SQLite file, but no history"),
        (f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 99", "schema 99 is newer than 1; upgrade"),
    ],
)
def test_a_file_that_is_something_else_is_refused_and_left_as_it_is(tmp_path, content, message, capsys):
    path = tmp_path / "h.sqlite"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        connection = sqlite3.connect(path)
        connection.executescript(content)
        connection.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match=message):
        append(path, report(1))
    assert path.read_bytes() == before
    status, text = history(capsys, path)
    assert status == 2
    assert message in text


def test_the_revision_is_that_of_git_where_no_service_tells_it(tmp_path, monkeypatch):
    for variable in [name for name in os.environ if name.startswith("GIT_")]:  # as set by hooks of git, and GIT_COMMIT
        monkeypatch.delenv(variable)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.chdir(tmp_path)
    append(tmp_path / "none.sqlite", report(1))
    assert read(tmp_path / "none.sqlite")[0].revisions == ("",)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "begin"], check=True)
    append(tmp_path / "some.sqlite", report(1))
    (revision,) = read(tmp_path / "some.sqlite")[0].revisions
    assert subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.startswith(
        revision
    )
    assert len(revision) == 12


def test_what_cannot_be_written_says_so_and_a_missing_history_how_to_begin_one(tmp_path, capsys):
    with pytest.raises(HistoryError, match="cannot be written"):
        append(tmp_path / "nowhere" / "h.sqlite", report(1))
    status, text = history(capsys, tmp_path / "h.sqlite")
    assert status == 2
    assert "no such file; pytest --perf --perf-history" in text
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_breaks_off_leaves_nothing_of_itself(tmp_path):
    path = tmp_path / "h.sqlite"
    append(path, report(1))
    broken = report("no number")
    with pytest.raises(ValueError, match="no number"):
        append(path, broken)
    assert read(path)[0].values == (1.0,)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    connection.close()


def test_two_runs_that_begin_a_history_at_once_both_get_in(tmp_path, monkeypatch):
    path, looks = tmp_path / "h.sqlite", []
    ask = kept_history._pragma

    def ask_and_be_overtaken(connection, name):
        answer = ask(connection, name)
        looks.append(name)
        if len(looks) == 1:
            append(path, report(1))
        return answer

    monkeypatch.setattr(kept_history, "_pragma", ask_and_be_overtaken)
    append(path, report(2))
    assert read(path)[0].values == (1.0, 2.0)


@pytest.mark.slow
def test_runs_that_end_at_once_all_get_in(tmp_path):
    path = tmp_path / "h.sqlite"
    program = (
        "import sys; from pathlib import Path; from pytest_tinytroupe.history import append\n"
        "from pytest_tinytroupe.records import *\n"
        "record = TestRecord('t', 'passed', 0.1, (Verdict(Metric('m', 1.0), 'ok'),))\n"
        "sys.stdin.readline()\n"
        "for _ in range(20): append(Path(sys.argv[1]), SessionReport('t', 'now', (record,)))"
    )
    runs = [subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE) for _ in range(4)]
    for process in runs:
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait(60) for process in runs] == [0] * 4
    assert len(read(path)[0].values) == 80


# ---------------------------------------------------------------- where the level changed


def test_an_exact_figure_changes_wherever_it_differs():
    changes = exact_changes([50, 50, 62, 62, 62, 50])
    assert [(each.index, each.before, each.after) for each in changes] == [(2, 50, 62), (5, 62, 50)]
    assert changes[0].change == pytest.approx(0.24)
    assert exact_changes([]) == exact_changes([7]) == []
    assert exact_changes([0, 3])[0].change is None


@pytest.mark.parametrize("seed", range(5))
def test_a_step_in_noise_is_found_where_it_is(seed):
    rng = random.Random(seed)
    values = [rng.gauss(1.0, 0.02) for _ in range(30)] + [rng.gauss(1.1, 0.02) for _ in range(30)]
    (change,) = noisy_changes(values, least=0.02)
    assert abs(change.index - 30) <= 1
    assert change.change == pytest.approx(0.1, abs=0.03)


def test_noise_alone_and_a_single_outlier_are_no_change():
    rng = random.Random(1)
    found = sum(len(noisy_changes([rng.gauss(1, 0.05) for _ in range(40)])) > 0 for _ in range(300))
    assert found <= 6  # at 1 %
    assert noisy_changes([1.0] * 20 + [9.0] + [1.0] * 20) == []
    assert noisy_changes([1.0] * (MIN_SEGMENT - 1) + [2.0] * (MIN_SEGMENT - 1)) == []


def test_two_steps_are_two_and_one_too_small_to_tell_is_none():
    rng = random.Random(3)
    right = 0
    for _ in range(50):
        values = [level + rng.gauss(0, 0.01) for level in (1.0, 1.3, 1.1) for _ in range(25)]
        right += [each.index for each in noisy_changes(values)] == [25, 50]
    assert right >= 45  # each of the three stretches is split in 1 % of cases
    assert noisy_changes([1.0] * 20 + [1.01] * 20, least=0.02) == []


@given(st.lists(st.floats(-1e6, 1e6), max_size=60), st.floats(0, 0.5))
def test_changes_are_in_order_within_the_series_and_large_enough(values, least):
    for found in (noisy_changes(values, least=least), exact_changes(values)):
        places = [each.index for each in found]
        assert places == sorted(set(places))
        assert all(0 < place < len(values) for place in places)
    assert all(abs(each.after - each.before) >= least * abs(each.before) for each in noisy_changes(values, least=least))


def test_a_course_is_drawn_from_the_least_to_the_greatest():
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5]) == "▁▁"
    assert sparkline([0, 1], ASCII_BLOCKS) == "_@"
    assert len(sparkline(list(range(100)))) == 24
    assert sparkline([1] * 60 + [2] * 20, width=8) == "▁▁▁▁▁▁██"  # the whole course, however long
    assert sparkline([1, 3, 2] * 8 + [5], width=3) == "▁▁▁"


def test_the_method_fits_the_tier():
    values = tuple([1.0] * 10 + [1.0001] * 10)

    def changes(tier):
        return len(trend_of(Series("t", "m", "", tier, "lower", "", values, ("",) * 20, ("",) * 20)).changes)

    assert (changes("exact"), changes("heap"), changes("wall")) == (1, 0, 0)


# ---------------------------------------------------------------- the command


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "h.sqlite"
    for day, calls in enumerate([50] * 4 + [62] * 3, start=1):
        append(path, report(calls, day=day))
        append(path, report(7, test="test_b.py::test_<b>|", day=day))
    return path


def test_the_course_of_each_figure_and_where_it_changed(kept, capsys):
    status, text = history(capsys, kept)
    assert status == 0
    lines = text.splitlines()
    assert lines[0].split() == ["metric", "runs", "first", "median", "last", "change", "trend"]
    assert lines[1] == "test_a.py::test_it"
    assert lines[2].split() == ["llm_calls", "7", "50", "50", "62", "+24.0%", "▁▁▁▁███"]
    assert lines[3].strip() == "50 -> 62 (+24.0 %) at run 5 c0ffee, 2026-01-05: worse"
    assert lines[-1] == "2 figures of 2 tests; the level of 1 changed"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_figures_stand_below_where_they_were_measured_and_fit_the_terminal(tmp_path, capsys, monkeypatch, columns):
    path = tmp_path / "h.sqlite"
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("pytest_tinytroupe.history.environment_key", lambda: "cpython-3.11-linux-x86_64")
    for day in range(1, 31):
        calls = Verdict(Metric("llm_calls", 1000 + day), "ok")
        heap = Verdict(Metric("peak_heap_mb", 12.5 + day, unit="MB", tier="heap"), "ok")
        record = TestRecord("test_a.py::test_it", "passed", 0.1, (heap, calls))
        append(path, SessionReport("t", f"2026-01-{day:02}", (record,)))
    lines = history(capsys, path, "--metric", "llm_calls", "--metric", "peak_heap_mb")[1].splitlines()
    headings = [line for line in lines if line.startswith("test_a")]
    assert headings == ["test_a.py::test_it", "test_a.py::test_it  cpython-3.11-linux-x86_64"]
    (heap,) = [line for line in lines if line.startswith("  peak_heap_mb")]
    assert lines.index(heap) == lines.index(headings[1]) + 1
    assert len(heap) <= max(columns, 70)
    course = heap.split()[-1]
    assert len(course) == {60: 8, 80: 80 - heap.index(course), 120: 24}[columns]
    assert course[-1] == "█"
    markdown = history(capsys, path, "--markdown")[1]
    assert "### `test_a.py::test_it` `cpython-3.11-linux-x86_64`\n\n| metric |" in markdown


def test_only_what_is_asked_for(kept, capsys):
    assert "test_a" not in history(capsys, kept, "test_b")[1]
    assert "test_b" not in history(capsys, kept, "*::test_i?")[1]
    assert "test_b" not in history(capsys, kept, "--changed")[1]
    assert "nothing matches" in history(capsys, kept, "--metric", "tokens")[1]
    assert "1 figure of 1 test;" in history(capsys, kept, "test_a", "--metric", "tokens", "--metric", "llm_calls")[1]
    assert "level of 0 changed" in history(capsys, kept, "--last", 3)[1]
    for wrong in ("0", "-1", "x"):
        with pytest.raises(SystemExit):
            main(["history", str(kept), "--last", wrong])
        assert "whole number" in capsys.readouterr().err


def test_markdown_and_json(kept, capsys):
    text = history(capsys, kept, "--markdown")[1]
    assert "### `test_b.py::test_<b>\\|`" in text
    assert (
        "| llm_calls | 7 | 50 | 50 | 62 | +24.0% | ▁▁▁▁███ | 50 -> 62 (+24.0 %) at run 5 c0ffee, 2026-01-05: worse |"
        in text
    )
    (found, _) = json.loads(history(capsys, kept, "--json")[1])
    assert found["values"][-1] == 62
    assert found["changes"] == [{"index": 4, "before": 50.0, "after": 62.0}]


@pytest.mark.parametrize("form", [[], ["--markdown"], ["--json"]], ids=["text", "markdown", "json"])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_the_output_cannot_write_is_written_otherwise(tmp_path, monkeypatch, form, encoding):
    path = tmp_path / "h.sqlite"
    for day, calls in enumerate([50, 62], start=1):
        append(path, report(calls, test="test_日.py::test_it", day=day))
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", written)
        assert main(["history", str(path), *form]) == 0
    text = written.detach().getvalue().decode("ascii")
    if form == ["--json"]:
        assert json.loads(text)[0]["test"] == "test_日.py::test_it"
    else:
        assert "test_\\u65e5.py::test_it" in text
        assert ("| `_@` |" if form else "  _@") in text


@pytest.mark.parametrize("command", [[], ["history"], ["compare"]])
def test_help_explains(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert "pytest --perf" in text
    if not command:
        assert "compare" in text
        assert "history" in text


def test_a_history_without_figures_and_one_that_is_held(tmp_path, capsys, monkeypatch):
    path = append(tmp_path / "h.sqlite", SessionReport("t", "2026-01-01"))
    assert main(["history", str(path)]) == 0
    assert "no figures in it yet" in capsys.readouterr().out
    monkeypatch.setattr("pytest_tinytroupe.history._BUSY_S", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert main(["history", str(path)]) == 2
        assert "h.sqlite: cannot be read (database is locked); another program holds it" in capsys.readouterr().err


# ---------------------------------------------------------------- the option


@pytest.fixture
def suite(pytester):
    pytester.makeini("[pytest]")
    pytester.makepyfile(
        test_it="import pytest\n\n\n@pytest.mark.perf\ndef test_it(perf): perf.record('queries', 3)\n"
        "@pytest.mark.perf(baseline=False)\ndef test_other(perf): perf.record('queries', 3)\n"
    )
    return pytester


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)


def test_every_run_is_added_with_its_revision(suite, monkeypatch):
    monkeypatch.setenv("CI_COMMIT_SHA", "feedc0de" * 5)
    for _ in range(2):
        result = run(suite, "--perf-history=past/h.sqlite")
        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(["history: *h.sqlite"])
    found = {(series.test, series.metric): series for series in read(suite.path / "past" / "h.sqlite")}
    assert found["test_it.py::test_it", "queries"].values == (3.0, 3.0)
    assert found["test_it.py::test_it", "queries"].revisions == ("feedc0defeed",) * 2


def test_the_ini_names_the_history_and_the_command_line_wins(suite):
    suite.makeini("[pytest]\nperf_history = ini.sqlite")
    run(suite)
    assert (suite.path / "ini.sqlite").is_file()
    run(suite, "--perf-history=cli.sqlite")
    assert len(read(suite.path / "ini.sqlite")[0].values) == len(read(suite.path / "cli.sqlite")[0].values) == 1


def test_a_file_that_is_no_history_is_refused_before_the_tests(suite):
    (suite.path / "h.sqlite").write_bytes(b"damaged " * 1000)
    result = run(suite, "--perf-history=h.sqlite")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --perf-history: *h.sqlite: *damaged one*"])
    assert (suite.path / "h.sqlite").read_bytes() == b"damaged " * 1000


def test_without_perf_the_option_is_refused(suite):
    result = suite.runpytest_inprocess("--perf-history=h.sqlite")
    result.stderr.fnmatch_lines(["*--perf-history: only with --perf*"])
