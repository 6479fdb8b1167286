"""Simulated latency on virtual time: exact, repeatable, and free."""

from __future__ import annotations

import asyncio
import hashlib

import openai
import pytest

from tinytroupe.runtime.clock import VirtualClock
from tinytroupe.testing import LogNormal, MockLLM


def simulate(people, slots, named=True, **settings):
    log = []

    async def main(client):
        slot = asyncio.Semaphore(slots)
        loop = asyncio.get_running_loop()

        async def one(name):
            async with slot:
                for attempt in range(8):
                    try:
                        said = f"You are {name}." if named else f"Summarise {name}."
                        await client.chat.completions.create(model="m", messages=[{"role": "system", "content": said}])
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
    first = simulate(60, 12, **settings)
    assert first == simulate(60, 12, **settings)
    assert {status for _, status, _ in first[1]} == {429, 500, "done"}
    assert first[0] == pytest.approx(8.0, abs=3.0)


def fingerprint(log):
    told = "\n".join(f"{name} {what} {at_s:.9f}" for name, what, at_s in log)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


# These literals are the claim: the same on every machine and on every Python, with openai 2.x and 3.x.
PINNED = [(True, 1000, 25.84918916, "9a60ead733639c7f"), (False, 300, 9.910261576, "b4349de41886169e")]


@pytest.mark.parametrize(
    ("named", "people", "makespan_s", "events"),
    PINNED,
)
def test_a_thousand_calls_take_exactly_this_long_everywhere(named, people, makespan_s, events):
    makespan, log, peak = simulate(
        people, 50, named, latency=LogNormal(1.0, 0.5), seed=7, rates=[(0.05, 429), (0.05, 500)]
    )
    assert (round(makespan, 9), fingerprint(log), peak) == (makespan_s, events, 50)
    assert 0.08 < sum(what in (429, 500) for _, what, _ in log) / people < 0.15


def test_anonymous_calls_do_not_hang_on_the_order_of_arrival():
    def latencies(texts):
        async def main():
            mock = MockLLM(latency=LogNormal(1.0, 0.5), seed=1)
            calls = [mock.arrive("chat", {"messages": [{"role": "user", "content": text}]}) for text in texts]
            answers = await asyncio.gather(*(mock.answer(call) for call in calls))
            return {call.content: (answer.latency_s, answer.text) for call, answer in zip(calls, answers, strict=True)}

        with VirtualClock() as clock:
            return clock.run(main())

    texts = [f"text {i}" for i in range(50)]
    assert latencies(texts) == latencies(texts[::-1])


def test_the_same_question_again_is_drawn_anew():
    async def main():
        mock = MockLLM(latency=LogNormal(1.0, 0.5))
        drawn = []
        for person in ("", "Lisa"):
            for _ in range(20):
                call = mock.arrive("chat", {"messages": [{"role": "user", "content": "x"}]}, person)
                drawn.append((await mock.answer(call)).latency_s)
        mock.reset()
        first = mock.arrive("chat", {"messages": [{"role": "user", "content": "x"}]}, "")
        assert (await mock.answer(first)).latency_s == drawn[0]
        return drawn

    with VirtualClock() as clock:
        assert len(set(clock.run(main()))) == 40
