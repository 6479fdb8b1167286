"""The lower bound: never above what any schedule takes, and reached where nothing is in the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tinytroupe.engine import Capacity, LowerBound, TurnOutcome
from tinytroupe.llm import Usage

ROOMY = Capacity(slots=100)


def turn(person, busy_s, *, queued_s=0.0, usage=None):
    return TurnOutcome(person, 0, 0, "acted", 0.0, busy_s + queued_s, queued_s=queued_s, usage=usage or Usage())


def test_the_longest_chain_goes_through_whoever_was_addressed():
    bound = LowerBound()
    assert bound.seconds(ROOMY) == 0.0
    ann_s, ben_s = bound.taken(turn("Ann", 5.0)), bound.taken(turn("Ben", 1.0))
    bound.reached(["Ann", "Cid"], ann_s)  # Ann spoke to Cid
    bound.reached(["Ben"], ben_s)
    assert bound.taken(turn("Ben", 1.0)) == 2.0
    assert bound.taken(turn("Cid", 1.0)) == 6.0
    assert bound.critical_path_s == bound.seconds(ROOMY) == 6.0


def test_a_fence_makes_everyone_wait_for_everything_before():
    bound = LowerBound()
    bound.reached(["Ann"], bound.taken(turn("Ann", 5.0)))
    bound.fence(["Ann", "Ben"])
    assert bound.taken(turn("Ben", 1.0)) == 6.0


def test_queueing_is_no_work():
    bound = LowerBound()
    bound.taken(turn("Ann", 2.0, queued_s=7.0))
    assert bound.seconds(ROOMY) == 2.0


def test_only_time_at_a_slot_takes_up_slots():
    bound = LowerBound()
    for number in range(4):  # two attempts of 1 s, 8 s apart
        bound.taken(replace(turn(f"P{number}", 10.0), slot_s=2.0))
        for status in ("failed", "timed out"):  # may have waited at the gate all the time
            bound.taken(replace(turn(f"P{number}", 1.0), status=status))
    assert (bound.seconds(Capacity(slots=1)), bound.occupied_s) == (10.0, 8.0)


@pytest.mark.parametrize(
    ("capacity", "bound_s"),
    [
        (Capacity(slots=10), 2.0),  # the longest turn
        (Capacity(slots=2), 4.0),  # 8 s of work for two
        (Capacity(slots=0), 8.0),  # none is taken as one
        (Capacity(10, requests_per_s=0.5), 8.0),
        (Capacity(10, requests_per_s=0.5, request_burst=1.0), 6.0),
        (Capacity(10, tokens_per_s=4.0, token_burst=20.0), 5.0),
    ],
)
def test_slots_and_rates_bound_as_well(capacity, bound_s):
    bound = LowerBound()
    for number in range(4):
        bound.taken(turn(f"P{number}", 2.0, usage=Usage(1, 8, 2)))
    assert bound.seconds(capacity) == bound_s
