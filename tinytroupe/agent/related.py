"""Whom a person can reach."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from tinytroupe.agent.base import PersonBase, Reach

if TYPE_CHECKING:
    from tinytroupe.agent.tiny_person import TinyPerson

DEFAULT_RELATION = "someone you can talk to"

_PEOPLE_SHOWN = 50


class Related(PersonBase):
    """The verbs that concern other people."""

    def make_agent_accessible(self, agent: TinyPerson, relation_description: str = DEFAULT_RELATION) -> None:
        """Let this person reach `agent`."""
        if self._reach.get(agent.name) != (agent, relation_description):
            self._reach = {**self._reach, agent.name: (agent, relation_description)}

    def make_agents_accessible(
        self, agents: Iterable[TinyPerson], relation_description: str = DEFAULT_RELATION
    ) -> None:
        """Let this person reach all of `agents`."""
        self.share_reach({agent.name: (agent, relation_description) for agent in agents})

    def share_reach(self, reach: Reach) -> None:
        """Let this person reach all in `reach`, which many people may share and which may hold the person as well."""
        self._reach = reach if self._reach.keys() <= reach.keys() else {**self._reach, **reach}

    def make_agent_inaccessible(self, agent: TinyPerson) -> None:
        """Take `agent` out of reach."""
        if agent.name in self._reach:
            self._reach = {name: other for name, other in self._reach.items() if name != agent.name}

    def make_all_agents_inaccessible(self) -> None:
        """Take everyone out of reach."""
        self._reach = {}

    def can_reach(self, agent: TinyPerson) -> bool:
        """Tell whether this person can reach `agent`."""
        entry = self._reach.get(agent.name)
        return entry is not None and entry[0] is agent and agent is not self

    @property
    def accessible_agents(self) -> list[TinyPerson]:
        """The people this person can reach."""
        return [agent for agent, _ in self._reach.values() if agent is not self]

    def _people(self) -> tuple[str, ...]:
        others = (entry for entry in self._reach.values() if entry[0] is not self)
        shown = [
            agent.name if relation == DEFAULT_RELATION else f"{agent.name} ({relation})"
            for agent, relation in islice(others, _PEOPLE_SHOWN)
        ]
        more = sum(1 for _ in others)
        return (*shown, f"and {more} more") if more else tuple(shown)
