"""A gate's part of a limit that it shares with other processes: the lease it has, and when it asks for the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from math import inf

from tinytroupe.llm.leases import MOST_CALLS, Claim, Lease, LeaseSource, Report

_ROUNDING = 1e-6  # tokens: sums of estimates


class Allowance:
    """Calls and tokens that a gate may spend now. One lease at a time; lives on one event loop.

    Parameters
    ----------
    source
        Where leases come from.
    wake
        Called when there is a new lease.
    failed
        Called with the error where there can't be one.
    """

    def __init__(self, source: LeaseSource, wake: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self._source, self._wake, self._failed = source, wake, failed
        self._lease: Lease | None = None
        self._until_s = -inf
        self._began_s = 0.0
        self._calls, self._tokens = 0, 0.0
        self._owed_tokens = 0.0
        self._turn = 0
        self._short = False
        self._pace, self._slice_s, self._ended_s = 0.0, 0.0, -inf
        self._claim: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def covers(self, tokens: float, now_s: float) -> bool:
        """Tell whether a call that is expected to cost `tokens` may be sent."""
        lease = self._lease
        return (
            lease is not None
            and now_s <= self._until_s
            and self._calls < lease.calls
            and self._tokens + tokens <= lease.tokens + _ROUNDING
        )

    def take(self, calls: int, tokens: float) -> None:
        """Send a call; below zero, take back one that was not sent after all."""
        self._calls = max(self._calls + calls, 0)
        self._tokens = max(self._tokens + tokens, 0.0)

    def correct(self, tokens: float) -> None:
        """Take note that a call has cost more tokens than expected, or less."""
        self._owed_tokens += tokens

    def ask(self, waiting: Iterable[float]) -> None:
        """Ask for the next lease, unless that was done already.

        Parameters
        ----------
        waiting
            What the calls that wait are expected to cost, in the order in which they will be sent; at least one.
        """
        if self._claim is not None:
            return
        loop = asyncio.get_running_loop()
        report, tokens = self._ended(loop.time()), tuple(islice(waiting, MOST_CALLS))
        tokens += (sum(tokens) / len(tokens),) * min(self._expected(loop.time()), MOST_CALLS - len(tokens))
        self._claim = loop.create_task(self._renew(Claim(tokens, self._turn, report), loop))

    def abandon(self) -> None:
        """Forget everything: the loop is gone. What was leased counts as used up, where that is counted."""
        self._lease, self._claim, self._timer = None, None, None
        self._settling.clear()

    async def _renew(self, claim: Claim, loop: asyncio.AbstractEventLoop) -> None:
        asked_s = loop.time()
        try:
            lease = await self._source.lease(claim)
        except BaseException as error:
            self._claim = None
            if isinstance(error, Exception):
                self._failed(error)
                return
            raise
        self._claim = None
        self._lease, self._turn = lease, lease.turn
        self._calls, self._tokens = 0, 0.0
        self._short = lease.calls < len(claim.tokens)
        self._began_s = loop.time()
        self._until_s = asked_s + lease.waited_s + lease.valid_s
        self._timer = loop.call_later(lease.slice_s, self._give_back)
        self._wake()

    def _expected(self, now_s: float) -> int:
        """Return how many calls to ask for beyond those that wait: as many as came in the last slice.

        None where there was not enough for all: who took more than waits would keep it from others.
        """
        return 0 if self._short or now_s > self._ended_s + self._slice_s else int(self._pace)

    def _ended(self, now_s: float) -> Report:
        """End the lease, and return what became of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lease, self._lease = self._lease, None
        owed_tokens, self._owed_tokens = self._owed_tokens, 0.0
        if lease is None:
            return Report(owed_tokens=owed_tokens)
        # Of a lease that was used up at once, half a slice at least: it tells little of the rest of it.
        self._slice_s, self._ended_s = lease.slice_s, now_s
        self._pace = self._calls / max((now_s - self._began_s) / lease.slice_s, 0.5)
        return Report(lease.number, self._calls, self._tokens, owed_tokens)

    def _give_back(self) -> None:
        self._timer = None
        if self._claim is not None:  # it says so itself
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._settle(self._ended(loop.time())))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, report: Report) -> None:
        try:
            await self._source.settle(report)
        except Exception as error:
            self._failed(error)
