"""Ready-made people, and runnable examples that put them to work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinytroupe.examples.people import (
        create_lila_the_linguist,
        create_lisa_the_data_scientist,
        create_marcos_the_physician,
        create_oscar_the_architect,
        persona,
        persona_specs,
        personas,
        troupe,
    )

__all__ = [
    "create_lila_the_linguist",
    "create_lisa_the_data_scientist",
    "create_marcos_the_physician",
    "create_oscar_the_architect",
    "persona",
    "persona_specs",
    "personas",
    "troupe",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from tinytroupe.examples import people

        return getattr(people, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
