"""The mock model's direct door behind the gate of the real path: limits are kept, and nothing is sent."""

from __future__ import annotations

from collections.abc import Sequence

from tinytroupe.llm import ChatReply, ChatRequest
from tinytroupe.llm.gate import Gate
from tinytroupe.testing import DirectModel, MockLLM

_CHARACTERS_PER_TOKEN = 4  # as of the real path


class GatedModel:
    """A `ChatModel` that a `MockLLM` answers in process, as many calls at once and a minute as a gate lets through.

    Parameters
    ----------
    mock
        Who answers.
    gate
        Whom calls have to pass.
    """

    def __init__(self, mock: MockLLM, gate: Gate) -> None:
        self._direct = DirectModel(mock)
        self.gate = gate

    async def complete(self, request: ChatRequest) -> ChatReply:
        """See `ChatModel.complete`."""
        characters = sum(len(str(message.get("content", ""))) for message in request.messages)
        async with self.gate.slot(characters // _CHARACTERS_PER_TOKEN, request.origin.simulation) as slot:
            reply = await self._direct.complete(request)
            self.gate.on_success(slot)
            self.gate.correct(slot, reply.usage.tokens)
        # Not `replace`: it would look at every field, and there are many replies.
        return ChatReply(
            reply.text, reply.usage, reply.model, reply.finish_reason, reply.latency_s, slot.queued_s, reply.latency_s
        )

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See `ChatModel.embed`."""
        return await self._direct.embed(texts)

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""
