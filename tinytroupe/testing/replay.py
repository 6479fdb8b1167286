"""Playing a recording back: which take answers a call, and how a call that has none differs from the nearest."""

from __future__ import annotations

import difflib
import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from tinytroupe.testing.call import Call
from tinytroupe.testing.recording import Take, plain, read_recording, without_keys
from tinytroupe.testing.rules import Reply

_DIFF_LINES = 60
_COMPARED = 500


class Replay:
    """A recording as a script: each take answers once, equal requests in the order they were recorded.

    Parameters
    ----------
    timing
        Whether answers take the recorded time; else the mock's own latency.
    ignore
        Names of top-level fields of the request that may differ.
    """

    def __init__(self, path: str | os.PathLike[str], timing: bool = False, ignore: Sequence[str] = ()) -> None:
        self.path = os.fspath(path)
        self.timing = timing
        self._ignore = frozenset((ignore,) if isinstance(ignore, str) else ignore)
        self._takes = read_recording(path)
        self._waiting: dict[str, deque[int]] = {}
        self._used: set[int] = set()
        self.rewind()

    def find(self, call: Call, path: str) -> Take | None:
        """Return the next unused take for `call` and count it as used, or None."""
        waiting = self._waiting.get(self._asked(call.endpoint, path, call.body))
        if not waiting:
            return None
        position = waiting.popleft()
        self._used.add(position)
        return self._takes[position]

    def covers(self, endpoint: str) -> bool:
        """Whether anything was recorded of `endpoint`."""
        return any(take.endpoint == endpoint for take in self._takes)

    def rewind(self) -> None:
        """Let every take answer again."""
        self._used.clear()
        self._waiting.clear()
        for position, take in enumerate(self._takes):
            self._waiting.setdefault(self._asked(take.endpoint, take.path, take.request), deque()).append(position)

    @property
    def missing(self) -> list[str]:
        """What was recorded and not asked for."""
        return [
            f"recorded in {self.path}, line {position + 2}, never asked for: {_brief(take)}"
            for position, take in enumerate(self._takes)
            if position not in self._used
        ]

    def explain(self, call: Call, path: str) -> str:
        """Return how `call` differs from what was recorded, as a diff against the nearest take."""
        asked = self._asked(call.endpoint, path, call.body)
        if asked in self._waiting:
            return f"every take of this request in {self.path} has been played: it is asked more often than recorded"
        same = [position for position, take in enumerate(self._takes) if take.endpoint == call.endpoint]
        if not same:
            return f"{self.path} holds no request to {call.endpoint}"
        unused = [position for position in same if position not in self._used] or same
        nearest = max(unused[:200], key=lambda position: self._likeness(asked, position))
        take = self._takes[nearest]
        lines = list(
            difflib.unified_diff(
                _lines(self._asked(take.endpoint, take.path, take.request)),
                _lines(asked),
                f"{self.path}, line {nearest + 2}",
                "asked now",
                lineterm="",
                n=1,
            )
        )
        if len(lines) > _DIFF_LINES:
            lines = [*lines[:_DIFF_LINES], f"… and {len(lines) - _DIFF_LINES} more lines"]
        return "\n".join(["the request has drifted from the recording:", *(line[:500] for line in lines)])

    def _likeness(self, asked: str, position: int) -> tuple[float, float]:
        take = self._takes[position]
        recorded = self._asked(take.endpoint, take.path, take.request)
        by_line = difflib.SequenceMatcher(None, _lines(recorded)[-_COMPARED:], _lines(asked)[-_COMPARED:]).ratio()
        return by_line, difflib.SequenceMatcher(None, recorded[-_COMPARED:], asked[-_COMPARED:]).quick_ratio()

    def _asked(self, endpoint: str, path: str, body: Mapping[str, Any]) -> str:
        kept = {name: value for name, value in body.items() if name not in self._ignore}
        which = path.rstrip("/").rpartition("/models")[2] if endpoint == "models" else ""
        return without_keys(json.dumps([endpoint + which, kept], sort_keys=True, ensure_ascii=False, default=plain))


def _lines(asked: str) -> list[str]:
    endpoint, body = json.loads(asked)
    shown = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False).replace("\\n", "\n")
    return [endpoint, *shown.splitlines()]


def _brief(take: Take) -> str:
    text = json.dumps(take.request, ensure_ascii=False)
    return f"{take.endpoint} {text if len(text) <= 120 else '…' + text[-119:]}"


def replies_in(take: Take) -> tuple[Reply, ...]:
    """Return the model's words in a take, one reply a choice."""
    if take.events is not None:
        return (_streamed(take),)
    body = take.response if isinstance(take.response, dict) else {}
    if take.endpoint == "chat":
        return tuple(_choice(each) for each in body.get("choices") or ())
    if take.endpoint == "responses":
        return (_response(body),)
    return (Reply(),)


def _choice(choice: Mapping[str, Any]) -> Reply:
    message = choice.get("message") or {}
    tools = tuple((each["function"]["name"], each["function"]["arguments"]) for each in message.get("tool_calls") or ())
    return Reply(message.get("content") or "", tools, message.get("refusal"), choice.get("finish_reason") or "")


def _response(body: Mapping[str, Any]) -> Reply:
    text, refusal, tools = "", None, []
    for item in body.get("output") or ():
        if item.get("type") == "function_call":
            tools.append((item["name"], item["arguments"]))
        for part in item.get("content") or ():
            text += part.get("text") or ""
            refusal = part.get("refusal", refusal)
    return Reply(text, tuple(tools), refusal)


def _streamed(take: Take) -> Reply:
    text, finish = "", ""
    for _, event in take.events or ():
        data = event.rpartition("data: ")[2]
        if not data.startswith("{"):
            continue
        chunk = json.loads(data)
        if take.endpoint == "responses":
            if chunk.get("type") == "response.completed":
                return _response(chunk["response"])
            continue
        for choice in chunk.get("choices") or ():
            text += (choice.get("delta") or {}).get("content") or ""
            finish = choice.get("finish_reason") or finish
    return Reply(text, finish_reason=finish)


def usage_in(take: Take) -> tuple[int, int, int] | None:
    """Return prompt, completion and cached tokens as the real model counted them, or None where it did not say."""
    usage = take.response.get("usage") if isinstance(take.response, dict) else None
    if not isinstance(usage, dict):
        return None
    prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    completion = usage.get("completion_tokens", usage.get("output_tokens", 0))
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return int(prompt or 0), int(completion or 0), int(details.get("cached_tokens") or 0)
