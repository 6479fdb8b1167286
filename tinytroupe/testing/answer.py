"""What the mock model decided to answer, ready to be put on the wire by one of its doors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tinytroupe.testing import wire
from tinytroupe.testing.call import Call
from tinytroupe.testing.faults import CONTENT, Fault
from tinytroupe.testing.recording import Take
from tinytroupe.testing.rules import Reply

_JSON = ("content-type", "application/json")
_EVENTS = ("content-type", "text/event-stream; charset=utf-8")
_PAGE = ("content-type", "text/html; charset=utf-8")
_HALF = b'{"id": "chatcmpl-broken", "choices": [{"index": 0, "mess'


@dataclass(slots=True)
class Answer:
    """An answer with the time it takes.

    Attributes
    ----------
    call
        The request answered.
    replies
        The model's words, one a choice; empty with an error.
    fault
        What goes wrong, or None.
    latency_s
        Seconds until the answer (or the failure of the connection) shows.
    chunk_delay_s
        Seconds between two events of a stream.
    rate_headers
        Headers about emulated rate limits.
    take
        The recorded exchange it plays back, if any, and whether at the pace recorded.
    """

    call: Call
    replies: tuple[Reply, ...]
    fault: Fault | None
    latency_s: float
    completion_tokens: int
    chunk_delay_s: float = 0.0
    rate_headers: tuple[tuple[str, str], ...] = ()
    models: tuple[str, ...] = ()
    path: str = ""
    take: Take | None = None
    recorded_timing: bool = False

    @property
    def status(self) -> int:
        """HTTP status; 0 where the connection fails."""
        if self.fault is not None:
            return self.fault.status
        return 200 if self.take is None else self.take.status

    @property
    def broken(self) -> str:
        """Name of the fault of the connection or of the transfer, or ``""``; of a stream that begins, ``""``."""
        fault = self.fault
        if fault is None:
            return ""
        return str(fault.kind) if fault.status == 0 or (fault.kind == "body_cut" and not self.streams) else ""

    @property
    def cut(self) -> bool:
        """Whether the connection breaks at the end of `events`."""
        return self.streams and (self.take.cut if self.take is not None else self._spoilt == "body_cut")

    @property
    def _spoilt(self) -> Any:
        return None if self.fault is None else self.fault.kind

    @property
    def text(self) -> str:
        """The model's words, or the error's message."""
        if self.replies:
            return self.replies[0].text or self.replies[0].refusal or ""
        return "" if self.status == 200 and (self.fault is None or self.fault.kind in CONTENT) else self._said()

    def _said(self) -> str:
        error = self.error.get("error")
        return str(error.get("message", "") if isinstance(error, dict) else error or "")

    @property
    def error(self) -> dict[str, Any]:
        """The error as JSON."""
        if self.fault is None and self.take is not None:
            return self.take.response if isinstance(self.take.response, dict) else {"error": str(self.take.response)}
        return (self.fault or Fault()).error_body()

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream of events."""
        if self.take is not None and self.fault is None:
            return self.take.events is not None
        talks = self.call.stream and self.call.endpoint in ("chat", "responses")
        return talks and self.status == 200 and self._spoilt != "web_page"

    def headers(self) -> list[tuple[str, str]]:
        """Return the response's headers."""
        found = [
            _EVENTS if self.streams else _PAGE if self._spoilt == "web_page" else _JSON,
            ("x-request-id", f"req_mock_{self.call.index}"),
            *self.rate_headers,
        ]
        if self.take is not None and self.fault is None:
            found += [(name, value) for name, value in self.take.headers.items() if name != "content-type"]
            if isinstance(self.take.response, str):
                found[0] = ("content-type", self.take.headers.get("content-type", "text/plain"))
        if self.fault is not None:
            found += self.fault.response_headers()
        return found

    def payload(self) -> dict[str, Any]:
        """Return the response's JSON."""
        if self.take is not None and self.fault is None:
            return self.take.response  # type: ignore[no-any-return]
        if self.status != 200:
            return self.error
        endpoint = self.call.endpoint
        if endpoint == "chat":
            return wire.chat_completion(self.call, self.replies, self.completion_tokens)
        if endpoint == "responses":
            return wire.response(self.call, self.replies[0] if self.replies else Reply(), self.completion_tokens)
        if endpoint == "embeddings":
            return wire.embeddings(self.call)
        return wire.models(self.path, self.models)

    def body(self) -> bytes:
        """Return the response's bytes (of an answer that does not stream)."""
        if self._spoilt == "malformed_body":
            return _HALF
        if self._spoilt == "web_page":
            return b"<!DOCTYPE html><title>Sign in</title><p>Please sign in to use this network.</p>"
        if self.take is not None and self.fault is None and isinstance(self.take.response, str):
            return self.take.response.encode()
        return json.dumps(self.payload()).encode()

    def events(self) -> Iterator[tuple[float, bytes]]:
        """Yield the server-sent events of an answer that streams, each with the seconds to wait before it."""
        delay_s = 0.0
        if self.take is not None and self.fault is None:
            for recorded_s, text in self.take.events or ():
                yield recorded_s if self.recorded_timing else delay_s, (text + "\n\n").encode()
                delay_s = self.chunk_delay_s
            return
        for event in self._made_up():
            yield delay_s, event
            delay_s = self.chunk_delay_s

    def _made_up(self) -> Iterator[bytes]:
        if self._spoilt == "malformed_body":
            return iter((b"data: " + _HALF + b"\n\n",))
        if self.call.endpoint == "responses":
            reply = self.replies[0] if self.replies else Reply()
            events = wire.response_events(self.call, reply, self.completion_tokens)
        else:
            events = wire.chat_events(self.call, self.replies, self.completion_tokens)
        if self._spoilt in ("body_cut", "stream_error"):
            whole = list(events)
            half = whole[: max(1, len(whole) // 2)]
            if self._spoilt == "stream_error":
                half.append(wire.error_event(self.call, self.error["error"], len(half)))
            return iter(half)
        return events
