"""Limits and tolerances on metrics beyond the usual ones, on the real simulation."""

from __future__ import annotations

import json

import pytest

SIMULATION = """
    import pytest
    @pytest.mark.perf({marker})
    def test_it(make_world, mock_llm):
        mock_llm.latency = 2.0
        make_world(agents=3).run(2)
"""


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--no-perf-report", *args)


def figures(pytester):
    tests = json.loads((pytester.path / "baselines" / "test_it.json").read_text())["tests"]
    return tests["test_it"]["exact"]


def write(pytester, marker=""):
    pytester.makepyfile(test_it=SIMULATION.format(marker=marker))


def test_every_exact_metric_can_be_limited_on_both_sides_at_its_edge(pytester):
    write(pytester)
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    found = figures(pytester)
    assert set(found) == {
        *("time_s", "efficiency", "p95_turn_latency_s", "llm_calls", "tokens", "prompt_tokens", "completion_tokens"),
        *("errors", "timeouts", "memory_entries"),
    }
    assert (found["p95_turn_latency_s"], found["time_s"], found["llm_calls"]) == (2.0, 4.0, 6)
    edges = ", ".join(f"max_{name}={value}, min_{name}={value}" for name, value in found.items())
    write(pytester, edges)
    run(pytester).assert_outcomes(passed=1)
    markers = [f"min_{name}={value + 0.001}" for name, value in found.items()]
    markers += [f"max_{name}={value - 0.001}" for name, value in found.items() if value]
    tests = [SIMULATION.format(marker=f"{each}, baseline=False") for each in markers]
    source = "".join(test.replace("test_it", f"test_{number}") for number, test in enumerate(tests))
    pytester.makepyfile(test_it=source)
    result = run(pytester)
    result.assert_outcomes(failed=len(markers))
    for marker in markers:
        result.stdout.fnmatch_lines_random([f"perf: {marker[4:].partition('=')[0]} * limit: *, {marker[:3]} *"])


def test_fewer_calls_are_no_regression_of_what_was_cached(pytester):
    source = """
        import pytest
        @pytest.mark.perf{marker}
        def test_it(make_world, mock_llm):
            make_world(agents=2).run({steps})
    """
    pytester.makepyfile(test_it=source.format(steps=3, marker=""))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(steps=1, marker=""))
    run(pytester).assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(steps=1, marker="(min_cached_tokens=10**9)"))
    run(pytester).stdout.fnmatch_lines(["perf: cached_tokens below limit: *, min 1000000000"])


def test_memory_growth_a_step(pytester):
    source = """
        import pytest
        kept = []
        @pytest.mark.perf(max_memory_growth_mb_per_step={limit}, baseline=False)
        def test_it(make_world, mock_llm):
            world = make_world(agents=1)
            for _ in range(4):
                world.run(1)
                kept.append(bytearray(2**20))
    """
    pytester.makepyfile(test_it=source.format(limit=1.5))
    result = run(pytester, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  memory_growth_mb_per_step * 1.* MB *"])
    pytester.makepyfile(test_it=source.format(limit=0.9))
    run(pytester).stdout.fnmatch_lines(["perf: memory_growth_mb_per_step over limit: 1.* MB, max 0.9 MB"])
    pytester.makepyfile(
        "import pytest\n@pytest.mark.perf(max_memory_growth_mb_per_step=1, baseline=False)\ndef test_it(): pass"
    )
    (pytester.path / "test_it.py").unlink()
    run(pytester).stdout.fnmatch_lines(["memory_growth_mb_per_step: there was no step*"])


ASKING = """
    import openai, pytest
    @pytest.mark.perf(max_cost_usd={limit}, baseline=False)
    def test_it(mock_llm):
        client = openai.OpenAI(api_key="x")
        for model in {models}:
            client.chat.completions.create(model=model, messages=[{{"role": "user", "content": "hello " * 1000}}])
"""


def test_cost_is_limited(pytester):
    pytest.importorskip("genai_prices", reason="genai-prices is not installed: cost was not tried")
    pytester.makepyfile(ASKING.format(limit=1, models=["gpt-4o"]))
    result = run(pytester, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  cost_usd * 0.00* USD * ≤ 1 USD  ok"])
    pytester.makepyfile(ASKING.format(limit=0.0001, models=["gpt-4o"]))
    run(pytester).stdout.fnmatch_lines(["perf: cost_usd over limit: * USD, max 0.0001 USD"])


@pytest.mark.parametrize(
    ("models", "note"),
    [
        (["no-such-model"], "cost_usd: no price is known for the model 'no-such-model'*"),
        (["gpt-4o", "gpt-4o-mini"], "cost_usd: several models were asked (gpt-4o, gpt-4o-mini), whose tokens are not*"),
        (["gpt-4o"] * 101, "cost_usd: only the last * of 101 calls are remembered*"),
        ([], "cost_usd: no model was watched*"),
    ],
    ids=["unknown", "several", "many", "none"],
)
def test_a_cost_that_cannot_be_told_fails_and_says_why(pytester, models, note):
    pytest.importorskip("genai_prices", reason="genai-prices is not installed: cost was not tried")
    pytester.makepyfile(ASKING.format(limit=1, models=models))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    if models:
        result.stdout.fnmatch_lines(["perf: cost_usd was not measured", note])


def test_without_the_price_list_the_remedy_is_told(pytester, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "genai_prices", None)
    pytester.makepyfile(ASKING.format(limit=1, models=["gpt-4o"]))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["cost_usd: prices need the extra: pip install 'pytest-tinytroupe?prices?'"])


@pytest.mark.parametrize(("share", "failed"), [(None, 1), (0.05, 1), (0.1, 0)])
def test_a_tolerance_widens_what_passes(pytester, share, failed):
    source = """
        import pytest
        pytestmark = pytest.mark.perf(tolerance={{"queries": 1.0, "heap_mb": 0.05}})
        @pytest.mark.perf(tolerance={{"queries": {share}}})
        def test_it(perf): perf.record("queries", {queries})
    """
    pytester.makepyfile(test_it=source.format(share=share, queries=100))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format(share=share, queries=110))
    run(pytester).assert_outcomes(passed=1 - failed, failed=failed)


def test_the_heaps_tolerance(pytester):
    source = "import pytest\n@pytest.mark.perf(tolerance={})\ndef test_it(): bytearray({} * 2**20)"
    pytester.makepyfile(test_it=source.format({}, 20))
    run(pytester, "--perf-update").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=source.format({}, 21))
    run(pytester).assert_outcomes(failed=1)
    pytester.makepyfile(test_it=source.format({"heap_mb": 0.06}, 21))
    run(pytester).assert_outcomes(passed=1)


def test_each_parametrized_id_has_its_own_baseline(pytester):
    source = """
        import pytest
        @pytest.mark.perf
        @pytest.mark.parametrize("n", [1, 2])
        def test_it(perf, n): perf.record("queries", n{more})
    """
    pytester.makepyfile(test_it=source.format(more=""))
    run(pytester, "--perf-update").assert_outcomes(passed=2)
    pytester.makepyfile(test_it=source.format(more=" or 3 if n == 1 else 3"))
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_it?2? - *queries regressed: 3, baseline 2*"])
