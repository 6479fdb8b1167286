"""One simulated person: perceives, thinks, talks, acts and remembers."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tinytroupe.agent import display, registry
from tinytroupe.agent.action import ACTION_TYPES, Action
from tinytroupe.agent.deliberating import Deliberating
from tinytroupe.agent.faculty import Faculty
from tinytroupe.agent.memory import EpisodicMemory, SemanticMemory
from tinytroupe.agent.perceiving import Perceiving
from tinytroupe.agent.specified import Specified
from tinytroupe.agent.stateful import Stateful
from tinytroupe.config import config_manager
from tinytroupe.llm import ChatModel
from tinytroupe.runtime.clock import Clock

if TYPE_CHECKING:
    from typing_extensions import Self


class TinyPerson(Specified, Perceiving, Deliberating, Stateful):
    """A person with a persona and a memory, who lives through a model.

    Verbs that ask the model exist twice: `act` waits, `act_async` is awaited. The former work everywhere but inside
    the simulation's own event loop.

    Parameters
    ----------
    name
        Unique within a world; at most 200 printable characters.
    episodic_memory, semantic_memory
        Memories to use; new ones by default, bounded by the settings.
    mental_faculties
        What the person can do beyond thinking and talking.
    model
        Who answers for this person; default: the world's, else the one of the settings.
    clock
        Time the person lives on outside of a world; default: the current clock.

    Raises
    ------
    ValueError
        The name is empty, too long or not printable.
    """

    def __init__(
        self,
        name: str,
        *,
        episodic_memory: EpisodicMemory | None = None,
        semantic_memory: SemanticMemory | None = None,
        mental_faculties: Iterable[Faculty] = (),
        model: ChatModel | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, episodic_memory, semantic_memory, model, clock)
        self.add_mental_faculties(mental_faculties)
        registry.register(self)

    # ------------------------------------------------------------------ action

    def act(
        self,
        until_done: bool = True,
        n: int | None = None,
        return_actions: bool = False,
        max_content_length: int | None = None,
        communication_display: bool | None = None,
    ) -> list[Action] | None:
        """Take a turn: one model call for all actions up to ``DONE``.

        Parameters
        ----------
        until_done
            Accepted for programs that say so; a turn always ends with ``DONE``.
        n
            Keep at most so many actions, ``DONE`` not counted; default: setting ``MAX_ACTIONS_PER_TURN``.
        return_actions
            Return the actions instead of None.
        max_content_length
            Where actions are printed, cut longer contents.
        communication_display
            Print the actions; default: setting ``DISPLAY``.

        Raises
        ------
        ModelError
            The model can't be asked or does not answer. Nothing is remembered of the turn.
        ReplyError
            It keeps answering in a way that can't be read. Nothing is remembered of the turn.
        """
        actions: list[Action] = self._portal_call(self.act_async, until_done, n, True)
        if display.wanted(communication_display, config_manager.get("display"), sys.stdout):
            display.print_rows(display.rows(self.name, actions, max_content_length))
        return actions if return_actions else None

    async def act_async(
        self, until_done: bool = True, n: int | None = None, return_actions: bool = False
    ) -> list[Action] | None:
        """See `act`."""
        deliberation = await self.deliberate(max_actions=n)
        actions = self.commit(deliberation)
        await self.exercise(actions)
        return list(actions) if return_actions else None

    async def exercise(self, actions: Iterable[Action]) -> None:
        """Let the person's faculties and tools do those of `actions` that are theirs."""
        for faculty in self._faculties:
            await faculty.process_actions_async(self, actions)

    def pop_latest_actions(self) -> list[Action]:
        """Return the actions since the last time this was asked, and forget them (the last 1000 are kept)."""
        latest = list(self._latest)
        self._latest.clear()
        return latest

    def pop_actions_and_get_contents_for(self, action_type: str, only_last_action: bool = True) -> str:
        """Return the contents of the latest actions of a type, or of the last one alone; forget all of them."""
        contents = [action.content for action in self.pop_latest_actions() if action.type == action_type]
        return contents[-1] if only_last_action and contents else "\n".join(contents)

    # Perception followed by a turn.

    def listen_and_act(
        self,
        speech: str,
        return_actions: bool = False,
        max_content_length: int | None = None,
        communication_display: bool | None = None,
        *,
        source: TinyPerson | str | None = None,
    ) -> list[Action] | None:
        """Hear something and act on it; the other parameters are those of `act`."""
        self.listen(speech, source)
        return self._act_on_it(return_actions, max_content_length, communication_display)

    def see_and_act(
        self,
        visual_description: str,
        return_actions: bool = False,
        max_content_length: int | None = None,
        communication_display: bool | None = None,
        *,
        source: TinyPerson | str | None = None,
    ) -> list[Action] | None:
        """See something and act on it; the other parameters are those of `act`."""
        self.see(visual_description, source)
        return self._act_on_it(return_actions, max_content_length, communication_display)

    def think_and_act(
        self,
        thought: str,
        return_actions: bool = False,
        max_content_length: int | None = None,
        communication_display: bool | None = None,
    ) -> list[Action] | None:
        """Have something come to mind and act on it; the other parameters are those of `act`."""
        self.think(thought)
        return self._act_on_it(return_actions, max_content_length, communication_display)

    def internalize_goal_and_act(
        self,
        goal: str,
        return_actions: bool = False,
        max_content_length: int | None = None,
        communication_display: bool | None = None,
    ) -> list[Action] | None:
        """Take on a goal and act on it; the other parameters are those of `act`."""
        self.internalize_goal(goal)
        return self._act_on_it(return_actions, max_content_length, communication_display)

    def _act_on_it(
        self, return_actions: bool, max_content_length: int | None, communication_display: bool | None
    ) -> list[Action] | None:
        if display.wanted(communication_display, config_manager.get("display"), sys.stdout):
            perceived = self.episodic_memory.retrieve_last(1, include_omission_info=False)
            display.print_rows(display.perceived_rows(self.name, perceived, max_content_length))
        # Only what was given: whoever replaces `act` need not know of more.
        given = {"max_content_length": max_content_length, "communication_display": communication_display}
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return self.act(return_actions=return_actions, **options)

    async def listen_and_act_async(
        self, speech: str, return_actions: bool = False, *, source: TinyPerson | str | None = None
    ) -> list[Action] | None:
        """See `listen_and_act`."""
        return await self.listen(speech, source).act_async(return_actions=return_actions)

    async def see_and_act_async(
        self, visual_description: str, return_actions: bool = False, *, source: TinyPerson | str | None = None
    ) -> list[Action] | None:
        """See `see_and_act`."""
        return await self.see(visual_description, source).act_async(return_actions=return_actions)

    async def think_and_act_async(self, thought: str, return_actions: bool = False) -> list[Action] | None:
        """See `think_and_act`."""
        return await self.think(thought).act_async(return_actions=return_actions)

    async def internalize_goal_and_act_async(self, goal: str, return_actions: bool = False) -> list[Action] | None:
        """See `internalize_goal_and_act`."""
        return await self.internalize_goal(goal).act_async(return_actions=return_actions)

    # ------------------------------------------------------------------ faculties

    def add_mental_faculties(self, mental_faculties: Iterable[Faculty]) -> Self:
        """Give the person faculties, such as `RecallFaculty` or `tinytroupe.tools.TinyToolUse`.

        Raises
        ------
        ValueError
            Two of them offer one type of action.
        """
        added = (*self._faculties, *mental_faculties)
        types = [kind for faculty in added for kind in faculty.actions]
        twice = sorted({kind for kind in types if types.count(kind) > 1 or kind in ACTION_TYPES})
        if twice:
            raise ValueError(f"{self.name}: more than one faculty offers {', '.join(twice)}")
        self._faculties = added
        self._identity = None
        return self

    def add_mental_faculty(self, faculty: Faculty) -> Self:
        """Give the person a faculty."""
        return self.add_mental_faculties([faculty])

    @property
    def mental_faculties(self) -> tuple[Faculty, ...]:
        """The person's faculties."""
        return self._faculties

    # ------------------------------------------------------------------ display

    def pretty_current_interactions(
        self, max_content_length: int = 4000, first_n: int | None = None, last_n: int | None = None
    ) -> str:
        """Return the person's memories as text, oldest first."""
        return display.pretty(
            self.name,
            self.episodic_memory.retrieve_all(),
            first_n=first_n,
            last_n=last_n,
            max_content_length=max_content_length,
        )

    def pp_current_interactions(
        self, max_content_length: int = 4000, first_n: int | None = None, last_n: int | None = None
    ) -> None:
        """Print the person's memories."""
        sys.stdout.write(self.pretty_current_interactions(max_content_length, first_n, last_n) + "\n")

    # ------------------------------------------------------------------ all people

    @staticmethod
    def get_agent_by_name(name: str) -> TinyPerson | None:
        """Return the person of that name in this process, the latest of several; None where there is none."""
        return registry.named(name)

    @staticmethod
    def has_agent(name: str) -> bool:
        """Tell whether there is a person of that name in this process."""
        return registry.named(name) is not None

    @staticmethod
    def all_agents_names() -> list[str]:
        """Return the names of all people of this process."""
        return registry.names()

    @staticmethod
    def clear_agents() -> None:
        """Forget all people of this process; those that a program holds live on."""
        registry.clear()
