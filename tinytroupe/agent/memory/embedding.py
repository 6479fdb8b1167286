"""Texts as vectors: asked for in batches, kept by text, searched exactly."""

from __future__ import annotations

import asyncio
import heapq
import importlib
import math
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from operator import mul
from typing import Any
from weakref import WeakKeyDictionary

Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]
"""Turns texts into vectors, one each, in order: `ChatModel.embed`."""

Vector = asyncio.Future["array[float]"]


class Embedder:
    """Asks for vectors in batches and remembers the latest.

    Callers that come in the same round of the event loop share a request, and a text is asked for once however many
    want it, so one embedder may serve many persons. A failed request is raised to all who wait for it, and not
    remembered.

    Parameters
    ----------
    embed
        The model's function.
    batch_size
        Texts in a request at most.
    max_cached
        Vectors kept at most; those not used for longest go first.

    Raises
    ------
    ValueError
        A size is below 1.
    """

    def __init__(self, embed: Embed, *, batch_size: int = 128, max_cached: int = 2048) -> None:
        if batch_size < 1 or max_cached < 1:
            raise ValueError(f"batch_size and max_cached must be at least 1, got {batch_size} and {max_cached}")
        self._embed = embed
        self._batch_size = batch_size
        self._max_cached = max_cached
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, array[float]] = OrderedDict()
        # A future can be awaited on its own loop only.
        self._rounds: WeakKeyDictionary[asyncio.AbstractEventLoop, _Round] = WeakKeyDictionary()

    async def __call__(self, texts: Sequence[str]) -> list[array[float]]:
        """Return one vector of length 1 per text, in order.

        Raises
        ------
        ModelError
            What the model raises.
        ValueError
            The model returned something else than a vector for each text.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            found = {text: self._known(text) or self._ask(loop, text) for text in dict.fromkeys(texts)}
        pending = [value for value in found.values() if isinstance(value, asyncio.Future)]
        if pending:
            await asyncio.wait(pending)  # not gather: who is cancelled must not cancel what others wait for
        ready = {text: value.result() if isinstance(value, asyncio.Future) else value for text, value in found.items()}
        return [ready[text] for text in texts]

    def asks(self, embed: Embed) -> bool:
        """Tell whether it is this function that is asked."""
        return self._embed == embed

    def _known(self, text: str) -> array[float] | None:
        vector = self._vectors.get(text)
        if vector is not None:
            self._vectors.move_to_end(text)
        return vector

    def _ask(self, loop: asyncio.AbstractEventLoop, text: str) -> Vector:
        now = self._rounds.setdefault(loop, _Round())
        if text not in now.asked:
            now.asked[text] = loop.create_future()
            now.queue.append((text, now.asked[text]))
            if len(now.queue) == 1:
                task = loop.create_task(self._flush(now))
                now.tasks.add(task)  # the loop itself does not keep tasks alive
                task.add_done_callback(now.tasks.discard)
        return now.asked[text]

    async def _flush(self, now: _Round) -> None:
        wanted: list[tuple[str, Vector]] = []
        try:
            await asyncio.sleep(0)  # the others of this round join
            with self._lock:
                wanted, now.queue = now.queue, []
            size = self._batch_size
            await asyncio.gather(*(self._request(now, wanted[at : at + size]) for at in range(0, len(wanted), size)))
        except BaseException:  # cancelled: nobody may wait for ever
            with self._lock:
                if not wanted:
                    wanted, now.queue = now.queue, []
                for text, future in wanted:
                    if not future.done():
                        del now.asked[text]
                        future.cancel()
            raise

    async def _request(self, now: _Round, wanted: Sequence[tuple[str, Vector]]) -> None:
        try:
            vectors = await self._embed([text for text, _ in wanted])
            if len(vectors) != len(wanted):
                raise ValueError(f"asked for the embeddings of {len(wanted)} texts, and got {len(vectors)} vectors")
            units = [unit(vector) for vector in vectors]
        except Exception as error:
            with self._lock:
                for text, future in wanted:
                    del now.asked[text]
                    future.set_exception(error)
                    future.exception()  # seen, even where all who waited were cancelled
            return
        with self._lock:
            for (text, future), vector in zip(wanted, units, strict=True):
                del now.asked[text]
                future.set_result(vector)
                self._vectors[text] = vector
            while len(self._vectors) > self._max_cached:
                self._vectors.popitem(last=False)


class _Round:
    """What is being asked for on one loop: what waits for the next request, and what has not been answered yet."""

    __slots__ = ("asked", "queue", "tasks")

    def __init__(self) -> None:
        self.asked: dict[str, Vector] = {}
        self.queue: list[tuple[str, Vector]] = []
        self.tasks: set[asyncio.Task[None]] = set()


class VectorIndex:
    """Vectors of length 1 by ascending number, in one block of 4 bytes a dimension; search compares with every one.

    With numpy that is one product of a matrix and a vector; without, plain Python (about 0.05 ms a vector of 1536).
    """

    __slots__ = ("_block", "_numbers", "_start")

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._block: array[float] = array("f")
        self._start = 0  # vectors before this index are forgotten, their space not yet given back

    def __len__(self) -> int:
        return len(self._numbers) - self._start

    @property
    def end(self) -> int:
        """The number after that of the last vector."""
        return self._numbers[-1] + 1 if self._numbers else 0

    def add(self, number: int, vector: array[float]) -> None:
        """Add the vector of a number that follows those before.

        Raises
        ------
        ValueError
            The vector has another number of dimensions than those before.
        """
        size = len(self._block) // len(self._numbers) if self._numbers else len(vector)
        if len(vector) != size:
            raise ValueError(
                f"embeddings must all have the same number of dimensions: {size} before, now {len(vector)}; "
                "was the embedding model changed?"
            )
        self._numbers.append(number)
        self._block.extend(vector)

    def discard_below(self, number: int) -> None:
        """Forget the vectors of lower numbers."""
        self._start = max(self._start, bisect_left(self._numbers, number))
        if self._start > len(self) + 16 and len(self):
            size = len(self._block) // len(self._numbers)
            del self._block[: self._start * size], self._numbers[: self._start]
            self._start = 0

    def search(self, vector: array[float], top_k: int) -> list[int]:
        """Return the numbers with the greatest cosine, best first, later before earlier among equals."""
        numbers = self._numbers[self._start :]
        scored = zip(_products(self._block, vector)[self._start :], numbers, strict=True) if numbers else ()
        return [number for _, number in heapq.nlargest(top_k, scored)]


def unit(vector: Iterable[float]) -> array[float]:
    """Return a vector scaled to length 1, in single precision; one of zeros stays as it is.

    Raises
    ------
    ValueError
        It is empty, or not made of finite numbers.
    """
    values = list(vector)
    length = math.sqrt(math.fsum(value * value for value in values))
    if not values or not math.isfinite(length):
        raise ValueError(f"an embedding must be a vector of finite numbers, got {values[:4]!r}")
    return array("f", (value / length for value in values) if length else values)


def _products(block: array[float], vector: array[float]) -> list[float]:
    # Rounded, so that equals stay equal whoever does the sums, and a run repeats itself on another machine.
    size = len(vector)
    numpy = _numpy()
    if numpy is not None:
        matrix = numpy.frombuffer(block, dtype="f4").reshape(-1, size)
        products: list[float] = numpy.round(matrix @ numpy.frombuffer(vector, dtype="f4"), 5).tolist()
        return products
    return [round(sum(map(mul, block[at : at + size], vector)), 5) for at in range(0, len(block), size)]


@cache
def _numpy() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None
