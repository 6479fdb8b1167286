"""Simulated latency on virtual time: exact, repeatable, and free."""

from __future__ import annotations

import asyncio

import openai
import pytest

from tinytroupe.runtime.clock import VirtualClock
from tinytroupe.testing import LogNormal, MockLLM


def simulate(people, slots, **settings):
    log = []

    async def main(client):
        slot = asyncio.Semaphore(slots)
        loop = asyncio.get_running_loop()

        async def one(name):
            async with slot:
                for attempt in range(8):
                    try:
                        await client.chat.completions.create(
                            model="m", messages=[{"role": "system", "content": f"You are {name}."}]
                        )
                        break
                    except openai.APIStatusError as error:
                        log.append((name, error.status_code, loop.time()))
                        await asyncio.sleep(0.2 * (attempt + 1))
                log.append((name, "done", loop.time()))

        start = loop.time()
        await asyncio.gather(*(one(f"Person {i}") for i in range(people)))
        return loop.time() - start

    async def with_client():
        async with openai.AsyncOpenAI(max_retries=0) as client:
            await client.models.list()  # the first call of a client hops through a thread
            return await main(client)

    rates = settings.pop("rates", ())
    with VirtualClock() as clock, MockLLM(**settings) as mock:
        for rate, status in rates:
            mock.fault_rate(rate, status=status)
        return clock.run(with_client()), log, mock.in_flight_peak


def test_concurrent_calls_take_exactly_one_latency():
    makespan, _, peak = simulate(50, 50, latency=2.0)
    assert makespan == 2.0
    assert peak == 50


def test_slots_decide_the_makespan():
    assert simulate(10, 1, latency=1.0)[0] == 10.0
    assert simulate(10, 5, latency=1.0)[0] == 2.0


def test_runs_with_faults_repeat_to_the_last_digit():
    settings = {"latency": LogNormal(1.0, 0.5), "seed": 7, "rates": [(0.05, 429), (0.05, 500)]}
    first = simulate(100, 20, **settings)
    assert first == simulate(100, 20, **settings)
    assert {status for _, status, _ in first[1]} == {429, 500, "done"}
    assert first[0] == pytest.approx(8.0, abs=3.0)
