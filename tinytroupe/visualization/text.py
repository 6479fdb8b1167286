"""Text from outside made fit to be shown, and figures made fit to be read."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata

_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
# Controls, format marks (among them those of direction), surrogates, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Emoji and several scripts are written with these.
_JOINERS = "\u200c\u200d"
_LOOKS_HASHED = re.compile(r"-[0-9a-f]{10}$")


def display_text(text: object, limit: int = 160) -> str:
    """Make a name or message from outside harmless to look at.

    Control characters, line separators, lone surrogates and marks that turn the direction of writing are shown as
    escapes; what is longer than `limit` characters loses its middle. HTML is left to the template's autoescape.
    """
    raw = str(text)
    if len(raw) > 4 * limit:  # Do not look at megabytes to show a line; two ends are kept, whichever the escapes eat.
        raw = raw[: 2 * limit] + raw[-2 * limit :]
    shown = "".join(_escape(c) if unicodedata.category(c) in _UNSEEN and c not in _JOINERS else c for c in raw)
    if len(shown) <= limit and raw == str(text):
        return shown
    tail = limit // 3
    return shown[: limit - tail - 1] + "…" + (shown[-tail:] if tail else "")


def _escape(character: str) -> str:
    if character in "\t\n\r":
        return " "
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cut_to_width(text: object, columns: int) -> str:
    """Make a name fit for a label of a drawing, where nothing wraps: characters as wide as two count as two.

    >>> cut_to_width("Alice", 6), cut_to_width("Alexandria", 6), cut_to_width("漢字漢字", 6)
    ('Alice', 'Alexa…', '漢字…')
    """
    shown = display_text(text, max(4 * columns, 16))
    taken = 0.0
    for place, character in enumerate(shown):
        taken += _width(character)
        if taken > columns:
            while place and sum(map(_width, shown[:place])) > columns - 1:
                place -= 1
            return f"{shown[:place]}…"
    return shown


def _width(character: str) -> float:
    if unicodedata.east_asian_width(character) in ("W", "F") or ord(character) > 0xFFFF:
        return 2.0
    return 0.0 if unicodedata.combining(character) else 1.4 if character in "mwMW@%" else 1.0


def safe_file_name(text: str, limit: int = 80) -> str:
    """Turn any text into a file name that is valid and bounded everywhere.

    It consists of lower-case ASCII letters, digits, `.`, `_` and `-`. Where anything had to be changed, a short hash
    of the whole text is appended, so that different texts give different names on case-blind file systems too.

    Parameters
    ----------
    text
        Anything, for example a test id.
    limit
        The most characters, at least 16.
    """
    if limit < 16:
        raise ValueError(f"a file name needs room for 16 characters, not {limit}")
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    name = re.sub(r"\.{2,}", ".", name).strip(".-")
    if name and name == text and len(name) <= limit and not _RESERVED.match(name) and not _LOOKS_HASHED.search(name):
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    name = name[: limit - 11].strip(".-")
    if _RESERVED.match(name):
        name = f"x{name}"[: limit - 11]
    return f"{name}-{digest}" if name else f"x-{digest}"


def format_number(value: float | None, digits: int = 4) -> str:
    """Write a number for people: at most `digits` significant digits, thousands set apart, whole numbers in full."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if float(value).is_integer() and abs(value) < 1e12:
        written = f"{int(value):,}"
    elif abs(value) >= 1e12 or 0 < abs(value) < 1e-4:
        written = f"{value:.{digits - 1}e}"
    else:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        written = f"{value:,.{decimals}f}"
        if "." in written:
            written = written.rstrip("0").rstrip(".")
    # The comma becomes a narrow no-break space, which no country reads as a decimal sign.
    return written.replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "−")


def format_quantity(value: float | None, unit: str, digits: int = 4) -> str:
    """Write a number with its unit; `x` is a factor and becomes ×."""
    number = format_number(value, digits)
    if value is None or not unit:
        return number
    return f"{number}×" if unit == "x" else f"{number}\N{NO-BREAK SPACE}{unit}"


def format_change(change: float | None) -> str:
    """Write a relative change as a signed percentage."""
    if change is None:
        return "–"
    if change == 0:
        return "±0\N{NO-BREAK SPACE}%"
    percent = change * 100
    if abs(percent) < 0.05:
        written = "+<0.1" if percent > 0 else "−<0.1"
    elif abs(percent) < 1000:
        written = f"{percent:+.1f}"
    else:
        written = f"{percent:+,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return written.replace("-", "−") + "\N{NO-BREAK SPACE}%"
