"""The one narrow seam between the simulation and any model: a request goes in, a reply comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from tinytroupe.llm.usage import Usage

Message = Mapping[str, Any]
"""One chat message as the API takes it: ``{"role": …, "content": …}``."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asked, and for what: the address of a model call inside a simulation.

    Attributes
    ----------
    simulation
        Name of the world or of the recorded simulation; empty outside of any.
    person
        Name of the person on whose behalf the call is made; empty for calls of the program itself.
    call
        The person's own call number, from 0. It does not depend on the order in which persons finish.
    step
        The world's step, from 0; -1 outside of a step.
    """

    simulation: str = ""
    person: str = ""
    call: int = 0
    step: int = -1


@dataclass(frozen=True, slots=True)
class ReplySchema:
    """A JSON schema that the reply must follow (strict structured output)."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Everything that decides a chat completion.

    Attributes
    ----------
    messages
        The conversation, oldest first.
    model
        Model name; empty = the model named in the settings.
    schema
        Shape of the reply, or None for free text.
    parameters
        Further sampling parameters (``temperature``, ``max_completion_tokens``, …) as the API names them.
    origin
        Who asked. It takes no part in what is sent.
    """

    messages: Sequence[Message]
    model: str = ""
    schema: ReplySchema | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = Origin()


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The reply of a model.

    Attributes
    ----------
    text
        Content of the assistant's message.
    usage
        Calls and tokens spent, retries included.
    model
        The model that answered, as it calls itself.
    finish_reason
        ``stop``, ``length``, … as the API reports it.
    latency_s
        Seconds between sending and reply of the successful attempt, on the loop's clock.
    queued_s
        Seconds spent waiting for a slot or for a rate limit, on the loop's clock.
    slot_s
        Seconds spent at a slot, failed attempts included, the waiting between them not; None where it is not known.
    """

    text: str
    usage: Usage = Usage(calls=1)
    model: str = ""
    finish_reason: str = "stop"
    latency_s: float = 0.0
    queued_s: float = 0.0
    slot_s: float | None = None


@runtime_checkable
class ChatModel(Protocol):
    """What a simulation needs from a model."""

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer `request`, or raise a `ModelError`."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text, in order."""
        ...

    async def aclose(self) -> None:
        """Release what belongs to the running loop (connections)."""
        ...


class ModelError(Exception):
    """A model call failed. The cause is chained.

    Attributes
    ----------
    transient
        True where the same call may succeed later (rate limit, overload, connection lost, time-out);
        False where it can't until something is changed (key, model name, malformed request).
    status
        HTTP status where there was one.
    """

    def __init__(self, message: str, *, transient: bool = False, status: int | None = None) -> None:
        super().__init__(message)
        self.transient = transient
        self.status = status


class RefusalError(ModelError):
    """The model refused to answer, or a content filter stopped the reply."""


class ContextLengthError(ModelError):
    """The request is longer than the model can read; a person tries once more with fewer memories."""


_model: ContextVar[ChatModel | None] = ContextVar("tinytroupe_model", default=None)


def current_model() -> ChatModel | None:
    """Return the model set by `use_model`, if any."""
    return _model.get()


@contextmanager
def use_model(model: ChatModel) -> Iterator[ChatModel]:
    """Make `model` the one that persons and worlds use inside the ``with`` block, unless they have their own."""
    token = _model.set(model)
    try:
        yield model
    finally:
        _model.reset(token)
