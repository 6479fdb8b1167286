from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe.agent.memory import Embedder, Memory, SemanticMemory, embedding
from tinytroupe.agent.memory.embedding import VectorIndex, unit
from tinytroupe.agent.memory.lexical import LexicalIndex
from tinytroupe.config import config_manager

TOPICS = ("cat", "dog", "money")


class Model:
    """Embeds a text as how often it names each topic, and notes what it is asked."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.requests.append(list(texts))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [[float(text.count(topic)) + 0.01 for topic in TOPICS] for text in texts]


def run(function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    return asyncio.run(function(*args))


def texts(entries: Sequence[Memory]) -> list[str]:
    return [entry.content for entry in entries]


@pytest.fixture(params=["numpy", "plain"])
def either_arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search once with numpy, where it is installed, and once without."""
    if request.param == "numpy":
        pytest.importorskip("numpy")
    else:
        monkeypatch.setattr(embedding, "_numpy", lambda: None)


# ------------------------------------------------------------------------------------------------------------- storing


def test_texts_mappings_and_entries_are_knowledge() -> None:
    memory = SemanticMemory(max_size=None)
    memory.store_all(
        ["a fact", {"content": "a stimulus", "role": "user"}, Memory("consolidated", "system", "old days")]
    )
    assert texts(memory.retrieve_all()) == ["a fact", "a stimulus", "old days"]
    assert [entry.kind for entry in memory.retrieve_all()] == ["information", "stimulus", "consolidated"]
    assert texts(memory.retrieve_all("consolidated")) == ["old days"]
    assert (memory.count(), len(memory), bool(SemanticMemory())) == (3, 3, True)


def test_malformed_knowledge_is_refused_as_a_whole() -> None:
    memory = SemanticMemory(max_size=None)
    with pytest.raises(TypeError, match="got int"):
        memory.store_all(["a fact", 7])  # type: ignore[list-item]
    assert memory.count() == 0


def test_the_bound_drops_what_came_first_and_is_effective_at_once() -> None:
    memory = SemanticMemory(max_size=3)
    memory.store_all(str(number) for number in range(5))
    assert texts(memory.retrieve_all()) == ["2", "3", "4"]
    memory.max_size = 1
    assert texts(memory.retrieve_all()) == ["4"]
    memory.max_size = 0
    memory.store_all(str(number) for number in range(5))
    assert repr(memory) == "<SemanticMemory: 6 of any number, found by words>"
    with pytest.raises(ValueError, match="max_size"):
        SemanticMemory(max_size=-1)


def test_a_bound_not_given_follows_the_settings() -> None:
    with config_manager.override(max_semantic_memory_size=2):
        memory = SemanticMemory()
        memory.store_all("abc")
        assert (memory.max_size, memory.count()) == (2, 2)
        config_manager.set("max_semantic_memory_size", 1)
        assert memory.count() == 1
    assert "found by words" in repr(memory)


# --------------------------------------------------------------------------------------------------------------- words


def test_without_embeddings_words_decide() -> None:
    memory = SemanticMemory(max_size=None)
    memory.store_all(["The cat sleeps", "A dog and a cat", "Prices rise"])
    assert texts(memory.retrieve_relevant("dog", top_k=5)) == ["A dog and a cat"]
    assert texts(run(memory.retrieve_relevant_async, "CAT sleeps", 1)) == ["The cat sleeps"]
    assert memory.retrieve_relevant("") == []
    for top_k in (-1, True, 1.5):
        with pytest.raises(ValueError, match="top_k"):
            memory.retrieve_relevant("cat", top_k)  # type: ignore[arg-type]


def test_rare_words_tell_more_than_common_ones() -> None:
    index = LexicalIndex()
    for number, text in enumerate(["the the the", "the cat", "the dog", "the end is near"]):
        index.add(number, text)
    assert index.search("the cat", 2)[0] == 1
    assert index.search("nothing", 2) == []
    assert index.search("the", 0) == []


def test_of_equal_matches_the_later_comes_first() -> None:
    index = LexicalIndex()
    for number in range(3):
        index.add(number, "same words")
    assert index.search("words", 3) == [2, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 5), st.text("ab ", max_size=8)), max_size=30), st.text("ab ", max_size=4))
def test_an_index_that_changed_is_like_one_made_anew(changes: list[tuple[int, str]], query: str) -> None:
    index = LexicalIndex()
    current: dict[int, str] = {}
    for number, text in changes:
        if text.startswith(" "):
            index.discard(number)
            current.pop(number, None)
        else:
            index.add(number, text)
            current[number] = text
    fresh = LexicalIndex()
    for number, text in current.items():
        fresh.add(number, text)
    assert index.search(query, 9) == fresh.search(query, 9)
    assert len(index) == len(current)
    assert set(index._frequency) == set(fresh._frequency), "words that no text has are forgotten"


