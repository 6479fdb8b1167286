"""The parallel benchmarks: workers, slow people, conversations, consolidation under load, errors.

    cd tests/performance
    python parallel_benchmarks.py                  all of it, some minutes
    python parallel_benchmarks.py --quick          less than a minute
    python parallel_benchmarks.py --only workers --clock wall --latency 1.0

Writes parallel_benchmark_results.json and a page beside it. Exit status 1 where a bound is missed.
"""

from __future__ import annotations

import sys

from tinytroupe.benchmarks.command import main
from tinytroupe.benchmarks.parallel import PARALLEL

if __name__ == "__main__":
    sys.exit(
        main(
            PARALLEL,
            prog="parallel_benchmarks.py",
            description="What parallel turns are worth when workers are few, people slow, and calls fail.",
            json_file="parallel_benchmark_results.json",
        )
    )
