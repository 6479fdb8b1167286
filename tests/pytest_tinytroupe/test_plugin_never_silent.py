"""A run that measured nothing, or held nothing against a baseline, says so, and fails where nobody is watching."""

from __future__ import annotations

import json
import os

import pytest

from pytest_tinytroupe import fresh
from pytest_tinytroupe.command_line import CommandLine, repeated

ONE = "import pytest\n@pytest.mark.perf\ndef test_it(perf): perf.record('queries', {})\n"
NOTHING = "nothing was measured: no test marked perf was collected; check the paths given, and the markers"
XDIST = pytest.mark.parametrize("xdist", [[], pytest.param(["-n1"], marks=pytest.mark.slow)], ids=["plain", "xdist"])


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)


@XDIST
@pytest.mark.parametrize(("where", "fails"), [("here", False), ("strict", True), ("strict by ini", True), ("CI", True)])
def test_no_test_marked_perf(pytester, monkeypatch, where, fails, xdist):
    pytester.makepyfile("def test_plain(): pass")
    pytester.makeini("[pytest]\nperf_strict = true" if where == "strict by ini" else "[pytest]")
    if where == "CI":
        monkeypatch.setenv("CI", "true")
    result = run(pytester, *xdist, *(["--perf-strict"] if where == "strict" else []))
    result.assert_outcomes(passed=1)
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if fails else pytest.ExitCode.OK)
    result.stdout.fnmatch_lines(["=* performance *=", f"{'ERROR' if fails else 'WARNING'}: {NOTHING}"])


def test_no_test_at_all_fails_as_it_does_without_the_plugin(pytester, monkeypatch):
    assert run(pytester).ret == pytest.ExitCode.NO_TESTS_COLLECTED
    monkeypatch.setenv("CI", "true")
    assert run(pytester).ret == pytest.ExitCode.TESTS_FAILED


@XDIST
def test_perf_tests_that_were_deselected_are_told_and_fail_nothing(pytester, monkeypatch, xdist):
    # A run of a part is meant to be one, in CI as well: its other parts run elsewhere.
    monkeypatch.setenv("CI", "true")
    pytester.makepyfile(ONE.format(1) + "def test_plain(): pass")
    (pytester.path / "baselines").mkdir()
    (pytester.path / "baselines" / "test_x.json").write_text('{"schema": 2, "tests": {}}')
    result = run(pytester, "-k", "plain", *xdist)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["WARNING: no test marked perf has run: they were deselected, or *"])


@XDIST
@pytest.mark.parametrize("given", ["--perf-baseline-dir=baslines", "ini"])
@pytest.mark.parametrize(("strict", "fails"), [([], False), (["--perf-strict"], True)])
def test_a_mistyped_directory_of_baselines(pytester, given, strict, fails, xdist):
    pytester.makeini("[pytest]\nperf_baseline_dir = baslines" if given == "ini" else "[pytest]")
    pytester.makepyfile(ONE.format(1))
    result = run(pytester, *strict, *([] if given == "ini" else [given]), *xdist)
    result.assert_outcomes(passed=1)
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if fails else pytest.ExitCode.OK)
    word = "ERROR" if fails else "WARNING"
    line = f"{word}: nothing was held against a baseline: there is none in *baslines (--perf-baseline-dir); check it, *"
    result.stdout.fnmatch_lines([line])
    assert not (pytester.path / "baslines").exists()


def test_a_directory_without_baselines_is_told_unless_they_are_about_to_be_written(pytester, monkeypatch):
    pytester.makepyfile(ONE.format(1))
    (pytester.path / "baselines").mkdir()
    run(pytester).stdout.fnmatch_lines(["WARNING: nothing was held against a baseline: there is none in *baselines *"])
    assert not os.listdir(pytester.path / "baselines")
    monkeypatch.setenv("CI", "true")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["ERROR: nothing was held against a baseline: *"])
    result = run(pytester, "--perf-update")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*nothing was held*")
    result = run(pytester)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*nothing was held*")


