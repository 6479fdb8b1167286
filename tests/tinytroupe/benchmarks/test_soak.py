"""The books of a soak: what they find, and that a small one comes out clean."""

from __future__ import annotations

import dataclasses

import pytest

from tinytroupe.benchmarks.soak import Soak, soak

CLEAN = Soak(
    people=4,
    steps=5,
    elapsed_s=1.0,
    acted=19,
    skipped=1,
    committed=19,
    requests=30,
    answered=19,
    journaled=19,
    doubled=0,
    in_use_peak=4,
    bound=4,
    memory_mb=(80.0, 100.0, 100.0, 100.0, 101.0),
    left=(),
)


def test_a_clean_one_has_no_problems_and_its_growth_is_that_after_the_first_quarter():
    assert CLEAN.problems == ()
    assert CLEAN.growth == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"skipped": 0}, "20 turns, but 19 acted and 0 were skipped"),
        ({"committed": 20}, "20 were committed"),
        ({"doubled": 2}, "2 questions"),
        ({"answered": 20}, "the server gave 20 answers"),
        ({"journaled": 18}, "the journal has 18"),
        ({"in_use_peak": 5}, "5 calls were in flight"),
        ({"left": ("thread x",)}, "left behind: thread x"),
    ],
)
def test_what_should_not_be_is_found(change, said):
    (problem,) = dataclasses.replace(CLEAN, **change).problems
    assert said in problem


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_server_that_misbehaves_costs_no_turn_twice_and_leaves_nothing():
    storm = {"rate_limit": 0.05, "server_error": 0.05, "stall": 0.02, "body_cut": 0.03, "malformed_body": 0.03}
    done = soak(20, 6, latency=0.02, faults=storm, bound=10, attempts=2, timeout_s=2.0, seed=4)
    assert done.problems == ()
    assert done.requests > done.answered
    assert done.skipped > 0
    assert done.in_use_peak == 10
