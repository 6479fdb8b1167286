"""Who a person is: the specification, how its parts merge, and its file format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinytroupe.runtime.files import write_atomically

Persona = dict[str, Any]
"""A JSON object; its keys are free, ``name``, ``age``, ``occupation``, … are customary."""


def merged(old: Any, new: Any, *, overwrite_scalars: bool = True) -> Any:
    """Return `new` merged into `old`, changing neither.

    Objects merge key by key, lists are joined without repeating what is there.

    Raises
    ------
    ValueError
        Two different scalars meet and `overwrite_scalars` is False; the message names the key.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        result = dict(old)
        for key, value in new.items():
            try:
                result[key] = merged(old[key], value, overwrite_scalars=overwrite_scalars) if key in old else value
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from error
        return result
    if isinstance(old, list):
        return old + [item for item in (new if isinstance(new, list) else [new]) if item not in old]
    if old is None or old == new or overwrite_scalars:
        return new
    raise ValueError(f"has the value {old!r} already and would be overwritten with {new!r}; allow overwrite_scalars")


def load(path: str | Path, *, kind: str = "TinyPerson") -> Persona:
    """Read a persona (``{"type": "TinyPerson", "persona": {…}}``) or a fragment (``"type": "Fragment"``).

    Raises
    ------
    ValueError
        Not JSON, or not of this type; the message names the file.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    return checked(data, kind=kind, source=str(path))


def checked(data: Any, *, kind: str = "TinyPerson", source: str = "the specification") -> Persona:
    """Return the persona of a specification (``{"type": …, "persona": {…}}``), or raise ValueError naming `source`."""
    if not isinstance(data, Mapping) or data.get("type") != kind or not isinstance(data.get("persona"), Mapping):
        found = data.get("type") if isinstance(data, Mapping) else type(data).__name__
        raise ValueError(f'{source} must hold {{"type": "{kind}", "persona": {{…}}}}, found type {found!r}')
    return dict(data["persona"])


def save(persona: Persona, path: str | Path, *, kind: str = "TinyPerson") -> None:
    """Write a persona to a JSON file, whole or not at all."""
    text = json.dumps({"type": kind, "persona": persona}, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text)


def described(persona: Persona) -> str:
    """Return the persona as indented text, always the same for the same content."""
    lines: list[str] = []
    _describe(persona, 0, lines)
    return "\n".join(lines)


def _describe(value: Mapping[str, Any], depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    for key, item in value.items():
        label = f"{indent}{str(key).replace('_', ' ')}:"
        if isinstance(item, Mapping):
            lines.append(label)
            _describe(item, depth + 1, lines)
        elif isinstance(item, (list, tuple)):
            lines.append(label)
            for entry in item:
                if isinstance(entry, Mapping):
                    entry = "; ".join(f"{name}: {part}" for name, part in entry.items())
                lines.append(f"{indent}  - {entry}")
        elif item is not None and item != "":
            lines.append(f"{label} {item}")
