"""The report in a real browser, served under a strict content policy."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_tinytroupe.records import Metric, SessionReport, TestRecord, Timeline, Verdict
from pytest_tinytroupe.report.html import write_report

POLICY = "sandbox; default-src 'none'; img-src 'self'; style-src 'self'"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed to look at the report with"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the test's directory under the policy; gives the address and the paths asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            self.send_header("Content-Security-Policy", POLICY)
            super().end_headers()

        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", asked
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_pages_render_under_the_policy_without_a_blocked_or_outside_request(
    tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    line = Timeline("process memory", "MB", tuple((k * 0.02, 80.0 + k % 7) for k in range(100)), ((0.5, "step 1"),))
    record = TestRecord(
        "a.py::b", "failed", 0.2, (Verdict(Metric("llm_calls", 2), "regressed", None, "", 1, 0, 1.0),), (line,)
    )
    write_report(tmp_path / "report", SessionReport("Performance", "2026-11-23T18:02:11+00:00", (record,)))
    (test_page,) = (tmp_path / "report" / "tests").iterdir()
    for page in ("index.html", f"tests/{test_page.name}"):
        shot = tmp_path / "shot.png"
        run = subprocess.run(
            [
                str(BROWSER),
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *("--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=400,900"),
                *(f"--screenshot={shot}", f"{address}/report/{page}"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "CONSOLE" not in run.stderr
        assert shot.stat().st_size > 10_000, "the page is blank"
        shot.unlink()
    assert set(asked) <= {"/report/index.html", f"/report/tests/{test_page.name}", "/report/report.css", "/favicon.ico"}
