"""What the test measured by itself, through the fixture `perf`."""

from __future__ import annotations

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.probe import Probe


class Recorded:
    """Reads what the test recorded on its probe."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def start(self) -> None:
        """Nothing: the test measures."""

    def stop(self) -> None:
        """Nothing to release."""

    def read(self) -> Reading:
        """Return the test's own metrics and remarks."""
        self._probe.call_is_over = True
        return Reading(list(self._probe.recorded), notes=list(self._probe.notes))
