"""What a large run is going to take: a small one is measured, and its line at the gate gone through in full size."""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tinytroupe.benchmarks.plan_keys import Asked
from tinytroupe.benchmarks.plan_queue import Limits, Line
from tinytroupe.benchmarks.plan_sample import (
    ACTOR_MB,
    BUSY,
    CLIENT_CPU_S,
    DRIVER_PERSON_MB,
    FOOTPRINTS,
    SAMPLED_PEOPLE,
    TURN_EXCHANGE_S,
    Footprint,
    Sample,
    footprint,
    limits_of,
    sampled,
)
from tinytroupe.config import config_manager
from tinytroupe.llm import Usage
from tinytroupe.llm.prices import PriceError, cost_usd

MOST_CALLS = 3_000_000
"""Calls that are gone through, in three repetitions together where that can be: about ten seconds."""
ENOUGH_CALLS = 300_000
"""Calls beyond which there are no more than three repetitions."""
MOST_STEPS = 20
MOST_REPETITIONS = 200
_LEAST_REPETITIONS = 3  # so that there is a spread to tell of, where that many can be afforded
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Makespan:
    """How long a run takes, seconds of virtual time.

    Attributes
    ----------
    seconds
        Expected.
    low_s, high_s
        Nine of ten runs lie between them; None where too many people left no time for repetitions.
    longest_step_s
        The longest step, exchange included.
    """

    seconds: float
    low_s: float | None
    high_s: float | None
    longest_step_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """A prediction, and what it rests on.

    Attributes
    ----------
    asked, sample, footprint, limits
        What was asked, what was measured, and what the calls have to keep to.
    shards
        Processes that it is made for.
    needed
        Processes that are needed at least, by what they are needed for.
    makespan
        How long it takes.
    floors_s
        What it takes at least, seconds, by what it is due to.
    usage
        Calls and tokens.
    cost_usd
        Price of that; None where it is not known.
    cost_unknown
        Why it is not.
    exchange_s
        Part of the makespan that is the exchange between shards.
    """

    asked: Asked
    sample: Sample
    footprint: Footprint
    limits: Limits
    shards: int
    needed: Mapping[str, int]
    makespan: Makespan
    floors_s: Mapping[str, float]
    usage: Usage
    cost_usd: float | None
    cost_unknown: str
    exchange_s: float

    @property
    def memory_mb(self) -> float:
        """Resident memory of all shards at their peak, and of their driver where there are several."""
        driver_mb = self.footprint.process_mb + self.asked.people * DRIVER_PERSON_MB if self.shards > 1 else 0.0
        return self.shards * self.shard_mb + driver_mb

    @property
    def shard_mb(self) -> float:
        """Resident memory of one shard at its peak."""
        return self.footprint.of(self.asked.people / self.shards) + (ACTOR_MB if self.shards > 1 else 0.0)

    @property
    def cpu_s(self) -> float:
        """Processor time of all shards together."""
        turns = self.asked.people * self.asked.steps
        return turns * self.sample.cpu_s_per_turn + self.usage.calls * CLIENT_CPU_S

    @property
    def decided_by(self) -> str:
        """What the makespan is mostly due to."""
        floor = max(self.floors_s, key=self.floors_s.__getitem__)
        return floor if self.floors_s[floor] >= self.makespan.seconds / 2 else "the slowest calls of each step"


def forecast(asked: Asked, *, seed: int = 0, tell: Tell = lambda _: None) -> Forecast:
    """Predict what a run takes.

    Parameters
    ----------
    asked
        The run.
    seed
        Of the sample, and of the latencies that are drawn.
    tell
        Called with what is being done, for those who wait.

    Raises
    ------
    RuntimeError
        A process that memory is measured in failed.
    """
    tell(f"running {min(asked.people, SAMPLED_PEOPLE)} people to see what a turn costs")
    sample = sampled(asked, seed)
    tell(f"running {FOOTPRINTS[0]} and {FOOTPRINTS[1]} people to see what they take up")
    return foretold(asked, sample, footprint(asked), seed=seed, tell=tell)


def foretold(asked: Asked, sample: Sample, held: Footprint, *, seed: int = 0, tell: Tell = lambda _: None) -> Forecast:
    """Predict what a run takes from what was measured before."""
    usage = _usage(asked, sample)
    cost, unknown = _cost(usage, asked.model or config_manager.get("model"))
    most = config_manager.get("max_concurrent_model_calls") or config_manager.get("max_adaptive_model_calls")
    needed = {
        "people": math.ceil(asked.people / asked.people_per_shard),
        "calls in flight": math.ceil((asked.concurrency or 1) / most),
    }
    shards = asked.shards or max(needed.values())
    while True:
        tell(f"sending {asked.people:,} people's calls through the gate, with {shards:,} shards")
        exchange_s = 0.0  # a step
        if shards > 1:
            exchange_s = shards * asked.exchange_ms / 1000 + asked.people * TURN_EXCHANGE_S
        limits = limits_of(asked, shards)
        found = Forecast(
            asked=asked,
            sample=sample,
            footprint=held,
            limits=limits,
            shards=shards,
            needed=needed,
            makespan=_makespan(asked, sample, limits, exchange_s, seed),
            floors_s=_floors_s(asked, usage, limits),
            usage=usage,
            cost_usd=cost,
            cost_unknown=unknown,
            exchange_s=exchange_s * asked.steps,
        )
        busy = math.ceil(found.cpu_s / (BUSY * found.makespan.seconds)) if found.makespan.seconds > 0 else 1
        if asked.shards is not None or busy <= shards or "processor time" in needed:
            return replace(found, needed={"processor time": busy, **needed})
        needed["processor time"] = shards = busy


