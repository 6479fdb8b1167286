"""Who acted when, as far as the worlds keep their turns, and how long model calls took: for the report."""

from __future__ import annotations

from pytest_tinytroupe.instruments import Reading
from pytest_tinytroupe.probe import Probe
from pytest_tinytroupe.records import TurnSpan

TURNS = 2000
"""The most turns kept of one test: the latest."""

DIGITS = 6
"""Microseconds: far below what can be drawn."""


class Turns:
    """Reads what worlds and models keep anyway."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def start(self) -> None:
        """Nothing: worlds and models note by themselves."""

    def stop(self) -> None:
        """Nothing to release."""

    def read(self) -> Reading:
        """Return the latest turns, and the durations of all calls."""
        every = sorted(self._probe.turns(), key=lambda turn: float(turn.started_s))
        start_s = every[0].started_s if every else 0.0
        spans = [
            TurnSpan(
                turn.person,
                turn.step,
                turn.status,
                round(turn.started_s - start_s, DIGITS),
                round(turn.finished_s - start_s, DIGITS),
                round(turn.queued_s, DIGITS),
                turn.waited_for,
                round(turn.backoff_s, DIGITS),
            )
            for turn in every[-TURNS:]
        ]
        calls_s = self._probe.calls_s()
        if not any(latency_s for latency_s, _ in calls_s):
            calls_s = []
        if not any(span.finished_s > span.started_s for span in spans):
            return Reading(calls_s=calls_s)  # the clock stood still: there is nothing to see
        left_out = len(every) - len(spans)
        notes = [f"turns: the latest {TURNS} of {len(every)}"] if left_out else []
        return Reading(turns=spans, calls_s=calls_s, notes=notes)
