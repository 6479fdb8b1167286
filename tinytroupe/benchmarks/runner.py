"""Runs workloads through the real turn and the real client, against the mock model."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from tinytroupe.benchmarks.results import BenchmarkResult, MemoryResult
from tinytroupe.config import config_manager
from tinytroupe.runtime.clock import Clock, VirtualClock, WallClock, use_clock

if TYPE_CHECKING:
    from tinytroupe.environment import TinyWorld
    from tinytroupe.testing.latency import Latency

_MB = 2**20

ClockName = Literal["virtual", "wall"]


def run_benchmark(
    agents: int = 10,
    steps: int = 50,
    *,
    latency: float | str | Latency = 1.0,
    clock: ClockName = "virtual",
    seed: int = 0,
    scenario: str = "custom",
    parallelize: bool = True,
) -> BenchmarkResult:
    """Run a world one after the other and in parallel, and compare.

    Parameters
    ----------
    agents, steps
        Size of the workload; people talk to everyone in every step.
    latency
        Seconds a model call takes: a number, a distribution of `tinytroupe.testing`, or text such as
        ``lognormal:1.0,0.5``.
    clock
        ``virtual``: exact, and takes as long as the program's own work. ``wall``: real time, against the mock model's
        server on 127.0.0.1.
    seed
        Of the mock model and the simulation.
    scenario
        Name in the result.
    parallelize
        False runs the second time one after the other, too: what a lost parallelism would look like.

    Raises
    ------
    ValueError
        No agents or steps, an unknown clock, a malformed latency.
    """
    began = time.perf_counter()
    sequential = _measured(agents, steps, latency, clock, seed, parallelize=False)
    parallel = _measured(agents, steps, latency, clock, seed, parallelize=parallelize)
    return BenchmarkResult(
        scenario=scenario,
        agents=agents,
        steps=steps,
        clock=clock,
        latency_s=str(latency),
        sequential_s=sequential["elapsed_s"],
        parallel_s=parallel["elapsed_s"],
        lower_bound_s=parallel["lower_bound_s"],
        real_s=time.perf_counter() - began,
        model_calls=parallel["model_calls"],
        tokens=parallel["tokens"],
        errors=parallel["parallel_errors"] + parallel["parallel_timeouts"],
    )


def benchmark_with_config(
    config: Mapping[str, Any], *, agents: int = 10, steps: int = 10, **options: Any
) -> BenchmarkResult:
    """Run a benchmark under other settings, which are put back afterwards.

    Parameters
    ----------
    config
        Settings by name, such as ``{"max_workers": 4}``.
    agents, steps, **options
        As of `run_benchmark`.

    Raises
    ------
    ConfigError
        An unknown setting, or a value it can't have.
    """
    with config_manager.override(**config):
        return run_benchmark(agents, steps, **options)


def run_memory_benchmark(
    agents: int = 10, steps: int = 1000, *, seed: int = 0, scenario: str = "custom"
) -> MemoryResult:
    """Run a world in parallel on virtual time and watch this process's memory.

    Parameters
    ----------
    agents, steps
        Size of the workload; people talk to everyone in every step.
    seed
        Of the mock model and the simulation.
    scenario
        Name in the result.
    """
    from tinytroupe.monitoring.process_memory import HighWaterMark, rss_bytes

    with _world(agents, 0.0, "virtual", seed) as world:
        world.run(1)  # clients, templates and caches are there now: what follows is the simulation's own
        gc.collect()
        start = rss_bytes()
        with HighWaterMark() as mark:
            world.run(steps)
        gc.collect()
        end = rss_bytes()
        entries = sum(agent.episodic_memory.get_memory_stats()["total_size"] for agent in world.agents)
    return MemoryResult(
        scenario=scenario,
        agents=agents,
        steps=steps,
        start_mb=start / _MB,
        end_mb=end / _MB,
        peak_memory_mb=mark.peak_mb,
        method=mark.method,
        memory_entries=entries,
    )


def _measured(
    agents: int, steps: int, latency: float | str | Latency, clock: ClockName, seed: int, *, parallelize: bool
) -> dict[str, Any]:
    with _world(agents, latency, clock, seed) as world:
        if clock == "wall":  # connections are opened, and the client is imported, outside of what is timed
            world.run(1, parallelize=parallelize)
            world.reset_parallel_metrics()
        world.run(steps, parallelize=parallelize)
        return world.get_parallel_metrics()


@contextmanager
def _world(agents: int, latency: float | str | Latency, clock: ClockName, seed: int) -> Iterator[TinyWorld]:
    from tinytroupe.environment import TinyWorld
    from tinytroupe.examples import troupe
    from tinytroupe.llm.openai_model import OpenAIModel
    from tinytroupe.testing import MockLLM, parse_latency

    if clock not in ("virtual", "wall"):
        raise ValueError(f"clock must be 'virtual' or 'wall', got {clock!r}")
    spread = parse_latency(latency) if isinstance(latency, str) else latency
    with ExitStack() as stack:
        mock = stack.enter_context(MockLLM(seed=seed, latency=spread))
        time_source: Clock = stack.enter_context(VirtualClock() if clock == "virtual" else WallClock())
        stack.enter_context(use_clock(time_source))
        base_url = None if clock == "virtual" else stack.enter_context(mock.serve()).base_url
        model = OpenAIModel(base_url=base_url)
        world = TinyWorld("benchmark", troupe(agents, seed=seed), model=model, clock=time_source, on_error="skip")
        yield world.make_everyone_accessible()
