"""A comparison that misses its limit: asks fresh processes whether that is the code, or this one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tinytroupe import fresh
from pytest_tinytroupe.fresh import FreshError
from pytest_tinytroupe.versus import Comparison

if TYPE_CHECKING:
    import pytest

    from pytest_tinytroupe.gate import Gate

CONFIRMATIONS = 3
"""Fresh processes that decide; an odd number, so that one of them is the median."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What counts of a comparison that was made again.

    Attributes
    ----------
    first
        What raised the suspicion; it does not count.
    again
        What the fresh processes found.
    """

    first: Comparison
    again: tuple[Comparison, ...]

    @property
    def median(self) -> Comparison:
        """The one whose lower bound is the median."""
        return sorted(self.again, key=lambda each: each.lower)[len(self.again) // 2]

    @property
    def told(self) -> str:
        """All of it in words."""
        bounds = ", ".join(f"{each.lower:.3g}x" for each in self.again)
        processes = f"the median of {len(self.again)} fresh processes ({bounds})"
        return f"{self.median.told}; {processes}, after {self.first.lower:.3g}x here"


def compare_again(gate: Gate, item: pytest.Item, suspicions: dict[str, Comparison]) -> dict[str, Confirmed]:
    """Make a test's comparisons in fresh processes, each alone on the machine as far as it is up to us.

    Parameters
    ----------
    gate, item
        The run and the test.
    suspicions
        Name -> what this process has found.

    Raises
    ------
    FreshError
        A process could not compare.
    LockError
        The machine was never free.
    """
    again: dict[str, list[Comparison]] = {name: [] for name in suspicions}
    for _ in range(CONFIRMATIONS):
        with gate.lock.alone():
            rows = fresh.figures(item, "comparisons", time_limit_s=gate.settings.time_limit_s, family=gate.family)
        found = {name: Comparison(*values) for name, *values in rows}
        for name, comparisons in again.items():
            if name not in found:
                raise FreshError(f"{name}: it ran there, but did not compare this")
            comparisons.append(found[name])
    return {name: Confirmed(suspicions[name], tuple(comparisons)) for name, comparisons in again.items()}
