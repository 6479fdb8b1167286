"""How true ``tinytroupe bench --plan`` is: what it predicts, beside runs of that size on virtual time.

    python tests/performance/plan_benchmark.py             # 100, 1,000 and 10,000 people: some minutes
    python tests/performance/plan_benchmark.py --people 100 1000

Every run goes through the real turn, the real gate and the mock model's direct door. The makespan (virtual seconds) is
the mean of several seeds where latencies vary and a run is small: what one seed draws for the slowest of a hundred
calls is chance. Memory is the peak of a fresh process. Exits with 1 where a prediction is off by more than 10 %.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinytroupe.benchmarks.plan import forecast
from tinytroupe.benchmarks.plan_keys import read_asked
from tinytroupe.benchmarks.plan_sample import limits_of, measured_peak, run_planned

PLANS = (
    "latency=1.0",
    "latency=lognormal:1.0,0.5",
    "latency=lognormal:1.0,0.8 concurrency=50",
    "latency=uniform:0.5,1.5 concurrency=200 memories=100",
    "latency=lognormal:1.0,0.5 rpm=3000",
    "latency=0.5 tpm=3000000 memories=20 relations=4",
)
LARGE = (1, 3, 4)
"""Those of `PLANS` that 10,000 people are run with, too."""
GOAL = 0.10


@dataclass(frozen=True)
class Row:
    """A prediction and what became of it."""

    plan: str
    people: int
    predicted_s: float
    measured_s: float
    predicted_mb: float
    measured_mb: float

    @property
    def errors(self) -> tuple[float, float]:
        return self.predicted_s / self.measured_s - 1, self.predicted_mb / self.measured_mb - 1

    @property
    def met(self) -> bool:
        return all(abs(error) <= GOAL for error in self.errors)


def compared(plan: str, people: int, seeds: int) -> Row:
    """Predict, run, and return both."""
    asked = read_asked([f"people={people}", "shards=1", *plan.split()])
    found = forecast(asked)
    limits = limits_of(asked, 1)
    fresh = measured_peak(asked, people)
    others_s = [run_planned(asked, people, asked.steps, limits, seed)["elapsed_s"] for seed in range(1, seeds)]
    measured_s = statistics.fmean([fresh["elapsed_s"], *others_s])
    return Row(plan, people, found.makespan.seconds, measured_s, found.memory_mb, fresh["peak_mb"])


def rows(sizes: Sequence[int]) -> Iterator[Row]:
    """Yield all comparisons."""
    for people in sizes:
        for number, plan in enumerate(PLANS):
            if people <= 1000 or number in LARGE:
                varied = 30 if people <= 100 else 5 if people <= 1000 else 1
                yield compared(plan, people, varied if "lognormal" in plan else 1)


def main() -> int:
    """Print the figures; return 1 where one is off by more than the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="+", default=[100, 1_000, 10_000])
    chosen = parser.parse_args()
    met = True
    for row in rows(chosen.people):
        time, memory = row.errors
        met &= row.met
        print(
            f"{'ok    ' if row.met else 'MISSED'} {row.people:6,} people, {row.plan:52}  "
            f"makespan {row.predicted_s:7.1f} s, measured {row.measured_s:7.1f} s {time:+6.1%}  "
            f"memory {row.predicted_mb:5.0f} MB, measured {row.measured_mb:5.0f} MB {memory:+6.1%}",
            flush=True,
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
