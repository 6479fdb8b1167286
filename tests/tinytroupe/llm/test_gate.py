"""The gate on virtual time: who waits, for how long, and that nothing is lost on the way."""

import asyncio
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe.llm.gate import COOL_DOWN_S, HISTORY_SIZE, MAX_COOL_DOWN_S, Gate
from tinytroupe.llm.limits import ROUND_S
from tinytroupe.runtime.clock import VirtualClock


def run(main, clock=None):
    loop = (clock or VirtualClock()).new_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def now():
    return asyncio.get_running_loop().time()


async def call(gate, log, name, hold_s=1.0, tokens=0):
    async with gate.slot(tokens) as slot:
        log.append((name, now(), slot.queued_s))
        await asyncio.sleep(hold_s)


def test_a_free_slot_costs_no_time():
    async def main():
        gate = Gate(start=2)
        async with gate.slot(100) as slot:
            assert (slot.queued_s, gate.in_use, gate.limit, gate.waiting) == (0.0, 1, 2, 0)
        assert (gate.in_use, gate.in_use_peak) == (0, 1)
        assert repr(gate) == "<Gate 0/2 in use, 0 waiting>"

    run(main())


def test_first_come_first_served():
    async def main():
        gate, log = Gate(start=2, adaptive=False), []
        await asyncio.gather(*[call(gate, log, name) for name in range(6)])
        assert log == [(0, 0, 0), (1, 0, 0), (2, 1, 1), (3, 1, 1), (4, 2, 2), (5, 2, 2)]
        assert gate.in_use_peak == 2

    run(main())


def test_nobody_jumps_the_queue_for_being_cheap():
    async def main():
        gate, log = Gate(tpm=60, burst_s=10), []
        await asyncio.gather(call(gate, log, "a", 0, 10), call(gate, log, "dear", 0, 5), call(gate, log, "cheap", 0, 0))
        assert [(name, at) for name, at, _ in log] == [("a", 0), ("dear", 5), ("cheap", 5)]

    run(main())


async def answered(gate, after_s=1.0):
    async with gate.slot() as slot:
        await asyncio.sleep(after_s)
        gate.on_success(slot)


def test_slow_start_doubles_for_every_round_without_a_refusal_however_slow_the_replies_are():
    async def main():
        gate, in_use = Gate(), []
        calls = [asyncio.create_task(answered(gate, after_s=60)) for _ in range(500)]
        for _ in range(6):
            await asyncio.sleep(0)
            in_use.append(gate.in_use)
            await asyncio.sleep(ROUND_S)
        assert in_use == [20, 40, 80, 160, 320, 500]
        assert [event.kind for event in gate.history] == ["slow start"]
        await asyncio.gather(*calls)
        assert now() == pytest.approx(60 + 5 * ROUND_S)

    run(main())


def test_slow_start_grows_with_each_success_too():
    async def main():
        gate = Gate()
        await asyncio.gather(*[answered(gate, after_s=0.01) for _ in range(20 + 40 + 80)])
        assert now() == pytest.approx(0.03)
        assert gate.in_use_peak == 80

    run(main())


def test_a_server_that_takes_ten_is_found_out_without_refusing_anyone_often():
    refused = [0] * 500

    async def person(gate, number, server):
        while True:
            async with gate.slot() as slot:
                if server["in"] < 10:
                    server["in"] += 1
                    await asyncio.sleep(0.5)
                    server["in"] -= 1
                    gate.on_success(slot)
                    return
                await asyncio.sleep(0.12)  # a far server: by then slow start has gone on
                refused[number] += 1
                gate.on_rate_limited(slot)

    async def main():
        gate, server = Gate(), {"in": 0}
        await asyncio.gather(*[person(gate, number, server) for number in range(500)])
        assert gate.in_use_peak == 80
        taken_back = [event for event in gate.history if event.kind == "taken back"]
        assert [event.limit for event in taken_back] == [16]
        assert max(refused) <= 4
        assert now() < 1.5 * 500 / 10 * 0.5

    run(main())


