"""Limits that several processes share: never more than the limit in any minute, and hardly less where it is wanted."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe import TinyPerson, TinyWorld, config_manager
from tinytroupe.llm import ModelError
from tinytroupe.llm.broker import Broker
from tinytroupe.llm.gate import Gate
from tinytroupe.llm.leases import MOST_CALLS, Claim, Ledger, Report, use_leases
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import MockLLM


def run(main):
    with VirtualClock() as clock:
        return clock.run(main)


def now():
    return asyncio.get_running_loop().time()


def most_in_a_minute(sent):
    """Return the most units in any window of a minute, of pairs of time and units."""
    sent, most, first, within = sorted(sent), 0.0, 0, 0.0
    for at, units in sent:
        within += units
        while sent[first][0] <= at - 60 + 1e-6:
            within -= sent[first][1]
            first += 1
        most = max(most, within)
    return most


async def worker(gate, sent, name, latency_s=0.5, tokens=0.0, correction=0.0):
    """Call after call, as fast as the gate lets it."""
    while True:
        async with gate.slot(tokens) as slot:
            sent.append((now(), name, tokens + correction))
            await asyncio.sleep(latency_s)
            if correction:
                gate.correct(slot, tokens + correction)


async def at_work(tasks, seconds):
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def crowd(broker, workers, **how):
    """Return, for each number of workers, a gate that so many press upon; and what they send."""
    sent, tasks = [], []
    for name, many in enumerate(workers):
        gate = Gate(start=many, adaptive=False, leases=broker)
        tasks += [asyncio.ensure_future(worker(gate, sent, name, **how)) for _ in range(many)]
    return sent, tasks


# ---------------------------------------------------------------- the whole of it, on virtual time


def test_four_shards_keep_six_hundred_a_minute_and_use_them():
    async def main():
        broker = Broker(rpm=600)
        sent, tasks = crowd(broker, [50] * 4)
        await at_work(tasks, 300)
        return broker, sent

    broker, sent = run(main())
    assert most_in_a_minute([(at, 1) for at, _, _ in sent]) <= 600
    assert len(sent) >= 0.95 * 600 * 5
    of_each = [sum(name == one for _, name, _ in sent) for one in range(4)]
    assert max(of_each) - min(of_each) <= 20  # who comes first finds two slices' worth, and nobody else
    assert broker.asked <= 4 * 301  # a slice is a second: no shard asks twice in one


@pytest.mark.parametrize("workers", [(200, 5, 5, 5), (1, 1, 1, 200), (100,), (30,) * 20])
def test_uneven_demand_is_served_to_the_limit(workers):
    async def main():
        sent, tasks = crowd(Broker(rpm=600), workers, latency_s=1.0)
        await at_work(tasks, 180)
        return sent

    sent = run(main())
    assert most_in_a_minute([(at, 1) for at, _, _ in sent]) <= 600
    wanted = sum(workers) * 180
    assert len(sent) >= 0.95 * min(wanted, 600 * 3)


def test_who_wants_little_gets_all_of_it():
    async def main():
        broker, sent = Broker(rpm=600), []
        _, greedy = crowd(broker, [300])
        little = Gate(leases=broker)

        async def now_and_then():
            while True:
                async with little.slot() as slot:
                    sent.append(slot.queued_s)
                await asyncio.sleep(5)

        await at_work([*greedy, asyncio.ensure_future(now_and_then())], 120)
        return sent

    queued = run(main())
    assert len(queued) >= 20
    assert max(queued) <= 2.5


def test_what_one_leaves_is_there_for_the_others():
    async def main():
        broker = Broker(rpm=600)
        early, leaving = crowd(broker, [50, 50, 50])
        await at_work(leaving, 70)
        left_at = now()
        late, staying = crowd(broker, [50])
        await at_work(staying, 120)
        return left_at, [(at, 1) for at, _, _ in early], [(at, 1) for at, _, _ in late]

    left_at, early, late = run(main())
    assert most_in_a_minute(early + late) <= 600
    assert len(late) >= 0.95 * 600 * 2
    assert min(late)[0] - left_at <= 2


def test_a_fast_limit_is_asked_for_once_a_slice_not_once_a_call():
    async def main():
        broker = Broker(rpm=12_000)
        sent, tasks = crowd(broker, [50] * 4, latency_s=0.1)
        await at_work(tasks, 60)
        return broker.asked, sent

    asked, sent = run(main())
    assert most_in_a_minute([(at, 1) for at, _, _ in sent]) <= 12_000
    assert len(sent) >= 0.95 * 12_000
    assert asked <= len(sent) / 40


def test_where_there_is_plenty_nobody_waits_and_few_ask():
    async def main():
        broker = Broker(rpm=60_000)
        gate, queued = Gate(leases=broker), []
        for _ in range(500):
            async with gate.slot() as slot:
                queued.append(slot.queued_s)
            await asyncio.sleep(0.05)
        return broker.asked, queued

    asked, queued = run(main())
    assert max(queued) == 0
    assert asked <= 40  # in 25 slices


def test_tokens_are_kept_to_with_what_replies_turn_out_to_cost():
    async def main():
        sent, tasks = crowd(Broker(tpm=60_000), [20] * 4, tokens=100.0, correction=50.0)
        await at_work(tasks, 300)
        return sent

    sent = run(main())
    # What a call really costs is learned when it is answered: half a second late, here.
    assert most_in_a_minute([(at, tokens) for at, _, tokens in sent]) <= 60_000 * 1.02
    assert sum(tokens for _, _, tokens in sent) >= 0.95 * 60_000 * 5


def test_tokens_that_were_not_needed_let_the_next_call_go_sooner():
    async def main():
        sent, tasks = crowd(Broker(tpm=60_000), [20], tokens=100.0, correction=-50.0, latency_s=0.1)
        await at_work(tasks, 50)
        return sent

    assert len(run(main())) > 1.15 * 1000 * 50 / 100


def test_a_call_that_costs_more_than_a_minute_holds_is_sent_all_the_same_and_paid_for():
    async def main():
        gate, log = Gate(leases=Broker(tpm=600)), []
        for tokens in (900, 10):
            async with gate.slot(tokens):
                log.append(now())
        return log

    first, second = run(main())
    assert first == 0
    assert second >= 60


def test_what_is_dear_does_not_wait_for_ever_behind_what_is_cheap():
    async def main():
        broker = Broker(tpm=600)
        _, cheap = crowd(broker, [20], tokens=10.0)
        await asyncio.sleep(30)
        asked = now()
        async with Gate(leases=broker).slot(100):
            waited = now() - asked
        await at_work(cheap, 0)
        return waited

    assert run(main()) <= 61


# ---------------------------------------------------------------- leases that end otherwise


def test_a_shard_that_dies_with_its_lease_counts_as_having_used_it():
    ledger = Ledger(rpm=60)
    lease, = ledger.grant([Claim((0.0,) * 2)], 0.0)  # fmt: skip
    assert lease.calls == 2
    for second in range(1, 60):
        for each in ledger.grant([Claim((0.0,))], float(second)):
            if each is not None:
                ledger.settle(Report(each.number, 1), float(second))
    granted = sum(each is not None for each in ledger.grant([Claim((0.0,))], 60.0))
    assert granted == 0  # 58 and the two of the dead: 60 of the last minute
    assert ledger.open == 0
    assert ledger.ready_at([Claim((0.0,))], 60.0) == pytest.approx(61.0, abs=0.2)


def test_what_is_given_back_is_there_at_once():
    ledger = Ledger(rpm=60)
    lease, = ledger.grant([Claim((0.0,) * 9)], 0.0)  # fmt: skip
    assert lease.calls == 2
    assert ledger.grant([Claim((0.0,))], 0.0) == [None]
    ledger.settle(Report(lease.number, calls=1), 0.0)
    again, = ledger.grant([Claim((0.0,))], 0.0)  # fmt: skip
    assert again.calls == 1


def test_what_is_said_of_a_lease_twice_counts_once():
    ledger = Ledger(rpm=60)
    lease, = ledger.grant([Claim((0.0,) * 2)], 0.0)  # fmt: skip
    for _ in range(5):
        ledger.settle(Report(lease.number, calls=0), 0.0)
    again, other = ledger.grant([Claim((0.0,) * 2), Claim((0.0,) * 2)], 0.0)
    assert (again.calls, other.calls) == (1, 1)


def test_who_was_served_longest_ago_is_served_first():
    ledger = Ledger(rpm=180)  # three a slice
    turns, of_each = [0, 0], [0, 0]
    for second in range(40):
        leases = ledger.grant([Claim((0.0,) * 9, turn=turn) for turn in turns], float(second))
        for one, lease in enumerate(leases):
            turns[one], of_each[one] = lease.turn, of_each[one] + lease.calls
            ledger.settle(Report(lease.number, lease.calls), float(second))
    assert abs(of_each[0] - of_each[1]) <= 1


def test_who_gives_up_waiting_leaves_no_trace():
    async def main():
        broker = Broker(rpm=60)
        gate = Gate(leases=broker)
        waiting = [asyncio.ensure_future(worker(gate, [], 0)) for _ in range(10)]
        await at_work(waiting, 0.1)
        await asyncio.sleep(130)
        assert "0 leases, 0 waiting" in repr(broker)
        assert (gate.in_use, gate.waiting) == (0, 0)
        sent, tasks = crowd(broker, [10])
        await at_work(tasks, 120)
        assert len(sent) >= 0.95 * 120

    run(main())


def test_a_claim_that_is_given_up_does_not_keep_what_it_was_given():
    async def main():
        broker = Broker(rpm=60)
        lease = await broker.lease(Claim((0.0,) * 2))
        await broker.settle(Report(lease.number, 2))
        waiting = asyncio.ensure_future(broker.lease(Claim((0.0,))))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(1.0, waiting.cancel)  # in the instant in which it is served
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        assert "0 leases" in repr(broker)
        return (await broker.lease(Claim((0.0,)))).calls, now()

    assert run(main()) == (1, 1.0)


class Gone:
    async def lease(self, claim):
        raise ConnectionError("the node is down")

    async def settle(self, report):
        raise ConnectionError("the node is down")


def test_where_nobody_answers_those_who_wait_learn_of_it():
    async def main():
        gate = Gate(leases=Gone())
        calls = [asyncio.ensure_future(worker(gate, [], 0)) for _ in range(3)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        return found, gate

    found, gate = run(main())
    assert [type(error) for error in found] == [ModelError] * 3
    assert "the node is down" in str(found[0])
    assert isinstance(found[0].__cause__, ConnectionError)
    assert (gate.in_use, gate.waiting) == (0, 0)


# ---------------------------------------------------------------- whatever they do


@settings(max_examples=60)
@given(
    rpm=st.sampled_from([7, 60, 100, 600]),
    tpm=st.sampled_from([None, 500, 6_000]),
    slice_s=st.sampled_from([0.25, 1.0, 3.0]),
    steps=st.lists(
        st.tuples(
            st.integers(0, 3),  # who
            st.integers(1, 40),  # calls claimed
            st.sampled_from([0, 1, 7, 90]),  # tokens of each
            st.floats(0, 1),  # share of the lease that is used
            st.floats(0, 1),  # when, within its life
            st.sampled_from([0.0, 0.1, 0.5, 1.0, 4.0, 20.0, 59.0]),  # until the next thing happens
            st.booleans(),  # whether anything is ever said of it
        ),
        max_size=120,
    ),
)
def test_in_no_minute_is_more_sent_than_the_limit(rpm, tpm, slice_s, steps):
    ledger, now_s, held, sent = Ledger(rpm, tpm, slice_s), 0.0, {}, []
    for who, calls, tokens, used, when, pause, said in steps:
        report = Report()
        if who in held:
            lease, leased_s, share, at, is_said = held.pop(who)
            count = int(lease.calls * share)
            # At the latest when the next is asked for, and within the life of the lease.
            sent_s = min(leased_s + at * lease.valid_s, now_s)
            each = 0 if lease.tokens in (0, float("inf")) else lease.tokens / lease.calls
            sent += [(sent_s, each)] * count
            report = Report(lease.number, count, count * each) if is_said else Report()
        ledger.settle(report, now_s)
        (lease,) = ledger.grant([Claim((float(tokens),) * calls)], now_s)
        if lease is not None:
            held[who] = (lease, now_s, used, when, said)
        now_s += pause
    assert most_in_a_minute([(at, 1) for at, _ in sent]) <= rpm
    if tpm is not None:
        assert most_in_a_minute(sent) <= tpm + 1e-6


@pytest.mark.parametrize("wrong", [{"rpm": 0}, {"tpm": -1}, {"slice_s": 0}, {"rpm": float("inf")}])
def test_limits_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Broker(**wrong)


@pytest.mark.parametrize("calls", [0, MOST_CALLS + 1])
def test_a_claim_is_bounded(calls):
    with pytest.raises(ValueError, match=str(MOST_CALLS)):
        Claim((0.0,) * calls)
    Claim((0.0,) * MOST_CALLS)


# ---------------------------------------------------------------- from a world


def test_worlds_that_ask_through_the_client_keep_a_shared_limit():
    with VirtualClock() as clock, use_clock(clock), MockLLM(latency=0.1) as mock:
        broker = Broker(rpm=60)
        models = [OpenAIModel(), OpenAIModel()]
        worlds = [
            TinyWorld(f"W{number}", [TinyPerson(f"{number} {one}") for one in range(30)], model=model)
            for number, model in enumerate(models)
        ]

        async def both():
            with use_leases(broker):
                await asyncio.gather(*(world.run_async(1) for world in worlds))

        with config_manager.override(requests_per_minute=1):  # the broker's matter now
            clock.run(both())
        assert mock.calls == 60
        assert 55 <= clock.now() <= 62


def test_a_limit_of_one_s_own_comes_back_when_leases_are_no_longer_used():
    with VirtualClock() as clock, use_clock(clock), MockLLM() as mock:
        world = TinyWorld("W", [TinyPerson(f"P{one}") for one in range(4)], model=OpenAIModel())
        with use_leases(Broker(rpm=6000)):
            world.run(1)
        assert clock.now() < 1
        with config_manager.override(requests_per_minute=60):
            world.run(1)
        assert clock.now() >= 2
        assert mock.calls == 8


def test_lines_are_claimed_in_the_order_in_which_they_are_served():
    claims = []

    class Telling(Broker):
        async def lease(self, claim):
            claims.append(claim.tokens)
            return await super().lease(claim)

    async def main():
        gate = Gate(start=1, adaptive=False, leases=Telling(tpm=10**6))
        order = itertools.count()
        calls = [one(gate, order, line, tokens) for line, tokens in (("a", 1), ("a", 2), ("b", 30), ("b", 40))]
        return await asyncio.gather(*calls)

    async def one(gate, order, line, tokens):
        async with gate.slot(tokens, line):
            await asyncio.sleep(10)
            return next(order)

    assert run(main()) == [0, 2, 1, 3]
    assert claims[0] == (1,) or claims[0] == (1, 30, 2, 40)
    assert claims[-1][0] == 40
