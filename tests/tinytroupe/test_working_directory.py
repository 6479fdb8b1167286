"""Nothing is written to the working directory that nobody asked for."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import logging
from tinytroupe import TinyPerson, TinySocialNetwork, TinyWorld, VirtualClock, control, run_many, use_clock
from tinytroupe.examples import troupe
from tinytroupe.llm.journal import Journal, use_journal
from tinytroupe.monitoring import MemoryMonitor
from tinytroupe.testing import MockLLM

logging.basicConfig(level="DEBUG", filename=None)
with VirtualClock() as clock, use_clock(clock), MockLLM(latency=1.0):
    control.begin()
    world = TinyWorld("Town", troupe(2)).make_everyone_accessible()
    world.run(3, scheduler="auto")
    world.agents[0].consolidate_episode_memories(force=True)
    control.checkpoint()
    control.end()
    with Journal(mode="cache") as cache, use_journal(cache):
        run_many([TinySocialNetwork(f"N{n}", [TinyPerson(f"A{n}"), TinyPerson(f"B{n}")]) for n in range(2)], 2)
    monitor = MemoryMonitor()
    for agent in world.agents:
        monitor.track_agent(agent)
    world.run(1, parallelize=False)
    world.encode_complete_state()
print("done")
"""


def test_runs_journals_caches_and_monitors_write_nothing_there(tmp_path):
    here, home, scratch = tmp_path / "here", tmp_path / "home", tmp_path / "scratch"
    for folder in (here, home, scratch):
        folder.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(scratch), "OPENAI_API_KEY": "x"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=here, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "done\n", done.stderr
    assert [path.name for folder in (here, home, scratch) for path in folder.iterdir()] == []
