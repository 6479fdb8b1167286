from __future__ import annotations

import copy
import json
import logging
import pickle
import threading
import tracemalloc
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tinytroupe.agent.memory import OMISSION, EpisodicMemory, Memory, plain_text
from tinytroupe.agent.memory.entry import moment
from tinytroupe.config import config_manager

NOON = datetime(2030, 1, 1, 12)


def event(text: str = "hello", kind: str = "stimulus", **fields: Any) -> Memory:
    return Memory(kind, "user" if kind == "stimulus" else "assistant", text, **fields)


def filled(size: int, **arguments: Any) -> EpisodicMemory:
    memory = EpisodicMemory(**{"max_size": None, "cleanup_strategy": "fifo", **arguments})
    memory.store_all(event(str(number)) for number in range(size))
    return memory


def texts(entries: Any) -> list[str]:
    return [entry.content for entry in entries]


# ------------------------------------------------------------------------------------------------------------ entries


def test_an_entry_reads_like_the_dictionary_of_old() -> None:
    entry = Memory("stimulus", "user", {"stimuli": []}, NOON, step=3)
    assert entry["role"] == "user"
    assert entry["type"] == entry["kind"] == entry.kind
    assert entry["simulation_timestamp"] == "2030-01-01T12:00:00"
    assert entry["timestamp"] == NOON
    assert entry.get("step") == 3
    assert entry.get("nothing", 7) == 7
    assert "content" in entry
    assert "nothing" not in entry
    assert dict(entry) == {
        "role": "user",
        "content": {"stimuli": []},
        "type": "stimulus",
        "simulation_timestamp": "2030-01-01T12:00:00",
    }
    with pytest.raises(KeyError, match="has no 'nothing'; it has role, content"):
        entry["nothing"]


def test_an_entry_never_changes_but_content_may_be_unhashable() -> None:
    entry = event()
    with pytest.raises(AttributeError):
        entry.content = "other"  # type: ignore[misc]
    assert len({Memory("a", "user", {"x": 1}), Memory("a", "user", {"x": 1})}) == 1


@pytest.mark.parametrize("importance", [-0.01, 1.01, float("nan")])
def test_importance_lies_between_0_and_1(importance: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        event(importance=importance)


def test_an_entry_stands_for_one_event_at_least() -> None:
    with pytest.raises(ValueError, match="at least one event"):
        event(count=0)


def test_dictionaries_become_entries() -> None:
    memory = EpisodicMemory(max_size=None)
    stored = memory.store({"role": "user", "content": "hi", "type": "stimulus", "simulation_timestamp": "2030-01-01"})
    assert stored.timestamp == datetime(2030, 1, 1)
    assert memory.store({"role": "assistant", "content": "ho"}).kind == "action"
    assert memory.store({"content": "ho", "simulation_timestamp": "2030-01-01T00:00:00Z"}).kind == "stimulus"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"role": "user"}, "no 'content'"),
        ({"content": "", "rol": "user"}, "unknown 'rol'"),
        ({"content": "", "timestamp": "noon"}, "ISO 8601, got 'noon'"),
        ({"content": "", "timestamp": 12}, "datetime, ISO 8601 text or None, got int"),
        ({"content": "", "importance": 2}, "between 0 and 1"),
    ],
)
def test_malformed_dictionaries_are_refused(value: dict[str, Any], message: str) -> None:
    memory = EpisodicMemory(max_size=None)
    with pytest.raises(ValueError, match=message):
        memory.store_all([event(), value])
    assert memory.count() == 0, "all or none"


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match="got str"):
        EpisodicMemory(max_size=None).store("hello")  # type: ignore[arg-type]


def test_content_is_shared_not_copied() -> None:
    own = {"whatever": ["a program", "keeps"]}
    for content in (own, {"stimuli": [{"type": "CONVERSATION", "content": "hello", "source": "Bo"}]}):
        shared = Memory("stimulus", "user", content)
        stored = [EpisodicMemory(max_size=None).store(shared) for _ in range(3)]
        assert all(entry.event is shared.event and entry.content == content for entry in stored)
    assert Memory("stimulus", "user", own).content is own


