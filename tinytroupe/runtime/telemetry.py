"""Spans and metrics for OpenTelemetry, by the names of its conventions for generative AI. Nothing without it.

Names after the "Semantic conventions for generative AI systems" (opentelemetry.io/docs/specs/semconv/gen-ai), whose
status is "Development": they are written out here, since the package of names changes them from release to release.
What people say and are asked is never part of a span.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

from tinytroupe._version import __version__

DURATION_BUCKETS_S = tuple(0.01 * 2**power for power in range(14))
"""Bounds that the conventions name for durations: 0.01 to 81.92 s."""
TOKEN_BUCKETS = tuple(4**power for power in range(14))
"""The same for tokens: 1 to 67,108,864."""

_DURATIONS = {
    "chat": "gen_ai.client.operation.duration",
    "embeddings": "gen_ai.client.operation.duration",
    "invoke_agent": "gen_ai.invoke_agent.duration",
    "invoke_workflow": "gen_ai.workflow.duration",
}
_DIMENSIONS = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.agent.name",
    "gen_ai.workflow.name",
    "server.address",
    "server.port",
    "error.type",
)
"""Attributes of a span that are those of its metrics, too: few values each."""


class operation:
    """One thing that is done, for the length of a ``with`` block on an event loop: a span, and its duration.

    A block that raises, or for which `failed` was called, has failed. Where the program has not imported OpenTelemetry
    nobody could listen, and nothing is done.

    Parameters
    ----------
    name
        ``chat``, ``embeddings``, ``invoke_agent``, ``invoke_workflow``, ``execute_tool``, ``search_memory`` or
        ``update_memory``.
    subject
        What the span is named after, besides: a model, a person, a world.
    attributes
        By their conventional names.

    Attributes
    ----------
    excluded_s
        Seconds that are not part of the duration: the waiting at our own gate.
    """

    __slots__ = ("_api", "_attributes", "_began_s", "_name", "_span", "_subject", "_token", "excluded_s")

    def __init__(self, name: str, subject: str, attributes: Mapping[str, Any]) -> None:
        self._api = _api()
        self._name, self._subject, self._attributes = name, subject, attributes
        self._span: Any = None
        self.excluded_s = 0.0

    def __enter__(self) -> operation:
        api = self._api
        if api is None:
            return self
        self._attributes = {"gen_ai.operation.name": self._name, **self._attributes}
        kind = api.trace.SpanKind.CLIENT if self._name in ("chat", "embeddings") else api.trace.SpanKind.INTERNAL
        title = f"{self._name} {self._subject}".rstrip()
        self._span = api.tracer.start_span(title, kind=kind, attributes=self._attributes)
        self._token = api.context.attach(api.trace.set_span_in_context(self._span))
        self._began_s = asyncio.get_running_loop().time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        api = self._api
        if api is None:
            return
        if error is not None:
            self.failed(error)
        if (metric := _DURATIONS.get(self._name)) is not None:
            elapsed_s = asyncio.get_running_loop().time() - self._began_s - self.excluded_s
            api.durations[metric].record(max(elapsed_s, 0.0), self._dimensions())
        api.context.detach(self._token)
        self._span.end()

    def note(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes to the span; those that are dimensions of its metrics, to these as well."""
        if self._api is not None:
            self._attributes = {**self._attributes, **attributes}
            self._span.set_attributes(attributes)

    def tokens(self, prompt: int, completion: int) -> None:
        """Count tokens, as the provider counted them."""
        if self._api is None:
            return
        self._span.set_attributes({"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": completion})
        for kind, count in (("input", prompt), ("output", completion)):
            self._api.tokens.record(count, {**self._dimensions(), "gen_ai.token.type": kind})

    def failed(self, error: BaseException) -> None:
        """Say that it failed, though the block does not raise."""
        if self._api is None:
            return
        status = getattr(error, "status", None)
        self.note({"error.type": str(status) if isinstance(status, int) else type(error).__qualname__})
        self._span.set_status(self._api.trace.Status(self._api.trace.StatusCode.ERROR, str(error)[:1000]))

    def _dimensions(self) -> dict[str, Any]:
        return {name: self._attributes[name] for name in _DIMENSIONS if name in self._attributes}


@dataclass(frozen=True, slots=True)
class _Api:
    """OpenTelemetry, as far as it is used."""

    trace: ModuleType
    context: ModuleType
    tracer: Any
    durations: Mapping[str, Any]
    tokens: Any


def _api() -> _Api | None:
    # Whoever listens has imported it. To import it here would take its time inside the event loop, for nobody.
    return _connected() if "opentelemetry.trace" in sys.modules else None


@functools.lru_cache(maxsize=1)
def _connected() -> _Api:
    from opentelemetry import context, metrics, trace

    meter = metrics.get_meter("tinytroupe", __version__)
    return _Api(
        trace,
        context,
        trace.get_tracer("tinytroupe", __version__),
        {
            name: meter.create_histogram(name, "s", explicit_bucket_boundaries_advisory=DURATION_BUCKETS_S)
            for name in sorted(set(_DURATIONS.values()))
        },
        meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", explicit_bucket_boundaries_advisory=TOKEN_BUCKETS
        ),
    )
