"""Counts what this process asks real models over HTTP, without touching it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tinytroupe.testing.accounting import Tally

if TYPE_CHECKING:
    from types import TracebackType

    from tinytroupe.testing.recording import Take

# Faults of calls that never got to a server.
_UNSENT = frozenset({"connection", "connect_timeout", "pool_timeout"})


class Traffic:
    """Counts the calls to OpenAI-compatible APIs that pass through httpx, httpx2 and their transport on aiohttp.

    A call is a request to complete a chat, for a response or for embeddings that names a model. For one ``with`` block;
    every request goes where it is going. What a `MockLLM` answers does not get here.

    Attributes
    ----------
    tally
        Calls, which count when they depart; tokens as the servers told them, and errors, when the answer has ended.
    untold
        Calls whose tokens are not known: under way, cancelled, broken off, or the answer told none, as streams do
        unless ``stream_options={"include_usage": True}`` asks for them.
    """

    base_url: str | None = None
    """Requests are not sent elsewhere."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.untold = 0
        self._lock = threading.Lock()
        self._entered = ExitStack()

    def _departs(self, endpoint: str, body: Mapping[str, Any]) -> bool:
        """Count a request, if it is a call; its tokens are not known yet."""
        if endpoint == "models" or "model" not in body:
            return False
        with self._lock:
            self.tally.calls += 1
            self.untold += 1
        return True

    def add(self, take: Take, secrets: Sequence[str] = ()) -> None:
        """Take in the answer to a call that has been counted."""
        failed = bool(take.failed) or take.status != 200
        usage = (0, 0, 0) if failed and (take.status or take.failed in _UNSENT) else _usage(take)
        with self._lock:
            self.tally.errors += failed
            if usage is not None:
                self.untold -= 1
                self.tally.prompt_tokens += usage[0]
                self.tally.completion_tokens += usage[1]
                self.tally.cached_tokens += usage[2]

    def __enter__(self) -> Traffic:
        from tinytroupe.testing.interception import intercepted
        from tinytroupe.testing.tap import TapRouter

        self._entered.enter_context(intercepted(TapRouter(self, self._departs)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()


def _usage(take: Take) -> tuple[int, int, int] | None:
    """Return prompt, completion and cached tokens, or None where the answer does not tell."""
    answers = [take.response, *(_data(text) for _, text in reversed(take.events or ()))]
    for answer in answers:
        body = answer.get("response", answer) if isinstance(answer, Mapping) else None
        usage = body.get("usage") if isinstance(body, Mapping) else None
        tokens = _tokens(usage) if isinstance(usage, Mapping) else None
        if tokens is not None:
            return tokens
    return None


def _tokens(usage: Mapping[str, Any]) -> tuple[int, int, int] | None:
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    completion = usage.get("completion_tokens", usage.get("output_tokens"))
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    completion, cached = completion or 0, cached or 0  # embeddings have none
    if isinstance(prompt, int) and isinstance(completion, int) and isinstance(cached, int):
        return prompt, completion, cached
    return None


def _data(event: str) -> Any:
    """Return the JSON of a server-sent event, or None where it has none."""
    lines = [line.removeprefix("data:").strip() for line in event.splitlines() if line.startswith("data:")]
    try:
        return json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return None
