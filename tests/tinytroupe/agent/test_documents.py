"""Documents read into knowledge: files, folders, pages, and what can't be read."""

from __future__ import annotations

import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytroupe.agent import DocumentError, TinyPerson
from tinytroupe.agent.documents import MAX_DOCUMENT_BYTES, PIECE_CHARACTERS, pieces, text_of_file, text_of_html

PAGE = """<!doctype html><html><head><title>Tea</title><style>p {color: red}</style></head><body>
<h1>Tea &amp; cake</h1><p>Served at <b>five</b>.<br>Every
day.</p><script>alert("no")</script><ul><li>green</li><li>black</li></ul></body></html>"""
WORDS = "Tea & cake\n\nServed at five.\n\nEvery day.\n\ngreen\n\nblack"


def known(person):
    return [(entry.content["content"], entry.content["source"]) for entry in person.semantic_memory.retrieve_all()]


@pytest.mark.parametrize("name", ["tea.txt", "tea.md", "tea.markdown", "tea.csv", "README", "TEA.TXT"])
def test_text_is_read_as_it_is(tmp_path, name):
    path = tmp_path / name
    path.write_text("Ünser Tee\n\nis **green**.", "utf-8")
    ann = TinyPerson("Ann").read_document_from_file(path)
    assert known(ann) == [("Ünser Tee\n\nis **green**.", str(path))]
    assert ann.semantic_memory.retrieve_all()[0].kind == "document"


def test_of_html_the_visible_words(tmp_path):
    path = tmp_path / "tea.html"
    path.write_text(PAGE)
    assert known(TinyPerson("Ann").read_document_from_file(str(path))) == [(WORDS, str(path))]
    assert text_of_html("a <b>b") == "a b"
    assert text_of_html("") == ""


def test_a_folder_is_read_in_the_order_of_names_and_what_is_no_document_is_left_out(tmp_path):
    for name in ("b.txt", "a.md", ".hidden.txt", "c.exe"):
        (tmp_path / name).write_text(name)
    (tmp_path / "d").mkdir()
    ann = TinyPerson("Ann").read_documents_from_folder(tmp_path)
    assert [text for text, _ in known(ann)] == ["a.md", "b.txt"]
    with pytest.raises(DocumentError, match="is not a folder"):
        ann.read_documents_from_folder(tmp_path / "e")


def test_what_was_read_is_found_again(tmp_path):
    (tmp_path / "ferry.txt").write_text("The ferry to Riga leaves at nine.\n\n" + "Cats sleep a lot. " * 200)
    ann = TinyPerson("Ann").read_documents_from_folder(str(tmp_path))
    assert len(known(ann)) > 1
    assert all(len(text) <= PIECE_CHARACTERS for text, _ in known(ann))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("no.txt", None, "no.txt can't be read as a document"),
        ("bad.txt", b"\xff\xfe\xfa", "bad.txt can't be read as a document"),
        ("tea.exe", b"x", "documents of the kind '.exe' can't be read; convert it to text or PDF"),
    ],
)
def test_what_can_t_be_read_says_so_and_stores_nothing(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ann = TinyPerson("Ann")
    with pytest.raises(DocumentError, match=said):
        ann.read_document_from_file(tmp_path / name)
    assert known(ann) == []


@pytest.mark.parametrize("extra", [0, 1])
def test_the_bound_on_size_holds_at_its_edge(tmp_path, extra):
    path = tmp_path / "long.txt"
    with path.open("wb") as file:
        file.truncate(MAX_DOCUMENT_BYTES + extra)
    if extra:
        with pytest.raises(DocumentError, match=r"has 20,971,521 bytes, more than the 20,971,520 that are read"):
            text_of_file(path)
    else:
        assert len(text_of_file(path)) == MAX_DOCUMENT_BYTES


# ---------------------------------------------------------------- PDF and Word


def pdf(text):
    """A PDF of one page, written by hand."""
    stream = f"BT /F1 24 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + b"xref\n0 6\n0000000000 65535 f \n%strailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(body),
    )


