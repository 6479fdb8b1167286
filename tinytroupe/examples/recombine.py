"""Any number of further people, put together from pools of names, occupations, temperaments, tastes and beliefs.

Person number ``index`` of a ``seed`` depends on those two figures alone, so a troupe of 100 begins with the same people
as a troupe of 10. Names are distinct by construction: within a region the numbers 0, 1, 2, … are mapped one to one onto
the pairs of given name and surname, and no two regions share a surname.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from tinytroupe.runtime.randomness import generator

YOUNGEST_AGE = 19
OLDEST_AGE = 84
RETIREMENT_AGE = 67

# Multipliers near the golden ratio of the number of names, and coprime with it: neighbours in number are far apart in
# name, and no name comes twice before all have come once.
_PAIR_STRIDE = 593
_TRIPLE_STRIDE = 8899

# Each region starts elsewhere in its lists, or the first people of all regions would share gender and initial.
_REGION_STRIDE = 389


@lru_cache(maxsize=1)
def _pools() -> dict[str, Any]:
    pools: dict[str, Any] = json.loads(files(__package__).joinpath("pools.json").read_text(encoding="utf-8"))
    return pools


@lru_cache(maxsize=16)
def _regions(seed: int) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...], int]:
    """The regions in this seed's order, those of them where second names are borne, and where to start in the names."""
    rng = generator("regions", seed)
    regions = list(_pools()["regions"])
    rng.shuffle(regions)
    return tuple(regions), tuple(r for r in regions if r["second_names"]), rng.randrange(1 << 30)


def _sizes() -> tuple[int, int, int]:
    """How many given names of one gender and surnames each region has, and the pairs of given name and surname."""
    region = _pools()["regions"][0]
    given, surnames = len(region["female"]), len(region["surnames"])
    return given, surnames, 2 * given * surnames


def capacity() -> int:
    """Return how many people with distinct names can be put together."""
    regions, with_second, _ = _regions(0)
    given, _, pairs = _sizes()
    return len(regions) * pairs + len(with_second) * pairs * (given - 1)


def _identity(index: int, seed: int) -> tuple[dict[str, Any], str, str]:
    """Region, gender and full name of a person."""
    regions, with_second, first = _regions(seed)
    given, _, pairs = _sizes()
    second = None
    if index < len(regions) * pairs:
        number, place = divmod(index, len(regions))
        region = regions[place]
        start = first + place * _REGION_STRIDE
        code = (number * _PAIR_STRIDE + start) % pairs
    else:
        number, place = divmod(index - len(regions) * pairs, len(with_second))
        region = with_second[place]
        start = first + place * _REGION_STRIDE
        code, second = divmod((number * _TRIPLE_STRIDE + start) % (pairs * (given - 1)), given - 1)
    surname, who = divmod(code, 2 * given)
    gender = "female" if who < given else "male"
    names = region[gender]
    name = names[who % given]
    if second is not None:
        # Skipping one's own first name keeps "Anna Anna" out and the mapping one to one.
        name += " " + names[second + (second >= who % given)]
    return region, gender, f"{name} {region['surnames'][surname]}"


def full_name(index: int, seed: int = 0) -> str:
    """Return the name of person ``index``, without building the rest.

    Parameters
    ----------
    index : int
        From 0 to ``capacity() - 1``.
    seed : int, optional
        Chooses the order of the regions and of their names.
    """
    return _identity(index, seed)[2]


def recombined(index: int, seed: int = 0) -> dict[str, Any]:
    """Return the persona of person ``index``: a new dictionary of the same form as the ready-made ones.

    Parameters
    ----------
    index : int
        From 0 to ``capacity() - 1``.
    seed : int, optional
        Same index and seed, same persona.
    """
    pools = _pools()
    draw = generator("person", seed, index).random

    def pick(options: Any) -> Any:
        return options[int(draw() * len(options))]

    def one_of_each(groups: Any) -> list[Any]:
        return [group[int(draw() * len(group))] for group in groups]

    def somebody_else(names: Any) -> Any:
        while (other := pick(names)) in own:
            pass
        return other

    region, gender, name = _identity(index, seed)
    own = name.split()
    age = YOUNGEST_AGE + int(draw() * (OLDEST_AGE - YOUNGEST_AGE + 1))
    stage = (age >= 31) + (age >= 61)
    levels = {trait: int(draw() * 3) for trait in pools["big_five"]}
    job = pick(pools["occupations"])
    while not job["from_age"] <= age <= job["to_age"]:
        job = pick(pools["occupations"])
    retired = age >= RETIREMENT_AGE
    relatives = one_of_each(pools["relationships"][stage])
    return {
        "name": name,
        "age": age,
        "gender": gender,
        "nationality": region["nationality"],
        "residence": pick(region["residences"]),
        "education": job["education"],
        "occupation": {
            "title": f"{job['title']} (retired)" if retired else job["title"],
            "organization": job["organization"],
            "description": f"Before retirement: {job['description']}" if retired else job["description"],
        },
        "style": pick(pools["styles"]),
        "personality": {
            "traits": [pick(pools["traits"][trait][level]) for trait, level in levels.items()],
            "big_five": {trait: pick(pools["big_five"][trait][level]) for trait, level in levels.items()},
        },
        "preferences": {
            "interests": one_of_each(pools["interests"]),
            "likes": one_of_each(pools["likes"]),
            "dislikes": one_of_each(pools["dislikes"]),
        },
        "skills": [*job["skills"]],
        "beliefs": one_of_each(pools["beliefs"]),
        "behaviors": {"general": one_of_each(pools["habits"])},
        "health": pick(pools["health"][stage]),
        "relationships": [
            {"name": somebody_else(region["female"]), "description": relatives[0]},
            {"name": somebody_else(region["male"]), "description": relatives[1]},
        ],
        "other_facts": one_of_each(pools["facts"]),
    }