def test_plain_text_gathers_the_words_and_is_bounded() -> None:
    content = {"stimuli": [{"type": "CONVERSATION", "content": "hi", "source": None, "loud": True, "n": 3}]}
    assert plain_text(content) == "CONVERSATION hi 3"
    assert plain_text("x" * 50, 10) == "x" * 10
    assert plain_text(["x" * 50] * 50, 100) == f"{'x' * 50} {'x' * 49}"
    deep: Any = "bottom"
    for _ in range(5000):
        deep = [deep]
    assert plain_text(deep) == ""


# ------------------------------------------------------------------------------------------------------------- buffer


def test_events_wait_in_the_buffer_until_the_episode_is_committed() -> None:
    memory = filled(3)
    assert len(memory.memory) == 0
    assert texts(memory.get_current_episode()) == texts(memory.episodic_buffer) == ["0", "1", "2"]
    memory.commit_episode()
    assert texts(memory.memory) == ["0", "1", "2"]
    assert memory.get_current_episode() == []
    memory.store(event("3"))
    assert texts(memory.retrieve_all()) == ["0", "1", "2", "3"]
    assert (len(memory.memory), len(memory), memory.count()) == (3, 4, 4)


def test_the_current_episode_by_kinds() -> None:
    memory = filled(1)
    memory.store(event("b", "action"))
    assert texts(memory.get_current_episode(item_types=["action"])) == ["b"]


def test_the_view_of_committed_entries_is_live_and_read_only() -> None:
    memory = filled(5)
    view = memory.memory
    memory.commit_episode()
    assert len(view) == 5
    assert view[0].content == "0"
    assert view[-1].content == "4"
    assert texts(view[1:3]) == ["1", "2"]
    assert view == memory.retrieve_all() == list(view)
    assert view != []
    assert view[2] in view
    assert repr(view).startswith("[Memory(")
    with pytest.raises(IndexError):
        view[5]
    with pytest.raises(AttributeError):
        view.append(event())


# ------------------------------------------------------------------------------------------------------------- bounds


def test_the_buffer_counts_toward_the_bound() -> None:
    memory = EpisodicMemory(max_size=100, cleanup_strategy="fifo")
    for number in range(10_000):
        memory.store(event(str(number)))
        assert memory.count() <= 100
    assert texts(memory.retrieve_all()) == [str(number) for number in range(9_900, 10_000)]


def test_a_bound_of_one() -> None:
    for strategy in ("fifo", "age", "relevance"):
        memory = filled(3, max_size=1, cleanup_strategy=strategy)
        assert texts(memory.retrieve_all()) == ["2"]


@pytest.mark.parametrize("unbounded", [0, None])
def test_zero_and_none_mean_unbounded(unbounded: int | None) -> None:
    memory = filled(2000, max_size=unbounded)
    stats = memory.get_memory_stats()
    assert (memory.count(), stats["max_size"], stats["usage_ratio"], stats["is_bounded"]) == (2000, None, 0.0, False)
    assert not stats["approaching_limit"]
    memory.max_size = 10
    memory.max_size = unbounded
    memory.store(event())
    assert memory.count() == 11


@pytest.mark.parametrize("strategy", ["fifo", "age", "relevance"])
def test_lowering_the_bound_takes_effect_at_once(strategy: str) -> None:
    memory = filled(10, max_size=10, cleanup_strategy=strategy)
    memory.commit_episode()
    memory.store(event("10"))
    memory.max_size = 4
    assert texts(memory.retrieve_all()) == ["7", "8", "9", "10"]
    assert (len(memory.memory), memory.get_memory_stats()["buffer_size"]) == (3, 1)
    memory.max_size = 1
    assert texts(memory.retrieve_all()) == ["10"]
    assert len(memory.memory) == 0


