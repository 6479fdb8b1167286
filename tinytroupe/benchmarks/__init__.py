"""Workloads and what they cost: what the performance tests and ``tinytroupe bench`` run."""

from tinytroupe.benchmarks.results import BenchmarkResult, MemoryResult
from tinytroupe.benchmarks.runner import benchmark_with_config, run_benchmark, run_memory_benchmark
from tinytroupe.benchmarks.scenarios import SCENARIOS, Scenario

__all__ = [
    "SCENARIOS",
    "BenchmarkResult",
    "MemoryResult",
    "Scenario",
    "benchmark_with_config",
    "run_benchmark",
    "run_memory_benchmark",
]
