"""Links lead somewhere: files exist, and so do the headings they point at."""

from __future__ import annotations

import re

import pytest
from pages import ROOT, anchors, pages, prose


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page):
    home = (ROOT / page).parent
    dead = []
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose(page)):
        file, _, anchor = target.partition("#")
        path = (home / file).resolve() if file else ROOT / page
        if not path.exists() or (
            anchor and path.suffix == ".md" and anchor not in anchors(path.relative_to(ROOT).as_posix())
        ):
            dead.append(target)
    assert dead == []


def test_every_page_is_in_the_navigation():
    """Or at least one other page leads to it."""
    led_to = {
        (((ROOT / page).parent) / target.partition("#")[0]).resolve()
        for page in pages()
        for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose(page))
    }
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    lost = [
        page
        for page in pages()
        if page.startswith("docs/") and (ROOT / page) not in led_to and page.removeprefix("docs/") not in navigation
    ]
    assert lost == []
