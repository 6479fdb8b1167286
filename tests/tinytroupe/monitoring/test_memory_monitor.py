"""What the memory monitor says, when it warns, and that it stays small."""

from __future__ import annotations

import gc
import logging
import random
import re
import threading
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe import TinyPerson, TinyWorld, VirtualClock, use_clock, use_model
from tinytroupe.monitoring import Alert, MemoryMonitor
from tinytroupe.monitoring.alert_log import ALERT_LIMIT
from tinytroupe.monitoring.deep_size import deep_size_bytes
from tinytroupe.testing import DirectModel, MockLLM


class FakeMemory:
    def __init__(self, size: int, max_size: int | None) -> None:
        self.size = size
        self.buffer = 0
        self.evicted = 0
        self.max_size = max_size

    def get_memory_stats(self) -> dict[str, Any]:
        total = self.size + self.buffer
        return {
            "current_size": self.size,
            "buffer_size": self.buffer,
            "total_size": total,
            "max_size": self.max_size,
            "usage_ratio": total / self.max_size if self.max_size else 0.0,
            "is_bounded": self.max_size is not None,
            "approaching_limit": False,
            "evicted": self.evicted,
        }


class FakeAgent:
    def __init__(self, name: str = "alice", size: int = 0, max_size: int | None = 100) -> None:
        self.name = name
        self.episodic_memory = FakeMemory(size, max_size)
        self.consolidations = 0
        self.consolidated = 0

    def set(self, size: int) -> FakeAgent:
        self.episodic_memory.size = size
        return self

    def consolidate(self, size: int) -> FakeAgent:
        self.consolidations += 1
        self.consolidated += self.episodic_memory.size - size
        return self.set(size)

    def get_consolidation_metrics(self) -> dict[str, Any]:
        return {"total": self.consolidations, "memories_consolidated": self.consolidated}