@pytest.mark.parametrize("size", [-1, 1.5, True, "10"])
def test_a_bound_is_a_whole_number(size: Any) -> None:
    memory = filled(2)
    for refused in (lambda: EpisodicMemory(max_size=size), lambda: setattr(memory, "max_size", size)):
        with pytest.raises(ValueError, match="max_size must be a whole number"):
            refused()
    assert memory.count() == 2


def test_lengths_and_strategies_are_checked() -> None:
    with pytest.raises(ValueError, match="fixed_prefix_length"):
        EpisodicMemory(fixed_prefix_length=-1)
    with pytest.raises(ValueError, match="lookback_length"):
        EpisodicMemory(lookback_length=-1)
    with pytest.raises(ValueError, match="did you mean 'fifo'"):
        EpisodicMemory(cleanup_strategy="fifoo")


def test_what_is_not_given_follows_the_settings_at_once() -> None:
    with config_manager.override(max_episodic_memory_size=5, memory_cleanup_strategy="fifo"):
        memory = EpisodicMemory()
        memory.store_all(event(str(number)) for number in range(7))
        memory.commit_episode()
        assert (memory.max_size, memory.cleanup_strategy) == (5, "fifo")
        config_manager.set("max_episodic_memory_size", 2)
        assert len(memory.memory) == 2
        config_manager.update_multiple({"memory_cleanup_strategy": "age", "max_episodic_memory_size": 0})
        assert (memory.max_size, memory.cleanup_strategy) == (None, "age")
        memory.max_size = 3
        config_manager.set("max_episodic_memory_size", 1)
        assert memory.max_size == 3


def test_age_drops_the_earliest_even_if_it_has_just_come() -> None:
    memory = EpisodicMemory(max_size=2, cleanup_strategy="age")
    for hours in (5, 6, 1, 7, 6):
        memory.store(event(str(hours), timestamp=NOON + timedelta(hours=hours)))
    assert texts(memory.retrieve_all()) == ["7", "6"]


def test_relevance_never_drops_what_has_just_come() -> None:
    memory = EpisodicMemory(max_size=3, cleanup_strategy="relevance")
    memory.store_all(event(f"great {number}", importance=1.0) for number in range(3))
    for number in range(5):
        memory.store(event(f"small {number}", importance=0.0))
        assert memory.retrieve_all()[-1].content == f"small {number}"


def test_relevance_keeps_what_was_found_useful() -> None:
    memory = filled(5, max_size=4, cleanup_strategy="relevance")
    assert texts(memory.retrieve_relevant("1")) == ["1"]
    memory.store(event("5"))
    assert texts(memory.retrieve_all()) == ["1", "3", "4", "5"]


def test_a_summary_in_a_full_memory_goes_in_its_turn() -> None:
    memory = filled(5, max_size=4, cleanup_strategy="relevance")
    memory.replace(memory.retrieve_all()[1:3], event("summary", importance=1.0))
    memory.store_all(event(f"new {number}") for number in range(2))
    assert texts(memory.retrieve_all()) == ["summary", "4", "new 0", "new 1"]
    memory.store_all(event(f"newer {number}") for number in range(4))
    assert texts(memory.retrieve_all()) == [f"newer {number}" for number in range(4)]


def test_another_bound_means_another_half_life() -> None:
    memory = EpisodicMemory(max_size=4, cleanup_strategy="relevance")
    memory.store(event("great", importance=1.0))
    memory.store_all(event(str(number)) for number in range(3))
    memory.store(event("3"))
    assert texts(memory.retrieve_all()) == ["0", "1", "2", "3"], (
        "at a half-life of 1, twice as great is one event newer"
    )
    memory.max_size = 400
    memory.store(event("great", importance=1.0))
    memory.store_all(event(str(number)) for number in range(460))
    assert "great" in texts(memory.retrieve_all()), "at a half-life of 100, a hundred"


