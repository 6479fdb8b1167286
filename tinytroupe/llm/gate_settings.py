"""What a gate is built from."""

from __future__ import annotations

from dataclasses import dataclass

from tinytroupe.llm.gate import Gate
from tinytroupe.llm.leases import LeaseSource
from tinytroupe.llm.limits import START


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Settings that a gate is built from.

    Attributes
    ----------
    fixed, low, high
        Calls in flight: always so many, or within these bounds.
    rpm, tpm
        Requests and tokens a minute; where there are `leases`, they are the matter of who gives them.
    leases
        Where leave to send comes from, for limits that are shared with other processes.
    """

    fixed: int | None
    low: int
    high: int
    rpm: float | None
    tpm: float | None
    leases: LeaseSource | None = None

    @property
    def most(self) -> int:
        """Most calls in flight that the gate can come to allow."""
        return self.fixed or self.high

    def gate(self) -> Gate:
        """Return a new gate."""
        return Gate(
            start=self.fixed or START,
            low=self.fixed or self.low,
            high=self.most,
            rpm=self.rpm if self.leases is None else None,
            tpm=self.tpm if self.leases is None else None,
            adaptive=self.fixed is None,
            leases=self.leases,
        )
