"""Gives out leases to all who share a limit: the one that asks least often waits least."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from math import inf

from tinytroupe.llm.leases import SLICE_S, Claim, Lease, Ledger, Report

_TIMER_SLACK_S = 1e-9  # as of the gate's timer


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    claim: Claim
    answer: asyncio.Future[Lease]
    asked_s: float


class Broker:
    """A `LeaseSource` that keeps the ledger, on one event loop.

    What there is plenty of is given at once. Where there is not enough for all, it is dealt out once a slice, to all
    who ask at that time, so that nobody gains by asking more often.

    Parameters
    ----------
    rpm, tpm, slice_s
        As of `Ledger`.

    Attributes
    ----------
    asked
        Claims that were made so far.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None, slice_s: float = SLICE_S) -> None:
        self._ledger = Ledger(rpm, tpm, slice_s)
        self._line: deque[_Waiting] = deque()
        self._next_round_s = -inf
        self._timer: asyncio.TimerHandle | None = None
        self.asked = 0

    def __repr__(self) -> str:
        return f"<Broker {self._ledger.open} leases, {len(self._line)} waiting>"

    async def lease(self, claim: Claim) -> Lease:
        """See `LeaseSource.lease`."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(claim, loop.create_future(), loop.time())
        self.asked += 1
        self._ledger.settle(claim.report, waiting.asked_s)
        self._line.append(waiting)
        self._round()
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            if waiting in self._line:
                self._line.remove(waiting)
            elif waiting.answer.done() and not waiting.answer.cancelled():  # given and cancelled in the same instant
                self._ledger.settle(Report(waiting.answer.result().number), loop.time())
            self._round()
            raise

    async def settle(self, report: Report) -> None:
        """See `LeaseSource.settle`."""
        self._ledger.settle(report, asyncio.get_running_loop().time())
        self._round()

    def _round(self) -> None:
        """Give out what there is, and come back when there is more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._line:
            return
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._next_round_s <= now_s + _TIMER_SLACK_S:
            self._deal(now_s)
        if self._line:
            ready_s = self._ledger.ready_at([each.claim for each in self._line], now_s)
            self._timer = loop.call_at(max(self._next_round_s, ready_s), self._round)

    def _deal(self, now_s: float) -> None:
        line = list(self._line)
        leases = self._ledger.grant([each.claim for each in line], now_s)
        self._line.clear()
        short = False
        for each, lease in zip(line, leases, strict=True):
            short |= lease is None or lease.calls < len(each.claim.tokens)
            if lease is None:
                self._line.append(each)
            elif not each.answer.done():
                each.answer.set_result(replace(lease, waited_s=now_s - each.asked_s))
            else:  # cancelled in this very instant
                self._ledger.settle(Report(lease.number), now_s)
        if short and len(self._line) < len(line):
            self._next_round_s = now_s + self._ledger.slice_s
