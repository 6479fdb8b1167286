"""Baselines in a run: new, kept, regressed, improved, accepted; and never overwritten by a failing test."""

from __future__ import annotations

import json

import pytest

from pytest_tinytroupe.measuring_lock import INHERITED, MeasuringLock, machine_lock

CONFTEST = """
import pytest
from pytest_tinytroupe.probe import probe_of

class Model:
    calls = prompt_tokens = completion_tokens = 0

@pytest.fixture
def model(request):
    model = Model()
    probe_of(request.node).add_llm(model)
    return model
"""


@pytest.fixture
def project(pytester):
    """A project whose test makes as many model calls as the file `calls` says, and no more than `limit`."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        test_it="""
        import pathlib, pytest
        here = pathlib.Path(__file__).parent

        @pytest.mark.perf(max_llm_calls=float((here / "limit").read_text()))
        def test_calls(model):
            model.calls += int((here / "calls").read_text())

        @pytest.mark.perf
        @pytest.mark.parametrize("n", [1, 2])
        def test_param(model, n):
            model.calls += n

        def test_plain(): pass
        """
    )
    (pytester.path / "limit").write_text("100")
    return pytester


def run(project, calls, *args, perf=("--perf", "--no-perf-report")):
    (project.path / "calls").write_text(str(calls))
    return project.runpytest_inprocess("-p", "no:randomly", *perf, *args)


def stored(project):
    return json.loads((project.path / "baselines" / "test_it.json").read_text())["tests"]


def test_the_life_of_a_baseline(project):
    # Without a baseline everything is new, nothing fails, nothing is written.
    result = run(project, 10)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "new  test_it.py::test_calls  calls 10, tokens 0, heap * MB",
            "3 tests new, without a baseline; keep it with: pytest --perf --perf-update * test_it*",
        ]
    )
    assert not (project.path / "baselines").exists()

    run(project, 10, "--perf-update").assert_outcomes(passed=4)
    assert stored(project)["test_calls"]["exact"] == {
        "completion_tokens": 0,
        "llm_calls": 10,
        "prompt_tokens": 0,
        "tokens": 0,
    }
    assert stored(project)["test_param[2]"]["exact"]["llm_calls"] == 2
    before = (project.path / "baselines" / "test_it.json").read_bytes()

    # An update without news changes no byte, and says nothing of it.
    result = run(project, 10, "--perf-update")
    assert (project.path / "baselines" / "test_it.json").read_bytes() == before
    result.stdout.no_fnmatch_line("updated:*")

    # One call more is an ordinary failure that says what, how much, and how to accept it.
    result = run(project, 11)
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines(
        [
            "perf: llm_calls regressed: 11, baseline 10 (+10.0 %)",
            "metric * measured * baseline * change * limit * verdict",
            "llm_calls * 11 * 10 * +10.0 % * ≤ 100  regressed",
            "If this is meant, make it the baseline: pytest --perf --perf-update * test_it.py::test_calls",
        ]
    )
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_calls - Failed: perf: llm_calls regressed: 11, baseline 10*"])
    assert (project.path / "baselines" / "test_it.json").read_bytes() == before

    # Undone, it passes.
    run(project, 10).assert_outcomes(passed=4)

    # Fewer calls pass, and the command to keep them is announced.
    result = run(project, 9)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        ["  llm_calls * 9 * 10 * -10.0 % *improved", "1 test improved; keep it with: *test_it.py::test_calls"]
    )

    # Accepted on request.
    result = run(project, 11, "--perf-update", "test_it.py::test_calls")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["updated: *baselines/test_it.json"])
    assert stored(project)["test_calls"]["exact"]["llm_calls"] == 11
    assert stored(project)["test_param[1]"]["exact"]["llm_calls"] == 1


def test_a_test_over_its_own_limit_never_updates(project):
    run(project, 10, "--perf-update")
    (project.path / "limit").write_text("10")
    result = run(project, 12, "--perf-update")
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines(
        ["perf: llm_calls over limit: 12, max 10", "If this is meant, change the limit in the test's perf marker*"]
    )
    assert stored(project)["test_calls"]["exact"]["llm_calls"] == 10


def test_a_failing_test_never_updates(project):
    (project.path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.perf\ndef test_calls(model):\n    model.calls += 1\n    assert 0\n"
    )
    run(project, 10, "--perf-update").assert_outcomes(failed=1)
    assert not (project.path / "baselines" / "test_it.json").exists()


def test_a_metric_that_is_no_longer_measured_fails_until_accepted(project):
    run(project, 10, "--perf-update")
    (project.path / "test_it.py").write_text("import pytest\n@pytest.mark.perf\ndef test_calls(): pass\n")
    result = run(project, 10)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: llm_calls was not measured (and 3 more)", "llm_calls: in the baseline, but*"])
    run(project, 10, "--perf-update").assert_outcomes(passed=1)
    assert stored(project)["test_calls"]["exact"] == {}
    run(project, 10).assert_outcomes(passed=1)


def test_a_tolerance_tighter_than_the_tiers_is_that_of_the_update_too(pytester):
    source = "import pytest\n@pytest.mark.perf(tolerance={{'heap_mb': 0.001}})\ndef test_it(): bytes({})"
    for size in (40_000_000, 40_200_000):
        pytester.makepyfile(test_it=source.format(size))
        pytester.runpytest_inprocess("--perf", "--perf-update", "--no-perf-report").assert_outcomes(passed=1)
        pytester.runpytest_inprocess("--perf", "--no-perf-report").assert_outcomes(passed=1)


def test_baseline_false_keeps_none(project):
    (project.path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.perf(baseline=False)\ndef test_calls(model): pass\n"
    )
    result = run(project, 10, "--perf-update")
    result.assert_outcomes(passed=1)
    assert not (project.path / "baselines" / "test_it.json").exists()
    result.stdout.no_fnmatch_line("* new*")


@pytest.mark.parametrize("update", [[], ["--perf-update"]], ids=["", "update"])
@pytest.mark.parametrize(
    ("content", "message", "xdist"),
    [
        ('{"schema"', "perf: baseline *test_it.json: not valid JSON (*; restore it from version control*", []),
        ("<<<<<<< HEAD", "perf: baseline *test_it.json: in the middle of a merge; take either side *", []),
        ('{"schema": 3}', "perf: baseline *test_it.json: schema 3 is newer than 2; upgrade pytest-tinytroupe", []),
        ('{"schema": 3}', "perf: baseline *test_it.json: schema 3 is newer than 2; upgrade pytest-tinytroupe", ["-n2"]),
    ],
    ids=["corrupt", "merge", "future", "future-xdist"],
)
def test_a_file_that_makes_no_sense_fails_its_tests_and_stays(project, content, message, update, xdist):
    path = project.path / "baselines" / "test_it.json"
    path.parent.mkdir()
    path.write_text(content)
    result = run(project, 10, *update, *xdist)
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines([message])
    assert path.read_text() == content


def test_a_read_only_file_is_told_and_stays(project):
    run(project, 10, "--perf-update")
    path = project.path / "baselines" / "test_it.json"
    path.chmod(0o444)
    before = path.read_bytes()
    result = run(project, 11, "--perf-update")
    result.stdout.fnmatch_lines(["ERROR: baseline *test_it.json: cannot be written (Permission denied)*"])
    assert result.ret != 0
    assert path.read_bytes() == before


def test_heap_regressions_are_found(pytester):
    pytester.makepyfile(
        test_heap="""
        import os, pytest
        @pytest.mark.perf
        def test_heap(): bytearray(int(float(os.environ["HEAP_MB"]) * 2**20))
        """
    )

    def run(heap_mb, *args):
        pytester._monkeypatch.setenv("HEAP_MB", str(heap_mb))
        return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)

    run(20, "--perf-update").assert_outcomes(passed=1)
    for _ in range(3):
        run(20).assert_outcomes(passed=1)
    result = run(21)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: heap_mb regressed: 21* MB, baseline 20* MB (+5.0 %)"])
    run(19).assert_outcomes(passed=1)


def test_the_table_fits_80_columns(project, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run(project, 10, "--perf-update")
    result = run(project, 11)
    start = next(i for i, line in enumerate(result.outlines) if " performance " in line)
    assert all(len(line) <= 80 for line in result.outlines[start:] if not line.startswith("FAILED"))
    # Failing tests and metrics come first.
    names = [line.partition("  ")[0] for line in result.outlines[start:] if "test_it.py::" in line][:3]
    assert names == ["test_it.py::test_calls", "ok   test_it.py::test_param[1]".partition("  ")[0], "ok"]
    quiet = run(project, 11, "-q").stdout.str()
    assert "regressed" in quiet
    assert "advisory" not in quiet


def test_junit_has_the_message(project):
    run(project, 10, "--perf-update")
    run(project, 11, "--junitxml=junit.xml")
    text = (project.path / "junit.xml").read_text()
    assert 'message="Failed: perf: llm_calls regressed: 11, baseline 10 (+10.0 %)"' in text  # the first line
    assert "If this is meant, make it the baseline" in text
    assert 'failures="1"' in text


def test_an_update_waits_for_that_of_another_run(project):
    other = MeasuringLock(machine_lock().directory / "baselines")
    with other.alone(), pytest.MonkeyPatch.context() as patch:
        patch.delenv(INHERITED)  # it is another process that has it
        result = run(project, 3, "--perf-update", "--perf-time-limit=0.2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: the baselines were not updated: the lock in *baselines was not free within *"])
    assert not list((project.path / "baselines").rglob("*.json"))
    assert run(project, 3, "--perf-update").ret == 0
    assert stored(project)
