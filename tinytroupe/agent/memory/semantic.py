"""What a person knows, whenever it was learnt."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tinytroupe.agent.memory.embedding import Embed, Embedder, VectorIndex
from tinytroupe.agent.memory.entry import Memory, as_memory, plain_text
from tinytroupe.agent.memory.retention import fifo
from tinytroupe.agent.memory.shelf import Shelf, checked_length
from tinytroupe.agent.memory.store import FROM_SETTINGS, MaxSize, Store

_MAX_CHARACTERS = 8_000  # embedding models read about 8000 tokens, and a token is a character at least


class SemanticMemory(Store):
    """Knowledge that is found by meaning: facts, documents, summaries.

    With an embedding function, search compares the meaning of texts (cosine of their embeddings, exact). Storing
    never waits for the model: a search first asks for the vectors of what came since the last one, in batches, the
    target among them; `index_async` does so ahead of time. Without the function, search compares words (see
    `LexicalIndex`). When full, what was stored first goes first. Safe to use from several threads.

    Parameters
    ----------
    max_size
        Bound on entries; 0 or None = unbounded. Not given = ``MAX_SEMANTIC_MEMORY_SIZE`` of the settings.
    embed
        Turns texts into vectors: `ChatModel.embed`, or an `Embedder` that several persons share.
    call
        How synchronous code waits for a coroutine function, called as ``call(function, *args)``: `Portal.call`. Without
        it, the synchronous search compares words even where there are embeddings.

    Raises
    ------
    ValueError
        The bound is negative.
    """

    _setting = "max_semantic_memory_size"

    def __init__(
        self,
        max_size: MaxSize = FROM_SETTINGS,
        embed: Embed | Embedder | None = None,
        *,
        call: Callable[..., list[Memory]] | None = None,
    ) -> None:
        super().__init__(max_size)
        self._embedder = embed if embed is None or isinstance(embed, Embedder) else Embedder(embed)
        self._call = call
        self._vectors = VectorIndex()

    def store(self, value: Memory | Mapping[str, Any] | str) -> Memory:
        """Remember a fact.

        Parameters
        ----------
        value
            An entry, a mapping that makes one, or a text.

        Returns
        -------
        Memory
            The entry with its sequence number.

        Raises
        ------
        TypeError, ValueError
            It is none of these.
        """
        entry = _knowledge(value)
        with self._lock:
            stored = self._shelf.add(entry)
            self._shelf.commit()
            self._settle()
        return stored

    def store_all(self, values: Iterable[Memory | Mapping[str, Any] | str]) -> None:
        """Remember facts in order; where one of them is malformed, none is stored."""
        for entry in [_knowledge(value) for value in values]:
            self.store(entry)

    async def store_async(self, value: Memory | Mapping[str, Any] | str) -> Memory:
        """Remember a fact and ask for its vector at once."""
        stored = self.store(value)
        await self.index_async()
        return stored

    async def store_all_async(self, values: Iterable[Memory | Mapping[str, Any] | str]) -> None:
        """Remember facts and ask for their vectors at once, in batches."""
        self.store_all(values)
        await self.index_async()

    async def index_async(self) -> None:
        """Ask for the vectors of what was stored since the last search; nothing happens without embeddings.

        Raises
        ------
        ModelError
            What the model raises; the entries stay, and the next search asks again.
        """
        await self._index(())

    def retrieve_relevant(self, relevance_target: str, top_k: int = 20) -> list[Memory]:
        """Return the entries nearest to a text, best first.

        With an embedding function and a way to wait for it (`call`) by meaning, else by words.

        Parameters
        ----------
        relevance_target
            What to look for.
        top_k
            How many entries at most.

        Raises
        ------
        ValueError
            `top_k` is negative.
        ModelError
            What the model raises.
        """
        if self._embedder is not None and self._call is not None:
            return self._call(self.retrieve_relevant_async, relevance_target, top_k)
        return self._found_by_words(relevance_target, top_k)

    async def retrieve_relevant_async(self, relevance_target: str, top_k: int = 20) -> list[Memory]:
        """Return the entries nearest to a text, best first: by meaning, without an embedding function by words."""
        checked_length("top_k", top_k)
        target = relevance_target[:_MAX_CHARACTERS]
        if self._embedder is None or not target.strip():
            return self._found_by_words(target, top_k)
        (vector,) = await self._index((target,))
        with self._lock:
            self._settle()
            return [self._shelf.entries[number] for number in self._vectors.search(vector, top_k)]

    def clear(self) -> None:
        """Forget everything, for good."""
        with self._lock:
            self._shelf.clear(list(self._shelf.entries))
            self._vectors = VectorIndex()

    @property
    def by_meaning(self) -> bool:
        """Whether search compares meanings; else it compares words."""
        return self._embedder is not None

    def asks(self, embed: Embed) -> bool:
        """Tell whether it is this function that turns texts into vectors."""
        return self._embedder is not None and self._embedder.asks(embed)

    def ask_through(self, embed: Embed, call: Callable[..., list[Memory]] | None) -> None:
        """Have texts turned into vectors by another function from now on; the vectors that are there stay."""
        self._embedder, self._call = Embedder(embed), call

    def __getstate__(self) -> dict[str, Any]:
        # Who asks a model, and for whom, is a matter of where the memory is; `ask_through` says it anew.
        return {name: value for name, value in super().__getstate__().items() if name not in ("_embedder", "_call")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"_embedder": None, "_call": None, **state})

    def __repr__(self) -> str:
        ranking = "words" if self._embedder is None else "meaning"
        return f"<SemanticMemory: {self.count()} of {self.max_size or 'any number'}, found by {ranking}>"

    async def _index(self, targets: tuple[str, ...]) -> list[array[float]]:
        """Bring the vectors up to date, and return those of the targets, all in one go."""
        if self._embedder is None:
            return []
        pending: list[tuple[int, str]] = []
        with self._lock:
            self._settle()
            shelf, index = self._shelf, self._vectors
            for sequence, entry in reversed(shelf.entries.items()):
                if sequence < index.end:
                    break
                text = plain_text(entry.content, _MAX_CHARACTERS)
                if text.strip():  # models refuse the empty text
                    pending.append((sequence, text))
        pending.reverse()
        vectors = await self._embedder([*targets, *(text for _, text in pending)])
        with self._lock:
            # Another search may have added them meanwhile, or newer entries have driven them out.
            for (sequence, _), vector in zip(pending, vectors[len(targets) :], strict=True):
                if sequence >= index.end and sequence in shelf.entries:
                    index.add(sequence, vector)
        return vectors[: len(targets)]

    def _take(self, shelf: Shelf) -> None:
        super()._take(shelf)
        self._vectors = VectorIndex()  # vectors are no part of the state: the next search asks for them

    def _settle(self) -> int | None:
        bound = self.max_size
        if bound is not None and len(self._shelf.entries) > bound:
            self._shelf.fit(bound, fifo)
            # First in, first out, and never out of the middle: the numbers that are left have no gaps.
            self._vectors.discard_below(self._shelf.next - len(self._shelf.entries))
        return bound


def _knowledge(value: Memory | Mapping[str, Any] | str) -> Memory:
    return Memory("information", "assistant", value) if isinstance(value, str) else as_memory(value)
