"""Documents as people read them: text out of files and pages, in pieces that fit a memory."""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

PIECE_CHARACTERS = 2000
"""Longest piece; an embedding of more says less about its parts."""

MAX_DOCUMENT_BYTES = 20 * 2**20

_TEXT = {".txt", ".md", ".markdown", ".rst", ".csv", ".json", ".html", ".htm", ""}
_WEB_TIMEOUT_S = 30.0


class DocumentError(ValueError):
    """A document can't be read. The message names it, and what would help."""


def text_of_file(path: str | Path) -> str:
    """Return the text of a file: plain text, Markdown, HTML; PDF and Word with the extra ``documents``.

    Raises
    ------
    DocumentError
        Not there, larger than 20 MiB, of an unknown kind, or not what its name says.
    """
    path = Path(path)
    kind = path.suffix.lower()
    try:
        size = path.stat().st_size
        if size > MAX_DOCUMENT_BYTES:
            raise DocumentError(f"{path} has {size:,} bytes, more than the {MAX_DOCUMENT_BYTES:,} that are read")
        if kind == ".pdf":
            return _pdf(path)
        if kind == ".docx":
            return _docx(path)
        if kind not in _TEXT:
            raise DocumentError(f"{path}: documents of the kind {kind!r} can't be read; convert it to text or PDF")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path} can't be read as a document: {error}") from error
    return text_of_html(text) if kind in (".html", ".htm") else text


def files_of_folder(folder: str | Path) -> Iterator[Path]:
    """Yield the readable documents directly in a folder, in the order of their names.

    Raises
    ------
    DocumentError
        There is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DocumentError(f"{folder} is not a folder")
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix.lower() in {*_TEXT, ".pdf", ".docx"} and not path.name.startswith("."):
            yield path


def text_of_page(url: str) -> str:
    """Return the text of a page on the web.

    Raises
    ------
    DocumentError
        Not an http(s) address, not reachable, longer than 20 MiB, or not text.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DocumentError(f"{url!r} is not an http(s) address")
    try:
        with urllib.request.urlopen(url, timeout=_WEB_TIMEOUT_S) as answer:  # the scheme was checked above
            raw = answer.read(MAX_DOCUMENT_BYTES + 1)
            charset = answer.headers.get_content_charset() or "utf-8"
            html = answer.headers.get_content_type() == "text/html"
    except OSError as error:
        raise DocumentError(f"{url} can't be read: {error}") from error
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"{url} is longer than the {MAX_DOCUMENT_BYTES:,} bytes that are read")
    try:
        text = raw.decode(charset)
    except (UnicodeDecodeError, LookupError) as error:
        raise DocumentError(f"{url} is not text: {error}") from error
    return text_of_html(text) if html else text


def text_of_html(html: str) -> str:
    """Return the visible words of a page, a paragraph a line."""
    reader = _Words()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return "\n\n".join(line for line in lines if line)


def pieces(text: str, most: int = PIECE_CHARACTERS) -> list[str]:
    """Cut a text into pieces of at most `most` characters, where possible at ends of paragraphs or sentences.

    No word is lost, and the order stays.
    """
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        rest = paragraph.strip()
        while rest:
            if found and len(found[-1]) + 2 + len(rest) <= most:
                found[-1] += "\n\n" + rest
                break
            if len(rest) <= most:
                found.append(rest)
                break
            cut = max(rest.rfind(end, 0, most) + 1 for end in (". ", "! ", "? ", "\n"))
            cut = cut or rest.rfind(" ", 0, most) + 1 or most
            found.append(rest[:cut].strip())
            rest = rest[cut:].strip()
    return found


class _Words(HTMLParser):
    _HIDDEN = frozenset({"script", "style", "noscript", "template", "head"})
    _BREAKS = frozenset({"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in self._HIDDEN
        if tag in self._BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._HIDDEN and self._hidden:
            self._hidden -= 1
        if tag in self._BREAKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(" ".join(data.split("\n")))


def _pdf(path: Path) -> str:
    try:
        import pypdf
    except ImportError as error:
        raise _missing(path) from error
    try:
        return "\n\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    except pypdf.errors.PyPdfError as error:
        raise DocumentError(f"{path} is not a readable PDF: {error}") from error


def _docx(path: Path) -> str:
    try:
        import docx
    except ImportError as error:
        raise _missing(path) from error
    open_document: Callable[[str], object] = docx.Document
    try:
        document = open_document(str(path))
    except Exception as error:  # the library raises KeyError, BadZipFile, ValueError, … for a file that is not one
        raise DocumentError(f"{path} is not a readable Word document: {error}") from error
    return "\n\n".join(paragraph.text for paragraph in document.paragraphs)  # type: ignore[attr-defined]


def _missing(path: Path) -> DocumentError:
    return DocumentError(f"{path}: reading this needs the extra: pip install 'pytest-tinytroupe[documents]'")
