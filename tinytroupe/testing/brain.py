"""What is behind every door of the mock model: it decides the answer to a request."""

from __future__ import annotations

import asyncio
import inspect
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from tinytroupe.testing import generate
from tinytroupe.testing.accounting import PromptCache, Ring
from tinytroupe.testing.answer import Answer
from tinytroupe.testing.books import Books
from tinytroupe.testing.call import Call, text_tokens
from tinytroupe.testing.faults import CONTENT, Fault
from tinytroupe.testing.latency import Constant, Latency, as_latency
from tinytroupe.testing.limits import Limits
from tinytroupe.testing.recording import Take
from tinytroupe.testing.replay import Replay, replies_in, usage_in
from tinytroupe.testing.rules import Reply, Rule, Scripted, as_reply, explain_unmatched, spoilt


class Brain(Books):
    """Decides and counts. Its settings are those of `MockLLM`, which scripts it and says what they mean."""

    def __init__(
        self,
        seed: int = 0,
        latency: float | str | Latency = 0.0,
        strict: bool | None = None,
        *,
        chunk_delay: float = 0.0,
        rpm: float | None = None,
        tpm: float | None = None,
        prompt_cache: bool = True,
        pass_loopback: bool = True,
        max_exchanges: int = 100,
        max_exchange_bytes: int = 1_000_000,
        models: Sequence[str] = ("mock-model",),
    ) -> None:
        for name, limit in (("rpm", rpm), ("tpm", tpm)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be above 0 or None, not {limit!r}")
        super().__init__(Ring(max_exchanges, max_exchange_bytes), PromptCache() if prompt_cache else None)
        self.seed = seed
        self.latency = latency
        self.chunk_delay = as_latency(chunk_delay).draw("", 0)
        self.rpm, self.tpm = rpm, tpm
        self.pass_loopback = pass_loopback
        self.models = tuple(models)
        self._strict = strict
        self._rules: list[Rule] = []
        self._queue: deque[Scripted] = deque()
        self._queued = 0
        self._replay: Replay | None = None
        self._rates: list[tuple[float, Fault]] = []
        self._forget_limits()

    def __reduce__(self) -> tuple[Any, ...]:
        # To answer in another process, alike: with the same settings and rules. It counts for itself there.
        if self._queue or self._replay is not None:
            raise TypeError(
                "a mock model with queued replies or a recording can't answer in several processes, where nobody knows "
                "who asks first; give it rules: when(...).reply(...)"
            )
        settings = {
            "seed": self.seed,
            "latency": self.latency,
            "strict": self._strict,
            "chunk_delay": self.chunk_delay,
            "rpm": self.rpm,
            "tpm": self.tpm,
            "prompt_cache": self._cache is not None,
            "pass_loopback": self.pass_loopback,
            "max_exchanges": self.exchanges.max_count,
            "max_exchange_bytes": self.exchanges.max_bytes,
            "models": self.models,
        }
        return _copied, (type(self), settings, self._rules, self._rates)

    @property
    def latency(self) -> Latency:
        """How long answers take. Set it to seconds or to a distribution."""
        return self._latency

    @latency.setter
    def latency(self, value: float | str | Latency) -> None:
        self._latency = as_latency(value)

    @property
    def strict(self) -> bool:
        """Whether a request that nothing scripted fits is an error."""
        scripted = self._rules or self._queued or self._replay is not None
        return bool(scripted) if self._strict is None else self._strict

    @strict.setter
    def strict(self, value: bool | None) -> None:
        self._strict = value

    def reset(self, script: bool = False) -> None:
        """Forget what arrived: counters, exchanges, unmatched requests; with `script` also what to answer.

        `ever` goes on counting, and so does what a perf test measures.
        """
        with self._lock:
            self._put_by()
            self._start_anew()
            self._forget_limits()
            if script:
                self._rules.clear()
                self._queue.clear()
                self._queued = 0
                self._rates.clear()
                self._replay = None
            elif self._replay is not None:
                self._replay.rewind()

    async def answer(self, call: Call, read_timeout_s: float | None = None, path: str = "") -> Answer:
        """Decide the answer to `call` and wait, on the loop's own time, as long as it takes."""
        try:
            loop = asyncio.get_running_loop()
            chosen, headers = self._choose(call, loop, loop.time(), path)
            if callable(chosen) and not isinstance(chosen, (Reply, Fault, Take)):
                try:
                    chosen = chosen(call)
                    if inspect.isawaitable(chosen):
                        chosen = await chosen
                    chosen = as_reply(chosen)
                except Exception as error:
                    chosen = self._problem(call, f"the callable reply to {call!r} raised {error!r}")
            answer = self._settle(call, chosen, read_timeout_s, headers, path)
            if answer.latency_s > 0:
                await asyncio.sleep(answer.latency_s)
            return answer
        finally:
            self._leave()

    def answer_blocking(self, call: Call, read_timeout_s: float | None = None, path: str = "") -> Answer:
        """Do the same for a synchronous client, on real time."""
        try:
            chosen, headers = self._choose(call, None, time.monotonic(), path)
            if callable(chosen) and not isinstance(chosen, (Reply, Fault, Take)):
                try:
                    chosen = chosen(call)
                    if inspect.isawaitable(chosen):
                        chosen = _run_apart(chosen)
                    chosen = as_reply(chosen)
                except Exception as error:
                    chosen = self._problem(call, f"the callable reply to {call!r} raised {error!r}")
            answer = self._settle(call, chosen, read_timeout_s, headers, path)
            if answer.latency_s > 0:
                time.sleep(answer.latency_s)
            return answer
        finally:
            self._leave()

    def _choose(
        self, call: Call, clock: asyncio.AbstractEventLoop | None, now: float, path: str
    ) -> tuple[Scripted | Take, tuple[tuple[str, str], ...]]:
        with self._lock:
            headers: tuple[tuple[str, str], ...] = ()
            if self.rpm or self.tpm:
                limits = self._limits_of(clock, now)
                wait_s = limits.admit(call.prompt_tokens, now)
                headers = limits.headers()
                if wait_s:
                    # Whole milliseconds, rounded up: a client that waits so long is admitted.
                    return Fault(
                        "rate_limit", retry_after_ms=int(wait_s * 1000) + 1, retry_after=int(wait_s) + 1
                    ), headers
            if self._rates:
                drawn = random.Random(f"{self.seed}/fault/{call.key}").random()
                for rate, fault in self._rates:
                    drawn -= rate
                    if drawn < 0:
                        return fault, headers
            return self._scripted_for(call, path), headers

    def _forget_limits(self) -> None:
        self._sync_limits: Limits | None = None
        self._loop_limits: WeakKeyDictionary[asyncio.AbstractEventLoop, Limits] = WeakKeyDictionary()

    def _limits_of(self, clock: asyncio.AbstractEventLoop | None, now: float) -> Limits:
        # Each loop has a time of its own, so each has its own buckets; synchronous clients share one.
        found = self._sync_limits if clock is None else self._loop_limits.get(clock)
        if found is None:
            found = Limits(self.rpm, self.tpm, now)
            if clock is None:
                self._sync_limits = found
            else:
                self._loop_limits[clock] = found
        return found

    def _scripted_for(self, call: Call, path: str) -> Scripted | Take:
        for rule in self._rules:
            if not rule.spent and rule.matches(call):
                return rule.take() or self._generated(call)
        replay = self._replay
        take = replay.find(call, path) if replay is not None else None
        if take is not None:
            return Fault(take.failed, after_s=take.latency_s if self._recorded_timing else 0.0) if take.failed else take
        talks = call.endpoint in ("chat", "responses")
        if talks and self._queue:
            return self._queue.popleft()
        if replay is not None and self.strict and (talks or replay.covers(call.endpoint)):
            return self._problem(call, f"nothing was recorded for {call!r}\n{replay.explain(call, path)}")
        if (talks and self.strict) or any(rule.names(call.endpoint) for rule in self._rules):
            return self._problem(call, explain_unmatched(call, self._rules, self._queued))
        return self._generated(call)

    def _generated(self, call: Call, choice: int = 0) -> Reply | Fault:
        if call.endpoint not in ("chat", "responses"):
            return Reply()
        key = f"{self.seed}/{call.key}" + (f"/{choice}" if choice else "")
        try:
            tool = generate.required_tool(call.body)
            if tool is not None:
                return Reply(tool_calls=((tool[0], generate.instance(tool[1], key)),))
            return Reply(generate.text_for(key, call.schema_name, call.schema, call.json_mode))
        except ValueError as error:
            return self._problem(call, f"cannot generate a reply to {call!r}: {error}")

    def _problem(self, call: Call, message: str) -> Fault:
        self._note_problem(message)
        # Clients retry 408, 409, 429 and 5xx, and then a program would hang about for what cannot get better.
        return Fault("bad_request", message=f"mock model: {message}", should_retry=False)

    def _settle(
        self, call: Call, chosen: Any, read_timeout_s: float | None, headers: tuple[tuple[str, str], ...], path: str
    ) -> Answer:
        fault = chosen if isinstance(chosen, Fault) else None
        take = chosen if isinstance(chosen, Take) else None
        replies: tuple[Reply, ...] = ()
        if take is not None:
            replies = replies_in(take) if take.status == 200 else ()
        elif fault is None:
            wanted = call.body.get("n") or 1
            replies = (chosen,)
            if isinstance(wanted, int) and 1 < wanted <= 128:
                replies = self._choices(call, chosen, wanted)
        elif fault.kind in CONTENT or fault.kind in ("body_cut", "stream_error"):
            if fault.kind == "stream_error" and not call.stream:
                fault = replace(fault, kind="server_error")
            whole = self._generated(call)
            replies = spoilt(fault, whole if isinstance(whole, Reply) else Reply())
        completion_tokens = sum(text_tokens(each.text) + text_tokens(each.refusal or "") for each in replies)
        completion_tokens += sum(text_tokens(str(tool)) for each in replies for tool in each.tool_calls)
        if call.endpoint in ("embeddings", "models"):
            completion_tokens = 0
        if take is not None:
            completion_tokens = self._as_counted(call, take, completion_tokens)
        latency_s = self._latency_of(call, chosen, completion_tokens)
        if fault is not None and fault.kind == "stall":
            latency_s = read_timeout_s if read_timeout_s is not None else 600.0
        if read_timeout_s is not None and read_timeout_s < latency_s:
            latency_s, fault, replies, completion_tokens, take = read_timeout_s, Fault("timeout"), (), 0, None
        answer = Answer(
            call,
            replies,
            fault,
            latency_s,
            completion_tokens,
            self.chunk_delay,
            headers,
            self.models,
            path,
            take,
            self._recorded_timing,
        )
        self._note(answer, fault, completion_tokens)
        return answer

    def _as_counted(self, call: Call, take: Take, completion_tokens: int) -> int:
        # The real model counted better than we do.
        usage = usage_in(take)
        if usage is None:
            return completion_tokens
        prompt, completion, cached = usage
        self._correct(call, prompt, cached)
        return completion

    @property
    def _recorded_timing(self) -> bool:
        return self._replay is not None and self._replay.timing

    def _choices(self, call: Call, first: Reply, wanted: int) -> tuple[Reply, ...]:
        generated = self._generated(call)
        if first != generated:
            return (first,) * wanted
        others = (self._generated(call, i) for i in range(1, wanted))
        return (first, *(each for each in others if isinstance(each, Reply)))

    def _latency_of(self, call: Call, chosen: Any, completion_tokens: int) -> float:
        if isinstance(chosen, Take):
            if self._recorded_timing:
                return chosen.latency_s
        elif isinstance(chosen, Fault):
            if chosen.after_s is not None:
                return chosen.after_s
            if chosen.immediate:
                return 0.0
        elif chosen.latency_s is not None:
            return float(chosen.latency_s)
        if call.endpoint == "models":
            return 0.0
        if type(self._latency) is Constant:
            return self._latency.seconds
        return self._latency.draw(f"{self.seed}/{call.key}", completion_tokens)


def _run_apart(coroutine: Awaitable[Any]) -> Any:
    """Run a coroutine for a synchronous client, which may itself be called inside a running loop."""
    result: list[Any] = []
    error: list[BaseException] = []

    async def run() -> Any:
        return await coroutine

    def work() -> None:
        try:
            result.append(asyncio.run(run()))
        except BaseException as raised:
            error.append(raised)

    thread = threading.Thread(target=work, name="mock-llm-callable")
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]


def _copied(kind: type[Brain], settings: dict[str, Any], rules: list[Rule], rates: list[tuple[float, Fault]]) -> Brain:
    copy = kind(**settings)
    copy._rules, copy._rates = rules, rates
    return copy