class FakeWorld:
    def __init__(self, *agents: FakeAgent) -> None:
        self.agents = list(agents)
        self.callbacks: list[Callable[[Any], None]] = []

    def on(self, event: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        assert event == "step"
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def step(self, number: int) -> None:
        for callback in list(self.callbacks):
            callback(SimpleNamespace(step=number))


def quiet(**settings: Any) -> MemoryMonitor:
    """A monitor whose forecasts do not get in the way, on a clock that stands still."""
    return MemoryMonitor(forecast_snapshots=0, clock=lambda: 0.0, **settings)


def test_the_guide() -> None:
    agents = [FakeAgent("alice"), FakeAgent("bob")]
    monitor = MemoryMonitor(alert_threshold=0.8)
    for agent in agents:
        monitor.track_agent(agent)
    for step in range(100):
        for agent in agents:
            agent.set(step)
            monitor.record_snapshot(agent)
    stats = monitor.get_agent_stats("alice")
    assert stats["current_memory"]["total_size"] == 99
    assert stats["memory_trend"] == "increasing"
    # Warning at 80, critical because of the growth at 90, critical at 95.
    assert stats["total_alerts"] == 3
    assert stats["peak_size"] == 99
    assert stats["lowest_size"] == 0
    assert stats["snapshots"] == 100
    assert stats["growth_rate"] == 1.0


def test_tracking_reads_the_size_but_takes_no_snapshot() -> None:
    monitor = quiet()
    monitor.track_agent(FakeAgent(size=99))
    stats = monitor.get_agent_stats("alice")
    assert stats["current_memory"]["total_size"] == 99
    assert (stats["snapshots"], stats["total_alerts"], stats["memory_trend"]) == (0, 0, "stable")


def test_tracking_twice_keeps_the_history_and_untracking_forgets_it() -> None:
    monitor, agent = quiet(), FakeAgent()
    monitor.record_snapshot(agent)
    monitor.track_agent(agent)
    assert monitor.get_agent_stats("alice")["snapshots"] == 1
    monitor.untrack_agent(agent)
    monitor.untrack_agent("nobody")
    assert monitor.agent_names == []


def test_an_unknown_agent_is_an_error_that_suggests_the_nearest_name() -> None:
    monitor = quiet()
    monitor.track_agent(FakeAgent("alice"))
    with pytest.raises(LookupError, match="did you mean 'alice'"):
        monitor.get_agent_stats("alicia")
    with pytest.raises(LookupError, match="track_agent"):
        monitor.get_history("zzz")


def test_what_is_no_agent_is_refused() -> None:
    with pytest.raises(TypeError, match="episodic_memory"):
        quiet().track_agent(SimpleNamespace(name="x"))


@pytest.mark.parametrize(
    "settings",
    [
        {"alert_threshold": 0},
        {"alert_threshold": 1.01},
        {"growth_rate_threshold": 0},
        {"consolidation_frequency_threshold": -1},
        {"history_limit": 7},
        {"forecast_snapshots": -1},
        {"bytes_every": -1},
    ],
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        MemoryMonitor(**settings)


@pytest.mark.parametrize(("size", "raised"), [(79, []), (80, ["warning"]), (94, ["warning"]), (95, ["critical"])])
def test_usage_alarms_at_the_edge(size: int, raised: list[str]) -> None:
    monitor = quiet()
    monitor.record_snapshot(FakeAgent(size=size), time_s=2.5, step=7)
    alerts = monitor.get_alerts()
    assert [alert.severity for alert in alerts] == raised
    for alert in alerts:
        assert (alert.agent_name, alert.kind, alert.time_s, alert.step) == ("alice", "usage", 2.5, 7)
        assert (alert.value, alert.limit) == (size / 100, 0.8 if alert.severity == "warning" else 0.95)
        assert f"{size} of 100 entries" in alert.message


@pytest.mark.parametrize(("size", "raised"), [(94, []), (95, ["critical"])])
def test_critical_does_not_wait_for_a_higher_threshold(size: int, raised: list[str]) -> None:
    monitor = quiet(alert_threshold=1.0)
    monitor.record_snapshot(FakeAgent(size=size))
    assert [alert.severity for alert in monitor.get_alerts()] == raised


def test_a_lasting_condition_is_announced_once_and_re_armed_only_below_the_margin() -> None:
    monitor, agent = quiet(), FakeAgent()
    for size in (80, 85, 79, 81, 76, 82):
        monitor.record_snapshot(agent.set(size))
    assert len(monitor.get_alerts()) == 1
    monitor.record_snapshot(agent.set(74))
    monitor.record_snapshot(agent.set(80))
    assert len(monitor.get_alerts()) == 2


def test_growing_worse_is_announced_and_falling_back_is_not() -> None:
    monitor, agent = quiet(), FakeAgent()
    for size in (85, 96, 99, 92, 96, 85, 82):
        monitor.record_snapshot(agent.set(size))
    assert [alert.severity for alert in monitor.get_alerts()] == ["warning", "critical"]


@pytest.mark.parametrize(("last", "raised"), [(79, False), (80, True)])
def test_forecast_at_the_edge(last: int, raised: bool) -> None:
    """Growing by 2 a snapshot, a bound of 100 is 10 snapshots away at 80."""
    monitor = MemoryMonitor(alert_threshold=1.0, forecast_snapshots=10)
    agent = FakeAgent()
    for size in range(last - 10, last + 1, 2):
        monitor.record_snapshot(agent.set(size))
    assert [alert.kind for alert in monitor.get_alerts(severity="critical")] == (["forecast"] if raised else [])


@pytest.mark.parametrize(("gain", "raised"), [(9, []), (10, ["growth"]), (11, ["growth"])])
def test_growth_at_the_edge(gain: int, raised: list[str]) -> None:
    monitor, agent = quiet(growth_rate_threshold=10), FakeAgent(max_size=10_000)
    for k in range(6):
        monitor.record_snapshot(agent.set(k * gain))
    assert [alert.kind for alert in monitor.get_alerts()] == raised


def test_growth_waits_for_enough_snapshots_and_leaves_consolidations_out() -> None:
    monitor, agent = quiet(growth_rate_threshold=10), FakeAgent(max_size=10_000)
    for size in (0, 10, 20, 30, 40):
        monitor.record_snapshot(agent.set(size))
    assert monitor.get_alerts() == []
    monitor.record_snapshot(agent.consolidate(5))
    monitor.record_snapshot(agent.set(15))
    assert [alert.kind for alert in monitor.get_alerts()] == ["growth"]


def test_consolidating_too_often() -> None:
    monitor, agent = quiet(consolidation_frequency_threshold=0.4), FakeAgent()
    monitor.record_snapshot(agent)
    for k in range(5):
        monitor.record_snapshot(agent.consolidate(0) if k % 2 else agent.set(10))
    assert [alert.kind for alert in monitor.get_alerts()] == ["consolidation"]
    columns = monitor.get_consolidations("alice")
    assert columns["memories_consolidated"] == [10, 10]
    assert columns["count"] == [1, 1]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=200))
