"""Several worlds at once: each ends as it would alone, they share the gate fairly, and a failure stays where it is."""

from __future__ import annotations

import asyncio

import pytest

from tinytroupe import ModelError, SimulationError, TinyPerson, TinyWorld, VirtualClock, config_manager, run_many
from tinytroupe.environment import run_many_async
from tinytroupe.llm.journal import Journal, use_journal
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.runtime.clock import use_clock
from tinytroupe.testing import LogNormal, MockLLM


@pytest.fixture
def clock():
    with VirtualClock() as clock, use_clock(clock):
        yield clock


def town(name, people=3, **options):
    world = TinyWorld(name, [TinyPerson(f"{name} {number}") for number in range(people)], **options)
    world.make_everyone_accessible()
    return world.broadcast(f"Welcome to {name}.")


def elapsed_s(world):
    return world.get_parallel_metrics()["elapsed_s"]


@pytest.mark.parametrize("how", ["sequential", "parallel", "dependency"])
def test_each_ends_as_it_would_alone(clock, how):
    with MockLLM(latency=LogNormal(1.0, 0.8), seed=5):
        alone = [town(f"T{number}") for number in range(4)]
        actions = [world.run(3, return_actions=True, scheduler=how) for world in alone]
    with MockLLM(latency=LogNormal(1.0, 0.8), seed=5):  # anew, since it answers by how often a person has asked
        began_s = clock.now()
        runs = run_many([town(f"T{number}") for number in range(4)], 3, return_actions=True, scheduler=how)
        took_s = clock.now() - began_s
    assert [run.world.name for run in runs] == ["T0", "T1", "T2", "T3"]
    assert [run.error for run in runs] == [None] * 4
    assert [run.actions for run in runs] == actions
    states = [run.world.encode_complete_state() for run in runs]
    assert states == [world.encode_complete_state() for world in alone]
    assert [elapsed_s(run.world) for run in runs] == pytest.approx([elapsed_s(world) for world in alone])
    assert took_s == pytest.approx(max(map(elapsed_s, alone)))


def test_together_they_keep_to_the_one_gate(clock):
    model = OpenAIModel()
    with MockLLM(latency=1.0) as mock, config_manager.override(max_concurrent_model_calls=5):
        run_many([town(f"T{number}", 4, model=model) for number in range(5)], 2)
        assert mock.in_flight_peak == 5
        assert clock.now() == pytest.approx(5 * 4 * 2 / 5)


def test_a_small_world_does_not_wait_behind_a_large_one(clock):
    with MockLLM(latency=1.0), config_manager.override(max_concurrent_model_calls=4):
        large, small = (run.world for run in run_many([town("Large", 100), town("Small", 2)], 3))
    # Of the four slots that come free every second, two are the small world's as long as it asks for them.
    assert elapsed_s(small) <= 3 * 2.0
    assert elapsed_s(large) == pytest.approx((300 + 6) / 4, abs=1.0)


def test_a_failure_is_that_world_s_own(clock):
    with MockLLM(latency=1.0, strict=False) as mock:
        mock.when(person="B 1").fail("invalid_key")
        runs = run_many([town("A"), town("B"), town("C", on_error="raise")], 2, return_actions=True)
    assert [type(run.error) for run in runs] == [type(None), SimulationError, type(None)]
    assert isinstance(runs[1].error.__cause__, ModelError)
    assert runs[1].actions is None
    assert [len(run.actions or ()) for run in runs] == [2, 0, 2]
    assert [run.world.get_parallel_metrics()["parallel_errors"] for run in runs] == [0, 1, 0]


def test_so_many_at_once_and_no_more(clock):
    with MockLLM(latency=1.0) as mock:
        run_many([town(f"T{number}", 2) for number in range(6)], 2, at_once=2)
        assert mock.in_flight_peak == 4
    assert clock.now() == pytest.approx(6 / 2 * 2)


def test_cancelling_cancels_all_and_leaves_nothing_in_flight(clock):
    async def main(worlds):
        run = asyncio.ensure_future(run_many_async(worlds, 5))
        await asyncio.sleep(1.5)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return len(asyncio.all_tasks())

    with MockLLM(latency=1.0) as mock:
        worlds = [town("A"), town("B")]
        before = clock.run(count_tasks())
        assert clock.run(main(worlds)) <= before
        assert mock.in_flight == 0
    for world in worlds:
        assert [len(agent.episodic_memory.retrieve_all("action")) > 0 for agent in world.agents] == [True] * 3


async def count_tasks():
    return len(asyncio.all_tasks())


def test_resuming_asks_nothing_twice_and_ends_the_same(clock, tmp_path):
    states = []
    for _ in range(2):
        with MockLLM(latency=1.0, seed=2) as mock, Journal(tmp_path / "a.journal") as journal, use_journal(journal):
            runs = run_many([town("A"), town("B")], 2)
            states.append([agent.episodic_memory.encode_state() for run in runs for agent in run.world.agents])
            calls = mock.calls
    assert calls == 0
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("worlds", "options", "message"),
    [
        (list, {}, "no worlds"),
        (lambda: [town("A"), town("A")], {}, "named 'A'"),
        (lambda: [town("A"), TinyWorld("B")], {}, "has no people"),
        (lambda: [town("A")], {"steps": 0}, "at least 1"),
        (lambda: [town("A")], {"scheduler": "psychic"}, "unknown scheduler"),
        (lambda: [town("A")], {"at_once": 0}, "at_once"),
        (lambda: [town("A"), town("B", clock=VirtualClock())], {}, "different clocks"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_has_run(clock, worlds, options, message):
    with MockLLM() as mock:
        with pytest.raises(ValueError, match=message):
            run_many(worlds(), **{"steps": 1, **options})
        assert mock.calls == 0


def test_each_is_told_of_as_soon_as_it_is_there(clock):
    told = []
    with MockLLM(latency=1.0):
        runs = run_many([town("A"), town("B")], 2, at_once=1, on_done=lambda run: told.append((run, clock.now())))
    assert [(run.world.name, at) for run, at in told] == [("A", 2.0), ("B", 4.0)]
    assert [run for run, _ in told] == runs


def test_an_error_of_who_is_told_ends_all_and_is_raised(clock):
    def told(run):
        raise LookupError(f"no room for {run.world.name}")

    with MockLLM(strict=False) as mock:
        mock.when(person="A 0").reply("{}", latency_s=100.0)
        with pytest.raises(LookupError, match="no room for B"):
            run_many([town("A"), town("B")], 2, on_done=told)
        assert mock.in_flight == 0
    assert clock.now() < 100


def test_failures_are_listed(clock, caplog):
    with MockLLM(strict=False) as mock:
        mock.when(person="B 1").fail("invalid_key")
        run_many([town("A"), town("B")], 1)
    (listed,) = [record.getMessage() for record in caplog.records if "worlds failed" in record.getMessage()]
    assert listed.startswith("1 of 2 worlds failed: B: ")


def test_one_line_says_how_far_they_all_are(clock, capsys):
    with MockLLM(), config_manager.override(progress="on", display="off"):
        run_many([town("A"), town("B")], 2)
    shown = capsys.readouterr().err
    assert "\r2 worlds: step 4 of 4" in shown
    assert "step 5" not in shown
    assert "A:" not in shown
