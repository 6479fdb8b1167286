"""``tinytroupe bench --plan``: what it takes, what it predicts, and that runs of that size come out so."""

from __future__ import annotations

import asyncio
import json
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytroupe.benchmarks import plan as planning
from tinytroupe.benchmarks.plan import forecast, foretold, gone_through
from tinytroupe.benchmarks.plan_keys import KEYS, MOST_PEOPLE, Asked, read_asked
from tinytroupe.benchmarks.plan_queue import Limits, Line
from tinytroupe.benchmarks.plan_sample import Footprint, Sample, limits_of, measured_peak, run_planned, sampled
from tinytroupe.benchmarks.plan_text import as_json, as_text, duration, size, warnings
from tinytroupe.cli import main
from tinytroupe.config import config_manager
from tinytroupe.llm import Usage
from tinytroupe.llm.gate import Gate
from tinytroupe.runtime.clock import VirtualClock
from tinytroupe.testing import Constant, LogNormal, PerToken, Uniform

SAMPLE = Sample(people=10, usage=(Usage(10, 10_000, 800, 0), Usage(10, 12_000, 800, 5_000)), cpu_s_per_turn=0.0008)
HELD = Footprint(process_mb=40.0, person_mb=0.05, method="made up")


@pytest.fixture(autouse=True)
def _few_repetitions(monkeypatch):
    monkeypatch.setattr(planning, "ENOUGH_CALLS", 30_000)  # a tenth: wider spans, in a tenth of the time


def told(*words):
    return foretold(read_asked(words), SAMPLE, HELD)


# ---------------------------------------------------------------- what is asked


def test_keys_and_values_are_read():
    asked = read_asked(
        ["people=1_000_000", "latency=lognormal:1.2,0.5", "rpm=1e4", "steps=5", "shards=7", "memories=0"]
    )
    assert asked == Asked(1_000_000, steps=5, latency="lognormal:1.2,0.5", rpm=10_000, shards=7)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["steps=3"], "how many people"),
        (["people"], "KEY=VALUE, not 'people'"),
        (["people=10", "latnecy=1"], "no key 'latnecy': did you mean 'latency'"),
        (["people=10", "colour=red"], "the keys are people, steps, latency"),
        (["people=10", "people=20"], "people is given twice"),
        (["people=0"], "people: must be a whole number from 1 to 10,000,000, not '0'"),
        (["people=2.5"], "not '2.5'"),
        (["people=many"], "not 'many'"),
        (["people=nan"], "not 'nan'"),
        ([f"people={MOST_PEOPLE + 1}"], "10,000,000"),
        (["people=10", "rpm=0"], "rpm: must be a number above 0, not '0'"),
        (["people=10", "tpm=inf"], "tpm: must be a number above 0, not 'inf'"),
        (["people=10", "calls_per_turn=0.5"], "calls_per_turn: must be a number of at least 1 and at most 100"),
        (["people=10", "latency=soon"], "latency: cannot read latency 'soon'"),
        (["people=10", "model="], "model: must not be empty"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(words, message):
    with pytest.raises(ValueError, match="--plan") as raised:
        read_asked(words)
    assert message in str(raised.value)


def test_the_most_people_can_be_asked_for():
    assert read_asked([f"people={MOST_PEOPLE}"]).people == MOST_PEOPLE


# ---------------------------------------------------------------- the line at the gate, as numbers


def through(limits, turns, tokens=0.0, steps=1, seconds=lambda: 1.0):
    line = Line(limits, seconds)
    return [line.step(turns, tokens) for _ in range(steps)]


@pytest.mark.parametrize(
    ("limits", "turns", "expected"),
    [
        (Limits(10, 10), [1] * 10, 1.0),
        (Limits(10, 10), [1] * 11, 2.0),
        (Limits(10, 10), [2] * 10, 2.0),
        (Limits(10, 10), [3, *[1] * 9], 3.0),
        (Limits(1, 1), [1] * 7, 7.0),
        (Limits(20, 1000), [1] * 40, 1.05),  # the limit on calls in flight doubles while calls wait
        (Limits(100, 100, rpm=60), [1] * 10, 10.0),
        (Limits(100, 100, rpm=600), [1] * 20, 2.0),  # ten at once, ten in the second that follows
        (Limits(100, 100), [], 0.0),
    ],
)
def test_a_line_takes_as_long_as_it_must(limits, turns, expected):
    assert through(limits, turns) == [pytest.approx(expected)]


def test_tokens_hold_the_line_up_like_requests():
    (first, second) = through(Limits(100, 100, tpm=6000), [1] * 20, tokens=50, steps=2)
    assert first == pytest.approx((20 * 50 - 100) / 100 + 1)
    assert second == pytest.approx(20 * 50 / 100, abs=1)


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.001, 7.0), min_size=1, max_size=150),
    st.sampled_from([(5, 5), (20, 20), (20, 1000), (1, 7)]),
    st.sampled_from([None, 60, 3000]),
    st.sampled_from([None, 5000]),
)
def test_the_line_is_the_gate_s(latencies, slots, rpm, tpm):
    """The same calls through the real gate, on virtual time."""

    async def main():
        gate = Gate(slots[0], high=slots[1], rpm=rpm, tpm=tpm, adaptive=slots[0] < slots[1])
        left = iter(latencies)

        async def call():
            async with gate.slot(10) as slot:
                await asyncio.sleep(next(left))
                gate.on_success(slot)

        await asyncio.gather(*(call() for _ in latencies))
        return asyncio.get_running_loop().time()

    with VirtualClock() as clock:
        really_s = clock.run(main())
    left = iter(latencies)
    (foretold_s,) = through(Limits(*slots, rpm, tpm), [1] * len(latencies), tokens=10, seconds=lambda: next(left))
    assert foretold_s == pytest.approx(really_s, abs=1e-6)


