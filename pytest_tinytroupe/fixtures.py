"""Fixtures for the tests of anyone who builds on `tinytroupe`, or on any OpenAI-compatible API.

They work with and without ``--perf``; with it, what they hand out is measured. Nothing of `tinytroupe` is imported
before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

import pytest

from pytest_tinytroupe.phases import GATE, MARKER, RUN

if TYPE_CHECKING:
    from pytest_tinytroupe.perf import Perf
    from tinytroupe.agent import TinyPerson
    from tinytroupe.environment import TinyWorld
    from tinytroupe.monitoring import MemoryMonitor
    from tinytroupe.testing import MockLLM


@pytest.fixture
def mock_llm(request: pytest.FixtureRequest) -> Iterator[MockLLM]:
    """A scripted model, answering every call to an OpenAI-compatible API while the test runs, on virtual time.

    A request that no rule matches in strict mode fails the test, even where the program swallows the error.
    """
    from pytest_tinytroupe.probe import probe_of
    from tinytroupe.runtime.clock import VirtualClock, WallClock, use_clock
    from tinytroupe.testing import MockLLM

    probe = probe_of(request.node)
    marker = request.node.stash.get(MARKER, None)
    seed = marker.seed if marker is not None else 0
    real = marker is not None and marker.clock == "wall"
    with closing(WallClock() if real else VirtualClock()) as clock, use_clock(clock), MockLLM(seed=seed) as mock:
        probe.add_clock(clock)
        probe.add_llm(mock)
        yield mock


@pytest.fixture
def make_world(request: pytest.FixtureRequest, mock_llm: MockLLM) -> Iterator[Callable[..., TinyWorld]]:
    """A function ``make_world(agents=10, name=None)`` that returns a world on virtual time, wired to `mock_llm`.

    `agents` is a number of ready-made people, or the people themselves; everyone can reach everyone.
    """
    from pytest_tinytroupe.probe import probe_of
    from tinytroupe.environment import TinyWorld
    from tinytroupe.runtime.clock import current_clock

    probe = probe_of(request.node)
    worlds: list[TinyWorld] = []

    def make_world(agents: int | Sequence[TinyPerson] = 10, name: str | None = None) -> TinyWorld:
        people = _people(agents) if isinstance(agents, int) else agents
        world = TinyWorld(name or f"World {len(worlds) + 1}", people, clock=current_clock(), show=False)
        probe.add_world(world)
        worlds.append(world)
        return world.make_everyone_accessible()

    yield make_world
    for world in worlds:  # people that outlive the test may live in the world of the next one
        world.remove_all_agents()


@pytest.fixture
def world(make_world: Callable[..., TinyWorld]) -> TinyWorld:
    """An empty world on virtual time, wired to `mock_llm`, gone after the test."""
    return make_world(agents=[], name="World")


@pytest.fixture
def troupe() -> Callable[[int], list[TinyPerson]]:
    """A function ``troupe(n)`` that returns `n` distinct ready-made people."""
    return _people


@pytest.fixture
def memory_monitor(request: pytest.FixtureRequest) -> MemoryMonitor:
    """A `MemoryMonitor` bound to the test: it watches the people of its worlds, and its curves go to the report."""
    from pytest_tinytroupe.probe import probe_of
    from tinytroupe.monitoring import MemoryMonitor
    from tinytroupe.runtime.clock import current_clock

    if "mock_llm" in request.fixturenames:  # whichever is named first: the monitor runs on the clock of its worlds
        request.getfixturevalue("mock_llm")
    monitor = MemoryMonitor(clock=current_clock().now)
    probe_of(request.node).add_monitor(monitor)
    return monitor


@pytest.fixture
def perf(request: pytest.FixtureRequest) -> Perf:
    """Measures and compares what the test says: `record`, `measure`, `compare`, `virtual_time`."""
    from pytest_tinytroupe.perf import Perf
    from pytest_tinytroupe.probe import probe_of

    if "mock_llm" in request.fixturenames:  # whichever is named first: times are those of its clock
        request.getfixturevalue("mock_llm")
    run = request.node.stash.get(RUN, None)
    if run is None:
        return Perf(probe_of(request.node), judged=False, kept=GATE not in request.config.stash)
    alone = run.gate.lock.alone if run.gate.locks else nullcontext
    return Perf(probe_of(request.node), judged=True, measuring=run.current == "main", alone=alone)


def _people(count: int) -> list[TinyPerson]:
    from tinytroupe.examples import troupe

    return list(troupe(count))
