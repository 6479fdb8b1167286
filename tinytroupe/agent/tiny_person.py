"""One simulated person: perceives, thinks, talks, acts and remembers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinytroupe.agent import display, prompt, registry
from tinytroupe.agent.action import ACTION_TYPES, DONE, Action, TurnReply, parse_reply, reply_schema
from tinytroupe.agent.faculty import Faculty
from tinytroupe.agent.memory import EpisodicMemory, Memory, SemanticMemory
from tinytroupe.agent.perceiving import Perceiving
from tinytroupe.agent.related import Related
from tinytroupe.agent.remembering import Remembering
from tinytroupe.agent.specified import Specified
from tinytroupe.agent.stateful import Stateful
from tinytroupe.config import config_manager
from tinytroupe.llm import ChatModel, ChatReply, Usage
from tinytroupe.llm.asking import ReplyError, ask
from tinytroupe.llm.model import ContextLengthError
from tinytroupe.runtime.clock import Clock

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("tinytroupe.agent")

_KNOWN_SHOWN = 5
_SUMMARIES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Deliberation:
    """What a person has decided and not yet done: it changes nothing until it is committed."""

    reply: TurnReply
    usage: Usage
    latency_s: float
    queued_s: float
    slot_s: float | None
    shown_from: int = 0


class TinyPerson(Specified, Perceiving, Related, Remembering, Stateful):
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

    async def deliberate(
        self, *, model: ChatModel | None = None, step: int = -1, max_actions: int | None = None
    ) -> Deliberation:
        """Decide what to do, without doing it.

        Nothing about the person changes but the count of calls and, where it fails, the usage: it has cost something.

        Parameters
        ----------
        model
            Who answers where the person has no model of its own.
        step
            The world's step, for the record.
        max_actions
            As `n` of `act`.
        """
        if max_actions is not None and max_actions < 1:
            raise ValueError(f"a turn takes at least 1 action, got n={max_actions}")
        most = max_actions or config_manager.get("max_actions_per_turn")
        further = self._further_actions()
        types = (*ACTION_TYPES[:-1], *further, DONE)
        schema = reply_schema(types)
        replies: list[ChatReply] = []

        def answered(reply: ChatReply) -> None:
            replies.append(reply)
            self._latencies_s.append(reply.latency_s)

        async def decide(trimmed: bool) -> tuple[TurnReply, int]:
            present, shown_from = await self._present_text(trimmed)
            read = await ask(
                self._model(model),
                lambda messages: self._request(messages, schema, step),
                prompt.messages(self._identity_text(further), present),
                lambda text: parse_reply(
                    text,
                    action_types=types,
                    max_actions=most,
                    max_characters=config_manager.get("max_reply_characters"),
                ),
                answered,
            )
            return read, shown_from

        try:
            try:
                read, shown_from = await decide(trimmed=False)
            except ContextLengthError as error:
                logger.info("%s: asking again with a quarter of the memories: %s", self.name, error)
                read, shown_from = await decide(trimmed=True)
        except BaseException as error:
            self.usage += sum((reply.usage for reply in replies), Usage())
            if isinstance(error, ReplyError):
                error.args = (f"{self.name} could not act: {error}",)
            raise
        slots_s = [reply.slot_s for reply in replies if reply.slot_s is not None]
        return Deliberation(
            read,
            sum((reply.usage for reply in replies), Usage()),
            sum(reply.latency_s for reply in replies),
            sum(reply.queued_s for reply in replies),
            sum(slots_s) if len(slots_s) == len(replies) else None,
            shown_from,
        )

    def commit(self, deliberation: Deliberation) -> tuple[Action, ...]:
        """Do what was decided: remember it, take on the new state of mind. Returns the actions."""
        actions, state = deliberation.reply.actions, deliberation.reply.state
        mind = state.as_dict()
        for action in actions[:-1]:
            done = {"type": action.type, "content": action.content, "target": action.target}
            self._remember("action", "assistant", {"action": done, "cognitive_state": mind})
        self.episodic_memory.commit_episode()
        self._state, self._shown_from = state, deliberation.shown_from
        self.usage += deliberation.usage
        self._latest.extend(actions)
        return actions

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

    # ------------------------------------------------------------------ within

    def _further_actions(self) -> dict[str, str]:
        return {kind: meaning for faculty in self._faculties for kind, meaning in faculty.actions.items()}

    def _identity_text(self, further: Mapping[str, str]) -> str:
        most = config_manager.get("max_actions_per_turn")
        depends_on = (most, tuple(further))
        if self._identity is None or self._identity[0] != depends_on:
            text = prompt.identity(self.name, self._persona, max_actions=most, further=further)
            self._identity = (depends_on, text)
        return self._identity[1]

    async def _present_text(self, trimmed: bool = False) -> tuple[str, int]:
        """Return the second message, and the number of the first memory that it shows; a quarter of it if `trimmed`."""
        most, characters = config_manager.get("recent_memories_in_prompt"), config_manager.get("max_content_characters")
        if trimmed:
            most, characters = max(most // 4, 1), max(characters // 4, 1)
        memories = self.episodic_memory.retrieve_last(most + 1, include_omission_info=False)
        first = prompt.first_shown(memories, self.name, most, self._shown_from)
        shown = [memory for memory in memories if memory.sequence >= first]
        earlier: list[Memory] = []
        if self.episodic_memory.get_memory_stats()["consolidated"]:
            oldest = shown[0].sequence if shown else first
            summaries = self.episodic_memory.retrieve_all("consolidated")
            earlier = [memory for memory in summaries if memory.sequence < oldest][-_SUMMARIES_SHOWN:]
        known = await self.retrieve_relevant_memories_for_current_context_async(_KNOWN_SHOWN)
        text = prompt.present(
            prompt.recalled(shown, self.name, most, characters),
            self._state,
            prompt.Situation(
                time="" if (moment := self._moment()) is None else f"{moment:%A %Y-%m-%d %H:%M}",
                place=self._place,
                people=self._people(),
                context=self._context,
            ),
            earlier=prompt.recalled(earlier, self.name, _SUMMARIES_SHOWN, characters),
            known=[str(fact) for fact in known],
            max_characters=characters,
        )
        return text, first
