"""The performance guide's regression tests and custom benchmarks: plain functions, run with or without ``--perf``."""

from __future__ import annotations

import pytest

from tinytroupe.benchmarks import benchmark_with_config, run_benchmark, run_memory_benchmark
from tinytroupe.runtime.clock import current_clock


def test_parallel_speedup_regression():
    """Ensure parallel speedup doesn't degrade."""
    result = run_benchmark(agents=10, steps=50)

    assert result.speedup >= 3.0, f"Speedup {result.speedup} below threshold 3.0"


@pytest.mark.slow
def test_memory_usage_regression():
    """Ensure memory usage stays bounded."""
    result = run_memory_benchmark(agents=10, steps=1000)

    assert result.peak_memory_mb < 500, f"Peak memory {result.peak_memory_mb} MB exceeds limit"


def test_the_best_configuration_is_the_one_without_a_limit():
    configurations = [{"max_workers": 2}, {"max_workers": 4}, {"max_workers": None}]
    results = [benchmark_with_config(config) for config in configurations]

    assert max(results, key=lambda result: result.speedup) is results[-1]


class CustomBenchmark:
    """The guide's own measurements, on the clock of the world: simulated latency costs no real time."""

    def measure_agent_think_time(self, agent):
        """Measure time agent spends thinking."""
        start = current_clock().now()
        agent.act()
        return current_clock().now() - start

    def measure_consolidation_efficiency(self, agent):
        """Measure consolidation compression ratio."""
        before = len(agent.episodic_memory.memory)
        agent.consolidate_episode_memories(force=True)
        after = len(agent.episodic_memory.memory)
        return (before - after) / before if before > 0 else 0


def test_a_thought_takes_one_call(make_world, mock_llm):
    mock_llm.latency = 1.5
    (agent,) = make_world(agents=1).agents

    assert round(CustomBenchmark().measure_agent_think_time(agent), 6) == 1.5


def test_consolidation_halves_what_is_held(make_world, mock_llm):
    world = make_world(agents=2)
    world.run(steps=60)

    assert CustomBenchmark().measure_consolidation_efficiency(world.agents[0]) >= 0.5
