"""Replies made up to fit a JSON schema: deterministic for a key, plausible to read, and valid."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from tinytroupe.testing.patterns import text_matching
from tinytroupe.testing.schema_check import resolve, violation

_TOPICS = (
    "the price", "how easy it is to use", "what my friends would say", "the quality", "the time it takes", "trust",
    "the design", "my own experience", "the environment", "support when something breaks", "comfort", "privacy",
)  # fmt: skip
_SENTENCES = (
    "What matters most to me is {a}, and {b} comes second.",
    "I would look at {a} first; {b} can wait.",
    "To be honest, {a} worries me more than {b}.",
    "I like the idea, if {a} and {b} are taken care of.",
    "Tell me more about {a}; I already know enough about {b}.",
    "For people like me {a} decides, hardly ever {b}.",
    "I have changed my mind about {a} since we spoke of {b}.",
    "Let us agree on {a} before we talk about {b}.",
)
_NAMES = (
    "Ana Silva",
    "Ben Okafor",
    "Chiara Rossi",
    "David Kim",
    "Elif Yilmaz",
    "Farid Haddad",
    "Greta Lind",
    "Hana Sato",
)
_WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "harbor", "island", "kelp", "lagoon", "meadow")
_MOODS = ("calm", "curious", "cheerful", "a little doubtful", "hopeful", "attentive")
_LAST_DEPTH = 6
_DEEPEST = 60
_ATTEMPTS = 40


def sentence(key: str) -> str:
    """Return a short, plausible sentence; equal keys give equal sentences."""
    n = crc32(key.encode("utf-8", "surrogatepass"))
    a = n % len(_TOPICS)
    b = (a + 1 + (n >> 8) % (len(_TOPICS) - 1)) % len(_TOPICS)
    return _SENTENCES[(n >> 16) % len(_SENTENCES)].format(a=_TOPICS[a], b=_TOPICS[b])


def turn(key: str) -> str:
    """Return a turn in tinytroupe's reply schema: one TALK to everyone, then DONE."""
    n = crc32(key.encode("utf-8", "surrogatepass"))
    return (
        '{"actions": [{"type": "TALK", "content": "' + sentence(key) + '", "target": ""}, '
        '{"type": "DONE", "content": "", "target": ""}], "cognitive_state": {"goals": "Say what I think about '
        + _TOPICS[n % len(_TOPICS)] + '.", "context": [], "attention": "the conversation", "emotions": "'
        + _MOODS[(n >> 4) % len(_MOODS)] + '"}}'
    )  # fmt: skip


def text_for(key: str, schema_name: str, schema: Mapping[str, Any] | None, json_mode: bool = False) -> str:
    """Return the content of a generated reply: JSON that fits `schema`, or a sentence without one."""
    if schema is None:
        return json.dumps({"answer": sentence(key)}) if json_mode else sentence(key)
    if schema_name == "turn":
        types = _action_types(schema)
        if types is None or ("TALK" in types and "DONE" in types):
            return turn(key)
    return json.dumps(instance(schema, key), ensure_ascii=False)


def _action_types(schema: Mapping[str, Any]) -> Sequence[str] | None:
    """Return the types of action that a turn's schema allows, None for all, none for a schema that is no turn."""
    try:
        actions = schema["properties"]["actions"]
    except (KeyError, TypeError):
        return ()  # other programs may call a schema of their own "turn"
    try:
        types: Sequence[str] = actions["items"]["properties"]["type"]["enum"]
    except (KeyError, TypeError):
        return None
    return types


def instance(schema: Mapping[str, Any], key: str) -> Any:
    """Return a value that keeps every constraint of `schema`; equal keys give equal values.

    Raises
    ------
    ValueError
        If no such value was found: the schema contradicts itself, never ends, or is beyond this generator.
    """
    problem = ""
    for attempt in range(_ATTEMPTS):
        try:
            value = _Generator(schema, random.Random(f"{key}/{attempt}"), attempt).make(schema, "", 0)
        except RecursionError:
            raise ValueError("no finite value keeps this JSON schema") from None
        problem = violation(value, schema)
        if not problem:
            return value
    raise ValueError(f"found no value that keeps this JSON schema: {problem}. Script the reply instead.")


