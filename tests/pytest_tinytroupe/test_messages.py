"""What is refused says what is wrong with it: messages that no test of a behaviour comes across."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from pytest_tinytroupe import baseline, statistics, times, versus
from pytest_tinytroupe.baseline import Baselines
from pytest_tinytroupe.baseline_file import BaselineError, load
from pytest_tinytroupe.fresh import FreshError
from pytest_tinytroupe.report.perf_json import FORMAT, SCHEMA, ResultError, read_json
from pytest_tinytroupe.slopes import theil_sen
from pytest_tinytroupe.timing import Run


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.percentile([], 0.5), r"need values and a share in \(0, 1\], not 0 values and 0.5"),
        (lambda: statistics.percentile([1.0], 0.0), r"need values and a share in \(0, 1\], not 1 values and 0.0"),
        (lambda: statistics.percentile([1.0], 1.01), r"need values and a share in \(0, 1\], not 1 values and 1.01"),
        (lambda: statistics.paired_ratios([], []), "need as many of both, and at least one, not 0 and 0"),
        (lambda: statistics.paired_ratios([1.0], []), "need as many of both, and at least one, not 1 and 0"),
        (lambda: statistics.paired_ratios([1.0], [0.0]), "durations must be positive"),
        (lambda: statistics.student_t_tail(1.0, 0), "need at least one degree of freedom, not 0"),
        (lambda: theil_sen([1.0], [1.0]), "need as many positions as values, and at least two, not 1 and 1"),
        (lambda: theil_sen([1.0, 2.0], [1.0]), "need as many positions as values, and at least two, not 2 and 1"),
        (
            lambda: theil_sen([1.0, 2.0], [1.0, 2.0], confidence=1.0),
            r"need a confidence in \(0, 1\) and 2 points or more, not 1.0 and",
        ),
        (lambda: Run.from_text("1 2 0"), "'1 2 0' is no run: times are finite and positive"),
        (lambda: Run.from_text("inf 2 1"), "'inf 2 1' is no run: times are finite and positive"),
        (lambda: versus.compare(int, int, 2.0, 2), "a comparison takes at least 3 rounds, not 2"),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "1e6"])
@pytest.mark.parametrize("given", ["option", "ini"])
def test_a_time_limit_is_a_number_of_seconds(pytester, text, given):
    pytester.makeini(f"[pytest]\nperf_time_limit = {text}" if given == "ini" else "[pytest]")
    args = [] if given == "ini" else [f"--perf-time-limit={text}"]
    result = pytester.runpytest_inprocess("--perf", "--no-perf-report", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = f"--perf-time-limit (ini perf_time_limit) must be a number of seconds above 0, not '{text}'"
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_a_time_limit_by_ini_holds_and_the_command_line_wins(pytester):
    pytester.makeini("[pytest]\nperf_time_limit = 7.5")
    pytester.makeconftest(
        """
        from pytest_tinytroupe.phases import GATE
        def pytest_sessionfinish(session):
            print("SECONDS", session.config.stash[GATE].settings.time_limit_s)
        """
    )
    pytester.makepyfile("def test_it(): pass")
    for args, seconds in (([], 7.5), (["--perf-time-limit=8"], 8.0)):
        result = pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", "-s", *args)
        result.stdout.fnmatch_lines([f"*SECONDS {seconds}"])


def test_a_test_file_on_another_drive(tmp_path, monkeypatch):
    monkeypatch.setattr(baseline, "os", SimpleNamespace(path=SimpleNamespace(isabs=lambda file: file[1:2] == ":")))
    message = "D:/t.py is on another drive than the root directory; name one on its drive: --rootdir"
    with pytest.raises(BaselineError, match=message):
        Baselines(tmp_path).stored("D:/t.py", "test_it")
    assert os.path.isabs(tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[]", "no schema, or a wrong one"),
        ('{"schema": true, "tests": {}}', "no schema, or a wrong one"),
        ('{"schema": 2}', "no tests in it"),
        ('{"schema": 2, "tests": {"a": 1}}', "the entry of a is no object"),
        ('{"schema": 2, "tests": {"a": {"exakt": {}}}}', "the entry of a has an unknown key 'exakt'"),
        ('{"schema": 2, "tests": {"a": {"exact": {"calls": "3"}}}}', "a figure of a has the wrong shape"),
    ],
)
def test_a_file_that_holds_no_baselines(tmp_path, text, what):
    path = tmp_path / "test_it.json"
    path.write_text(text)
    with pytest.raises(BaselineError) as caught:
        load(path)
    hint = "restore it from version control, or delete it and run: pytest --perf --perf-update"
    assert str(caught.value) == f"baseline {path}: not a baseline file ({what}); {hint}"


def test_a_result_with_something_missing(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"format": FORMAT, "schema": SCHEMA}))
    with pytest.raises(ResultError, match=r"a\.json: KeyError: '\w+'; write it anew"):
        read_json(path)


@pytest.mark.parametrize(
    ("outcome", "text", "message"),
    [
        ("failed", "assert 1 == 2", "it failed there:\nassert 1 == 2"),
        ("skipped", "no need", "it was skipped there: no need"),
        ("passed", "", "it ran there, but was not measured"),
    ],
)
def test_a_test_that_fares_differently_in_a_fresh_process(monkeypatch, outcome, text, message):
    longrepr = ("test_it.py", 1, text) if outcome == "skipped" else text
    report = pytest.TestReport("test_it", ("test_it.py", 0, "test_it"), {}, outcome, longrepr, "call")
    monkeypatch.setattr(times.fresh, "run_fresh", lambda *_, **__: [report])
    gate = SimpleNamespace(settings=SimpleNamespace(time_limit_s=1.0), family=1)
    with pytest.raises(FreshError) as caught:
        times._sample(gate, None)
    assert str(caught.value) == message
