"""The direct door: the mock model as a `ChatModel`, without HTTP, for masses of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tinytroupe.llm.model import ChatReply, ChatRequest, ModelError, RefusalError
from tinytroupe.llm.usage import Usage
from tinytroupe.testing import wire
from tinytroupe.testing.answer import Answer
from tinytroupe.testing.call import Call
from tinytroupe.testing.faults import SPOILT

if TYPE_CHECKING:
    from tinytroupe.testing.mock_llm import MockLLM

_TRANSIENT = frozenset({0, 408, 409, 429})


def chat_body(request: ChatRequest, model: str) -> dict[str, Any]:
    """Return `request` as the API takes it; `model` for requests that name none."""
    body: dict[str, Any] = {**request.parameters, "model": request.model or model, "messages": request.messages}
    schema = request.schema
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": schema.name, "schema": schema.schema}}
    return body


def embeddings_body(texts: Sequence[str], model: str = "text-embedding-3-small") -> dict[str, Any]:
    """Return a request for vectors as the API takes it."""
    return {"model": model, "input": list(texts)}


class DirectModel:
    """Answers from a `MockLLM` in process. Faults come as `ModelError`s; nothing is retried.

    Parameters
    ----------
    mock
        The mock model that decides and counts.
    model
        Name of the model for requests that name none.
    """

    def __init__(self, mock: MockLLM, model: str = wire.DEFAULT_MODEL) -> None:
        self.mock = mock
        self.model = model

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer `request`.

        Raises
        ------
        ModelError
            For scripted faults and for requests that a strict mock does not expect; `RefusalError` for refusals.
        """
        body = chat_body(request, self.model)
        call = self.mock.arrive("chat", body, request.origin.person or None, request.messages)
        answer = await self.mock.answer(call, path="/chat/completions")
        if answer.fault is not None or answer.status != 200:
            self._raise_for(answer)
        reply = answer.replies[0]
        if reply.refusal is not None:
            raise RefusalError(f"the model refused: {reply.refusal}", status=200)
        usage = Usage(1, call.prompt_tokens, answer.completion_tokens, call.cached_tokens)
        return ChatReply(reply.text, usage, call.model, reply.finish_reason or "stop", answer.latency_s)

    def _raise_for(self, answer: Answer) -> None:
        status = answer.status
        if status != 200:
            transient = status in _TRANSIENT or status >= 500
            raise ModelError(answer.text, transient=transient, status=status or None)
        kind = answer.fault.kind if answer.fault is not None else ""
        if kind in ("refusal", "content_filter"):
            raise RefusalError(answer.text or "a content filter stopped the reply", status=200)
        if kind == "empty_choices" or kind in SPOILT:
            raise ModelError(f"the model's answer is unusable: {kind}", transient=True, status=200)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector a text, in order."""
        call: Call = self.mock.arrive("embeddings", embeddings_body(texts))
        answer = await self.mock.answer(call, path="/embeddings")
        if answer.fault is not None or answer.status != 200:
            self._raise_for(answer)
        if answer.take is not None:
            return [wire.vector_in(each) for each in answer.payload()["data"]]
        size = wire.embedding_size(call)
        return [list(wire.embedding(text, size)) for text in texts]

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""
