"""Requests and replies as bytes: a canonical form to tell requests apart by, to store, and to compare for a reader."""

from __future__ import annotations

import difflib
import hashlib
import json
import textwrap
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from tinytroupe.llm.model import ChatReply, ChatRequest, ReplySchema
from tinytroupe.llm.usage import Usage

DIFF_LINES = 60
"""Longest difference shown, lines."""
_DIFF_INPUT_LINES = 400  # difflib is quadratic: what is compared is bounded too
_DIFF_WIDTH = 110

_MIN_PREFIX = 256  # characters from which it pays to store the prefix apart
_SCHEMAS_KEPT = 64
_REPLY = tuple(each.name for each in fields(ChatReply) if each.name != "slot_s")
_USAGE = tuple(each.name for each in fields(Usage))

_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_schemas: dict[int, tuple[ReplySchema, str]] = {}


@dataclass(frozen=True, slots=True)
class Canonical:
    """Everything that decides a reply, as bytes: equal requests, equal bytes.

    Attributes
    ----------
    prefix
        What a person's requests have in common, the schema and the first message; may be empty.
    rest
        A line of JSON (sorted keys) that describes the request, with lengths in place of long texts, then those texts
        as they are: escaping 10 KB of prompt for every call would cost more than all the rest.
    hash
        16 bytes that tell it from others.
    prefix_hash
        The same for the prefix.
    """

    prefix: bytes
    rest: bytes
    hash: bytes
    prefix_hash: bytes


def canonical_request(request: ChatRequest, settings: Mapping[str, Any]) -> Canonical:
    """Return the canonical form of a request to complete.

    Parameters
    ----------
    request
        The request; its origin takes no part. Its schema must not be changed in place afterwards.
    settings
        What decides the reply besides the request.

    Raises
    ------
    TypeError
        A parameter or message holds something that JSON does not know.
    """
    schema = "" if request.schema is None else _schema_text(request.schema)
    texts = [schema]
    messages = []
    for message in request.messages:
        plain = dict(message)
        content = plain.get("content")
        if isinstance(content, str):
            texts.append(content)
            plain["content"] = len(content)
        else:
            plain["content"] = [content]  # in a list, so that it is never taken for a length
        messages.append(plain)
    header = {
        "messages": messages,
        "model": request.model,
        "parameters": dict(request.parameters),
        "schema": request.schema and request.schema.name,
        "schema_length": len(schema),
        "settings": dict(settings),
    }
    split = 2 if sum(map(len, texts[:2])) >= _MIN_PREFIX else 0
    return _canonical("".join(texts[:split]), f"{_encode(header)}\n{''.join(texts[split:])}")


def canonical_text(text: str, settings: Mapping[str, Any]) -> Canonical:
    """Return the canonical form of a text to embed."""
    return _canonical("", _encode({"embed": text, "settings": dict(settings)}) + "\n")


def readable(prefix: bytes, rest: bytes) -> dict[str, Any]:
    """Return the content of a canonical form: the described request with its texts in place."""
    header, _, texts = _text(rest).partition("\n")
    content: dict[str, Any] = json.loads(header)
    texts = _text(prefix) + texts
    start = content.pop("schema_length", 0)
    if start:
        content["schema"] = f"{content['schema']} {texts[:start]}"
    for message in content.get("messages", ()):
        length = message["content"]
        if isinstance(length, int):
            message["content"] = texts[start : start + length]
            start += length
        else:
            message["content"] = length[0]
    return content


def _canonical(prefix: str, rest: str) -> Canonical:
    prefix_bytes, rest_bytes = _bytes(prefix), _bytes(rest)
    prefix_hash = hashlib.blake2b(prefix_bytes, digest_size=16).digest()
    return Canonical(
        prefix_bytes, rest_bytes, hashlib.blake2b(prefix_hash + rest_bytes, digest_size=16).digest(), prefix_hash
    )


def _schema_text(schema: ReplySchema) -> str:
    # Turned into text once, not for every call. The entry keeps the schema alive, so that its id stays its own.
    entry = _schemas.get(id(schema))
    if entry is None:
        if len(_schemas) >= _SCHEMAS_KEPT:
            _schemas.clear()
        entry = _schemas[id(schema)] = (schema, _encode(dict(schema.schema)))
    return entry[1]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # replies may hold lone surrogates, and end up in prompts


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogatepass")


def encode_reply(reply: ChatReply) -> bytes:
    """Return `reply` as JSON, without what only the run that asked has use for; `decode_reply` reads it."""
    told: dict[str, Any] = {name: getattr(reply, name) for name in _REPLY}  # `asdict` takes four times as long
    told["usage"] = {name: getattr(reply.usage, name) for name in _USAGE}
    return _bytes(_encode(told))


def decode_reply(stored: bytes) -> ChatReply:
    """Return the reply that `encode_reply` wrote."""
    told = json.loads(_text(stored))
    return ChatReply(**{**told, "usage": Usage(**told["usage"])})


def at_no_cost(reply: ChatReply) -> ChatReply:
    """Return a reply as one who did not have to ask for it gets it: no calls, no tokens, no time."""
    return replace(reply, usage=Usage(), latency_s=0.0, queued_s=0.0, slot_s=0.0)


def encode_vector(vector: Sequence[float]) -> bytes:
    """Return `vector` as bytes, exactly: single precision where that loses nothing (APIs send it), else double."""
    single = array("f", vector)
    return b"f" + single.tobytes() if single.tolist() == list(vector) else b"d" + array("d", vector).tobytes()


def decode_vector(stored: bytes) -> list[float]:
    """Return the vector that `encode_vector` wrote."""
    vector = array("f" if stored[:1] == b"f" else "d")
    vector.frombytes(stored[1:])
    return vector.tolist()


def difference(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Return what sets two requests (as `readable` gives them) apart: a unified diff of at most `DIFF_LINES` lines."""
    recorded_lines, asked_lines = _bounded(_lines(recorded, asked)), _bounded(_lines(asked, recorded))
    diff = list(difflib.unified_diff(recorded_lines, asked_lines, "recorded", "asked", n=2, lineterm=""))
    if len(diff) > DIFF_LINES:
        diff[DIFF_LINES - 1 :] = [f"… {len(diff) - DIFF_LINES + 1} more lines"]
    return "\n".join(diff)


def _lines(content: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Yield a request as lines for a reader, without the messages that both have in the same place."""
    for key in sorted(content.keys() - {"messages"}):
        yield f"{key}: {content[key] if isinstance(content[key], str) else _encode(content[key])}"
    messages, others = content.get("messages", ()), other.get("messages", ())
    for number, message in enumerate(messages):
        if number < len(others) and others[number] == message:
            continue
        yield f"message {number}, {message.get('role')}:"
        text = message.get("content")
        yield from (text if isinstance(text, str) else _encode(text)).splitlines()
        if rest := {key: value for key, value in message.items() if key not in ("role", "content")}:
            yield _encode(rest)


def _bounded(lines: Iterator[str]) -> list[str]:
    # Wrapped, not cut: a difference at the end of a long line must stay visible.
    wrapped: list[str] = []
    for line in lines:
        wrapped += textwrap.wrap(line[: _DIFF_INPUT_LINES * _DIFF_WIDTH], _DIFF_WIDTH, drop_whitespace=False) or [""]
        if len(wrapped) > _DIFF_INPUT_LINES:
            return [*wrapped[:_DIFF_INPUT_LINES], "… (the rest was not compared)"]
    return wrapped
