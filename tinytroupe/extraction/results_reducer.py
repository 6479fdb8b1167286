"""What came of a simulation, picked out by rules, without a model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tinytroupe.agent.memory.event import action_of, stimuli_of
from tinytroupe.agent.tiny_person import TinyPerson


class ResultsReducer:
    """Turns a person's memories into rows, by rules for types of actions and stimuli."""

    def __init__(self) -> None:
        self.rules: dict[str, Callable[..., Any]] = {}

    def add_reduction_rule(self, trigger: str, func: Callable[..., Any]) -> None:
        """Have `func` called for every action or stimulus of a type.

        Parameters
        ----------
        trigger
            Type of action or stimulus, such as ``TALK`` or ``CONVERSATION``.
        func
            Called with the keywords ``focus_agent`` (whose memory it is), ``source_agent`` and ``target_agent`` (a
            `TinyPerson`, or None where nobody of that name is known), ``kind`` (``action`` or ``stimulus``), ``event``
            (the type), ``content`` (text) and ``timestamp`` (simulation time or None). Returns a row; None: no row.

        Raises
        ------
        ValueError
            There is a rule for that type.
        """
        if trigger in self.rules:
            raise ValueError(f"there is a rule for {trigger!r} already")
        self.rules[trigger] = func

    def reduce_agent(self, agent: TinyPerson) -> list[Any]:
        """Return the rows that the rules make of a person's episodic memory, oldest first."""
        rows = []
        for event in _events(agent):
            rule = self.rules.get(event["event"])
            row = rule(focus_agent=agent, **event) if rule is not None else None
            if row is not None:
                rows.append(row)
        return rows

    def reduce_agent_to_dataframe(self, agent: TinyPerson, column_names: Sequence[str] | None = None) -> Any:
        """Return the rows of `reduce_agent` as a ``pandas.DataFrame``.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            pandas: Any = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError(
                "reduce_agent_to_dataframe needs pandas: pip install pandas, or use reduce_agent, which returns a list"
            ) from error
        return pandas.DataFrame(self.reduce_agent(agent), columns=None if column_names is None else list(column_names))


def _events(agent: TinyPerson) -> Iterator[dict[str, Any]]:
    known = {other.name: other for other in (*agent.accessible_agents, agent)}
    if agent.environment is not None:
        known = {**{other.name: other for other in agent.environment.agents}, **known}
    for memory in agent.episodic_memory.retrieve_all():
        action, when = action_of(memory.event), memory.timestamp
        if action is not None:
            yield {
                "source_agent": agent,
                "target_agent": known.get(action.target),
                "kind": "action",
                "event": action.type,
                "content": action.content,
                "timestamp": when,
            }
        for stimulus in stimuli_of(memory.event) or ():
            if stimulus.type == "CONVERSATION" and stimulus.source == agent.name:
                continue  # the person's own words in what all heard: an action already
            yield {
                "source_agent": known.get(stimulus.source),
                "target_agent": agent,
                "kind": "stimulus",
                "event": stimulus.type,
                "content": stimulus.content,
                "timestamp": when,
            }