@pytest.mark.parametrize(
    "spread", [Constant(2.0), Uniform(1.0, 3.0), LogNormal(1.2, 0.5), LogNormal(0.0, 0.5), PerToken(0.3, 0.02)]
)
def test_quantiles_are_those_of_what_is_drawn(spread):
    drawn = sorted(spread.draw(str(number), 50) for number in range(4000))
    for share in (0.05, 0.5, 0.95):
        assert spread.quantile(share, 50) == pytest.approx(drawn[int(share * 4000)], rel=0.06)


@pytest.mark.parametrize(
    ("steps", "calls", "expected"),
    [
        (1, 100, [0]),
        (2, 100, [0, 1]),
        (3, 100, [0, 1, 2]),
        (20, 100, list(range(20))),
        (3, 1_000_000, [0]),
        (1000, 500_000, [0, 999]),
        (5, 10_000_000, [0]),
    ],
)
def test_as_much_is_gone_through_as_takes_seconds(steps, calls, expected):
    chosen, repetitions = gone_through(steps, calls)
    assert chosen == expected
    assert 1 <= repetitions <= 200
    assert repetitions * len(chosen) * calls <= max(planning.MOST_CALLS, calls)
    assert repetitions >= min(3, planning.MOST_CALLS // calls)


def test_of_many_steps_the_first_and_the_last_are_gone_through():
    chosen, _ = gone_through(100_000, 100)
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 99_999, planning.MOST_STEPS)


# ---------------------------------------------------------------- what is made of it


def test_calls_tokens_and_memory_are_those_of_all_people():
    found = told("people=1000", "steps=4", "latency=2.0", "concurrency=1000", "shards=1")
    assert found.usage == Usage(4000, 1000 * (1000 + 3 * 1200), 4000 * 80, 1000 * 3 * 500)
    assert found.makespan.seconds == pytest.approx(4 * 2.0)
    assert (found.makespan.low_s, found.makespan.high_s) == pytest.approx((8.0, 8.0))
    assert found.memory_mb == pytest.approx(40 + 1000 * 0.05)
    assert found.shards == 1
    assert found.exchange_s == 0


def test_calls_a_turn_cost_time_and_tokens():
    one, two = (told("people=100", f"calls_per_turn={calls}", "concurrency=100", "shards=1") for calls in (1, 2))
    assert two.makespan.seconds == pytest.approx(2 * one.makespan.seconds)
    assert (two.usage.calls, two.usage.tokens) == (2 * one.usage.calls, 2 * one.usage.tokens)
    between = told("people=1000", "calls_per_turn=1.5", "concurrency=1000", "steps=20", "shards=1")
    assert between.usage.calls == 30_000
    assert between.makespan.seconds == pytest.approx(20 * 2.0)  # somebody always has two


