"""What steps cost: the arithmetic, and that it never grows or divides by nothing."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.engine import EngineMetrics, TurnOutcome
from tinytroupe.llm import Usage


def outcome(started_s, finished_s, queued_s=0.0, status="acted", usage=None):
    usage = usage or Usage()
    return TurnOutcome("Ann", 0, 0, status, started_s, finished_s, queued_s=queued_s, usage=usage)


def test_busy_time_leaves_out_the_waiting():
    one = outcome(1.0, 5.0, queued_s=3.0)
    assert (one.elapsed_s, one.busy_s) == (4.0, 1.0)
    assert outcome(1.0, 1.5, queued_s=2.0).busy_s == 0.0


KEYS = {
    "total_parallel_steps",
    "total_sequential_steps",
    "avg_parallel_speedup",
    "parallel_errors",
    "parallel_timeouts",
    "elapsed_s",
    "busy_s",
    "queued_s",
    "backoff_s",
    "lower_bound_s",
    "efficiency",
    "stall_share",
    *("shard_steps", "exchange_s", "exchanged_bytes", "shard_restarts"),
    "model_calls",
    "retries",
    "prompt_tokens",
    "completion_tokens",
    "tokens",
    "cached_tokens",
    *(f"p{p}_{what}_latency_s" for p in (50, 95, 99) for what in ("call", "turn")),
}


def test_figures_are_numbers_from_the_beginning():
    figures = EngineMetrics().as_dict()
    assert figures.keys() == KEYS
    assert all(isinstance(value, (int, float)) for value in figures.values())
    assert f"{figures['avg_parallel_speedup']:.2f}x" == "1.00x"


def test_figures_of_both_kinds_of_steps():
    metrics = EngineMetrics()
    turns = [outcome(0, 1, usage=Usage(1, 8, 2, 4)), outcome(0, 3)]
    metrics.add(turns, parallel=True, elapsed_s=3.0, lower_bound_s=3.0)
    metrics.add(turns, parallel=False, elapsed_s=4.0, lower_bound_s=6.0)
    figures = metrics.as_dict()
    assert (figures["total_parallel_steps"], figures["total_sequential_steps"]) == (1, 1)
    assert figures["avg_parallel_speedup"] == 4 / 3
    assert figures["elapsed_s"] == 7.0
    assert figures["efficiency"] == 6 / 7
    assert (figures["model_calls"], figures["tokens"], figures["cached_tokens"]) == (2, 20, 8)


def test_lower_bounds_of_runs_add_up_and_within_a_run_the_last_one_counts():
    metrics = EngineMetrics()
    for bounds_s in ((1.0, 2.0), (3.0,)):
        metrics.begin_run()
        for bound_s in bounds_s:
            metrics.add([outcome(0, 4)], parallel=True, elapsed_s=4.0, lower_bound_s=bound_s)
    assert metrics.as_dict()["lower_bound_s"] == 5.0
    assert metrics.as_dict()["efficiency"] == 5 / 12


def test_failures_and_usage_are_counted_and_an_unfinished_step_is_none():
    metrics = EngineMetrics()
    turns = [
        outcome(0, 1, usage=Usage(1, 10, 5)),
        outcome(0, 1, status="failed", usage=Usage(2, 1, 1, retries=1)),
        outcome(0, 1, queued_s=0.5, status="timed out"),
    ]
    metrics.add(turns, parallel=True, elapsed_s=1.0, lower_bound_s=1.0, complete=False)
    figures = metrics.as_dict()
    assert (figures["parallel_errors"], figures["parallel_timeouts"], figures["queued_s"]) == (1, 1, 0.5)
    assert (figures["model_calls"], figures["tokens"], figures["retries"]) == (3, 17, 1)
    assert figures["total_parallel_steps"] == 0


def test_the_stalled_neither_act_nor_queue():
    metrics = EngineMetrics()
    # Two people for 4 s: one acts all the time, the other queues for 1 s, acts for 1 s and waits for 2 s.
    metrics.add([outcome(0, 4), outcome(0, 2, queued_s=1.0)], parallel=True, elapsed_s=4.0, lower_bound_s=4.0)
    assert metrics.as_dict()["stall_share"] == 0.25


def test_latencies_of_turns_and_of_calls():
    metrics = EngineMetrics()
    turns = [outcome(0.0, float(number)) for number in range(1, 101)]
    metrics.add(turns, parallel=True, elapsed_s=100.0, lower_bound_s=100.0, calls_s=[0.5] * 99 + [7.0])
    figures = metrics.as_dict()
    for share, second in ((50, 50.0), (95, 95.0), (99, 99.0)):
        assert figures[f"p{share}_turn_latency_s"] == pytest.approx(second, rel=0.01)
    assert figures["p50_call_latency_s"] == figures["p99_call_latency_s"] == pytest.approx(0.5, rel=0.01)


@given(st.integers(1, 5), st.integers(0, 12))
def test_the_timeline_keeps_the_last_and_no_more(length, given_turns):
    metrics = EngineMetrics(length)
    turns = [outcome(float(number), number + 1.0) for number in range(given_turns)]
    for turn in turns:
        metrics.add([turn], parallel=True, elapsed_s=1.0, lower_bound_s=1.0)
    assert list(metrics.timeline()) == turns[-length:]
    metrics.add([outcome(0, 9)], parallel=True, elapsed_s=1.0, lower_bound_s=1.0, timeline=False)
    assert list(metrics.timeline()) == turns[-length:]
    metrics.reset()
    assert metrics.timeline() == ()
    assert metrics.as_dict() == EngineMetrics().as_dict()


def test_threads_lose_no_step():
    metrics = EngineMetrics()
    turns = [outcome(0, 1)]

    def add_many():
        for _ in range(500):
            metrics.add(turns, parallel=True, elapsed_s=1.0, lower_bound_s=1.0)

    threads = [threading.Thread(target=add_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.as_dict()["total_parallel_steps"] == 2000
    assert metrics.as_dict()["elapsed_s"] == 2000.0
