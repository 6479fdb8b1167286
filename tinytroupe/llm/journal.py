"""Every exchange with a model, recorded once: what is known is replayed, what is new is recorded before it is sent."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeVar

from tinytroupe.llm import canonical
from tinytroupe.llm.canonical import Canonical
from tinytroupe.llm.exchange_key import Key
from tinytroupe.llm.exchanges import ExchangeFile, JournalError
from tinytroupe.llm.journal_work import Drain, Work
from tinytroupe.llm.model import ChatModel, ChatReply, ChatRequest
from tinytroupe.llm.parts import take_in_left_behind

__all__ = [
    "Journal",
    "JournalError",
    "JournalStats",
    "JournaledModel",
    "ReplayMismatch",
    "current_journal",
    "set_process_journal",
    "use_journal",
]

T = TypeVar("T")

Mode = Literal["record", "replay", "cache"]

MEMORY_BYTES = 64 * 2**20
"""Bound of a journal in memory, bytes as stored (deflated)."""
FILE_BYTES = 2 * 2**30
"""Bound of a journal in a file, bytes as stored (deflated)."""


class ReplayMismatch(JournalError):
    """A replay asked for something that was not recorded. The message shows what is different."""


@dataclass(frozen=True, slots=True)
class JournalStats:
    """What a journal holds and what it was good for.

    Attributes
    ----------
    exchanges
        Requests with their replies.
    unfinished
        Requests sent without a reply so far: under way, failed, or cut off when a process was killed.
    bytes
        Size of all that, as stored.
    hits, misses
        Requests answered from the journal, and those that were not, since it was opened.
    """

    exchanges: int
    unfinished: int
    bytes: int
    hits: int
    misses: int


class Journal:
    """A record of exchanges, to resume, to replay without network, or to answer the same question only once.

    One thread does all the writing, and takes everything that waits into one commit. A request is on record before it
    is sent and its reply before anyone sees it, so a process may be killed at any time: the next one is asked again
    only for what was under way. On virtual time, time stands still while the thread works.

    Parameters
    ----------
    path
        The file, made when missing, or ``:memory:``.
    mode
        ``record``: an exchange belongs to a person and the person's own call number; unknown requests go to the model.
        ``replay``: the same, but an unknown request is a `ReplayMismatch`; the file is only read.
        ``cache``: an exchange belongs to whoever asks the same; people who are asked the same all answer the same.
    max_bytes
        Most bytes kept, as stored; None: 64 MiB in memory, 2 GiB in a file. Beyond it, exchanges used longest ago are
        dropped, and asked again when needed.
    power_safe
        Wait for the disk at every commit: then not even a power failure loses anything.

    Raises
    ------
    JournalError
        Not a journal, of a newer version, or not to be opened. The file is left as it is.
    ValueError
        Unknown mode or a bound below 1.

    Notes
    -----
    In mode ``record`` it takes over what a killed run on a cluster has left beside it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = ":memory:",
        mode: Mode = "record",
        *,
        max_bytes: int | None = None,
        power_safe: bool = False,
    ) -> None:
        if mode not in ("record", "replay", "cache"):
            raise ValueError(f"mode of a journal must be 'record', 'replay' or 'cache', not {mode!r}")
        self.path = os.fspath(path)
        self.mode: Mode = mode
        self.hits = 0
        self.misses = 0
        self.replays_cost = False
        if max_bytes is None:
            max_bytes = MEMORY_BYTES if self.path == ":memory:" else FILE_BYTES
        self._file = ExchangeFile(self.path, read_only=mode == "replay", max_bytes=max_bytes, power_safe=power_safe)
        if mode == "record" and self.path != ":memory:":
            try:
                take_in_left_behind(self._file)
            except BaseException:
                self._file.close()
                raise
        self._closed = False
        # For those who forget to close, at exit at the latest.
        self._finalizer = weakref.finalize(self, self._file.close)
        self._start_thread()

    def __repr__(self) -> str:
        return f"<Journal {self.path!r}, {self.mode}, {self.hits} hits, {self.misses} misses>"

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # What is known and what is new ------------------------------------------------------------------------------

    async def begin(self, requests: Mapping[Key, Canonical]) -> dict[Key, bytes]:
        """Return the recorded replies to `requests`; record of the others that they are about to be sent.

        Parameters
        ----------
        requests
            The canonical form of each request, by key.

        Raises
        ------
        ReplayMismatch
            In mode ``replay``, for the first request without a recorded reply.
        JournalError
            The journal is closed, or SQLite failed.
        """
        return await self._do(lambda: self._begin(requests))

    async def finish(self, replies: Mapping[Key, bytes]) -> None:
        """Record the replies to requests that were begun.

        Raises
        ------
        JournalError
            The journal is closed, or SQLite failed.
        """
        await self._do(lambda: self._file.finish(replies))

    def give_up(self, *keys: Key) -> None:
        """Say that no replies to requests that were begun will come; they need not be kept any longer."""
        self._queue.append(Work(lambda: self._file.ended(keys)))  # with the next commit: nothing is dropped before

    def key(self, asked: Canonical, simulation: str = "", person: str = "", call: int = 0) -> Key:
        """Return what an exchange is known by; in mode ``cache`` it does not matter who asks."""
        if self.mode == "cache":
            return Key("", "", 0, asked.hash)
        return Key(simulation, person, call, asked.hash)

    def _begin(self, requests: Mapping[Key, Canonical]) -> dict[Key, bytes]:
        known = {key: reply for key in requests if (reply := self._file.reply(key)) is not None}
        self.hits += len(known)
        for key, request in requests.items():
            if key in known:
                continue
            self.misses += 1
            if self.mode == "replay":
                raise self._unknown(key, request)
            self._file.begin(key, request)
        return known

    def _unknown(self, key: Key, request: Canonical) -> ReplayMismatch:
        recorded = self._file.other_request(key)
        if recorded is None:
            return ReplayMismatch(
                f"nothing is recorded in {self.path} for {key}. "
                "The program asks for more than, or others than, when it was recorded: record it again."
            )
        return ReplayMismatch(
            f"{key} is not what is recorded in {self.path}. Record it again if the change is intended.\n"
            + canonical.difference(recorded, canonical.readable(request.prefix, request.rest))
        )

    # Figures, and the end ---------------------------------------------------------------------------------------

    def stats(self) -> JournalStats:
        """Return what the journal holds and what it was good for; waits for what is being written."""
        return JournalStats(*self.do_now(ExchangeFile.counts), self.hits, self.misses)

    def flush(self) -> None:
        """Wait until everything handed over is written, and the disk has it."""
        self.do_now(ExchangeFile.checkpoint)

    def close(self) -> None:
        """Finish writing and close the file. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._thread.shutdown(wait=True)
            if self._pid == os.getpid():
                self._drain(Drain())  # what loops have not come to hand over
            self._finalizer()

    # The one thread ---------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        self._pid = os.getpid()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tinytroupe-journal")
        self._lock = threading.Lock()  # for the few who write in its stead, once it has ended
        self._queue: deque[Work[Any]] = deque()
        self._drains: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Drain] = weakref.WeakKeyDictionary()

    def _ready(self) -> None:
        if self._closed:
            raise JournalError(f"the journal {self.path} is closed")
        if self._pid != os.getpid():  # the thread stayed behind in the parent
            self._file.reopen_after_fork()
            self._start_thread()

    async def _do(self, do: Callable[[], T]) -> T:
        self._ready()
        loop = asyncio.get_running_loop()
        work = Work(do)
        self._queue.append(work)
        drain = self._drains.get(loop)
        if drain is None or drain.started:  # a drain that has started may have missed this; one that has not, will not
            drain = self._drains[loop] = Drain(loop.create_future())
            loop.call_soon(self._send, loop, drain)  # with all that comes until then: a commit costs as much as ten
        assert drain.done is not None
        # What is handed over is written even if who waits for it is cancelled: a reply that came late is on record.
        await asyncio.shield(drain.done)
        return work.outcome()

    def _send(self, loop: asyncio.AbstractEventLoop, drain: Drain) -> None:
        try:
            loop.run_in_executor(self._thread, self._drain, drain).add_done_callback(drain.end)
        except RuntimeError:  # the journal is closing, or the program ending, and the thread takes no more
            self._drain(drain)
            drain.end()

    def do_now(self, do: Callable[[ExchangeFile], T]) -> T:
        """Have something done with the file, in the one thread that may, and wait for it: not on an event loop."""
        self._ready()
        return self._thread.submit(self._after_all, do).result()

    def _after_all(self, do: Callable[[ExchangeFile], T]) -> T:
        self._drain(Drain())  # what loops have not come to hand over
        with self._lock:
            return do(self._file)

    def _drain(self, drain: Drain) -> None:
        """Do all that waits, in one commit."""
        with self._lock:
            drain.started = True
            batch: list[Work[Any]] = []
            while self._queue:
                batch.append(self._queue.popleft())
            if not batch:
                return
            try:
                self._file.transaction([work.attempt for work in batch])
            except BaseException as error:  # raised to each of those who wait; none of it was written
                for work in batch:
                    work.error = error


class JournaledModel:
    """A `ChatModel` that asks the journal first and the model second.

    A replayed reply is the recorded one, at no cost: its `usage`, `latency_s`, `queued_s`, `slot_s` are zero.

    Parameters
    ----------
    model
        Who answers what is new.
    journal
        Who knows what is old.
    settings
        Returns what decides replies besides the request (model name, sampling defaults, embedding model): when it
        changes, what was recorded before no longer answers. JSON values only.
    """

    def __init__(
        self, model: ChatModel, journal: Journal, settings: Callable[[], Mapping[str, Any]] = dict[str, Any]
    ) -> None:
        self.model = model
        self.journal = journal
        self._settings = settings

    async def prepare(self) -> None:
        """Have the model get ready for its first call, where it can; a replay makes none."""
        prepare = getattr(self.model, "prepare", None)
        if prepare is not None and self.journal.mode != "replay":
            await prepare()

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer `request` from the journal, or from the model and record it.

        Raises
        ------
        ReplayMismatch
            In mode ``replay``, for a request that was not recorded.
        ModelError
            The model failed (the request stays on record as unfinished and is sent again next time), or the journal.
        """
        asked = canonical.canonical_request(request, self._settings())
        origin = request.origin
        key = self.journal.key(asked, origin.simulation, origin.person, origin.call)
        try:
            recorded = (await self.journal.begin({key: asked})).get(key)
            if recorded is not None:
                reply = canonical.decode_reply(recorded)
                return reply if self.journal.replays_cost else canonical.at_no_cost(reply)
            reply = await self.model.complete(request)
            await self.journal.finish({key: canonical.encode_reply(reply)})
        except BaseException:
            self.journal.give_up(key)
            raise
        return reply

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text, in order; only unknown texts go to the model, each once, whoever asks.

        Raises
        ------
        ReplayMismatch, ModelError
            As `complete`.
        """
        settings = self._settings()
        asked = {text: canonical.canonical_text(text, settings) for text in texts}
        keys = {text: Key("", "", 0, form.hash) for text, form in asked.items()}
        try:
            recorded = await self.journal.begin({keys[text]: form for text, form in asked.items()})
            vectors = {text: canonical.decode_vector(recorded[key]) for text, key in keys.items() if key in recorded}
            new = [text for text in asked if text not in vectors]
            if new:
                vectors.update(zip(new, await self.model.embed(new), strict=True))
                await self.journal.finish({keys[text]: canonical.encode_vector(vectors[text]) for text in new})
        except BaseException:
            self.journal.give_up(*keys.values())
            raise
        return [vectors[text] for text in texts]

    async def aclose(self) -> None:
        """Release the model's connections. The journal stays open: it belongs to whoever made it."""
        await self.model.aclose()


_journal: ContextVar[Journal | None] = ContextVar("tinytroupe_journal", default=None)
_process_journal: Journal | None = None


def current_journal() -> Journal | None:
    """Return the journal of the innermost `use_journal` block, else the process's, else None."""
    return _journal.get() or _process_journal


@contextmanager
def use_journal(journal: Journal) -> Iterator[Journal]:
    """Make `journal` the one that model calls inside the ``with`` block go through."""
    token = _journal.set(journal)
    try:
        yield journal
    finally:
        _journal.reset(token)


def set_process_journal(journal: Journal | None) -> Journal | None:
    """Make `journal` the one for the whole process, all threads included; return the one before."""
    global _process_journal
    before, _process_journal = _process_journal, journal
    return before
