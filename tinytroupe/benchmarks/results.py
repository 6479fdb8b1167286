"""What a benchmark found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One workload, run one after the other and in parallel, both for real and from the same seed.

    Attributes
    ----------
    scenario, agents, steps
        What was run.
    clock
        ``virtual`` or ``wall``.
    latency_s
        Of the mock model, as text (``1.0``, ``lognormal:1.0,0.5``).
    sequential_s, parallel_s
        Elapsed time of either run on that clock.
    lower_bound_s
        The least the parallel run could take: Σ over steps of max(longest turn, busy time / slots).
    real_s, parallel_real_s
        Real seconds that both runs took, and the parallel one alone.
    model_calls, tokens, errors
        Of the parallel run.
    """

    scenario: str
    agents: int
    steps: int
    clock: str
    latency_s: str
    sequential_s: float
    parallel_s: float
    lower_bound_s: float
    real_s: float
    model_calls: int
    tokens: int
    errors: int
    parallel_real_s: float = 0.0

    @property
    def speedup(self) -> float:
        """Sequential over parallel elapsed time; 1.0 where no time passed."""
        return self.sequential_s / self.parallel_s if self.parallel_s > 0 else 1.0

    @property
    def efficiency(self) -> float:
        """Lower bound over parallel elapsed time; 1.0 where no time passed."""
        return self.lower_bound_s / self.parallel_s if self.parallel_s > 0 else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the figures, derived ones included, as JSON can hold them."""
        return {**asdict(self), "speedup": self.speedup, "efficiency": self.efficiency}


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """Memory of this process over a run, in MB of 2**20 bytes.

    Attributes
    ----------
    start_mb, end_mb
        Resident memory before and after.
    peak_memory_mb
        Its high-water mark during the run, measured as `method` says.
    memory_entries
        Entries that all people together hold at the end.
    """

    scenario: str
    agents: int
    steps: int
    start_mb: float
    end_mb: float
    peak_memory_mb: float
    method: str
    memory_entries: int

    @property
    def growth_mb(self) -> float:
        """What the process has more at the end."""
        return self.end_mb - self.start_mb

    @property
    def growth_mb_per_step(self) -> float:
        """Growth a step."""
        return self.growth_mb / self.steps

    def to_json(self) -> dict[str, Any]:
        """Return the figures, derived ones included, as JSON can hold them."""
        return {**asdict(self), "growth_mb": self.growth_mb, "growth_mb_per_step": self.growth_mb_per_step}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text: the first column to the left, figures to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])
