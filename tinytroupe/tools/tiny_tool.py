"""A tool: types of actions beyond talking and thinking, and what happens when somebody does them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tinytroupe.agent.action import ACTION_TYPES
from tinytroupe.llm.asking import ReplyError, read_object

if TYPE_CHECKING:
    from tinytroupe.agent.tiny_person import TinyPerson

logger = logging.getLogger("tinytroupe.tools")

MAX_CONTENT_CHARACTERS = 100_000
"""Longest content of an action that a tool reads."""

_TYPE = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_MAX_LIST = 1000

# What an action of a tool says is data: read by `read_object`, checked by name and type, never evaluated.
Fields = Mapping[str, Any]


class ToolError(ValueError):
    """A tool can't do what it was asked to. The message is for whoever asked, person or program."""


class TinyTool:
    """Something people can use. Subclass it: set `actions` and define `use`.

    Parameters
    ----------
    name
        As people know it, such as ``calendar``.
    description
        What it is good for.
    owner
        The only person who may use it; None: everyone who has it.

    Attributes
    ----------
    actions
        Types of actions it knows, each with its meaning for whoever may do it.

    Raises
    ------
    ValueError
        A type is not in capitals, or is one that everybody knows (``TALK``, …).
    """

    actions: ClassVar[Mapping[str, str]] = {}

    def __init__(self, name: str, description: str = "", owner: TinyPerson | None = None) -> None:
        self.name = name
        self.description = description
        self.owner = owner
        for kind in self.actions:
            if _TYPE.fullmatch(kind) is None or kind in ACTION_TYPES:
                raise ValueError(
                    f"tool {name!r}: {kind!r} can't be a type of action: capitals, digits and _, and none of "
                    f"{', '.join(ACTION_TYPES)}"
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def process_action(self, agent: TinyPerson, action: Any) -> bool:
        """Do what an action asks for.

        What can't be done is told to the person, who may try again: a model's mistake does not end a simulation.

        Parameters
        ----------
        agent
            Who acts.
        action
            An `Action`, or a dict with ``type`` and ``content``.

        Returns
        -------
        bool
            Whether the action is one of this tool's.
        """
        kind = action["type"]
        if kind not in self.actions:
            return False
        try:
            if self.owner is not None and agent is not self.owner:
                raise ToolError(f"it belongs to {self.owner.name}")
            self.use(agent, kind, fields_of(action.get("content")))
        except ToolError as error:
            logger.info("%s, %s: %s failed: %s", agent.name, self.name, kind, error)
            agent.see(f"The {self.name} did not do it ({kind}): {error}")
        return True

    def use(self, agent: TinyPerson, kind: str, fields: Fields) -> None:
        """Do an action of type `kind`; raises `ToolError` where it can't be done. Subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} must define use()")


def fields_of(content: Any) -> Fields:
    """Read an action's content: a JSON object that a model wrote.

    Raises
    ------
    ToolError
        It is too long or no object.
    """
    if isinstance(content, Mapping):
        return content
    try:
        return read_object(str(content or ""), max_characters=MAX_CONTENT_CHARACTERS)
    except ReplyError as error:
        wrong = str(error).partition("; the reply was:")[0]
        raise ToolError(f"the content must be a JSON object: {wrong}") from error


def text_in(fields: Fields, name: str, *, needed: bool = False, most: int = 1000) -> str:
    """Return the text of a field, ``""`` where it is not there.

    Raises
    ------
    ToolError
        No text, longer than `most` characters, or missing though `needed`.
    """
    value = fields.get(name)
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise ToolError(f"{name!r} must be a text, got {str(value)[:80]!r}")
    if len(value) > most:
        raise ToolError(f"{name!r} has {len(value):,} characters, more than the {most:,} allowed")
    if needed and not value.strip():
        raise ToolError(f"{name!r} is missing")
    return value.strip()


def texts_in(fields: Fields, name: str) -> tuple[str, ...]:
    """Return the texts of a field that holds a list, or one text, or is not there.

    Raises
    ------
    ToolError
        Anything else, or more than 1000 of them.
    """
    value = fields.get(name)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or len(value) > _MAX_LIST or not all(isinstance(one, str) for one in value):
        raise ToolError(f"{name!r} must be a list of at most {_MAX_LIST} texts, got {str(value)[:80]!r}")
    return tuple(one.strip() for one in value)
