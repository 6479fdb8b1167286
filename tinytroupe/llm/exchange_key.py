"""How an exchange is found again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """What an exchange is known by: who asked, the person's own call number, and the fingerprint of what was asked."""

    simulation: str
    person: str
    call: int
    hash: bytes

    @property
    def columns(self) -> tuple[str, str, int, bytes]:
        """The key as the table has it."""
        return self.simulation, self.person, self.call, self.hash

    def __str__(self) -> str:
        who = f"call {self.call} of {self.person or 'the program'}"
        return f"{who} in simulation {self.simulation!r}" if self.simulation else who
