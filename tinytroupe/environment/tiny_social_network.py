"""A world in which relations decide who can reach whom."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tinytroupe.agent.action import REACH_OUT, TALK, Action
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.environment.society import Effect
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

    def can_address(self, source: TinyPerson) -> Collection[str] | None:
        """Return the names of those related to `source`: what it says and whom it reaches out to stays among them.

        Where a relation has one direction alone, or goes beyond this world, reaching out would change who can reach
        whom, and the answer is None.
        """
        related = source.accessible_agents
        bounded = all(other.environment is self and other.can_reach(source) for other in related)
        return {other.name for other in related} if bounded else None

    def effects(self, source: TinyPerson, action: Action) -> Iterator[Effect]:
        """See `Society.effects`."""
        related = {agent.name: agent for agent in source.accessible_agents}
        if action.type == TALK:
            target = related.get(action.target)
            heard_by = [target] if target is not None else related.values() if self.broadcast_if_no_target else ()
            for agent in heard_by:
                yield agent, partial(agent.listen, action.content, source)
        elif action.type == REACH_OUT:
            yield from self._reach_out(source, related.get(action.target), action)
