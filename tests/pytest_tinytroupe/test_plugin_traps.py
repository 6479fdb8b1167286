"""Mistakes that tools of this kind have made; each has a test that would catch it here."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import pytest_tinytroupe
from pytest_tinytroupe.instruments.exact import speedup
from pytest_tinytroupe.records import Metric, Timeline
from pytest_tinytroupe.report.text import number, row
from pytest_tinytroupe.verdict import judge

SOURCES = sorted(Path(pytest_tinytroupe.__file__).parent.rglob("*.py"))


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)


def test_a_new_test_without_baseline_never_passes_in_silence(pytester, monkeypatch):
    pytester.makepyfile("import pytest\n@pytest.mark.perf\ndef test_it(perf): perf.record('queries', 1)")
    result = run(pytester, "-q")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 test new, without a baseline; keep it with: pytest --perf --perf-update *"])
    monkeypatch.setenv("CI", "true")
    run(pytester, "-q").assert_outcomes(failed=1)


@pytest.mark.slow
def test_the_gate_does_not_switch_itself_off_in_a_parallel_run(pytester):
    source = "import pytest\n@pytest.mark.perf\ndef test_it(perf): perf.record('queries', {})"
    pytester.makepyfile(test_it=source.format(1))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(3))
    result = run(pytester, "-n2")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["perf: queries regressed: 3, baseline 1 (+200.0 %)"])


def test_a_figure_is_shown_as_it_was_measured_with_its_unit_once():
    verdict = judge(Metric("time_s", 2.5, "s"), ("max", 5.0), 2.0)
    assert row(verdict) == ("time_s", "2.5 s", "2 s", "+25.0 %", "≤ 5 s", "regressed")
    assert number(1500000) == "1500000"


def test_the_speedup_comes_from_two_runs_and_is_not_always_the_number_of_people():
    def passed(time_s, tier="exact"):
        return [Metric("time_s", time_s, "s", tier=tier)]

    assert speedup(passed(10.0), passed(10.0))[0].value == 1.0
    assert speedup(passed(10.0), passed(4.0))[0].value == 2.5
    assert speedup(passed(10.0, "wall"), passed(1.0, "wall")) == []
    assert speedup([], passed(1.0)) == []


@pytest.mark.parametrize("name", ["perf_report", "perf_baseline_dir", "perf_json", "perf_markdown", "perf_strict"])
def test_every_ini_key_does_something(pytester, name):
    # The command line's default must not win over the ini.
    value = "true" if name == "perf_strict" else "from_ini"
    pytester.makeini(f"[pytest]\n{name} = {value}")
    pytester.makeconftest(
        """
        from pytest_tinytroupe.phases import GATE
        def pytest_sessionfinish(session):
            print("SETTINGS", session.config.stash[GATE].settings)
        """
    )
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("--perf", "-s")
    (line,) = [line for line in result.outlines if "SETTINGS" in line]
    assert ("strict=True" if name == "perf_strict" else "from_ini") in line


def test_an_unknown_ini_key_is_refused_where_pytest_is_strict(pytester):
    pytester.makeini("[pytest]\nperf_basline_dir = x")
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("--perf", "--strict-config")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_private_names_of_pytest_are_used_in_one_module_only():
    private = re.compile(r"_pytest\.|\b(item|session|config|node|request|report)\._[a-z]")
    for path in SOURCES:
        if path.name != "_pytest_private.py":
            assert not private.search(path.read_text(encoding="utf-8")), path


def test_modules_stay_small_and_no_error_is_swallowed():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ExceptHandler):
                assert not all(isinstance(each, ast.Pass) for each in node.body), f"{path}:{node.lineno}"


def test_a_chart_is_a_drawing_and_names_are_escaped(tmp_path):
    from pytest_tinytroupe.records import SessionReport, TestRecord
    from pytest_tinytroupe.report.html import write_report

    curve = Timeline("<script>alert(1)</script>", "MB", ((0.0, 1.0), (1.0, 2.0)))
    record = TestRecord("t.py::t[<img src=x onerror=alert(1)>]", "passed", 0.1, timelines=(curve,), notes=("<b>",))
    write_report(tmp_path, SessionReport("<i>title</i>", "", (record,)))
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<script|<img|<b>|<i>", text)
    (page,) = (tmp_path / "tests").glob("*.html")
    assert re.search(r"<(path|polyline|line)\b", page.read_text(encoding="utf-8"))


def test_a_regressed_run_never_overwrites_its_baseline_unasked(pytester):
    source = "import pytest\n@pytest.mark.perf\ndef test_it(perf): perf.record('queries', {})"
    pytester.makepyfile(test_it=source.format(1))
    run(pytester, "--perf-update")
    pytester.makepyfile(test_it=source.format(2))
    for option in ((), ("--perf-update-new",), ("--perf-prune",), ("--perf-strict",)):
        run(pytester, *option).assert_outcomes(failed=1)
    text = (pytester.path / "baselines" / "test_it.json").read_text()
    assert json.loads(text)["tests"]["test_it"]["exact"] == {"queries": 1}


def test_a_late_verdict_changes_the_exit_status(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.perf(max_heap_mb=0.1)\ndef test_it(): bytearray(2**20)")
    assert run(pytester, "-q").ret == pytest.ExitCode.TESTS_FAILED
