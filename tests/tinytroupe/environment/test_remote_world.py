"""A world that is lived through elsewhere is the same afterwards; what can't be sent is refused. No cluster here."""

from __future__ import annotations

import pickle
import sys
from datetime import datetime, timedelta

import pytest

from tinytroupe import TinyPerson, TinySocialNetwork, TinyWorld, VirtualClock, config_manager, run_many
from tinytroupe.environment.remote_world import RunOptions, ThereError, live, packed
from tinytroupe.llm.journal import Journal, use_journal
from tinytroupe.llm.shard_journal import ShardJournals
from tinytroupe.runtime.clock import use_clock
from tinytroupe.testing import DirectModel, MockLLM


class Direct:
    """A model that can be pickled: the direct door, made where it is used."""

    def __init__(self, seed=0, fail=""):
        self.seed, self.fail, self._made = seed, fail, None

    def __getstate__(self):
        return {"seed": self.seed, "fail": self.fail, "_made": None}

    async def complete(self, request):
        if self._made is None:
            mock = MockLLM(self.seed, strict=False)
            if self.fail:
                mock.when(person=self.fail).fail("invalid_key")
            self._made = DirectModel(mock)
        return await self._made.complete(request)

    async def embed(self, texts):
        raise NotImplementedError

    async def aclose(self):
        pass


def town(name="Town", kind=TinyWorld, **options):
    options = {"model": Direct(), "show": False, **options}
    people = [TinyPerson(f"{name} {number}").define("age", 30 + number) for number in range(3)]
    world = kind(name, people, initial_datetime=datetime(2026, 3, 1), **options)
    if kind is TinySocialNetwork:
        world.add_relation(people[0], people[1], "friends")
    else:
        world.make_everyone_accessible()
    return world.broadcast(f"Welcome to {name}.")


def there(world, steps=2, **options):
    """Live through a world as another process would."""
    given = {"timedelta_per_step": timedelta(hours=1), "return_actions": True, "parallelize": None, "scheduler": None}
    sent = packed(world, pickle.dumps)
    lived = pickle.loads(live(sent, RunOptions(steps, **{**given, **options}), config_manager.as_dict(), None))
    lived.state.take_back(world)
    return lived


def counted(world):
    exact = ("total_parallel_steps", "model_calls", "tokens", "parallel_errors")
    return {name: world.get_parallel_metrics()[name] for name in exact}


@pytest.mark.parametrize("kind", [TinyWorld, TinySocialNetwork])
def test_what_comes_back_is_what_would_have_become_of_it_here(kind):
    here, away = town(kind=kind), town(kind=kind)
    held = away.agents[0].episodic_memory
    actions = here.run(2, timedelta(hours=1), True)
    assert there(away).actions == actions
    assert away.encode_complete_state() == here.encode_complete_state()
    assert counted(away) == counted(here)
    assert away.agents[0].episodic_memory is held
    assert [turn.person for turn in away.timeline()] == [turn.person for turn in here.timeline()]


def test_it_goes_on_where_it_came_back():
    here, away = town(), town()
    here.run(2, timedelta(hours=1))
    there(away)
    here.model = Direct()  # a mock model answers by how often it was asked, and that of the other stayed there
    for world in (here, away):
        world.run(1)
    assert away.encode_complete_state() == here.encode_complete_state()
    assert counted(away) == counted(here)
    assert (counted(away)["total_parallel_steps"], away.current_datetime) == (3, datetime(2026, 3, 1, 2))


def test_acquaintances_outside_the_world_stay_known():
    stranger, world = TinyPerson("Stranger"), town()
    world.agents[0].make_agent_accessible(stranger, "a friend from before")
    there(world)
    known = {other.name: other for other in world.agents[0].accessible_agents}
    assert known["Stranger"] is stranger
    assert known["Town 1"] is world.agents[1]
    assert known["Town 1"].can_reach(world.agents[0])


def test_a_failure_comes_back_with_its_causes_and_its_story():
    world = town(model=Direct(fail="Town 1"))
    error = there(world).error
    assert "the turn of Town 1 failed" in str(error)
    assert (type(error).__name__, type(error.__cause__).__name__) == ("SimulationError", "ModelError")
    assert error.__cause__.status == 401
    last = error
    while last.__cause__ is not None:
        last = last.__cause__
    assert isinstance(last, ThereError)
    assert "Traceback" in str(last)
    assert world.get_parallel_metrics()["parallel_errors"] == 1


class Odd(TinyWorld):
    pass


class Own(TinyPerson):
    def act(self):
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: town(interventions=[object()]), "interventions look at the world"),
        (lambda: town(kind=Odd), "it is a Odd"),
        (lambda: town(clock=VirtualClock()), "a clock of its own"),
        (lambda: TinyWorld("Town", [Own("Ann")]), "replaces verbs of TinyPerson"),
        (lambda: town(model=(lambda: None)), "what pickle can't take"),
    ],
)
def test_what_cannot_be_sent_is_refused(make, message):
    with pytest.raises(ValueError, match="world 'Town' can't be sent") as raised:
        packed(make(), pickle.dumps)
    assert message in str(raised.value)


def test_each_world_keeps_its_part_of_a_journal_and_goes_on_from_it(tmp_path):
    def lived(steps):
        with Journal(tmp_path / "a.journal") as journal, ShardJournals(journal).under_way() as journals:
            worlds = [town(f"Town {number}") for number in range(2)]
            options, settings = RunOptions(steps, None, False, None, None), config_manager.as_dict()
            there = [
                pickle.loads(live(packed(world, pickle.dumps), options, settings, None, journals.part(number)))
                for number, world in enumerate(worlds)
            ]
            for world, one in zip(worlds, there, strict=True):
                one.state.take_back(world)
        return worlds, [(one.hits, one.misses, one.error) for one in there]

    first, counts = lived(1)
    assert counts == [(0, 3, None)] * 2
    again, counts = lived(2)
    assert counts == [(3, 3, None)] * 2
    assert [world.usage.calls for world in again] == [3, 3]  # what was on record costs nothing
    for before, after in zip(first, again, strict=True):
        assert [turn.actions for turn in after.timeline()[:3]] == [turn.actions for turn in before.timeline()]


def test_a_cache_for_all_who_ask_the_same_can_not_be_taken_along():
    with (
        Journal(mode="cache") as journal,
        use_journal(journal),
        pytest.raises(ValueError, match=r"a journal in mode 'cache' .* use mode 'record'"),
    ):
        run_many([town()], 1, backend="ray")


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'pytest-tinytroupe\[ray\]'"):
        run_many([town()], 1, backend="ray")


def test_other_backends_are_refused():
    with pytest.raises(ValueError, match="unknown backend 'rya'; there are: local, ray"):
        run_many([town()], 1, backend="rya")


def test_virtual_time_stays_here():
    with VirtualClock() as clock, use_clock(clock), pytest.raises(ValueError, match="runs on real time"):
        run_many([town()], 1, backend="ray")
