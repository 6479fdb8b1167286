"""One question to a model, one object back: read, repaired where its meaning is plain, checked, and bounded."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tinytroupe.agent.action import ReplyError
from tinytroupe.config import config_manager
from tinytroupe.llm import ChatModel, ChatRequest, Usage

T = TypeVar("T")

logger = logging.getLogger("tinytroupe.extraction")

_FENCE = re.compile(r"```(?:json)?\s*\n?(.*?)```", re.DOTALL)


async def ask(
    model: ChatModel, request: ChatRequest, read: Callable[[dict[str, Any]], T], spent: Callable[[Usage], None]
) -> T:
    """Ask for an object and return what `read` makes of it.

    One call where the reply is as it should be. Where it is not, the model is told what is wrong and asked again, at
    most ``MAX_REPLY_REPAIRS`` times.

    Parameters
    ----------
    model
        Who is asked.
    request
        What is asked; its schema must be that of an object.
    read
        Checks the object and makes something of it; raises ValueError, in words that a model can act on.
    spent
        Is told what each call cost.

    Raises
    ------
    ModelError
        The model can't be asked or does not answer.
    ReplyError
        It keeps answering in a way that can't be used; carries the beginning of its last reply.
    """
    repairs, most = config_manager.get("max_reply_repairs"), config_manager.get("max_reply_characters")
    asked = request
    while True:
        reply = await model.complete(asked)
        spent(reply.usage)
        try:
            found = parse_object(reply.text, max_characters=most)
            try:
                return read(found)
            except ValueError as error:
                raise ReplyError(f"the reply does not fit: {str(error)[:1000]}", reply.text) from error
        except ReplyError as error:
            if repairs == 0:
                raise
            repairs -= 1
            logger.info("asking again: %s", error)
            wrong = str(error).partition("; the reply was:")[0][:1000]
            correction = f"That could not be used: {wrong}. Reply again with the JSON object alone."
            again = ({"role": "assistant", "content": error.raw}, {"role": "user", "content": correction})
            asked = replace(asked, messages=[*request.messages, *again])


def parse_object(text: str, *, max_characters: int) -> dict[str, Any]:
    """Read a JSON object out of text that a model wrote.

    Fences, text around the object, trailing commas and missing braces are mended. Nothing is evaluated.

    Raises
    ------
    ReplyError
        Empty, too long, nested too deeply, or no object.
    """
    if len(text) > max_characters:
        raise ReplyError(f"the text has {len(text):,} characters, more than the {max_characters:,} allowed", text)
    if not text.strip():
        raise ReplyError("the text is empty", text)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = _mended(text)
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, Mapping):
        raise ReplyError(f"a JSON object was asked for, not {type(data).__name__}", text)
    return dict(data)


def _mended(text: str) -> Any:
    fenced = _FENCE.search(text)
    body = fenced.group(1) if fenced else text
    if "{" not in body:
        raise ReplyError("the text is not JSON", text)
    import json_repair

    try:
        return json_repair.loads(body[body.index("{") :])
    except (ValueError, RecursionError) as error:
        raise ReplyError("the text is not JSON and can't be repaired", text) from error


def instructed(instructions: str, question: str) -> Sequence[Mapping[str, Any]]:
    """Return the two messages of a question: what is always the same first, so that providers can cache it."""
    return [{"role": "system", "content": instructions}, {"role": "user", "content": question}]