def test_a_server_error_stops_the_rounds_of_slow_start():
    async def main():
        gate = Gate(start=2, high=100)
        async with gate.slot() as slot:
            gate.on_transient_error(slot)
        calls = [asyncio.create_task(answered(gate, after_s=1)) for _ in range(6)]
        await asyncio.sleep(0.9)
        assert gate.in_use == 2
        await asyncio.gather(*calls)
        assert now() == pytest.approx(2 + ROUND_S)  # two successes later it goes on

    run(main())


def test_a_fixed_limit_is_constant():
    async def main():
        gate = Gate(start=3, adaptive=False)
        for _ in range(100):
            async with gate.slot() as slot:
                gate.on_success(slot)
        async with gate.slot() as slot:
            gate.on_rate_limited(slot, 2.0)
            gate.on_transient_error(slot)
        assert gate.limit == 3
        async with gate.slot() as slot:
            assert slot.queued_s == 2.0

    run(main())


@pytest.mark.parametrize(
    ("retry_after_s", "pause_s"), [(None, COOL_DOWN_S), (0.25, 0.25), (7, 7), (0, 0), (1e9, MAX_COOL_DOWN_S), (-5, 0)]
)
def test_a_rate_limit_pauses_everybody(retry_after_s, pause_s):
    async def main():
        gate = Gate(start=10)
        async with gate.slot() as slot:
            gate.on_rate_limited(slot, retry_after_s)
        assert gate.limit == 8
        async with gate.slot() as slot:
            assert slot.queued_s == pause_s

    run(main())


def test_one_episode_is_one_cut_and_the_longest_pause_counts():
    async def limited(gate, answered_s, retry_after_s):
        async with gate.slot() as slot:
            await asyncio.sleep(answered_s)
            gate.on_rate_limited(slot, retry_after_s)

    async def main():
        gate = Gate(start=10)
        await asyncio.gather(limited(gate, 1, 1), limited(gate, 2, 3), limited(gate, 3, 1), limited(gate, 4, None))
        assert gate.limit == 8
        async with gate.slot() as slot:
            assert now() == 5
            gate.on_rate_limited(slot)
        assert gate.limit == 6
        assert [event.kind for event in gate.history] == ["cool-down", "cut", "cool-down", "cool-down", "cut"]
        assert [event.limit for event in gate.history if event.kind == "cut"] == [8, 6]

    run(main())


def test_a_server_error_pauses_growth_only():
    async def main():
        gate = Gate(start=1, high=8)
        async with gate.slot() as slot:
            gate.on_transient_error(slot)
        async with gate.slot() as slot:
            gate.on_success(slot)
        assert gate.limit == 1
        async with gate.slot() as slot:
            gate.on_success(slot)
        assert gate.limit == 2
        assert [event.kind for event in gate.history] == ["growth paused", "slow start"]

    run(main())


def test_requests_a_minute_are_paced():
    async def main():
        gate, log = Gate(rpm=600, adaptive=False, start=1000, high=1000), []
        await asyncio.gather(*[call(gate, log, i, 0) for i in range(30)])
        assert [round(at, 9) for _, at, _ in log] == [0] * 10 + [round(0.1 * i, 9) for i in range(1, 21)]

    run(main())


def test_tokens_a_minute_are_paced_and_corrected_by_usage():
    async def main():
        gate = Gate(tpm=600)  # 10 a second
        async with gate.slot(10) as slot:
            gate.correct(slot, 30)
            gate.correct(slot, 30)  # once is enough
        async with gate.slot(10) as slot:
            assert slot.queued_s == pytest.approx(3.0)
            gate.correct(slot, 0)
        async with gate.slot(10) as slot:
            assert slot.queued_s == pytest.approx(0.0)
            gate.correct(slot, None)
        async with gate.slot(10) as slot:
            assert slot.queued_s == pytest.approx(1.0)

    run(main())


def test_a_correction_wakes_who_waits_for_tokens():
    async def main():
        gate, log = Gate(tpm=60), []
        async with gate.slot(100) as slot:
            waiting = asyncio.create_task(call(gate, log, "b", 0, 1))
            await asyncio.sleep(1)
            gate.correct(slot, 1)
            await waiting
        assert log == [("b", 1, 1)]

    run(main())


