"""A word processor: documents are written, kept, and saved as files where the program says so."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

from tinytroupe.tools.tiny_tool import Fields, TinyTool, ToolError, text_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinytroupe.agent.tiny_person import TinyPerson
    from tinytroupe.extraction.exporter import ArtifactExporter

WRITE_DOCUMENT = "WRITE_DOCUMENT"

MAX_DOCUMENT_CHARACTERS = 100_000


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a title.

    Attributes
    ----------
    title, content, author
        Text; the content is Markdown.
    """

    title: str
    content: str
    author: str = ""


class TinyWordProcessor(TinyTool):
    """Keeps what people write; with an exporter, each document is a Markdown and a JSON file, too.

    Parameters
    ----------
    owner
        The only person who may use it; None: everyone who has it.
    exporter
        Writes the files; None: no files.
    max_documents
        Documents kept; beyond it, those written longest ago go. Files stay.
    """

    actions: ClassVar[Mapping[str, str]] = {
        WRITE_DOCUMENT: "write a document, all of it; content is a JSON object with title and content (Markdown, as "
        "long as it needs). The same title again replaces your earlier version. No target."
    }

    def __init__(
        self, owner: TinyPerson | None = None, exporter: ArtifactExporter | None = None, *, max_documents: int = 100
    ) -> None:
        super().__init__("word processor", "Writes documents.", owner)
        if max_documents < 1:
            raise ValueError(f"max_documents must be at least 1, got {max_documents!r}")
        self.exporter = exporter
        self.max_documents = max_documents
        self._documents: OrderedDict[tuple[str, str], Document] = OrderedDict()

    @property
    def documents(self) -> tuple[Document, ...]:
        """The latest version of each document, written last comes last."""
        return tuple(self._documents.values())

    def write_document(self, title: str, content: str, author: str | None = None) -> Document:
        """Keep a document and return it; one of the same title and author is replaced.

        Raises
        ------
        ToolError
            No title, or more than 100,000 characters.
        OSError
            Its files can't be written.
        """
        if not title.strip():
            raise ToolError("a document needs a title")
        if len(content) > MAX_DOCUMENT_CHARACTERS:
            raise ToolError(f"a document has at most {MAX_DOCUMENT_CHARACTERS:,} characters, this has {len(content):,}")
        document = Document(title, content, author or "")
        if self.exporter is not None:
            name = f"{title} - {document.author}" if document.author else title
            self.exporter.export(name, content, "Document", target_format="md")
            self.exporter.export(name, asdict(document), "Document", target_format="json")
        key = (title, document.author)
        self._documents[key] = document
        self._documents.move_to_end(key)
        while len(self._documents) > self.max_documents:
            self._documents.popitem(last=False)
        return document

    def use(self, agent: TinyPerson, kind: str, fields: Fields) -> None:
        """See `TinyTool.use`."""
        self.write_document(
            text_in(fields, "title", needed=True),
            text_in(fields, "content", needed=True, most=MAX_DOCUMENT_CHARACTERS),
            agent.name,  # whatever it says of an author: nobody writes over what others wrote
        )
