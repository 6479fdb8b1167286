"""The line at the gate without the people: when the calls of a step are sent and answered, as numbers alone.

The same law as the gate's: first come first served, so many calls in flight, requests and tokens a minute in buckets;
every step begins when all calls of the step before are answered. A call costs microseconds here, so that the real
number of people can be gone through, and the slowest of a million calls is the slowest of a million draws.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from tinytroupe.llm.limits import BUSY_SHARE, ROUND_S, Bucket

_BURST_S = 1.0  # as of `Gate`
_SLACK_S = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """What the calls have to keep to.

    Attributes
    ----------
    start, high
        Calls in flight at the beginning, and the most that they grow to while calls wait; equal where they are fixed.
    rpm, tpm
        Requests and tokens a minute; None: no limit.
    """

    start: int
    high: int
    rpm: float | None = None
    tpm: float | None = None


class Line:
    """Calls that wait for their turn, step after step.

    Parameters
    ----------
    limits
        What they have to keep to.
    seconds
        Draws how long the next call takes.
    """

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        self._limits, self._seconds = limits, seconds
        self._slots = limits.start
        self._requests = Bucket.per_minute(limits.rpm, _BURST_S)
        self._tokens = Bucket.per_minute(limits.tpm, _BURST_S)
        self.now_s = 0.0

    def step(self, turns: Iterable[int], tokens: float) -> float:
        """Let everyone have a turn, and return the seconds until the last is done.

        Parameters
        ----------
        turns
            For each person, the calls of the turn, one after the other.
        tokens
            Of one call.
        """
        began_s = now_s = self.now_s
        waiting = deque(turns)
        running: list[tuple[float, int]] = []  # when a call is answered, and how many follow it in its turn
        round_s = inf  # when the limit on calls in flight is doubled, where nothing changes before
        while waiting or running:
            send_s = inf
            if waiting and len(running) < self._slots:
                send_s = max(now_s, self._ready_s(tokens))
                if send_s <= now_s + _SLACK_S:
                    self._take(tokens, now_s)
                    heapq.heappush(running, (now_s + self._seconds(), waiting.popleft() - 1))
                    continue
                round_s = inf
            elif not waiting:
                round_s = inf
            elif round_s == inf and self._slots < self._limits.high:
                round_s = now_s + ROUND_S
            next_s = running[0][0] if running else inf
            if round_s < min(next_s, send_s):
                now_s, round_s = round_s, inf
                self._grow(self._slots)
            elif send_s < next_s:
                now_s = send_s
            else:
                if len(running) >= BUSY_SHARE * self._slots:
                    self._grow(1)
                now_s, calls = heapq.heappop(running)
                if calls:
                    waiting.append(calls)
        self.now_s = now_s
        return now_s - began_s

    def _grow(self, more: int) -> None:
        self._slots = min(self._slots + more, self._limits.high)

    def _ready_s(self, tokens: float) -> float:
        ready_s = -inf
        if self._requests is not None:
            ready_s = self._requests.ready_at(1)
        if self._tokens is not None:
            ready_s = max(ready_s, self._tokens.ready_at(tokens))
        return ready_s

    def _take(self, tokens: float, now_s: float) -> None:
        if self._requests is not None:
            self._requests = self._requests.take(1, now_s)
        if self._tokens is not None:
            self._tokens = self._tokens.take(tokens, now_s)
