"""A shard in a process of its own, beside its journal: what a cluster runs. Everything comes and goes as bytes."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinytroupe.config import config_manager
from tinytroupe.engine.turn import TurnOutcome
from tinytroupe.environment.shards.exchange import Inbox, LeftOut, Outbox, Settlement
from tinytroupe.environment.shards.shard import Shard
from tinytroupe.llm import model_in_use
from tinytroupe.llm.journal import use_journal
from tinytroupe.llm.leases import LeaseSource, use_leases
from tinytroupe.llm.shard_journal import JournalPart
from tinytroupe.runtime.errors import PROTOCOL, portable, story


class LostHistoryError(RuntimeError):
    """What a lost shard had asked is not on record where it began anew, so that it can't go on as it was."""


@dataclass(frozen=True, slots=True)
class HostSpec:
    """What a host begins with, beside its shard.

    Attributes
    ----------
    settings
        Those of the driver; None: they are this process's own.
    journal
        Its part of the run's journal.
    leases
        Where leave to send comes from; None: nothing is limited for all shards together.
    """

    settings: Mapping[str, Any] | None
    journal: JournalPart
    leases: LeaseSource | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """A step that a shard has been through.

    Attributes
    ----------
    sent
        Its inbox.
    left_out
        See `Outbox.left_out`.
    digest
        Fingerprint of what was decided.
    """

    sent: bytes
    left_out: Mapping[int, LeftOut]
    digest: bytes


class Host:
    """Keeps one shard alive.

    Parameters
    ----------
    spec
        What it begins with.
    shard
        The pickled `ShardSpec`.

    Raises
    ------
    RuntimeError
        The directory of the journals is not the driver's, and must be.
    """

    def __init__(self, spec: HostSpec, shard: bytes) -> None:
        if spec.settings is not None:
            config_manager.update_multiple(spec.settings)
        self._journal = spec.journal.opened()
        self._shard = Shard(pickle.loads(shard))
        self._leases = spec.leases
        self._busy = asyncio.Lock()
        self._begun = 0
        self._counted = (0, 0)

    async def ready(self) -> None:
        """Get ready for the first call."""
        model = model_in_use(self._shard.model)
        prepare = getattr(model, "prepare", None)
        if prepare is not None:
            with use_leases(self._leases):  # a gate is built with the limits that it is to keep
                await prepare()

    async def step(self, number: int, sent: bytes) -> bytes:
        """Go through step `number` of the run, counted from 1; see `Shard.step`."""
        async with self._busy:
            self._begun = number
            with use_journal(self._journal), use_leases(self._leases):
                outbox = await self._shard.step(pickle.loads(sent))
            outbox.hits = self._journal.hits - self._counted[0]
            outbox.misses = self._journal.misses - self._counted[1]
            self._counted = (self._journal.hits, self._journal.misses)
            return packed(outbox)

    async def relive(self, past: Sequence[Past], number: int) -> None:
        """Go through steps once more, the last of which is `number`, without asking anything.

        Raises
        ------
        LostHistoryError
            What was asked is not on record here.
        """
        self._journal.reliving = True
        try:
            with use_journal(self._journal), config_manager.override(turn_timeout=None):
                for one in past:
                    outcomes = await self._shard.relive(pickle.loads(one.sent), one.left_out)
                    acted = [outcome for outcome in outcomes if outcome.error is None]
                    failed = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
                    if failed is not None or digest_of(acted) != one.digest:
                        where = ", and is not on storage that all machines share" if self._journal.passing else ""
                        raise LostHistoryError(f"its journal does not hold all that it had asked{where}") from failed
        finally:
            self._journal.reliving = False
        self._begun = number

    async def snapshot(self, number: int, last: bytes, settlement: bytes) -> bytes:
        """Return everyone's life, pickled; see `Shard.snapshot`.

        Parameters
        ----------
        number, last
            The step that this was sent last and whose outbox has not arrived, and how the one before it ends: where it
            was cancelled before it came here, that one is to be settled yet.
        settlement
            As of `Shard.snapshot`.
        """
        async with self._busy:
            with use_journal(self._journal), use_leases(self._leases):
                if number > self._begun:
                    self._begun = number
                    if (before := pickle.loads(last)) is not None:
                        await self._shard.settle(before)
                lives = await self._shard.snapshot(pickle.loads(settlement))
            return pickle.dumps(lives, PROTOCOL)

    async def close(self) -> None:
        """Write everything down, and let go of connections."""
        await self.leave()
        await model_in_use(self._shard.model).aclose()

    async def leave(self) -> None:
        """Write everything down."""
        async with self._busy:
            self._journal.close()


def digest_of(outcomes: Sequence[TurnOutcome]) -> bytes:
    """Return a fingerprint of what people have decided."""
    decided = [(outcome.index, outcome.actions) for outcome in outcomes if outcome.error is None]
    return hashlib.blake2b(repr(decided).encode("utf-8", "surrogatepass"), digest_size=16).digest()


class _There(Exception):
    """The cause of an error, as it was written down where it happened."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def packed(outbox: Outbox) -> bytes:
    """Return an outbox as bytes; errors that can't travel become such that can, with their story beside them."""
    stories: dict[int, str] = {}
    for at, outcome in enumerate(outbox.outcomes):
        if outcome.error is not None:
            stories[at] = story(outcome.error)
            outbox.outcomes[at] = replace(outcome, error=portable(outcome.error))
    if outbox.failure is not None:
        index, failure = outbox.failure
        stories[-1] = story(failure)
        outbox.failure = (index, portable(failure))
    return pickle.dumps((outbox, stories), PROTOCOL)


def unpacked(received: bytes) -> Outbox:
    """Return the outbox that was packed, the causes of its errors in words."""
    outbox: Outbox
    outbox, stories = pickle.loads(received)
    for at, told in stories.items():
        error = outbox.outcomes[at].error if at >= 0 else outbox.failure and outbox.failure[1]
        if isinstance(error, BaseException):
            error.__cause__ = _There(told)
    return outbox


def pack(what: Inbox | Settlement | None) -> bytes:
    """Return what goes to a host as bytes."""
    return pickle.dumps(what, PROTOCOL)
