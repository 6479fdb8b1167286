"""Generated replies keep every constraint of the requested schema."""

from __future__ import annotations

import json
import re
from datetime import date
from enum import Enum
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tinytroupe.testing.generate import instance, required_tool, sentence, text_for, turn
from tinytroupe.testing.patterns import text_matching
from tinytroupe.testing.schema_check import violation


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    name: str = Field(min_length=3, max_length=12)
    children: list[Node] = []
    parent: Node | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = Field(min_length=1, max_length=3)


class Everything(BaseModel):
    colour: Colour
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    tree: Node
    born: date
    code: str = Field(pattern=r"^[A-Z]{2}-\d{4}$")
    share: float = Field(gt=0, lt=1)
    even: int = Field(multiple_of=2, ge=10, le=20)
    unique: set[int] = Field(min_length=3, max_length=5)
    pair: tuple[int, str]
    scores: dict[str, float]
    maybe: bool | None


@given(st.text(max_size=10))
@settings(max_examples=30, deadline=None)
def test_pydantic_accepts_what_is_generated(key):
    schema = Everything.model_json_schema()
    value = instance(schema, key)
    assert value == instance(schema, key)
    Everything.model_validate_json(json.dumps(value))
    Node.model_validate(instance(Node.model_json_schema(), key))


SCHEMAS = [
    {},
    {"type": "string", "minLength": 500},
    {"type": "string", "minLength": 7, "maxLength": 7},
    {"type": "string", "maxLength": 0},
    {"type": ["null", "integer"], "minimum": 5},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "integer", "maximum": -7},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    {"type": "number", "minimum": 0.25, "maximum": 0.25},
    {"type": "number", "multipleOf": 0.25, "minimum": 1},
    {"type": "array", "minItems": 4, "maxItems": 4, "uniqueItems": True, "items": {"enum": [1, 2, 3, 4]}},
    {"type": "array", "maxItems": 0},
    {"type": "array", "items": {"type": "integer"}, "contains": {"minimum": 50}, "minContains": 2},
    {"prefixItems": [{"const": 1}, {"type": "string"}], "items": False},
    {"type": "object", "additionalProperties": False, "properties": {"a": {"const": None}}, "required": ["a"]},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 20},
    {"type": "object", "patternProperties": {"^x_[a-z]+$": {"type": "integer"}}, "additionalProperties": False,
     "minProperties": 2},
    {"type": "object", "required": ["undeclared"]},
    {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "required": ["c"], "maxProperties": 1},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 4}]},
    {"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"y": {"type": "integer"}}, "required": ["y"]}],
     "$defs": {"a": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}}},
    {"oneOf": [{"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 5}]},
    {"anyOf": [{"type": "null"}, {"type": "string", "format": "uuid"}]},
    {"type": "string", "not": {"enum": ["amber"]}},
    *({"type": "string", "format": kind} for kind in
      ("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unheard-of")),
    {"type": "string", "pattern": r"^(\+\d{1,3} )?\d{3}-\d{4}$"},
    {"type": "string", "pattern": "[^a-y]{5,}", "minLength": 30},
    {"type": "string", "pattern": r"^(a|b)\1[\w.]*$", "maxLength": 5},
    {"type": "object", "properties": {"next": {"$ref": "#"}}},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_every_constraint_is_kept(schema):
    for key in range(10):
        value = json.loads(json.dumps(instance(schema, str(key))))
        assert violation(value, schema) == ""


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no value"),
        ({"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]}, "no finite value"),
        ({"$ref": "#/$defs/missing"}, "leads nowhere"),
        ({"$ref": "https://example.org/schema"}, "cannot follow"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "cannot follow"),
        ({"type": "string", "pattern": "("}, "cannot make a text"),
        ({"type": "string", "pattern": "a", "maxLength": 0}, "no value"),
    ],
    ids=str,
)
def test_impossible_schemas_are_a_clear_error(schema, message):
    with pytest.raises(ValueError, match=message):
        instance(schema, "key")


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (True, {"type": "integer"}),
        (1.5, {"type": "integer"}),
        (1, {"const": True}),
        ("x", {"enum": ["y"]}),
        ({}, {"required": ["a"]}),
        ({"a": 1}, {"additionalProperties": False}),
        ({"a": 1}, {"propertyNames": {"minLength": 2}}),
        ([1, 1], {"uniqueItems": True}),
        ([1, 2], {"items": {"type": "string"}}),
        (5, {"anyOf": [{"type": "string"}, {"maximum": 4}]}),
        (15, {"oneOf": [{"multipleOf": 3}, {"multipleOf": 5}]}),
        (1, {"not": {"type": "integer"}}),
        (1, False),
        ("2026-13-01", {"format": "date"}),
    ],
    ids=str,
)
def test_the_check_sees_what_is_wrong(value, schema):
    assert violation(value, schema)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_turns_and_sentences_are_plausible_and_repeatable(key):
    reply = json.loads(turn(key))
    assert turn(key) == turn(key)
    assert [action["type"] for action in reply["actions"]] == ["TALK", "DONE"]
    assert set(reply["cognitive_state"]) == {"goals", "context", "attention", "emotions"}
    assert reply["actions"][0]["content"] == sentence(key)
    assert len(sentence(key).split()) >= 5


def test_texts_for_requests():
    assert text_for("k", "", None) == sentence("k")
    assert json.loads(text_for("k", "", None, json_mode=True)) == {"answer": sentence("k")}
    assert text_for("k", "turn", {"properties": {"actions": {}}}) == turn("k")
    silent = {"properties": {"actions": {"items": {"properties": {"type": {"enum": ["THINK", "DONE"]}}}}}}
    assert "TALK" not in text_for("k", "turn", silent)
    other = {"type": "object", "properties": {"left": {"type": "boolean"}}, "required": ["left"]}
    assert set(json.loads(text_for("k", "turn", other))) == {"left"}


def test_required_tools():
    tools = [{"type": "function", "function": {"name": "a"}}, {"type": "function", "name": "b", "parameters": {"x": 1}}]
    assert required_tool({"tools": tools}) is None
    assert required_tool({"tools": tools, "tool_choice": "auto"}) is None
    assert required_tool({"tools": tools, "tool_choice": "required"}) == ("a", {"type": "object"})
    assert required_tool({"tools": tools, "tool_choice": {"type": "function", "name": "b"}}) == ("b", {"x": 1})
    assert required_tool({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "c"}}}) is None


@pytest.mark.parametrize(
    "pattern", [r"^\d{3}$", r"[a-c]+x?", r"^(foo|bar)-\w+$", r"\s\S", r"[^abc]", r"^.{2,4}$", r"a*?b"]
)
def test_patterns(pattern):
    import random

    for seed in range(20):
        assert re.search(pattern, text_matching(pattern, random.Random(seed)))
