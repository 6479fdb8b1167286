"""The report of a run as pages."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pytest_tinytroupe.instruments.memories import POINTS
from pytest_tinytroupe.records import Metric, SessionReport, Site, TestRecord, Timeline, TurnSpan, Verdict
from pytest_tinytroupe.report.html import write_report
from pytest_tinytroupe.report.shown import metric_name
from tinytroupe.visualization.agent_memory import AgentMemory

RSS = Timeline("process memory", "MB", tuple((k * 0.02, 80 + k % 7) for k in range(100)), ((0.5, "step 1"),))


def record(
    nodeid: str = "tests/test_a.py::test_a", outcome: str = "passed", *verdicts: Verdict, **rest: Any
) -> TestRecord:
    return TestRecord(nodeid, outcome, 0.25, verdicts, **rest)


def session(*records: TestRecord) -> SessionReport:
    return SessionReport(
        "Performance of shop",
        "2026-11-23T18:02:11+00:00",
        records,
        (("Python", "CPython 3.11.9"),),
        "baselines",
        "pytest --perf -n 2",
    )


class Page(HTMLParser):
    """Text and links of a page; fails on what a strict content policy forbids."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        for link in self.links:
            if not link.startswith("#"):
                assert (path.parent / unquote(link)).is_file(), link

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "style", "img", "iframe")
        for name, value in attrs:
            assert name != "style"
            assert not name.startswith("on")
            if name == "href":
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", self.text)


def test_a_run_without_tests_has_a_report(tmp_path: Path) -> None:
    index = write_report(tmp_path / "new" / "report", session())
    assert index == tmp_path / "new" / "report" / "index.html"
    assert "No perf test ran." in Page(index).words


def test_index_and_pages_tell_every_figure(tmp_path: Path) -> None:
    verdicts = (
        Verdict(Metric("llm_calls", 550), "regressed", None, "", 500, 0, 0.1, "one more a turn"),
        Verdict(Metric("peak_memory_mb", 521.3, "MB", "process"), "over limit", 500, "max"),
        Verdict(Metric("speedup", 10.0, "x", better="higher"), "ok", 3, "min", 10.0, 0, 0.0),
        Verdict(Metric("tokens", 90), "improved", None, "", 100, 0, -0.1),
        Verdict(Metric("errors", 0), "ok", None, "", 0, 0, None),
    )
    failing = record("tests/test_a.py::TestX::test_b[1]", "failed", *verdicts, timelines=(RSS,), worker="gw1")
    index = write_report(tmp_path, session(record(), failing))
    page = Page(index)
    assert "1 of 2 perf tests failed." in page.words
    assert "LLM calls 550, baseline 500 (+10.0 %)" in page.words
    assert "peak memory 521.3 MB, limit ≤ 500 MB" in page.words
    assert "one more a turn" in page.words
    assert "TestX › test_b[1]" in page.words
    assert "1 more" in page.words
    assert "23 November 2026, 18:02 UTC" in page.words
    assert "pytest --perf -n 2" in page.words
    assert "CPython 3.11.9" in page.words
    assert page.words.index("test_b[1]") < page.words.rindex("test_a"), "what fails comes first"
    test = Page(next((tmp_path / "tests").glob("*test_b*")))
    for text in ("failed in 250 ms · on worker gw1", "Process memory", "limit 500 MB", "10×", "≥ 3×", "−10.0 %", "±0"):
        assert text in test.words, text
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("outcome", "status", "shown"),
    [
        ("passed", "ok", "ok"),
        ("passed", "new", "new"),
        ("passed", "advisory", "shown only"),
        ("failed", "ok", "failed"),
        ("error", "ok", "error"),
        ("skipped", "ok", "skipped"),
        ("xfailed", "ok", "expected failure"),
        ("failed", "unmeasured", "unmeasured"),
    ],
)
def test_a_test_is_as_bad_as_the_worst_of_it(tmp_path: Path, outcome: str, status: Any, shown: str) -> None:
    index = write_report(tmp_path, session(record("a.py::b", outcome, Verdict(Metric("llm_calls", 1), status))))
    row = re.search(r'<tr role="row" class="row ([^"]*)">(.*?)</td>', index.read_text(encoding="utf-8"), re.S)
    assert row is not None
    assert f"</i>{shown}<" in row[2]
    attention = shown in ("failed", "error", "unmeasured")
    assert ("attention" in row[1].split()) is attention
    assert ("passed" in row[1].split()) is (shown not in ("failed", "error", "unmeasured"))


def test_a_failure_that_is_not_one_of_figures_is_explained(tmp_path: Path) -> None:
    ok = Verdict(Metric("llm_calls", 1), "ok")
    index = write_report(tmp_path, session(record("a.py::b", "failed", ok, notes=("assert 1 == 2",))))
    words = Page(index).words
    assert "the test itself failed, whatever its figures" in words
    assert "assert 1 == 2" in words


