"""The parallel benchmarks: few workers, slow people, conversations, consolidation under load, errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinytroupe.benchmarks.general import Benchmark, Tell
from tinytroupe.benchmarks.runner import benchmark_with_config, stage
from tinytroupe.benchmarks.scenarios import WORKERS
from tinytroupe.benchmarks.section import Check, Column, Plan, Row, Section
from tinytroupe.config import config_manager

if TYPE_CHECKING:
    from tinytroupe.agent import TinyPerson

_ELAPSED = (
    Column("elapsed_s", "Elapsed", "{:.2f} s"),
    Column("lower_bound_s", "Lower bound", "{:.2f} s"),
    Column("efficiency", "Efficiency", "{:.1%}"),
)

_REAL_TIME_SLACK_S = 1.0
"""What a busy machine may add to a time-out on the wall clock."""


def workers(plan: Plan, tell: Tell) -> Section:
    """How well a bounded number of turns at once is used: the guide's "Thread Pool Efficiency"."""
    from tinytroupe.testing import Constant, parse_latency

    latency, steps = plan.latency_or(0.2, wall=1.0), plan.steps_or(1, 1, wall=1 if plan.quick else 2)
    spread = parse_latency(latency)
    rows: list[Row] = []
    for size in plan.agents or (10,):
        for guide in WORKERS:
            shown = "auto" if guide.workers is None else str(guide.workers)
            tell(f"{size} people, workers: {shown}")
            settings = {"max_workers": guide.workers}
            result = benchmark_with_config(
                settings, agents=size, steps=steps, latency=latency, clock=plan.clock, seed=plan.seed
            )
            bound_s = result.lower_bound_s
            if isinstance(spread, Constant):  # turns of equal length can't be split: whole rounds
                bound_s = max(bound_s, math.ceil(size / (guide.workers or size)) * spread.seconds * steps)
            row = {
                "agents": size,
                "workers": shown,
                "elapsed_s": result.parallel_s,
                "lower_bound_s": bound_s,
                "efficiency": bound_s / result.parallel_s,
                "speedup": result.speedup,
                "of_ideal": result.speedup / size,
                "guide_s": guide.time_s if size == 10 and latency == "0.2" and steps == 1 else None,
                "guide_speedup": guide.speedup if size == 10 else None,
                "guide_of_ideal": guide.efficiency if size == 10 else None,
            }
            rows.append(row)
    columns = (
        Column("agents", "Agents"),
        Column("workers", "Workers"),
        *_ELAPSED,
        Column("speedup", "Speedup", "{:.2f}x"),
        Column("of_ideal", "Speedup / agents", "{:.0%}"),
        Column("guide_s", "Guide: time", "{:.2f} s"),
        Column("guide_speedup", "speedup", "{:.1f}x"),
        Column("guide_of_ideal", "efficiency", "{:.0%}"),
    )
    about = (
        f"{plan.clock} time, {latency} s a call. Equal turns come in whole rounds: 10 on 4 workers take 3, on 8 they "
        "take 2. No schedule can reach what the guide says of 4 and 8 workers; the lower bound says what can be had."
    )
    auto = [row for row in rows if row["workers"] == "auto"]
    checks = [Check(f"efficiency, {row['agents']} people, auto", row["efficiency"], 0.95) for row in auto]
    checks += [
        Check(f"speedup, {row['agents']} people, auto", row["speedup"], row["guide_speedup"])
        for row in auto
        if row["guide_speedup"] is not None
    ]
    return Section("workers", "Workers", about, columns, rows, checks)


@dataclass(frozen=True, slots=True)
class _SomeAreSlow:
    """Everyone takes `usual` seconds but some, who take `slow`."""

    names: frozenset[str]
    usual: float
    slow: float

    def draw(self, key: str, completion_tokens: int) -> float:
        return self.slow if any(f"/{name}/" in f"/{key}" for name in self.names) else self.usual