@pytest.mark.parametrize("strategy", ["relevance", "fifo"])
def test_the_bookkeeping_of_eviction_is_bounded(strategy: str) -> None:
    memory = filled(20, max_size=10, cleanup_strategy="relevance")
    memory.cleanup_strategy = strategy
    for number in range(1000):
        memory.store(event(f"word {number}"))
        memory.retrieve_relevant("word", 10)
    assert len(memory._shelf._queue or ()) < 150
    assert len(memory._shelf.uses) <= 10


def test_changing_the_strategy_of_a_full_memory() -> None:
    memory = EpisodicMemory(max_size=3, cleanup_strategy="fifo")
    memory.store_all(event(str(hours), timestamp=NOON + timedelta(hours=hours)) for hours in (9, 8, 7, 6))
    memory.cleanup_strategy = "age"
    memory.store(event("10", timestamp=NOON + timedelta(hours=10)))
    assert texts(memory.retrieve_all()) == ["8", "7", "10"]
    memory.cleanup_strategy = "fifo"
    memory.store(event("11"))
    assert texts(memory.retrieve_all()) == ["7", "10", "11"]


# ------------------------------------------------------------------------------------------------------------ warning


def test_one_warning_when_the_threshold_is_crossed_again_only_from_below(caplog: pytest.LogCaptureFixture) -> None:
    memory = EpisodicMemory(max_size=10, cleanup_strategy="fifo", owner="Lisa")

    def warnings() -> int:
        return sum(record.levelno == logging.WARNING for record in caplog.records if record.name == "tinytroupe.memory")

    with caplog.at_level(logging.WARNING, "tinytroupe.memory"), config_manager.override(memory_warning_threshold=0.8):
        memory.store_all(event() for _ in range(7))
        assert (warnings(), memory.get_memory_stats()["approaching_limit"]) == (0, False)
        memory.store(event())
        assert (warnings(), memory.get_memory_stats()["approaching_limit"]) == (1, True)
        assert "memory of Lisa holds 8 of at most 10 entries" in caplog.text
        memory.store_all(event() for _ in range(20))
        assert warnings() == 1
        memory.clear()
        memory.store_all(event() for _ in range(8))
        assert warnings() == 2
        memory.max_size = 100
        memory.max_size = 9
        assert warnings() == 3


def test_no_warning_without_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    filled(2000)
    assert caplog.records == []


# ---------------------------------------------------------------------------------------------------------- retrieval


def test_retrieval_notes_what_it_leaves_out() -> None:
    memory = filled(10)
    assert texts(memory.retrieve(2, 3)) == ["0", "1", OMISSION.content, "7", "8", "9"]
    assert texts(memory.retrieve(2, 3, include_omission_info=False)) == ["0", "1", "7", "8", "9"]
    assert texts(memory.retrieve_first(2)) == ["0", "1", OMISSION.content]
    assert texts(memory.retrieve_last(2)) == [OMISSION.content, "8", "9"]
    assert memory.retrieve(2, 3)[2].kind == "omission"
    assert EpisodicMemory.MEMORY_BLOCK_OMISSION_INFO is OMISSION


def test_retrieval_of_all_repeats_and_notes_nothing() -> None:
    memory = filled(5)
    everything = [str(number) for number in range(5)]
    for entries in (
        memory.retrieve(),
        memory.retrieve(2, 3),
        memory.retrieve(5, 5),
        memory.retrieve_first(5),
        memory.retrieve_last(9),
        memory.retrieve_last(),
        memory.retrieve_all(),
        memory.retrieve_recent(),
    ):
        assert texts(entries) == everything


def test_retrieval_of_nothing() -> None:
    assert EpisodicMemory(max_size=None).retrieve(2, 3) == []
    assert filled(3).retrieve(0, 0) == [OMISSION]
    assert filled(3).retrieve_last(0, include_omission_info=False) == []
    with pytest.raises(ValueError, match="first_n"):
        filled(3).retrieve(-1, 0)


