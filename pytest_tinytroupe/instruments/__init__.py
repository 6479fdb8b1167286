"""Ways of measuring. Each instrument watches the call of one pass; no two in one pass disturb each other."""

from __future__ import annotations

from typing import Protocol

from pytest_tinytroupe.records import Metric, Timeline


class Instrument(Protocol):
    """Measures while the call of a pass runs: `start`, the call, `stop`, `read`.

    `stop` always follows `start`, whatever the call raised, and releases everything; `read` follows only where the call
    came to its end.
    """

    def start(self) -> None:
        """Begin to measure."""
        ...

    def stop(self) -> None:
        """End, and release what was started."""
        ...

    def read(self) -> tuple[list[Metric], list[Timeline], list[str]]:
        """Return metrics, curves and remarks."""
        ...
