"""The general benchmarks, beside the guide's figures and the least that is possible.

    cd tests/performance
    python benchmark_suite.py                      all of it, some minutes
    python benchmark_suite.py --quick              less than a minute
    python benchmark_suite.py --list
    python benchmark_suite.py --only speedup --agents 1,8,64 --latency lognormal:1.0,0.5

Writes benchmark_results.json and a page beside it. Exit status 1 where a floor of the guide is missed.
"""

from __future__ import annotations

import sys

from tinytroupe.benchmarks.command import main
from tinytroupe.benchmarks.general import GENERAL

if __name__ == "__main__":
    sys.exit(
        main(
            GENERAL,
            prog="benchmark_suite.py",
            description="Sequential against parallel, scalability, model calls and memory, beside the guide's figures.",
            json_file="benchmark_results.json",
        )
    )
