from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.agent.memory import (
    ConsolidationError,
    ConsolidationMetrics,
    EpisodicMemory,
    Memory,
    consolidate,
    should_consolidate,
)
from tinytroupe.agent.memory.consolidation import (
    SCHEMA,
    Batch,
    Consolidation,
    build_request,
    parse,
    plan,
    updated,
)
from tinytroupe.config import config_manager
from tinytroupe.llm.model import ChatReply, ChatRequest, ModelError

NOON = datetime(2030, 1, 1, 12)
GOOD = json.dumps({"summary": "Much happened.", "key_facts": ["Lisa owes Oscar 5 €."]})


def event(text: str = "hello", **fields: Any) -> Memory:
    return Memory("stimulus", "user", text, **fields)


def filled(size: int, max_size: int | None = None) -> EpisodicMemory:
    memory = EpisodicMemory(max_size=max_size, cleanup_strategy="fifo")
    memory.store_all(event(str(number)) for number in range(size))
    memory.commit_episode()
    return memory


class Model:
    """Answers at once, or when told to."""

    def __init__(self, reply: str = GOOD) -> None:
        self.reply = reply
        self.requests: list[ChatRequest] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def __call__(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        number = len(self.requests)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None and number > 1:
            raise self.error
        return ChatReply(self.reply)


def forced(memory: EpisodicMemory, model: Model | None = None, **arguments: Any) -> Consolidation | None:
    return asyncio.run(consolidate(memory, model or Model(), force=True, **arguments))


# ------------------------------------------------------------------------------------------------------------ when


@pytest.mark.parametrize(
    ("total", "max_size", "due"),
    [(499, 1000, False), (500, 1000, True), (500, None, True), (99, 100, False), (100, 100, True), (0, None, False)],
)
def test_it_is_due_at_the_threshold_or_when_full(total: int, max_size: int | None, due: bool) -> None:
    assert should_consolidate({"total_size": total, "max_size": max_size}, 500) is due


def test_one_entry_is_never_due() -> None:
    assert not should_consolidate({"total_size": 1, "max_size": 1}, 1)


def test_an_unforced_run_obeys_the_settings() -> None:
    memory, model = filled(10), Model()

    async def run(**arguments: Any) -> Consolidation | None:
        return await consolidate(memory, model, **arguments)

    with config_manager.override(auto_consolidation_threshold=11):
        assert asyncio.run(run()) is None
    with config_manager.override(auto_consolidate_on_threshold=False, auto_consolidation_threshold=2):
        assert asyncio.run(run()) is None
        assert asyncio.run(run(threshold=5)) is None
    assert (memory.count(), model.requests) == (10, [])
    with config_manager.override(auto_consolidate_on_threshold=True, auto_consolidation_threshold=10):
        done = asyncio.run(run())
    assert done is not None
    assert (done.automatic, memory.count()) == (True, 5)


# ------------------------------------------------------------------------------------------------------------ what


@given(st.integers(0, 700), st.integers(4, 50), st.sampled_from([1, 10, 1000, 60_000]))
def test_a_plan_takes_the_oldest_and_leaves_half_at_most(size: int, batch_size: int, max_characters: int) -> None:
    entries = [event("x" * (number % 30), sequence=number) for number in range(size)]
    batches = plan(entries, batch_size=batch_size, max_characters=max_characters)
    taken = [entry for batch in batches for entry in batch.entries]
    assert taken == entries[: len(taken)]
    assert all(2 <= len(batch.entries) <= batch_size for batch in batches)
    left = size - len(taken) + len(batches)
    if size < 2:
        assert batches == ()
    else:
        assert left <= size // 2
        assert left >= size // 2 - batch_size, "and not much less"


def test_a_plan_breaks_long_texts_over_several_requests() -> None:
    entries = [event("x" * 10_000) for _ in range(100)]
    batches = plan(entries, max_characters=20_000)
    assert {len(batch.entries) for batch in batches[:-1]} == {10}
    assert all(len(str(build_request(batch).messages)) < 25_000 for batch in batches)


def test_a_batch_too_small_to_halve_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 4"):
        plan([event()] * 10, batch_size=3)


def test_the_request_shows_the_memories_in_order_and_asks_for_the_schema() -> None:
    batch = Batch((event({"stimuli": [{"content": "hi\nthere"}]}, timestamp=NOON), event("bye", count=3)))  # type: ignore[arg-type]
    request = build_request(batch, person="Lisa")
    assert batch.count == 4
    assert request.schema is SCHEMA
    assert SCHEMA.name == "consolidation"
    assert [message["role"] for message in request.messages] == ["system", "user"]
    assert request.messages[1]["content"] == (
        "Memories of Lisa, oldest first:\n- 2030-01-01 12:00 stimulus: hi there\n- stimulus: bye"
    )
    assert request.messages[0] == build_request(Batch((event(),))).messages[0], "the same prefix for all"


# ---------------------------------------------------------------------------------------------------------- replies


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here it is: {GOOD} I hope it helps.",
        GOOD[:-1],
        '{"summary": "Much happened.", "key_facts": ["Lisa owes Oscar 5 €.",],}',
    ],
)
def test_replies_are_read_even_if_damaged(reply: str) -> None:
    assert parse(reply) == {"summary": "Much happened.", "key_facts": ["Lisa owes Oscar 5 €."]}


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "sorry",
        "[]",
        "{}",
        "null",
        '{"summary": ""}',
        '{"summary": 7}',
        '{"summary": "a", "key_facts": "b"}',
        "[" * 99999,
    ],
)
def test_replies_without_a_summary_are_errors_that_show_them(reply: str) -> None:
    with pytest.raises(ConsolidationError) as caught:
        parse(reply)
    assert reply[:50] in str(caught.value)
    assert len(str(caught.value)) < 500


