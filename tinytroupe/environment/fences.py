"""Where people have to wait for each other, decided before a run from what the world knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tinytroupe.agent.faculty import Faculty
from tinytroupe.agent.tiny_person import TinyPerson

if TYPE_CHECKING:
    from tinytroupe.environment.tiny_world import TinyWorld

_VERBS = frozenset(dir(TinyPerson))
_HARMLESS = frozenset(
    {
        *("__annotations__", "__dict__", "__doc__", "__firstlineno__", "__init__", "__module__", "__qualname__"),
        *("__repr__", "__slots__", "__static_attributes__", "__str__", "__weakref__"),
    }
)


def fences(world: TinyWorld) -> list[str]:
    """Return why people wait for each other after every step, whomever they can address; empty where they need not.

    What could look at, or do something to, people beyond what `Society.can_address` says:

    - interventions and listeners: they are the program's, and see the world between two steps;
    - faculties and tools, unless they say that they concern nobody else (``touches_others = False``);
    - people of a class, or with an attribute, that replaces a verb of `TinyPerson`, such as `act`;
    - memories that several people share.
    """
    found = []
    if world.interventions:
        found.append("interventions look at the world between two steps")
    if world.is_watched:
        found.append("listeners look at the world between two steps")
    plain: set[type] = {TinyPerson}
    for person in world.agents:
        if not private(person.mental_faculties):
            found.append(f"{person.name} has faculties or tools that may do something to others")
        if type(person) not in plain and _replaces(type(person)):
            found.append(f"{person.name} is a {type(person).__name__}, which replaces verbs of TinyPerson")
        elif vars(person).keys() & _VERBS:
            found.append(f"{person.name} has verbs of TinyPerson replaced")
        plain.add(type(person))
    memories = Counter(id(memory) for each in world.agents for memory in (each.episodic_memory, each.semantic_memory))
    if memories and max(memories.values()) > 1:
        found.append("some people share a memory")
    return found


def private(faculties: Iterable[Faculty]) -> bool:
    """Tell whether none of the faculties may do something to others than the person who has them."""
    return not any(getattr(faculty, "touches_others", True) for faculty in faculties)


def reach(world: TinyWorld) -> list[set[int]] | None:
    """Return for each person, in agent order, the positions of those whom this person can address.

    None where that leaves no room: somebody could address anyone, or everyone can address everyone.
    """
    positions = {person.name: index for index, person in enumerate(world.agents)}
    found: list[set[int]] = []
    for person in world.agents:
        names = world.can_address(person)
        if names is None:
            return None
        found.append({positions[name] for name in names if name != person.name})
    complete = all(len(others) == len(found) - 1 for others in found)
    return None if complete else found


def _replaces(kind: type) -> bool:
    own = kind.__mro__[: kind.__mro__.index(TinyPerson)]
    return any((vars(each).keys() & _VERBS) - _HARMLESS for each in own)
