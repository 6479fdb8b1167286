"""The promise of virtual time: makespans and speedups that are exact, the same in every run and on every machine."""

from __future__ import annotations

import pytest

from tinytroupe import TinyPerson, TinyWorld, VirtualClock, use_clock
from tinytroupe.engine import force_scheduler
from tinytroupe.testing import LogNormal, MockLLM


def run(people, steps, how, latency=1.0, seed=0):
    """Return all exact figures of a run of its own, and the contents of all memories."""
    with VirtualClock() as clock, use_clock(clock), MockLLM(seed=seed, latency=latency) as llm:
        world = TinyWorld("Town", [TinyPerson(f"P{number}") for number in range(people)])
        with force_scheduler(how):
            world.run(steps)
        memories = [[memory.content for memory in agent.episodic_memory.retrieve_all()] for agent in world.agents]
        return clock.now(), world.get_parallel_metrics(), llm.calls, llm.in_flight_peak, memories


def test_ten_people_fifty_steps_one_second_a_call():
    sequential_s, sequential, calls, peak, _ = run(10, 50, "sequential")
    assert (sequential_s, sequential["elapsed_s"], calls, peak) == (500.0, 500.0, 500, 1)
    parallel_s, parallel, calls, peak, _ = run(10, 50, "parallel")
    assert (parallel_s, parallel["elapsed_s"], calls, peak) == (50.0, 50.0, 500, 10)
    assert sequential_s / parallel_s == 10.0
    assert parallel["avg_parallel_speedup"] == 10.0
    assert (parallel["efficiency"], sequential["efficiency"]) == (1.0, 0.1)
    assert sequential["model_calls"] == parallel["model_calls"] == 500
    for metrics in (sequential, parallel):
        assert (metrics["parallel_errors"], metrics["parallel_timeouts"], metrics["retries"]) == (0, 0, 0)


def test_a_thousand_people_one_step():
    elapsed_s, metrics, calls, peak, _ = run(1000, 1, "parallel")
    assert calls == metrics["model_calls"] == 1000
    assert metrics["parallel_errors"] == metrics["parallel_timeouts"] == 0
    # The gate starts at 20 in flight and, while nothing speaks against it, doubles every 50 ms: the last of the 1000
    # are let through after 6 doublings.
    assert elapsed_s == metrics["elapsed_s"] == 1.3
    assert peak == 1000


@pytest.mark.parametrize("how", ["sequential", "parallel"])
def test_five_runs_are_identical_to_the_last_digit(how):
    latency = LogNormal(1.0, 0.8)
    first, *others = (run(6, 4, how, latency) for _ in range(5))
    assert all(other == first for other in others)
    assert first[0] != run(6, 4, how, latency, seed=1)[0]


def test_five_runs_of_the_promise_are_identical():
    first, *others = (run(10, 5, "parallel") for _ in range(5))
    assert all(other == first for other in others)
    assert first[0] == 5.0
