"""Runs workloads through the real turn and the real client, against the mock model."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from tinytroupe.benchmarks.results import BenchmarkResult, MemoryResult
from tinytroupe.benchmarks.section import ClockName
from tinytroupe.config import config_manager
from tinytroupe.runtime.clock import Clock, VirtualClock, WallClock, use_clock

if TYPE_CHECKING:
    from tinytroupe.environment import TinyWorld
    from tinytroupe.testing import MockLLM
    from tinytroupe.testing.latency import Latency

_MB = 2**20


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
        server on 127.0.0.1 (in a process of its own where `latency` is a number or text).
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
    sequential, _ = _measured(agents, steps, latency, clock, seed, parallelize=False)
    parallel, parallel_real_s = _measured(agents, steps, latency, clock, seed, parallelize=parallelize)
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
        parallel_real_s=parallel_real_s,
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
    from tinytroupe.testing import MockLLM

    with stage(agents, MockLLM(seed), "virtual") as world:
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


def measured_memory(agents: int, steps: int, seed: int = 0) -> dict[str, Any]:
    """Return `MemoryResult.to_json` of `run_memory_benchmark` in a fresh process, where nothing else has run before.

    Raises
    ------
    RuntimeError
        The process failed; its error output is in the message.
    """
    program = (
        "import json, sys; from tinytroupe.benchmarks import run_memory_benchmark as run; "
        "print(json.dumps(run(*map(int, sys.argv[1:3]), seed=int(sys.argv[3])).to_json()))"
    )
    command = [sys.executable, "-c", program, str(agents), str(steps), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the memory benchmark's process ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def stage(agents: int, mock: MockLLM, clock: ClockName, base_url: str | None = None) -> Iterator[TinyWorld]:
    """Give a world of `agents` people who hear each other, and who ask a mock model through the real client.

    Parameters
    ----------
    agents
        How many.
    mock
        Who answers: intercepted on virtual time, over a socket in real time.
    clock
        ``virtual`` or ``wall``.
    base_url
        In real time: a server that answers in place of `mock`.

    Raises
    ------
    ValueError
        No agents, or an unknown clock.
    """
    from tinytroupe.environment import TinyWorld
    from tinytroupe.examples import troupe
    from tinytroupe.llm.openai_model import OpenAIModel

    if clock not in ("virtual", "wall"):
        raise ValueError(f"clock must be 'virtual' or 'wall', got {clock!r}")
    with ExitStack() as stack:
        time_source: Clock = stack.enter_context(VirtualClock() if clock == "virtual" else WallClock())
        stack.enter_context(use_clock(time_source))
        if clock == "virtual":
            stack.enter_context(mock)
        elif base_url is None:
            base_url = stack.enter_context(mock.serve()).base_url
        model = OpenAIModel(base_url=base_url, api_key="mock")
        people = troupe(agents, seed=mock.seed)
        world = TinyWorld("benchmark", people, model=model, clock=time_source, on_error="skip", show=False)
        yield world.make_everyone_accessible()


def _measured(
    agents: int, steps: int, latency: float | str | Latency, clock: ClockName, seed: int, *, parallelize: bool
) -> tuple[dict[str, Any], float]:
    """Return the metrics of a run, and the real seconds it took."""
    from tinytroupe.benchmarks.load import ModelServer
    from tinytroupe.testing import MockLLM, parse_latency

    spread = parse_latency(latency) if isinstance(latency, str) else latency
    with ExitStack() as stack:
        base_url = None
        if clock == "wall" and isinstance(latency, (int, float, str)):
            base_url = stack.enter_context(ModelServer(latency, seed)).base_url
        world = stack.enter_context(stage(agents, MockLLM(seed, spread), clock, base_url))
        if clock == "wall":  # connections are opened, and the client is imported, outside of what is timed
            world.run(1)
            world.reset_parallel_metrics()
        began = time.perf_counter()
        world.run(steps, parallelize=parallelize)
        return world.get_parallel_metrics(), time.perf_counter() - began
