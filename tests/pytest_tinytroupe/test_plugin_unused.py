"""Updating only what is new, baselines that nobody uses, and what is missing in continuous integration."""

from __future__ import annotations

import json

import pytest

ONE = """
import pytest
{marks}
@pytest.mark.perf
@pytest.mark.parametrize("n", [1, 2])
def test_a(perf, n): perf.record("queries", n + {extra})
@pytest.mark.perf
def test_b(perf): perf.record("queries", 5)
"""


def run(pytester, *args, subprocess=False):
    run = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
    return run("-p", "no:randomly", "--perf", "--no-perf-report", *args)


def write(pytester, name="test_one", marks="", extra=0, source=ONE):
    pytester.makepyfile(**{name: source.format(marks=marks, extra=extra)})


def stored(pytester, name="test_one"):
    path = pytester.path / "baselines" / f"{name}.json"
    return json.loads(path.read_text())["tests"] if path.exists() else {}


def unused(result):
    lines = result.outlines
    start = [i for i, line in enumerate(lines) if "used by no test; remove with: pytest --perf --perf-prune" in line]
    return [line.strip() for line in lines[start[0] + 1 :] if line.startswith("  test_")] if start else []


@pytest.fixture
def project(pytester):
    pytester.makeini("[pytest]")
    write(pytester)
    write(pytester, "test_two")
    run(pytester, "--perf-update").assert_outcomes(passed=6)
    return pytester


def test_update_new_leaves_what_is_there(project):
    source = ONE + "\n@pytest.mark.perf\ndef test_c(perf): perf.record('queries', 1)\n"
    write(project, extra=-1, source=source.replace("5)", "5); perf.record('more', 1)"))
    result = run(project, "--perf-update-new")
    result.assert_outcomes(passed=7)
    tests = stored(project)
    assert tests["test_a[1]"]["exact"] == {"queries": 1}  # improved, yet kept
    assert tests["test_b"]["exact"] == {"more": 1, "queries": 5}
    assert tests["test_c"]["exact"] == {"queries": 1}


def test_update_new_does_not_accept_a_regression(project):
    write(project, extra=1)
    run(project, "--perf-update-new").assert_outcomes(passed=4, failed=2)
    assert stored(project)["test_a[1]"]["exact"] == {"queries": 1}


def test_both_updates_contradict_each_other(project):
    result = run(project, "--perf-update", "--perf-update-new")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --perf-update and --perf-update-new contradict each other*"])


def gone(project):
    """Remove a parameter and a test; leave the others."""
    write(project, source=ONE.replace("[1, 2]", "[1]").replace("def test_b", "def test_c"))


@pytest.mark.parametrize("xdist", [[], pytest.param(["-n2"], marks=pytest.mark.slow)], ids=["plain", "xdist"])
def test_unused_baselines_are_named_fail_when_strict_and_go_when_pruned(project, xdist):
    gone(project)
    expected = ["test_one.py::test_a[2]", "test_one.py::test_b"]
    result = run(project, *xdist)
    assert result.ret == 0
    assert unused(result) == expected
    result = run(project, "--perf-strict", *xdist)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert unused(result) == expected
    result.stdout.fnmatch_lines(["ERROR: 2 baselines are used by no test; *"])
    result = run(project, "--perf-strict", "--perf-prune", *xdist)
    assert result.ret == 0
    assert sorted(stored(project)) == ["test_a[1]"]
    assert len(stored(project, "test_two")) == 3
    result.stdout.fnmatch_lines(["pruned: *baselines/test_one.json"])
    assert unused(run(project, "--perf-strict", *xdist)) == []


@pytest.mark.parametrize("marker", ["@pytest.mark.perf(baseline=False)", ""])
def test_a_test_that_keeps_no_baseline_any_more_counts(project, marker):
    write(project, source=ONE.replace("@pytest.mark.perf\ndef", f"{marker}\ndef"))
    assert unused(run(project)) == ["test_one.py::test_b"]


def test_a_file_that_is_gone_counts_and_its_baselines_go(project):
    (project.path / "test_two.py").unlink()
    assert len(unused(run(project))) == 3
    run(project, "--perf-prune")
    assert not (project.path / "baselines" / "test_two.json").exists()
    assert len(stored(project)) == 3


NOT_RUN = {
    "skipped": ([], "skip"),
    "one test": (["test_one.py::test_a"], "gone"),
    "other file": (["test_two.py"], "gone"),
    "keyword": (["-k", "test_a"], ""),
    "mark": (["-m", "not perf"], ""),
    "deselect": (["--deselect", "test_one.py::test_b"], ""),
    "ignore": (["--ignore", "test_one.py"], ""),
    "maxfail": (["-x"], "fail"),
    "last failed": (["--lf"], "fail"),
    "skipped at import": ([], "module skip"),
}