def person(name: str, **rest: Any) -> AgentMemory:
    steps = tuple(float(k) for k in range(20))
    sizes = tuple(range(20))
    return AgentMemory(
        name,
        "snapshot",
        bound=20,
        now=19,
        peak=19,
        snapshots=20,
        criticals=1,
        consolidations=1,
        x=steps,
        total=sizes,
        episodic=sizes,
        buffer=(1,) * 20,
        semantic=(0,) * 20,
        consolidated=((8.0, 5),),
        alerts=((19.0, "critical", "usage", f"{name}: memory is at 95.0% of its bound"),),
        **rest,
    )


def full_record(nodeid: str = "tests/test_a.py::test_full", people: int = 3) -> TestRecord:
    names = [f"person {k}" for k in range(people)]
    turns = [
        TurnSpan(name, step, "failed" if k == step == 1 else "acted", step * 2.0, step * 2.0 + 1 + k / people, 0.25)
        for step in range(5)
        for k, name in enumerate(names)
    ]
    return record(
        nodeid,
        "failed",
        Verdict(
            Metric("heap_mb", 12.5, "MB", "heap"), "over limit", 10, "max", 9.0, 0.2, 0.39, "most by a.py:3 (9 MB)"
        ),
        Verdict(Metric("llm_calls", 15), "ok", None, "", 15, 0, 0.0),
        timelines=(RSS, Timeline("heap after each step", "MB", tuple((k, k * 0.5) for k in range(6)), axis="step")),
        notes=("heap_mb: most by a.py:3 (9 MB)", "turns: the latest 15 of 40"),
        people=tuple((name, 5, 1000) for name in names),
        sites=(Site("a.py:3", 9.0, 4),),
        attachments=(("flame graph of allocations (memray)", "flames/x y.html"),),
        agents=tuple(person(name) for name in names),
        turns=tuple(turns),
        calls_s=((0.5, 10), (1.0, 4), (3.0, 1)),
    )


def test_the_page_of_a_test_shows_all_that_happened(tmp_path: Path) -> None:
    (tmp_path / "flames").mkdir()
    (tmp_path / "flames" / "x y.html").touch()
    write_report(tmp_path, session(full_record()))
    (path,) = (tmp_path / "tests").iterdir()
    page = Page(path)
    told = (
        *("Who acted when", "critical path: 5 turns", "on the critical path", "failed"),
        *("Latency of model calls", "p50 0.5 s", "p95 3 s", "p99 3 s"),
        *("Who asked the model most", "person 2"),
        *("Heap after each step", "limit 10 MB", "a.py:3", "9 MB"),
        *("Entries by person", "bound 20 entries", "3 critical alerts", "1 consolidation", "at snapshot 19"),
        *("How it was measured", "tracemalloc", "CPython 3.11.9"),
    )
    for text in told:
        assert text in page.words, text
    assert "../flames/x%20y.html" in page.links


def test_waiting_is_not_drawn_as_work(tmp_path: Path) -> None:
    turns = (
        TurnSpan("Ann", 0, "acted", 0.0, 4.0, queued_s=0.5, backoff_s=1.5),
        TurnSpan("Bo", 0, "acted", 0.0, 1.0),
    )
    write_report(tmp_path, session(record("a.py::b", turns=turns)))
    page = Page(next((tmp_path / "tests").iterdir()))
    assert "critical path: 1 turns, 2 s busy · all turns: 3 s busy" in page.words
    assert "0.5 s queued and 1.5 s between attempts (drawn before the work of each turn)" in page.words
    bars = dict(re.findall(r'<path class="turn (\w+)" d="M([\d.]+) [^"]*"', page.source))
    assert bars == {"waiting": "0", "critical": "500", "busy": "0"}, "Ann works in the second half of her turn"


def test_memory_json_holds_what_was_found_out_about_memory(tmp_path: Path) -> None:
    write_report(tmp_path, session(full_record(), record("b.py::b")))
    document = json.loads((tmp_path / "memory.json").read_text(encoding="utf-8"))
    assert (document["format"], document["schema"]) == ("pytest-tinytroupe memory", 1)
    full, plain = document["tests"]
    assert [verdict["metric"]["name"] for verdict in full["verdicts"]] == ["heap_mb"]
    assert [timeline["name"] for timeline in full["timelines"]] == ["process memory", "heap after each step"]
    assert full["sites"] == [{"place": "a.py:3", "mb": 9.0, "count": 4}]
    assert full["notes"] == ["heap_mb: most by a.py:3 (9 MB)"]
    first = full["agents"][0]
    assert (first["name"], first["axis"], first["bound"], first["peak"]) == ("person 0", "snapshot", 20, 19)
    assert len(first["x"]) == len(first["total"]) == len(first["episodic"]) == len(first["buffer"]) == 20
    assert {key for key, value in plain.items() if value} == {"nodeid", "outcome"}


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    verdict = Verdict(Metric("speedup", None, "x", better="higher"), "unmeasured", 3, "min", note="no world ran")
    words = Page(write_report(tmp_path, session(record("a.py::b", "failed", verdict)))).words
    assert "speedup not measured, limit ≥ 3×" in words
    assert "no world ran" in words


