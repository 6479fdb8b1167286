"""A world's state as JSON can hold it, and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tinytroupe.agent.stateful import PersonState
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.environment.society import Society

if TYPE_CHECKING:
    from typing_extensions import Self

_SCHEMA = 1


class StatefulSociety(Society):
    """The verbs that take a world's state out and put it back."""

    def encode_complete_state(self) -> dict[str, Any]:
        """Return the world and its people as JSON can hold them."""
        return {
            "schema": _SCHEMA,
            "name": self.name,
            "current_datetime": self.current_datetime.isoformat() if self.current_datetime is not None else None,
            "step": self._step,
            "agents": [agent.encode_complete_state() for agent in self.agents],
        }

    def decode_complete_state(self, state: Mapping[str, Any]) -> Self:
        """Take over what `encode_complete_state` returned.

        The people of the state are then those of the world, in its order: those who are here are changed, others are
        made, and who is not in the state leaves. Models, clocks, faculties and interventions are not part of it.

        Raises
        ------
        ValueError
            It is something else; nothing is changed.
        """
        if not isinstance(state, Mapping) or state.get("schema") != _SCHEMA:
            found = state.get("schema") if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"world {self.name!r} can't take over this state (schema {found!r}, expected {_SCHEMA})")
        try:
            name, step, moment = str(state["name"]), int(state["step"]), state["current_datetime"]
            current = None if moment is None else datetime.fromisoformat(moment)
            read = [PersonState.read(one) for one in state["agents"]]
            self._check_further(state, {one.name for one in read})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"world {self.name!r} can't take over this state: {error}") from error
        if len({one.name for one in read}) < len(read):
            raise ValueError(f"world {self.name!r} can't take over this state: two people have one name")
        people = [self._by_name.get(one.name) or TinyPerson(one.name) for one in read]
        self.remove_all_agents().add_agents(people)
        for person, one in zip(people, read, strict=True):
            person.take_over(one)
        self.name, self._step, self.current_datetime = name, step, current
        self._take_over_further(state)
        return self

    def _check_further(self, state: Mapping[str, Any], names: set[str]) -> None:
        """Raise KeyError, TypeError or ValueError where what a subclass encodes is not sound."""

    def _take_over_further(self, state: Mapping[str, Any]) -> None:
        """Take over what a subclass encodes, which was checked; the people are there."""
