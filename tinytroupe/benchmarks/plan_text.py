"""A forecast in words and as JSON: its figures, what they rest on, and what is going to go wrong."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tinytroupe.benchmarks.plan_sample import (
    ACTOR_MB,
    BUSY,
    CLIENT_CPU_S,
    DRIVER_PERSON_MB,
    FOOTPRINT_STEPS,
    FOOTPRINTS,
    TURN_EXCHANGE_S,
)
from tinytroupe.benchmarks.results import table
from tinytroupe.config import config_manager

if TYPE_CHECKING:
    from tinytroupe.benchmarks.plan import Forecast
    from tinytroupe.benchmarks.plan_queue import Limits

FORMAT = "tinytroupe plan"
SCHEMA = 1


def as_text(found: Forecast) -> str:
    """Return a forecast for a terminal."""
    asked = found.asked
    lines = [
        f"Plan: {asked.people:,} people × {asked.steps:,} steps, {asked.latency} s a call",
        "",
        table(["", "predicted", ""], rows(found)),
        "",
        "It is assumed that",
        *(f"- {each}" for each in assumptions(found)),
    ]
    for each in warnings(found):
        lines += ["", f"WARNING: {each}"]
    return "\n".join(lines)


def as_json(found: Forecast) -> dict[str, Any]:
    """Return a forecast as JSON can hold it; ``docs/how-to/plan.md`` describes it."""
    span, usage, sample, held = found.makespan, found.usage, found.sample, found.footprint
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "asked": asdict(found.asked),
        "limits": asdict(found.limits),
        "predicted": {
            "makespan_s": span.seconds,
            "makespan_low_s": span.low_s,
            "makespan_high_s": span.high_s,
            "longest_step_s": span.longest_step_s,
            "exchange_s": found.exchange_s,
            "floors_s": dict(found.floors_s),
            "decided_by": found.decided_by,
            "model_calls": usage.calls,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "cost_usd": found.cost_usd,
            "memory_mb": found.memory_mb,
            "memory_mb_per_shard": found.shard_mb,
            "cpu_s": found.cpu_s,
            "shards": found.shards,
            "shards_needed": dict(found.needed),
        },
        "measured": {
            "people": sample.people,
            "steps": len(sample.usage),
            "cpu_s_per_turn": sample.cpu_s_per_turn,
            "process_mb": held.process_mb,
            "person_kb": held.person_mb * 1024,
            "memory_method": held.method,
        },
        "assumptions": assumptions(found),
        "warnings": warnings(found),
    }


def rows(found: Forecast) -> list[list[str]]:
    """Return what is predicted: name, value, and what there is to say of it."""
    span, usage, needed = found.makespan, found.usage, found.needed
    within = f"9 of 10 runs: {duration(span.low_s)} to {duration(span.high_s)}" if span.low_s is not None else ""
    why = max(needed, key=needed.__getitem__)
    cost = "not known" if found.cost_usd is None else f"${found.cost_usd:,.2f}"
    found_rows = [
        ["makespan", duration(span.seconds), within],
        ["longest step", duration(span.longest_step_s), f"decided by {found.decided_by}"],
        *([f"least by {name}", duration(floor_s), ""] for name, floor_s in found.floors_s.items()),
        ["exchange", duration(found.exchange_s), ""],
        ["model calls", f"{usage.calls:,}", f"{usage.calls / found.asked.people / found.asked.steps:.2f} a turn"],
        ["prompt tokens", f"{usage.prompt_tokens:,}", f"{usage.cached_tokens:,} of them from a prompt cache"],
        ["completion tokens", f"{usage.completion_tokens:,}", ""],
        ["cost", cost, found.cost_unknown],
        ["shards", f"{found.shards:,}", f"{needed[why]:,} needed, for {why}"],
        ["memory", size(found.memory_mb), f"{size(found.shard_mb)} a shard"],
        ["processor time", duration(found.cpu_s), ""],
    ]
    return [[name, value, note] for name, value, note in found_rows]


def assumptions(found: Forecast) -> list[str]:
    """Return what a forecast rests on."""
    asked, sample, held, limits = found.asked, found.sample, found.footprint, found.limits
    calls = "as measured" if asked.calls_per_turn is None else "as given"
    return [
        f"calls take {asked.latency} s, whoever asks and however many there are, and none fails",
        f"calls in flight: {_in_flight(limits)}; requests a minute: {_limit(limits.rpm)}; "
        f"tokens a minute: {_limit(limits.tpm)}, for all shards together",
        f"a step begins when all turns of the step before are done; with several shards, {asked.exchange_ms:g} ms of "
        f"exchange for each of them and {TURN_EXCHANGE_S * 1000:g} ms for each turn come on top, and {ACTOR_MB:.0f} MB "
        f"for each and {DRIVER_PERSON_MB * 1000:.0f} KB for each person at the driver",
        f"everyone says a sentence a turn, which {asked.relations:,} others hear; calls a turn {calls}; each person "
        f"brings {asked.memories:,} memories",
        f"tokens are those of the mock model's people, {sample.people} of them in {len(sample.usage)} steps: your "
        "own personas and a real model's replies may be longer",
        f"a process takes {held.process_mb:.0f} MB and each person {held.person_mb * 1024:.1f} KB at the peak of "
        f"{min(asked.steps, FOOTPRINT_STEPS)} steps, from worlds of {FOOTPRINTS[0]} and {FOOTPRINTS[1]} people; "
        "the real client takes some 50 MB more",
        f"a turn takes {sample.cpu_s_per_turn * 1000:.2f} ms of this machine's processor, and each call "
        f"{CLIENT_CPU_S * 1000:.1f} ms more in the real client; a shard may take {BUSY:.0%} of a processor",
    ]


def warnings(found: Forecast) -> list[str]:
    """Return what would go wrong if it were run like that."""
    from tinytroupe.testing import parse_latency

    said = []
    span, usage = found.makespan, found.usage
    limit_s = config_manager.get("parallel_execution_timeout")
    if limit_s is not None and span.longest_step_s > limit_s:
        said.append(
            f"a step takes about {duration(span.longest_step_s)}, and PARALLEL_EXECUTION_TIMEOUT would end it after "
            f"{duration(limit_s)}: raise it"
        )
    slowest_s = parse_latency(found.asked.latency).quantile(
        1 - 0.5 / max(usage.calls, 1), usage.completion_tokens // max(usage.calls, 1)
    )
    if slowest_s > config_manager.get("timeout"):
        said.append(
            f"the slowest calls take about {duration(slowest_s)}, and TIMEOUT would end them after "
            f"{duration(config_manager.get('timeout'))}"
        )
    said += [
        f"{found.shards:,} shards are fewer than the {number:,} needed for {why}"
        for why, number in found.needed.items()
        if number > found.shards
    ]
    return said


def duration(seconds: float | None) -> str:
    """Return seconds as people read them."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    days, hours = divmod(minutes / 60, 24)
    return f"{days:.0f} d {hours:.0f} h" if days >= 2 else f"{minutes / 60:.1f} h"


def size(mb: float) -> str:
    """Return megabytes as people read them."""
    return f"{mb:,.0f} MB" if mb < 10_000 else f"{mb / 1024:,.0f} GB"


def _limit(value: float | None) -> str:
    return "no limit" if value is None else f"{value:,.0f}"


def _in_flight(limits: Limits) -> str:
    if limits.start == limits.high:
        return f"{limits.high:,}"
    return f"{limits.start:,}, growing to {limits.high:,} while calls wait"
