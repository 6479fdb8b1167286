"""Seeded generators depend on their address alone."""

from __future__ import annotations

from tinytroupe.runtime.randomness import generator


def test_the_same_address_gives_the_same_numbers_everywhere():
    # A literal, so that a change of platform or Python version would be seen.
    assert f"{generator(0, 'Lisa', 3).random():.12f}" == "0.246621662683"


def test_other_addresses_give_other_numbers():
    numbers = {generator(seed, person, step).random() for seed in (0, 1) for person in ("a", "ab") for step in (1, 12)}
    assert len(numbers) == 8


def test_parts_of_an_address_do_not_run_together():
    assert generator("a", "bc").random() != generator("ab", "c").random()
