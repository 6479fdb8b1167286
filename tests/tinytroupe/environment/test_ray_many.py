"""Worlds as tasks on Ray: the same as here, as they come, each with its own failures, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import on_ray
import pytest

from tinytroupe import TinyPerson, TinyWorld, config_manager, control, run_many
from tinytroupe.environment import RayTasks, run_many_async
from tinytroupe.llm import ChatReply, Usage
from tinytroupe.runtime.clock import WallClock, use_clock
from tinytroupe.runtime.cluster import connected
from tinytroupe.testing import MockLLM

pytestmark = on_ray.MARKS

SAID = {"actions": [{"type": "DONE", "content": "", "target": ""}], "cognitive_state": {}}
LIGHT = RayTasks(task_options={"num_cpus": 0.25})


@pytest.fixture(scope="module")
def cluster():
    """A cluster that the program is connected to already."""
    patch, before = pytest.MonkeyPatch(), on_ray.processes()
    patch.setenv("OPENAI_API_KEY", "x")  # workers begin with what is there now
    with connected() as ray:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers know nothing of the tests
        yield ray
    patch.undo()
    assert on_ray.left(before) == set()


@pytest.fixture
def mock(cluster):
    mock = MockLLM(strict=False, prompt_cache=False)
    with mock.serve() as server, config_manager.override(base_url=server.base_url, display="off", max_attempts=1):
        yield mock


def town(name, people=3, **options):
    world = TinyWorld(name, [TinyPerson(f"{name} {number}") for number in range(people)], show=False, **options)
    world.make_everyone_accessible()
    return world.broadcast(f"Welcome to {name}.")


def test_worlds_on_ray_end_as_they_would_here(mock):
    here = run_many([town(f"T{number}") for number in range(3)], 2, return_actions=True)
    mock.reset()
    there = run_many([town(f"T{number}") for number in range(3)], 2, return_actions=True, backend=LIGHT)
    assert mock.calls == 3 * 3 * 2
    assert [run.error for run in there] == [None] * 3
    assert [run.actions for run in there] == [run.actions for run in here]
    states = [[run.world.encode_complete_state() for run in runs] for runs in (here, there)]
    assert states[0] == states[1]
    assert [run.world.get_parallel_metrics()["model_calls"] for run in there] == [6] * 3


def test_each_is_told_of_as_soon_as_it_is_there(mock):
    told, first_told = [], threading.Event()

    async def when_the_other_is_told(call):
        while not first_told.is_set():
            await asyncio.sleep(0.01)
        return SAID

    def on_done(run):
        told.append(run.world.name)
        first_told.set()

    mock.when(person="Slow 0").reply(when_the_other_is_told)
    run_many([town("Slow"), town("Fast")], 1, backend=LIGHT, on_done=on_done)
    assert told == ["Fast", "Slow"]


class Deadly:
    async def complete(self, request):
        os._exit(1)

    async def embed(self, texts):
        raise NotImplementedError

    async def aclose(self):
        pass


def test_failures_stay_with_their_worlds_and_are_listed(mock, capsys, caplog):
    mock.when(person="Locked 1").fail("invalid_key")
    worlds = [town("Good"), town("Locked"), town("Deadly", model=Deadly()), town("Odd", model=threading.Lock())]
    with config_manager.override(progress="on"):
        good, locked, deadly, odd = run_many(worlds, 2, backend=LIGHT)
    assert good.error is None
    assert locked.error.__cause__.status == 401
    assert type(deadly.error).__name__ in ("WorkerCrashedError", "LocalRayletDiedError")
    assert "can't be sent to another process" in str(odd.error)
    assert len(deadly.world.agents[0].episodic_memory) == 1  # as it was
    assert "4 worlds: 4 of 4 done, 3 failed" in capsys.readouterr().err
    (listed,) = [record.getMessage() for record in caplog.records if "worlds failed" in record.getMessage()]
    assert listed.startswith("3 of 4 worlds failed: Locked: ")
    assert "Deadly: " in listed


class DiesOnce:
    """Answers, and notes whom; the first time that the second of the people asks, its process dies."""

    def __init__(self, notes):
        self.notes = str(notes)

    async def complete(self, request):
        one = f"{request.origin.person}, call {request.origin.call}\n"
        with open(self.notes, "a+") as notes:
            notes.seek(0)
            first = one not in notes.readlines()
            notes.write(one)
        if one.endswith(" 1, call 0\n") and first:
            await asyncio.sleep(0.5)  # what the others were answered is on record by then
            os._exit(1)
        return ChatReply(json.dumps(SAID), Usage(1, 10, 5), "m")

    async def embed(self, texts):
        raise NotImplementedError

    async def aclose(self):
        pass


@pytest.mark.usefixtures("mock")
def test_with_a_journal_a_study_goes_on_where_it_was_lost(tmp_path):
    def study(steps):
        simulation = control.begin(tmp_path / "study.journal")
        try:
            runs = run_many([town(name, model=DiesOnce(tmp_path / name)) for name in "AB"], steps, backend=LIGHT)
        finally:
            control.end()
        asked = Counter(line for name in "AB" for line in (tmp_path / name).read_text().splitlines())
        return [(run.error, run.world.usage.calls) for run in runs], simulation.cache_hits, asked

    runs, _, asked = study(1)
    assert runs == [(None, 3)] * 2
    twice = {one for one, times in asked.items() if times > 1}
    assert twice == {"A 1, call 0", "B 1, call 0"}  # what was under way, and so on no record
    runs, hits, asked_then = study(2)
    assert (runs, hits) == ([(None, 3)] * 2, 6)  # what is on record costs nothing
    assert asked_then == asked + Counter(f"{name} {number}, call 1" for name in "AB" for number in range(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A", "B", "study.journal"]


def test_all_worlds_together_keep_one_limit(mock):
    arrived = []

    def note(call):
        arrived.append(time.monotonic())
        return SAID

    mock.when(endpoint="chat").reply(note)
    with config_manager.override(requests_per_minute=600):
        runs = run_many([town(f"T{number}", 10) for number in range(4)], 1, backend=LIGHT)
    assert [run.error for run in runs] == [None] * 4
    assert len(arrived) == 40
    # Twenty at once, ten a second: call by call it can be later than that, and never earlier.
    early = [(number - 20) / 10 - (at - arrived[0]) for number, at in enumerate(sorted(arrived), 1)]
    assert max(early) <= 0.5


def test_cancelling_ends_the_tasks(mock, cluster):
    asked = threading.Event()

    async def never(call):
        asked.set()
        await asyncio.sleep(600)

    mock.when(endpoint="chat").reply(never)

    async def main():
        running = asyncio.ensure_future(run_many_async([town("A"), town("B")], 1, backend=LIGHT))
        await asyncio.to_thread(asked.wait, 60)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with WallClock() as clock, use_clock(clock):
        clock.portal.call(main)
    deadline = time.monotonic() + 20
    while cluster.available_resources().get("CPU") != cluster.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, "a task goes on"
        time.sleep(0.1)


PROGRAM = """
import sys
from tinytroupe import TinyPerson, TinyWorld, config_manager, run_many

if __name__ == "__main__":
    config_manager.update_multiple({"base_url": sys.argv[1], "display": "off"})
    worlds = [TinyWorld(f"T{number}", [TinyPerson(f"P{number}")]) for number in range(3)]
    try:
        run_many(worlds, 1, backend="ray")
    except KeyboardInterrupt:
        print("stopped")
"""


def test_ctrl_c_stops_a_program_and_its_cluster(tmp_path):
    before = on_ray.processes()
    asked = threading.Event()

    async def never(call):
        asked.set()
        await asyncio.sleep(600)

    mock = MockLLM()
    mock.when(endpoint="chat").reply(never)
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "OPENAI_API_KEY": "x"}
    with mock.serve() as server:
        command = [sys.executable, str(script), server.base_url]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as it:
            try:
                assert asked.wait(90)
                it.send_signal(signal.SIGINT)
                out, err = it.communicate(timeout=60)
            finally:
                it.kill()
    assert (it.returncode, out) == (0, "stopped\n"), err
    assert on_ray.left(before) == set()
