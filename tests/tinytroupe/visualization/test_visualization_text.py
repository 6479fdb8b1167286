"""Hostile text made harmless, file names, and figures for people."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.visualization import safe_file_name
from tinytroupe.visualization.text import display_text, format_change, format_number, format_quantity

any_text = st.text(st.characters(), max_size=400)


@given(any_text, st.integers(16, 120))
def test_file_names_are_safe_and_bounded(text: str, limit: int) -> None:
    name = safe_file_name(text, limit)
    assert 1 <= len(name) <= limit
    assert re.fullmatch(r"[a-z0-9._-]+", name)
    assert not name.startswith((".", "-"))
    assert not name.endswith((".", "-"))
    assert ".." not in name


@given(any_text, any_text)
def test_different_texts_have_different_file_names(one: str, other: str) -> None:
    if one != other:
        assert safe_file_name(one) != safe_file_name(other)


def test_file_names_worth_a_look() -> None:
    assert safe_file_name("report-1.html") == "report-1.html"
    for text in (
        "",
        "..",
        "../../etc/passwd",
        "CON",
        "con",
        "aux.txt",
        "Test",
        "a" * 81,
        "/",
        "\ud800",
        "x-0123456789",
    ):
        assert re.fullmatch(r".*-[0-9a-f]{10}", safe_file_name(text)), text
    assert safe_file_name("Test") != safe_file_name("test")
    once = safe_file_name("a/b")
    assert safe_file_name(once) != once
    assert len(safe_file_name("a" * 80)) == 80
    with pytest.raises(ValueError, match="16"):
        safe_file_name("x", 15)


@given(any_text, st.integers(10, 200))
def test_shown_text_is_bounded_and_printable(text: str, limit: int) -> None:
    shown = display_text(text, limit)
    assert len(shown) <= limit
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown if c not in "\u200c\u200d")
    shown.encode("utf-8")


def test_shown_text_worth_a_look() -> None:
    assert display_text("plain – ünïcode 日本") == "plain – ünïcode 日本"
    assert display_text("a\u202eb\x1b[0m\nc") == "a\\u202eb\\u001b[0m c"
    assert display_text("x" * 160) == "x" * 160
    assert display_text("ab" * 500, 9) == "ababa…bab"
    assert len(display_text("\x00" * 10_000, 50)) == 50
    assert display_text(3) == "3"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (0, "0"),
        (50.0, "50"),
        (1234567, "1\u202f234\u202f567"),
        (1234.56, "1\u202f235"),
        (93.456, "93.46"),
        (-0.12345, "−0.1235"),
        (0.00001234, "1.234e−05"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
        (1e30, "1.000e+30"),
    ],
)
def test_numbers(value: float | None, written: str) -> None:
    assert format_number(value) == written


def test_quantities_and_changes() -> None:
    assert format_quantity(10.0, "x") == "10×"
    assert format_quantity(3.25, "MB") == "3.25\u00a0MB"
    assert format_quantity(7, "") == "7"
    assert format_quantity(None, "MB") == "–"
    changes = {None: "–", 0: "±0", 0.1: "+10.0", -0.05: "−5.0", 1e-9: "+<0.1", -1e-9: "−<0.1", 20: "+2\u202f000"}
    for change, written in changes.items():
        assert format_change(change).removesuffix("\u00a0%") == written
