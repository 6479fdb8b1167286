"""One simulated person: perceives, thinks, talks, acts and remembers."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytroupe.agent import persona as personas
from tinytroupe.agent import prompt
from tinytroupe.agent.action import TURN_SCHEMA, Action, CognitiveState, ReplyError, TurnReply, parse_reply
from tinytroupe.agent.memory import EpisodicMemory, Memory, SemanticMemory
from tinytroupe.agent.memory.consolidation import ConsolidationMetrics, consolidate, should_consolidate, updated
from tinytroupe.config import config_manager
from tinytroupe.llm import ChatModel, ChatReply, ChatRequest, Origin, Usage, model_in_use
from tinytroupe.runtime.clock import Clock, current_clock

if TYPE_CHECKING:
    from tinytroupe.environment.tiny_world import TinyWorld

logger = logging.getLogger("tinytroupe.agent")

DEFAULT_RELATION = "someone you can talk to"

_MAX_NAME_CHARACTERS = 200
_LATEST_ACTIONS = 1000
_PEOPLE_SHOWN = 50


Reach = Mapping[str, "tuple[TinyPerson, str]"]
"""People by name, each with the relation to them. Never changed in place, so that a crowd can share one."""


@dataclass(frozen=True, slots=True)
class Deliberation:
    """What a person has decided and not yet done: it changes nothing until it is committed."""

    reply: TurnReply
    usage: Usage
    latency_s: float
    queued_s: float


class TinyPerson:
    """A person with a persona and a memory, who lives through a model.

    Verbs that ask the model exist twice: `act` waits, `act_async` is awaited. The former work everywhere but inside
    the simulation's own event loop.

    Parameters
    ----------
    name
        Unique within a world; at most 200 printable characters.
    episodic_memory, semantic_memory
        Memories to use; new ones by default, bounded by the settings.
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
        model: ChatModel | None = None,
        clock: Clock | None = None,
    ) -> None:
        sound = isinstance(name, str) and name.strip() and len(name) <= _MAX_NAME_CHARACTERS and name.isprintable()
        if not sound:
            raise ValueError(f"a person's name must be 1 to {_MAX_NAME_CHARACTERS} printable characters, got {name!r}")
        self.name = name
        self.environment: TinyWorld | None = None
        self.model = model
        self.clock = clock
        self.episodic_memory = EpisodicMemory(owner=name) if episodic_memory is None else episodic_memory
        self.semantic_memory = (
            SemanticMemory(embed=self._embed, call=self._portal_call) if semantic_memory is None else semantic_memory
        )
        self.usage = Usage()
        self._persona: personas.Persona = {"name": name}
        self._identity: tuple[int, str] | None = None
        self._state = CognitiveState()
        self._place = ""
        self._context: tuple[str, ...] = ()
        self._reach: Reach = {}
        self._calls = 0
        self._latest: deque[Action] = deque(maxlen=_LATEST_ACTIONS)
        self._consolidation = ConsolidationMetrics()

    def __repr__(self) -> str:
        return f"TinyPerson(name={self.name!r})"

    # ------------------------------------------------------------------ persona

    def define(self, key: str, value: Any, merge: bool = False, overwrite_scalars: bool = True) -> TinyPerson:
        """Set a part of the persona.

        Parameters
        ----------
        key
            Such as ``age`` or ``occupation``.
        value
            Anything that JSON can hold.
        merge
            Merge with what is there (objects by key, lists joined) instead of replacing it.
        overwrite_scalars
            While merging, whether a different scalar may be replaced.

        Raises
        ------
        ValueError
            A scalar would be overwritten without leave, or ``name`` changed.
        """
        if key == "name" and value != self.name:
            raise ValueError(f"{self.name} can't be renamed to {value!r}; make a new TinyPerson({value!r})")
        old = self._persona.get(key) if merge else None
        try:
            self._persona[key] = personas.merged(old, value, overwrite_scalars=overwrite_scalars)
        except ValueError as error:
            raise ValueError(f"{self.name}'s persona: {key}: {error}") from error
        self._identity = None
        return self

    def include_persona_definitions(self, additional: dict[str, Any]) -> TinyPerson:
        """Merge a whole set of definitions into the persona; its ``name``, if any, is passed over."""
        for key, value in additional.items():
            if key != "name":
                self.define(key, value, merge=True)
        return self

    def import_fragment(self, path: str | Path) -> TinyPerson:
        """Merge a fragment file (``{"type": "Fragment", "persona": {…}}``) into the persona."""
        return self.include_persona_definitions(personas.load(path, kind="Fragment"))

    def get(self, key: str) -> Any:
        """Return a part of the persona, None where it is not defined."""
        return self._persona.get(key)

    def __getitem__(self, key: str) -> Any:
        return self._persona[key]

    @property
    def persona(self) -> personas.Persona:
        """A copy of the persona's top level."""
        return dict(self._persona)

    @classmethod
    def load_specification(cls, path: str | Path) -> TinyPerson:
        """Make a person of a JSON file (``{"type": "TinyPerson", "persona": {"name": …}}``).

        Raises
        ------
        ValueError
            Not such a file.
        """
        persona = personas.load(path)
        if "name" not in persona:
            raise ValueError(f"{path}: the persona has no 'name'")
        return cls(persona["name"]).include_persona_definitions(persona)

    def save_specification(self, path: str | Path) -> None:
        """Write the persona to a JSON file, whole or not at all."""
        personas.save(self._persona, path)

    def minibio(self) -> str:
        """Return one sentence about the person."""
        occupation = self.get("occupation")
        if isinstance(occupation, dict):
            occupation = occupation.get("title")
        age, place = self.get("age"), self.get("residence")
        parts = [f"{age} years old" if age else "", str(occupation or ""), f"living in {place}" if place else ""]
        return f"{self.name}: {', '.join(part for part in parts if part) or 'nothing further is known'}."

    # ------------------------------------------------------------------ perception

    def listen(self, speech: str, source: TinyPerson | str | None = None) -> TinyPerson:
        """Hear something said."""
        return self.perceive(stimulus("CONVERSATION", speech, source))

    def see(self, description: str, source: TinyPerson | str | None = None) -> TinyPerson:
        """See something."""
        return self.perceive(stimulus("VISUAL", description, source))

    def think(self, thought: str) -> TinyPerson:
        """Have something come to mind."""
        return self.perceive(stimulus("THOUGHT", thought, self))

    def socialize(self, description: str, source: TinyPerson | str | None = None) -> TinyPerson:
        """Take part in something social that is not speech, such as being approached."""
        return self.perceive(stimulus("SOCIAL", description, source))

    def internalize_goal(self, goal: str) -> TinyPerson:
        """Take on a goal."""
        return self.perceive(stimulus("INTERNAL_GOAL_FORMULATION", goal, self))

    def move_to(self, place: str, context: Sequence[str] = ()) -> TinyPerson:
        """Be somewhere else."""
        self._place = place
        return self.change_context(context)

    def change_context(self, context: Sequence[str]) -> TinyPerson:
        """Have a different situation around oneself."""
        self._context = tuple(context)
        return self

    def perceive(self, *stimuli: dict[str, Any]) -> TinyPerson:
        """Take in stimuli that were made with `stimulus`, as one memory."""
        return self.perceive_all({"stimuli": list(stimuli)})

    def perceive_all(self, content: dict[str, Any]) -> TinyPerson:
        """Take in ``{"stimuli": […]}``, which others may share: all who hear a crowd remember one object."""
        self.episodic_memory.store(Memory("stimulus", "user", content, self._moment()))
        return self

    def listen_and_act(
        self, speech: str, source: TinyPerson | str | None = None, return_actions: bool = False
    ) -> list[Action] | None:
        """Hear something and act on it."""
        return self.listen(speech, source).act(return_actions=return_actions)

    def see_and_act(
        self, description: str, source: TinyPerson | str | None = None, return_actions: bool = False
    ) -> list[Action] | None:
        """See something and act on it."""
        return self.see(description, source).act(return_actions=return_actions)

    def think_and_act(self, thought: str, return_actions: bool = False) -> list[Action] | None:
        """Have something come to mind and act on it."""
        return self.think(thought).act(return_actions=return_actions)

    async def listen_and_act_async(
        self, speech: str, source: TinyPerson | str | None = None, return_actions: bool = False
    ) -> list[Action] | None:
        """See `listen_and_act`."""
        return await self.listen(speech, source).act_async(return_actions=return_actions)

    # ------------------------------------------------------------------ action

    def act(self, until_done: bool = True, n: int | None = None, return_actions: bool = False) -> list[Action] | None:
        """Take a turn: one model call for all actions up to ``DONE``.

        Parameters
        ----------
        until_done
            Accepted for programs that say so; a turn always ends with ``DONE``.
        n
            Keep at most so many actions, ``DONE`` not counted; default: setting ``MAX_ACTIONS_PER_TURN``.
        return_actions
            Return the actions instead of None.

        Raises
        ------
        ModelError
            The model can't be asked or does not answer. Nothing is remembered of the turn.
        ReplyError
            It keeps answering in a way that can't be read. Nothing is remembered of the turn.
        """
        actions: list[Action] | None = self._portal_call(self.act_async, until_done, n, return_actions)
        return actions

    async def act_async(
        self, until_done: bool = True, n: int | None = None, return_actions: bool = False
    ) -> list[Action] | None:
        """See `act`."""
        deliberation = await self.deliberate(max_actions=n)
        self.commit(deliberation)
        return list(deliberation.reply.actions) if return_actions else None

    async def deliberate(
        self, *, model: ChatModel | None = None, step: int = -1, max_actions: int | None = None
    ) -> Deliberation:
        """Decide what to do, without doing it: nothing about the person changes but the count of calls.

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
        asked = model_in_use(self.model or model or (self.environment.model if self.environment else None))
        most = max_actions or config_manager.get("max_actions_per_turn")
        messages = prompt.messages(self._identity_text(), self._present_text())
        usage, latency_s, queued_s = Usage(), 0.0, 0.0
        repairs = config_manager.get("max_reply_repairs")
        while True:
            reply = await asked.complete(self._request(messages, step))
            usage, latency_s, queued_s = usage + reply.usage, latency_s + reply.latency_s, queued_s + reply.queued_s
            try:
                read = parse_reply(
                    reply.text, max_actions=most, max_characters=config_manager.get("max_reply_characters")
                )
            except ReplyError as error:
                if repairs == 0:
                    error.args = (f"{self.name} could not act: {error}",)
                    raise
                repairs -= 1
                logger.info("%s: asking again, %s", self.name, error)
                correction = f"That could not be used: {error.args[0][:1000]}. Reply again with the JSON object alone."
                messages = [
                    *messages,
                    {"role": "assistant", "content": error.raw},
                    {"role": "user", "content": correction},
                ]
            else:
                return Deliberation(read, usage, latency_s, queued_s)

    def commit(self, deliberation: Deliberation) -> tuple[Action, ...]:
        """Do what was decided: remember it, take on the new state of mind. Returns the actions."""
        actions, state = deliberation.reply.actions, deliberation.reply.state
        moment = self._moment()
        mind = {key: state[key] for key in state.keys()}
        for action in actions[:-1]:
            done = {"type": action.type, "content": action.content, "target": action.target}
            content = {"action": done, "cognitive_state": mind}
            self.episodic_memory.store(Memory("action", "assistant", content, moment))
        self.episodic_memory.commit_episode()
        self._state = state
        self.usage += deliberation.usage
        self._latest.extend(actions)
        return actions

    def pop_latest_actions(self) -> list[Action]:
        """Return the actions since the last time this was asked, and forget them (the last 1000 are kept)."""
        latest = list(self._latest)
        self._latest.clear()
        return latest

    # ------------------------------------------------------------------ others

    def make_agent_accessible(self, agent: TinyPerson, relation: str = DEFAULT_RELATION) -> None:
        """Let this person reach `agent`."""
        if self._reach.get(agent.name) != (agent, relation):
            self._reach = {**self._reach, agent.name: (agent, relation)}

    def make_agents_accessible(self, agents: Iterable[TinyPerson], relation: str = DEFAULT_RELATION) -> None:
        """Let this person reach all of `agents`."""
        self.share_reach({agent.name: (agent, relation) for agent in agents})

    def share_reach(self, reach: Reach) -> None:
        """Let this person reach all in `reach`, which many people may share and which may hold the person as well."""
        self._reach = reach if self._reach.keys() <= reach.keys() else {**self._reach, **reach}

    def make_agent_inaccessible(self, agent: TinyPerson) -> None:
        """Take `agent` out of reach."""
        if agent.name in self._reach:
            self._reach = {name: other for name, other in self._reach.items() if name != agent.name}

    def make_all_agents_inaccessible(self) -> None:
        """Take everyone out of reach."""
        self._reach = {}

    def can_reach(self, agent: TinyPerson) -> bool:
        """Tell whether this person can reach `agent`."""
        entry = self._reach.get(agent.name)
        return entry is not None and entry[0] is agent and agent is not self

    @property
    def accessible_agents(self) -> list[TinyPerson]:
        """The people this person can reach."""
        return [agent for agent, _ in self._reach.values() if agent is not self]

    # ------------------------------------------------------------------ memory

    def should_consolidate(self) -> bool:
        """Tell whether old memories are due to be summarised (``AUTO_CONSOLIDATION_THRESHOLD``)."""
        return bool(config_manager.get("auto_consolidate_on_threshold")) and should_consolidate(
            self.episodic_memory.get_memory_stats(), config_manager.get("auto_consolidation_threshold")
        )

    def consolidate_episode_memories(self, force: bool = False) -> bool:
        """Have old memories summarised by the model, where they are due or `force` is given.

        Returns
        -------
        bool
            Whether anything was summarised.

        Raises
        ------
        ModelError
            The model does not answer; the memories stay as they are.
        """
        return bool(self._portal_call(self.consolidate_episode_memories_async, force))

    async def consolidate_episode_memories_async(self, force: bool = False) -> bool:
        """See `consolidate_episode_memories`."""
        if not force and not self.should_consolidate():
            return False
        run = await consolidate(self.episodic_memory, self._summarise, force=force, person=self.name)
        if run is None:
            return False
        self._consolidation = updated(self._consolidation, run)
        return True

    async def _summarise(self, request: ChatRequest) -> ChatReply:
        model = model_in_use(self.model or (self.environment.model if self.environment else None))
        reply = await model.complete(self._request(request.messages, -1, request.schema))
        self.usage += reply.usage
        return reply

    def get_consolidation_metrics(self) -> dict[str, Any]:
        """Return how often memories were summarised, and what came of it."""
        return self._consolidation.as_dict()

    # ------------------------------------------------------------------ within

    def _identity_text(self) -> str:
        most = config_manager.get("max_actions_per_turn")
        if self._identity is None or self._identity[0] != most:
            self._identity = (most, prompt.identity(self.name, self._persona, max_actions=most))
        return self._identity[1]

    def _present_text(self) -> str:
        most, characters = config_manager.get("recent_memories_in_prompt"), config_manager.get("max_content_characters")
        memories = self.episodic_memory.retrieve_last(most, include_omission_info=False)
        return prompt.present(
            prompt.recalled(memories, self.name, most, characters),
            self._state,
            prompt.Situation(
                time="" if (moment := self._moment()) is None else f"{moment:%A %Y-%m-%d %H:%M}",
                place=self._place,
                people=self._people(),
                context=self._context,
            ),
        )

    def _people(self) -> tuple[str, ...]:
        others = (entry for entry in self._reach.values() if entry[0] is not self)
        shown = [f"{agent.name} ({relation})" for agent, relation in islice(others, _PEOPLE_SHOWN)]
        more = sum(1 for _ in others)
        return (*shown, f"and {more} more") if more else tuple(shown)

    def _request(self, messages: Sequence[Any], step: int, schema: Any = TURN_SCHEMA) -> ChatRequest:
        world = self.environment.name if self.environment is not None else ""
        origin = Origin(world, self.name, self._calls, step)
        self._calls += 1
        return ChatRequest(messages, schema=schema, origin=origin)

    async def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        own = self.model or (self.environment.model if self.environment else None)
        return await model_in_use(own).embed(texts)

    def _moment(self) -> datetime | None:
        return self.environment.current_datetime if self.environment is not None else None

    def _portal_call(self, function: Callable[..., Any], *args: Any) -> Any:
        clock = self.clock or (self.environment.clock if self.environment is not None else None) or current_clock()
        return clock.portal.call(function, *args)


def stimulus(kind: str, content: str, source: TinyPerson | str | None = None) -> dict[str, Any]:
    """Return something to perceive: made once, shared by all who perceive it, and never changed.

    Raises
    ------
    TypeError
        The content is not a text.
    """
    if not isinstance(content, str):
        raise TypeError(f"what a person perceives must be a text, got {type(content).__name__}")
    name = source.name if isinstance(source, TinyPerson) else source or ""
    return {"type": kind, "content": content, "source": name}
