"""What the mock model decided to answer, ready to be put on the wire by one of its doors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tinytroupe.testing import wire
from tinytroupe.testing.call import Call
from tinytroupe.testing.faults import CONTENT, Fault
from tinytroupe.testing.rules import Reply

_JSON = ("content-type", "application/json")
_EVENTS = ("content-type", "text/event-stream; charset=utf-8")


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

    @property
    def status(self) -> int:
        """HTTP status; 0 where the connection fails."""
        return 200 if self.fault is None else self.fault.status

    @property
    def broken(self) -> str:
        """Name of the fault of the connection or of the transfer, or ``""``."""
        fault = self.fault
        return str(fault.kind) if fault is not None and (fault.status == 0 or fault.kind == "body_cut") else ""

    @property
    def text(self) -> str:
        """The model's words, or the error's message."""
        if self.replies:
            return self.replies[0].text or self.replies[0].refusal or ""
        return "" if self.fault is None or self.fault.kind in CONTENT else self.error["error"]["message"]

    @property
    def error(self) -> dict[str, Any]:
        """The error as JSON."""
        return (self.fault or Fault()).error_body()

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.status == 200 and self.call.stream and self.call.endpoint in ("chat", "responses")

    def headers(self) -> list[tuple[str, str]]:
        """Return the response's headers."""
        found = [
            _EVENTS if self.streams else _JSON,
            ("x-request-id", f"req_mock_{self.call.index}"),
            *self.rate_headers,
        ]
        if self.fault is not None:
            found += self.fault.response_headers()
        return found

    def payload(self) -> dict[str, Any]:
        """Return the response's JSON."""
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
        if self.fault is not None and self.fault.kind == "malformed_body":
            return b'{"id": "chatcmpl-broken", "choices": [{"index": 0, "mess'
        return json.dumps(self.payload()).encode()

    def events(self) -> Iterator[bytes]:
        """Yield the server-sent events of an answer that streams."""
        if self.call.endpoint == "responses":
            return wire.response_events(self.call, self.replies[0] if self.replies else Reply(), self.completion_tokens)
        return wire.chat_events(self.call, self.replies, self.completion_tokens)
