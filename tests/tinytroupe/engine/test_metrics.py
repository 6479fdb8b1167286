"""What steps cost: the arithmetic, and that it never grows or divides by nothing."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.engine import EngineMetrics, StepCost, TurnOutcome, step_cost
from tinytroupe.llm import Usage


def outcome(started_s, finished_s, queued_s=0.0, status="acted", usage=None):
    usage = usage or Usage()
    return TurnOutcome("Ann", 0, 0, status, started_s, finished_s, queued_s=queued_s, usage=usage)


def test_busy_time_leaves_out_the_waiting():
    one = outcome(1.0, 5.0, queued_s=3.0)
    assert (one.elapsed_s, one.busy_s) == (4.0, 1.0)
    assert outcome(1.0, 1.5, queued_s=2.0).busy_s == 0.0


@pytest.mark.parametrize(
    ("slots", "bound_s"),
    [(1, 6.0), (2, 3.0), (3, 3.0), (0, 6.0)],
)
def test_the_lower_bound_is_the_longest_turn_or_the_sum_over_the_slots(slots, bound_s):
    turns = [outcome(0, 1), outcome(0, 2), outcome(0, 3)]
    cost = step_cost(turns, parallel=True, elapsed_s=3.0, slots=slots)
    assert cost.busy_s == 6.0
    assert cost.lower_bound_s == bound_s


def test_failures_and_usage_are_counted():
    turns = [
        outcome(0, 1, usage=Usage(1, 10, 5)),
        outcome(0, 1, status="failed", usage=Usage(2, 1, 1, retries=1)),
        outcome(0, 1, queued_s=0.5, status="timed out"),
    ]
    cost = step_cost(turns, parallel=True, elapsed_s=1.0, slots=3)
    assert (cost.errors, cost.timeouts, cost.queued_s) == (1, 1, 0.5)
    assert cost.usage == Usage(3, 11, 6, retries=1)


def test_a_step_of_nobody_costs_nothing():
    cost = step_cost([], parallel=True, elapsed_s=0.0, slots=0)
    assert cost == StepCost(True, 0.0, 0.0, 0.0, 0.0, 0, 0, Usage())


KEYS = {
    "total_parallel_steps",
    "total_sequential_steps",
    "avg_parallel_speedup",
    "parallel_errors",
    "parallel_timeouts",
    "elapsed_s",
    "busy_s",
    "queued_s",
    "lower_bound_s",
    "efficiency",
    "model_calls",
    "retries",
    "prompt_tokens",
    "completion_tokens",
    "tokens",
    "cached_tokens",
}


def test_figures_are_numbers_from_the_beginning():
    figures = EngineMetrics().as_dict()
    assert figures.keys() == KEYS
    assert all(isinstance(value, (int, float)) for value in figures.values())
    assert f"{figures['avg_parallel_speedup']:.2f}x" == "1.00x"


def test_figures_of_both_kinds_of_steps():
    metrics = EngineMetrics()
    turns = [outcome(0, 1, usage=Usage(1, 8, 2, 4)), outcome(0, 3)]
    metrics.add(step_cost(turns, parallel=True, elapsed_s=3.0, slots=2), turns)
    metrics.add(step_cost(turns, parallel=False, elapsed_s=4.0, slots=2), turns)
    figures = metrics.as_dict()
    assert (figures["total_parallel_steps"], figures["total_sequential_steps"]) == (1, 1)
    assert figures["avg_parallel_speedup"] == 4 / 3
    assert figures["elapsed_s"] == 7.0
    assert figures["efficiency"] == 6 / 7
    assert (figures["model_calls"], figures["tokens"], figures["cached_tokens"]) == (2, 20, 8)


@given(st.integers(1, 5), st.integers(0, 12))
def test_the_timeline_keeps_the_last_and_no_more(length, given_turns):
    metrics = EngineMetrics(length)
    turns = [outcome(float(number), number + 1.0) for number in range(given_turns)]
    for turn in turns:
        metrics.add(step_cost([turn], parallel=True, elapsed_s=1.0, slots=1), [turn])
    assert list(metrics.timeline()) == turns[-length:]
    metrics.reset()
    assert metrics.timeline() == ()
    assert metrics.as_dict() == EngineMetrics().as_dict()


def test_threads_lose_no_step():
    metrics = EngineMetrics()
    cost = step_cost([outcome(0, 1)], parallel=True, elapsed_s=1.0, slots=1)
    threads = [threading.Thread(target=lambda: [metrics.add(cost) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.as_dict()["total_parallel_steps"] == 2000
    assert metrics.as_dict()["elapsed_s"] == 2000.0
