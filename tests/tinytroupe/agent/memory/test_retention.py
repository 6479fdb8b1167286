from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe.agent.memory import EpisodicMemory, Memory
from tinytroupe.agent.memory.retention import (
    STRATEGIES,
    EvictionQueue,
    Use,
    age,
    fifo,
    order_of_eviction,
    relevance,
    strategy_named,
)

NOON = datetime(2030, 1, 1, 12)


def entry(sequence: int, hours: float | None = None, importance: float = 0.5) -> Memory:
    timestamp = None if hours is None else NOON + timedelta(hours=hours)
    return Memory("stimulus", "user", f"event {sequence}", timestamp, importance, sequence)


def sequences(entries: list[Memory]) -> list[int]:
    return [one.sequence for one in entries]


def test_fifo_drops_in_the_order_of_storing() -> None:
    assert sequences(order_of_eviction([entry(2, 0), entry(0, 9), entry(1, 5)], fifo, 10)) == [0, 1, 2]


def test_age_drops_by_simulation_time_then_by_the_order_of_storing() -> None:
    entries = [entry(0, 5), entry(1, 1), entry(2, 1), entry(3, None), entry(4, 3)]
    assert sequences(order_of_eviction(entries, age, 10)) == [3, 1, 2, 4, 0]


def test_age_compares_times_with_and_without_zone() -> None:
    tokyo = timezone(timedelta(hours=9))
    early = Memory("stimulus", "user", "", NOON.replace(tzinfo=tokyo), sequence=1)  # 03:00 UTC
    assert sequences(order_of_eviction([entry(0, 0), early], age, 10)) == [1, 0]


def test_relevance_drops_the_unimportant_first() -> None:
    entries = [entry(0, importance=0.9), entry(1, importance=0.2), entry(2, importance=0.5)]
    assert sequences(order_of_eviction(entries, relevance, 1000)) == [1, 2, 0]


def test_relevance_of_equals_drops_the_oldest_first() -> None:
    assert sequences(order_of_eviction([entry(1), entry(0), entry(2)], relevance, 1000)) == [0, 1, 2]


def test_relevance_doubled_importance_is_worth_a_quarter_of_the_bound() -> None:
    twice = entry(0, importance=0.8)
    assert relevance(twice, Use(0, -1), 100) > relevance(entry(24, importance=0.4), Use(0, -1), 100)
    assert relevance(twice, Use(0, -1), 100) < relevance(entry(26, importance=0.4), Use(0, -1), 100)


def test_relevance_a_use_counts_and_refreshes() -> None:
    entries = [entry(0), entry(1), entry(2)]
    assert sequences(order_of_eviction(entries, relevance, 100, {0: Use(1, 3)})) == [1, 2, 0]


def test_relevance_counts_from_the_last_use() -> None:
    assert relevance(entry(0), Use(1, 50), 100) > relevance(entry(0), Use(1, 10), 100)
    assert relevance(entry(0), Use(1, 50), 100)[0] == relevance(entry(50), Use(1, -1), 100)[0]


def test_relevance_of_no_importance_at_all_is_finite() -> None:
    assert relevance(entry(0, importance=0.0), Use(0, -1), 1) == relevance(entry(0, importance=0.1), Use(0, -1), 1)


def test_an_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'relevance'"):
        strategy_named("relevence")
    with pytest.raises(ValueError, match="one of fifo, age, relevance"):
        strategy_named("")


@given(st.lists(st.one_of(st.integers(0, 20), st.none()), max_size=60))
def test_the_queue_gives_back_its_keys_in_order(pushes: list[int | None]) -> None:
    queue = EvictionQueue()
    inside: list[tuple[int, int]] = []
    for number, value in enumerate(pushes):
        if value is not None:
            queue.push((value, number))
            inside.append((value, number))
        elif inside:
            assert queue.pop() == min(inside)
            inside.remove(min(inside))
        assert len(queue) == len(inside)
    assert [queue.pop() for _ in range(len(queue))] == sorted(inside)
    with pytest.raises(IndexError):
        queue.pop()


@given(
    st.sampled_from(sorted(STRATEGIES)),
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.booleans()), max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_a_full_memory_drops_what_the_strategy_says(
    name: str, bound: int, events: list[tuple[int, float, bool]]
) -> None:
    """The memory's incremental bookkeeping agrees with sorting all its entries anew for every event."""
    memory = EpisodicMemory(max_size=bound, cleanup_strategy=name)
    expected: list[Memory] = []
    uses: dict[int, Use] = {}
    for number, (hours, importance, search) in enumerate(events):
        given_entry = Memory("stimulus", "user", f"word{hours}", NOON + timedelta(hours=hours), importance)
        expected.append(memory.store(given_entry))
        if len(expected) > bound:
            candidates = expected[:-1] if name == "relevance" else expected
            expected.remove(order_of_eviction(candidates, STRATEGIES[name], bound, uses)[0])
        assert memory.retrieve_all() == expected
        if search:
            for found in memory.retrieve_relevant("word1 word2 word3", top_k=2):
                uses[found.sequence] = Use(uses.get(found.sequence, Use(0, -1)).times + 1, number + 1)
