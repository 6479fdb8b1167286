"""How people talk to a model: one narrow protocol, the official client behind it, limits, retries and the journal."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tinytroupe.config import config_manager
from tinytroupe.llm.model import (
    ChatModel,
    ChatReply,
    ChatRequest,
    ModelError,
    Origin,
    RefusalError,
    ReplySchema,
    current_model,
    use_model,
)
from tinytroupe.llm.usage import Usage

if TYPE_CHECKING:
    from tinytroupe.llm.openai_model import OpenAIModel

__all__ = [
    "ChatModel",
    "ChatReply",
    "ChatRequest",
    "ModelError",
    "Origin",
    "RefusalError",
    "ReplySchema",
    "Usage",
    "current_model",
    "default_model",
    "model_in_use",
    "use_model",
]


@functools.lru_cache(maxsize=1)
def default_model() -> OpenAIModel:
    """Return the process's own model: the one that the settings describe."""
    from tinytroupe.llm.openai_model import OpenAIModel

    return OpenAIModel()


def model_in_use(own: ChatModel | None = None) -> ChatModel:
    """Return the model to ask: `own`, else the one of `use_model`, else the process's.

    While a journal is in use (`tinytroupe.control.begin`), calls go through it.
    """
    from tinytroupe.llm.journal import JournaledModel, current_journal

    model = own or current_model() or default_model()
    journal = current_journal()
    return model if journal is None else JournaledModel(model, journal, _deciding_settings)


def _deciding_settings() -> dict[str, object]:
    """Return the settings that decide a reply beside the request itself: a recording made under others is another."""
    names = ("model", "embedding_model", "temperature", "top_p", "max_completion_tokens", "reasoning_effort")
    return {name: config_manager.get(name) for name in names}
