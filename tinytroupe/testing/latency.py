"""How long the mock model takes to answer: distributions drawn from a key, never from the order of arrival."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

_NORMAL = NormalDist()


class Latency(Protocol):
    """A distribution of answer times."""

    def draw(self, key: str, completion_tokens: int) -> float:
        """Return the seconds that the call named by `key` takes; equal keys give equal seconds."""
        ...


class Spread(Latency, Protocol):
    """A distribution that is known as a whole."""

    def quantile(self, share: float, completion_tokens: int) -> float:
        """Return the seconds within which a share of all calls, above 0 and below 1, is answered."""
        ...


def _seconds(value: float, name: str) -> None:
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number of seconds ≥ 0, not {value!r}")


@dataclass(frozen=True, slots=True)
class Constant:
    """Every call takes `seconds`."""

    seconds: float = 0.0

    def __post_init__(self) -> None:
        _seconds(self.seconds, "seconds")

    def draw(self, key: str, completion_tokens: int) -> float:
        return self.seconds

    def quantile(self, share: float, completion_tokens: int) -> float:
        return self.seconds


@dataclass(frozen=True, slots=True)
class Uniform:
    """Evenly spread between `low` and `high` seconds."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _seconds(self.low, "low")
        _seconds(self.high, "high")
        if self.high < self.low:
            raise ValueError(f"high ({self.high}) must not be below low ({self.low})")

    def draw(self, key: str, completion_tokens: int) -> float:
        return self.low + (self.high - self.low) * random.Random(key).random()

    def quantile(self, share: float, completion_tokens: int) -> float:
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True, slots=True)
class LogNormal:
    """The usual shape of real latencies: half of the calls take less than `median` seconds, few take very long.

    Attributes
    ----------
    median
        Seconds.
    sigma
        Standard deviation of the logarithm; 0.5 is common, 0.8 and more is heavy-tailed.
    """

    median: float
    sigma: float

    def __post_init__(self) -> None:
        _seconds(self.median, "median")
        _seconds(self.sigma, "sigma")

    def draw(self, key: str, completion_tokens: int) -> float:
        return self.median * math.exp(random.Random(key).normalvariate(0.0, self.sigma)) if self.median else 0.0

    def quantile(self, share: float, completion_tokens: int) -> float:
        return self.median * math.exp(self.sigma * _NORMAL.inv_cdf(share))


@dataclass(frozen=True, slots=True)
class PerToken:
    """`first` seconds to the first token, then `each` seconds for every further one."""

    first: float
    each: float

    def __post_init__(self) -> None:
        _seconds(self.first, "first")
        _seconds(self.each, "each")

    def draw(self, key: str, completion_tokens: int) -> float:
        return self.first + self.each * max(0, completion_tokens - 1)

    def quantile(self, share: float, completion_tokens: int) -> float:
        return self.draw("", completion_tokens)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Drawn from latencies that were measured somewhere, in seconds."""

    seconds: Sequence[float]

    def __post_init__(self) -> None:
        if not self.seconds:
            raise ValueError("Recorded needs at least one latency")
        for value in self.seconds:
            _seconds(value, "each recorded latency")

    def draw(self, key: str, completion_tokens: int) -> float:
        return self.seconds[int(random.Random(key).random() * len(self.seconds))]


_FORMS: dict[str, tuple[Callable[..., Spread], int, str]] = {
    "constant": (Constant, 1, "constant:SECONDS"),
    "uniform": (Uniform, 2, "uniform:LOW,HIGH"),
    "lognormal": (LogNormal, 2, "lognormal:MEDIAN,SIGMA"),
    "pertoken": (PerToken, 2, "pertoken:FIRST,EACH"),
}


def parse_latency(text: str) -> Spread:
    """Read a latency from text: ``0.2``, ``uniform:0.1,0.4``, ``lognormal:1.2,0.5``, ``pertoken:0.3,0.02``.

    Raises
    ------
    ValueError
        If the form is unknown or a number is missing, malformed or negative; the message lists the forms.
    """
    name, _, rest = text.strip().rpartition(":")
    make, count, _ = _FORMS.get(name.strip().lower() or "constant", (Constant, -1, ""))
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        forms = ", ".join(form for *_, form in _FORMS.values())
        raise ValueError(f"cannot read latency {text!r}: write a number of seconds or one of {forms}")
    return make(*numbers)


def as_latency(value: float | str | Latency) -> Latency:
    """Return `value` as a distribution; a number is constant seconds, a text what `parse_latency` reads."""
    if isinstance(value, str):
        return parse_latency(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Constant(float(value))
    if hasattr(value, "draw"):
        return value
    raise TypeError(f"latency must be seconds or a distribution such as LogNormal(1.2, 0.5), not {value!r}")