class _Generator:
    def __init__(self, root: Mapping[str, Any], rng: random.Random, attempt: int) -> None:
        self.root = root
        self.rng = rng
        self.attempt = attempt

    def make(self, schema: Any, name: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise RecursionError
        schema = resolve(schema, self.root)
        if not isinstance(schema, Mapping):
            return sentence(f"{self.rng.random()}")
        if "allOf" in schema:
            schema = self._merged(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choose(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                branch = resolve(self._branch(schema[word], depth), self.root)
                if not isinstance(branch, Mapping):
                    branch = {}
                rest = {key: value for key, value in schema.items() if key != word}
                return self.make(_both(rest, branch), name, depth + 1)
        kind = schema.get("type") or _kind_of(schema)
        if not isinstance(kind, str):
            kinds = [each for each in kind if each != "null"] if depth < _LAST_DEPTH or len(kind) == 1 else ["null"]
            kind = self._choose([each for each in kinds if each in kind] or list(kind))
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in ("integer", "number"):
            return self._number(schema, kind)
        if kind == "boolean":
            return self.rng.random() < 0.5
        return None if kind == "null" else self._text(schema, name)

    def _choose(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.random() * len(options))]

    def _merged(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        merged: Mapping[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            part = resolve(part, self.root)
            if isinstance(part, Mapping):
                merged = _both(merged, self._merged(part) if "allOf" in part else part)
        return merged

    def _branch(self, branches: Sequence[Any], depth: int) -> Any:
        if depth >= _LAST_DEPTH:  # end recursive structures as soon as they allow it
            return min(branches, key=_weight)
        useful = [each for each in branches if not (isinstance(each, Mapping) and each.get("type") == "null")]
        return self._choose(useful or branches)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        most = schema.get("maxProperties", math.inf)
        names = [each for each in properties if each in required or depth < _LAST_DEPTH]
        if len(names) > most:
            names = [each for each in names if each in required]
        names += [each for each in required if each not in names]
        found = {each: self.make(properties.get(each, self._extra(schema, each)), each, depth + 1) for each in names}
        least = schema.get("minProperties", 0)
        for each in properties:
            if len(found) < least and each not in found:
                found[each] = self.make(properties[each], each, depth + 1)
        wanted = max(least, 1 if isinstance(schema.get("additionalProperties"), Mapping) and not properties else 0)
        position = 0
        while len(found) < min(wanted, most) and position < 1000:
            each = self._property_name(schema, position)
            found.setdefault(each, self.make(self._extra(schema, each), each, depth + 1))
            position += 1
        return found

    def _property_name(self, schema: Mapping[str, Any], position: int) -> str:
        named = schema.get("propertyNames")
        if isinstance(named, Mapping):
            return str(self.make({"type": "string", **named}, "", 0))
        if schema.get("patternProperties") and schema.get("additionalProperties") is False:
            return text_matching(self._choose(list(schema["patternProperties"])), self.rng, self.attempt)
        word = _WORDS[position % len(_WORDS)]
        return word if position < len(_WORDS) else f"{word}_{position}"

    def _extra(self, schema: Mapping[str, Any], name: str) -> Any:
        import re

        for pattern, part in schema.get("patternProperties", {}).items():
            if re.search(pattern, name):
                return part
        extra = schema.get("additionalProperties", {"type": "string"})
        return extra if isinstance(extra, Mapping) else {"type": "string"}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        first = schema.get("prefixItems", ())
        items = schema.get("items", {"type": "string"})
        least = schema.get("minItems", 0)
        contains = schema.get("contains")
        least = max(least, schema.get("minContains", 1) if contains is not None else 0)
        usual = len(first) if first else 0 if depth >= _LAST_DEPTH or items is False else 2
        count = int(min(max(least, usual), schema.get("maxItems", math.inf)))
        found: list[Any] = []
        seen: set[str] = set()
        for i in range(count):
            inner = first[i] if i < len(first) else items
            if contains is not None and i < schema.get("minContains", 1):
                inner = _both(inner, contains) if isinstance(inner, Mapping) else contains
            for _ in range(50):
                value = self.make(inner, name.removesuffix("s"), depth + 1)
                text = json.dumps(value, sort_keys=True)
                if not schema.get("uniqueItems") or text not in seen:
                    found.append(value)
                    seen.add(text)
                    break
        return found

    def _number(self, schema: Mapping[str, Any], kind: str) -> float | int:
        low, high = schema.get("minimum"), schema.get("maximum")
        step = schema.get("multipleOf") or (1 if kind == "integer" else None)
        if kind == "integer" and step != int(step or 1):
            step = 1
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        lows = [each for each in (low, above) if each is not None]
        highs = [each for each in (high, below) if each is not None]
        start = max(lows) if lows else min(0, *highs, 0) - (10 if highs and min(highs) <= 0 else 0)
        end = min(highs) if highs else start + 100
        if step:
            n, last = math.ceil(start / step - 1e-12), math.floor(end / step + 1e-12)
            n += 1 if above is not None and n * step <= above else 0
            last -= 1 if below is not None and last * step >= below else 0
            value = (n + int(self.rng.random() * max(1, last - n + 1))) * step
            return int(value) if kind == "integer" else value
        value = start + (end - start) * self.rng.random()
        rounded = round(value, 2)
        return float(rounded if not violation(rounded, {**schema, "type": "number"}, self.root) else value)

    def _text(self, schema: Mapping[str, Any], name: str) -> str:
        if "pattern" in schema:
            return text_matching(schema["pattern"], self.rng, self.attempt, schema.get("minLength", 0))
        made = self._format(schema.get("format", ""))
        if made is not None:
            return made
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        lowered = name.lower()
        if lowered == "name" or lowered.endswith("_name") or lowered in ("person", "author", "agent", "target"):
            text = str(self._choose(_NAMES))
        elif lowered in ("id", "key", "code", "slug", "tag", "label", "title", "category", "topic", "word", "keyword"):
            text = self._choose(_WORDS)
        elif lowered in ("emotions", "emotion", "mood", "feeling"):
            text = self._choose(_MOODS)
        elif "email" in lowered:
            text = f"{self._choose(_WORDS)}@example.com"
        else:
            text = sentence(f"{self.rng.random()}")
        while len(text) < least:
            text = f"{text} {sentence(f'{self.rng.random()}')}"
            if len(text) > least and most != math.inf:
                text = text[: int(max(least, min(most, len(text))))]
        return text if len(text) <= most else text[: int(most)]

    def _format(self, kind: str) -> str | None:
        n = int(self.rng.random() * 2**32)
        day = f"20{20 + n % 8:02}-{1 + n // 8 % 12:02}-{1 + n // 96 % 28:02}"
        clock = f"{n % 24:02}:{n // 24 % 60:02}:{n // 1440 % 60:02}"
        return {
            "date-time": f"{day}T{clock}Z",
            "date": day,
            "time": f"{clock}Z",
            "duration": f"PT{1 + n % 59}M",
            "email": f"{_WORDS[n % len(_WORDS)]}@example.com",
            "hostname": f"{_WORDS[n % len(_WORDS)]}.example.com",
            "ipv4": f"192.0.2.{n % 256}",
            "ipv6": f"2001:db8::{n % 65536:x}",
            "uuid": f"{n:08x}-{n % 65536:04x}-4{n % 4096:03x}-8{n // 7 % 4096:03x}-{n:012x}",
            "uri": f"https://example.com/{_WORDS[n % len(_WORDS)]}",
        }.get(kind)


def _weight(schema: Any) -> int:
    text = json.dumps(schema, default=str)
    return 0 if '"null"' in text else len(text) + 10_000 * text.count("$ref")


def _kind_of(schema: Mapping[str, Any]) -> str:
    if "properties" in schema or "required" in schema or "additionalProperties" in schema or "minProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema or "minItems" in schema or "contains" in schema:
        return "array"
    if any(word in schema for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")):
        return "number"
    return "string"


def _both(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that keeps both, as far as keywords can simply be joined; the check at the end is the judge."""
    found = dict(a)
    for key, value in b.items():
        mine = found.get(key)
        if mine is None:
            found[key] = value
        elif key == "properties":
            found[key] = {
                **mine,
                **{name: _both(mine[name], part) if name in mine else part for name, part in value.items()},
            }
        elif key == "required":
            found[key] = list(dict.fromkeys([*mine, *value]))
        elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
            found[key] = max(mine, value)
        elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
            found[key] = min(mine, value)
        elif key == "enum":
            found[key] = [each for each in mine if each in value]
        elif key == "type" and mine != value:
            common = [each for each in _listed(mine) if each in _listed(value)]
            found[key] = common or (
                ["integer"] if {"integer", "number"} <= {*_listed(mine), *_listed(value)} else value
            )
        elif key == "items" and isinstance(mine, Mapping) and isinstance(value, Mapping):
            found[key] = _both(mine, value)
        else:
            found[key] = value
    return found


def _listed(kind: Any) -> list[str]:
    return [kind] if isinstance(kind, str) else list(kind)


def required_tool(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return name and parameter schema of the tool that a request insists on, or None."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    if not isinstance(tools, list) or not tools or choice in (None, "auto", "none"):
        return None
    described = [each.get("function", each) for each in tools if isinstance(each, dict)]
    if isinstance(choice, dict):
        wanted = choice.get("function", choice).get("name")
        described = [each for each in described if each.get("name") == wanted]
    if not described:
        return None
    return str(described[0].get("name", "")), described[0].get("parameters") or {"type": "object"}
