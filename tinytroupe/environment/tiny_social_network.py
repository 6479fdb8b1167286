"""A world in which relations decide who can reach whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinytroupe.agent.action import Action
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.environment.tiny_world import TinyWorld

if TYPE_CHECKING:
    from typing_extensions import Self


class TinySocialNetwork(TinyWorld):
    """People who can only reach those they have a relation to.

    Parameters
    ----------
    name, agents, **options
        As of `TinyWorld`. What is said to nobody in particular is heard by those related to the speaker.
    """

    def __init__(self, name: str = "A TinySocialNetwork", agents: Any = (), **options: Any) -> None:
        self.relations: dict[str, list[tuple[TinyPerson, TinyPerson]]] = {}
        super().__init__(name, agents, **options)

    def add_relation(self, one: TinyPerson, other: TinyPerson, name: str = "default") -> TinySocialNetwork:
        """Relate two people, in both directions; they are added to the world where they are not in it.

        Raises
        ------
        ValueError
            A person can't be related to itself.
        """
        if one is other:
            raise ValueError(f"{one.name} can't be related to themselves")
        self.add_agents([one, other])
        pairs = self.relations.setdefault(name, [])
        if not self.is_in_relation_with(one, other, name):
            pairs.append((one, other))
        one.make_agent_accessible(other, name)
        other.make_agent_accessible(one, name)
        return self

    def is_in_relation_with(self, one: TinyPerson, other: TinyPerson, name: str | None = None) -> bool:
        """Tell whether two people are related, by the relation `name` or by any."""
        named = self.relations.values() if name is None else [self.relations.get(name, [])]
        return any({id(one), id(other)} == {id(a), id(b)} for pairs in named for a, b in pairs)

    def remove_agent(self, agent: TinyPerson) -> Self:
        """Take a person out of the world, and out of all relations."""
        for pairs in self.relations.values():
            pairs[:] = [pair for pair in pairs if agent not in pair]
        for other in self.agents:
            agent.make_agent_inaccessible(other)
        return super().remove_agent(agent)

    def remove_all_agents(self) -> Self:
        """Take everyone out of the world, and out of all relations."""
        for agent in self.agents:
            agent.make_all_agents_inaccessible()
        self.relations.clear()
        return super().remove_all_agents()

    def encode_complete_state(self) -> dict[str, Any]:
        """Return the world, its people and their relations as JSON can hold them."""
        relations = {name: [[a.name, b.name] for a, b in pairs] for name, pairs in self.relations.items()}
        return {**super().encode_complete_state(), "relations": relations}

    def _check_further(self, state: Mapping[str, Any], names: set[str]) -> None:
        for name, pairs in state["relations"].items():
            for one, other in pairs:
                if not {one, other} <= names:
                    raise ValueError(f"the relation {name!r} is of {one!r} and {other!r}, not of people of the state")

    def _take_over_further(self, state: Mapping[str, Any]) -> None:
        self.relations = {
            name: [(self._by_name[one], self._by_name[other]) for one, other in pairs]
            for name, pairs in state["relations"].items()
        }

    def _deliver(self, source: TinyPerson, action: Action) -> None:
        related = {agent.name: agent for agent in source.accessible_agents}
        if action.type == "TALK" and action.target not in related:
            for agent in related.values() if self.broadcast_if_no_target else ():
                agent.listen(action.content, source)
        elif action.type == "TALK":
            related[action.target].listen(action.content, source)
        elif action.type == "REACH_OUT":
            self._reach_out(source, related.get(action.target), action)
