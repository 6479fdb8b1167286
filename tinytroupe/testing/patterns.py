"""Texts that match a regular expression, for schemas with a ``pattern``."""

from __future__ import annotations

import random
import re
import string
import sys
import warnings
from typing import Any

_PLAIN = string.ascii_lowercase
_CLASSES = {
    "CATEGORY_DIGIT": string.digits,
    "CATEGORY_NOT_DIGIT": _PLAIN,
    "CATEGORY_WORD": _PLAIN + string.digits,
    "CATEGORY_NOT_WORD": "-",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_SPACE": _PLAIN,
}
_ALL = string.ascii_letters + string.digits + "_-. ,:;!?#%&()*+/<=>@[]{}~"


def _parse(pattern: str) -> Any:
    # The standard library's own parser; it moved in Python 3.11 and the old name warns.
    if sys.version_info >= (3, 11):
        from re import _parser  # type: ignore[attr-defined]

        return _parser.parse(pattern)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sre_parse
    return sre_parse.parse(pattern)


def text_matching(pattern: str, rng: random.Random, spread: int = 0, min_length: int = 0) -> str:
    """Return a text in which `pattern` is found; larger `spread` and `min_length` repeat more where the pattern allows.

    Raises
    ------
    ValueError
        If the pattern is malformed or uses what cannot be generated (look-around, back references to nothing).
    """
    try:
        parsed = _parse(pattern)
        made = _sequence(parsed, rng, spread + min_length, {})
    except (re.error, KeyError, RecursionError) as error:
        raise ValueError(f"cannot make a text that matches /{pattern}/: {error!r}") from error
    return made


def _sequence(parts: Any, rng: random.Random, spread: int, groups: dict[int, str]) -> str:
    return "".join(_one(str(op), value, rng, spread, groups) for op, value in parts)


def _one(op: str, value: Any, rng: random.Random, spread: int, groups: dict[int, str]) -> str:
    if op == "LITERAL":
        return chr(value)
    if op == "NOT_LITERAL":
        return _pick(_PLAIN.replace(chr(value), "") or "0", rng)
    if op == "ANY":
        return _pick(_PLAIN, rng)
    if op == "IN":
        return _pick(_members(value), rng)
    if op == "BRANCH":
        return _sequence(value[1][int(rng.random() * len(value[1]))], rng, spread, groups)
    if op == "SUBPATTERN":
        made = _sequence(value[3], rng, spread, groups)
        if value[0] is not None:
            groups[value[0]] = made
        return made
    if op in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        low, high, inner = value
        most = min(int(high), int(low) + max(3, spread))
        count = most if spread >= 20 else int(low) + int(rng.random() * (most - int(low) + 1))
        return "".join(_sequence(inner, rng, spread, groups) for _ in range(count))
    if op == "ATOMIC_GROUP":
        return _sequence(value, rng, spread, groups)
    if op == "GROUPREF":
        return groups[value]
    if op in ("AT", "ASSERT", "ASSERT_NOT"):
        return ""  # anchors hold anyway; the caller checks the text as a whole
    raise KeyError(op)


def _members(parts: Any) -> str:
    negated, found = False, ""
    for op, value in parts:
        name = str(op)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            found += chr(value)
        elif name == "RANGE":
            low, high = value
            found += "".join(map(chr, range(low, min(high, low + 500) + 1)))
        elif name == "CATEGORY":
            found += _CLASSES[str(value)]
    return "".join(each for each in _ALL if each not in found) if negated else found


def _pick(options: str, rng: random.Random) -> str:
    if not options:
        raise KeyError("an empty class of characters")
    return options[int(rng.random() * len(options))]