def test_tests_that_keep_no_baseline_need_none(pytester, monkeypatch):
    monkeypatch.setenv("CI", "true")
    pytester.makepyfile("import pytest\n@pytest.mark.perf(baseline=False)\ndef test_it(): pass")
    result = run(pytester, "--perf-strict")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*nothing was held*")


def test_pruning_creates_no_directory(pytester):
    pytester.makepyfile(ONE.format(1))
    run(pytester, "--perf-prune", "--perf-baseline-dir=mistyped")
    assert not (pytester.path / "mistyped").exists()


@XDIST
def test_files_outside_the_root_directory_have_baselines_of_their_own(pytester, xdist):
    root = pytester.mkdir("root")
    (root / "pytest.ini").write_text("[pytest]\n")
    for name, figure in (("test_a", 1), ("test_b", 2)):
        pytester.makepyfile(**{f"outside/{name}": ONE.format(figure)})
    pytester.makepyfile(**{"root/test_c": ONE.format(3)})
    args = ["-c", "root/pytest.ini", "--rootdir=root", "outside", "root", *xdist]
    run(pytester, *args, "--perf-update").assert_outcomes(passed=3)
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*.json")}
    assert sorted(files) == [
        "baselines/__up__/outside/test_a.json",
        "baselines/__up__/outside/test_b.json",
        "baselines/test_c.json",
    ]
    found = [json.loads(path.read_text())["tests"]["test_it"]["exact"]["queries"] for _, path in sorted(files.items())]
    assert found == [1, 2, 3]
    assert not list(pytester.path.glob("*.json"))
    assert run(pytester, *args, "--perf-strict").ret == 0
    pytester.makepyfile(**{"outside/test_b": ONE.format(5)})
    result = run(pytester, *args)
    result.assert_outcomes(passed=2, failed=1)
    options = " ".join([*args[:3], *xdist])
    command = f"pytest --perf --perf-update -p no:randomly {options} outside/test_b.py::test_it"
    result.stdout.fnmatch_lines([f"If this is meant, make it the baseline: {command}"])
    (pytester.path / "outside" / "test_b.py").unlink()
    result = run(pytester, *args)
    result.stdout.fnmatch_lines(["1 baseline is used by no test; *", "  ../outside/test_b.py::test_it"])


@XDIST
def test_the_suggested_command_repeats_the_options_and_works(pytester, monkeypatch, xdist):
    pytester.makeini("[pytest]\npython_files = check_*.py")
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--people', type=int)")
    source = ONE.replace("(perf)", "(perf, pytestconfig)")
    sub = pytester.mkdir("a b")
    (sub / "check_it.py").write_text(source.format("pytestconfig.getoption('--people')"))
    monkeypatch.chdir(sub)
    options = ["--people", "7", "--perf-baseline-dir=kept", "-o", "xfail_strict=true", *xdist]
    result = run(pytester, *options, "--perf-json", "x.json", "check_it.py")
    (line,) = [line for line in result.outlines if "keep it with: " in line]
    command = line.partition("keep it with: ")[2]
    repeats = " ".join(["-p no:randomly", *options])
    assert command == f"pytest --perf --perf-update {repeats} check_it.py::test_it"
    assert pytester.runpytest_inprocess(*command.split()[1:]).ret == 0
    stored = json.loads((sub / "kept" / "a b" / "check_it.json").read_text())
    assert stored["tests"]["test_it"]["exact"] == {"queries": 7}
    (sub / "check_it.py").write_text(source.format(9))
    result = run(pytester, *options, "check_it.py")
    result.stdout.fnmatch_lines(
        [f"If this is meant, make it the baseline: pytest --perf --perf-update {repeats} check_it.py::test_it"]
    )
    (sub / "check_it.py").write_text("")
    result = run(pytester, *options, "check_it.py")
    result.stdout.fnmatch_lines(
        [f"1 baseline is used by no test; remove with: pytest --perf --perf-prune {repeats} check_it.py"]
    )