def test_replies_are_bounded() -> None:
    with pytest.raises(ConsolidationError, match="too long"):
        parse("x" * 2_000_000)
    content = parse(json.dumps({"summary": "s" * 20_000, "key_facts": ["f" * 2000, "", None, 7] + ["g"] * 100}))
    assert len(content["summary"]) == 8_000
    assert (len(content["key_facts"]), len(content["key_facts"][0]), content["key_facts"][1]) == (50, 500, "7")
    assert parse('{"summary": "a"}')["key_facts"] == []


# -------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("size", [2, 3, 4, 5, 9, 10, 201, 1000])
def test_a_forced_run_at_least_halves_the_entries(size: int) -> None:
    memory = filled(size)
    done = forced(memory)
    assert done is not None
    assert len(memory.memory) <= size // 2
    assert (done.entries_before, done.entries_after) == (size, memory.count())
    assert sum(entry.count for entry in memory.memory) == size
    assert memory.memory[0].kind == "consolidated"
    assert memory.memory[0].content == {"summary": "Much happened.", "key_facts": ["Lisa owes Oscar 5 €."]}


def test_a_forced_run_takes_the_current_episode_in() -> None:
    memory = filled(10)
    memory.store_all(event("new") for _ in range(4))
    assert forced(memory) is not None
    assert (len(memory.memory), memory.count()) == (3, 7)
    buffered = EpisodicMemory(max_size=None)
    buffered.store_all(event() for _ in range(10))
    assert forced(buffered) is not None
    assert (len(buffered.memory), buffered.count()) == (0, 5)


@pytest.mark.parametrize("size", [0, 1])
def test_there_may_be_nothing_to_summarise(size: int) -> None:
    memory, model = filled(size), Model()
    assert forced(memory, model) is None
    assert (memory.count(), model.requests) == (size, [])


def test_summaries_are_summarised_in_turn_and_still_count_everything() -> None:
    memory = filled(64)
    while memory.count() > 1:
        assert forced(memory) is not None
    assert memory.retrieve_all()[0].count == 64


def test_a_summary_is_as_important_and_as_late_as_its_sources() -> None:
    memory = EpisodicMemory(max_size=None)
    memory.store_all(
        event(timestamp=NOON + timedelta(hours=hours), importance=hours / 10, step=hours) for hours in range(4)
    )
    done = forced(memory)
    assert done is not None
    (summary,) = done.summaries
    assert (summary.importance, summary.timestamp, summary.step) == (0.2, NOON + timedelta(hours=2), 2)
    assert (summary.count, summary.sequence, done.memories_consolidated) == (3, 2, 3)