def test_no_eviction_and_no_consolidation_is_lost_to_thinning(happened: list[tuple[int, bool]]) -> None:
    monitor, agent = quiet(history_limit=8), FakeAgent(size=50)
    agent.episodic_memory.evicted = 7  # before tracking began
    monitor.track_agent(agent)
    for k, (evicted, consolidated) in enumerate(happened):
        agent.episodic_memory.evicted += evicted
        if consolidated:
            agent.set(50).consolidate(10)
        monitor.record_snapshot(agent, time_s=float(k))
    evictions, consolidations = monitor.get_evictions("alice"), monitor.get_consolidations("alice")
    assert sum(evictions["memories_evicted"]) == sum(evicted for evicted, _ in happened)
    assert monitor.get_agent_stats("alice")["evicted"] == sum(evicted for evicted, _ in happened)
    assert sum(consolidations["count"]) == sum(consolidated for _, consolidated in happened)
    assert sum(consolidations["memories_consolidated"]) == 40 * sum(consolidations["count"])
    assert len(evictions["time_s"]) <= 8
    assert set(evictions["time_s"]) <= set(monitor.get_history("alice")["time_s"])


def test_a_memory_that_is_put_back_is_no_event() -> None:
    monitor, agent = quiet(), FakeAgent()
    for evicted in (5, 2, 3):
        agent.episodic_memory.evicted = evicted
        monitor.record_snapshot(agent)
    assert monitor.get_evictions("alice")["memories_evicted"] == [1]


def test_unbounded_memory_is_worth_a_remark_once() -> None:
    monitor, agent = quiet(), FakeAgent(max_size=None)
    monitor.record_snapshot(agent)
    monitor.record_snapshot(agent)
    assert [(alert.severity, alert.kind) for alert in monitor.get_alerts()] == [("info", "unbounded")]


def test_alerts_are_filtered_and_cleared_by_agent() -> None:
    monitor = quiet()
    monitor.record_snapshot(FakeAgent("alice", 80))
    monitor.record_snapshot(FakeAgent("bob", 95))
    assert [a.agent_name for a in monitor.get_alerts(severity="critical")] == ["bob"]
    assert [a.severity for a in monitor.get_alerts("alice")] == ["warning"]
    with pytest.raises(ValueError, match="info, warning, critical"):
        monitor.get_alerts(severity="fatal")
    monitor.clear_alerts("alice")
    assert [a.agent_name for a in monitor.get_alerts()] == ["bob"]
    assert monitor.get_agent_stats("alice")["total_alerts"] == 0
    monitor.clear_alerts()
    assert monitor.get_alerts() == []


def test_a_callback_that_raises_is_logged_and_the_next_one_still_called(caplog: pytest.LogCaptureFixture) -> None:
    monitor, seen = quiet(), []

    def broken(alert: Alert) -> None:
        raise RuntimeError("no disk left")

    monitor.register_alert_callback(broken)
    unregister = monitor.register_alert_callback(seen.append)
    with caplog.at_level(logging.ERROR):
        monitor.record_snapshot(FakeAgent(size=80))
    assert len(seen) == 1
    assert "no disk left" in caplog.text
    unregister()
    unregister()
    monitor.record_snapshot(FakeAgent("bob", 80))
    assert len(seen) == 1