def timeouts(plan: Plan, tell: Tell) -> Section:
    """What slow people cost the others: at most the time-out."""
    from tinytroupe.testing import MockLLM

    size, steps = (plan.agents or (10,))[-1], plan.steps_or(3, 2, wall=2)
    limit_s, slow_s, usual_s = (2.0, 8.0, 0.2) if plan.clock == "wall" else (30.0, 600.0, 1.0)
    rows: list[Row] = []
    for slow in sorted({0, 1, size // 2}):
        tell(f"{size} people, {slow} of them slow, {steps} steps")
        mock = MockLLM(plan.seed)
        with stage(size, mock, plan.clock) as world, config_manager.override(parallel_execution_timeout=limit_s):
            names = frozenset(agent.name for agent in world.agents[:slow])
            mock.latency = _SomeAreSlow(names, usual_s, slow_s)
            world.run(steps)
            metrics = world.get_parallel_metrics()
        row = {
            "slow": slow,
            "turns": size * steps,
            "timeouts": metrics["parallel_timeouts"],
            "kept": size * steps - metrics["parallel_timeouts"] - metrics["parallel_errors"],
            "elapsed_s": metrics["elapsed_s"],
            "least_s": steps * (limit_s if slow else usual_s),
            "waiting_s": steps * (slow_s if slow else usual_s),
        }
        rows.append(row)
    columns = (
        Column("slow", "Slow people"),
        Column("turns", "Turns"),
        Column("timeouts", "Timed out"),
        Column("kept", "Kept"),
        Column("elapsed_s", "Elapsed", "{:.2f} s"),
        Column("least_s", "Lower bound", "{:.2f} s"),
        Column("waiting_s", "Without a time-out", "{:.0f} s"),
    )
    about = (
        f"{size} people, {usual_s:g} s a call, the slow ones {slow_s:g} s; PARALLEL_EXECUTION_TIMEOUT={limit_s:g}; "
        f"{plan.clock} time. A turn that timed out leaves nothing behind; the others' turns count."
    )
    slack_s = _REAL_TIME_SLACK_S if plan.clock == "wall" else 1e-6
    checks = [Check(f"turns kept, {row['slow']} slow", row["kept"], row["turns"] - row["slow"] * steps) for row in rows]
    checks += [
        Check(f"elapsed in s, {row['slow']} slow", row["elapsed_s"], row["least_s"] + slack_s, at_least=False)
        for row in rows
    ]
    return Section("timeouts", "Time-outs with slow people", about, columns, rows, checks)


def interactions(plan: Plan, tell: Tell) -> Section:
    """Everyone says something to everyone in every step: is all of it heard, once, in one call a turn?"""
    from tinytroupe.testing import MockLLM, parse_latency

    latency, steps = plan.latency_or(1.0, wall=0.2), plan.steps_or(5, 2)
    rows: list[Row] = []
    for size in plan.sizes(2, 10, 50, 100):
        tell(f"{size} people, {steps} steps")
        mock = MockLLM(plan.seed, parse_latency(latency))
        mock.when(endpoint="chat").reply(lambda call: _words(call.person))
        with stage(size, mock, plan.clock) as world:
            if plan.clock == "wall":
                world.run(1)  # opens the connections
                world.reset_parallel_metrics()
            before = _heard(world.agents)
            world.run(steps)
            heard, metrics = _heard(world.agents) - before, world.get_parallel_metrics()
        row = {
            "agents": size,
            "said": size * steps,
            "heard": heard,
            "expected": size * (size - 1) * steps,
            "calls": metrics["model_calls"],
            "elapsed_s": metrics["elapsed_s"],
            "lower_bound_s": metrics["lower_bound_s"],
            "efficiency": metrics["efficiency"],
        }
        rows.append(row)
    columns = (
        Column("agents", "Agents"),
        Column("said", "Said", "{:,}"),
        Column("heard", "Heard", "{:,}"),
        Column("expected", "Expected", "{:,}"),
        Column("calls", "Calls", "{:,}"),
        *_ELAPSED,
    )
    about = f"{steps} steps, {plan.clock} time, {latency} s a call; expected: each hears all others, every step."
    checks = [
        Check(f"missed or heard twice, {row['agents']} people", abs(row["heard"] - row["expected"]), 0, at_least=False)
        for row in rows
    ]
    checks += [Check(f"calls, {row['agents']} people", row["calls"], row["said"], at_least=False) for row in rows]
    return Section("interactions", "Concurrent interactions", about, columns, rows, checks)


def consolidation(plan: Plan, tell: Tell) -> Section:
    """Summaries of memories beside the steps: what they cost in time and calls, and what they save in entries."""
    from tinytroupe.testing import MockLLM, parse_latency

    size, steps = (plan.agents or (10,))[-1], plan.steps_or(60, 40, wall=40)
    latency = plan.latency_or(1.0, wall=0.05)
    rows: list[Row] = []
    for threshold in (None, 40):
        tell(f"{size} people, {steps} steps, {'without' if threshold is None else 'with'} consolidation")
        settings: dict[str, Any] = {"auto_consolidate_on_threshold": threshold is not None}
        if threshold is not None:
            settings["auto_consolidation_threshold"] = threshold
        with (
            stage(size, MockLLM(plan.seed, parse_latency(latency)), plan.clock) as world,
            config_manager.override(**settings),
        ):
            if plan.clock == "wall":
                world.run(1)
                world.reset_parallel_metrics()
            world.run(steps)
            metrics = world.get_parallel_metrics()
            row = {
                "consolidation": "off" if threshold is None else f"from {threshold} entries",
                "runs": sum(agent.get_consolidation_metrics()["automatic"] for agent in world.agents),
                "calls": world.usage.calls,
                "turns": size * steps,
                "entries": sum(len(agent.episodic_memory) for agent in world.agents),
                "elapsed_s": metrics["elapsed_s"],
                "lower_bound_s": metrics["lower_bound_s"],
                "efficiency": metrics["efficiency"],
                "errors": metrics["parallel_errors"] + metrics["parallel_timeouts"],
            }
        rows.append(row)
    columns = (
        Column("consolidation", "Consolidation"),
        Column("runs", "Summaries"),
        Column("turns", "Turns", "{:,}"),
        Column("calls", "Calls", "{:,}"),
        Column("entries", "Entries at the end", "{:,}"),
        *_ELAPSED,
    )
    without, with_it = rows
    about = (
        f"{size} people, {steps} steps, {plan.clock} time, {latency} s a call. Summaries are asked for while people "
        "act; the lower bound is that of the turns alone. The guide promises half of the entries."
    )
    checks = [
        Check("entries, share of those without", with_it["entries"] / without["entries"], 0.5, at_least=False),
        Check("summaries a person", with_it["runs"] / size, 1),
        Check("turns that failed", with_it["errors"], 0, at_least=False),
    ]
    return Section("consolidation", "Consolidation under parallel load", about, columns, rows, checks)


_TROUBLES: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "5 % 429": {"rate_limit": 0.05},
    "5 % 500": {"server_error": 0.05},
    "5 % lost connections": {"reset": 0.05},
    "5 % replies of a wrong form": {"wrong_schema": 0.05},
    "all of them": {"rate_limit": 0.05, "server_error": 0.05, "reset": 0.05, "wrong_schema": 0.05},
}


def recovery(plan: Plan, tell: Tell) -> Section:
    """What goes wrong between us and the model, and what comes of it: retried, asked again, or left out."""
    from tinytroupe.testing import MockLLM, parse_latency

    size, steps = (plan.agents or (10,))[-1], plan.steps_or(20, 10, wall=5)
    latency = plan.latency_or(1.0, wall=0.2)
    rows: list[Row] = []
    for trouble, shares in [*_TROUBLES.items(), ("one person's calls are refused", {})]:
        tell(f"{size} people, {steps} steps, trouble: {trouble}")
        mock = MockLLM(plan.seed, parse_latency(latency), strict=False)
        for kind, share in shares.items():
            mock.fault_rate(share, kind, **({"retry_after_ms": 100} if kind == "rate_limit" else {}))
        with stage(size, mock, plan.clock) as world:
            refused = steps if trouble == "one person's calls are refused" else 0
            if refused:
                mock.when(person=world.agents[0].name).fail("context_length")
            world.run(steps)
            metrics, asked, failed = world.get_parallel_metrics(), mock.by_endpoint["chat"].calls, mock.errors
        row = {
            "trouble": trouble,
            "turns": size * steps,
            "calls": asked,
            "failed_calls": failed,
            "retries": metrics["retries"],
            "left_out": metrics["parallel_errors"] + metrics["parallel_timeouts"],
            "expected_left_out": refused,
            "elapsed_s": metrics["elapsed_s"],
            "lower_bound_s": metrics["lower_bound_s"],
            "efficiency": metrics["efficiency"],
        }
        rows.append(row)
    columns = (
        Column("trouble", "Trouble"),
        Column("turns", "Turns", "{:,}"),
        Column("calls", "Calls", "{:,}"),
        Column("failed_calls", "Failed", "{:,}"),
        Column("retries", "Retries", "{:,}"),
        Column("left_out", "Turns left out", "{:,}"),
        *_ELAPSED,
    )
    about = (
        f"{size} people, {steps} steps, {plan.clock} time, {latency} s a call. What may pass is tried again; what "
        "can't costs the turn of the person concerned, and nobody else's."
    )
    checks = [
        Check(f"turns left out, {row['trouble']}", row["left_out"], row["expected_left_out"], at_least=False)
        for row in rows
    ]
    return Section("recovery", "Recovery from errors", about, columns, rows, checks)


PARALLEL: Mapping[str, Benchmark] = {
    "workers": workers,
    "timeouts": timeouts,
    "interactions": interactions,
    "consolidation": consolidation,
    "recovery": recovery,
}
"""What ``parallel_benchmarks.py`` runs, by the name that ``--only`` takes."""


def _words(person: str) -> str:
    from tinytroupe.testing.rules import actions_reply

    return actions_reply([("TALK", f"This is what {person} thinks of it.", "")])


def _heard(people: Sequence[TinyPerson]) -> int:
    """Count what people remember that others have said; what a crowd says in a step is one memory that all share."""
    return sum(
        said["source"] != person.name
        for person in people
        for memory in person.episodic_memory.retrieve_all("stimulus")
        for said in memory.content["stimuli"]
    )
