"""What a person can do beyond thinking and talking."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tinytroupe.agent.action import ACTION_TYPES, Action
from tinytroupe.agent.perceiving import stimulus
from tinytroupe.runtime.telemetry import operation
from tinytroupe.runtime.threads import stopping

if TYPE_CHECKING:
    from tinytroupe.agent.tiny_person import TinyPerson


class Faculty(Protocol):
    """Offers further types of actions, and carries them out.

    One that does nothing to anybody but the person who acts says so with ``touches_others = False``. People who have
    no other ones do their actions at the same time, and need not wait for each other.
    """

    @property
    def actions(self) -> Mapping[str, str]:
        """Types of actions, each with its meaning for whoever may do it."""
        ...

    async def process_actions_async(self, agent: TinyPerson, actions: Iterable[Action]) -> int:
        """Do those of the actions that are of its types, in order, and return how many."""
        ...


class TinyMentalFaculty:
    """A faculty to derive from: set `actions` and define `process_action_async`."""

    touches_others: bool = True
    """Whether it may do something to others than the person who acts, or to things that several people use."""

    actions: Mapping[str, str] = {}

    async def process_action_async(self, agent: TinyPerson, action: Action) -> None:
        """Do one action of a type in `actions`."""
        raise NotImplementedError

    async def process_actions_async(self, agent: TinyPerson, actions: Iterable[Action]) -> int:
        """See `Faculty.process_actions_async`."""
        mine = [action for action in actions if action.type in self.actions]
        for action in mine:
            await self.process_action_async(agent, action)
        return len(mine)


class RecallFaculty(TinyMentalFaculty):
    """Lets a person look something up in its own knowledge; what it finds comes to mind for the next turn."""

    touches_others = False

    actions: Mapping[str, str] = {
        "RECALL": "look for something in what you know or have read; content says what. It comes to mind later."
    }

    def __init__(self, top_k: int = 5) -> None:
        self.top_k = top_k

    async def process_action_async(self, agent: TinyPerson, action: Action) -> None:
        """Find what bears on the content, and let it come to mind."""
        found = await agent.semantic_memory.retrieve_relevant_async(action.content, self.top_k)
        facts = "\n".join(f"- {memory}" for memory in found)
        text = f"On {action.content!r} this comes to mind:\n{facts}" if facts else f"Nothing on {action.content!r}."
        agent.perceive(stimulus("MEMORY", text, agent.name))


class CustomMentalFaculty(TinyMentalFaculty):
    """A faculty made of functions.

    Parameters
    ----------
    mental_faculty_name
        For messages.
    actions_configs
        Types of actions, each with ``description`` (its meaning) and ``function``, called with the person and the
        action; it may be a coroutine function, else it runs in a worker thread.

    Raises
    ------
    ValueError
        A type that everybody has, or one without description or function.
    """

    def __init__(self, mental_faculty_name: str, actions_configs: Mapping[str, Mapping[str, Any]]) -> None:
        self.name = mental_faculty_name
        self._functions: dict[str, Callable[..., Any]] = {}
        meanings: dict[str, str] = {}
        for kind, config in actions_configs.items():
            sound = kind.isupper() and kind not in ACTION_TYPES and config.get("description")
            if not sound or not callable(config.get("function")):
                raise ValueError(
                    f"faculty {mental_faculty_name!r}: {kind!r} needs a 'description' and a 'function', and a type in "
                    f"capitals that is none of {', '.join(ACTION_TYPES)}"
                )
            meanings[kind], self._functions[kind] = config["description"], config["function"]
        self.actions = meanings

    async def process_action_async(self, agent: TinyPerson, action: Action) -> None:
        """Call the function of the action's type."""
        function = self._functions[action.type]
        if inspect.iscoroutinefunction(function):
            await function(agent, action)
        else:
            await asyncio.to_thread(stopping(function), agent, action)


class Tool(Protocol):
    """Something people can use: see `tinytroupe.tools.TinyTool`."""

    name: str

    @property
    def actions(self) -> Mapping[str, str]:
        """Types of actions, each with its meaning for whoever may do it."""
        ...

    def process_action(self, agent: TinyPerson, action: Any) -> bool:
        """Do what an action asks for. May write files."""
        ...


class TinyToolUse:
    """Gives a person tools: adds their types of actions, and passes each action on to its tool.

    Parameters
    ----------
    tools
        The tools; no two may know the same type of action.

    Raises
    ------
    ValueError
        Two tools know the same type of action.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self.tools = tuple(tools)
        self._tool_of: dict[str, Tool] = {}
        for tool in self.tools:
            for kind in tool.actions:
                other = self._tool_of.setdefault(kind, tool)
                if other is not tool:
                    raise ValueError(f"both {other.name!r} and {tool.name!r} know actions of type {kind}")

    @property
    def actions(self) -> dict[str, str]:
        """Types of actions that the tools add, each with its meaning; always in the same order."""
        return {kind: tool.actions[kind] for kind, tool in self._tool_of.items()}

    def process_action(self, agent: TinyPerson, action: Any) -> bool:
        """Have the tool that knows the action do it; False where none does. May write files: not for the loop."""
        tool = self._tool_of.get(action["type"])
        return tool is not None and tool.process_action(agent, action)

    async def process_actions_async(self, agent: TinyPerson, actions: Iterable[Any]) -> int:
        """Do those of `actions` that tools know, in order, and return how many they were.

        Tools work in a thread, since they may write files.
        """
        known = [action for action in actions if action["type"] in self._tool_of]
        for action in known:
            kind = action["type"]
            tool = {"gen_ai.tool.name": self._tool_of[kind].name, "gen_ai.agent.name": agent.name}
            with operation("execute_tool", kind, tool):
                await asyncio.to_thread(stopping(self.process_action), agent, action)
        return len(known)