def test_a_callback_may_consolidate_and_record_without_recursion() -> None:
    monitor = quiet()
    agents = [FakeAgent("alice", 95), FakeAgent("bob", 95)]
    depth = deepest = 0
    heard: list[str] = []

    def consolidate_all(alert: Alert) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        heard.append(alert.agent_name)
        for agent in agents:
            monitor.record_snapshot(agent)
            monitor.record_snapshot(agent.consolidate(10))
        monitor.generate_report()
        depth -= 1

    monitor.register_alert_callback(consolidate_all)
    monitor.record_snapshot(agents[0])
    assert heard == ["alice", "bob"]
    assert deepest == 1


def test_a_callback_that_causes_the_alarm_it_answers_comes_to_an_end() -> None:
    monitor, agent, heard = quiet(), FakeAgent(size=95), []

    def make_it_worse(alert: Alert) -> None:
        heard.append(alert)
        for size in (10, 95):
            monitor.record_snapshot(agent.set(size))

    monitor.register_alert_callback(make_it_worse)
    monitor.record_snapshot(agent)
    assert len(heard) == 1
    assert len(monitor.get_alerts()) == 2


def test_watching_a_world_follows_its_steps_and_newcomers_until_it_ends() -> None:
    alice, bob = FakeAgent("alice"), FakeAgent("bob", 95)
    world, monitor = FakeWorld(alice), quiet()
    stop = monitor.watch(world)
    world.step(1)
    world.agents.append(bob)
    world.step(2)
    stop()
    world.step(3)
    assert monitor.get_agent_stats("alice")["snapshots"] == 2
    assert monitor.get_agent_stats("bob")["snapshots"] == 1
    assert [alert.step for alert in monitor.get_alerts("bob")] == [2]


def test_a_world_watched_twice_gets_one_snapshot_a_step() -> None:
    alice = FakeAgent()
    world, monitor = FakeWorld(alice), quiet()
    first, second = monitor.watch(world), monitor.watch(world)
    world.step(1)
    assert monitor.get_agent_stats("alice")["snapshots"] == 1
    first()
    world.step(2)
    assert monitor.get_agent_stats("alice")["snapshots"] == 2
    second()
    world.step(3)
    assert monitor.get_agent_stats("alice")["snapshots"] == 2


def test_time_comes_from_the_clock_unless_it_is_given() -> None:
    now = [100.0]
    monitor, agent = MemoryMonitor(clock=lambda: now[0]), FakeAgent()
    assert monitor.record_snapshot(agent).time_s == 0.0
    now[0] = 103.0
    assert monitor.record_snapshot(agent).time_s == 3.0
    snapshot = monitor.record_snapshot(agent, time_s=9.0, step=4)
    assert (snapshot.time_s, snapshot.step, snapshot.index) == (9.0, 4, 2)
    assert monitor.record_snapshot(agent).time_s == 9.0  # The clock is behind: time does not run backwards.
    with pytest.raises(ValueError, match="one time base"):
        monitor.record_snapshot(agent, time_s=8.9)
    with pytest.raises(ValueError, match="finite"):
        monitor.record_snapshot(agent, time_s=float("nan"))


def test_semantic_memory_is_counted_where_there_is_one() -> None:
    monitor, agent = quiet(), FakeAgent()
    agent.semantic_memory = [1, 2, 3]  # type: ignore[attr-defined]
    assert monitor.record_snapshot(agent).semantic_size == 3
    agent.semantic_memory = SimpleNamespace(count=lambda: 5)  # type: ignore[attr-defined]
    assert monitor.record_snapshot(agent).semantic_size == 5
    assert monitor.get_agent_stats("alice")["current_memory"]["semantic_size"] == 5


@settings(max_examples=30)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=300))
def test_history_is_bounded_and_its_extremes_are_exact(sizes: list[int]) -> None:
    monitor, agent = quiet(history_limit=16), FakeAgent(max_size=1000)
    for size in sizes:
        monitor.record_snapshot(agent.set(size))
    history = monitor.get_history("alice")
    assert len(history["time_s"]) <= 16
    assert max(history["total_size"]) == max(sizes) == monitor.get_agent_stats("alice")["peak_size"]
    assert min(history["total_size"]) == min(sizes) == monitor.get_agent_stats("alice")["lowest_size"]
    assert history["snapshot"][-1] == len(sizes) - 1


