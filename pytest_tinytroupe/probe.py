"""Where fixtures and instruments meet: fixtures attach what can be watched, instruments read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pytest_tinytroupe.phases import PROBE

if TYPE_CHECKING:
    import pytest

    from pytest_tinytroupe.records import LimitKind, Metric
    from pytest_tinytroupe.versus import Comparison


class Clock(Protocol):
    """A source of time."""

    virtual: bool

    def now(self) -> float:
        """Return the time in seconds."""
        ...


class Model(Protocol):
    """A model that counts what it was asked."""

    @property
    def calls(self) -> int:
        """Requests answered."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """Tokens sent."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Tokens received."""
        ...


class World(Protocol):
    """A simulated world that counts what its steps cost."""

    @property
    def agents(self) -> Sequence[Any]:
        """The people in it."""
        ...

    def get_parallel_metrics(self) -> Mapping[str, Any]:
        """Return errors, time-outs, lower bound and elapsed time so far."""
        ...


Source = TypeVar("Source")
Counts = dict[str, float]


class Watched(Generic[Source]):
    """Sources of one kind, and what their counters said when the call began."""

    def __init__(self, read: Callable[[Source], Counts]) -> None:
        self._read = read
        self._zero: list[tuple[Source, Counts]] = []

    @property
    def sources(self) -> list[Source]:
        """The sources, in the order in which they were attached."""
        return [source for source, _ in self._zero]

    def add(self, source: Source) -> None:
        """Count `source` from now on; once, however often it is attached."""
        if not any(known is source for known in self.sources):
            self._zero.append((source, self._read(source)))

    def restart(self) -> None:
        """Count all sources from now on."""
        self._zero = [(source, self._read(source)) for source in self.sources]

    def counts(self) -> Counts:
        """Return the increase of each counter, added up over the sources."""
        total: Counts = {}
        for source, zero in self._zero:
            for name, value in self._read(source).items():
                total[name] = total.get(name, 0) + value - zero.get(name, 0)
        return total


