"""A parallel run gives the same verdicts, one report and one update."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch

import pytest

from pytest_tinytroupe.report.perf_json import read_json

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


MODES = {
    "n0": ("-p", "no:randomly", "-n0"),
    "load": ("-p", "no:randomly", "-n2"),
    "loadscope": ("-p", "no:randomly", "-n2", "--dist=loadscope"),
    "loadgroup": ("-p", "no:randomly", "-n4", "--dist=loadgroup"),
    "worksteal": ("-p", "no:randomly", "-n4", "--dist=worksteal"),
    "random": ("-p", "randomly", "-n0"),
    "random-parallel": ("-p", "randomly", "-n2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_same_verdicts_one_report_one_update(pytester, mode):
    pytester.makeini("[pytest]\nmarkers = xdist_group")
    pytester.makepyfile(test_it=TESTS.format(limit=9))
    plain = ("-p", "no:randomly", "--perf", "--perf-update", "--perf-baseline-dir")
    pytester.runpytest_inprocess(*plain, "before").assert_outcomes(passed=6)
    shutil.copytree(pytester.path / "before", pytester.path / "plain")
    shutil.copytree(pytester.path / "before", pytester.path / "other")

    # A regression in one test, a limit broken in others.
    pytester.makepyfile(test_it=TESTS.format(limit=3).replace("+= n", "+= n or 1"))
    judge = ("--perf", "-v", "--perf-baseline-dir=before")
    plain_result = pytester.runpytest_inprocess("-p", "no:randomly", *judge)
    result = pytester.runpytest_subprocess(*judge, *MODES[mode])
    for each in (plain_result, result):
        each.assert_outcomes(failed=3, passed=3)
    assert figures(plain_result) == figures(result)
    result.stdout.fnmatch_lines(["perf: llm_calls regressed: 1, baseline 0 (+1)*"])
    assert sum("report: " in line for line in result.outlines) == 1

    # Accepted, byte for byte alike: the failing tests keep what they had.
    pytester.runpytest_inprocess(*plain, "plain").assert_outcomes(failed=2, passed=4)
    result = pytester.runpytest_subprocess("--perf", "--perf-update", "--perf-baseline-dir=other", *MODES[mode])
    result.assert_outcomes(failed=2, passed=4)
    result.stdout.fnmatch_lines(["updated: *other/test_it.json"])
    texts = [(pytester.path / name / "test_it.json").read_bytes() for name in ("before", "plain", "other")]
    assert texts[0] != texts[1] == texts[2]


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
    args = ["-p", "no:randomly", "--perf", "--perf-update", "-n2", "--perf-json=a.json", "--perf-markdown=a.md"]
    result = pytester.runpytest_subprocess(*args)
    assert result.ret != 0
    result.assert_outcomes(failed=1, passed=3)
    text = (pytester.path / "baselines" / "test_it.json").read_text()
    assert [f"test_it[{n}]" in text for n in range(4)] == [True, False, True, True]
    # It has a row everywhere, which says why there are no figures.
    why = "worker 'gw*' crashed while running 'test_it.py::test_it[[]1]'"
    result.stdout.fnmatch_lines(["=* performance *=", "test_it.py::test_it[[]1]  [[]error]", f"    {why}"])
    session, _ = read_json(pytester.path / "a.json")
    assert [record.outcome for record in session.records] == ["passed", "error", "passed", "passed"]
    assert fnmatch(session.records[1].notes[0], why)
    assert "1 of 4 failed" in (pytester.path / "a.md").read_text()
    assert "crashed while running" in (pytester.path / "a.md").read_text()
    assert "error" in (pytester.path / "perf-report" / "index.html").read_text()


@pytest.mark.slow
def test_where_no_worker_comes_to_its_end_the_crash_has_a_row_all_the_same(pytester):
    pytester.makepyfile("import os, pytest\n@pytest.mark.perf\ndef test_it(): os._exit(1)")
    result = pytester.runpytest_subprocess("--perf", "-n1", "--max-worker-restart=0", "--perf-json=a.json")
    assert result.ret != 0
    session, _ = read_json(pytester.path / "a.json")
    assert [record.outcome for record in session.records] == ["error"]
