"""The shapes of the API: chat completions, responses, embeddings, models, and their event streams."""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from tinytroupe.testing.call import Call
from tinytroupe.testing.rules import Reply

CREATED = 1_735_689_600  # answers carry a fixed time, so that equal runs give equal bytes
DEFAULT_MODEL = "mock-model"
_DIMENSIONS = {"text-embedding-3-large": 3072}
_WORD = re.compile(r"\w+")


def _usage(call: Call, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": call.prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": call.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _id(call: Call, prefix: str) -> str:
    who, _, number = call.key.rpartition("/")
    name = who[1:] if not call.person else f"{crc32(who.encode('utf-8', 'surrogatepass')):08x}"
    return f"{prefix}{name}-{number}"


def _tool_calls(call: Call, reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": _id(call, f"call_{i}_"),
            "type": "function",
            "function": {"name": name, "arguments": _arguments(arguments)},
        }
        for i, (name, arguments) in enumerate(reply.tool_calls)
    ]


def _arguments(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _finish(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def chat_completion(call: Call, replies: Sequence[Reply], completion_tokens: int) -> dict[str, Any]:
    """Return a chat completion with one choice a reply."""
    choices = []
    for i, reply in enumerate(replies):
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
        if reply.tool_calls:
            message["content"] = reply.text or None
            message["tool_calls"] = _tool_calls(call, reply)
        elif reply.refusal is not None:
            message["content"] = None
        choices.append(
            {"index": i, "message": message, "logprobs": _logprobs(call, reply), "finish_reason": _finish(reply)}
        )
    return {
        "id": _id(call, "chatcmpl-"),
        "object": "chat.completion",
        "created": CREATED,
        "model": call.model or DEFAULT_MODEL,
        "choices": choices,
        "usage": _usage(call, completion_tokens),
        "system_fingerprint": "fp_mock",
    }


def _logprobs(call: Call, reply: Reply) -> dict[str, Any] | None:
    if not call.body.get("logprobs"):
        return None
    top = int(call.body.get("top_logprobs") or 0)
    content = []
    for token in pieces(reply.text):
        entry = {"token": token, "logprob": -0.1, "bytes": list(token.encode("utf-8", "replace"))}
        others = [{**entry, "logprob": -0.1 - rank} for rank in range(top)]
        content.append({**entry, "top_logprobs": others})
    return {"content": content, "refusal": None}


def pieces(text: str) -> list[str]:
    """Return `text` cut into the pieces that a stream sends, about a token each."""
    return re.findall(r"\s*\S{1,8}|\s+$", text)


def chat_events(call: Call, replies: Sequence[Reply], completion_tokens: int) -> Iterator[bytes]:
    """Yield a chat completion as server-sent events."""
    base = {
        "id": _id(call, "chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": call.model or DEFAULT_MODEL,
        "system_fingerprint": "fp_mock",
    }
    options = call.body.get("stream_options")
    with_usage = isinstance(options, dict) and bool(options.get("include_usage"))

    def event(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        chunk = {**base, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        if with_usage:
            chunk["usage"] = None
        return _event(chunk)

    for i, reply in enumerate(replies):
        yield event(i, {"role": "assistant", "content": ""})
        for piece in pieces(reply.text):
            yield event(i, {"content": piece})
        for piece in pieces(reply.refusal or ""):
            yield event(i, {"refusal": piece})
        for position, tool in enumerate(_tool_calls(call, reply)):
            function = tool["function"]
            yield event(i, {"tool_calls": [{"index": position, **tool, "function": {**function, "arguments": ""}}]})
            for piece in pieces(function["arguments"]):
                yield event(i, {"tool_calls": [{"index": position, "function": {"arguments": piece}}]})
        yield event(i, {}, _finish(reply))
    if with_usage:
        yield _event({**base, "choices": [], "usage": _usage(call, completion_tokens)})
    yield b"data: [DONE]\n\n"


def _event(data: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def error_event(call: Call, error: dict[str, Any], number: int) -> bytes:
    """Return the event by which a stream tells of an error in its middle."""
    if call.endpoint == "responses":
        said = {name: error[name] for name in ("code", "message", "param")}
        return _event({"type": "error", "sequence_number": number, **said}, "error")
    return _event({"error": error})


def response(call: Call, reply: Reply, completion_tokens: int) -> dict[str, Any]:
    """Return an answer of the Responses API."""
    output: list[dict[str, Any]] = []
    if reply.text or reply.refusal is not None or not reply.tool_calls:
        part: dict[str, Any] = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        if reply.refusal is not None:
            part = {"type": "refusal", "refusal": reply.refusal}
        output.append(
            {"id": _id(call, "msg_"), "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        )
    for i, (name, arguments) in enumerate(reply.tool_calls):
        output.append(
            {
                "id": _id(call, f"fc_{i}_"),
                "type": "function_call",
                "call_id": _id(call, f"call_{i}_"),
                "name": name,
                "arguments": _arguments(arguments),
                "status": "completed",
            }
        )
    cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(reply.finish_reason)
    return {
        "id": _id(call, "resp_"),
        "object": "response",
        "created_at": CREATED,
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": cut} if cut else None,
        "instructions": call.body.get("instructions"),
        "metadata": call.body.get("metadata") or {},
        "model": call.model or DEFAULT_MODEL,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": call.body.get("temperature", 1.0),
        "tool_choice": call.body.get("tool_choice", "auto"),
        "tools": call.body.get("tools") or [],
        "top_p": call.body.get("top_p", 1.0),
        "text": call.body.get("text") or {"format": {"type": "text"}},
        "usage": {
            "input_tokens": call.prompt_tokens,
            "input_tokens_details": {"cached_tokens": call.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": call.prompt_tokens + completion_tokens,
        },
    }


def response_events(call: Call, reply: Reply, completion_tokens: int) -> Iterator[bytes]:
    """Yield an answer of the Responses API as server-sent events."""
    whole = response(call, reply, completion_tokens)
    number = 0

    def event(kind: str, **data: Any) -> bytes:
        nonlocal number
        number += 1
        return _event({"type": kind, "sequence_number": number - 1, **data}, kind)

    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(whole["output"]):
        at = {"item_id": item["id"], "output_index": index}
        blank: dict[str, Any] = {"content": []} if "content" in item else {"arguments": ""}
        empty = {**item, "status": "in_progress", **blank}
        yield event("response.output_item.added", output_index=index, item=empty)
        if "content" in item:
            part = item["content"][0]
            kind, key = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
            more: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
            yield event("response.content_part.added", **at, content_index=0, part={**part, key: ""})
            for piece in pieces(part[key]):
                yield event(f"response.{kind}.delta", **at, content_index=0, delta=piece, **more)
            yield event(f"response.{kind}.done", **at, content_index=0, **{key: part[key]}, **more)
            yield event("response.content_part.done", **at, content_index=0, part=part)
        else:
            for piece in pieces(item["arguments"]):
                yield event("response.function_call_arguments.delta", **at, delta=piece)
            yield event("response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"])
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{whole['status']}", response=whole)


def embedding(text: str, dimensions: int) -> array[float]:
    """Return a unit vector for `text`, close to those of texts with words in common: a bag of hashed words."""
    vector = array("f", bytes(4 * dimensions))
    for word in _WORD.findall(text.lower()) or [text]:
        n = crc32(word.encode("utf-8", "surrogatepass"))
        for _ in range(8):
            vector[(n >> 1) % dimensions] += 1.0 if n & 1 else -1.0
            n = (n * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
    length = math.sqrt(math.fsum(each * each for each in vector))
    if length == 0:  # words may cancel each other out
        vector[0] = length = 1.0
    return array("f", [each / length for each in vector])


def embedding_size(call: Call) -> int:
    """Return how many numbers a vector has: as asked for, or as usual for the model."""
    asked = call.body.get("dimensions")
    return asked if isinstance(asked, int) and asked > 0 else _DIMENSIONS.get(call.model, 1536)


def embeddings(call: Call) -> dict[str, Any]:
    """Return vectors for the call's texts, as floats or base64 of little-endian 32-bit floats."""
    given, size = call.body.get("input"), embedding_size(call)
    texts = given if isinstance(given, list) and not all(isinstance(each, int) for each in given) else [given]
    data = []
    for i, text in enumerate(texts):
        vector = embedding(text if isinstance(text, str) else str(text), size)
        shown: Any = list(vector)
        if call.body.get("encoding_format") == "base64":
            shown = base64.b64encode(_little_endian(vector)).decode("ascii")
        data.append({"object": "embedding", "index": i, "embedding": shown})
    return {
        "object": "list",
        "data": data,
        "model": call.model or DEFAULT_MODEL,
        "usage": {"prompt_tokens": call.prompt_tokens, "total_tokens": call.prompt_tokens},
    }


def vector_in(item: dict[str, Any]) -> list[float]:
    """Return the vector of one item of an embeddings answer, in either encoding."""
    shown = item["embedding"]
    if not isinstance(shown, str):
        return [float(each) for each in shown]
    return list(_little_endian_read(base64.b64decode(shown)))


def _little_endian_read(raw: bytes) -> array[float]:
    vector = array("f")
    vector.frombytes(raw)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _little_endian(vector: array[float]) -> bytes:
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return vector.tobytes()


def models(path: str, names: Sequence[str]) -> dict[str, Any]:
    """Return the list of models, or the one that `path` asks for."""
    last = path.rstrip("/").rpartition("/")[2]
    if last != "models":
        return _model(last)
    return {"object": "list", "data": [_model(name) for name in names]}


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "mock"}