@pytest.mark.parametrize(
    ("given", "paths", "kept"),
    [
        (["--perf"], [], []),
        (["--perf", "--perf-update", "--perf-strict", "--perf-prune", "--no-perf-report"], [], []),
        (["--perf-json=x", "--perf-markdown", "y", "--perf-history", "h", "--perf-report"], [], []),
        (["--perf-baseline-dir", "b", "--perf-time-limit=3"], [], ["--perf-baseline-dir", "b", "--perf-time-limit=3"]),
        (["--rootdir", ".", "."], ["."], ["--rootdir", "."]),
        ([".", "--rootdir", "."], ["."], ["--rootdir", "."]),
        (["-x", "a"], ["a"], ["-x"]),
        (["a", "--", "b"], ["a", "b"], []),
    ],
)
def test_what_a_command_repeats(given, paths, kept):
    assert repeated(given, paths) == kept


def test_a_command_is_quoted():
    command = CommandLine(["-k", "a or b"], ["some dir"], "/project", "/project/sub")
    assert command.accepting(["t x.py::test[a b]"]) == (
        "pytest --perf --perf-update -k 'a or b' '../t x.py::test[a b]'"
    )
    assert command.pruning() == "pytest --perf --perf-prune -k 'a or b' 'some dir'"


def test_a_perf_test_that_another_plugin_runs_was_not_measured(pytester):
    pytester.makeconftest(
        """
        import pytest
        from _pytest.runner import runtestprotocol

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_protocol(item, nextitem):
            if "theirs" in item.name:
                for report in runtestprotocol(item, log=False, nextitem=nextitem):
                    item.ihook.pytest_runtest_logreport(report=report)
                return True
        """
    )
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(max_time_s=0)
        def test_theirs(): pass
        @pytest.mark.perf
        def test_ours(): pass
        def test_theirs_and_plain(): pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["perf: not measured: another plugin runs this test *", "test_*::test_theirs  [[]error[]]"]
    )


def test_a_marker_that_comes_too_late_is_no_gate(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture
        def marked(request): request.node.add_marker(pytest.mark.perf(max_time_s=0))
        def test_plain(marked): pass
        @pytest.mark.perf
        def test_perf(marked): pass
        """
    )
    result = run(pytester, "--perf-update")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "perf: not measured: the test was marked perf when it was about to run; mark it when it is collected",
            "perf: not judged: its perf marker was changed when the test was about to run; *",
        ]
    )
    assert not list((pytester.path / "baselines").rglob("*.json"))


@pytest.mark.parametrize("xdist", [[], pytest.param(["-n1"], marks=pytest.mark.slow)], ids=["plain", "xdist"])
def test_a_run_that_ends_early_with_status_0_is_no_gate(pytester, xdist):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf
        def test_a(): pass
        @pytest.mark.perf
        def test_b(): pytest.exit("enough", returncode=0)
        @pytest.mark.perf
        def test_c(): pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly", "--perf", "--no-perf-report", *xdist)
    assert result.ret != 0
    if not xdist:
        result.stdout.fnmatch_lines(["ERROR: the run ended before test_*.py::test_b and 1 more"])
    assert run(pytester, "--setup-plan").ret == 0


def test_time_that_stands_still_measures_nothing(pytester):
    pytester.makepyfile(
        """
        import time, pytest
        @pytest.fixture
        def frozen(monkeypatch): monkeypatch.setattr(time, "perf_counter", lambda: 1.0)
        @pytest.mark.perf(max_time_s=9)
        def test_plain(frozen): pass
        @pytest.mark.perf(max_wall_s=9, rounds=1, warmup=0)
        def test_timed(frozen): pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1, errors=1)
    line = "time.perf_counter stood still during the call; freeze time inside the test, not around it"
    result.stdout.fnmatch_lines_random([f"time_s: {line[:60]}*", f"*perf: {line}"])


def test_where_nobody_watches_is_known_from_the_beginning(pytester, monkeypatch):
    monkeypatch.setenv("CI", "true")
    pytester.makepyfile("import os\ndef test_it(): os.environ.pop('CI')")
    assert run(pytester).ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(("args", "word"), [([], "WARNING"), (["--perf-strict"], "ERROR")])