# ------------------------------------------------------------------------------------------------------------- meaning


@pytest.mark.usefixtures("either_arithmetic")
def test_with_embeddings_meaning_decides() -> None:
    model = Model()
    memory = SemanticMemory(max_size=None, embed=model)
    memory.store_all(["money money", "cat dog", "dog dog cat", "cat"])
    assert texts(run(memory.retrieve_relevant_async, "dog", 3)) == ["dog dog cat", "cat dog", "cat"]
    assert len(model.requests) == 1, "texts and target in one request"
    assert texts(run(memory.retrieve_relevant_async, "money", 1)) == ["money money"]
    assert model.requests[1] == ["money"], "what has its vector is not asked for again"
    run(memory.retrieve_relevant_async, "dog", 1)
    assert len(model.requests) == 2, "nor is a target asked before"
    assert "found by meaning" in repr(memory)


@pytest.mark.usefixtures("either_arithmetic")
def test_a_full_memory_forgets_vectors_with_their_entries() -> None:
    model = Model()
    memory = SemanticMemory(max_size=5, embed=model)

    async def scenario() -> None:
        for number in range(200):
            await memory.store_async(f"{TOPICS[number % 3]} {number}")
            found = await memory.retrieve_relevant_async("cat", 9)
            assert {entry.sequence for entry in found} == {entry.sequence for entry in memory.retrieve_all()}
        assert len(memory._vectors) == 5
        assert len(memory._vectors._block) < 100
        memory.clear()
        assert await memory.retrieve_relevant_async("cat", 9) == []
        await memory.store_all_async(["cat", "dog"])
        assert texts(await memory.retrieve_relevant_async("dog", 1)) == ["dog"]

    run(scenario)


def test_the_synchronous_search_waits_through_the_door_it_is_given() -> None:
    model = Model()
    memory = SemanticMemory(max_size=None, embed=model, call=run)
    memory.store_all(["dog", "cat"])
    assert texts(memory.retrieve_relevant("cat cat", 1)) == ["cat"]
    assert model.requests == [["cat cat", "dog", "cat"]]
    closed = SemanticMemory(max_size=None, embed=model)
    closed.store_all(["dog", "cat"])
    assert texts(closed.retrieve_relevant("cat")) == ["cat"]
    assert len(model.requests) == 1


def test_storing_and_indexing_ahead_of_time() -> None:
    model = Model()
    memory = SemanticMemory(max_size=None, embed=model)
    memory.store_all(["dog", "", "cat", "dog"])
    assert model.requests == []
    run(memory.index_async)
    assert model.requests == [["dog", "cat"]], "no empty text, no text twice"
    run(memory.index_async)
    assert len(model.requests) == 1
    assert texts(run(memory.retrieve_relevant_async, "dog", 9)) == ["dog", "dog", "cat"]
    assert run(memory.retrieve_relevant_async, "  ", 9) == []
    run(SemanticMemory(max_size=None).index_async)


def test_a_failed_request_is_raised_and_asked_again() -> None:
    model = Model()
    memory = SemanticMemory(max_size=None, embed=model)
    memory.store_all(["dog", "cat"])
    model.error = OSError("no connection")
    with pytest.raises(OSError, match="no connection"):
        run(memory.retrieve_relevant_async, "dog", 1)
    assert memory.count() == 2
    model.error = None
    assert texts(run(memory.retrieve_relevant_async, "dog", 1)) == ["dog"]


def test_searches_at_the_same_time_and_changes_during_one() -> None:
    model = Model()
    memory = SemanticMemory(max_size=None, embed=model)
    memory.store_all(["dog", "cat"])

    async def search(target: str) -> asyncio.Task[list[Memory]]:
        task = asyncio.create_task(memory.retrieve_relevant_async(target, 9))
        for _ in range(5):
            await asyncio.sleep(0)
        return task

    async def scenario() -> None:
        model.gate = asyncio.Event()
        first = await search("dog dog")
        memory.store("money")
        second = await search("cat cat")
        model.gate.set()
        assert texts(await first)[0] == "dog"
        assert texts(await second) == ["cat", "money", "dog"]
        assert model.requests == [["dog dog", "dog", "cat"], ["cat cat", "money"]], "each text is asked for once"
        model.gate.clear()
        memory.store("dog money")
        third = await search("money money")
        other = SemanticMemory(max_size=None)
        other.store_all(["cat", "cat", "cat", "money money"])
        memory.decode_state(other.encode_state())
        model.gate.set()
        await third
        assert texts(await memory.retrieve_relevant_async("money", 1)) == ["money money"]

    run(scenario)


def test_a_changed_model_is_told() -> None:
    index = VectorIndex()
    index.add(0, unit([1, 0]))
    with pytest.raises(ValueError, match="same number of dimensions: 2 before, now 3"):
        index.add(1, unit([1, 0, 0]))


