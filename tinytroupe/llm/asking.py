"""One question to a model, one object back: read, repaired where its meaning is plain, checked, and bounded."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tinytroupe.config import config_manager
from tinytroupe.llm.model import ChatModel, ChatReply, ChatRequest, Message

T = TypeVar("T")

logger = logging.getLogger("tinytroupe.llm")

_RAW_SHOWN = 500
_FENCE = re.compile(r"```(?:json)?\s*\n?(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[\[{]")


class ReplyError(ValueError):
    """A model's reply can't be used.

    Attributes
    ----------
    raw
        The beginning of the reply, at most 500 characters.
    """

    def __init__(self, message: str, raw: str) -> None:
        self.raw = raw[:_RAW_SHOWN]
        more = f"… ({len(raw):,} characters in all)" if len(raw) > _RAW_SHOWN else ""
        super().__init__(f"{message}; the reply was: {self.raw!r}{more}" if raw else message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (self.args, self.raw)


def _as_it_was(args: tuple[Any, ...], raw: str) -> ReplyError:
    error = ReplyError("", "")
    error.args, error.raw = args, raw
    return error


async def ask(
    model: ChatModel,
    next_request: Callable[[Sequence[Message]], ChatRequest],
    messages: Sequence[Message],
    read: Callable[[str], T],
    answered: Callable[[ChatReply], None],
) -> T:
    """Ask, and return what `read` makes of the reply.

    One call where the reply is as it should be. Where it is not, the model is told what is wrong and asked again, at
    most ``MAX_REPLY_REPAIRS`` times. A reply that was cut off (``finish_reason`` is ``length``) is never used.

    Parameters
    ----------
    model
        Who is asked.
    next_request
        Makes a request of messages; called for every attempt, so that each is a call of its own.
    messages
        The question.
    read
        Makes something of the reply's text. Raises ValueError, in words that a model can act on, where it can't.
    answered
        Is told of each reply: what it cost, how long it took.

    Raises
    ------
    ModelError
        The model can't be asked or does not answer.
    ReplyError
        It keeps answering in a way that can't be used; carries the beginning of its last reply.
    """
    repairs = config_manager.get("max_reply_repairs")
    asked = messages
    while True:
        reply = await model.complete(next_request(asked))
        answered(reply)
        try:
            if reply.finish_reason == "length":
                # What was mended of half a sentence would look like the whole.
                raise ReplyError("the reply was cut off at its greatest length; say it in fewer words", reply.text)
            return read(reply.text)
        except ValueError as error:
            failure = error if isinstance(error, ReplyError) else _unfit(error, reply.text)
            if repairs == 0:
                raise failure from failure.__cause__
            repairs -= 1
            logger.info("asking again: %s", failure)
            # The model sees its reply anyway, and not what a text says about it a second time.
            wrong = str(failure).partition("; the reply was:")[0][:1000]
            correction = f"That could not be used: {wrong}. Reply again with the JSON object alone."
            asked = [
                *messages,
                {"role": "assistant", "content": failure.raw},
                {"role": "user", "content": correction},
            ]


def _unfit(error: ValueError, text: str) -> ReplyError:
    failure = ReplyError(f"the reply does not fit: {str(error)[:1000]}", text)
    failure.__cause__ = error
    return failure


def read_json(text: str, *, max_characters: int | None = None) -> Any:
    """Read JSON that a model wrote. Nothing is evaluated.

    Fences, text around it, trailing commas and missing braces are mended.

    Parameters
    ----------
    text
        The reply.
    max_characters
        Longest text that is looked at; default: setting ``MAX_REPLY_CHARACTERS``.

    Raises
    ------
    ReplyError
        Empty, too long, nested too deeply, or not JSON.
    """
    most = config_manager.get("max_reply_characters") if max_characters is None else max_characters
    if len(text) > most:
        raise ReplyError(f"the reply has {len(text):,} characters, more than the {most:,} allowed", text)
    if not text.strip():
        raise ReplyError("the reply is empty", text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _inside(text) or _repaired(text)


def read_object(text: str, *, max_characters: int | None = None) -> dict[str, Any]:
    """Read a JSON object that a model wrote, or the only one in a list; otherwise as `read_json`."""
    data = read_json(text, max_characters=max_characters)
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, Mapping):
        raise ReplyError(f"a JSON object was asked for, not {type(data).__name__}", text)
    return dict(data)


def instructed(instructions: str, question: str) -> Sequence[Message]:
    """Return the two messages of a question: what is always the same first, so that providers can cache it."""
    return [{"role": "system", "content": instructions}, {"role": "user", "content": question}]


def _inside(text: str) -> Any:
    """Return what is sound JSON amid other text, such as a Markdown fence; None where there is none."""
    opening = _OPENING.search(text)
    try:
        data = json.JSONDecoder().raw_decode(text, opening.start())[0] if opening else None
    except (ValueError, RecursionError):
        return None
    whole = isinstance(data, dict) or (isinstance(data, list) and all(isinstance(item, dict) for item in data))
    return data if whole else None


def _repaired(text: str) -> Any:
    fenced = _FENCE.search(text)
    body = fenced.group(1) if fenced else text
    if "{" not in body:
        raise ReplyError("the reply is not JSON", text)
    import json_repair

    try:
        return json_repair.loads(body[body.index("{") :])
    except (ValueError, RecursionError) as error:
        raise ReplyError("the reply is not JSON and can't be repaired", text) from error