@pytest.mark.parametrize(
    ("words", "floor_s", "decided_by"),
    [
        (["rpm=600"], 3 * 1000 / 10, "requests a minute"),
        (["tpm=60000"], (3 * 1000 * 80 + 1000 * (1000 + 2 * 1200)) / 1000, "tokens a minute"),
        (["concurrency=10"], 3 * 1000 / 10, "calls in flight"),
    ],
)
def test_what_a_run_is_held_up_by_is_told(words, floor_s, decided_by):
    found = told("people=1000", "latency=1.0", *words)
    assert found.decided_by == decided_by
    assert found.floors_s[decided_by] == pytest.approx(floor_s)
    assert found.makespan.seconds == pytest.approx(floor_s, rel=0.03)


def test_where_nothing_holds_it_up_the_slowest_calls_do():
    found = told("people=500", "latency=lognormal:1.0,1.0", "concurrency=500")
    assert found.decided_by == "the slowest calls of each step"
    assert found.makespan.low_s < found.makespan.seconds < found.makespan.high_s


def test_limits_come_from_the_settings_where_they_are_not_given():
    with config_manager.override(requests_per_minute=60, max_concurrent_model_calls=7):
        assert limits_of(Asked(100), 2) == Limits(14, 14, 60, None)
        assert limits_of(Asked(100, rpm=30, concurrency=3), 2) == Limits(3, 3, 30, None)
    assert limits_of(Asked(100), 3) == Limits(60, 3000, None, None)


def test_shards_are_needed_for_people_for_calls_in_flight_and_for_work():
    many = told("people=2500", "rpm=100")
    assert (many.shards, many.needed["people"]) == (3, 3)
    assert many.exchange_s == pytest.approx(3 * (3 * 0.003 + 2500 * 0.00003))
    wide = told("people=2500", "concurrency=2500", "people_per_shard=5000", "latency=20")
    assert (wide.shards, wide.needed["calls in flight"]) == (3, 3)
    work = told("people=1000", "latency=0.001", "steps=10")
    assert work.shards == work.needed["processor time"] > 1
    # Each process with Ray in it, people, and the driver with what it keeps of each of them.
    assert work.memory_mb == pytest.approx((40 + 35) * work.shards + 1000 * 0.05 + 40 + 1000 * 0.01)


def test_too_few_shards_and_time_outs_are_warned_of():
    assert warnings(told("people=100", "concurrency=100")) == []
    few = told("people=2500", "shards=2", "concurrency=2500")
    assert any("2 shards are fewer than the 3 needed for people" in each for each in warnings(few))
    slow = told("people=1000", "rpm=60")
    (said,) = warnings(slow)
    assert "PARALLEL_EXECUTION_TIMEOUT would end it after 5 min" in said
    with config_manager.override(parallel_execution_timeout=None, timeout=5):
        assert warnings(slow) == []
        (said,) = warnings(told("people=1000", "latency=lognormal:1.0,0.8"))
        assert "TIMEOUT would end them after 5.0 s" in said


def test_what_has_no_known_price_says_so():
    found = told("people=10", "model=nobody-s-model")
    assert found.cost_usd is None
    assert "nobody-s-model" in as_text(found)
    assert as_json(found)["predicted"]["cost_usd"] is None
    assert told("people=10", "model=gpt-4o").cost_usd > 0


def test_a_plan_without_latency_is_no_problem():
    found = told("people=10", "latency=0")
    assert found.makespan.seconds == 0
    assert json.dumps(as_json(found), allow_nan=False)


def test_the_same_seed_predicts_the_same():
    asked = read_asked(["people=300", "latency=lognormal:1.0,0.8"])
    one, again, other = (foretold(asked, SAMPLE, HELD, seed=seed).makespan for seed in (1, 1, 2))
    assert one == again != other


def test_figures_are_written_as_people_read_them():
    assert [duration(s) for s in (0.04, 119.94, 600, 9000, 200_000)] == [
        "0.0 s",
        "119.9 s",
        "10 min",
        "2.5 h",
        "2 d 8 h",
    ]
    assert [size(mb) for mb in (72.4, 79_000)] == ["72 MB", "77 GB"]


