"""A person's life apart from the person: what moves when somebody goes to live elsewhere, and comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tinytroupe.agent.action import Action, CognitiveState
from tinytroupe.agent.base import LATEST_ACTIONS, PersonBase, Reach
from tinytroupe.agent.faculty import Faculty
from tinytroupe.agent.memory import ConsolidationMetrics, EpisodicMemory, SemanticMemory
from tinytroupe.agent.persona import Persona
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.llm import ChatModel, Usage

Find = Callable[[str], TinyPerson]
"""Returns who goes by a name where somebody lives."""


class Elsewhere(TinyPerson):
    """Somebody who lives elsewhere: a name that others can reach, and nothing more, for there may be very many."""

    def __init__(self, name: str) -> None:
        self.name = name


@dataclass(slots=True)
class Life:
    """All that a person is and has, but for the world around it.

    It can be pickled as far as faculties, a model of one's own and contents of memories can. The memories are the
    person's own objects, not copies: whoever takes over a life without pickling it goes on with them.

    Attributes
    ----------
    relations
        Whom the person can reach, by name, with the relation. Many may share one table.
    asks_for_vectors
        Whether semantic memory asks the person's own model for vectors, wherever the person lives.
    """

    name: str
    persona: Persona
    mind: CognitiveState
    place: str
    context: tuple[str, ...]
    relations: Mapping[str, str]
    episodic: EpisodicMemory
    semantic: SemanticMemory
    asks_for_vectors: bool
    consolidation: ConsolidationMetrics
    latest: tuple[Action, ...]
    calls: int
    shown_from: int
    usage: Usage
    faculties: tuple[Faculty, ...]
    model: ChatModel | None


class Tables:
    """Tables of relations by name: one for all who share a table of people."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Reach, Mapping[str, str]]] = {}

    def of(self, reach: Reach) -> Mapping[str, str]:
        """Return the names in a table of people, each with the relation."""
        found = self._known.get(id(reach))
        if found is None:  # the entry keeps the table alive, so that its id stays its own
            found = self._known[id(reach)] = (reach, {name: relation for name, (_, relation) in reach.items()})
        return found[1]


class Directory:
    """Tables of people by name: one for all who share a table of relations."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._known: dict[int, tuple[Mapping[str, str], Reach]] = {}

    def of(self, relations: Mapping[str, str]) -> Reach:
        """Return the people behind a table of relations."""
        found = self._known.get(id(relations))
        if found is None:
            reach = {name: (self._find(name), relation) for name, relation in relations.items()}
            found = self._known[id(relations)] = (relations, reach)
        return found[1]


def life_of(person: TinyPerson, tables: Tables) -> Life:
    """Return the life of a person, to be taken over by another who goes by the name."""
    return Life(
        name=person.name,
        persona=person._persona,
        mind=person._state,
        place=person._place,
        context=person._context,
        relations=tables.of(person._reach),
        episodic=person.episodic_memory,
        semantic=person.semantic_memory,
        asks_for_vectors=person.semantic_memory.asks(person._embed),
        consolidation=person._consolidation,
        latest=tuple(person._latest),
        calls=person._calls,
        shown_from=person._shown_from,
        usage=person.usage,
        faculties=person._faculties,
        model=person.model,
    )


def take_up(life: Life) -> TinyPerson:
    """Return somebody new who leads a life; whom they can reach is for `Directory` to say when all are there.

    Nobody else gets to know them by name: the one whose life it was stays the one of that name in the process.
    """
    person = TinyPerson.__new__(TinyPerson)
    PersonBase.__init__(person, life.name, life.episodic, life.semantic, life.model)
    person._faculties = life.faculties
    _follow(person, life)
    return person


def come_back(person: TinyPerson, life: Life) -> None:
    """Let a person go on with what their life has become; whom they can reach is theirs to know.

    Their memories stay the objects they were, which a program may hold.
    """
    person.episodic_memory.become(life.episodic)
    person.semantic_memory.become(life.semantic)
    _follow(person, life)


def _follow(person: TinyPerson, life: Life) -> None:
    if life.asks_for_vectors:
        person.semantic_memory.ask_through(person._embed, person._portal_call)
    person._persona, person._identity = life.persona, None
    person._state, person._place, person._context = life.mind, life.place, life.context
    person._calls, person._shown_from, person.usage = life.calls, life.shown_from, life.usage
    person._consolidation = life.consolidation
    person._latest = deque(life.latest, maxlen=LATEST_ACTIONS)
