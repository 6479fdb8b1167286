"""What stands in the documentation: code blocks, what they are marked with, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Pages with a test of their own, which runs every snippet of theirs; here only their commands and links are looked at.
ELSEWHERE = {
    "docs/mock_model.md": "tests/tinytroupe/testing/test_mock_page.py",
    "docs/performance_guide.md": "tests/tinytroupe/test_guide_snippets.py",
    "docs/simulation.md": "tests/tinytroupe/environment/test_simulation_page.py",
    "docs/third_party.md": "tests/packaging/test_third_party_gate.py",
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
}

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w+-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
_DIRECTIVE = re.compile(r"<!-- (?P<name>no-run|file|append|run)(?:: (?P<value>[^\n]*?))? -->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes
    ----------
    page, line
        Where it is: path below the root, and number of its first line.
    language, code
        As written.
    directive, value
        Of the comment before it: ``no-run: REASON``, ``file: NAME`` (the block is written there), ``append: NAME``,
        ``run`` (a console session that is run and compared).
    """

    page: str
    line: int
    language: str
    code: str
    directive: str
    value: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def pages() -> dict[str, str]:
    """Return the text of every page, by its path below the root."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in sorted(found)}


@cache
def blocks() -> tuple[Block, ...]:
    """Return the code blocks of all pages, in their order."""
    found = []
    for page, text in pages().items():
        for match in _FENCE.finditer(text):
            directive = _DIRECTIVE.search(text, 0, match.start())
            directive = directive if directive and not text[directive.end() : match.start()].strip() else None
            indent = match["indent"]
            code = re.sub(rf"^{indent}", "", match["code"], flags=re.MULTILINE)
            found.append(
                Block(
                    page,
                    text.count("\n", 0, match.start("code")) + 1,
                    match["language"],
                    code,
                    directive["name"] if directive else "",
                    (directive["value"] or "") if directive else "",
                )
            )
    return tuple(found)


def of(page: str) -> list[Block]:
    """Return the blocks of one page."""
    return [block for block in blocks() if block.page == page]


def prose(page: str) -> str:
    """Return a page without its code, fenced or inline."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", pages()[page]))


def anchors(page: str) -> set[str]:
    """Return the anchors that headings of a page have."""
    text = _FENCE.sub("", pages()[page])
    found = set()
    for heading in re.findall(r"^#+ +(.*?)\s*$", text, re.MULTILINE):
        words = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading)).strip().lower()
        found.add(re.sub(r"\s", "-", words))
        found.add(re.sub(r"[\s-]+", "-", words))  # as MkDocs does it
    return found
