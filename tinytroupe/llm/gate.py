"""The gate every model call passes: it makes callers wait, in fair order, for what `limits` allows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from types import TracebackType

from tinytroupe.llm.allowance import Allowance
from tinytroupe.llm.leases import LeaseSource
from tinytroupe.llm.limits import ROUND_S, START, Bucket, Control, told_by
from tinytroupe.llm.lines import Lines
from tinytroupe.llm.model import ModelError
from tinytroupe.llm.waiting import during

COOL_DOWN_S = 1.0
"""Pause of all sending after a 429 without Retry-After, seconds."""
MAX_COOL_DOWN_S = 60.0
"""Longest pause that one Retry-After can impose on everybody, seconds."""
HISTORY_SIZE = 256
"""Events kept in `Gate.history`."""

_TIMER_SLACK_S = 1e-9  # a timer may fire this much early; without the slack the pump would spin on it


@dataclass(frozen=True, slots=True)
class GateEvent:
    """One change at the gate.

    Attributes
    ----------
    at_s
        When, on the loop's clock.
    kind
        ``slow start`` and ``taken back`` (a run of them is one event, the latest), ``grown``, ``cut``, ``cool-down``,
        ``growth paused``.
    limit, in_use, waiting
        The limit after the change, calls in flight and calls waiting.
    """

    at_s: float
    kind: str
    limit: int
    in_use: int
    waiting: int


class Slot:
    """Leave to send one request, for the length of an ``async with`` block.

    Attributes
    ----------
    tokens
        Tokens the request is expected to cost.
    line
        Whose line it waits in.
    queued_s
        Seconds it waited, on the loop's clock.
    sent_s
        When it was given, on the loop's clock; `episode`, `sent_requests` and `sent_tokens` are the gate's state then.
    """

    __slots__ = ("_gate", "_loop", "episode", "line", "queued_s", "sent_requests", "sent_s", "sent_tokens", "tokens")

    def __init__(self, gate: Gate, tokens: float, line: str) -> None:
        self._gate = gate
        self._loop: asyncio.AbstractEventLoop | None = None
        self.tokens = tokens
        self.line = line
        self.queued_s = 0.0
        self.episode = -1
        self.sent_s = 0.0
        self.sent_requests: Bucket | None = None
        self.sent_tokens: Bucket | None = None

    async def __aenter__(self) -> Slot:
        if self._loop is not None:
            raise RuntimeError("this slot is in use; ask the gate for a new one for each request")
        gate = self._gate
        loop = gate._bind()
        if not gate._try_admit(self, loop):
            with during("queued"):
                await gate._queue(self, loop)
        self._loop = loop
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        loop, self._loop = self._loop, None
        self._gate._release(loop)


class Gate:
    """Admits model calls: no more in flight, a minute, or in tokens a minute than the server takes.

    Serves one event loop at a time and is not thread-safe (its figures may be read from any thread). All time is the
    running loop's. First come, first served, and where several share it (worlds that run at once), one of each in
    turn; a cancelled caller leaves no trace.

    Parameters
    ----------
    start, low, high
        First value and bounds of the number of calls in flight; `start` is moved into the bounds.
    rpm, tpm
        Requests and tokens per minute, or None. A limit that is None here is taken from the server's
        ``x-ratelimit-limit-*`` headers when it sends them.
    adaptive
        False keeps the limit at `start`; a Retry-After is still respected.
    burst_s
        Seconds' worth of `rpm` and `tpm` that may be spent at once (never less than one request).
    leases
        Where leave to send comes from, for limits that are shared with other processes.

    Raises
    ------
    ValueError
        A bound or a rate that can't be.
    """

    def __init__(
        self,
        start: int = START,
        low: int = 1,
        high: int = 1000,
        rpm: float | None = None,
        tpm: float | None = None,
        adaptive: bool = True,
        burst_s: float = 1.0,
        leases: LeaseSource | None = None,
    ) -> None:
        if low < 1 or high < low:
            raise ValueError(f"bounds of a gate must satisfy 1 <= low <= high, not low={low}, high={high}")
        if start < 1:
            raise ValueError(f"a gate must start with at least 1 call in flight, not {start}")
        for name, value in (("rpm", rpm), ("tpm", tpm)):
            if value is not None and not 0 < value < inf:
                raise ValueError(f"{name} must be above 0, or None for no limit, not {value}")
        if not 0 <= burst_s < inf:
            raise ValueError(f"burst_s must be 0 or more, not {burst_s}")
        start = min(max(start, low), high)
        self.control = Control(start, low, high) if adaptive else Control(start, start, start)
        self.history: deque[GateEvent] = deque(maxlen=HISTORY_SIZE)
        self.in_use = 0
        self.in_use_peak = 0
        self.requests = Bucket.per_minute(rpm, burst_s)
        self.tokens = Bucket.per_minute(tpm, burst_s)
        self._allowance = None if leases is None else Allowance(leases, self._pump, self._give_up)
        self._resume_at_s = -inf
        self._seen_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: Lines[asyncio.Future[None], Slot] = Lines()
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Gate {self.in_use}/{self.limit} in use, {self.waiting} waiting>"

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return self.control.slots

    @property
    def waiting(self) -> int:
        """Calls that wait to be admitted."""
        return len(self._waiters)

    def slot(self, estimated_tokens: float = 0, line: str = "") -> Slot:
        """Return the ``async with`` block in which one request may be sent.

        Parameters
        ----------
        estimated_tokens
            What the request will cost of the tokens a minute, prompt and reply.
        line
            On whose behalf: the name of a world.
        """
        return Slot(self, estimated_tokens, line)

    def on_success(self, slot: Slot) -> None:
        """Tell that the request of `slot` was answered. Call it inside the block, as all that follow."""
        kind = "slow start" if self.control.slow_start else "grown"
        self._change(kind, self.control.succeeded(slot.episode, self.in_use))

    def on_rate_limited(self, slot: Slot, retry_after_s: float | None = None) -> None:
        """Tell that the request of `slot` was answered with 429: cut, and stop sending for a while.

        Parameters
        ----------
        slot
            The slot the request was sent in: only the first 429 of an episode cuts.
        retry_after_s
            What the server asked for; None = it didn't say.
        """
        loop = self._bind()
        # The fast 429s of one burst must not each restart the default pause; what the server asked for always counts.
        if retry_after_s is not None or slot.episode == self.control.episode:
            pause_s = COOL_DOWN_S if retry_after_s is None else min(max(retry_after_s, 0.0), MAX_COOL_DOWN_S)
            resume_at_s = loop.time() + pause_s
            if resume_at_s > self._resume_at_s:
                self._resume_at_s = resume_at_s
                self._record("cool-down")
        kind = "cut" if slot.episode == self.control.episode else "taken back"
        self._change(kind, self.control.rate_limited(slot.episode))
        self._pump()

    def on_transient_error(self, slot: Slot) -> None:
        """Tell that the request of `slot` met a 5xx or a time-out: growth pauses for a round, nothing is cut."""
        if slot.episode == self.control.episode:
            if not self.control.hold:
                self._record("growth paused")
            self.control = self.control.troubled()

    def correct(self, slot: Slot, tokens_used: float | None, headers: Mapping[str, str] | None = None) -> None:
        """Correct the buckets by what the server counted.

        Parameters
        ----------
        slot
            The slot the request was sent in.
        tokens_used
            Prompt and completion tokens from the reply's usage; None = unknown, the estimate stands.
        headers
            The reply's headers, of which those named ``x-ratelimit-…`` are read (see `limits.told_by`).
        """
        now_s = self._bind().time()
        if tokens_used is not None and tokens_used != slot.tokens:
            if self.tokens:
                self.tokens = self.tokens.take(tokens_used - slot.tokens, now_s)
            if self._allowance:
                self._allowance.correct(tokens_used - slot.tokens)
            slot.tokens = tokens_used
        if headers:
            self.requests = self._reconciled(self.requests, slot.sent_requests, slot, told_by(headers, "requests"))
            self.tokens = self._reconciled(self.tokens, slot.sent_tokens, slot, told_by(headers, "tokens"))
        if self._waiters:
            self._pump()

    def _reconciled(
        self, bucket: Bucket | None, sent: Bucket | None, slot: Slot, told: tuple[float | None, float | None]
    ) -> Bucket | None:
        limit, remaining = told
        if remaining is None:
            return bucket
        if bucket is None:
            # The server keeps count and tells it, so nothing is gained by pacing before its count runs out.
            return Bucket(limit / 60, limit).take(limit - remaining, self._seen_s) if limit else None
        return bucket.reconciled(sent, slot.sent_s, remaining, self._seen_s) if sent else bucket

    def _bind(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; when it is another than before, carry over what is left of pauses and debts."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                if (self.in_use or self._waiters) and self._loop.is_running():
                    raise RuntimeError(
                        "this gate is in use in another event loop that is still running; "
                        "give each loop a gate of its own, or close the first loop before"
                    )
                shift_s = loop.time() - self._seen_s
                self._resume_at_s += shift_s
                self.requests = self.requests and replace(self.requests, full_at_s=self.requests.full_at_s + shift_s)
                self.tokens = self.tokens and replace(self.tokens, full_at_s=self.tokens.full_at_s + shift_s)
                self._waiters.clear()
                self._timer = self._round = None
                if self._allowance:
                    self._allowance.abandon()
                self.in_use = 0
            self._loop = loop
        self._seen_s = loop.time()
        return loop

    def _try_admit(self, slot: Slot, loop: asyncio.AbstractEventLoop) -> bool:
        now_s = loop.time()
        if self._waiters or self.in_use >= self.control.slots or self._ready_at(slot) > now_s + _TIMER_SLACK_S:
            return False
        if self._allowance and not self._allowance.covers(slot.tokens, now_s):
            return False
        self._admit(slot, now_s)
        return True

    def _ready_at(self, slot: Slot) -> float:
        """Return the instant from which pauses and buckets let `slot` pass."""
        ready_at_s = self._resume_at_s
        if self.requests:
            ready_at_s = max(ready_at_s, self.requests.ready_at(1))
        if self.tokens:
            ready_at_s = max(ready_at_s, self.tokens.ready_at(slot.tokens))
        return ready_at_s

    def _admit(self, slot: Slot, now_s: float) -> None:
        self._take(1, slot.tokens, now_s)
        self._seen_s = now_s
        slot.episode = self.control.episode
        slot.sent_s, slot.sent_requests, slot.sent_tokens = now_s, self.requests, self.tokens
        self.in_use += 1
        self.in_use_peak = max(self.in_use_peak, self.in_use)

    def _take(self, requests: float, tokens: float, now_s: float) -> None:
        if self.requests:
            self.requests = self.requests.take(requests, now_s)
        if self.tokens:
            self.tokens = self.tokens.take(tokens, now_s)
        if self._allowance:
            self._allowance.take(int(requests), tokens)

    async def _queue(self, slot: Slot, loop: asyncio.AbstractEventLoop) -> None:
        start_s = loop.time()
        admitted: asyncio.Future[None] = loop.create_future()
        self._waiters.join(slot.line, admitted, slot)
        self._pump()
        try:
            await admitted
        except BaseException:
            if admitted.done() and not admitted.cancelled() and admitted.exception() is None:
                # Admitted and cancelled in the same instant: give it back.
                self._take(-1, -slot.tokens, loop.time())
                self._release(loop)
            else:
                self._waiters.leave(admitted)
                self._pump()
            raise
        slot.queued_s = loop.time() - start_s

    def _release(self, loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is self._loop:  # else the slot belonged to a loop that is gone
            self.in_use -= 1
            if self._waiters:
                self._pump()

    def _pump(self) -> None:
        """Admit from the head of the queue all that may go; where only time is missing, come back in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is None or self._loop.is_closed():
            return
        self._admit_waiting()
        full = bool(self._waiters) and self.in_use >= self.control.slots and self.control.probes
        if full and self._round is None:
            self._round = self._loop.call_later(ROUND_S, self._end_round)
        elif not full and self._round is not None:
            self._round.cancel()
            self._round = None

    def _end_round(self) -> None:
        self._round = None
        self._change("slow start", self.control.unopposed())
        self._pump()

    def _admit_waiting(self) -> None:
        if not self._waiters or self._loop is None:
            return
        now_s = self._loop.time()
        while self._waiters and self.in_use < self.control.slots:
            admitted, slot = self._waiters.first()
            ready_at_s = self._ready_at(slot)
            if ready_at_s > now_s + _TIMER_SLACK_S:
                self._timer = self._loop.call_at(ready_at_s, self._pump)
                return
            if self._allowance and not self._allowance.covers(slot.tokens, now_s):
                self._allowance.ask(each.tokens for each in self._waiters)
                return
            self._waiters.serve()
            if not admitted.done():  # else cancelled in this very instant
                self._admit(slot, now_s)
                admitted.set_result(None)

    def _give_up(self, error: BaseException) -> None:
        """Let all who wait know that no leave to send can be had."""
        waiting = list(self._waiters.keys())
        self._waiters.clear()
        for admitted in waiting:
            if not admitted.done():
                failure = ModelError(f"the limits of this model are kept elsewhere, where nobody answers: {error}")
                failure.__cause__ = error
                admitted.set_exception(failure)

    def _change(self, kind: str, control: Control) -> None:
        before, self.control = self.control.slots, control
        if control.slots != before:
            self._record(kind)
            if control.slots > before:
                self._pump()

    def _record(self, kind: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if kind in ("slow start", "taken back") and self.history and self.history[-1].kind == kind:
            self.history.pop()
        self.history.append(GateEvent(now_s, kind, self.limit, self.in_use, self.waiting))
