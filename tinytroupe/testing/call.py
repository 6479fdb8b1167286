"""One request that reached the mock model: who asks, for what, in which words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

_PATHS = (("/chat/completions", "chat"), ("/responses", "responses"), ("/embeddings", "embeddings"))
_MODELS = re.compile(r"/models(?:/[^/]+)?$")

# Where a line such as "You are Lisa. You like tea." goes on with a second sentence: the name ends before it.
_NEXT_SENTENCE = re.compile(
    r"[.!?] +(?=(?:You|Your|Yours|I|It|He|She|They|We|The|This|These|That|A|An|Be|Do|Don't|Please|Always|Never|Only|"
    r"Answer|Reply|Respond|Act|Speak|Write|Think|Keep|Use|Help|In|On|At|If|When|As|For)\b)"
)
_LONGEST_NAME = 200

# What a call's other attributes or its messages say already.
_SAID = frozenset({"model", "messages", "input", "instructions", "response_format", "text"})


def endpoint_of(method: str, path: str) -> str:
    """Return ``chat``, ``responses``, ``embeddings`` or ``models`` for an OpenAI-like path, else ``""``."""
    path = path.rstrip("/")
    if method == "POST":
        for end, endpoint in _PATHS:
            if path.endswith(end):
                return endpoint
    elif method == "GET" and _MODELS.search(path):
        return "models"
    return ""


def person_in(first_line: str, whole_line: bool = False) -> str:
    """Return NAME from a line ``You are NAME.``, and ``""`` from any other line.

    Parameters
    ----------
    first_line
        First line of the first system message.
    whole_line
        The line is known to hold the name alone, so commas and inner dots belong to it.
    """
    if not first_line.startswith("You are ") or (len(first_line) > _LONGEST_NAME and whole_line):
        return ""
    name = first_line[8:].strip()
    if not whole_line:
        name = _NEXT_SENTENCE.split(name, maxsplit=1)[0].partition(",")[0]
    return name.removesuffix(".").strip()[:_LONGEST_NAME]


_persons: dict[tuple[str, bool], str] = {}
_MAX_PERSONS = 4096


def _person(messages: Sequence[Mapping[str, Any]], whole_line: bool) -> str:
    for message in messages:
        if message.get("role") in ("system", "developer"):
            content = message.get("content")
            text = content if isinstance(content, str) else text_of(content)
            if not text.startswith("You are "):
                return ""
            end = text.find("\n", 0, 4 * _LONGEST_NAME)
            key = (text[: end if end >= 0 else 4 * _LONGEST_NAME].rstrip(), whole_line)
            person = _persons.get(key)
            if person is None:
                if len(_persons) >= _MAX_PERSONS:
                    _persons.clear()
                person = _persons[key] = person_in(*key)
            return person
    return ""


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in content)
    return "" if content is None else str(content)


def _messages_of(endpoint: str, body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if endpoint == "chat":
        found = body.get("messages")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    messages: list[Mapping[str, Any]] = []
    if endpoint == "responses":
        if body.get("instructions"):
            messages.append({"role": "system", "content": body["instructions"]})
        given = body.get("input")
        if isinstance(given, list):
            messages += [each for each in given if isinstance(each, dict)]
        elif given is not None:
            messages.append({"role": "user", "content": given})
    elif endpoint == "embeddings":
        given = body.get("input")
        texts = given if isinstance(given, list) and not all(isinstance(each, int) for each in given) else [given]
        messages = [{"role": "user", "content": each} for each in texts]
    return messages


class Call:
    """A request as rules, callables and the list of exchanges see it.

    Attributes
    ----------
    endpoint
        ``chat``, ``responses``, ``embeddings`` or ``models``.
    body
        The request's JSON.
    person
        Who asks: NAME in the first line ``You are NAME.`` of the first system message; else the request's ``user``;
        else ``""``.
    number
        The person's own call number, from 0.
    index
        Number of the call within the mock, from 0, in order of arrival.
    messages
        The conversation; for the Responses API its instructions and input in the same form.
    model, schema_name, schema
        Model asked for; name and JSON schema of the requested reply (``""`` and None without one).
    prompt_tokens, cached_tokens
        Approximate size of the prompt, and the part of it that the emulated prompt cache served.
    """

    def __init__(
        self,
        endpoint: str,
        body: Mapping[str, Any],
        person: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.body = body
        self.messages = _messages_of(endpoint, body) if messages is None else messages
        self.model = str(body.get("model") or "")
        self.schema_name, self.schema, self.json_mode = _schema_of(endpoint, body)
        if person is None:
            person = _person(self.messages, self.schema_name == "turn") or str(body.get("user") or "")
        self.person = person
        self.number = 0
        self.index = 0
        self.repeats: Callable[[str], int] = _first_time
        self.cached_tokens = 0
        self.prompt_tokens = prompt_tokens(self.messages)

    @cached_property
    def content(self) -> str:
        """Text of the last user message."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return text_of(message.get("content"))
        return ""

    @cached_property
    def text(self) -> str:
        """Text of the whole conversation, a line break between messages."""
        return "\n".join(text_of(message.get("content")) for message in self.messages)

    @cached_property
    def key(self) -> str:
        """What all that is drawn at random for the call hangs on, so that it does not hang on the order of arrival.

        A person's calls: name and number. Others, where any number of tasks may ask at once: what is asked, and how
        often the same was asked before.
        """
        if self.person:
            return f"{self.person}/{self.number}"
        asked = self.fingerprint()
        return f"#{asked}/{self.repeats(asked)}"

    def fingerprint(self) -> str:
        """Return a hash of what is asked, the same in every process."""
        parts = [self.endpoint, self.model, self.schema_name]
        for message in self.messages:
            content = message.get("content")
            parts.append(str(message.get("role", "")))
            parts.append(content if isinstance(content, str) else str(content))
            if len(message) > 2:
                parts.append(str([message.get("name"), message.get("tool_calls"), message.get("tool_call_id")]))
        more = {name: value for name, value in self.body.items() if name not in _SAID}
        if more:
            parts.append(json.dumps(more, sort_keys=True, default=str))
        return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def stream(self) -> bool:
        """Whether the reply is asked for as server-sent events."""
        return bool(self.body.get("stream"))

    def __repr__(self) -> str:
        said = self.content if len(self.content) <= 80 else self.content[:77] + "..."
        return f"<{self.endpoint} call {self.number} of {self.person or 'the program'!r} to {self.model!r}: {said!r}>"


def _first_time(asked: str) -> int:
    return 0


def _schema_of(endpoint: str, body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None, bool]:
    holder: Any = body.get("response_format") if endpoint == "chat" else body.get("text")
    if endpoint == "responses" and isinstance(holder, dict):
        holder = holder.get("format")
    if not isinstance(holder, dict):
        return "", None, False
    kind = holder.get("type")
    if kind != "json_schema":
        return "", None, kind == "json_object"
    described = holder.get("json_schema") if endpoint == "chat" else holder
    if not isinstance(described, dict):
        return "", None, True
    schema = described.get("schema")
    return str(described.get("name") or ""), schema if isinstance(schema, dict) else {}, False


def prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """Approximate tokens of a conversation: a quarter of its characters, rounded up, and 4 a message."""
    total = 0
    for message in messages:
        content = message.get("content")
        total += 4 + ((len(content) if isinstance(content, str) else len(text_of(content))) + 3) // 4
        if message.get("tool_calls"):
            total += sum(len(str(each)) for each in message["tool_calls"]) // 4
    return total


def text_tokens(text: str) -> int:
    """Approximate tokens of a reply: a quarter of its characters, rounded up."""
    return (len(text) + 3) // 4
