"""What can go wrong between a program and a model, by name or by status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# name -> (status, type, code, message) of faults that are answered with an error body
_STATUSES: dict[str, tuple[int, str, str | None, str]] = {
    "bad_request": (400, "invalid_request_error", None, "The request is malformed."),
    "context_length": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. Please reduce the length of the messages.",
    ),
    "schema_rejected": (400, "invalid_request_error", None, "Invalid parameter: 'response_format' is not supported."),
    "invalid_key": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    "permission": (403, "permission_error", None, "You are not allowed to use this model."),
    "not_found": (404, "invalid_request_error", "model_not_found", "The model does not exist."),
    "conflict": (409, "conflict_error", None, "The request conflicts with another."),
    "unprocessable": (422, "invalid_request_error", None, "The request cannot be processed."),
    "rate_limit": (429, "requests", "rate_limit_exceeded", "Rate limit reached."),
    "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    "server_error": (500, "server_error", None, "The server had an error while processing the request."),
    "bad_gateway": (502, "server_error", None, "Bad gateway."),
    "overloaded": (503, "server_error", None, "The engine is currently overloaded."),
    "gateway_timeout": (504, "server_error", None, "Gateway time-out."),
}
_BY_STATUS = {status: name for name, (status, *_) in reversed(_STATUSES.items())} | {400: "bad_request"}

# connection: refused · reset: broken off before an answer · timeout: the client's read time-out strikes at once ·
# stall: no answer until the client's own time-out · connect_timeout, pool_timeout · body_cut: the body or the stream
# ends early · malformed_body: half a JSON document · web_page: a proxy's page in place of JSON · stream_error: an error
# event in the middle of a stream (without a stream: status 500)
TRANSPORT = (
    "connection", "reset", "timeout", "stall", "connect_timeout", "pool_timeout",
    "body_cut", "malformed_body", "web_page", "stream_error",
)  # fmt: skip
SPOILT = frozenset(TRANSPORT[6:])
# answered with status 200, but not with what was asked for
CONTENT = ("malformed", "wrong_schema", "empty", "empty_choices", "refusal", "content_filter", "length")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to answer with.

    Attributes
    ----------
    kind
        One of the names that `kinds` lists, or an HTTP status from 400 to 599.
    message
        What the error says; empty = a usual one.
    retry_after
        Seconds, or an HTTP date as text, for the header ``retry-after``; None = no header.
    retry_after_ms
        Milliseconds for the header ``retry-after-ms``; None = no header.
    should_retry
        For the header ``x-should-retry``; None = no header.
    after_s
        Seconds until it shows; None = at once for 4xx and refused connections, after the mock's latency for the others.
    headers
        Further response headers.
    """

    kind: str | int = "server_error"
    message: str = ""
    retry_after: float | str | None = None
    retry_after_ms: float | None = None
    should_retry: bool | None = None
    after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.kind, int) and not isinstance(self.kind, bool):
            if not 400 <= self.kind <= 599:
                raise ValueError(f"a fault's status must be from 400 to 599, not {self.kind}")
        elif self.kind not in kinds():
            import difflib

            near = difflib.get_close_matches(str(self.kind), kinds(), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown fault {self.kind!r}{hint} Known are {', '.join(kinds())} and HTTP statuses.")
        if self.after_s is not None and not self.after_s >= 0:
            raise ValueError(f"after_s must be ≥ 0 seconds, not {self.after_s!r}")

    @property
    def name(self) -> str:
        """Name of the fault: `kind` itself, or the usual name of the status."""
        return self.kind if isinstance(self.kind, str) else _BY_STATUS.get(self.kind, f"status_{self.kind}")

    @property
    def status(self) -> int:
        """HTTP status of the answer; 0 where the connection fails instead, 200 where only the content is bad."""
        if isinstance(self.kind, int):
            return self.kind
        if self.kind in _STATUSES:
            return _STATUSES[self.kind][0]
        return 0 if self.kind in TRANSPORT[:6] else 200

    @property
    def immediate(self) -> bool:
        """Whether it shows before the model would have begun to think."""
        return 400 <= self.status < 500 or self.kind in ("connection", "connect_timeout", "pool_timeout")

    def response_headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers that tell a client how to go on."""
        found = list(self.headers.items())
        if self.retry_after is not None:
            found.append(
                ("retry-after", self.retry_after if isinstance(self.retry_after, str) else f"{self.retry_after:g}")
            )
        if self.retry_after_ms is not None:
            found.append(("retry-after-ms", f"{self.retry_after_ms:g}"))
        if self.should_retry is not None:
            found.append(("x-should-retry", str(self.should_retry).lower()))
        return tuple(found)

    def error_body(self) -> dict[str, Any]:
        """Return the JSON of an error answer."""
        name = "server_error" if self.kind == "stream_error" else self.name
        _, kind, code, usual = _STATUSES.get(name, (0, "server_error", None, f"Simulated fault {name}."))
        return error_body(self.message or usual, kind, code)


def error_body(message: str, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    """Return an error as the API writes it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def kinds() -> tuple[str, ...]:
    """Return the names of all faults."""
    return (*_STATUSES, *TRANSPORT, *CONTENT)


def as_fault(kind: str | int | Fault | None = None, *, status: int | None = None, **details: Any) -> Fault:
    """Return a fault from what `MockLLM.fail` takes: a name, a status, or a ready `Fault`."""
    if isinstance(kind, Fault):
        if status is not None or details:
            raise TypeError("a ready Fault takes no further arguments")
        return kind
    if kind is not None and status is not None:
        raise TypeError(f"give a fault's name ({kind!r}) or its status ({status}), not both")
    if kind is None and status is None:
        kind = "server_error"
    return Fault(status if kind is None and status is not None else kind or "server_error", **details)