def _calls_per_turn(asked: Asked, sample: Sample, step: int) -> float:
    return asked.calls_per_turn or sample.of_step(step).calls / sample.people


def _usage(asked: Asked, sample: Sample) -> Usage:
    """Return what all people spend in all steps."""
    calls = prompt = completion = cached = 0.0
    measured = len(sample.usage)
    for step in range(min(asked.steps, measured)):
        times = asked.steps - measured + 1 if step == measured - 1 else 1  # the last stands for all that follow it
        one = sample.of_step(step)
        many = times * asked.people * _calls_per_turn(asked, sample, step) / max(one.calls, 1)
        calls += many * one.calls
        prompt += many * one.prompt_tokens
        completion += many * one.completion_tokens
        cached += many * one.cached_tokens
    return Usage(round(calls), round(prompt), round(completion), round(cached))


def _cost(usage: Usage, model: str) -> tuple[float | None, str]:
    try:
        return float(cost_usd(usage, model)), ""
    except PriceError as error:
        return None, str(error)


def _floors_s(asked: Asked, usage: Usage, limits: Limits) -> dict[str, float]:
    from tinytroupe.testing import parse_latency

    spread, each = parse_latency(asked.latency), usage.completion_tokens // max(usage.calls, 1)
    mean_s = statistics.fmean(spread.quantile((number + 0.5) / 1000, each) for number in range(1000))
    floors = {"calls in flight": usage.calls * mean_s / limits.high}
    if limits.rpm is not None:
        floors["requests a minute"] = usage.calls * 60 / limits.rpm
    if limits.tpm is not None:
        floors["tokens a minute"] = usage.tokens * 60 / limits.tpm
    return floors


def gone_through(steps: int, calls_a_step: float) -> tuple[list[int], int]:
    """Return which steps to go through, and how often, so that it takes seconds; the first is always among them."""
    affordable = max(1, int(MOST_CALLS / (_LEAST_REPETITIONS * calls_a_step)))
    many = min(steps, MOST_STEPS, affordable)
    rest = {steps - 1 - round(number * (steps - 2) / max(many - 2, 1)) for number in range(many - 1)}
    chosen = sorted({0, *rest})
    calls = len(chosen) * calls_a_step
    repetitions = max(int(ENOUGH_CALLS / calls), min(_LEAST_REPETITIONS, int(MOST_CALLS / calls)), 1)
    return chosen, min(repetitions, MOST_REPETITIONS)


def _makespan(asked: Asked, sample: Sample, limits: Limits, exchange_s: float, seed: int) -> Makespan:
    calls = [_calls_per_turn(asked, sample, step) for step in range(len(sample.usage))]
    steps, repetitions = gone_through(asked.steps, asked.people * statistics.fmean(calls))
    runs = [_step_times_s(asked, sample, limits, steps, f"{seed} {number}") for number in range(repetitions)]
    # A step that was not gone through takes what the next that was takes.
    like = [bisect_left(steps, step) for step in range(asked.steps)]
    like = [min(number, len(steps) - 1) for number in like]
    means = [statistics.fmean(run[number] + exchange_s for run in runs) for number in range(len(steps))]
    seconds = math.fsum(means[number] for number in like)
    low_s = high_s = None
    if repetitions > 1:
        spread = [statistics.variance([run[number] for run in runs]) for number in range(len(steps))]
        margin_s = statistics.NormalDist().inv_cdf(0.95) * math.sqrt(math.fsum(spread[number] for number in like))
        low_s, high_s = max(seconds - margin_s, 0.0), seconds + margin_s
    return Makespan(seconds, low_s, high_s, max(means))


def _step_times_s(asked: Asked, sample: Sample, limits: Limits, steps: Sequence[int], seed: str) -> list[float]:
    from tinytroupe.testing import parse_latency

    rng, spread = random.Random(seed), parse_latency(asked.latency)
    completion = 0

    def seconds() -> float:
        return spread.quantile(rng.random() or 0.5, completion)

    line, taken = Line(limits, seconds), []
    for step in steps:
        one = sample.of_step(step)
        completion = one.completion_tokens // max(one.calls, 1)
        whole, part = divmod(_calls_per_turn(asked, sample, step), 1)
        turns = (int(whole) + (part > 0 and rng.random() < part) for _ in range(asked.people))
        taken.append(line.step(turns, one.tokens / max(one.calls, 1)))
    return taken
