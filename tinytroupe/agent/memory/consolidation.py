"""Old memories give way to a summary of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinytroupe.agent.memory.entry import Memory, plain_text, shortened
from tinytroupe.agent.memory.episodic import EpisodicMemory
from tinytroupe.config import config_manager
from tinytroupe.llm.model import ChatReply, ChatRequest, ReplySchema

Complete = Callable[[ChatRequest], Awaitable[ChatReply]]
"""Answers a request: `ChatModel.complete`, or what a person wraps around it."""

SCHEMA = ReplySchema(
    "consolidation",
    {
        "type": "object",
        "properties": {
            "summary": {"type": "string"},
            "key_facts": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["summary", "key_facts"],
        "additionalProperties": False,
    },
)

_INSTRUCTIONS = """\
You condense the memories of a person so that they take less room and lose nothing that matters later.
You are given memories in the order in which they happened, oldest first, each with its time where it is known.
- summary: what happened, in the past tense, as the person would recall it: who said and did what to whom, what came
  of it, how the person felt and changed. At most 200 words.
- key_facts: what must not be lost, one short sentence each: names, numbers, dates, promises, decisions, opinions,
  relations. At most 15.
Say only what the memories say. Earlier summaries among them are memories like the others: carry on what they hold.
Answer with a JSON object that has the keys "summary" and "key_facts"."""

_MAX_REPLY_CHARACTERS = 200_000
_MAX_SUMMARY_CHARACTERS = 8_000
_MAX_FACTS = 50
_MAX_FACT_CHARACTERS = 500
_MAX_ENTRY_CHARACTERS = 2_000
_LEAST_BATCH = 4  # smaller ones could not halve a memory: five entries in batches of two leave three


class ConsolidationError(ValueError):
    """The model's reply holds no summary. The message carries the beginning of the reply."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries, oldest first, that one summary is to stand for."""

    entries: tuple[Memory, ...]

    @property
    def count(self) -> int:
        """How many original events they stand for."""
        return sum(entry.count for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What a run has done.

    Attributes
    ----------
    summaries
        The entries now standing for others, as stored; without those whose sources were all gone meanwhile.
    entries_before, entries_after
        Entries of the memory around the replacement.
    automatic
        The threshold called for it, not the program.
    """

    summaries: tuple[Memory, ...]
    entries_before: int
    entries_after: int
    automatic: bool

    @property
    def memories_consolidated(self) -> int:
        """Entries that were replaced."""
        return self.entries_before - self.entries_after + len(self.summaries)


@dataclass(frozen=True, slots=True)
class ConsolidationMetrics:
    """Sums over the runs of a person.

    Attributes
    ----------
    total, automatic, manual
        Runs: all, those the threshold called for, those the program did.
    memories_consolidated
        Entries that were replaced by summaries.
    summaries
        Summaries stored.
    entries_before, entries_after
        Entries of the memory around the runs, summed over them.
    """

    total: int = 0
    automatic: int = 0
    manual: int = 0
    memories_consolidated: int = 0
    summaries: int = 0
    entries_before: int = 0
    entries_after: int = 0

    @property
    def average_size(self) -> float:
        """Entries replaced a run; 0.0 before the first."""
        return self.memories_consolidated / self.total if self.total else 0.0

    @property
    def compression_ratio(self) -> float:
        """Share of the entries that the runs made go: ``(before - after) / before``; 0.0 before the first."""
        return 1 - self.entries_after / self.entries_before if self.entries_before else 0.0

    def as_dict(self) -> dict[str, int | float]:
        """Return the metrics by name."""
        return {
            "total": self.total,
            "automatic": self.automatic,
            "manual": self.manual,
            "memories_consolidated": self.memories_consolidated,
            "summaries": self.summaries,
            "average_size": self.average_size,
            "compression_ratio": self.compression_ratio,
        }


def updated(metrics: ConsolidationMetrics, run: Consolidation) -> ConsolidationMetrics:
    """Return the metrics with one more run."""
    return ConsolidationMetrics(
        total=metrics.total + 1,
        automatic=metrics.automatic + run.automatic,
        manual=metrics.manual + (not run.automatic),
        memories_consolidated=metrics.memories_consolidated + run.memories_consolidated,
        summaries=metrics.summaries + len(run.summaries),
        entries_before=metrics.entries_before + run.entries_before,
        entries_after=metrics.entries_after + run.entries_after,
    )


def should_consolidate(stats: Mapping[str, Any], threshold: int) -> bool:
    """Tell whether a memory has come to the size at which old entries are to be summarised.

    Parameters
    ----------
    stats
        Of `EpisodicMemory.get_memory_stats`.
    threshold
        Entries, the buffer included. A memory bounded below it is due when full: later, entries would be dropped
        without a summary.
    """
    due = min(threshold, stats["max_size"] or threshold)
    return bool(stats["total_size"] >= max(2, due))


def plan(memories: Sequence[Memory], *, batch_size: int = 200, max_characters: int = 60_000) -> tuple[Batch, ...]:
    """Choose what to summarise: the oldest entries, so many that with the summaries at most half are left.

    Parameters
    ----------
    memories
        All entries, oldest first.
    batch_size
        Entries that one summary may stand for, at least 4.
    max_characters
        Text that a request may carry, roughly; a batch has at least 4 entries all the same.

    Returns
    -------
    tuple of Batch
        Oldest first; empty where there are fewer than two entries.

    Raises
    ------
    ValueError
        The batch size is too small to halve a memory.
    """
    if batch_size < _LEAST_BATCH:
        raise ValueError(f"batch_size must be at least {_LEAST_BATCH}, got {batch_size!r}")
    batches: list[list[Memory]] = []
    goal = len(memories) // 2
    characters = 0
    for taken, entry in enumerate(memories):
        if len(memories) - taken + len(batches) <= goal:
            break
        length = len(plain_text(entry.content, _MAX_ENTRY_CHARACTERS))
        full = batches and (
            len(batches[-1]) >= batch_size
            or (len(batches[-1]) >= _LEAST_BATCH and characters + length > max_characters)
        )
        if full or not batches:
            batches.append([])
            characters = 0
        batches[-1].append(entry)
        characters += length
    return tuple(Batch(tuple(entries)) for entries in batches if len(entries) > 1)


def build_request(batch: Batch, *, person: str = "") -> ChatRequest:
    """Ask for the summary of a batch.

    Parameters
    ----------
    batch
        What to summarise; 2000 characters of each entry are sent.
    person
        Whose memories they are.
    """
    whose = f"Memories of {person}" if person else "Memories"
    lines = [f"{whose}, oldest first:", *map(_line, batch.entries)]
    return ChatRequest(
        messages=[{"role": "system", "content": _INSTRUCTIONS}, {"role": "user", "content": "\n".join(lines)}],
        schema=SCHEMA,
    )


def parse(reply: str) -> dict[str, Any]:
    """Read a reply.

    Returns
    -------
    dict
        ``summary`` (str, not empty, cut at 8000 characters) and ``key_facts`` (at most 50, each cut at 500).

    Raises
    ------
    ConsolidationError
        There is no summary in it, or it is longer than 200,000 characters.
    """
    if len(reply) > _MAX_REPLY_CHARACTERS:
        raise ConsolidationError(f"the reply to a consolidation is too long: {shortened(reply)}")
    try:
        try:
            value = json.loads(reply)
        except json.JSONDecodeError:
            import json_repair  # needed for damaged replies only

            value = json_repair.loads(reply)
    except (ValueError, RecursionError) as error:
        raise ConsolidationError(f"the reply to a consolidation is not JSON: {shortened(reply)}") from error
    summary = value.get("summary") if isinstance(value, dict) else None
    facts = value.get("key_facts") or [] if isinstance(value, dict) else []
    if not isinstance(summary, str) or not summary.strip() or not isinstance(facts, list):
        raise ConsolidationError(
            'the reply to a consolidation must be {"summary": text, "key_facts": [texts]}, got ' + shortened(reply)
        )
    texts = [plain_text(fact, _MAX_FACT_CHARACTERS).strip() for fact in facts]
    return {
        "summary": summary.strip()[:_MAX_SUMMARY_CHARACTERS],
        "key_facts": [text for text in texts if text][:_MAX_FACTS],
    }


def summarised(batch: Batch, content: Mapping[str, Any]) -> Memory:
    """Return the entry that stands for a batch: as important as its most important one, as late as its latest."""
    last = batch.entries[-1]
    return Memory(
        kind="consolidated",
        role="system",
        content=dict(content),
        timestamp=last.timestamp,
        importance=max(entry.importance for entry in batch.entries),
        step=last.step,
        count=batch.count,
    )


async def consolidate(
    memory: EpisodicMemory,
    complete: Complete,
    *,
    force: bool = False,
    threshold: int | None = None,
    person: str = "",
    batch_size: int = 200,
) -> Consolidation | None:
    """Summarise the older half of a memory, the current episode included.

    The batches are summarised at the same time. The memory changes only when all summaries are there, and then in one
    step, each taking the place of its sources. What is stored meanwhile stays; sources evicted meanwhile are not
    counted by the summary.

    Parameters
    ----------
    memory
        What to make smaller.
    complete
        Answers requests.
    force
        Whatever the threshold and ``AUTO_CONSOLIDATE_ON_THRESHOLD`` say. At most half of the entries are left then, if
        there were two or more.
    threshold
        Entries from which an unforced run is due; not given = ``AUTO_CONSOLIDATION_THRESHOLD`` of the settings.
    person
        Whose memory it is.
    batch_size
        Entries that one summary may stand for.

    Returns
    -------
    Consolidation or None
        None where nothing was done: not due, nothing to summarise, or another run on this memory is under way.

    Raises
    ------
    ModelError
        What the model raises; the memory is untouched.
    ConsolidationError
        A reply holds no summary; the memory is untouched.
    """
    if not force:
        due = threshold if threshold is not None else int(config_manager.get("auto_consolidation_threshold"))
        if not config_manager.get("auto_consolidate_on_threshold") or not should_consolidate(
            memory.get_memory_stats(), due
        ):
            return None
    if not memory.begin_consolidation():
        return None
    try:
        batches = plan(memory.retrieve_all(), batch_size=batch_size)
        if not batches:
            return None
        summaries = await _all_or_none(_summary(batch, complete, person) for batch in batches)
        with memory.held():
            before = memory.count()
            stored = [memory.replace(batch.entries, summary) for batch, summary in zip(batches, summaries, strict=True)]
            kept = tuple(summary for summary in stored if summary is not None)
            return Consolidation(kept, before, memory.count(), automatic=not force)
    finally:
        memory.end_consolidation()


async def _summary(batch: Batch, complete: Complete, person: str) -> Memory:
    # A request is long: it is written when its call begins, not for all batches beforehand.
    reply = await complete(build_request(batch, person=person))
    return summarised(batch, parse(reply.text))


async def _all_or_none(calls: Iterable[Awaitable[Memory]]) -> list[Memory]:
    """Wait for all; where one fails, end the others, so that none runs on unseen."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _line(entry: Memory) -> str:
    when = "" if entry.timestamp is None else f"{entry.timestamp:%Y-%m-%d %H:%M} "
    text = " ".join(plain_text(entry.content, _MAX_ENTRY_CHARACTERS).split())
    return f"- {when}{entry.kind}: {text}"