def test_retrieval_by_kind() -> None:
    memory = EpisodicMemory(max_size=None)
    memory.store_all(event(str(number), "action" if number % 2 else "stimulus") for number in range(10))
    assert texts(memory.retrieve_all("action")) == ["1", "3", "5", "7", "9"]
    assert texts(memory.retrieve(1, 1, item_type="action")) == ["1", OMISSION.content, "9"]
    assert texts(memory.retrieve_first(2, item_type="stimulus")) == ["0", "2", OMISSION.content]
    assert memory.retrieve_recent(item_type="other") == []


def test_recent_is_a_fixed_prefix_and_a_look_back() -> None:
    memory = filled(10, fixed_prefix_length=2, lookback_length=3)
    assert texts(memory.retrieve_recent()) == ["0", "1", OMISSION.content, "7", "8", "9"]


def test_the_relevant_are_found_by_their_words_also_after_changes() -> None:
    memory = EpisodicMemory(max_size=4, cleanup_strategy="fifo")
    memory.store_all(map(event, ["The cat sleeps", "A dog barks", "Prices rise"]))
    assert texts(memory.retrieve_relevant("Does the DOG sleep?")) == ["A dog barks", "The cat sleeps"]
    assert texts(memory.retrieve_relevant("the cat", top_k=1)) == ["The cat sleeps"]
    assert memory.retrieve_relevant("elephant") == memory.retrieve_relevant("") == []
    memory.store_all(map(event, ["The cat wakes", "Rain"]))
    assert texts(memory.retrieve_relevant("cat")) == ["The cat wakes"]
    memory.replace(memory.retrieve_all()[:2], event("A cat summary"))
    assert set(texts(memory.retrieve_relevant("cat"))) == {"The cat wakes", "A cat summary"}
    with pytest.raises(ValueError, match="top_k"):
        memory.retrieve_relevant("cat", -1)


# -------------------------------------------------------------------------------------------------- clearing, replacing


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ({}, []),
        ({"max_prefix_to_clear": 2}, ["2", "3", "4"]),
        ({"max_suffix_to_clear": 2}, ["0", "1", "2"]),
        ({"max_prefix_to_clear": 1, "max_suffix_to_clear": 1}, ["1", "2", "3"]),
        ({"max_prefix_to_clear": 4, "max_suffix_to_clear": 4}, []),
        ({"max_suffix_to_clear": 0}, ["0", "1", "2", "3", "4"]),
        ({"max_prefix_to_clear": 99}, []),
    ],
)
def test_clearing_takes_the_buffer_and_what_is_named(arguments: dict[str, int], left: list[str]) -> None:
    memory = filled(5)
    memory.commit_episode()
    memory.store(event("buffered"))
    memory.clear(**arguments)
    assert texts(memory.retrieve_all()) == texts(memory.memory) == left
    stats = memory.get_memory_stats()
    assert (stats["cleared"], stats["stored"], stats["buffer_size"]) == (6 - len(left), 6, 0)
    assert memory.store(event()).sequence == 6


def test_clearing_a_negative_number_is_refused() -> None:
    memory = filled(5)
    with pytest.raises(ValueError, match="max_suffix_to_clear"):
        memory.clear(max_suffix_to_clear=-1)
    assert memory.count() == 5


def test_a_summary_takes_the_place_of_its_sources() -> None:
    memory = filled(6)
    memory.commit_episode()
    memory.store(event("6", timestamp=NOON))
    sources = memory.retrieve_all()[1:4]
    summary = memory.replace(sources, event("summary", "consolidated"))
    assert summary is not None
    assert (summary.count, summary.sequence) == (3, 3)
    assert texts(memory.retrieve_all()) == ["0", "summary", "4", "5", "6"]
    assert len(memory.memory) == 4
    both = memory.replace(memory.retrieve_all()[1:], event("all", "consolidated"))
    assert both is not None
    assert (both.count, both.timestamp) == (6, NOON)
    assert (len(memory.memory), texts(memory.get_current_episode())) == (1, ["all"])
    assert memory.get_memory_stats()["consolidated"] == 9


