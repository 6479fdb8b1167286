"""A request as an OpenAI-compatible API takes it."""

from __future__ import annotations

import re
from typing import Any

from tinytroupe.config import config_manager
from tinytroupe.llm.model import ChatRequest

# How much of structured output to ask a server for.
STRICT, JSON_MODE, PLAIN = range(3)

_SAMPLING = ("temperature", "top_p", "max_completion_tokens", "reasoning_effort")


def request_body(request: ChatRequest, schema_level: int = STRICT) -> dict[str, Any]:
    """Return the JSON of a chat completion: what the request asks for, and what the settings add.

    Parameters
    ----------
    request
        What is asked.
    schema_level
        ``STRICT``, ``JSON_MODE`` or ``PLAIN``: what the server knows of structured output.
    """
    model = request.model or config_manager.get("model")
    body: dict[str, Any] = {"model": model}
    for name in _SAMPLING:
        if (value := config_manager.get(name)) is not None and takes(model, name):
            body[name] = value
    body.update(request.parameters)
    if request.schema is not None:
        if schema_level == STRICT:
            schema = {"name": request.schema.name, "strict": True, "schema": request.schema.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif schema_level == JSON_MODE:
            body["response_format"] = {"type": "json_object"}
    body["messages"] = list(request.messages)
    return body


def takes(model: str, parameter: str) -> bool:
    """Tell whether a model's family takes a sampling parameter of the settings.

    Reasoning models refuse ``temperature`` and ``top_p``, the others ``reasoning_effort``. Of models whose family is
    not known, such as local ones, everything is believed.
    """
    name = model.rpartition("/")[2].lower()
    if re.match(r"o\d|gpt-5(?!-chat)", name):
        return parameter not in ("temperature", "top_p")
    if re.match(r"gpt-|chatgpt-", name):
        return parameter != "reasoning_effort"
    return True
