"""The least time that a run could have taken: what its elapsed time is held against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tinytroupe.engine.turn import TurnOutcome


@dataclass(frozen=True, slots=True)
class Capacity:
    """What limits how fast turns can be taken, whoever schedules them.

    Attributes
    ----------
    slots
        Turns that can be asking the model at once.
    requests_per_s, tokens_per_s
        What the gate lets through; None: no limit.
    request_burst, token_burst
        Requests and tokens that it lets through at once before that holds.
    """

    slots: int
    requests_per_s: float | None = None
    tokens_per_s: float | None = None
    request_burst: float = 0.0
    token_burst: float = 0.0


class LowerBound:
    """Follows a run, turn by turn, and computes the least time that it could have taken.

    The longest chain is the critical path through the interactions that happened: a turn had to come after the turn
    before of the same person, and after those turns of the step before in which somebody addressed that person. That
    others *might* have done so is not held against the scheduler's bound: it makes waiting, not work.

    Its size is that of the people, however long the run is.
    """

    __slots__ = ("_longest_s", "_ready_s", "calls", "occupied_s", "tokens")

    def __init__(self) -> None:
        self._ready_s: dict[str, float] = {}
        self._longest_s = 0.0
        self.occupied_s = 0.0
        self.calls = self.tokens = 0

    @property
    def critical_path_s(self) -> float:
        """Duration of the longest chain of turns so far, in seconds."""
        return self._longest_s

    def taken(self, outcome: TurnOutcome) -> float:
        """Take in a turn, and return the duration of the longest chain that ends with it, in seconds."""
        chain_s = self._ready_s.get(outcome.person, 0.0) + outcome.busy_s
        self._longest_s = max(self._longest_s, chain_s)
        self.occupied_s += outcome.occupied_s
        self.calls += outcome.usage.calls
        self.tokens += outcome.usage.tokens
        return chain_s

    def reached(self, people: Iterable[str], chain_s: float) -> None:
        """Say that the next turns of `people` had to come after a chain that `taken` returned."""
        for person in people:
            if self._ready_s.get(person, 0.0) < chain_s:
                self._ready_s[person] = chain_s

    def fence(self, people: Iterable[str]) -> None:
        """Say that the next turns of `people` had to come after everything so far."""
        self.reached(people, self._longest_s)

    def seconds(self, capacity: Capacity) -> float:
        """Return ``max(critical path, Σ occupied / slots, calls / rate, tokens / rate)``, in seconds.

        From calls and tokens goes what the gate lets through at once: 600 requests a minute are 10 a second, after the
        10 that may be sent in the first moment.
        """
        bounds = [self._longest_s, self.occupied_s / max(capacity.slots, 1)]
        if capacity.requests_per_s:
            bounds.append((self.calls - capacity.request_burst) / capacity.requests_per_s)
        if capacity.tokens_per_s:
            bounds.append((self.tokens - capacity.token_burst) / capacity.tokens_per_s)
        return max(bounds)