# ---------------------------------------------------------------- beside runs of that size


def off(predicted, measured):
    return abs(predicted / measured - 1)


@pytest.mark.parametrize(
    "words",
    [
        ["people=100", "latency=lognormal:1.0,0.5", "concurrency=10"],
        ["people=100", "latency=0.2", "rpm=600", "memories=30"],
        ["people=1000", "latency=lognormal:1.0,0.5", "rpm=6000", "steps=1", "relations=2"],
    ],
)
def test_a_run_of_that_size_takes_what_was_predicted(words):
    asked = read_asked([*words, "shards=1"])
    found, measured = forecast(asked), measured_peak(asked, asked.people)
    assert measured["parallel_errors"] == 0
    assert off(found.makespan.seconds, measured["elapsed_s"]) <= 0.10
    assert off(found.memory_mb, measured["peak_mb"]) <= 0.10
    assert found.usage.calls == measured["model_calls"]
    assert off(found.usage.tokens, measured["tokens"]) <= 0.03


def test_memory_is_measured_with_the_settings_of_the_program():
    asked = Asked(100, steps=1, memories=200, relations=0)
    kept = measured_peak(asked, 100)["peak_mb"]
    with config_manager.override(max_episodic_memory_size=5):
        forgotten = measured_peak(asked, 100)["peak_mb"]
    assert forgotten < kept - 5


def test_nine_of_ten_runs_lie_where_it_says():
    asked = read_asked(["people=40", "latency=lognormal:1.0,0.8", "steps=2"])
    span = foretold(asked, sampled(asked), HELD).makespan
    elapsed_s = [run_planned(asked, 40, 2, limits_of(asked, 1), seed)["elapsed_s"] for seed in range(20)]
    assert off(span.seconds, statistics.fmean(elapsed_s)) <= 0.15
    assert sum(span.low_s <= each <= span.high_s for each in elapsed_s) >= 16


@pytest.mark.slow
def test_ten_thousand_people_take_what_was_predicted():
    asked = read_asked(["people=10000", "steps=1", "latency=lognormal:1.0,0.5", "rpm=30000", "shards=1"])
    found, measured = forecast(asked), measured_peak(asked, asked.people)
    assert off(found.makespan.seconds, measured["elapsed_s"]) <= 0.10
    assert off(found.memory_mb, measured["peak_mb"]) <= 0.10


# ---------------------------------------------------------------- the command


@pytest.fixture
def quick(monkeypatch):
    """The command without its measurements."""

    def found(asked, *, seed, tell):
        tell("looking")
        return foretold(asked, SAMPLE, HELD, seed=seed)

    monkeypatch.setattr(planning, "forecast", found)


def test_the_command_tells_what_it_predicts_and_what_it_assumes(quick, capsys, tmp_path):
    assert main(["bench", "--plan", "people=1000", "rpm=600", "--json", str(tmp_path / "plan.json")]) == 0
    out, err = capsys.readouterr()
    assert "Plan: 1,000 people × 3 steps, 1.0 s a call" in out
    assert "decided by requests a minute" in out
    assert "It is assumed that" in out
    assert "plan: looking …" in err
    told = json.loads((tmp_path / "plan.json").read_text("utf-8"))
    assert (told["format"], told["asked"]["people"]) == ("tinytroupe plan", 1000)
    assert told["predicted"]["makespan_s"] == pytest.approx(300, rel=0.03)
    assert told["assumptions"]


def test_json_can_go_to_the_terminal_alone(quick, capsys):
    assert main(["bench", "--plan", "people=10", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["predicted"]["model_calls"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plan", "peple=10"], "did you mean 'people'"),
        (["--plan", "people=10", "--steps", "5"], "--steps has no meaning beside --plan"),
        (["--plan", "people=10", "--only", "speedup", "--quick"], "--only, --quick"),
        (["--plan", "people=10", "--html", "x.html"], "--html"),
    ],
)
def test_what_cannot_be_planned_ends_the_command(quick, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_lists_the_keys(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in KEYS)


def test_a_process_that_fails_is_told_of():
    with pytest.raises(RuntimeError, match="cannot read latency"):
        measured_peak(replace(Asked(10), latency="never"), 10)
