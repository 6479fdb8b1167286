"""What parallel turns must be worth, exactly, on virtual time."""

from __future__ import annotations

import pytest

from tinytroupe.testing import LogNormal


@pytest.mark.perf(min_speedup=10.0, min_efficiency=1.0, max_time_s=50.0, max_llm_calls=500)
def test_ten_people_act_at_once(make_world, mock_llm):
    mock_llm.latency = 1.0
    make_world(agents=10).run(steps=50)


@pytest.mark.perf(min_speedup=20.0, min_efficiency=1.0)
def test_twenty_people_act_at_once(make_world, mock_llm):
    mock_llm.latency = 1.0
    make_world(agents=20).run(steps=10)


@pytest.mark.perf(min_speedup=4.4, min_efficiency=0.99)
def test_uneven_latencies_cost_no_more_than_the_slowest(make_world, mock_llm):
    mock_llm.latency = LogNormal(median=1.0, sigma=0.5)
    make_world(agents=10).run(steps=20)


@pytest.mark.perf(max_llm_calls=20, max_tokens=40_000)
def test_one_call_a_turn(make_world, mock_llm):
    mock_llm.latency = 1.0
    world = make_world(agents=10)
    world.broadcast("What do you expect of a city to live in?")
    world.run(steps=2)


@pytest.mark.perf(max_time_s=8.0)
def test_a_crowd_finds_its_way_through_the_gate(make_world, mock_llm):
    mock_llm.latency = 1.0
    make_world(agents=200).run(steps=1)
