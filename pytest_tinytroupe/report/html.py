"""The report as pages: an index, a page a test, and the figures of memory beside them."""

from __future__ import annotations

from pathlib import Path

from pytest_tinytroupe.records import SessionReport
from pytest_tinytroupe.report.index_page import index_page, test_view
from pytest_tinytroupe.report.memory_json import NAME, memory_json
from pytest_tinytroupe.report.shown import ATTENTION, LOOKS, status_of
from pytest_tinytroupe.report.test_page import test_page
from tinytroupe.runtime.files import write_atomically
from tinytroupe.visualization import pages
from tinytroupe.visualization.text import display_text


def write_report(directory: Path, session: SessionReport) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    directory
        Made if missing. Gets `index.html`, `report.css`, `memory.json`, and in `tests/` a page for each test; pages of
        earlier runs are replaced where the test is the same and otherwise left.
    session
        The run.

    Returns
    -------
    Path
        That of `index.html`, which is written last: while it is there, so is all it links to.

    Raises
    ------
    OSError
        If a file cannot be written; none is left half written.
    """
    order = list(LOOKS)
    ranks = {key: place for place, key in enumerate(order) if key in ATTENTION}
    records = sorted(session.records, key=lambda record: ranks.get(status_of(record), len(order)))
    tests = [test_view(record) for record in records]
    title = display_text(session.title, 120)
    write_atomically(directory / pages.STYLESHEET, pages.stylesheet())
    write_atomically(directory / NAME, memory_json(session))
    for record, view in zip(records, tests, strict=True):
        write_atomically(directory / view["href"], test_page(title, session, record, view))
    return write_atomically(directory / "index.html", index_page(title, session, tests))