def test_many_entries_are_summarised_in_batches_at_the_same_time() -> None:
    memory, model = filled(100), Model()

    async def scenario() -> Consolidation | None:
        model.gate = asyncio.Event()
        task = asyncio.create_task(consolidate(memory, model, force=True, batch_size=10, person="Lisa"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(model.requests) == 6
        assert memory.count() == 100, "nothing goes before all summaries are there"
        model.gate.set()
        return await task

    done = asyncio.run(scenario())
    assert done is not None
    assert (len(done.summaries), memory.count()) == (6, 50)
    assert [entry.sequence for entry in memory.retrieve_all()] == [9, 19, 29, 39, 49, *range(55, 100)]


@pytest.mark.parametrize("reply", [GOOD, "sorry"])
def test_a_failure_leaves_the_memory_untouched(reply: str) -> None:
    memory, model = filled(100), Model(reply)
    model.error = ModelError("overloaded", transient=True) if reply == GOOD else None
    before = memory.retrieve_all()
    with pytest.raises((ModelError, ConsolidationError)):
        forced(memory, model, batch_size=10)
    assert memory.retrieve_all() == before
    assert memory.get_memory_stats()["consolidated"] == 0
    assert forced(memory) is not None, "and the next run is free to start"


def test_the_other_batches_are_cancelled_where_one_fails() -> None:
    running = 0

    async def complete(request: ChatRequest) -> ChatReply:
        nonlocal running
        running += 1
        try:
            if running == 2:
                raise ModelError("overloaded")
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            running -= 1

    with pytest.raises(ModelError, match="overloaded"):
        asyncio.run(consolidate(filled(100), complete, force=True, batch_size=10))
    assert running == 0


def test_what_is_stored_during_the_call_is_not_lost() -> None:
    memory, model = filled(10), Model()

    async def scenario() -> None:
        model.gate = asyncio.Event()
        task = asyncio.create_task(consolidate(memory, model, force=True))
        for _ in range(5):
            await asyncio.sleep(0)
        memory.store_all(event(f"new {number}") for number in range(3))
        assert await consolidate(memory, model, force=True) is None, "one run at a time"
        memory.commit_episode()
        model.gate.set()
        await task

    asyncio.run(scenario())
    assert [str(entry.content) for entry in memory.memory][1:] == ["6", "7", "8", "9", "new 0", "new 1", "new 2"]
    assert memory.memory[0].count == 6
    assert len(model.requests) == 1


def test_what_is_evicted_during_the_call_is_counted_once() -> None:
    memory, model = filled(10, max_size=10), Model()

    async def scenario(events: int) -> Consolidation | None:
        model.gate = asyncio.Event()
        task = asyncio.create_task(consolidate(memory, model, force=True))
        for _ in range(5):
            await asyncio.sleep(0)
        memory.store_all(event("new") for _ in range(events))
        model.gate.set()
        return await task

    done = asyncio.run(scenario(2))
    assert done is not None
    assert [summary.count for summary in done.summaries] == [4]
    gone = asyncio.run(scenario(10))
    assert gone is not None
    assert (gone.summaries, gone.memories_consolidated) == ((), 0)
    stats = memory.get_memory_stats()
    assert stats["stored"] == stats["evicted"] + sum(entry.count for entry in memory.retrieve_all()) == 22


def test_cancelling_a_run_leaves_the_memory_untouched() -> None:
    memory, model = filled(10), Model()

    async def scenario() -> None:
        model.gate = asyncio.Event()
        task = asyncio.create_task(consolidate(memory, model, force=True))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        model.gate = None
        assert memory.count() == 10
        assert await consolidate(memory, model, force=True) is not None

    asyncio.run(scenario())


# ----------------------------------------------------------------------------------------------------------- metrics


def test_metrics_add_up() -> None:
    metrics = ConsolidationMetrics()
    assert metrics.as_dict() == {
        "total": 0,
        "automatic": 0,
        "manual": 0,
        "memories_consolidated": 0,
        "summaries": 0,
        "average_size": 0.0,
        "compression_ratio": 0.0,
    }
    memory = filled(100)
    first = forced(memory)
    assert first is not None
    metrics = updated(metrics, first)
    assert (metrics.total, metrics.manual, metrics.automatic) == (1, 1, 0)
    assert (metrics.memories_consolidated, metrics.average_size, metrics.compression_ratio) == (51, 51.0, 0.5)
    second = asyncio.run(consolidate(memory, Model(), threshold=10))
    assert second is not None
    metrics = updated(metrics, second)
    assert (metrics.total, metrics.manual, metrics.automatic, metrics.summaries) == (2, 1, 1, 2)
    assert metrics.memories_consolidated == 51 + 26
    assert metrics.compression_ratio == 1 - (50 + 25) / (100 + 50)