def test_a_pdf(tmp_path):
    pytest.importorskip("pypdf")
    path = tmp_path / "tea.pdf"
    path.write_bytes(pdf("Tea is served at five."))
    assert known(TinyPerson("Ann").read_document_from_file(path)) == [("Tea is served at five.", str(path))]


def test_a_word_document(tmp_path):
    docx = pytest.importorskip("docx")
    path = tmp_path / "tea.docx"
    document = docx.Document()
    document.add_paragraph("Tea is served")
    document.add_paragraph("at five.")
    document.save(str(path))
    assert known(TinyPerson("Ann").read_document_from_file(path)) == [("Tea is served\n\nat five.", str(path))]


@pytest.mark.parametrize(("name", "library"), [("tea.pdf", "pypdf"), ("tea.docx", "docx")])
def test_a_file_that_is_none_is_named(tmp_path, name, library):
    pytest.importorskip(library)
    (tmp_path / name).write_bytes(b"not at all")
    with pytest.raises(DocumentError, match=f"{name} is not a readable"):
        text_of_file(tmp_path / name)


def test_a_zip_that_is_no_word_document_is_named(tmp_path):
    pytest.importorskip("docx")
    with zipfile.ZipFile(tmp_path / "tea.docx", "w") as file:
        file.writestr("a", "b")
    with pytest.raises(DocumentError, match="is not a readable Word document"):
        text_of_file(tmp_path / "tea.docx")


@pytest.mark.parametrize(("name", "library"), [("tea.pdf", "pypdf"), ("tea.docx", "docx")])
def test_without_the_extra_it_is_named(tmp_path, monkeypatch, name, library):
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DocumentError, match=r"needs the extra: pip install 'pytest-tinytroupe\[documents\]'"):
        text_of_file(tmp_path / name)


# ---------------------------------------------------------------- the web


class Pages(BaseHTTPRequestHandler):
    found = {  # noqa: RUF012
        "/page": ("text/html; charset=iso-8859-1", "<p>Café</p>".encode("iso-8859-1")),
        "/text": ("text/plain", "<p>Café</p>".encode()),
        "/picture": ("image/png", b"\x89PNG\xff"),
        "/odd": ("text/plain; charset=klingon", b"x"),
    }

    def do_GET(self):
        kind, body = self.found.get(self.path, ("", b""))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_pages_are_read_in_order(site):
    ann = TinyPerson("Ann").read_documents_from_web([f"{site}/page", f"{site}/text"])
    assert known(ann) == [("Café", f"{site}/page"), ("<p>Café</p>", f"{site}/text")]


@pytest.mark.parametrize(
    ("path", "said"),
    [("/no", "can't be read: .*404"), ("/picture", "is not text"), ("/odd", "is not text: unknown encoding")],
)
def test_a_page_that_can_t_be_read_says_so(site, path, said):
    ann = TinyPerson("Ann")
    with pytest.raises(DocumentError, match=said):
        ann.read_document_from_web(site + path)
    assert known(ann) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "tea.html", ""])
def test_only_the_web_is_read(url):
    with pytest.raises(DocumentError, match="is not an http"):
        TinyPerson("Ann").read_document_from_web(url)


def test_nobody_there():
    with pytest.raises(DocumentError, match="can't be read"):
        TinyPerson("Ann").read_document_from_web("http://127.0.0.1:9/")


# ---------------------------------------------------------------- pieces

texts = st.text(st.sampled_from("ab.!? \n"), max_size=300) | st.text(max_size=300)


@given(texts, st.integers(1, 60))
def test_pieces_hold_every_character_but_blanks_in_order_and_within_the_bound(text, most):
    found = pieces(text, most)
    assert all(0 < len(piece) <= most for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(piece == piece.strip() for piece in found)


@given(st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=9), min_size=1), st.integers(9, 40))
def test_no_word_is_cut_that_fits(words, most):
    assert " ".join(pieces(" ".join(words), most)).split() == words


def test_short_paragraphs_stay_together_and_long_ones_break_at_sentences():
    assert pieces("a\n\nb\n\nc", 100) == ["a\n\nb\n\nc"]
    assert pieces("One two. Three four. Five", 12) == ["One two.", "Three four.", "Five"]
    assert pieces("", 10) == []
