"""What a server takes, as pure state: calls in flight (`Control`), requests or tokens a minute (`Bucket`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

START = 20
"""Calls in flight at the beginning."""
ROUND_S = 0.05
"""Seconds of slow start after which calls that were not refused count as let in."""
GROW_FACTOR = 1.05
"""What a clean round multiplies the limit by, once the first 429 has been seen."""
CUT_FACTOR = 0.8
"""What a 429 multiplies the limit by."""
BUSY_SHARE = 0.8
"""Share of the limit that must be in use for it to grow: an idle gate learns nothing about the server."""
_ROUNDING = 1e-9  # 0.8 and 1.05 are no binary fractions: 25 × 0.8 must count as 20


@dataclass(frozen=True, slots=True)
class Control:
    """The control law's state: how many calls may be in flight, and what has been seen since it last changed.

    Until the first 429 (slow start): twice as many for every round in which calls wait and none is refused, and one
    more for each success. A limiter refuses at once, however long the model thinks, so a round lasts `ROUND_S` and not
    as long as a reply. Then +5 % a clean round, which is as many successes as the limit. A 429 cuts by a fifth, once an
    episode: an episode ends with a cut, and calls sent before the cut neither cut again nor count as successes. Only
    where slow start had gone far beyond what the server takes, each further 429 of its last burst takes one call back.

    Attributes
    ----------
    limit
        Calls allowed in flight. A fraction is kept, so that 5 % of a small limit adds up.
    low, high
        Bounds of the limit.
    slow_start
        True until the first 429.
    episode
        Number of cuts so far.
    successes
        Successes in this round.
    busy
        Most calls in flight seen in this round.
    hold
        Successes to wait for before growing again, after a server error or a time-out.
    """

    limit: float
    low: int = 1
    high: int = 1000
    slow_start: bool = True
    episode: int = 0
    successes: int = 0
    busy: int = 0
    hold: int = 0

    @property
    def slots(self) -> int:
        """The limit as a whole number of calls."""
        return int(self.limit + _ROUNDING)

    def succeeded(self, episode: int, in_use: int) -> Control:
        """Return the state after a success of a call admitted in `episode`, while `in_use` calls were in flight."""
        if episode != self.episode or (self.slow_start and self.limit >= self.high and not self.hold):
            return self
        if self.hold:
            return replace(self, hold=self.hold - 1)
        if self.slow_start:
            return replace(self, limit=min(self.limit + 1, self.high)) if self._is_busy(in_use) else self
        busy = max(self.busy, in_use)
        if self.successes + 1 < self.slots:
            return replace(self, successes=self.successes + 1, busy=busy)
        limit = min(self.limit * GROW_FACTOR, self.high) if self._is_busy(busy) else self.limit
        return replace(self, limit=limit, successes=0, busy=0)

    def unopposed(self) -> Control:
        """Return the state after `ROUND_S` of slow start in which calls waited, and no call was refused."""
        return replace(self, limit=min(self.limit * 2, self.high)) if self.probes else self

    @property
    def probes(self) -> bool:
        """Whether time without a 429 lets the limit grow."""
        return self.slow_start and not self.hold and self.slots < self.high

    def rate_limited(self, episode: int) -> Control:
        """Return the state after a 429 answered a call admitted in `episode`."""
        if episode == 0 and self.episode == 1 and self.limit > max(START * CUT_FACTOR, self.low):
            return replace(self, limit=max(self.limit - 1, START * CUT_FACTOR, self.low))
        if episode != self.episode:
            return self
        return replace(
            self,
            limit=max(self.limit * CUT_FACTOR, self.low),
            slow_start=False,
            episode=self.episode + 1,
            successes=0,
            busy=0,
            hold=0,
        )

    def troubled(self) -> Control:
        """Return the state after a server error or time-out: no growth for one round, and no cut."""
        return replace(self, hold=self.slots, successes=0, busy=0)

    def _is_busy(self, in_use: int) -> bool:
        return in_use >= BUSY_SHARE * self.slots - _ROUNDING


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket that refills continuously, kept as the one instant at which it is full again (GCRA).

    Attributes
    ----------
    rate_per_s
        Refill, units a second.
    capacity
        Units that may be taken at once.
    full_at_s
        Instant at which the bucket is full again, on the loop's clock; in the past = full.
    withheld
        Units taken out so far because the server counted fewer than we did.
    """

    rate_per_s: float
    capacity: float
    full_at_s: float = -inf
    withheld: float = 0.0

    @classmethod
    def per_minute(cls, limit: float | None, burst_s: float) -> Bucket | None:
        """Return a full bucket for `limit` units a minute that holds `burst_s` seconds' worth (1 unit at least)."""
        return None if limit is None else cls(limit / 60, max(limit / 60 * burst_s, 1.0))

    def ready_at(self, cost: float) -> float:
        """Return the instant from which `cost` units may be taken; more than the capacity goes when it is full."""
        return self.full_at_s - max(self.capacity - cost, 0.0) / self.rate_per_s

    def take(self, cost: float, now_s: float) -> Bucket:
        """Return the bucket with `cost` units less (more, if negative); below zero, the next taker waits longer."""
        full_at_s = max(self.full_at_s, now_s) + cost / self.rate_per_s
        return Bucket(self.rate_per_s, self.capacity, full_at_s, self.withheld)

    def reconciled(self, sent: Bucket, sent_s: float, remaining: float, now_s: float) -> Bucket:
        """Return the bucket brought down to the server's count.

        The server counted when the request arrived, not now: what was taken and refilled since then is already in this
        bucket, so only the difference at that time is taken out, and only once for all requests then under way.

        Parameters
        ----------
        sent, sent_s
            This bucket as it was when the request was sent, and when that was.
        remaining
            Units the server had left for us after that request.
        now_s
            The loop's time.
        """
        excess = sent.level(sent_s) - remaining - (self.withheld - sent.withheld)
        if excess <= 0:
            return self
        full_at_s = max(self.full_at_s, now_s) + excess / self.rate_per_s
        return Bucket(self.rate_per_s, self.capacity, full_at_s, self.withheld + excess)

    def level(self, now_s: float) -> float:
        """Return the units in the bucket; below zero where more was taken than there was."""
        return self.capacity - max(self.full_at_s - now_s, 0.0) * self.rate_per_s


def told_by(headers: Mapping[str, str], unit: str) -> tuple[float | None, float | None]:
    """Return what a reply's headers tell of the limit and of what remains of it, None where they don't.

    Parameters
    ----------
    headers
        Lower-case names: ``x-ratelimit-limit-*`` (taken to be per minute) and ``x-ratelimit-remaining-*``.
    unit
        ``requests`` or ``tokens``.
    """
    return _number(headers.get(f"x-ratelimit-limit-{unit}")), _number(headers.get(f"x-ratelimit-remaining-{unit}"))


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*\d{1,15}(\.\d{1,9})?\s*", text, re.ASCII) else None
