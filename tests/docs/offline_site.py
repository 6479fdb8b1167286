"""A hook of the documentation's build: a page that asks another host for anything ends it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

_ELSEWHERE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
_LINKS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "manifest", "modulepreload"}


def requests_of_page(html: str) -> list[str]:
    """Return what a browser would ask other hosts for by itself; links that a reader may follow are none."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if tag == "link" and not _LINKS & set((given.get("rel") or "").lower().split()):
                return
            address = given.get("href" if tag == "link" else _LOADS.get(tag, "")) or ""
            if _ELSEWHERE.match(address):
                found.append(address.strip())

    Reader().feed(html)
    return found + requests_of_style(html)


def requests_of_style(css: str) -> list[str]:
    """Return the addresses on other hosts that a stylesheet loads."""
    return re.findall(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""", css)


def on_post_page(output: str, *, page: Any, config: Any) -> str:
    """Look at a page that is ready to be written."""
    asked = requests_of_page(output)
    if asked:
        _refuse(page.file.src_uri, asked)
    return output


def on_post_build(*, config: Any) -> None:
    """Look at the stylesheets, which the theme brings."""
    for path in Path(config["site_dir"]).rglob("*.css"):
        asked = requests_of_style(path.read_text("utf-8"))
        if asked:
            _refuse(path.name, asked)


def _refuse(name: str, asked: list[str]) -> None:
    from mkdocs.exceptions import PluginError

    raise PluginError(f"{name} asks other hosts: {', '.join(sorted(set(asked)))}")
