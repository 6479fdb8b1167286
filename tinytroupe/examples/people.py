"""Ready-made people: fifty personas written by hand, and as many more as a large simulation needs."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tinytroupe.examples import recombine

if TYPE_CHECKING:
    from importlib.abc import Traversable

    from tinytroupe.agent import TinyPerson

# Never reordered: a troupe of ten is the same ten people in every version, so baselines keep their meaning.
# Each person lives in personas/<slug of the name>.json.
_NAMES = (
    "Lisa Hallworth",
    "Oscar Teixeira",
    "Marcos Villalba",
    "Lila Benhaddou",
    "Tendai Mukwashi",
    "Ingrid Solheimsvik",
    "Rahul Deshmane",
    "Chloe Whitlock",
    "Mateus Bragantino",
    "Yuki Tanemura",
    "Fatoumata Diabira",
    "Walter Grabinski",
    "Lan Trinh",
    "Dilnoza Yusufkhan",
    "Siobhan Raffertie",
    "Emre Soyhan",
    "Aroha Tumatere",
    "Piotr Zawistny",
    "Gabriela Quisbert",
    "Kwame Asiedu-Boakye",
    "Hannah Rosenfeldt",
    "Omar Qaddoumi",
    "Denise Yazzen",
    "Priya Ramanath",
    "Bogdan Iliescanu",
    "Sefina Leavasa",
    "Robin Castellane",
    "Ibrahim Danladi Garko",
    "Marguerite Hoarau-Payet",
    "Carlos Ixcoy Tum",
    "Shu-fen Hsueh",
    "Dmytro Halavets",
    "Zanele Mthembane",
    "Tomás Echeverri Gil",
    "Eleni Vardalaki",
    "Joaquín Larrabeiti",
    "Parisa Golshanian",
    "Beatriz Almonte Rey",
    "Desmond Fairclough",
    "Nadia Boukhrissi",
    "Ramon Villacorte",
    "Grace Wanjohi Kamotho",
    "Hiroshi Kitabeppu",
    "Aisulu Dzhakenova",
    "Fang Zhouyi",
    "Soo-ah Byeon",
    "Arjun Thapaliya",
    "Mariam Lomtatidze",
    "Kayla Broussette",
    "Leif Ahlqvister",
)


def _slug(name: str) -> str:
    """Turn "Tomás Echeverri Gil" into "tomas_echeverri_gil"."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")


_SLUGS = {_slug(name): name for name in _NAMES}


@lru_cache(maxsize=1)
def _folder() -> Traversable:
    return files(__package__).joinpath("personas")


@lru_cache(maxsize=len(_NAMES))
def _specification(slug: str) -> str:
    return _folder().joinpath(f"{slug}.json").read_text(encoding="utf-8")


def personas() -> tuple[str, ...]:
    """Return the names of the ready-made people, in their fixed order."""
    return _NAMES


def persona(name: str) -> dict[str, Any]:
    """Return the persona of a ready-made person.

    Parameters
    ----------
    name : str
        The full name ("Lisa Hallworth") or its slug ("lisa_hallworth"); case and accents do not matter.

    Returns
    -------
    dict
        A new dictionary on each call; change it freely.

    Raises
    ------
    LookupError
        No ready-made person has this name.
    """
    slug = _slug(name)
    if slug not in _SLUGS:
        near = difflib.get_close_matches(slug, _SLUGS, n=1, cutoff=0.4)
        hint = f"did you mean {_SLUGS[near[0]]!r}? " if near else ""
        raise LookupError(f"no ready-made person is called {name!r}; {hint}personas() lists all {len(_NAMES)}")
    found: dict[str, Any] = json.loads(_specification(slug))["persona"]
    return found


def persona_specs(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return the personas of ``n`` people with distinct names.

    The first fifty are the ready-made ones, in their fixed order. Those after them are put together from pools, the
    same ones for the same seed, and a longer list begins with the shorter one.

    Parameters
    ----------
    n : int
        How many people, from 1 to about 325,000.
    seed : int, optional
        Chooses the people after the fiftieth.

    Raises
    ------
    ValueError
        `n` is not a whole number, below 1, or more than there are distinct names.
    """
    most = len(_NAMES) + recombine.capacity()
    if type(n) is not int or not 1 <= n <= most:
        raise ValueError(f"n must be a whole number from 1 to {most}, got {n!r}")
    ready = [persona(name) for name in _NAMES[:n]]
    return ready + [recombine.recombined(index, seed) for index in range(n - len(ready))]


def troupe(n: int, seed: int = 0) -> list[TinyPerson]:
    """Return ``n`` new people with distinct names, built from ``persona_specs(n, seed)``.

    Raises
    ------
    ValueError
        `n` is not a whole number, below 1, or more than there are distinct names.
    """
    return [_person(spec) for spec in persona_specs(n, seed)]


def create_lisa_the_data_scientist() -> TinyPerson:
    """Return a new Lisa Hallworth, who prices storm damage for a mid-sized insurer in Halifax."""
    return _person(persona("Lisa Hallworth"))


def create_oscar_the_architect() -> TinyPerson:
    """Return a new Oscar Teixeira, who restores town houses in Porto."""
    return _person(persona("Oscar Teixeira"))


def create_marcos_the_physician() -> TinyPerson:
    """Return a new Marcos Villalba, who runs a hospital ward in Montevideo."""
    return _person(persona("Marcos Villalba"))


def create_lila_the_linguist() -> TinyPerson:
    """Return a new Lila Benhaddou, who studies everyday speech in Ghent."""
    return _person(persona("Lila Benhaddou"))


def _person(spec: dict[str, Any]) -> TinyPerson:
    # Imported here so that personas can be listed and read without loading the simulation.
    from tinytroupe.agent import TinyPerson

    person = TinyPerson(spec["name"])
    person.include_persona_definitions(spec)
    return person