def test_the_servers_headers_bring_a_bucket_down():
    async def main():
        gate = Gate(rpm=600, tpm=6000)
        headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "60"}
        async with gate.slot(40) as slot:
            gate.correct(slot, None, headers)
        async with gate.slot(10) as slot:
            assert slot.queued_s == pytest.approx(0.1)

    run(main())


def test_limits_that_only_the_server_knows_are_learnt_from_it():
    async def main():
        gate = Gate()
        headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "2"}
        async with gate.slot() as slot:
            gate.correct(slot, None, headers)
        log = []
        await asyncio.gather(*[call(gate, log, i, 0) for i in range(4)])
        assert [at for _, at, _ in log] == pytest.approx([0, 0, 1, 2])

    run(main())


@pytest.mark.parametrize("headers", [{"x-ratelimit-remaining-tokens": "0"}, {"x-ratelimit-limit-tokens": "0"}, {}])
def test_headers_that_tell_no_limit_limit_nothing(headers):
    async def main():
        gate = Gate()
        async with gate.slot(10) as slot:
            gate.correct(slot, 10, headers)
        assert gate.requests is None
        assert gate.tokens is None

    run(main())


def test_cancelling_who_waits_leaves_no_trace():
    async def main():
        gate, log = Gate(start=1, adaptive=False), []
        tasks = [asyncio.create_task(call(gate, log, name)) for name in "abc"]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert log == [("a", 0, 0), ("c", 1, 1)]
        assert (gate.in_use, gate.waiting) == (0, 0)

    run(main())


def test_cancelling_in_the_instant_of_admission_wakes_the_next_and_spends_nothing():
    async def main():
        gate, log = Gate(start=1, rpm=60, burst_s=2, adaptive=False), []
        first = gate.slot()
        await first.__aenter__()
        tasks = [asyncio.create_task(call(gate, log, name)) for name in "bc"]
        await asyncio.sleep(0)
        await first.__aexit__(None, None, None)  # b is admitted, and has not run yet
        tasks[0].cancel()
        await asyncio.wait(tasks)
        assert log == [("c", 0, 0)]
        assert (gate.in_use, gate.waiting) == (0, 0)

    run(main())


def test_cancelling_who_waits_for_a_bucket_lets_the_cheaper_pass():
    async def main():
        gate, log = Gate(tpm=60, burst_s=10), []
        await call(gate, log, "a", 0, 10)
        dear = asyncio.create_task(call(gate, log, "dear", 0, 10))
        cheap = asyncio.create_task(call(gate, log, "cheap", 0, 1))
        await asyncio.sleep(0.5)
        dear.cancel()
        await cheap
        assert [(name, at) for name, at, _ in log] == [("a", 0), ("cheap", 1)]

    run(main())


def test_an_error_inside_the_block_releases_the_slot():
    async def main():
        gate = Gate(start=1)
        for _ in range(3):
            with pytest.raises(KeyError):
                async with gate.slot():
                    raise KeyError
        assert gate.in_use == 0

    run(main())


def test_a_slot_is_for_one_request():
    async def main():
        gate = Gate()
        slot = gate.slot()
        async with slot:
            with pytest.raises(RuntimeError, match="new one for each request"):
                await slot.__aenter__()
        assert gate.in_use == 0

    run(main())


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 5),
    st.sampled_from([None, 30, 600]),
    st.lists(
        st.tuples(
            st.floats(0, 3),  # arrives
            st.floats(0, 2),  # holds
            st.one_of(st.none(), st.floats(0, 4)),  # is cancelled
            st.sampled_from(["ok", "429", "500", "raise"]),
        ),
        max_size=30,
    ),
)
def test_whatever_happens_no_slot_is_lost_and_no_bound_broken(start, rpm, calls):
    async def one(gate, arrives, holds, outcome):
        await asyncio.sleep(arrives)
        async with gate.slot(1) as slot:
            assert gate.in_use <= gate.control.high
            await asyncio.sleep(holds)
            if outcome == "ok":
                gate.on_success(slot)
            elif outcome == "429":
                gate.on_rate_limited(slot, holds)
            elif outcome == "500":
                gate.on_transient_error(slot)
            else:
                raise KeyError

    async def main():
        gate = Gate(start=start, high=8, rpm=rpm)
        tasks = []
        for arrives, holds, cancelled, outcome in calls:
            task = asyncio.create_task(one(gate, arrives, holds, outcome))
            if cancelled is not None:
                asyncio.get_running_loop().call_later(cancelled, task.cancel)
            tasks.append(task)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, (KeyError, asyncio.CancelledError)) for result in results)
        assert (gate.in_use, gate.waiting) == (0, 0)
        assert gate.in_use_peak <= 8
        async with gate.slot():  # still open
            pass

    run(main())


