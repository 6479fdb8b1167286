"""Starting points that make people differ: drawn by seed, spread evenly however many are asked for."""

from __future__ import annotations

import math

from tinytroupe.runtime.randomness import generator

# Each with its levels; the fractions of the square roots of primes are the steps from person to person, so that any
# number of people covers all levels evenly, and combinations do not come back (a Kronecker sequence).
_LEVELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("age", tuple(f"about {years}" for years in range(18, 87, 2))),
    ("openness", ("low", "rather low", "middling", "rather high", "high")),
    ("conscientiousness", ("low", "rather low", "middling", "rather high", "high")),
    ("extraversion", ("low", "rather low", "middling", "rather high", "high")),
    ("agreeableness", ("low", "rather low", "middling", "rather high", "high")),
    ("neuroticism", ("low", "rather low", "middling", "rather high", "high")),
    ("schooling", ("left early", "school", "a trade", "some college", "a degree", "a doctorate")),
    ("money", ("short of it every month", "enough if nothing breaks", "comfortable", "well off", "rich")),
    ("home", ("village", "small town", "suburb", "city", "centre of a big city")),
    ("household", ("alone", "with a partner", "with children", "with parents", "with friends", "several generations")),
    ("towards new things", ("first to try", "curious", "waits for others", "wary", "against on principle")),
    ("way with words", ("blunt", "chatty", "dry", "warm", "formal", "hesitant", "ironic")),
    ("initial of the first name", tuple("ABCDEFGHIJKLMNOPRSTVZ")),
    ("initial of the family name", tuple("ABCDEFGHKLMNOPRSTVWZ")),
)
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)


def particulars(seed: int, context: str, index: int) -> dict[str, str]:
    """Return what person number `index` starts from, always the same for the same arguments."""
    rng = generator(seed, "factory", context)
    found = {}
    for (name, levels), prime in zip(_LEVELS, _PRIMES, strict=True):
        position = (rng.random() + index * math.sqrt(prime)) % 1.0
        found[name] = levels[int(position * len(levels))]
    return found
