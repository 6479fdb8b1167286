"""What the test measured by itself, through the fixture `perf`."""

from __future__ import annotations

from pytest_tinytroupe.probe import Probe
from pytest_tinytroupe.records import Metric, Timeline


class Recorded:
    """Reads what the test recorded on its probe."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def start(self) -> None:
        """Nothing: the test measures."""

    def stop(self) -> None:
        """Nothing to release."""

    def read(self) -> tuple[list[Metric], list[Timeline], list[str]]:
        """Return the test's own metrics and remarks."""
        return list(self._probe.recorded), [], list(self._probe.notes)
