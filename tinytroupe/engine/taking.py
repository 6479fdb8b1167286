"""How a person takes a turn: by asking its model, or by the `act` that somebody put in its place."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.engine.turn import Turn, TurnOutcome
from tinytroupe.llm import ChatModel, Usage

MAX_THREADS = 256
"""Plain `act` functions at work at once where ``MAX_WORKERS`` says nothing."""


def replaced_act(person: TinyPerson) -> Callable[[], Any] | None:
    """Return the person's `act` (or `act_async`) where a subclass or the instance replaces it."""
    for name in ("act", "act_async"):
        if name in vars(person) or getattr(type(person), name) is not getattr(TinyPerson, name):
            replaced: Callable[[], Any] = getattr(person, name)
            return replaced
    return None


def threads_for(people: Iterable[TinyPerson]) -> ThreadPoolExecutor | None:
    """Return threads for those whose `act` was replaced by a plain function; None where nobody's was."""
    replaced = [act for person in people if (act := replaced_act(person)) is not None]
    plain = [act for act in replaced if not inspect.iscoroutinefunction(act)]
    if not plain:
        return None
    most = config_manager.get("max_workers") or min(len(plain), MAX_THREADS)
    return ThreadPoolExecutor(most, thread_name_prefix="tinytroupe act")


async def take_turn(turn: Turn, model: ChatModel | None, threads: ThreadPoolExecutor | None) -> TurnOutcome:
    """Let the person decide. Commits nothing, and raises nothing but cancellation: errors are part of the outcome.

    Parameters
    ----------
    turn
        Whose turn it is.
    model
        The world's model.
    threads
        Of `threads_for`.
    """
    loop = asyncio.get_running_loop()
    person, started_s = turn.person, loop.time()

    def outcome(**details: Any) -> TurnOutcome:
        return TurnOutcome(person.name, turn.step, turn.index, started_s=started_s, finished_s=loop.time(), **details)

    try:
        replaced = replaced_act(person)
        if replaced is None:
            decided = await person.deliberate(model=model, step=turn.step)
            return outcome(
                status="acted",
                queued_s=decided.queued_s,
                usage=decided.usage,
                deliberation=decided,
                actions=decided.reply.actions,
            )
        before: Usage = person.usage
        if inspect.iscoroutinefunction(replaced):
            await replaced()
        else:
            await loop.run_in_executor(threads, replaced)
        return outcome(status="acted", usage=person.usage - before, actions=tuple(person.pop_latest_actions()))
    except Exception as error:
        return outcome(status="failed", error=error)
