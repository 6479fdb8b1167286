"""Emulated rate limits: requests and tokens a minute, and the headers that tell of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """What is left of a budget that fills up evenly, `per_minute` a minute."""

    per_minute: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        """Add what has come in since the last time."""
        self.left = min(self.per_minute, self.left + max(0.0, now - self.at) * self.per_minute / 60)
        self.at = now

    def wait_s(self, amount: float) -> float:
        """Return the seconds until `amount` is there; 0 if it is. More than a whole budget waits for a whole budget."""
        return max(0.0, (min(amount, self.per_minute) - self.left) * 60 / self.per_minute)


class Limits:
    """Limits of one account, as seen by one clock."""

    def __init__(self, rpm: float | None, tpm: float | None, now: float) -> None:
        self.requests = Bucket(rpm, rpm, now) if rpm else None
        self.tokens = Bucket(tpm, tpm, now) if tpm else None

    def admit(self, tokens: int, now: float) -> float:
        """Take one request and its tokens and return 0; where they are not left, return the seconds to wait."""
        wanted = [(self.requests, 1.0), (self.tokens, float(tokens))]
        wait = 0.0
        for bucket, amount in wanted:
            if bucket is not None:
                bucket.fill(now)
                wait = max(wait, bucket.wait_s(amount))
        if wait > 1e-9:  # a rest of rounding would make a client wait for nothing
            return wait
        for bucket, amount in wanted:
            if bucket is not None:
                bucket.left -= amount
        return 0.0

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the ``x-ratelimit-*`` headers as they stand."""
        found: list[tuple[str, str]] = []
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None:
                full_s = (bucket.per_minute - bucket.left) * 60 / bucket.per_minute
                found += [
                    (f"x-ratelimit-limit-{name}", f"{bucket.per_minute:.0f}"),
                    (f"x-ratelimit-remaining-{name}", str(max(0, int(bucket.left + 1e-9)))),
                    (f"x-ratelimit-reset-{name}", duration(full_s)),
                ]
        return tuple(found)


def duration(seconds: float) -> str:
    """Return seconds as the API writes them in its headers: ``120ms``, ``8.64s``, ``6m0s``."""
    milliseconds = max(0, round(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"
