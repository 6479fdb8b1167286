"""Schedulers by themselves: order, slots, time, cancellation; no person and no model needed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe.engine import ParallelScheduler, SequentialScheduler, Turn, TurnOutcome, force_scheduler
from tinytroupe.engine.dependency import DependencyScheduler
from tinytroupe.engine.scheduler import SCHEDULERS, chosen, scheduler_named
from tinytroupe.runtime.clock import VirtualClock
from tinytroupe.runtime.deadline import within

BOTH = (SequentialScheduler(), ParallelScheduler())


class Stage:
    """Turns that take given seconds, and what came of them."""

    def __init__(self, *durations_s):
        self.turns = [Turn(SimpleNamespace(name=f"P{index}"), index, 0) for index in range(len(durations_s))]
        self.durations_s = durations_s
        self.committed = []
        self.committed_s = []
        self.now = self.peak = 0
        self.cancelled = []

    async def take(self, turn):
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await asyncio.sleep(self.durations_s[turn.index])
        except asyncio.CancelledError:
            self.cancelled.append(turn.index)
            raise
        finally:
            self.now -= 1
        return TurnOutcome(turn.person.name, turn.step, turn.index, "acted", started_s, loop.time())

    def commit(self, outcome):
        self.committed.append(outcome.index)
        self.committed_s.append(asyncio.get_running_loop().time())

    def run(self, scheduler, timeout_s=None, slots=None):
        with VirtualClock() as clock:
            running = scheduler.run_step(
                self.turns, self.take, self.commit, timeout_s=timeout_s, slots=slots or len(self.turns)
            )
            try:
                return clock.run(running)
            finally:
                self.elapsed_s = clock.now()


def test_one_after_the_other_takes_the_sum_and_commits_each_at_its_end():
    stage = Stage(1.0, 2.0, 3.0)
    stage.run(SequentialScheduler())
    assert stage.elapsed_s == 6.0
    assert stage.committed_s == [1.0, 3.0, 6.0]
    assert stage.peak == 1


def test_all_at_once_takes_the_longest_and_commits_behind_the_barrier():
    stage = Stage(3.0, 1.0, 2.0)
    stage.run(ParallelScheduler())
    assert stage.elapsed_s == 3.0
    assert stage.committed == [0, 1, 2]
    assert stage.committed_s == [3.0, 3.0, 3.0]
    assert stage.peak == 3


durations = st.lists(st.integers(0, 20), min_size=1, max_size=8)


@settings(max_examples=40)
@given(durations, st.integers(1, 9), st.none() | st.integers(1, 60), st.sampled_from(BOTH))
def test_every_turn_has_one_outcome_committed_in_order_within_slots_and_time(given_s, slots, timeout_s, scheduler):
    timeout_s = None if timeout_s is None else timeout_s + 0.5  # never in the instant in which a turn ends
    stage = Stage(*map(float, given_s))
    outcomes = stage.run(scheduler, timeout_s, slots)
    assert [outcome.index for outcome in outcomes] == list(range(len(given_s)))
    assert sorted(stage.committed) == list(range(len(given_s)))
    done = [outcome.index for outcome in outcomes if outcome.error is None]
    assert [index for index in stage.committed if index in done] == done
    assert stage.peak <= (1 if scheduler.name == "sequential" else slots)
    assert stage.now == 0
    late = [outcome for outcome in outcomes if outcome.status == "timed out"]
    if timeout_s is None:
        assert not late
    else:
        assert stage.elapsed_s <= timeout_s
        assert not late or stage.elapsed_s == timeout_s
    for outcome in late:
        assert isinstance(outcome.error, TimeoutError)
        assert outcome.deliberation is None
    if scheduler.name == "sequential" and timeout_s is None:
        assert stage.elapsed_s == sum(given_s)


@pytest.mark.parametrize(("slots", "elapsed_s"), [(1, 4.0), (2, 2.0), (3, 2.0), (4, 1.0), (9, 1.0)])
def test_slots_bound_what_is_under_way(slots, elapsed_s):
    stage = Stage(1.0, 1.0, 1.0, 1.0)
    stage.run(ParallelScheduler(), slots=slots)
    assert (stage.elapsed_s, stage.peak) == (elapsed_s, min(slots, 4))


def test_the_slow_are_cancelled_and_the_others_kept():
    stage = Stage(1.0, 100.0, 2.0)
    outcomes = stage.run(ParallelScheduler(), timeout_s=5.0)
    assert [outcome.status for outcome in outcomes] == ["acted", "timed out", "acted"]
    assert stage.cancelled == [1]
    assert stage.elapsed_s == 5.0
    assert str(outcomes[1].error).startswith("P1 was not done in step 0 after 5 s (PARALLEL_EXECUTION_TIMEOUT)")


def test_who_never_got_a_slot_times_out_too():
    stage = Stage(4.0, 4.0, 4.0)
    outcomes = stage.run(ParallelScheduler(), timeout_s=5.0, slots=1)
    assert [outcome.status for outcome in outcomes] == ["acted", "timed out", "timed out"]
    assert stage.cancelled == [1]


def test_in_a_sequence_nobody_starts_when_the_time_is_over():
    stage = Stage(2.0, 2.0, 2.0)
    outcomes = stage.run(SequentialScheduler(), timeout_s=2.5)
    assert [outcome.status for outcome in outcomes] == ["acted", "timed out", "timed out"]
    assert stage.cancelled == [1]
    assert outcomes[2].elapsed_s == 0.0
    assert stage.elapsed_s == 2.5


@pytest.mark.parametrize("scheduler", BOTH, ids=lambda each: each.name)
@pytest.mark.parametrize("timeout_s", [None, 50.0])
def test_cancelling_a_step_cancels_its_turns_and_commits_none(scheduler, timeout_s):
    stage = Stage(10.0, 10.0)

    async def main():
        step = asyncio.ensure_future(
            scheduler.run_step(stage.turns, stage.take, stage.commit, timeout_s=timeout_s, slots=2)
        )
        await asyncio.sleep(1)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        assert len(asyncio.all_tasks()) == 1

    with VirtualClock() as clock:
        clock.run(main())
        assert clock.now() == 1.0
    assert stage.now == 0
    assert stage.committed == []


@pytest.mark.parametrize("scheduler", BOTH, ids=lambda each: each.name)
def test_a_commit_that_raises_ends_the_step(scheduler):
    stage = Stage(1.0, 1.0, 1.0)

    def refuse(outcome):
        stage.committed.append(outcome.index)
        if outcome.index == 1:
            raise RuntimeError("no")

    stage.commit = refuse
    with pytest.raises(RuntimeError, match="no"):
        stage.run(scheduler)
    assert stage.committed == [0, 1]
    assert stage.now == 0


# ---------------------------------------------------------------- which one


def test_schedulers_by_name():
    assert SCHEDULERS == ("sequential", "parallel", "dependency")
    # Where a step has a barrier, out of order is in order.
    assert [scheduler_named(name).name for name in SCHEDULERS] == ["sequential", "parallel", "parallel"]
    assert chosen("auto") == "auto"
    for look_up in (scheduler_named, chosen):
        with pytest.raises(ValueError, match="'x'; there are: auto, sequential, parallel, dependency"):
            look_up("x")


def test_one_program_can_be_forced_either_way():
    with force_scheduler("sequential"):
        assert chosen("parallel") == "sequential"
        with force_scheduler("parallel"):
            assert chosen("sequential") == "parallel"
        assert chosen("auto") == "sequential"
    assert chosen("sequential") == "sequential"
    with pytest.raises(ValueError, match="unknown scheduler"), force_scheduler("x"):
        pass


def test_who_never_got_a_slot_was_queued_and_not_busy():
    stage = Stage(2.0, 2.0, 2.0, 2.0)
    outcomes = stage.run(ParallelScheduler(), timeout_s=5.0, slots=1)
    assert [outcome.status for outcome in outcomes] == ["acted", "acted", "timed out", "timed out"]
    assert [(outcome.busy_s, outcome.queued_s) for outcome in outcomes[2:]] == [(1.0, 4.0), (0.0, 5.0)]
    assert "had not begun" in str(outcomes[3].error)
    assert sum(outcome.busy_s for outcome in outcomes) <= stage.elapsed_s == 5.0


@pytest.mark.parametrize("scheduler", BOTH, ids=lambda scheduler: scheduler.name)
def test_an_act_that_cancels_itself_failed_and_did_not_time_out(scheduler):
    class Cancels(Stage):
        async def take(self, turn):
            if turn.index == 1:
                raise asyncio.CancelledError
            return await super().take(turn)

    outcomes = Cancels(1.0, 1.0).run(scheduler, timeout_s=10.0)
    assert [outcome.status for outcome in outcomes] == ["acted", "failed"]
    assert "was cancelled from inside" in str(outcomes[1].error)


def test_failed_turns_are_looked_at_before_anything_is_done():
    class Fails(Stage):
        async def take(self, turn):
            done = await super().take(turn)
            return replace(done, status="failed", error=ValueError("no")) if turn.index == 2 else done

    stage = Fails(1.0, 1.0, 1.0)
    stage.run(ParallelScheduler())
    assert stage.committed == [2, 0, 1]


@pytest.mark.parametrize("slots", [2, 5])
def test_a_turn_that_ends_the_run_cancels_those_under_way_and_no_other_begins(slots):
    class Ends(Stage):
        async def take(self, turn):
            await super().take(turn)
            raise ValueError(f"P{turn.index}")

    stage = Ends(9.0, 1.0, 9.0, 9.0, 9.0)
    with pytest.raises(ValueError, match="P1"):
        stage.run(ParallelScheduler(), slots=slots)
    assert stage.elapsed_s == 1.0
    assert sorted(stage.cancelled) == ([0] if slots == 2 else [0, 2, 3, 4])
    assert (stage.now, stage.committed) == (0, [])


class Cancelling(Stage):
    """Where the first to settle is cancelled from inside."""

    def publish(self, turn, outcome):
        return None

    async def settle(self, turn):
        if turn.index == 0:
            raise asyncio.CancelledError

    async def complete(self, step):
        raise AssertionError("nobody gets that far")


def test_where_one_life_is_cancelled_the_others_do_not_wait_for_it():
    stage = Cancelling(1.0, 2.0, 3.0)
    people = [turn.person for turn in stage.turns]
    running = DependencyScheduler(4).run(people, range(9), [[1], [2], [0]], stage, timeout_s=None, slots=3)

    async def watch():
        task = asyncio.ensure_future(running)
        done, _ = await asyncio.wait([task], timeout=1000.0)
        task.cancel()
        await asyncio.wait([task])
        return bool(done) and task.cancelled()

    with VirtualClock() as clock:
        assert clock.run(watch())
    assert stage.now == 0


class Patient(Stage):
    """Tries again whenever its own time-out is over, as a client does."""

    async def take(self, turn):
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        for _ in range(5):
            try:
                async with within(10.0):
                    await asyncio.sleep(1000.0)
            except TimeoutError:
                await asyncio.sleep(0.5)
        return TurnOutcome(turn.person.name, turn.step, turn.index, "acted", started_s, loop.time())


@pytest.mark.parametrize("scheduler", BOTH, ids=lambda one: one.name)
def test_a_time_out_of_the_turn_s_own_in_the_same_instant_does_not_hide_that_of_the_step(scheduler):
    stage = Patient(0.0)
    (outcome,) = stage.run(scheduler, timeout_s=10.0)
    assert outcome.status == "timed out"
    assert 10.0 <= stage.elapsed_s <= 10.2  # before Python 3.11 it takes a second cancellation
