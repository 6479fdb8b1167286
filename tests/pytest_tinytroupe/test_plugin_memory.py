"""Memory as a perf test measures it: allocations of known size, what is left behind, and where it came from."""

from __future__ import annotations

import json
import tracemalloc

import pytest


def run(pytester, *args):
    return pytester.runpytest_inprocess(
        "-p", "no:randomly", "--perf", "--no-perf-report", "--perf-json=out.json", *args
    )


def records(pytester):
    found = json.loads((pytester.path / "out.json").read_text())["records"]
    return {record["nodeid"].partition("::")[2]: record for record in found}


def value(record, name):
    (found,) = [verdict["metric"]["value"] for verdict in record["verdicts"] if verdict["metric"]["name"] == name]
    return found


@pytest.mark.parametrize(("limit_mb", "failed"), [(3.9, 1), (4.1, 0)], ids=["just over", "just under"])
def test_a_peak_within_a_step_counts_at_the_edge_of_its_limit(pytester, limit_mb, failed):
    pytester.makepyfile(
        f"""
        import pytest
        @pytest.mark.perf(max_heap_mb={limit_mb}, baseline=False)
        def test_it(perf):
            for _ in range(3):
                bytearray(4 * 2**20)  # gone before the step ends
                perf.step()
        """
    )
    run(pytester).assert_outcomes(failed=failed, passed=1 - failed)
    (record,) = records(pytester).values()
    assert value(record, "heap_mb") == pytest.approx(4, rel=0.02)


LEAK = """
    import pytest
    kept = []
    @pytest.mark.perf(max_leaked_mb={limit}, baseline=False)
    def test_it():
        kept.append(bytearray(100 * 1024))
    @pytest.mark.perf(max_leaked_mb=0, baseline=False)
    def test_clean():
        bytearray(100 * 1024)
"""


def test_what_each_repetition_leaves_behind_is_named_and_held_to_its_limit(pytester):
    pytester.makepyfile(test_it=LEAK.format(limit=0.1))  # 100 KB are 0.0977 MB
    run(pytester).assert_outcomes(passed=2)
    found = records(pytester)
    assert value(found["test_it"], "leaked_mb") == pytest.approx(100 / 1024, rel=0.02)
    assert value(found["test_clean"], "leaked_mb") == 0
    pytester.makepyfile(test_it=LEAK.format(limit=0.095))
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["leaked_mb: every repetition leaves more of test_it.py:5 (100 KB)"])


def test_a_world_leaves_nothing_behind(pytester):
    """Nor does Python, which keeps the names of attributes that it has looked up."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(max_leaked_mb=0, baseline=False)
        def test_it(make_world, mock_llm):
            make_world(agents=3).run(steps=2)
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_growth_a_step_of_known_size_and_the_line_that_holds_it(pytester):
    pytester.makepyfile(
        test_it="""
        import pytest
        @pytest.mark.perf(max_memory_growth_mb_per_step=0.03, baseline=False)
        def test_grows(perf):
            held = []
            for _ in range(200):
                held.append(bytearray(10 * 1024))
                perf.step()
        @pytest.mark.perf(max_memory_growth_mb_per_step=0, baseline=False)
        def test_does_not(perf):
            held = []
            for step in range(200):
                held = [*held[-9:], bytearray(10 * 1024 + step % 7)]
                perf.step()
        """
    )
    run(pytester).assert_outcomes(passed=2)
    found = records(pytester)
    assert value(found["test_grows"], "memory_growth_mb_per_step") == pytest.approx(10 / 1024, rel=0.02)
    assert value(found["test_does_not"], "memory_growth_mb_per_step") == 0
    site = found["test_grows"]["sites"][0]
    assert site["place"] == "test_it.py:6"
    assert site["mb"] == pytest.approx(200 * 10 / 1024, rel=0.3)  # looked at when it had grown by a quarter


def test_steps_are_marked_on_the_curve_of_the_process(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(baseline=False)
        def test_it(make_world, mock_llm):
            make_world(agents=2).run(3)
        """
    )
    run(pytester).assert_outcomes(passed=1)
    (record,) = records(pytester).values()
    (curve,) = [each for each in record["timelines"] if each["name"] == "process memory"]
    assert [label for _, label in curve["marks"]] == ["step 1", "step 2", "step 3"]
    times = [time for time, _ in curve["marks"]]
    assert times == sorted(times)
    assert curve["points"][0][0] <= times[0]
    assert times[-1] <= curve["points"][-1][0]


@pytest.mark.parametrize(
    "end", ["tracemalloc.stop()", "tracemalloc.clear_traces()", "tracemalloc.stop(); tracemalloc.start()"]
)
def test_a_test_that_ends_tracing_has_no_figures_of_the_heap(pytester, request, end):
    request.addfinalizer(tracemalloc.stop)
    pytester.makepyfile(
        test_it=f"""
        import tracemalloc, pytest
        kept = []
        def work():
            tracemalloc.start()
            kept.append(bytearray(2**20))
            {end}
        @pytest.mark.perf(max_heap_mb=0.1, max_memory_growth_mb_per_step=0.1, baseline=False)
        def test_heap(perf): work(); perf.step(); perf.step()
        @pytest.mark.perf(max_leaked_mb=0.1, baseline=False)
        def test_leaks(): work()
        @pytest.mark.perf
        def test_neither(): work()
        """
    )
    result = run(pytester, "--perf-update")
    result.assert_outcomes(passed=1, failed=2)
    lines = [
        f"{name}: the test itself ends tracemalloc, *" for name in ("heap_mb", "memory_growth_mb_per_step", "leaked_mb")
    ]
    result.stdout.fnmatch_lines(["perf: heap_mb was not measured (and 1 more)", *lines])
    assert "heap" not in (pytester.path / "baselines" / "test_it.json").read_text()