def expected_alarms(sizes: list[int]) -> list[tuple[int, str]]:
    """Where a plain loop raises alarms on a bound of 100: on at 80 and at 95, off again 5 below; the graver wins."""
    on: set[str] = set()
    raised = []
    for k, size in enumerate(sizes):
        before = set(on)
        on |= {severity for severity, limit in (("warning", 80), ("critical", 95)) if size >= limit}
        on -= {severity for severity, limit in (("warning", 75), ("critical", 90)) if size < limit}
        if "critical" in on - before:
            raised.append((k, "critical"))
        elif "warning" in on - before and "critical" not in on:
            raised.append((k, "warning"))
    return raised


def test_extremes_and_alarms_of_long_histories_are_exact() -> None:
    rng = random.Random(1)
    monitor = quiet(growth_rate_threshold=float("inf"))
    for name in ("alice", "bob", "carol"):
        agent, sizes, size = FakeAgent(name), [], 0
        for k in range(3000):
            size = min(max(size + rng.randint(-12, 13), 0), 100) if rng.random() > 0.01 else size // 2
            sizes.append(size)
            monitor.record_snapshot(agent.set(size), step=k)
        stats, history = monitor.get_agent_stats(name), monitor.get_history(name)
        assert len(history["time_s"]) <= monitor.history_limit == 400
        assert (stats["lowest_size"], stats["peak_size"]) == (min(sizes), max(sizes))
        assert (min(history["total_size"]), max(history["total_size"])) == (min(sizes), max(sizes))
        alarms = [(alert.step, alert.severity) for alert in monitor.get_alerts(name)]
        assert alarms == expected_alarms(sizes)
        assert len(alarms) > 30


def test_many_snapshots_cost_no_more_memory_than_few() -> None:
    monitor, agent = quiet(history_limit=200), FakeAgent(max_size=10**6)
    for k in range(1000):
        monitor.record_snapshot(agent.set(k % 700))
    gc.collect()
    tracemalloc.start()
    try:
        for k in range(5_000):
            monitor.record_snapshot(agent.set(k % 700))
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 64 * 1024


