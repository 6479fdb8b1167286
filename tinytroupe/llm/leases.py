"""One limit on requests and tokens a minute for several processes: who may send how many calls in the next moment.

A process asks for a lease of calls and of the tokens they are expected to cost, uses it up or gives the rest back, and
asks again: once a slice of time, however many calls it makes. Everything here is arithmetic on given times.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import Protocol

from tinytroupe.llm.limits import Bucket

WINDOW_S = 60.0
"""Limits are per minute: in no window of so many seconds more is sent."""
SLICE_S = 1.0
"""Seconds that a lease is meant for: what is not used by then is given back."""
MOST_CALLS = 4096
"""Calls that one lease holds at most."""

_GRAINS = 10  # what was sent is remembered by tenths of a slice, so that its size does not grow with the calls
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a lease.

    Attributes
    ----------
    lease
        Its number; 0: of none.
    calls, tokens
        What of it was used.
    owed_tokens
        What calls of earlier leases have cost beyond what was expected of them, since the last report; below zero,
        they have cost less.
    """

    lease: int = 0
    calls: int = 0
    tokens: float = 0.0
    owed_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Claim:
    """Calls that somebody would like to send.

    Attributes
    ----------
    tokens
        What each of them is expected to cost, in the order in which they are going to be sent.
    turn
        `Lease.turn` of the last lease; 0 before the first. Whoever was served longest ago is served first.
    report
        What became of the last lease.
    """

    tokens: tuple[float, ...]
    turn: int = 0
    report: Report = Report()

    def __post_init__(self) -> None:
        if not 0 < len(self.tokens) <= MOST_CALLS:
            raise ValueError(f"a claim is for 1 to {MOST_CALLS} calls, not for {len(self.tokens)}")


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave to send so many calls, for a while.

    Attributes
    ----------
    number
        Its name in a `Report`.
    calls
        How many; the first of those claimed.
    tokens
        What they may cost together; infinite where tokens are not limited.
    turn
        Whose turn it was; see `Claim.turn`.
    waited_s
        How long the claim waited. The lease counts from then on, whenever the answer arrives.
    slice_s
        After so many seconds what is left is given back, where nobody needs it.
    valid_s
        After so many seconds nothing may be sent any more.
    """

    number: int
    calls: int
    tokens: float
    turn: int
    waited_s: float = 0.0
    slice_s: float = SLICE_S
    valid_s: float = 2 * SLICE_S


class Budget:
    """One limit per minute: even over time, and kept in every window of a minute.

    Leased units count from when they are leased until a minute after they were sent, so that it does not matter when
    in the life of its lease a call is sent. Evenness comes from a bucket that holds two slices' worth.

    Parameters
    ----------
    limit
        Units a minute.
    slice_s
        Seconds of a slice.
    """

    def __init__(self, limit: float, slice_s: float) -> None:
        rate = limit / WINDOW_S
        self.limit = limit
        self._grain_s = slice_s / _GRAINS
        self._bucket = Bucket(rate, max(2 * rate * slice_s, 1.0))
        self._leased = 0.0
        self._sent: deque[tuple[float, float]] = deque()  # until when it counts, and how much
        self._sent_units = 0.0

    def fits(self, cost: float, now_s: float) -> bool:
        """Tell whether `cost` units can be leased; more than the limit can where nothing else counts."""
        return self._bucket.ready_at(cost) <= now_s + _ROUNDING and cost <= self._room(now_s) + _ROUNDING

    def ready_at(self, cost: float, now_s: float) -> float:
        """Return from when on `cost` units can be leased; infinite where that waits for leases to end."""
        ready_s = max(self._bucket.ready_at(cost), now_s)
        room = self._room(now_s)
        for until_s, units in self._sent:
            if cost <= room + _ROUNDING:
                break
            room += units
            ready_s = max(ready_s, until_s)
        return ready_s if cost <= room + _ROUNDING or not self._leased else inf

    def lease(self, units: float, now_s: float) -> None:
        """Take out units."""
        self._bucket = self._bucket.take(units, now_s)
        self._leased += units

    def settle(self, leased: float, used: float, sent_s: float, now_s: float) -> None:
        """Take note that of `leased` units `used` were sent, at `sent_s` at the latest; the rest comes back."""
        self._leased = max(self._leased - leased, 0.0)
        self._bucket = self._bucket.take(used - leased, now_s)
        self._count(used, sent_s)

    def correct(self, units: float, now_s: float) -> None:
        """Take note that calls have cost more than they were leased for, or less.

        Less makes the next calls come sooner. The minute is not told of it: it will have forgotten the call before the
        correction.
        """
        self._bucket = self._bucket.take(units, now_s)
        self._count(max(units, 0.0), now_s)

    def _count(self, units: float, sent_s: float) -> None:
        if units <= 0:
            return
        until_s = math.ceil((sent_s + WINDOW_S) / self._grain_s) * self._grain_s
        last_s = self._sent[-1][0] if self._sent else -inf
        if until_s <= last_s:
            self._sent[-1] = (last_s, self._sent[-1][1] + units)
        else:
            self._sent.append((until_s, units))
        self._sent_units += units

    def _room(self, now_s: float) -> float:
        while self._sent and self._sent[0][0] <= now_s:
            self._sent_units -= self._sent.popleft()[1]
        if not self._sent:
            self._sent_units = 0.0  # and no rest of rounding
        counted = self._sent_units + self._leased
        return self.limit - counted if counted else inf


@dataclass(frozen=True, slots=True)
class _Open:
    calls: int
    tokens: float
    leased_s: float


class Ledger:
    """Which leases there are, and which there can be.

    Parameters
    ----------
    rpm, tpm
        Requests and tokens a minute for all together; None: no limit.
    slice_s
        Seconds of a slice.

    Raises
    ------
    ValueError
        A limit or a slice that can't be.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None, slice_s: float = SLICE_S) -> None:
        for name, value in (("rpm", rpm), ("tpm", tpm), ("slice_s", slice_s)):
            if value is not None and not 0 < value < inf:
                raise ValueError(f"{name} must be above 0{'' if name == 'slice_s' else ', or None'}, not {value}")
        self.slice_s = slice_s
        self._requests = None if rpm is None else Budget(rpm, slice_s)
        self._tokens = None if tpm is None else Budget(tpm, slice_s)
        self._open: dict[int, _Open] = {}
        self._number = self._turn = 0

    @property
    def open(self) -> int:
        """Leases that nothing was heard of so far."""
        return len(self._open)

    def settle(self, report: Report, now_s: float) -> None:
        """Take in what became of a lease. One that ended long ago counts as used up, whatever is said of it now."""
        if self._tokens is not None and report.owed_tokens:
            self._tokens.correct(report.owed_tokens, now_s)
        if (lease := self._open.pop(report.lease, None)) is not None:
            self._end(lease, report.calls, report.tokens, now_s)

    def grant(self, claims: Sequence[Claim], now_s: float) -> list[Lease | None]:
        """Return a lease for each claim; None for those that have to wait.

        One call of each in turn, as long as there are any; first comes who was served longest ago. Where not even that
        one's first call can be sent, nobody is served: what is dear would wait for ever behind what is cheap.
        """
        self._forget_the_lost(now_s)
        calls, tokens = [0] * len(claims), [0.0] * len(claims)
        turns = [claim.turn for claim in claims]
        going = deque(sorted(range(len(claims)), key=turns.__getitem__))
        while going:
            one = going.popleft()
            cost = claims[one].tokens[calls[one]]
            if not self._fits(cost, now_s):
                if not any(calls):
                    break
                continue
            self._take(cost, now_s)
            self._turn += 1
            calls[one], tokens[one], turns[one] = calls[one] + 1, tokens[one] + cost, self._turn
            if calls[one] < len(claims[one].tokens):
                going.append(one)
        return [self._lease(*each, now_s) if each[0] else None for each in zip(calls, tokens, turns, strict=True)]

    def ready_at(self, claims: Sequence[Claim], now_s: float) -> float:
        """Return from when on one of the claims can be served, unless something is given back before."""
        first = min(claims, key=lambda claim: claim.turn).tokens[0]
        ready_s = now_s
        for budget, cost in ((self._requests, 1.0), (self._tokens, first)):
            if budget is not None:
                ready_s = max(ready_s, budget.ready_at(cost, now_s))
        lost_s = (lease.leased_s + 3 * self.slice_s for lease in self._open.values())
        return ready_s if ready_s < inf else min(lost_s, default=now_s)

    def _fits(self, cost: float, now_s: float) -> bool:
        return (self._requests is None or self._requests.fits(1.0, now_s)) and (
            self._tokens is None or self._tokens.fits(cost, now_s)
        )

    def _take(self, cost: float, now_s: float) -> None:
        if self._requests is not None:
            self._requests.lease(1.0, now_s)
        if self._tokens is not None:
            self._tokens.lease(cost, now_s)

    def _lease(self, calls: int, tokens: float, turn: int, now_s: float) -> Lease:
        self._number += 1
        self._open[self._number] = _Open(calls, tokens, now_s)
        limited = tokens if self._tokens is not None else inf
        return Lease(self._number, calls, limited, turn, slice_s=self.slice_s, valid_s=2 * self.slice_s)

    def _end(self, lease: _Open, calls: float, tokens: float, now_s: float) -> None:
        sent_s = min(now_s, lease.leased_s + 2 * self.slice_s)
        if self._requests is not None:
            self._requests.settle(lease.calls, calls, sent_s, now_s)
        if self._tokens is not None:
            self._tokens.settle(lease.tokens, tokens, sent_s, now_s)

    def _forget_the_lost(self, now_s: float) -> None:
        """Count as used up what nothing can be heard of any more: the process that held it may be dead."""
        lost = [number for number, lease in self._open.items() if lease.leased_s + 3 * self.slice_s <= now_s]
        for number in lost:
            lease = self._open.pop(number)
            self._end(lease, lease.calls, lease.tokens, now_s)


class LeaseSource(Protocol):
    """Where leases come from: a `Broker` in this process, or one that is far away."""

    async def lease(self, claim: Claim) -> Lease:
        """Return a lease for the first calls of a claim, at least one, as soon as it can be had."""
        ...

    async def settle(self, report: Report) -> None:
        """Say what became of a lease, without asking for another."""
        ...


_source: ContextVar[LeaseSource | None] = ContextVar("tinytroupe_leases", default=None)


def current_leases() -> LeaseSource | None:
    """Return the source set by `use_leases`, if any."""
    return _source.get()


@contextmanager
def use_leases(source: LeaseSource | None) -> Iterator[LeaseSource | None]:
    """Take calls out of leases inside the ``with`` block, in place of limits of this process's own; None: do not.

    ``REQUESTS_PER_MINUTE`` and ``TOKENS_PER_MINUTE`` are then the source's matter.
    """
    token = _source.set(source)
    try:
        yield source
    finally:
        _source.reset(token)
