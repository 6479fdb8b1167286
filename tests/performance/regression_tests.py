"""The performance guide's regression tests: plain functions, run with or without ``--perf``."""

from __future__ import annotations

from tinytroupe.benchmarks import run_benchmark, run_memory_benchmark


def test_parallel_speedup_regression():
    """Ensure parallel speedup doesn't degrade."""
    result = run_benchmark(agents=10, steps=50)

    assert result.speedup >= 3.0, f"Speedup {result.speedup} below threshold 3.0"


def test_memory_usage_regression():
    """Ensure memory usage stays bounded."""
    result = run_memory_benchmark(agents=10, steps=1000)

    assert result.peak_memory_mb < 500, f"Peak memory {result.peak_memory_mb} MB exceeds limit"
