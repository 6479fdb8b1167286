"""What all sides of a person share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tinytroupe.agent.action import Action, CognitiveState
from tinytroupe.agent.memory import ConsolidationMetrics, EpisodicMemory, Memory, SemanticMemory
from tinytroupe.agent.persona import Persona
from tinytroupe.llm import ChatModel, ChatRequest, Origin, ReplySchema, Usage, model_in_use
from tinytroupe.runtime.clock import Clock, current_clock

if TYPE_CHECKING:
    from tinytroupe.agent.faculty import Faculty
    from tinytroupe.agent.tiny_person import TinyPerson
    from tinytroupe.environment.tiny_world import TinyWorld

Reach = Mapping[str, "tuple[TinyPerson, str]"]
"""People by name, each with the relation to them. Never changed in place, so that a crowd can share one."""

LATEST_ACTIONS = 1000
"""Actions that `pop_latest_actions` can return."""

LATENCIES = 1000
"""Model calls that `pop_latencies_s` can tell of."""

_MAX_NAME_CHARACTERS = 200


class PersonBase:
    """The state of a person; its verbs are in the classes beside this one, one for each side of a life."""

    def __init__(
        self,
        name: str,
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
        self._faculties: tuple[Faculty, ...] = ()
        self._persona: Persona = {"name": name}
        self._identity: tuple[object, str] | None = None
        self._state = CognitiveState()
        self._place = ""
        self._context: tuple[str, ...] = ()
        self._reach: Reach = {}
        self._calls = 0
        self._latencies_s: deque[float] = deque(maxlen=LATENCIES)
        self._shown_from = 0
        self._latest: deque[Action] = deque(maxlen=LATEST_ACTIONS)
        self._consolidation = ConsolidationMetrics()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    def _remember(self, kind: str, role: str, content: Any) -> Memory:
        return self.episodic_memory.store(Memory(kind, role, content, self._moment()))

    def _moment(self) -> datetime | None:
        return self.environment.moment_of(self) if self.environment is not None else None

    def _model(self, world_model: ChatModel | None = None) -> ChatModel:
        world = self.environment
        return model_in_use(self.model or world_model or (world.model if world is not None else None))

    def _request(self, messages: Sequence[Any], schema: ReplySchema | None, step: int = -1) -> ChatRequest:
        world = self.environment.name if self.environment is not None else ""
        origin = Origin(world, self.name, self._calls, step)
        self._calls += 1
        return ChatRequest(messages, schema=schema, origin=origin)

    def pop_latencies_s(self) -> list[float]:
        """Return the seconds that each model call took since the last time this was asked, and forget them."""
        latest = list(self._latencies_s)
        self._latencies_s.clear()
        return latest

    async def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        return await self._model().embed(texts)

    def _portal_call(self, function: Callable[..., Any], *args: Any) -> Any:
        clock = self.clock or (self.environment.clock if self.environment is not None else None) or current_clock()
        return clock.portal.call(function, *args)