class Probe:
    """What can be watched during one pass of one test.

    Sources attached during set-up count from the start of the call, those attached during the call from then on.
    """

    def __init__(self) -> None:
        self.clocks: Watched[Clock] = Watched(lambda clock: {"now": clock.now()})
        self.models: Watched[Model] = Watched(_read_model)
        self.worlds: Watched[World] = Watched(_read_world)
        self.people: Watched[Model] = Watched(_read_people)
        self.latencies: Watched[Model] = Watched(_read_latencies)
        self.runs_on_real_time = False
        self.monitors: list[Any] = []
        self.recorded: list[Metric] = []
        self.limits: dict[str, tuple[LimitKind, float]] = {}
        self.comparisons: dict[str, Comparison] = {}
        self.notes: list[str] = []
        self.call_is_over = False
        self._last_turns: dict[int, object] = {}
        self._after_step: list[Callable[[], None]] = []

    def add_clock(self, clock: Clock) -> None:
        """Watch a clock; only virtual ones give exact times."""
        if clock.virtual:
            self.clocks.add(clock)
        else:
            self.runs_on_real_time = True

    def add_llm(self, model: Model) -> None:
        """Watch a model's counters."""
        self.models.add(model)
        self.people.add(model)
        self.latencies.add(model)

    def add_world(self, world: World) -> None:
        """Watch a world's steps and the memories of its people, and let the monitors watch it."""
        known = any(each is world for each in self.worlds.sources)
        self.worlds.add(world)
        if not known and self._after_step:
            self._hear(world)
        clock = getattr(world, "clock", None)
        if clock is not None:
            self.add_clock(clock)
        for monitor in self.monitors:
            monitor.watch(world)

    def add_monitor(self, monitor: Any) -> None:
        """Let a `MemoryMonitor` watch all worlds, and take its curves into the report."""
        self.monitors.append(monitor)
        for world in self.worlds.sources:
            monitor.watch(world)

    def watch_steps(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after each step, of worlds that are here and of those to come."""
        if not self._after_step:
            for world in self.worlds.sources:
                self._hear(world)
        self._after_step.append(callback)

    def stepped(self, event: object = None) -> None:
        """Tell those who watch that a step is over: a world's, or one of the test's own."""
        for callback in self._after_step:
            callback()

    def _hear(self, world: World) -> None:
        # Only where someone watches: each step of a world that is listened to costs a hop to another thread.
        listen = getattr(world, "on", None)
        if listen is not None:
            listen("step", self.stepped)

    def restart(self) -> None:
        """Count everything from now on: the call begins."""
        self.clocks.restart()
        self.models.restart()
        self.worlds.restart()
        self.people.restart()
        self.latencies.restart()
        self._last_turns = {id(world): next(iter(_timeline(world)[-1:]), None) for world in self.worlds.sources}

    def turns(self) -> list[Any]:
        """Return the turns since the call began, as far as the worlds keep them."""
        found: list[Any] = []
        for world in self.worlds.sources:
            turns, last = _timeline(world), self._last_turns.get(id(world))
            start = next((place + 1 for place, turn in enumerate(turns) if last is not None and turn is last), 0)
            found += turns[start:]
        return found

    def by_person(self) -> dict[str, dict[str, int]]:
        """Return metric name -> person -> amount since the call began; empty names are nobody's in particular."""
        found: dict[str, dict[str, int]] = {}
        for key, amount in self.people.counts().items():
            metric, _, person = key.partition(":")
            if amount:
                found.setdefault(metric, {})[person] = int(amount)
        return found

    def calls_s(self) -> list[tuple[float, int]]:
        """Return how long model calls took since the call began: ascending, and how many took that long."""
        return sorted((float(latency_s), int(count)) for latency_s, count in self.latencies.counts().items() if count)

    def by_step(self) -> dict[str, dict[str, int]]:
        """Return metric name -> number of the step, from 1 -> amount, as far as the worlds keep their turns."""
        found: dict[str, dict[str, int]] = {}
        for turn in self.turns():
            for metric, amount in (("llm_calls", turn.usage.calls), ("tokens", turn.usage.tokens)):
                if amount:
                    steps = found.setdefault(metric, {})
                    steps[str(turn.step + 1)] = steps.get(str(turn.step + 1), 0) + amount
        return found

    def verify(self) -> None:
        """Raise what the models have to complain about, such as requests that no rule matched.

        Raises
        ------
        AssertionError
            A model in strict mode was asked something it has no answer for, even where the program swallowed the error.
        """
        for model in self.models.sources:
            verify = getattr(model, "verify", None)
            if verify is not None:
                verify()


def probe_of(item: pytest.Item) -> Probe:
    """Return the probe of a test, which is new for every pass."""
    return item.stash.setdefault(PROBE, Probe())


def _counters(model: Model) -> Model:
    """Return what holds a model's counters, where possible those that never go back."""
    return getattr(model, "ever", model)


def _read_model(model: Model) -> Counts:
    counters = _counters(model)
    return {
        "calls": counters.calls,
        "prompt_tokens": counters.prompt_tokens,
        "completion_tokens": counters.completion_tokens,
        "cached_tokens": getattr(counters, "cached_tokens", 0),
    }


def _read_people(model: Model) -> Counts:
    counts: Counts = {}
    for person, tally in list(getattr(_counters(model), "by_person", {}).items()):
        counts[f"llm_calls:{person}"] = tally.calls
        counts[f"tokens:{person}"] = tally.tokens
    return counts


def _read_latencies(model: Model) -> Counts:
    return {str(latency_s): count for latency_s, count in list(getattr(_counters(model), "latencies_s", {}).items())}


def _timeline(world: World) -> Sequence[Any]:
    timeline = getattr(world, "timeline", None)
    return timeline() if timeline is not None else ()


def _read_world(world: World) -> Counts:
    metrics = world.get_parallel_metrics()
    return {
        "errors": metrics["parallel_errors"],
        "model_calls": metrics["model_calls"],
        "timeouts": metrics["parallel_timeouts"],
        "lower_bound_s": metrics["lower_bound_s"],
        "elapsed_s": metrics["elapsed_s"],
        "steps": metrics["total_parallel_steps"] + metrics["total_sequential_steps"],
    }