@pytest.mark.parametrize(("args", "change"), NOT_RUN.values(), ids=NOT_RUN.keys())
def test_what_was_merely_not_run_never_counts(project, args, change):
    if change == "gone":
        gone(project)
    elif change == "skip":
        write(project, marks="pytestmark = pytest.mark.skip(reason='x')")
    elif change == "module skip":
        write(project, marks="pytest.skip('x', allow_module_level=True)")
    elif change == "fail":
        write(project, extra=7)
        run(project)
    result = run(project, "--perf-strict", *args)
    assert unused(result) == []
    assert result.ret != pytest.ExitCode.INTERNAL_ERROR
    if change != "fail":
        assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def test_a_file_that_cannot_be_imported_never_counts(project):
    project.makepyfile(test_one="import nothing_of_this_name")
    assert unused(run(project, "--continue-on-collection-errors")) == []


def test_tests_in_other_files_than_python_use_their_baselines(pytester):
    pytester.makeini("[pytest]\naddopts = --doctest-glob=test_*.txt")
    pytester.makeconftest(
        """
        import pytest
        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.perf)
        """
    )
    pytester.maketxtfile(test_it=">>> 1 + 1\n2")
    pytester.makepyfile(test_it="def test_it(): pass")
    run(pytester, "--perf-update").assert_outcomes(passed=2)
    assert run(pytester, "--perf-strict", "--perf-prune").ret == 0
    files = sorted(path.name for path in (pytester.path / "baselines").iterdir())
    assert files == ["test_it.json", "test_it.txt.other.json"]
    (pytester.path / "test_it.txt").unlink()
    assert run(pytester, "--perf-strict").ret == pytest.ExitCode.TESTS_FAILED
    run(pytester, "--perf-prune").stdout.fnmatch_lines(["pruned: *baselines/test_it.txt.other.json"])
    assert stored(pytester, "test_it")


def test_strict_can_be_set_in_the_ini(project):
    gone(project)
    project.makeini("[pytest]\nperf_strict = true")
    assert run(project).ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.slow
def test_when_no_worker_can_tell_strict_says_so(project):
    project.makepyfile(test_one="import os, pytest\n@pytest.mark.perf\ndef test_b(): os._exit(1)\n")
    result = run(project, "--perf-strict", "-n1", "--max-worker-restart=0", "test_one.py")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["ERROR: unused baselines could not be looked for: no worker came to its end"])


@pytest.mark.parametrize(("ci", "fails"), [("true", True), ("1", True), ("", False), ("false", False), ("0", False)])
def test_a_missing_baseline_fails_in_continuous_integration(pytester, monkeypatch, ci, fails):
    monkeypatch.setenv("CI", ci)
    pytester.makepyfile(
        test_it="""
        import pytest
        @pytest.mark.perf
        def test_new(perf): perf.record("queries", 1)
        @pytest.mark.perf(baseline=False)
        def test_none(perf): perf.record("queries", 1)
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1 if fails else 2, failed=1 if fails else 0)
    if fails:
        result.stdout.fnmatch_lines(
            ["perf: heap_mb has no baseline: * (and 1 more)", "", "*Run and commit: pytest --perf --perf-update-new *"],
            consecutive=True,
        )
    for option in ("--perf-update-new", "--perf-update"):
        run(pytester, option).assert_outcomes(passed=2)
    run(pytester).assert_outcomes(passed=2)


def test_a_heap_baseline_of_another_machine_is_no_reason_to_fail(pytester, monkeypatch):
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.perf\ndef test_it(perf): perf.record('queries', 1)")
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    path = pytester.path / "baselines" / "test_it.json"
    path.write_text(path.read_text().replace("cpython-", "otherpython-"))
    monkeypatch.setenv("CI", "true")
    result = run(pytester)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["new  test_it.py::test_it *", "1 test new, without a baseline*"])


@pytest.mark.slow
def test_missing_fails_on_workers_as_well(pytester, monkeypatch):
    monkeypatch.setenv("CI", "true")
    pytester.makepyfile("import pytest\n@pytest.mark.perf\ndef test_it(): pass")
    run(pytester, "-n1", subprocess=True).assert_outcomes(failed=1)


BROKEN_OFF = {
    "at the first error": (["-x"], "test_one_and_a_half", "raise ValueError", False),
    "by a conftest": ([], "conftest", "def pytest_collection_modifyitems(): raise RuntimeError", False),
    "by Ctrl-C": ([], "test_one_and_a_half", "raise KeyboardInterrupt", True),
    "on a worker": (["-x", "-n1"], "test_one_and_a_half", "raise ValueError", False),
}


@pytest.mark.parametrize(("args", "file", "text", "subprocess"), BROKEN_OFF.values(), ids=BROKEN_OFF.keys())
def test_collecting_that_is_broken_off_prunes_nothing(project, args, file, text, subprocess):
    project.makepyfile(**{file: text})
    result = run(project, "--perf-prune", *args, subprocess=subprocess)
    assert result.ret != 0
    assert len(stored(project)) == len(stored(project, "test_two")) == 3
    if args == ["-x"]:
        line = "ERROR: unused baselines could not be looked for: collecting did not come to its end"
        result.stdout.fnmatch_lines([line])
