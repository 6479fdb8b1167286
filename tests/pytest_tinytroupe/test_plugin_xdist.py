"""A parallel run gives the same verdicts, one report and one update."""

from __future__ import annotations

import json

import pytest

TESTS = """
    import pytest
    from pytest_tinytroupe.probe import probe_of

    class Model:
        calls = prompt_tokens = completion_tokens = 0

    @pytest.fixture
    def model(request):
        model = Model()
        probe_of(request.node).add_llm(model)
        return model

    @pytest.mark.perf(max_llm_calls={limit})
    @pytest.mark.xdist_group("one")
    @pytest.mark.parametrize("n", range(6))
    def test_calls(model, n):
        model.calls += n
"""


def figures(result):
    """Lines of the table that are exact, by test."""
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if " performance " in line)
    return [line.split() for line in lines[start:] if line.startswith(("test_it.py::", "  llm_calls"))]


@pytest.mark.slow
@pytest.mark.parametrize("dist", ["load", "loadgroup", "worksteal"])
def test_same_verdicts_one_report_one_update(pytester, dist):
    pytester.makeini("[pytest]\nmarkers = xdist_group")
    pytester.makepyfile(test_it=TESTS.format(limit=9))
    args = ("-p", "no:randomly", "--perf", "--perf-update")
    pytester.runpytest_inprocess(*args, "--perf-baseline-dir=plain").assert_outcomes(passed=6)
    result = pytester.runpytest_subprocess(*args, "--perf-baseline-dir=par", "-n2", "--dist", dist)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["updated: *par/test_it.json", "report: *perf-report*"])

    plain, parallel = (json.loads((pytester.path / name / "test_it.json").read_text()) for name in ("plain", "par"))
    assert {test: entry["exact"] for test, entry in plain["tests"].items()} == {
        test: entry["exact"] for test, entry in parallel["tests"].items()
    }

    # A regression in one test, a limit broken in others.
    pytester.makepyfile(test_it=TESTS.format(limit=3).replace("+= n", "+= n or 1"))
    args = ("-p", "no:randomly", "--perf", "-v", "--perf-baseline-dir=plain")
    plain_result = pytester.runpytest_inprocess(*args)
    parallel_result = pytester.runpytest_subprocess(*args, "-n2", "--dist", dist)
    plain_result.assert_outcomes(failed=3, passed=3)
    parallel_result.assert_outcomes(failed=3, passed=3)
    assert figures(plain_result) == figures(parallel_result)
    parallel_result.stdout.fnmatch_lines(["perf: llm_calls regressed: 1, baseline 0 (+1)"])


@pytest.mark.slow
def test_a_dead_worker_is_a_failure_and_the_others_are_reported(pytester):
    pytester.makepyfile(
        test_it="""
        import os, pytest
        @pytest.mark.perf
        @pytest.mark.parametrize("n", range(4))
        def test_it(n):
            if n == 1:
                os._exit(1)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly", "--perf", "--perf-update", "-n2")
    assert result.ret != 0
    result.assert_outcomes(failed=1, passed=3)
    text = (pytester.path / "baselines" / "test_it.json").read_text()
    assert [f"test_it[{n}]" in text for n in range(4)] == [True, False, True, True]
