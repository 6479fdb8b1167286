"""How near the engine comes to the least possible time on a real socket, and what a turn costs beside a bare call.

    python tests/performance/engine_benchmark.py                          all of it, some minutes
    python tests/performance/engine_benchmark.py --quick                  smaller, under a minute
    python tests/performance/engine_benchmark.py --only spread --people 10,50,100,500 --steps 3
    python tests/performance/engine_benchmark.py --only soak --people 200 --steps 25

The mock model's server runs in a process of its own. *Bare* is the official client on its aiohttp transport, sending
the very requests of the run with ``asyncio.gather``, a step at a time, to a server that draws the same latencies.
Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import openai
import psutil

from tinytroupe import WallClock
from tinytroupe.benchmarks.load import ModelServer, Noting, crowd
from tinytroupe.benchmarks.soak import MOST_GROWTH, soak
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.llm.request import request_body
from tinytroupe.monitoring.process_memory import HighWaterMark

EFFICIENCY = {10: 0.95, 50: 0.95, 100: 0.95, 500: 0.85}
BESIDE_BARE = 1.10
CPU_BESIDE_BARE = 1.3
SHORT_CALLS_S = 0.60
COUNTED_STEPS = 5


def show(name: str, figure: str, goal: str, kept: bool) -> bool:
    """Print one line of the report."""
    print(f"{'ok    ' if kept else 'MISSED'} {name:30} {figure:108} {goal}", flush=True)
    return kept


@dataclass
class Spent:
    """What a run took: seconds, and milliseconds of CPU a call."""

    elapsed_s: float
    cpu_ms: float


def open_to(server: ModelServer) -> int:
    """Return how many connections of this process to the server are open."""
    port = int(server.base_url.split(":")[2].split("/")[0])
    return sum(bool(each.raddr) and each.raddr.port == port for each in psutil.Process().net_connections("tcp"))


def ours(
    server: ModelServer, people: int, steps: int, warm: bool
) -> tuple[Spent, dict[str, Any], dict[int, list[Any]]]:
    """Run a crowd; return what it took, its metrics and more figures, and the requests of each step."""
    with WallClock() as clock:
        model = Noting(OpenAIModel(base_url=server.base_url, api_key="x"))
        if warm:
            crowd(people, model=model, clock=clock, on_error="raise").run(1)
            model.steps.clear()
        world = crowd(people, model=model, clock=clock, on_error="raise")
        connections: list[int] = []
        if steps <= COUNTED_STEPS:  # counting takes milliseconds
            world.on("step", lambda _: connections.append(open_to(server)))
        gc.collect()
        with HighWaterMark() as mark:
            cpu_s, began_s = time.process_time(), time.perf_counter()
            world.run(steps)
            elapsed_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        figures = {
            **world.get_parallel_metrics(),
            "connections": max(connections, default=0),
            "memory_mb": (mark.peak_bytes - mark.start_bytes) / 2**20,
        }
    return Spent(elapsed_s, cpu_s * 1000 / (people * steps)), figures, model.steps


def bare(server: ModelServer, requests: dict[int, list[Any]], warm: bool) -> Spent:
    """Send the same requests with the official client alone."""

    async def main() -> Spent:
        http = openai.DefaultAioHttpClient()
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="x", max_retries=0, http_client=http) as client:

            async def step(bodies: list[dict[str, Any]]) -> None:
                await asyncio.gather(*(client.chat.completions.create(**body) for body in bodies))

            steps = [list(map(request_body, each)) for _, each in sorted(requests.items())]
            if warm:
                await step(steps[0])
            gc.collect()
            cpu_s, began_s = time.process_time(), time.perf_counter()
            for each in steps:
                await step(each)
            elapsed_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
            return Spent(elapsed_s, cpu_s * 1000 / sum(map(len, steps)))

    return asyncio.run(main())


def both(latency: float | str, people: int, steps: int, warm: bool) -> tuple[Spent, Spent, dict[str, Any]]:
    """Run ours and the bare client against servers that draw the same."""
    with ModelServer(latency) as server:
        mine, figures, requests = ours(server, people, steps, warm)
    with ModelServer(latency) as server:
        theirs = bare(server, requests, warm)
    return mine, theirs, figures


def spread(crowds: list[int], steps: int, rounds: int) -> list[bool]:
    """Lognormal latency, nothing warmed: slow start and the opening of connections count."""
    kept = []
    for people in crowds:
        found = [both("lognormal:1.0,0.5", people, steps, warm=False) for _ in range(rounds)]
        efficiency = statistics.median(figures["efficiency"] for _, _, figures in found)
        ratio = statistics.median(mine.elapsed_s / theirs.elapsed_s for mine, theirs, _ in found)
        mine, theirs, figures = found[-1]
        goal = EFFICIENCY.get(people, 0.85)
        kept.append(
            show(
                f"lognormal 1 s, {people} x {steps}",
                f"elapsed {mine.elapsed_s:.2f} s, bound {figures['lower_bound_s']:.2f} s, "
                f"bare {theirs.elapsed_s:.2f} s: efficiency {efficiency:.3f}, {ratio:.3f} x bare; "
                f"CPU {mine.cpu_ms:.2f} / {theirs.cpu_ms:.2f} ms; "
                f"{figures['connections']} connections, +{figures['memory_mb']:.0f} MB",
                f"goal >= {goal}, <= {BESIDE_BARE} x",
                efficiency >= goal and ratio <= BESIDE_BARE,
            )
        )
    return kept


def short(people: int, steps: int, rounds: int) -> list[bool]:
    """Calls of 100 ms: what is not the model's time shows."""
    kept = []
    for warm in (True, False):
        found = [both(0.1, people, steps, warm) for _ in range(rounds)]
        # What else runs on the machine only ever adds.
        mine = min(mine.elapsed_s for mine, _, _ in found)
        theirs = min(theirs.elapsed_s for _, theirs, _ in found)
        middle = statistics.median(mine.elapsed_s for mine, _, _ in found)
        kept.append(
            show(
                f"100 ms, {people} x {steps}, {'warmed' if warm else 'first run'}",
                f"least {mine:.3f} s, median {middle:.3f} s; bare {theirs:.3f} s; bound {0.1 * steps:.3f} s",
                f"goal <= {SHORT_CALLS_S} s" if warm else "no goal: every connection is opened here",
                mine <= SHORT_CALLS_S or not warm,
            )
        )
    return kept