def test_a_summary_does_not_count_what_has_gone_meanwhile() -> None:
    memory = filled(3, max_size=3)
    sources = memory.retrieve_all()
    memory.store(event("3"))
    summary = memory.replace(sources, event("summary"))
    assert summary is not None
    assert summary.count == 2
    assert memory.replace(sources, event("again")) is None, "its sources are gone, the summary is no source"
    memory.clear()
    assert memory.replace([summary], event("late")) is None
    assert memory.count() == 0


# ------------------------------------------------------------------------------------------------- state, threads, size


def test_the_state_survives_json_and_pickle() -> None:
    memory = EpisodicMemory(max_size=4, cleanup_strategy="relevance", owner="Lisa")
    memory.store_all(event(f"word{number}", timestamp=NOON, importance=number / 10) for number in range(6))
    memory.commit_episode()
    memory.store(event("word last"))
    memory.retrieve_relevant("word")
    restored = EpisodicMemory(max_size=4, cleanup_strategy="relevance")
    restored.decode_state(json.loads(json.dumps(memory.encode_state())))
    for other in (restored, pickle.loads(pickle.dumps(memory)), copy.deepcopy(memory)):
        assert other.retrieve_all() == memory.retrieve_all()
        assert other.get_memory_stats() == memory.get_memory_stats()
        other.store(event("next"))
        assert other.count() == 4
    assert memory.count() == 4
    assert memory.retrieve_all()[-1].content == "word last"
    restored.max_size = 2
    restored.cleanup_strategy = "fifo"
    restored.decode_state(memory.encode_state())
    assert restored.count() == 2


def test_a_foreign_state_is_refused() -> None:
    memory = filled(2)
    good = memory.encode_state()
    for bad in ({}, {**good, "counts": {"lost": 1}}, {**good, "entries": [{"content": ""}]}, {**good, "next": 1}):
        with pytest.raises(ValueError, match="memory"):
            memory.decode_state(bad)
    assert memory.count() == 2


def test_it_tells_what_it_is() -> None:
    assert repr(filled(2, owner="Lisa", max_size=5)) == "<EpisodicMemory of Lisa: 2 of 5>"
    assert bool(filled(0)) is True


def test_threads_lose_nothing() -> None:
    memory = EpisodicMemory(max_size=50, cleanup_strategy="age")
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in range(300):
                memory.store(event(f"{seed} {number}", timestamp=NOON + timedelta(minutes=(seed * number) % 7)))
                if number % 20 == seed:
                    memory.commit_episode()
                if number % 50 == seed:
                    memory.replace(memory.retrieve_all()[:5], event("summary"))
                with memory.held():  # or another thread's summary may shorten it between the two looks
                    assert len(memory.memory) <= memory.count() <= 50
                assert len(memory.retrieve_recent()) <= 121
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    stats = memory.get_memory_stats()
    assert stats["stored"] == 1200 == stats["evicted"] + sum(entry.count for entry in memory.retrieve_all())


def test_an_entry_costs_less_than_500_bytes_beyond_its_content_and_a_full_memory_stays_flat() -> None:
    content = {"stimuli": ["hello"]}
    memories = [EpisodicMemory(max_size=500, cleanup_strategy=name) for name in ("fifo", "age", "relevance")]
    tracemalloc.start()
    try:

        def live(events: int) -> int:
            for number in range(events):
                for memory in memories:
                    memory.store(Memory("stimulus", "user", content, NOON, importance=number % 10 / 10))
            return tracemalloc.get_traced_memory()[0]

        start = tracemalloc.get_traced_memory()[0]
        full = live(1500)
        assert (full - start) / 1500 < 500
        assert live(3000) - full < 0.5 * (full - start)
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------------------------------------------- invariants


