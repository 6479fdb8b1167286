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


class Traffic:
    """Counts the calls to OpenAI-compatible APIs that pass through httpx, httpx2 and their transport on aiohttp.

    For one ``with`` block; every request goes where it is going. What a `MockLLM` answers does not get here.

    Attributes
    ----------
    tally
        Calls, tokens as the servers told them, and errors.
    untold
        Answers that told no tokens, as streams do unless ``stream_options={"include_usage": True}`` asks for them.
    """

    base_url: str | None = None
    """Requests are not sent elsewhere."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.untold = 0
        self._lock = threading.Lock()
        self._entered = ExitStack()

    def add(self, take: Take, secrets: Sequence[str] = ()) -> None:
        """Count one exchange."""
        usage = _usage(take)
        with self._lock:
            self.tally.calls += 1
            if take.status != 200 or take.failed:
                self.tally.errors += 1
            elif usage is None:
                self.untold += 1
            else:
                self.tally.prompt_tokens += usage[0]
                self.tally.completion_tokens += usage[1]
                self.tally.cached_tokens += usage[2]

    def __enter__(self) -> Traffic:
        from tinytroupe.testing.interception import intercepted
        from tinytroupe.testing.tap import TapRouter

        self._entered.enter_context(intercepted(TapRouter(self)))
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
        if isinstance(usage, Mapping):
            details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
            return (
                int(usage.get("prompt_tokens", usage.get("input_tokens", 0)) or 0),
                int(usage.get("completion_tokens", usage.get("output_tokens", 0)) or 0),
                int(details.get("cached_tokens", 0) or 0),
            )
    return None


def _data(event: str) -> Any:
    """Return the JSON of a server-sent event, or None where it has none."""
    lines = [line.removeprefix("data:").strip() for line in event.splitlines() if line.startswith("data:")]
    try:
        return json.loads("\n".join(lines))
    except ValueError:
        return None
