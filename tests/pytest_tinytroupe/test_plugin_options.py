"""Command line and ini: what goes together, what wins, and what is refused before the first test."""

from __future__ import annotations

import pytest

TEST = """
    import pytest
    @pytest.mark.perf(max_heap_mb=5)
    def test_perf():
        open("ran", "w").close()
        assert len(bytearray(2**20))
    def test_plain(): pass
"""
RUN = ("-p", "no:randomly")


def run(pytester, *args):
    return pytester.runpytest_inprocess(*RUN, *args)


def test_without_perf_the_tests_are_skipped_and_told_how_to_run(pytester):
    pytester.makepyfile(TEST)
    result = run(pytester, "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *: needs --perf; run: pytest --perf"])
    assert not (pytester.path / "ran").exists()
    assert not (pytester.path / "perf-report").exists()


@pytest.mark.parametrize(
    "args",
    [["--perf-update"], ["--perf-report=x"], ["--perf-report="], ["--no-perf-report"], ["--perf-baseline-dir=x"]],
)
def test_options_that_need_perf_say_so(pytester, args):
    pytester.makepyfile(TEST)
    result = run(pytester, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {args[0].partition('=')[0]}: only with --perf*"])


def test_defaults_are_in_the_root_directory(pytester):
    pytester.makeini("[pytest]")
    pytester.mkdir("sub").joinpath("test_it.py").write_text("import pytest\n@pytest.mark.perf\ndef test_a(): pass\n")
    result = run(pytester, "--perf", "--perf-update", "sub")
    assert result.ret == 0
    assert (pytester.path / "baselines" / "sub" / "test_it.json").is_file()
    assert list((pytester.path / "perf-report").glob("*.html"))
    result.stdout.fnmatch_lines(["updated: *baselines/sub/test_it.json", "report: *perf-report*.html"])


def test_the_command_line_wins_over_ini(pytester):
    pytester.makeini("[pytest]\nperf_report = ini_report\nperf_baseline_dir = ini_base")
    pytester.makepyfile(test_it=TEST)
    assert run(pytester, "--perf", "--perf-update").ret == 0
    assert (pytester.path / "ini_base" / "test_it.json").is_file()
    assert (pytester.path / "ini_report").is_dir()
    assert run(pytester, "--perf", "--perf-update", "--perf-report=r", "--perf-baseline-dir=b").ret == 0
    assert (pytester.path / "b" / "test_it.json").is_file()
    assert (pytester.path / "r").is_dir()
    assert not (pytester.path / "perf-report").exists()


def test_the_ini_can_ask_for_every_run_to_measure(pytester):
    pytester.makeini("[pytest]\nperf = true\nperf_report =\nperf_strict = true")
    pytester.makepyfile(test_it=TEST)
    assert run(pytester, "--perf-update").ret == 0
    (pytester.path / "ran").unlink()
    result = run(pytester)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["ok *test_it.py::test_perf*"])
    (pytester.path / "ran").unlink()
    run(pytester, "--no-perf").assert_outcomes(passed=1, skipped=1)
    assert not (pytester.path / "ran").exists()
    (pytester.path / "test_it.py").write_text("def test_plain(): pass")
    assert run(pytester).ret == run(pytester, "--perf").ret == pytest.ExitCode.TESTS_FAILED
    assert run(pytester, "--no-perf-strict").ret == 0


@pytest.mark.parametrize(("ini", "args"), [("perf_report =", []), ("", ["--perf-report="]), ("", ["--no-perf-report"])])
def test_no_report_on_request(pytester, ini, args):
    pytester.makeini(f"[pytest]\n{ini}")
    pytester.makepyfile(TEST)
    result = run(pytester, "--perf", *args)
    assert result.ret == 0
    assert not (pytester.path / "perf-report").exists()
    result.stdout.no_fnmatch_line("report:*")


def test_contradictions_are_refused(pytester):
    result = run(pytester, "--perf", "--perf-report=x", "--no-perf-report")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result = run(pytester, "--perf", "--perf-baseline-dir=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (["--perf-report=file/report"], "--perf-report"),
        (["--perf-report=file"], "--perf-report"),
        (["--perf-update", "--perf-baseline-dir=file"], "--perf-update"),
    ],
)
@pytest.mark.parametrize("xdist", [[], ["-n2"]], ids=["plain", "xdist"])
def test_a_directory_that_cannot_be_written_is_an_error_before_the_tests(pytester, args, option, xdist):
    pytester.makepyfile(TEST)
    (pytester.path / "file").write_text("in the way")
    result = run(pytester, "--perf", *args, *xdist)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {option}: cannot write to *file* (*); *"])
    assert not (pytester.path / "ran").exists()


def test_collect_only_writes_nothing(pytester):
    pytester.makepyfile(TEST)
    assert run(pytester, "--perf", "--perf-update", "--collect-only").ret == 0
    assert not (pytester.path / "perf-report").exists()
    assert not (pytester.path / "baselines").exists()


@pytest.mark.parametrize("option", ["--help", "--markers", "--fixtures", "--fixtures-per-test", "--cache-show"])
def test_a_question_to_pytest_makes_no_directory(pytester, option):
    pytester.makeini("[pytest]\nperf = true\naddopts = -p no:randomly")
    assert pytester.runpytest_inprocess(option).ret == 0
    assert not (pytester.path / "perf-report").exists()


@pytest.mark.parametrize("args", [["-p", "no:terminal"], ["--setup-only"], ["-k", "plain"], ["-m", "not perf"]])
def test_unusual_runs_do_no_harm(pytester, args):
    pytester.makepyfile(TEST)
    result = run(pytester, "--perf", *args)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_report_that_cannot_be_written_is_told_and_changes_no_verdict(pytester, monkeypatch):
    def broken(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr("pytest_tinytroupe.report.html.write_report", broken)
    pytester.makepyfile(TEST)
    result = run(pytester, "--perf")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED  # what was asked for has not happened
    result.stdout.fnmatch_lines(["ERROR: report *perf-report: RuntimeError: no ink"])
