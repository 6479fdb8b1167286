"""A world on its way: everything of it that is needed to live through it in another process, and to take it back."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tinytroupe.agent.action import Action
from tinytroupe.agent.life import Directory, Elsewhere, Life, Tables, come_back, life_of, take_up
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.engine.metrics import EngineMetrics
from tinytroupe.environment.fences import fences
from tinytroupe.environment.tiny_social_network import TinySocialNetwork
from tinytroupe.environment.tiny_world import TinyWorld
from tinytroupe.llm import ChatModel, current_model
from tinytroupe.llm.journal import use_journal
from tinytroupe.llm.leases import LeaseSource, use_leases
from tinytroupe.llm.shard_journal import JournalPart
from tinytroupe.runtime.clock import WallClock, use_clock
from tinytroupe.runtime.errors import PROTOCOL, portable, story

_KINDS = (TinyWorld, TinySocialNetwork)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Arguments of `TinyWorld.run`."""

    steps: int
    timedelta_per_step: timedelta | None
    return_actions: bool
    parallelize: bool | None
    scheduler: str | None


@dataclass(frozen=True, slots=True)
class WorldState:
    """A world apart from the process it is in.

    Attributes
    ----------
    kind
        Position of its class among those that can travel.
    lives
        Its people, in its order.
    relations
        Those of a `TinySocialNetwork`, by name.
    metrics
        What its runs have cost so far.
    """

    kind: int
    name: str
    lives: tuple[Life, ...]
    relations: Mapping[str, list[tuple[str, str]]]
    step: int
    moment: datetime | None
    broadcast_if_no_target: bool
    model: ChatModel | None
    on_error: str | None
    metrics: EngineMetrics

    @classmethod
    def of(cls, world: TinyWorld, model: ChatModel | None) -> WorldState:
        """Return the state of a world."""
        tables = Tables()
        relations = world.relations if isinstance(world, TinySocialNetwork) else {}
        return cls(
            _KINDS.index(type(world)),
            world.name,
            tuple(life_of(person, tables) for person in world.agents),
            {name: [(one.name, other.name) for one, other in pairs] for name, pairs in relations.items()},
            world._step,
            world.current_datetime,
            world.broadcast_if_no_target,
            model,
            world.on_error,
            world._metrics,
        )

    def world(self) -> TinyWorld:
        """Return a new world of this state, whose people nobody else in the process gets to know by name."""
        people = [take_up(life) for life in self.lives]
        world = _KINDS[self.kind](
            self.name,
            people,
            initial_datetime=self.moment,
            broadcast_if_no_target=self.broadcast_if_no_target,
            model=self.model,
            on_error=self.on_error,
            show=False,
        )
        elsewhere: dict[str, TinyPerson] = {}
        self._bring_up(world, lambda name: elsewhere.setdefault(name, Elsewhere(name)))
        return world

    def take_back(self, world: TinyWorld) -> None:
        """Let the world that was sent away, and its people, go on with what has become of them."""
        known = {name: other for person in world.agents for name, (other, _) in person._reach.items()}
        for person, life in zip(world.agents, self.lives, strict=True):
            come_back(person, life)
        self._bring_up(world, lambda name: known[name] if name in known else Elsewhere(name))
        world.current_datetime = self.moment

    def _bring_up(self, world: TinyWorld, stranger: Any) -> None:
        def find(name: str) -> TinyPerson:
            return world.get_agent_by_name(name) or stranger(name)

        directory = Directory(find)
        for person, life in zip(world.agents, self.lives, strict=True):
            person.share_reach(directory.of(life.relations))
        if isinstance(world, TinySocialNetwork):
            world.relations = {
                name: [(find(one), find(other)) for one, other in pairs] for name, pairs in self.relations.items()
            }
        world._step, world._metrics = self.step, self.metrics


class ThereError(Exception):
    """What went wrong, as it was written down in the other process."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What comes back.

    Attributes
    ----------
    state
        The world after its run.
    actions
        See `TinyWorld.run`.
    errors
        What ended the run early, then its cause, and so on; empty where it ended well.
    story
        The same as it was written down there.
    hits, misses
        Model calls that were on record, and that were not; 0 where there is no journal.
    """

    state: WorldState
    actions: list[dict[str, list[Action]]] | None
    errors: tuple[Exception, ...]
    story: str
    hits: int = 0
    misses: int = 0

    @property
    def error(self) -> Exception | None:
        """What ended the run early, with its causes chained as they were, and its story as the last of them."""
        if not self.errors:
            return None
        for error, cause in pairwise([*self.errors, ThereError(self.story)]):
            error.__cause__ = cause
        return self.errors[0]


def packed(world: TinyWorld, dumps: Any) -> bytes:
    """Return a world as bytes.

    Parameters
    ----------
    world
        The world.
    dumps
        Pickles it; that of the cluster takes functions and classes of the program with it.

    Raises
    ------
    ValueError
        Something of it can't be sent to another process.
    """
    check(world)
    try:
        found: bytes = dumps(WorldState.of(world, world.model or current_model()))
    except Exception as error:
        raise ValueError(
            f"world {world.name!r} can't be sent to another process, because its model, faculties or memories hold "
            f"what pickle can't take: {error}"
        ) from error
    return found


def check(world: TinyWorld) -> None:
    """Look whether a world can be sent to another process.

    Raises
    ------
    ValueError
        It can't; the message says why.
    """
    reasons = fences(world)
    if type(world) not in _KINDS:
        reasons.append(f"it is a {type(world).__name__}, whose rules are not known there")
    if world.clock is not None:
        reasons.append("it has a clock of its own")
    for person in world.agents:
        if person.semantic_memory.by_meaning and not person.semantic_memory.asks(person._embed):
            reasons.append(f"the semantic memory of {person.name} has an embedder of its own")
    if reasons:
        raise ValueError(f"world {world.name!r} can't be sent to another process: {'; '.join(reasons)}")


def live(
    sent: bytes,
    options: RunOptions,
    settings: Mapping[str, Any],
    leases: LeaseSource | None,
    part: JournalPart | None = None,
) -> bytes:
    """Live through a world that was packed, in the process that this is called in; returns a `Lived`, pickled.

    Parameters
    ----------
    sent
        The world.
    options, settings, leases
        How it lives.
    part
        Its part of the journal of all worlds; None: there is none.
    """
    state: WorldState = pickle.loads(sent)
    hits = misses = 0
    with (
        config_manager.override(**settings),
        WallClock() as clock,
        use_clock(clock),
        use_leases(leases),
        nullcontext() if part is None else part.opened() as journal,
        nullcontext() if journal is None else use_journal(journal),
    ):
        world = state.world()
        actions, error = None, None
        try:
            actions = world.run(
                options.steps,
                options.timedelta_per_step,
                options.return_actions,
                parallelize=options.parallelize,
                scheduler=options.scheduler,
            )
        except Exception as failure:
            error = failure
        after = WorldState.of(world, None)
        if journal is not None:
            hits, misses = journal.hits, journal.misses
    _make_portable(after.metrics)
    errors = () if error is None else tuple(map(portable, _chain(error)))
    told = "" if error is None else story(error)
    return pickle.dumps(Lived(after, actions, errors, told, hits, misses), PROTOCOL)


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and len(found) < 10:
        found.append(error)
        error = error.__cause__
    return found


def _make_portable(metrics: EngineMetrics) -> None:
    metrics.replace_timeline(
        outcome if outcome.error is None else replace(outcome, error=portable(outcome.error))
        for outcome in metrics.timeline()
    )
