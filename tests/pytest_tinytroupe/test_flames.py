"""A test that fails by its memory has a flame graph beside the report, where memray is installed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from pytest_tinytroupe import flames

FAILS_BY_MEMORY = """
    import pytest
    @pytest.mark.perf(max_heap_mb=1, baseline=False{more})
    def test_it():
        def allocates_most():
            return bytearray(3 * 2**20)
        allocates_most()
"""


def run(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:randomly", "--perf", "--perf-report=out", *args)


def page_of(pytester):
    (page,) = (pytester.path / "out" / "tests").iterdir()
    return page.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("more", "args"), [("", ["-n1"]), (", isolate=True", [])], ids=["xdist", "isolated"])
def test_it_is_drawn_and_linked_from_the_page(pytester, more, args):
    pytest.importorskip("memray", reason="memray is not installed: flame graphs were not tried")
    pytester.makepyfile(test_it=FAILS_BY_MEMORY.format(more=more))
    result = run(pytester, *args)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf: heap_mb over limit: 3* MB, max 1 MB"])
    (flame,) = (pytester.path / "out" / "flames").iterdir()
    assert f"../flames/{flame.name}" in unquote(page_of(pytester))
    drawn = flame.read_text(encoding="utf-8")
    assert "allocates_most" in drawn
    assert 'src="http' not in drawn


def test_without_memray_the_remedy_is_told(pytester):
    pytester.makeconftest("import sys\nsys.modules['memray'] = None")
    pytester.makepyfile(test_it=FAILS_BY_MEMORY.format(more=""))
    run(pytester).assert_outcomes(failed=1)
    assert "pytest-tinytroupe[memray]" in page_of(pytester)
    assert not (pytester.path / "out" / "flames").exists()


def test_a_trace_that_cannot_be_drawn_is_said(pytester, monkeypatch):
    pytest.importorskip("memray", reason="memray is not installed: flame graphs were not tried")
    monkeypatch.setattr(flames, "run_fresh", lambda *args, trace, **more: Path(trace).write_bytes(b"no trace"))
    pytester.makepyfile(test_it=FAILS_BY_MEMORY.format(more=""))
    run(pytester).assert_outcomes(failed=1)
    assert "memory: no flame graph: memray could not draw it: " in page_of(pytester)
    assert not (pytester.path / "out" / "flames").exists()


def test_drawing_that_takes_too_long_is_said(pytester, monkeypatch):
    pytest.importorskip("memray", reason="memray is not installed: flame graphs were not tried")

    def never(command, *, timeout, **more):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(flames, "run_fresh", lambda *args, **more: None)
    monkeypatch.setattr(flames.subprocess, "run", never)
    pytester.makepyfile(test_it=FAILS_BY_MEMORY.format(more=""))
    run(pytester, "--perf-time-limit=7").assert_outcomes(failed=1)
    assert "memory: no flame graph: drawing took more than 7 s (--perf-time-limit)" in page_of(pytester)


def test_a_time_limit_from_outside_leaves_the_test_without_a_flame_graph(pytester, monkeypatch):
    monkeypatch.setattr(flames, "find_spec", lambda name: True)
    monkeypatch.setattr(flames, "run_fresh", lambda *_, **__: pytest.fail("Timeout (>2.0s) from pytest-timeout."))
    pytester.makepyfile(test_it=FAILS_BY_MEMORY.format(more=""))
    run(pytester).assert_outcomes(failed=1)
    assert "memory: no flame graph: Timeout (&gt;2.0s) from pytest-timeout." in page_of(pytester)


def test_what_fails_otherwise_is_not_run_again(pytester):
    pytester.makepyfile(
        test_it="""
        import pytest
        @pytest.mark.perf(min_efficiency=0.5)
        def test_it(): pass
        """
    )
    run(pytester, "--perf-json=out.json").assert_outcomes(failed=1)
    (record,) = json.loads((pytester.path / "out.json").read_text())["records"]
    assert (record["attachments"], [note for note in record["notes"] if "memray" in note]) == ([], [])
