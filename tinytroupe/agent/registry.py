"""The people of this process by name, as far as somebody still holds them."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinytroupe.agent.tiny_person import TinyPerson

# Weak, so that a person lives as long as a program holds it and no longer. Of several of one name, the latest counts.
_people: weakref.WeakValueDictionary[str, TinyPerson] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def register(person: TinyPerson) -> None:
    """Make a person known by name."""
    with _lock:
        _people[person.name] = person


def named(name: str) -> TinyPerson | None:
    """Return the person of that name, None where there is none."""
    return _people.get(name)


def names() -> list[str]:
    """Return all names."""
    with _lock:
        return list(_people)


def clear() -> None:
    """Forget all people."""
    with _lock:
        _people.clear()
