"""The books of a mock model: what arrived, from whom, and what became of it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from tinytroupe.testing.accounting import MAX_PERSONS, OTHERS, Exchange, PromptCache, Repeats, Ring, Sums, Tally
from tinytroupe.testing.answer import Answer
from tinytroupe.testing.call import Call
from tinytroupe.testing.faults import SPOILT, Fault

MAX_PROBLEMS = 100


class Books:
    """Counts requests in and answers out; `MockLLM` says what its public attributes hold."""

    def __init__(self, exchanges: Ring, cache: PromptCache | None) -> None:
        self.exchanges = exchanges
        self.refused: deque[str] = deque(maxlen=MAX_PROBLEMS)
        self.in_flight = 0
        self._cache = cache
        self._repeats = Repeats()
        self._lock = threading.RLock()
        self._past: Sums | None = None
        self._start_anew()

    def _start_anew(self) -> None:
        """Forget what arrived, but for what is being answered."""
        self._total = Tally()
        self.by_person: dict[str, Tally] = {}
        self.by_endpoint: dict[str, Tally] = {}
        self.latencies_s: Counter[float] = Counter()
        self.in_flight_peak = self.in_flight
        self.unmatched: list[str] = []
        self._told = False
        self.exchanges.clear()
        self.refused.clear()
        self._repeats.clear()
        if self._cache is not None:
            self._cache.clear()

    def _put_by(self) -> None:
        """Keep the sums of what is about to be forgotten."""
        if self._past is None:
            self._past = Sums()
        self._past.include(self._total, self.by_person, self.latencies_s)

    @property
    def ever(self) -> Books | Sums:
        """The counters as if there had been no `reset`: what a measurement reads, so that none can hide calls from it.

        Calls, tokens, errors, `by_person` and `latencies_s`, as they are now.
        """
        with self._lock:
            if self._past is None:
                return self
            ever = Sums()
            ever.include(self._past, self._past.by_person, self._past.latencies_s)
            ever.include(self._total, self.by_person, self.latencies_s)
            return ever

    @property
    def calls(self) -> int:
        """Requests that arrived, of every endpoint, retries included."""
        return self._total.calls

    @property
    def prompt_tokens(self) -> int:
        """Tokens received."""
        return self._total.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens answered."""
        return self._total.completion_tokens

    @property
    def cached_tokens(self) -> int:
        """Those of `prompt_tokens` that the emulated prompt cache served."""
        return self._total.cached_tokens

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self._total.tokens

    @property
    def errors(self) -> int:
        """Requests that got an error status or a broken connection."""
        return self._total.errors

    def arrive(
        self,
        endpoint: str,
        body: Mapping[str, Any],
        person: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
    ) -> Call:
        """Count a request in. Whoever calls this owes one `answer` or `answer_blocking`."""
        call = Call(endpoint, body, person, messages)
        with self._lock:
            tallies = self.by_person
            if call.person not in tallies and len(tallies) >= MAX_PERSONS:
                tally = tallies.setdefault(OTHERS, Tally())
            else:
                tally = tallies.setdefault(call.person, Tally())
            call.number = tally.calls
            call.index = self._total.calls
            call.repeats = self._repeats
            if self._cache is not None and endpoint != "embeddings":
                call.cached_tokens = self._cache.cached_tokens(call)
            for each in (tally, self.by_endpoint.setdefault(endpoint, Tally()), self._total):
                each.calls += 1
                each.prompt_tokens += call.prompt_tokens
                each.cached_tokens += call.cached_tokens
            self.in_flight += 1
            self.in_flight_peak = max(self.in_flight_peak, self.in_flight)
        return call

    def _leave(self) -> None:
        with self._lock:
            self.in_flight -= 1

    def _correct(self, call: Call, prompt_tokens: int, cached_tokens: int) -> None:
        """Replace the call's tokens, as counted on arrival, by better figures."""
        with self._lock:
            for each in self._tallies(call):
                each.prompt_tokens += prompt_tokens - call.prompt_tokens
                each.cached_tokens += cached_tokens - call.cached_tokens
        call.prompt_tokens, call.cached_tokens = prompt_tokens, cached_tokens

    def _note(self, answer: Answer, fault: Fault | None, completion_tokens: int) -> None:
        call = answer.call
        failed = answer.status != 200 or (fault is not None and fault.kind in SPOILT)
        name = "" if fault is None else fault.name
        with self._lock:
            for each in self._tallies(call):
                each.completion_tokens += completion_tokens
                each.errors += failed
            # Three digits bound how many there can be; a percentile is right within 0.5 %.
            self.latencies_s[float(f"{answer.latency_s:.3g}")] += 1
            self.exchanges.add(Exchange(call, answer.status, answer.text, name, answer.latency_s))

    def _note_problem(self, message: str) -> None:
        with self._lock:
            if len(self.unmatched) < MAX_PROBLEMS:
                self.unmatched.append(message)

    def _tallies(self, call: Call) -> tuple[Tally, Tally, Tally]:
        person = self.by_person.get(call.person) or self.by_person.get(OTHERS) or Tally()
        return person, self.by_endpoint.setdefault(call.endpoint, Tally()), self._total
