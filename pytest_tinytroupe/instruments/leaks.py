"""What a test leaves behind each time it runs, from repetitions with a full set-up and tear-down."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from pathlib import Path

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.instruments.sites import ENDED, MB, Place, growing, held, shown, tracing_ended, witness
from pytest_tinytroupe.metrics import metric

REPETITIONS = 5
"""The first of them fills caches; between the others lie four gains."""

FLOOR_BYTES = 1024
"""Gained a repetition in all, below which it is bookkeeping of somebody who watches tests."""

_NAMED = 3


class Leaks:
    """Looks at the heap after each repetition, and adds up the lines that hold more every time.

    Parameters
    ----------
    root
        What paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sizes: list[dict[Place, int]] = []
        self._tracing = self._ended = False
        self._witness: object = None

    def start(self) -> None:
        """Begin to trace: before the set-up of the first repetition."""
        if not tracemalloc.is_tracing():
            tracemalloc.start(1)
            self._tracing = True
        self._witness = witness()

    def look(self) -> None:
        """Take down what is left: after each tear-down. Ends tracing after the last one."""
        self._ended = self._ended or tracing_ended(self._witness)
        if self._ended:
            self.stop()
            return
        _forget_lookups()
        gc.collect()
        self._sizes.append({place: size for place, (size, _) in held(without_pytest=True).items()})
        if len(self._sizes) == REPETITIONS:
            self.stop()

    def stop(self) -> None:
        """End tracing, unless somebody else had begun it."""
        if self._tracing:
            tracemalloc.stop()
            self._tracing = False

    def read(self) -> Reading:
        """Return the leak a repetition in MB, and where most of it was allocated."""
        if self._ended:
            return Reading(notes=[f"leaked_mb: {ENDED}"])
        gains = growing(self._sizes)
        total = sum(gains.values())
        if total < FLOOR_BYTES:
            return Reading([metric("leaked_mb", 0.0)])
        ranked = sorted(gains, key=lambda place: (-gains[place], place))
        named = ", ".join(f"{shown(place, self._root)} ({gains[place] / 1024:.3g} KB)" for place in ranked[:_NAMED])
        more = f" and {len(ranked) - _NAMED} more" if len(ranked) > _NAMED else ""
        note = f"leaked_mb: every repetition leaves more of {named}{more}"
        return Reading([metric("leaked_mb", round(total / MB, 6))], notes=[note])


def _forget_lookups() -> None:
    """Have Python give up what it keeps of attribute lookups: up to 4096 names, a few more with each repetition."""
    # From 3.13 on, and before that.
    forget = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if forget is not None:
        forget()
