"""Who lives together: shards of one size, relations inside, the same every time, with networkx and without."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.environment.shards.partition import divided


def villages(count, people, seed=0):
    """Return who can address whom where everyone knows their village, spread over the order, and one neighbour."""
    everyone = list(range(count * people))
    random.Random(seed).shuffle(everyone)
    addresses = [set() for _ in everyone]
    for village in range(count):
        there = everyone[village * people : (village + 1) * people]
        for person in there:
            addresses[person] |= set(there) - {person}
        if village:
            other = everyone[village * people - 1]
            addresses[there[0]].add(other)
            addresses[other].add(there[0])
    return addresses


def cut(addresses, groups):
    home = {person: shard for shard, group in enumerate(groups) for person in group}
    return sum(home[one] != home[other] for one, others in enumerate(addresses) for other in others)


@pytest.fixture(params=["with networkx", "without"])
def line(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setitem(sys.modules, "networkx", None)
    else:
        pytest.importorskip("networkx", reason="comes with the extra ray")
    return request.param


@pytest.mark.parametrize("shards", [2, 3, 6])
def test_villages_are_not_torn_apart(line, shards):
    addresses = villages(6, 20)
    groups = divided(addresses, len(addresses), shards)
    # Nothing but paths between villages. A search without communities in mind cuts through some villages, too, though
    # far fewer than dividing by order does.
    in_order = divided(None, len(addresses), shards)
    most = 2 * 5 if line == "with networkx" else cut(addresses, in_order) // 5
    assert cut(addresses, groups) <= most
    assert divided(addresses, len(addresses), shards) == groups


@given(st.integers(1, 40), st.integers(1, 50), st.booleans(), st.integers(0, 9))
def test_everyone_lives_somewhere_and_shards_are_of_one_size(people, shards, related, seed):
    rng = random.Random(seed)
    addresses = [set(rng.sample(range(people), min(people, 3))) - {one} for one in range(people)] if related else None
    groups = divided(addresses, people, shards)
    assert sorted(person for group in groups for person in group) == list(range(people))
    assert all(group == sorted(group) for group in groups)
    assert len(groups) == min(people, shards)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
