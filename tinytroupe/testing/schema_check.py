"""Whether a value keeps a JSON schema: the part of JSON Schema that structured output and tools use."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

_MAX_DEPTH = 200


def resolve(schema: Any, root: Mapping[str, Any]) -> Any:
    """Follow ``$ref`` inside `root`; keywords beside the reference stay in force.

    Raises
    ------
    ValueError
        If the reference leads nowhere, out of the schema, or in a circle.
    """
    seen: set[str] = set()
    while isinstance(schema, Mapping) and "$ref" in schema:
        reference = schema["$ref"]
        if not isinstance(reference, str) or not reference.startswith("#") or reference in seen:
            raise ValueError(f"cannot follow the reference {reference!r} in the schema")
        seen.add(reference)
        target: Any = root
        for part in reference[1:].split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(part)] if isinstance(target, list) else target[part]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise ValueError(f"the reference {reference!r} leads nowhere in the schema") from error
        beside = {key: value for key, value in schema.items() if key not in ("$ref", "$defs", "definitions")}
        schema = target if not beside else {**target, **beside} if isinstance(target, Mapping) else target
    return schema


def violation(value: Any, schema: Any, root: Mapping[str, Any] | None = None, where: str = "$", depth: int = 0) -> str:
    """Return what `value` breaks in `schema`, with the place, or ``""`` if it keeps all of it."""
    if schema is True or schema == {}:
        return ""
    if schema is False:
        return f"{where}: nothing is allowed here"
    if depth > _MAX_DEPTH:
        return f"{where}: nested too deeply"
    root = root if root is not None else schema
    schema = resolve(schema, root)
    if not isinstance(schema, Mapping):
        return "" if schema is not False else f"{where}: nothing is allowed here"
    types = schema.get("type")
    if types is not None and not any(_is(value, kind) for kind in ([types] if isinstance(types, str) else types)):
        return f"{where}: {_brief(value)} is not of type {types}"
    if "const" in schema and not _same(value, schema["const"]):
        return f"{where}: {_brief(value)} is not {_brief(schema['const'])}"
    if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
        return f"{where}: {_brief(value)} is not one of {_brief(schema['enum'])}"
    for each in schema.get("allOf", ()):
        if found := violation(value, each, root, where, depth + 1):
            return found
    if "anyOf" in schema and all(violation(value, each, root, where, depth + 1) for each in schema["anyOf"]):
        return f"{where}: {_brief(value)} fits no schema of anyOf"
    if "oneOf" in schema:
        fitting = sum(not violation(value, each, root, where, depth + 1) for each in schema["oneOf"])
        if fitting != 1:
            return f"{where}: {_brief(value)} fits {fitting} schemas of oneOf"
    if "not" in schema and not violation(value, schema["not"], root, where, depth + 1):
        return f"{where}: {_brief(value)} fits the schema under not"
    if isinstance(value, str):
        return _text_violation(value, schema, where)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _number_violation(value, schema, where)
    if isinstance(value, list):
        return _array_violation(value, schema, root, where, depth)
    if isinstance(value, dict):
        return _object_violation(value, schema, root, where, depth)
    return ""


def _text_violation(value: str, schema: Mapping[str, Any], where: str) -> str:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
        return f"{where}: a text of {len(value)} characters is too long or too short"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{where}: {_brief(value)} does not match /{schema['pattern']}/"
    check = _FORMATS.get(schema.get("format", ""))
    if check is not None:
        try:
            good = check(value)
        except ValueError:
            good = False
        if not good:
            return f"{where}: {_brief(value)} is not in the format {schema['format']}"
    return ""


def _number_violation(value: float, schema: Mapping[str, Any], where: str) -> str:
    if (
        value < schema.get("minimum", -math.inf)
        or value > schema.get("maximum", math.inf)
        or value <= schema.get("exclusiveMinimum", -math.inf)
        or value >= schema.get("exclusiveMaximum", math.inf)
    ):
        return f"{where}: {value} is out of bounds"
    step = schema.get("multipleOf")
    if step and abs(value / step - round(value / step)) > 1e-9:
        return f"{where}: {value} is no multiple of {step}"
    return ""


def _array_violation(value: list[Any], schema: Mapping[str, Any], root: Any, where: str, depth: int) -> str:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        return f"{where}: {len(value)} items are too many or too few"
    if schema.get("uniqueItems") and len({json.dumps(each, sort_keys=True) for each in value}) < len(value):
        return f"{where}: items repeat"
    first = schema.get("prefixItems", ())
    for i, each in enumerate(value):
        inner = first[i] if i < len(first) else schema.get("items", True)
        if found := violation(each, inner, root, f"{where}[{i}]", depth + 1):
            return found
    if "contains" in schema:
        count = sum(not violation(each, schema["contains"], root, where, depth + 1) for each in value)
        if not schema.get("minContains", 1) <= count <= schema.get("maxContains", math.inf):
            return f"{where}: {count} items fit the schema under contains"
    return ""


def _object_violation(value: dict[str, Any], schema: Mapping[str, Any], root: Any, where: str, depth: int) -> str:
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"{where}: {', '.join(missing)} missing"
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", math.inf):
        return f"{where}: {len(value)} properties are too many or too few"
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, each in value.items():
        inner = [properties[name]] if name in properties else []
        inner += [part for pattern, part in patterns.items() if re.search(pattern, name)]
        for part in inner or [schema.get("additionalProperties", True)]:
            if found := violation(each, part, root, f"{where}.{name}", depth + 1):
                return found
        if found := violation(name, schema.get("propertyNames", True), root, f"{where}.{name}", depth + 1):
            return found
    return ""


def _is(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, _TYPES.get(kind, ()))


_TYPES: dict[str, Any] = {"string": str, "boolean": bool, "null": type(None), "array": list, "object": dict}


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _iso(text: str) -> str:
    return text[:-1] + "+00:00" if text.endswith("Z") else text  # Python 3.10 does not read the Z


_FORMATS: dict[str, Any] = {
    "date-time": lambda text: "T" in text and datetime.fromisoformat(_iso(text)),
    "date": date.fromisoformat,
    "time": lambda text: time.fromisoformat(_iso(text)) is not None,
    "duration": re.compile(r"P(?!$)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?$").match,
    "email": re.compile(r"[^@\s]+@[^@\s]+$").match,
    "hostname": re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$").match,
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
    "uuid": UUID,
    "uri": re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+$").match,
}
