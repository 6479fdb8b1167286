"""The people of a world, and how what they do reaches others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, cast

from tinytroupe.agent.action import REACH_OUT, TALK, Action
from tinytroupe.agent.base import PersonBase
from tinytroupe.agent.memory.event import Perceived, Stimulus
from tinytroupe.agent.perceiving import stimulus
from tinytroupe.agent.related import DEFAULT_RELATION
from tinytroupe.agent.tiny_person import TinyPerson

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinytroupe.environment.tiny_world import TinyWorld

logger = logging.getLogger("tinytroupe.world")

Effect = tuple["TinyPerson | None", Callable[[], object]]
"""Whom an action reaches (None: the world, and so everyone when the step ends), and how it takes effect there.

Calling it changes that person alone, or the world.
"""


class Society:
    """The people of a world and what reaches them."""

    def __init__(self, name: str, initial_datetime: datetime | None, broadcast_if_no_target: bool) -> None:
        self.name = name
        self.current_datetime = initial_datetime
        self.broadcast_if_no_target = broadcast_if_no_target
        self.agents: list[TinyPerson] = []
        self._by_name: dict[str, TinyPerson] = {}
        self._said_to_all: list[Stimulus] = []
        self._moments: dict[str, datetime] = {}
        self._step = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, agents={len(self.agents)})"

    # ------------------------------------------------------------------ people

    def add_agent(self, agent: TinyPerson) -> Self:
        """Add a person.

        Raises
        ------
        ValueError
            There is another person of that name here, or the person lives in another world.
        """
        there = self._by_name.get(agent.name)
        if there is agent:
            return self
        if there is not None:
            raise ValueError(f"world {self.name!r} has a person named {agent.name!r} already; names must be unique")
        if agent.environment is not None:
            raise ValueError(f"{agent.name} lives in world {agent.environment.name!r}; remove_agent there first")
        agent.environment = cast("TinyWorld", self)
        self.agents.append(agent)
        self._by_name[agent.name] = agent
        return self

    def add_agents(self, agents: Iterable[TinyPerson]) -> Self:
        """Add people: all of them, or none where one can't be added."""
        added: list[TinyPerson] = []
        try:
            for agent in agents:
                known = agent.name in self._by_name
                self.add_agent(agent)
                if not known:
                    added.append(agent)
        except BaseException:
            for agent in added:
                self.remove_agent(agent)
            raise
        return self

    def remove_agent(self, agent: TinyPerson) -> Self:
        """Take a person out of the world, and out of the reach of those who stay."""
        if self._by_name.get(agent.name) is agent:
            del self._by_name[agent.name]
            self.agents.remove(agent)
            agent.environment = None
            for other in self.agents:
                other.make_agent_inaccessible(agent)
        return self

    def remove_all_agents(self) -> Self:
        """Take everyone out of the world."""
        gone, self.agents, self._by_name = self.agents, [], {}
        for agent in gone:
            agent.environment = None
        return self

    def get_agent_by_name(self, name: str) -> TinyPerson | None:
        """Return the person of that name, None where there is none."""
        return self._by_name.get(name)

    def make_everyone_accessible(self) -> Self:
        """Let everyone reach everyone."""
        # One table for all: a thousand people would otherwise hold a million entries.
        reach = {agent.name: (agent, DEFAULT_RELATION) for agent in self.agents}
        for agent in self.agents:
            agent.share_reach(reach)
        return self

    # ------------------------------------------------------------------ what reaches them

    def broadcast(self, speech: str, source: TinyPerson | str | None = None) -> Self:
        """Say something that all hear but the one who says it. All share one stimulus."""
        return self._perceive(stimulus("CONVERSATION", speech, source or self.name), source)

    def broadcast_thought(self, thought: str) -> Self:
        """Have a thought come to everyone's mind."""
        return self._perceive(stimulus("THOUGHT", thought))

    def broadcast_internal_goal(self, internal_goal: str) -> Self:
        """Have everyone take on a goal."""
        return self._perceive(stimulus("INTERNAL_GOAL_FORMULATION", internal_goal))

    def broadcast_context_change(self, context: Sequence[str]) -> Self:
        """Change the situation around everyone."""
        for agent in self.agents:
            agent.change_context(context)
        return self

    def _perceive(self, one: Stimulus, but: TinyPerson | str | None = None) -> Self:
        content = Perceived([one])
        for agent in self.agents:
            if agent is not but:
                agent.perceive_all(content)
        return self

    def can_address(self, source: TinyPerson) -> Collection[str] | None:
        """Return the names of all whom anything that `source` may do in its turns can reach; None: it could be anyone.

        What `effects` yields never reaches anybody else, and never changes the answer. So whoever is not among them
        need not wait for `source` (see `tinytroupe.engine.dependency`).
        """
        return None

    def effects(self, source: TinyPerson, action: Action) -> Iterator[Effect]:
        """Yield whom an action of `source` reaches, and how; nothing has happened until the effects are called."""
        target = self._by_name.get(action.target)
        if action.type == TALK:
            if target is not None:
                yield target, partial(target.listen, action.content, source)
            elif self.broadcast_if_no_target:
                said = stimulus("CONVERSATION", action.content, source)
                yield None, partial(self._said_to_all.append, said)
            else:
                logger.debug("%s: nobody named %r hears %s", self.name, action.target, source.name)
        elif action.type == REACH_OUT:
            yield from self._reach_out(source, target, action)

    def moment_of(self, person: TinyPerson | PersonBase) -> datetime | None:
        """Return what the world's calendar says where `person` is, who may be some steps ahead of others."""
        return self._moments.get(person.name, self.current_datetime)

    def _deliver_said_to_all(self) -> None:
        """Let everyone hear what was said to all, as one memory that all share.

        A step in which N people speak to all so costs N entries, not N².
        """
        said, self._said_to_all = self._said_to_all, []
        if not said:
            return
        content = Perceived(said)
        for agent in self.agents:
            if len(said) > 1 or said[0].source != agent.name:
                agent.perceive_all(content)

    def _reach_out(self, source: TinyPerson, target: TinyPerson | None, action: Action) -> Iterator[Effect]:
        if target is None:
            told = f"{action.target or 'Nobody in particular'} is not there to be reached."
            yield source, partial(source.socialize, told, self.name)
            return
        yield source, partial(_meet, source, target, f"{target.name} was reached and can be talked to now.")
        yield target, partial(_meet, target, source, f"{source.name} reaches out to you: {action.content}")


def _meet(one: TinyPerson, other: TinyPerson, told: str) -> None:
    if not one.can_reach(other):
        one.make_agent_accessible(other)
    one.socialize(told, other)