class AnyLife(RuleBasedStateMachine):
    """Whatever happens, in whatever order."""

    @initialize(bound=st.sampled_from([None, 1, 2, 5, 12]), strategy=st.sampled_from(["fifo", "age", "relevance"]))
    def begin(self, bound: int | None, strategy: str) -> None:
        self.memory = EpisodicMemory(max_size=bound, cleanup_strategy=strategy)
        self.bound = bound
        self.stored = 0
        self.before: list[Memory] = []

    def lost(self) -> list[Memory]:
        """Return what is no longer there, and take note of what is."""
        now = self.memory.retrieve_all()
        kept = {id(entry) for entry in now}
        gone = [entry for entry in self.before if id(entry) not in kept]
        self.before = now
        return gone

    def check_eviction(self, candidates: list[Memory]) -> None:
        """Nothing newer was dropped before something older."""
        self.before = candidates
        gone = self.lost()
        strategy = self.memory.cleanup_strategy
        if not gone or strategy == "relevance":
            return
        for kept in self.before:
            for lost in gone:
                if strategy == "fifo":
                    assert lost.sequence < kept.sequence
                else:
                    assert (moment(lost.timestamp), lost.sequence) < (moment(kept.timestamp), kept.sequence)

    @rule(hours=st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=8), importance=st.sampled_from([0, 0.5, 1]))
    def store(self, hours: list[int | None], importance: float) -> None:
        for value in hours:
            timestamp = None if value is None else NOON + timedelta(hours=value)
            stored = self.memory.store(event(f"event {self.stored}", timestamp=timestamp, importance=importance))
            self.stored += 1
            self.check_eviction([*self.before, stored])

    @rule()
    def commit(self) -> None:
        self.memory.commit_episode()
        assert self.memory.get_current_episode() == []
        assert self.memory.memory == self.before

    @rule(bound=st.sampled_from([None, 0, 1, 3, 8, 20]))
    def rebound(self, bound: int | None) -> None:
        self.memory.max_size = bound
        self.bound = bound or None
        self.check_eviction(self.before)

    @rule(strategy=st.sampled_from(["fifo", "age", "relevance"]))
    def change_strategy(self, strategy: str) -> None:
        self.memory.cleanup_strategy = strategy

    @rule(prefix=st.one_of(st.none(), st.integers(0, 4)), suffix=st.one_of(st.none(), st.integers(0, 4)))
    def clear(self, prefix: int | None, suffix: int | None) -> None:
        cleared = self.memory.get_memory_stats()["cleared"]
        self.memory.clear(prefix, suffix)
        gone = sum(entry.count for entry in self.lost())
        assert self.memory.get_memory_stats()["cleared"] == cleared + gone

    @rule(first=st.integers(0, 5), size=st.integers(0, 6))
    def consolidate(self, first: int, size: int) -> None:
        sources = self.before[first : first + size]
        summary = self.memory.replace(sources, Memory("consolidated", "system", "event summary"))
        assert (summary is None) == (not sources)
        if summary is not None:
            assert summary.count == sum(entry.count for entry in sources)
            assert self.memory.retrieve_all()[first] is summary
        assert {id(entry) for entry in self.lost()} == {id(entry) for entry in sources}

    @rule(word=st.integers(0, 30))
    def search(self, word: int) -> None:
        assert all(entry in self.before for entry in self.memory.retrieve_relevant(f"event {word}", 3))

    @rule()
    def save_and_load(self) -> None:
        state = json.loads(json.dumps(self.memory.encode_state()))
        self.memory.decode_state(state)
        assert self.memory.retrieve_all() == self.before
        self.before = self.memory.retrieve_all()

    @invariant()
    def bounded_ordered_and_accounted_for(self) -> None:
        stats = self.memory.get_memory_stats()
        entries = self.memory.retrieve_all()
        assert stats["total_size"] == len(entries) == stats["current_size"] + stats["buffer_size"]
        assert self.bound is None or len(entries) <= self.bound
        assert [*self.memory.memory, *self.memory.get_current_episode()] == entries
        numbers = [entry.sequence for entry in entries]
        assert numbers == sorted(set(numbers))
        there = sum(entry.count for entry in entries)
        assert there + stats["evicted"] + stats["cleared"] == self.stored == stats["stored"]


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
