"""What is wanted, as a strict JSON schema, and how a reply is checked against it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinytroupe.llm import ReplySchema

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Fields = Iterable[str] | Mapping[str, Any] | type | None
"""Names (each a text), or a mapping of names to Python types or JSON schemas, or a pydantic model (or another type
whose JSON schema is an object), or None: whatever there is, as texts by name."""

SCHEMA_NAME = "extraction"

_DEEPEST = 50
_OPEN = (
    "strict replies have no room for it: name the type of every part (list[str], not list), and use a model or a list "
    "of models instead of open dictionaries, tuples or Any"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of a result.

    Attributes
    ----------
    schema
        What the model is held to.
    read
        Makes a result of the model's object; raises ValueError where it does not fit.
    """

    schema: ReplySchema
    read: Callable[[dict[str, Any]], Any]


def shape_of(fields: Fields = None, hints: Mapping[str, str] | None = None) -> Shape:
    """Return the shape that `fields` describe.

    Parameters
    ----------
    fields
        See `Fields`.
    hints
        What fields mean, by name; told to the model. Not for models: their fields have descriptions.

    Raises
    ------
    TypeError
        `fields` is none of the above, or a type that a strict schema can't express; the message names the place.
    ValueError
        No fields, a name twice or empty, or a hint for a field that is not there.
    """
    hints = dict(hints or {})
    if fields is None:
        return _OPEN_SHAPE
    if isinstance(fields, type):
        if hints:
            raise ValueError(f"fields_hints go with names; describe the fields of {fields.__name__} in itself")
        return _of_type(fields)
    if isinstance(fields, str):
        raise TypeError(f"fields must be a list of names, a mapping or a model, not the text {fields!r}")
    if isinstance(fields, Mapping):
        kinds = dict(fields)
    elif isinstance(fields, Iterable):
        names = list(fields)
        if len(set(names)) < len(names):
            raise ValueError(f"a field is named twice in {names}")
        kinds = dict.fromkeys(names, str)
    else:
        raise TypeError(f"fields must be a list of names, a mapping or a model, not {type(fields).__name__}")
    if not kinds:
        raise ValueError("fields is empty: name at least one, or leave it out")
    for name in kinds:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"a field's name must be a text with something in it, got {name!r}")
    unknown = [name for name in hints if name not in kinds]
    if unknown:
        raise ValueError(f"fields_hints has {', '.join(map(repr, unknown))}, which fields has not: {', '.join(kinds)}")
    return _of_named(kinds, hints)


@functools.lru_cache(maxsize=64)
def _of_type(kind: type) -> Shape:
    # Building a schema costs more than using it: once a type.
    return _shape(kind, kind.__name__)


def _of_named(kinds: Mapping[str, Any], hints: Mapping[str, str]) -> Shape:
    from typing_extensions import TypedDict

    parts = {name: _annotated(name, kind, hints.get(name)) for name, kind in kinds.items()}
    make: Any = TypedDict  # the functional form takes names that are no identifiers, and names of methods
    try:
        results = make("Results", parts)
    except TypeError as error:  # Python 3.10 looks at the types
        raise TypeError(f"fields: no schema can be made of it: {error}") from error
    return _shape(results, "fields")


def _annotated(name: str, kind: Any, hint: str | None) -> Any:
    from typing import Annotated

    from pydantic import AfterValidator, Field, WithJsonSchema

    if isinstance(kind, Mapping):
        schema = dict(kind)

        def check(value: Any) -> Any:
            _check(value, schema, 0)
            return value

        kind = Annotated[Any, AfterValidator(check), WithJsonSchema(schema)]
    elif isinstance(kind, (str, int, float, list, tuple, set)):
        raise TypeError(f"field {name!r}: {kind!r} is no type; give a type such as str, a Literal or a JSON schema")
    return Annotated[kind, Field(description=hint)] if hint else kind