def test_that_every_test_was_skipped_is_told(pytester, args, word):
    pytester.makepyfile("import pytest\n@pytest.mark.perf(baseline=False)\ndef test_it(): pytest.skip('no key')")
    result = run(pytester, *args)
    assert result.ret == bool(args)
    result.stdout.fnmatch_lines([f"{word}: nothing was measured: every test marked perf was skipped"])


def test_a_limit_that_holds_does_not_make_up_for_a_baseline_that_nothing_was_held_against(pytester):
    source = "import pytest\n@pytest.mark.perf(max_time_s=9)\ndef test_it({}): {}"
    virtual = "import asyncio\n    with perf.virtual_time() as clock: clock.run(asyncio.sleep(2))"
    pytester.makepyfile(test_it=source.format("perf", "\n    " + virtual))
    assert run(pytester, "--perf-update").ret == 0
    pytester.makepyfile(test_it=source.format("", "pass"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["perf: time_s was not measured", "time_s: in the baseline, but not measured any more: *"]
    )
    assert run(pytester, "--perf-update").ret == 0
    assert run(pytester).ret == 0


def test_a_time_limit_from_outside_is_an_error_of_its_test_and_ends_no_session(pytester, monkeypatch):
    # As the signal of pytest-timeout, which comes while fresh processes run.
    monkeypatch.setattr(fresh, "_run", lambda *_, **__: pytest.fail("Timeout (>2.0s) from pytest-timeout."))
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(isolate=True)
        def test_isolated(): pass
        @pytest.mark.perf(max_cpu_s=9)
        def test_timed(): pass
        def test_after(): pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(errors=2, passed=1)
    for where in (" in a process of its own", ""):
        told = f"perf: the test could not be measured{where}: Timeout (>2.0s) from pytest-timeout."
        result.stdout.fnmatch_lines([told])


def test_a_fresh_process_where_nothing_is_captured(pytester, monkeypatch):
    monkeypatch.setattr(fresh, "_run", lambda *_, **__: 7)
    pytester.makepyfile("import pytest\n@pytest.mark.perf(isolate=True)\ndef test_it(): pass")
    result = run(pytester, "-p", "no:capture")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["perf: *: it ended with exit status 7 and no result*"])


def test_what_is_recorded_after_the_call_fails_the_test(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture
        def late(perf): yield; perf.record("queries", 3)
        @pytest.fixture
        def late_block(perf):
            yield
            with perf.measure("cleanup_s"): pass
        @pytest.mark.perf(baseline=False)
        def test_it(late): pass
        @pytest.mark.perf(baseline=False)
        def test_block(late_block): pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=2, errors=2)
    told = "E*RuntimeError: '{}' comes when the test's call is over and judged; record it in the call or before"
    result.stdout.fnmatch_lines_random([told.format("queries"), told.format("cleanup_s")])


def test_what_a_test_without_the_marker_records_is_told_to_be_lost(pytester):
    pytester.makepyfile(
        """
        import pytest
        def test_record(perf): perf.record("queries", 3)
        def test_measure(perf):
            with perf.measure("work_s"): pass
        def test_compare(perf): perf.compare(lambda: sum(range(2000)), int, 0.1)
        @pytest.mark.perf(baseline=False)
        def test_it(perf): perf.record("queries", 3)
        """
    )
    result = run(pytester, "-Wdefault")
    result.assert_outcomes(passed=4, warnings=2)
    told = "*PytestWarning: '{}' is neither judged nor kept: the test is not marked perf"
    result.stdout.fnmatch_lines([told.format("queries"), told.format("work_s")])
    plain = pytester.runpytest_inprocess("-p", "no:randomly")  # says nothing: nothing is judged
    plain.assert_outcomes(passed=3, skipped=1, warnings=0)


def test_a_project_can_insist_on_the_plugin(pytester):
    pytester.makeini("[pytest]\nperf = true\nrequired_plugins = pytest-tinytroupe")
    pytester.makepyfile(ONE.format(1))
    assert pytester.runpytest_subprocess("--no-perf-report").ret == 0
    result = pytester.runpytest_subprocess("-p", "no:tinytroupe")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: Missing required plugins: pytest-tinytroupe"])
