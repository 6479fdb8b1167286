"""A person's state as JSON can hold it, and back."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tinytroupe.agent import registry
from tinytroupe.agent.action import Action, CognitiveState
from tinytroupe.agent.base import LATEST_ACTIONS, PersonBase
from tinytroupe.agent.memory import ConsolidationMetrics, EpisodicMemory, SemanticMemory
from tinytroupe.agent.persona import Persona
from tinytroupe.llm import Usage

if TYPE_CHECKING:
    from typing_extensions import Self

_SCHEMA = 1
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class PersonState:
    """A state that was looked at and is sound."""

    name: str
    persona: Persona
    mind: CognitiveState
    place: str
    context: tuple[str, ...]
    relations: dict[str, str]
    episodic: Mapping[str, Any]
    semantic: Mapping[str, Any]
    consolidation: ConsolidationMetrics
    latest: tuple[Action, ...]
    calls: int
    shown_from: int
    usage: Usage

    @classmethod
    def read(cls, state: Any) -> PersonState:
        """Read what `TinyPerson.encode_complete_state` returned.

        Raises
        ------
        ValueError
            It is something else.
        """
        if not isinstance(state, Mapping) or state.get("schema") != _SCHEMA:
            found = state.get("schema") if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"this is not the state of a person (schema {found!r}, expected {_SCHEMA})")
        try:
            mind = state["cognitive_state"]
            read = cls(
                name=_text(state["name"]),
                persona=copy.deepcopy(dict(state["persona"])),
                mind=CognitiveState(**{**mind, "context": tuple(mind["context"])}),
                place=_text(state["location"]),
                context=tuple(map(_text, state["context"])),
                relations={_text(name): _text(relation) for name, relation in state["accessible_agents"].items()},
                episodic=state["episodic_memory"],
                semantic=state["semantic_memory"],
                consolidation=ConsolidationMetrics(**_whole_numbers(state["consolidation"])),
                latest=tuple(Action(**action) for action in state["latest_actions"]),
                calls=int(state["calls"]),
                shown_from=int(state["shown_from"]),
                usage=Usage(**_whole_numbers(state["usage"])),
            )
            EpisodicMemory(max_size=None).decode_state(read.episodic)
            SemanticMemory(max_size=None).decode_state(read.semantic)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            name = str(state.get("name"))[:_SHOWN_CHARACTERS]
            raise ValueError(f"the state of {name!r} is not sound: {type(error).__name__}: {error}") from error
        return read


class Stateful(PersonBase):
    """The verbs that take a person's state out and put it back."""

    def encode_complete_state(self) -> dict[str, Any]:
        """Return persona, memories, state of mind and acquaintances (by name) as JSON can hold them."""
        return {
            "schema": _SCHEMA,
            "name": self.name,
            "persona": copy.deepcopy(self._persona),
            "cognitive_state": self._state.as_dict(),
            "location": self._place,
            "context": list(self._context),
            "accessible_agents": {agent.name: relation for agent, relation in self._reach.values()},
            "episodic_memory": self.episodic_memory.encode_state(),
            "semantic_memory": self.semantic_memory.encode_state(),
            "consolidation": asdict(self._consolidation),
            "latest_actions": [asdict(action) for action in self._latest],
            "calls": self._calls,
            "shown_from": self._shown_from,
            "usage": asdict(self.usage),
        }

    def decode_complete_state(self, state: Mapping[str, Any]) -> Self:
        """Take over what `encode_complete_state` returned.

        Acquaintances are found in the person's world, else among the people of this process; those who are not there
        are left out.

        Raises
        ------
        ValueError
            It is something else, or somebody else's; nothing is changed.
        """
        return self.take_over(PersonState.read(state))

    def take_over(self, state: PersonState) -> Self:
        """Be as a state says, which was read before.

        Raises
        ------
        ValueError
            It is somebody else's; nothing is changed.
        """
        if state.name != self.name:
            raise ValueError(f"{self.name} can't take over the state of {state.name!r}")
        self.episodic_memory.decode_state(state.episodic)
        self.semantic_memory.decode_state(state.semantic)
        self._persona, self._identity = state.persona, None
        self._state, self._place, self._context = state.mind, state.place, state.context
        self._calls, self._shown_from, self.usage = state.calls, state.shown_from, state.usage
        self._consolidation = state.consolidation
        self._latest = deque(state.latest, maxlen=LATEST_ACTIONS)
        find = self.environment.get_agent_by_name if self.environment is not None else registry.named
        known = ((find(name), relation) for name, relation in state.relations.items())
        self._reach = {agent.name: (agent, relation) for agent, relation in known if agent is not None}
        return self


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:_SHOWN_CHARACTERS]!r} should be a text")
    return value


def _whole_numbers(fields: Mapping[str, Any]) -> dict[str, int]:
    wrong = [name for name, value in fields.items() if not isinstance(value, int)]
    if wrong:
        raise ValueError(f"{', '.join(map(str, wrong))} must be whole numbers")
    return dict(fields)