def _shape(kind: Any, what: str) -> Shape:
    from pydantic import PydanticUserError, TypeAdapter

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        root = adapter.json_schema()
    except PydanticUserError as error:
        raise TypeError(f"{what}: no schema can be made of it: {error}") from error
    definitions = root.pop("$defs", {})
    if "$ref" in root:  # a model that contains itself
        root = definitions[root["$ref"].rpartition("/")[2]]
    schema = strict(root, definitions, what)
    if schema.get("type") != "object":
        raise TypeError(f"{what}: a result must be an object, such as a pydantic model, not {schema.get('type')!r}")
    used = {name: strict(part, definitions, name) for name, part in definitions.items()}
    if used:
        schema["$defs"] = used

    def read(data: dict[str, Any]) -> Any:
        from pydantic import ValidationError

        try:
            return adapter.validate_python(data)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, one['loc'])) or 'reply'}: {one['msg']}" for one in error.errors()]
            raise ValueError("; ".join(problems[:10])) from error

    return Shape(ReplySchema(SCHEMA_NAME, schema), read)


def strict(schema: Any, definitions: Mapping[str, Any], where: str, depth: int = 0) -> dict[str, Any]:
    """Return a JSON schema as strict structured output takes it: closed objects, all properties required.

    Raises
    ------
    TypeError
        It leaves something open.
    """
    if depth > _DEEPEST:
        raise TypeError(f"{where}: the schema is nested more than {_DEEPEST} deep")
    if not isinstance(schema, Mapping):
        raise TypeError(f"{where}: {_OPEN}")
    made = {key: value for key, value in schema.items() if key not in ("title", "default", "discriminator")}
    if len(made.get("allOf", ())) == 1:
        made = {**made.pop("allOf")[0], **made}
    if "oneOf" in made:
        made["anyOf"] = made.pop("oneOf")
    if "$ref" in made:
        if len(made) == 1:
            return made
        # A reference stands alone in strict schemas: what is said beside it is said in its place.
        target = definitions.get(str(made.pop("$ref")).rpartition("/")[2], {})
        return strict({**target, **made}, definitions, where, depth + 1)
    if "anyOf" in made:
        made["anyOf"] = [strict(part, definitions, where, depth + 1) for part in made["anyOf"]]
    elif made.get("type") == "object":
        properties = made.get("properties")
        if not properties or made.get("additionalProperties"):
            raise TypeError(f"{where}: {_OPEN}")
        made["properties"] = {
            name: strict(part, definitions, f"{where}.{name}", depth + 1) for name, part in properties.items()
        }
        made["required"] = list(properties)
        made["additionalProperties"] = False
    elif made.get("type") == "array":
        if "prefixItems" in made or not made.get("items"):
            raise TypeError(f"{where}: {_OPEN}")
        made["items"] = strict(made["items"], definitions, f"{where}[]", depth + 1)
    elif not {"type", "enum", "const"} & set(made):
        raise TypeError(f"{where}: {_OPEN}")
    return made


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def _check(value: Any, schema: Mapping[str, Any], depth: int) -> None:
    """Check what matters of a JSON schema of the program's own; the model was held to all of it."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    fits = any(isinstance(value, _TYPES.get(kind, ())) for kind in kinds)
    if isinstance(value, bool) and "boolean" not in kinds:
        fits = False
    if kinds and not fits:
        raise ValueError(f"{str(value)[:80]!r} is not of type {' or '.join(kinds)}")
    if "enum" in schema and value not in schema["enum"]:
        raise ValueError(f"{str(value)[:80]!r} is none of {schema['enum']}")
    if isinstance(value, list):
        for item in value:
            _check(item, schema.get("items", {}), depth + 1)
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name not in value:
                raise ValueError(f"{name!r} is missing")
            _check(value[name], part, depth + 1)


def _read_open(data: dict[str, Any]) -> dict[str, str]:
    pairs = data.get("results")
    if not isinstance(pairs, list) or not all(isinstance(pair, Mapping) and "name" in pair for pair in pairs):
        raise ValueError("'results' must be a list of objects with a name and a value")
    return {str(pair["name"]): str(pair.get("value", "")) for pair in pairs}


_OPEN_SHAPE = Shape(
    ReplySchema(
        SCHEMA_NAME,
        {
            "type": "object",
            "properties": {
                "results": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
                        "required": ["name", "value"],
                        "additionalProperties": False,
                    },
                }
            },
            "required": ["results"],
            "additionalProperties": False,
        },
    ),
    _read_open,
)