def test_the_history_is_bounded():
    async def main():
        gate = Gate(start=1000, high=1000)
        for _ in range(HISTORY_SIZE):
            async with gate.slot() as slot:
                gate.on_rate_limited(slot, 0.1)
        assert len(gate.history) == HISTORY_SIZE
        assert gate.limit == 1

    run(main())


def test_the_next_loop_finds_the_gate_free_and_the_pause_left():
    async def first(gate):
        async with gate.slot() as slot:
            await asyncio.sleep(100)
            gate.on_rate_limited(slot, 5)
        await gate.slot().__aenter__()  # never released: its loop ends

    async def second(gate):
        async with gate.slot() as slot:
            return slot.queued_s, gate.in_use

    gate = Gate(start=2, rpm=60)
    run(first(gate))
    assert run(second(gate)) == (pytest.approx(1.0), 1)  # the five seconds passed, the bucket holds one a second


def test_two_loops_at_once_are_refused():
    async def outer(gate):
        async with gate.slot():
            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.get_running_loop().run_in_executor(None, run, inner(gate))

    async def inner(gate):
        async with gate.slot():
            pass

    asyncio.run(outer(Gate()))


@pytest.mark.parametrize(
    "wrong",
    [{"low": 0}, {"low": 5, "high": 4}, {"start": 0}, {"rpm": 0}, {"tpm": -1}, {"rpm": float("nan")}, {"burst_s": -1}],
)
def test_bounds_that_cannot_be(wrong):
    with pytest.raises(ValueError):
        Gate(**wrong)


@pytest.mark.parametrize(("start", "limit"), [(1, 2), (20, 5)])
def test_the_start_is_moved_into_the_bounds(start, limit):
    assert Gate(start=start, low=2, high=5).limit == limit


class TokenBucketServer:
    def __init__(self, burst):
        self.level = self.burst = burst
        self.at = 0.0

    def refuses_for(self, at):
        self.level, self.at = min(self.burst, self.level + 10 * (at - self.at)), at
        if self.level >= 1:
            self.level -= 1
            return None
        return (1 - self.level) / 10


class SlidingWindowServer:
    def __init__(self):
        self.accepted = deque()

    def refuses_for(self, at):
        while self.accepted and self.accepted[0] <= at - 60:
            self.accepted.popleft()
        if len(self.accepted) < 600:
            self.accepted.append(at)
            return None
        return self.accepted[0] + 60 - at


@pytest.mark.parametrize("retry_after", [True, False])
@pytest.mark.parametrize(
    "server", [lambda: TokenBucketServer(10), lambda: TokenBucketServer(600), SlidingWindowServer], ids="sbw"
)
def test_600_requests_a_minute_are_used_and_not_exceeded(server, retry_after):
    end_s, accepted, rejected, rng = 150, 0, 0, random.Random(1)

    async def person(gate, server):
        nonlocal accepted, rejected
        while now() < end_s:
            async with gate.slot() as slot:
                late = 30 <= now() < end_s
                wait_s = server.refuses_for(now())
                if wait_s is None:
                    accepted += late
                    await asyncio.sleep(rng.lognormvariate(0, 0.5))
                    gate.on_success(slot)
                    continue
                rejected += late
                await asyncio.sleep(0.02)
                gate.on_rate_limited(slot, wait_s if retry_after else None)
            await asyncio.sleep(wait_s if retry_after else rng.uniform(0.25, 0.5))

    async def main():
        gate = Gate(rpm=600)
        refusing = server()
        await asyncio.gather(*[person(gate, refusing) for _ in range(50)])

    run(main())
    assert accepted >= 0.95 * 10 * (end_s - 30)
    assert rejected < 0.02 * (accepted + rejected)
