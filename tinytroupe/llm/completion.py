"""What a chat completion's JSON says: untrusted, and read without a tree of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinytroupe.llm.model import ChatReply, ModelError, RefusalError
from tinytroupe.llm.usage import Usage


def chat_reply(completion: Any) -> ChatReply:
    """Turn the JSON of a completion into a `ChatReply`.

    Servers that call themselves compatible leave fields out or send null: nothing is taken for granted.

    Raises
    ------
    ModelError
        It holds no choice.
    RefusalError
        The model refused, or a content filter stopped the reply.
    """
    choices = completion.get("choices") if isinstance(completion, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = _object(choice, "message")
    if not isinstance(choice, dict) or not message:
        raise ModelError("the model's answer holds no choice", transient=True)
    if refusal := message.get("refusal"):
        raise RefusalError(f"the model refused: {str(refusal)[:1000]}")
    finish_reason = choice.get("finish_reason") or ""
    if finish_reason == "content_filter":
        raise RefusalError("a content filter stopped the reply")
    usage = _object(completion, "usage")
    content = message.get("content")
    return ChatReply(
        text=content if isinstance(content, str) else "",
        usage=Usage(
            calls=1,
            prompt_tokens=_count(usage, "prompt_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            cached_tokens=_count(_object(usage, "prompt_tokens_details"), "cached_tokens"),
        ),
        model=str(completion.get("model") or ""),
        finish_reason=str(finish_reason),
    )


def _object(holder: Any, key: str) -> Mapping[str, Any]:
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def _count(holder: Mapping[str, Any], key: str) -> int:
    found = holder.get(key)
    return found if isinstance(found, int) else 0