def test_hostile_ids_and_notes_stay_text_and_inside_the_directory(tmp_path: Path) -> None:
    hostile = '"><script>alert(1)</script>\u202e/../../../x' + "y" * 10_000
    records = [record(f"{hostile}{k}::{hostile}", "failed", notes=(hostile,), worker=hostile) for k in range(3)]
    records.append(
        record("../../evil::x", timelines=(Timeline(hostile, hostile, ((0, 1), (1, 2)), ((0.5, hostile),)),))
    )
    records.append(
        record(
            "c.py::d",
            people=((hostile, 1, 1),),
            sites=(Site(hostile, 1.0, 1),),
            attachments=((hostile, "flames/x.html"),),
            agents=(person(hostile), person(hostile + "2")),
            turns=(TurnSpan(hostile, 0, "failed", 0.0, 1.0, 0.1),),
            calls_s=((1.0, 1),),
        )
    )
    directory = tmp_path / "report"
    (directory / "flames").mkdir(parents=True)
    (directory / "flames" / "x.html").touch()
    index = write_report(directory, session(*records))
    pages = [index, *(directory / "tests").iterdir()]
    assert len(pages) == 6
    for path in pages:
        page = Page(path)
        assert "\u202e" not in page.source
        assert "y" * 1000 not in page.source
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_latencies_without_a_call_cost_no_test_its_page(tmp_path: Path) -> None:
    write_report(tmp_path, session(record("a.py::a", calls_s=((0.5, 0),)), record("a.py::b")))
    assert len([*(tmp_path / "tests").iterdir()]) == 2


def test_entries_of_agents_share_a_chart_and_memory_has_its_own(tmp_path: Path) -> None:
    entries = [
        Timeline(f"memory entries: agent {k}", "entries", ((0, 0), (1, k)), ((0.5, "critical: usage"),))
        for k in range(9)
    ]
    write_report(tmp_path, session(record(timelines=(RSS, Timeline("heap", "MB"), *entries))))
    page = Page(next((tmp_path / "tests").iterdir()))
    assert page.source.count("<figure") == 3
    assert "Memory entries, the 6 highest of 9" in page.words
    assert "agent 8" in page.words
    assert "agent 2" not in page.words
    assert "Nothing was sampled." in page.words


def test_a_report_that_cannot_be_written_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = write_report(tmp_path, session(record()))
    before = index.read_text(encoding="utf-8")

    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path, session(record(), record("b.py::b")))
    assert index.read_text(encoding="utf-8") == before
    assert not list(tmp_path.rglob("*.tmp"))


def large_record() -> TestRecord:
    """As much as a test's record holds: people and turns are bounded where they are read, timelines where drawn."""
    full = full_record(people=100)
    steps = tuple(float(k) for k in range(POINTS // 100))
    sizes = tuple(k % 20 for k in range(len(steps)))
    agents = [replace(each, x=steps, total=sizes, episodic=sizes, buffer=sizes, semantic=sizes) for each in full.agents]
    turns = [replace(each, step=each.step + 5 * k) for k in range(2) for each in full.turns]
    turns = [replace(each, started_s=each.step * 2.1, finished_s=each.step * 2.1 + 1.3) for each in turns]
    long = Timeline("process memory", "MB", tuple((k * 0.01, 80 + k % 13) for k in range(100_000)))
    timelines = (long, *full.timelines[1:])
    return replace(full, timelines=timelines, agents=tuple(agents), turns=tuple(turns), attachments=())


def test_pages_stay_small(tmp_path: Path) -> None:
    write_report(tmp_path, session(large_record()))
    for page in tmp_path.rglob("*.html"):
        assert page.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("name", "unit", "words"),
    [
        ("peak_memory_mb", "MB", "peak memory"),
        ("time_s", "s", "time"),
        ("llm_calls", "", "LLM calls"),
        ("mb", "MB", "mb"),
        ("memory_growth_mb_per_step", "MB", "memory growth per step"),
    ],
)
def test_names_of_metrics(name: str, unit: str, words: str) -> None:
    assert metric_name(name, unit) == words
