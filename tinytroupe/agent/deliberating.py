"""How a person decides: what it is shown, what it is asked, and what becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from tinytroupe.agent import prompt
from tinytroupe.agent.action import ACTION_TYPES, DONE, Action, TurnReply, parse_reply, reply_schema
from tinytroupe.agent.memory import Memory
from tinytroupe.agent.memory.event import Did
from tinytroupe.agent.related import Related
from tinytroupe.agent.remembering import Remembering
from tinytroupe.config import config_manager
from tinytroupe.llm import ChatModel, ChatReply, Usage
from tinytroupe.llm.asking import ReplyError, ask
from tinytroupe.llm.model import ContextLengthError

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


class Deliberating(Related, Remembering):
    """The verbs of a turn: decide, do what was decided."""

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
        for action in actions[:-1]:
            self._remember("action", "assistant", Did(action, state))
        self.episodic_memory.commit_episode()
        self._state, self._shown_from = state, deliberation.shown_from
        self.usage += deliberation.usage
        self._latest.extend(actions)
        return actions

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