def test_many_threads() -> None:
    monitor = MemoryMonitor(history_limit=50)
    monitor.register_alert_callback(lambda alert: monitor.get_agent_stats(alert.agent_name))

    def work(name: str) -> None:
        agent = FakeAgent(name)
        for k in range(200):
            monitor.record_snapshot(agent.set(k % 100))
            monitor.record_snapshot(shared)

    shared = FakeAgent("shared", 50)
    threads = [threading.Thread(target=work, args=(f"agent {k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.get_agent_stats("shared")["snapshots"] == 800
    assert all(monitor.get_agent_stats(f"agent {k}")["snapshots"] == 200 for k in range(4))


def test_snapshots_of_one_agent_from_many_threads_count_what_happened_once() -> None:
    """A reading that is older than the one recorded last would be counted again by the next."""
    monitor, agent = quiet(history_limit=8), FakeAgent()
    monitor.track_agent(agent)
    counting = threading.Lock()

    def work() -> None:
        for _ in range(500):
            with counting:
                agent.consolidate(1)
                agent.episodic_memory.evicted += 1
            monitor.record_snapshot(agent)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monitor.record_snapshot(agent)
    assert sum(monitor.get_consolidations("alice")["count"]) == 2000
    assert sum(monitor.get_evictions("alice")["memories_evicted"]) == 2000


def test_the_report_names_agents_figures_and_alarms() -> None:
    monitor = quiet()
    assert "no agents" in monitor.generate_report()
    monitor.record_snapshot(FakeAgent("ali\x1b[31mce" + "x" * 100, 95))
    monitor.record_snapshot(FakeAgent("bob", 1, None))
    bytes_of_carol = monitor.record_snapshot(FakeAgent("carol"), measure_bytes=True).size_bytes
    report = monitor.generate_report()
    assert re.search(rf"^carol .* {bytes_of_carol:,} +0$", report, re.MULTILINE)
    assert re.search(r"^bob .* - +1$", report, re.MULTILINE)
    assert "\x1b" not in report
    assert "95.0%" in report
    assert "CRITICAL" in report
    assert "none" in report
    assert max(map(len, report.splitlines())) < 300


def test_deep_size_counts_shared_objects_once_and_stops_where_told() -> None:
    shared = bytearray(100_000)
    one, two = {"data": shared}, {"data": shared}
    assert 100_000 < deep_size_bytes(one) < 102_000
    assert deep_size_bytes(one, two) - deep_size_bytes(one) < 1_000
    assert deep_size_bytes(one, without=[shared]) < 1_000
    assert deep_size_bytes([FakeAgent, deep_size_bytes]) < 200
    loop: list[Any] = []
    loop.append(loop)
    assert deep_size_bytes(loop) < 200


def remembering(name: str, contents: list[Any]) -> FakeAgent:
    agent = FakeAgent(name)
    agent.episodic_memory.contents = contents  # type: ignore[attr-defined]
    return agent


def test_bytes_are_measured_on_demand() -> None:
    monitor, text = quiet(), "x" * 50_000
    agent = remembering("alice", [text, text])
    assert monitor.record_snapshot(agent).size_bytes is None
    stats = monitor.get_agent_stats("alice")
    assert (stats["size_bytes"], stats["peak_bytes"]) == (None, None)
    measured = monitor.record_snapshot(agent, time_s=3.0, measure_bytes=True).size_bytes
    assert measured is not None
    assert 50_000 < measured < 60_000  # The text that is there twice counts once.
    agent.episodic_memory.contents.pop()  # type: ignore[attr-defined]
    agent.episodic_memory.contents[0] = ""  # type: ignore[attr-defined]
    assert monitor.record_snapshot(agent, time_s=4.0, measure_bytes=True).size_bytes < 10_000  # type: ignore[operator]
    stats = monitor.get_agent_stats("alice")
    assert stats["peak_bytes"] == measured
    assert stats["size_bytes"] < 10_000
    assert monitor.get_bytes("alice") == {"time_s": [3.0, 4.0], "size_bytes": [measured, stats["size_bytes"]]}


def test_bytes_are_measured_at_every_so_many_snapshots() -> None:
    monitor, agent = quiet(bytes_every=3), remembering("alice", [])
    measured = [monitor.record_snapshot(agent).size_bytes is not None for _ in range(7)]
    assert measured == [True, False, False, True, False, False, True]


def test_more_alarms_than_are_kept_leave_the_latest_and_exact_counts() -> None:
    monitor, agent = quiet(), FakeAgent()
    for _ in range(ALERT_LIMIT + 1):
        monitor.record_snapshot(agent.set(80))
        monitor.record_snapshot(agent.set(10))
    alerts = monitor.get_alerts()
    assert len(alerts) == ALERT_LIMIT
    assert monitor.get_agent_stats("alice")["alerts_by_severity"] == {
        "info": 0,
        "warning": ALERT_LIMIT + 1,
        "critical": 0,
    }


def test_a_watched_world_whose_alarms_consolidate_everybody() -> None:
    """The guide's callback, from inside a run of real people."""
    with VirtualClock() as clock, use_clock(clock), use_model(DirectModel(MockLLM())):
        people = [TinyPerson(name) for name in ("Ann", "Bo")]
        for person in people:
            person.episodic_memory.max_size = 12
        world = TinyWorld("Town", people).make_everyone_accessible()
        monitor, heard = MemoryMonitor(clock=clock.now, forecast_snapshots=0, bytes_every=1), []

        def consolidate_everybody(alert: Alert) -> None:
            heard.append(alert)
            for person in world.agents:
                person.consolidate_episode_memories(force=True)

        monitor.register_alert_callback(consolidate_everybody)
        monitor.watch(world)
        world.run(20)
        assert {alert.kind for alert in heard} == {"usage"}
        for person in people:
            stats = monitor.get_agent_stats(person.name)
            assert stats["snapshots"] == 20
            assert stats["peak_size"] <= 12
            assert sum(monitor.get_consolidations(person.name)["count"]) == stats["consolidation"]["total"] > 0
            assert stats["peak_bytes"] < 100_000  # Memories, not the world and the model behind them.