def cpu(crowds: list[int], rounds: int) -> list[bool]:
    """CPU a turn beside the bare client's CPU a call."""
    kept = []
    for people in crowds:
        steps = max(COUNTED_STEPS + 1, 200 // people)
        found = [both(0.05, people, steps, warm=True)[:2] for _ in range(rounds)]
        mine, theirs = min(one.cpu_ms for one, _ in found), min(one.cpu_ms for _, one in found)
        kept.append(
            show(
                f"CPU a turn, {people} at once",
                f"{mine:.2f} ms; bare client {theirs:.2f} ms a call: {mine / theirs:.2f} x",
                f"goal <= {CPU_BESIDE_BARE} x",
                mine <= CPU_BESIDE_BARE * theirs,
            )
        )
    return kept


def soaked(people: int, steps: int) -> list[bool]:
    """A server that refuses, fails, stalls, cuts off and garbles: every turn once, nothing lost and nothing left."""
    done = soak(people, steps)
    figure = (
        f"{done.elapsed_s:.1f} s, {done.acted} acted, {done.skipped} skipped, {done.requests} requests, "
        f"at most {done.in_use_peak} of {done.bound} in flight"
    )
    memory = f"{done.growth:+.1%} after the first quarter of the steps, {done.memory_mb[-1]:.0f} MB at the end"
    return [
        show(f"soak, {people} x {steps}", figure, "goal no problems", not done.problems),
        *(show("", problem, "", False) for problem in done.problems),
        show("memory", memory, f"goal <= {MOST_GROWTH:+.0%}", done.growth <= MOST_GROWTH),
    ]


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=REPORTS, default=REPORTS)
    parser.add_argument("--people", help="sizes of the crowds, such as 10,50,100,500")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rounds", type=int, help="of each measurement, default 3")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller")
    options = parser.parse_args()
    sizes = [int(each) for each in options.people.split(",")] if options.people else None
    rounds = options.rounds or (1 if options.quick else 3)
    kept: list[bool] = []
    with ModelServer() as server:  # imports, templates and certificates are there now: what follows is a run's own
        ours(server, 2, 1, warm=False)
    if "spread" in options.only:
        kept += spread(sizes or ([10, 100] if options.quick else [10, 50, 100, 500]), options.steps or 3, rounds)
    if "short" in options.only:
        kept += short(sizes[0] if sizes else 50, options.steps or 3, rounds * 3)
    if "cpu" in options.only:
        kept += cpu(sizes or [1, 100, 500], rounds)
    if "soak" in options.only:
        kept += soaked(sizes[0] if sizes else (40 if options.quick else 200), options.steps or 25)
    return 0 if all(kept) else 1


REPORTS = ("spread", "short", "cpu", "soak")

if __name__ == "__main__":
    sys.exit(main())
