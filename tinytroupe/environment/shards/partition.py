"""Which people live together: shards of about one size, with as many relations inside as can be had."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Collection, Sequence
from itertools import pairwise

_SEED = 0


def divided(addresses: Sequence[Collection[int]] | None, people: int, shards: int) -> list[list[int]]:
    """Return the positions of the people of each shard, ascending; sizes differ by one at most.

    Parameters
    ----------
    addresses
        For each person, the positions of those whom this person can address; None: anyone, so that nothing is to be
        gained, and neighbours in agent order stay together.
    people
        How many there are.
    shards
        How many shards; with fewer people, each has one to itself.

    Notes
    -----
    People are put in a line, community by community (Blondel et al., "Fast unfolding of communities in large networks",
    2008, as networkx has it), and the line is cut in equal parts, so that a cut runs through few communities. Without
    networkx, which comes with the extra ``ray``, the line is that of a breadth-first search. Both always give the same
    for the same relations, and nothing in a run depends on who lives where.
    """
    shards = min(shards, people)
    line = list(range(people)) if addresses is None else _line(addresses)
    size, more = divmod(people, shards)
    cuts = [shard * size + min(shard, more) for shard in range(shards + 1)]
    return [sorted(line[start:end]) for start, end in pairwise(cuts)]


def _line(addresses: Sequence[Collection[int]]) -> list[int]:
    near = breadth_first(addresses)
    try:
        networkx = importlib.import_module("networkx")
    except ModuleNotFoundError:
        return near
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(addresses)))
    graph.add_edges_from((one, other) for one, others in enumerate(addresses) for other in sorted(others))
    place = {person: number for number, person in enumerate(near)}
    communities = [
        sorted(community, key=place.__getitem__)
        for community in networkx.community.louvain_communities(graph, seed=_SEED)
    ]
    # Communities in the order in which a search comes by them: neighbours of a community are often cut off together.
    return [person for community in sorted(communities, key=lambda one: place[one[0]]) for person in community]


def breadth_first(addresses: Sequence[Collection[int]]) -> list[int]:
    """Return everyone in the order of a breadth-first search that begins with the first, again and again."""
    line: list[int] = []
    seen = [False] * len(addresses)
    for first in range(len(addresses)):
        waiting = deque() if seen[first] else deque([first])
        seen[first] = True
        while waiting:
            person = waiting.popleft()
            line.append(person)
            for other in sorted(addresses[person]):
                if not seen[other]:
                    seen[other] = True
                    waiting.append(other)
    return line
