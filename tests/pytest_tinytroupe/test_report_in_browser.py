"""The report in a real browser, served under a strict content policy: drawn, readable, silent, accessible."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

headless = pytest.importorskip("headless", reason="the browser is spoken to through pipes as POSIX knows them")
from test_report_html import RSS, full_record, record, session  # noqa: E402

from pytest_tinytroupe.records import Metric, Verdict  # noqa: E402
from pytest_tinytroupe.report.html import write_report  # noqa: E402

POLICY = "sandbox; default-src 'none'; img-src 'self'; style-src 'self'"
AXE = os.environ.get("AXE_CORE", "")
"""Path of axe.min.js, from ``npm install axe-core``."""
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        headless.BROWSER is None, reason="no chromium or google-chrome is installed to look at the report with"
    ),
]

LAYOUT = """(() => {
  const box = (element) => element.getBoundingClientRect();
  const told = (element) => (element.textContent || element.tagName).trim().slice(0, 60);
  const clipped = (element) =>
    element && (getComputedStyle(element).clipPath != 'none' || clipped(element.parentElement));
  const shown = (element) => element.checkVisibility() && box(element).width > 1.5 && !clipped(element);
  const wrong = [];
  if (document.documentElement.scrollWidth > innerWidth)
    wrong.push(`the page is ${document.documentElement.scrollWidth} px wide`);
  const scrolls = (element) => ['auto', 'scroll', 'hidden'].includes(getComputedStyle(element).overflowX);
  for (const element of document.querySelectorAll('body *:not(svg, svg *)')) {
    if (!shown(element) || scrolls(element)) continue;
    if (element.clientWidth && element.scrollWidth > element.clientWidth + 1 && !element.querySelector('svg'))
      wrong.push(`${told(element)}: ${element.scrollWidth} px in a box of ${element.clientWidth}`);
  }
  const drawings = [...document.querySelectorAll('svg.drawing, svg.spark')].filter(shown);
  for (const drawing of drawings) {
    if (box(drawing).width < 50 || box(drawing).height < 10) wrong.push(`a drawing of ${told(drawing)} is flat`);
    if (![...drawing.querySelectorAll('path')].some((path) => box(path).width > 5))
      wrong.push(`nothing is drawn in ${told(drawing)}`);
    const card = box(drawing.closest('.chart, .card'));
    const texts = [...drawing.querySelectorAll('text')].filter(shown);
    for (const text of texts) {
      const r = box(text);
      if (r.left < card.left || r.right > card.right || r.top < card.top || r.bottom > card.bottom)
        wrong.push(`${told(text)} sticks out of its card`);
    }
    texts.forEach((a, k) => texts.slice(k + 1).forEach((b) => {
      const p = box(a), q = box(b);
      const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (across > 2 && down > 4) wrong.push(`${told(a)} and ${told(b)} overlap`);
    }));
  }
  return {wrong, drawings: drawings.length};
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it; the first page is the fullest."""
    directory = tmp_path_factory.mktemp("report")
    improved = Verdict(Metric("llm_calls", 2), "improved", None, "", 4, 0, -0.5)
    unmeasured = Verdict(Metric("speedup", None, "x", better="higher"), "unmeasured", 3, "min", note="no world ran")
    write_report(
        directory,
        session(
            full_record(
                "tests/test_a.py::TestPanel::test_full[with a rather long id that has to be broken]", people=30
            ),
            record("tests/test_a.py::test_improved", "passed", improved, timelines=(RSS,)),
            record("tests/test_b.py::test_unmeasured", "failed", unmeasured, notes=("a note " * 40,)),
        ),
    )
    return directory


@pytest.fixture(scope="module")
def address(report: Path) -> Iterator[str]:
    """Serve the report under the policy, and without it where the address says so."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            if not self.path.endswith("?scripts"):
                self.send_header("Content-Security-Policy", POLICY)
            super().end_headers()

        def do_GET(self) -> None:
            if self.path != "/favicon.ico":  # which browsers ask for by themselves
                return super().do_GET()
            self.send_response(204)
            return self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(report)))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all pages."""
    chromium = headless.Chromium(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


def pages_of(report: Path) -> dict[str, int]:
    """Return the least number of drawings by page: sparklines on the index, charts on the pages of tests."""
    full, improved, unmeasured = (
        f"tests/{next((report / 'tests').glob(f'*{name}*')).name}" for name in ("test_full", "improved", "unmeasured")
    )
    # Turns, calls, process, heap, everybody, six people; and the first twelve rows of the table.
    return {"index.html": 2, full: 11 + 12, improved: 1, unmeasured: 0}


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_are_drawn_under_the_policy(report: Path, address: str, browser: Any, dark: bool, width: int) -> None:
    for page, least in pages_of(report).items():
        browser.open(f"{address}/{page}", width=width, dark=dark)
        assert browser.complaints == []
        assert set(browser.asked_for) <= {f"{address}/{page}", f"{address}/report.css", f"{address}/favicon.ico"}
        found = browser.evaluate(LAYOUT)
        assert found["wrong"] == [], page
        assert found["drawings"] >= least, page
        colour = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour[4:-1].split(","))) < 200) is dark, colour


def test_filters_work_without_scripts(address: str, browser: Any) -> None:
    browser.open(f"{address}/index.html", width=1400, dark=False)
    rows = "[...document.querySelectorAll('tr.row')].filter((row) => row.checkVisibility()).length"
    assert browser.evaluate(rows) == 3
    for name, left in (("attention", 2), ("improved", 1), ("all", 3)):
        browser.evaluate(f"document.getElementById('only-{name}').click()")
        assert browser.evaluate(rows) == left


@pytest.mark.skipif(not AXE, reason="AXE_CORE does not name axe.min.js (npm install axe-core): accessibility not tried")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_violation_of_level_a_or_aa(report: Path, address: str, browser: Any, dark: bool) -> None:
    axe = Path(AXE).read_text(encoding="utf-8")
    options = {"runOnly": {"type": "tag", "values": LEVELS}}
    for page in pages_of(report):
        browser.open(f"{address}/{page}?scripts", width=1400, dark=dark)  # the sandbox stops the timers axe-core needs
        browser.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        found = browser.evaluate(
            f"{axe}\n;axe.run(document, {options!r}).then((found) => ({{"
            "passes: found.passes.length,"
            "violations: found.violations.map((each) => [each.id, each.nodes.map((node) => node.html).slice(0, 3)])}))"
        )
        assert found["violations"] == [], page
        assert found["passes"] > 10, page
