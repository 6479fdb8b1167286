"""The fixtures, on the real simulation: what a downstream project writes in ten lines."""

from __future__ import annotations

import json

import pytest

TEN_LINES = """
    import pytest

    @pytest.mark.perf(min_speedup=3.0, max_llm_calls={limit})
    def test_market(world, troupe, mock_llm, memory_monitor):
        mock_llm.latency = 1.0
        world.add_agents(troupe(10))
        world.run(steps=5)
        for person in world.agents:
            {extra}
        assert memory_monitor.get_agent_stats(person.name)["snapshots"] == 5
"""
EXTRA = "person.listen('Anything else?'); person.act()"


@pytest.fixture(scope="module", autouse=True)
def _imported():
    # What is imported before pytester starts survives its runs; openai alone takes a second.
    import openai.resources.chat  # noqa: F401

    from pytest_tinytroupe import plugin  # noqa: F401
    from tinytroupe import environment, examples, monitoring, testing  # noqa: F401
    from tinytroupe.examples import people  # noqa: F401
    from tinytroupe.llm import openai_model  # noqa: F401
    from tinytroupe.testing import interception, mock_llm  # noqa: F401


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", *args)


def write(pytester, extra="pass", limit=1000):
    pytester.makepyfile(test_market=TEN_LINES.format(extra=extra, limit=limit))


def stored(pytester):
    return json.loads((pytester.path / "baselines" / "test_market.json").read_text())["tests"]["test_market"]["exact"]


def test_ten_lines_measured_broken_and_mended(pytester):
    write(pytester)
    run(pytester).assert_outcomes(skipped=1)
    result = run(pytester, "--perf", "--perf-update")
    result.assert_outcomes(passed=1)
    exact = stored(pytester)
    assert (exact["speedup"], exact["efficiency"], exact["time_s"], exact["llm_calls"]) == (10.0, 1.0, 5.0, 50)
    assert exact["tokens"] == exact["prompt_tokens"] + exact["completion_tokens"] > 0
    assert exact["memory_entries"] > 0
    assert (exact["errors"], exact["timeouts"]) == (0, 0)

    run(pytester, "--perf").assert_outcomes(passed=1)
    write(pytester, extra=EXTRA)  # one needless call a person
    result = run(pytester, "--perf")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["llm_calls * 60 * 50 * +20.0 % * ≤ 1000  regressed"])
    assert stored(pytester) == exact
    write(pytester)
    run(pytester, "--perf").assert_outcomes(passed=1)


def test_the_report_shows_memory_over_time(pytester):
    write(pytester)
    run(pytester, "--perf").assert_outcomes(passed=1)
    pages = "".join(path.read_text() for path in (pytester.path / "perf-report").rglob("*.html"))
    assert "process memory" in pages
    assert "memory entries" in pages


@pytest.mark.slow
def test_figures_are_the_same_in_every_run_and_in_parallel(pytester):
    write(pytester)
    args = ("--perf", "--perf-update", "-p", "no:randomly")
    run(pytester, "--perf", "--perf-update").assert_outcomes(passed=1)
    exact = stored(pytester)
    for more in ((), ("-n2",)):
        (pytester.path / "baselines" / "test_market.json").unlink()
        pytester.runpytest_subprocess(*args, *more).assert_outcomes(passed=1)
        assert stored(pytester) == exact


def test_speedup_lost_is_found(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.perf(min_speedup=3.0)
        def test_it(make_world, mock_llm):
            mock_llm.latency = 1.0
            make_world(agents=4).run(2, parallelize=False)
        """
    )
    result = run(pytester, "--perf")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: speedup below limit: 1x, min 3x"])


def test_worlds_are_on_virtual_time_and_gone_afterwards(pytester):
    pytester.makepyfile(
        """
        import gc, threading, weakref
        from tinytroupe.runtime.clock import current_clock
        refs, threads = [], set(threading.enumerate())

        def test_world(world, troupe, mock_llm):
            assert world.agents == []
            assert current_clock().virtual
            mock_llm.latency = 30.0
            world.add_agents(troupe(2))
            world.run(1)
            assert current_clock().now() == 30.0
            refs.append(weakref.ref(world))

        def test_many(make_world, troupe):
            one, two, three = make_world(), make_world(agents=3), make_world(troupe(2), name="Three")
            assert [len(w.agents) for w in (one, two, three)] == [10, 3, 2]
            assert len({w.name for w in (one, two, three)}) == 3
            assert three.name == "Three"

        def test_gone():
            gc.collect()
            assert refs[0]() is None
            assert not current_clock().virtual
            assert set(threading.enumerate()) <= threads
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_people_are_distinct(troupe):
    people = troupe(30)
    assert len({person.name for person in people}) == 30


@pytest.mark.parametrize("order", ["memory_monitor, mock_llm", "mock_llm, memory_monitor"])
def test_the_monitor_runs_on_virtual_time(pytester, order):
    pytester.makepyfile(
        f"""
        def test_it({order}, make_world):
            mock_llm.latency = 2.0
            world = make_world(agents=2)
            world.run(3)
            for person in world.agents:
                assert memory_monitor.get_history(person.name)["time_s"] == [2.0, 4.0, 6.0]
        """
    )
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.parametrize("perf", [[], ["--perf", "--no-perf-report"]], ids=["plain", "perf"])
def test_an_unmatched_request_fails_the_test_even_when_swallowed(pytester, perf):
    pytester.makepyfile(
        test_it="""
        import pytest
        def test_plain(make_world, mock_llm):
            mock_llm.when(person="Nobody").reply("hello")
            try:
                make_world(agents=1).run(1)
            except Exception:
                pass

        @pytest.mark.perf
        def test_perf(make_world, mock_llm):
            mock_llm.when(person="Nobody").reply("hello")
            try:
                make_world(agents=1).run(1)
            except Exception:
                pass
        """
    )
    result = run(pytester, *perf)
    result.assert_outcomes(failed=2 if perf else 1, skipped=0 if perf else 1)
    result.stdout.fnmatch_lines(["*Nobody*", "FAILED test_it.py::test_plain - Failed: *request(s) to the mock model*"])


def test_any_code_that_calls_the_api_is_counted(pytester):
    pytester.makepyfile(
        """
        import openai, pytest
        @pytest.mark.perf(max_llm_calls=2, baseline=False)
        def test_sync(mock_llm):
            client = openai.OpenAI(api_key="x", base_url="http://api.example/v1")
            for _ in range(2):
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        """
    )
    result = run(pytester, "--perf", "--no-perf-report", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  llm_calls * 2 *≤ 2  ok"])