def test_the_state_survives_json() -> None:
    memory = SemanticMemory(max_size=None, embed=Model())
    memory.store_all(["dog", "cat"])
    run(memory.index_async)
    other = SemanticMemory(max_size=None, embed=Model())
    other.decode_state(json.loads(json.dumps(memory.encode_state())))
    assert other.retrieve_all() == memory.retrieve_all()
    assert texts(run(other.retrieve_relevant_async, "cat", 1)) == ["cat"]
    with pytest.raises(ValueError, match="not the state"):
        other.decode_state({"entries": 7})


@given(
    st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(0, 5),
)
@settings(deadline=None)
def test_search_is_exact(vectors: list[list[int]], below: int, top_k: int) -> None:
    index = VectorIndex()
    units = [unit(vector) for vector in vectors]
    for number, vector in enumerate(units):
        index.add(number, vector)
    index.discard_below(below)
    target = unit([1, 2, 3])

    def cosine(vector: array[float]) -> float:
        return sum(one * other for one, other in zip(target, vector, strict=True))

    found = index.search(target, top_k)
    left = sorted((round(cosine(vector), 5) for vector in units[below:]), reverse=True)
    assert [round(cosine(units[number]), 5) for number in found] == left[:top_k]
    assert all(number >= below for number in found)
    assert len(index) == max(0, len(vectors) - below)


# ------------------------------------------------------------------------------------------------------------ embedder


def test_callers_of_one_round_share_a_request() -> None:
    model = Model()
    embedder = Embedder(model)

    async def scenario() -> None:
        results = await asyncio.gather(*(embedder([f"text {number % 7}", "same"]) for number in range(50)))
        assert len(model.requests) == 1
        assert sorted(model.requests[0]) == ["same", *(f"text {number}" for number in range(7))]
        assert all(len(vectors) == 2 for vectors in results)
        assert await embedder([]) == []

    run(scenario)


def test_batches_and_cache_are_bounded() -> None:
    model = Model()
    embedder = Embedder(model, batch_size=4, max_cached=3)
    vectors = run(embedder, [f"cat {number}" for number in range(10)])
    assert len(vectors) == 10
    assert [len(request) for request in model.requests] == [4, 4, 2]
    run(embedder, ["cat 9", "cat 0"])
    assert model.requests[3:] == [["cat 0"]]
    for arguments in ({"batch_size": 0}, {"max_cached": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            Embedder(model, **arguments)


def test_a_text_on_its_way_is_not_asked_for_again_and_cancelling_one_caller_harms_no_other() -> None:
    model = Model()
    embedder = Embedder(model)

    async def scenario() -> None:
        model.gate = asyncio.Event()
        first = asyncio.create_task(embedder(["cat"]))
        for _ in range(5):
            await asyncio.sleep(0)
        second = asyncio.create_task(embedder(["cat", "dog"]))
        for _ in range(5):
            await asyncio.sleep(0)
        first.cancel()
        model.gate.set()
        assert len(await second) == 2
        assert model.requests == [["cat"], ["dog"]]
        with pytest.raises(asyncio.CancelledError):
            await first

    run(scenario)


def test_a_loop_that_ends_early_leaves_nothing_waiting() -> None:
    model = Model()
    embedder = Embedder(model)

    async def leave() -> None:
        model.gate = asyncio.Event()
        task = asyncio.create_task(embedder(["cat"]))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()

    run(leave)
    model.gate = None
    assert len(run(embedder, ["cat"])) == 1


def test_a_loop_that_ends_between_two_batches_leaves_nothing_waiting_either() -> None:
    asked: list[str] = []

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        if asked == ["cat", "dog"]:
            await asyncio.Event().wait()
        return [[1.0] for _ in texts]

    embedder = Embedder(embed, batch_size=1)

    async def leave() -> None:
        task = asyncio.create_task(embedder(["cat", "dog"]))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        for flush in [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            flush.cancel()
        results = await asyncio.gather(
            *(task for task in asyncio.all_tasks() if task is not asyncio.current_task()), return_exceptions=True
        )
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert len(await embedder(["cat", "dog"])) == 2

    run(leave)
    assert asked == ["cat", "dog", "dog"]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [([], "1 texts, and got 0"), ([[]], "finite numbers"), ([[float("nan")]], "finite"), ([[1e200, 1e200]], "finite")],
)
def test_what_is_no_embedding_is_an_error(vectors: list[list[float]], message: str) -> None:
    async def bad(texts: Sequence[str]) -> list[list[float]]:
        return vectors

    with pytest.raises(ValueError, match=message):
        run(Embedder(bad), ["cat"])


def test_a_vector_of_zeros_stays() -> None:
    assert unit([0.0, 0.0]) == array("f", [0.0, 0.0])
