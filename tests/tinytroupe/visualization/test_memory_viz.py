"""The pages, data and terminal chart of the memory visualizer."""

from __future__ import annotations

import errno
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tinytroupe.monitoring import MemoryMonitor
from tinytroupe.runtime.files import write_atomically
from tinytroupe.visualization import MemoryVisualizer
from tinytroupe.visualization.ascii_chart import ascii_chart

HOSTILE = "<script>alert(1)</script>\"'\u202e../" + "x" * 10_000


class Strict(HTMLParser):
    """Fails on what a strict content policy forbids or what would reach another host; checks that tags balance."""

    VOID = frozenset({"meta", "link", "input", "br", "line", "path", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "style", "iframe", "img", "object")
        for name, value in attrs:
            assert name != "style"
            assert not name.startswith("on")
            if name in ("href", "src"):
                assert value is not None
                assert "//" not in value
            if name == "id" and value:
                self.ids.append(value)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    return parser


def agent(name: str, size: int, max_size: int | None = 100, done: int = 0) -> Any:
    stats = {"current_size": size, "buffer_size": 0, "total_size": size, "max_size": max_size}
    stats |= {"usage_ratio": size / max_size if max_size else 0.0, "is_bounded": max_size is not None}
    return SimpleNamespace(
        name=name,
        episodic_memory=SimpleNamespace(get_memory_stats=lambda: dict(stats)),
        get_consolidation_metrics=lambda: {"total": done, "memories_consolidated": done * 10},
    )


def recorded(*names: str, snapshots: int = 30, max_size: int | None = 100) -> MemoryMonitor:
    monitor = MemoryMonitor()
    for k in range(snapshots):
        for name in names:
            monitor.record_snapshot(agent(name, 3 * k, max_size, done=k // 10), time_s=float(k), step=k)
    return monitor


def test_the_page_of_one_agent_as_in_the_guide(tmp_path: Path) -> None:
    viz = MemoryVisualizer(recorded("alice", "bob"))
    file = tmp_path / "memory_report.html"
    page = viz.generate_html_report("alice", output_file=str(file))
    assert file.read_text(encoding="utf-8") == page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["memory_report.html", "report.css"]
    assert "Memory of <bdi>alice</bdi>" in page
    assert "bob" not in page
    assert "10 consolidated" in page
    parsed(page)


def test_the_page_of_everyone() -> None:
    page = MemoryVisualizer(recorded("alice", "bob")).generate_html_report()
    assert "Memory of 2 agents" in page
    assert parsed(page).tags.count("circle") >= 4


@pytest.mark.parametrize("max_size", [100, None])
def test_hostile_names_are_escaped_and_cut(max_size: int | None) -> None:
    viz = MemoryVisualizer(recorded(HOSTILE, max_size=max_size))
    for page in (viz.generate_html_report(), viz.generate_html_report(HOSTILE)):
        parsed(page)
        assert "x" * 500 not in page
        assert "\u202e" not in page
        assert "<script" not in page


def test_nothing_tracked_and_nothing_recorded_are_told() -> None:
    monitor = MemoryMonitor()
    viz = MemoryVisualizer(monitor)
    assert "No agents are tracked" in viz.generate_html_report()
    monitor.track_agent(agent("alice", 3))
    page = viz.generate_html_report("alice")
    assert "No snapshot was taken yet." in page
    parsed(page)
    with pytest.raises(LookupError, match="bob"):
        viz.generate_html_report("bob")


def test_a_page_stays_small_with_many_agents_and_samples() -> None:
    monitor = MemoryMonitor()
    agents = [agent(f"agent number {k}", k) for k in range(100)]
    for k in range(100):
        for one in agents:
            monitor.record_snapshot(one, time_s=float(k))
    page = MemoryVisualizer(monitor).generate_html_report()
    assert len(page.encode()) < 300_000
    parsed(page)


def test_the_data_behind_the_page(tmp_path: Path) -> None:
    viz = MemoryVisualizer(recorded("alice", max_size=None))
    timeline = viz.prepare_memory_timeline_data("alice")["alice"]
    assert timeline["total_size"] == [3.0 * k for k in range(30)]
    assert timeline["max_size"] == [None] * 30
    assert viz.prepare_consolidation_data()["alice"]["time_s"] == [10.0, 20.0]
    (alert,) = viz.prepare_alert_timeline_data()
    assert (alert["kind"], alert["time_s"], alert["step"]) == ("unbounded", 0.0, 0)
    text = viz.export_data_json(tmp_path / "deep" / "memory.json")
    assert (tmp_path / "deep" / "memory.json").read_text() == text
    data = json.loads(text)
    assert data["schema"] == 1
    assert data["agents"]["alice"]["current_memory"]["total_size"] == 87


def test_the_terminal_chart() -> None:
    viz, out = MemoryVisualizer(recorded("alice")), io.StringIO()
    viz.print_ascii_chart("alice", width=40, height=4, file=out, ascii_only=False)
    lines = out.getvalue().splitlines()
    assert lines[0] == "alice: memory entries"
    assert lines[1].startswith("87 │")
    assert lines[1].endswith("█")
    assert lines[4].startswith(" 0 │")
    assert lines[5].strip().endswith("29 s")
    assert max(map(len, lines)) <= 40


def test_the_terminal_chart_falls_back_to_ascii() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    MemoryVisualizer(recorded("zoë")).print_ascii_chart("zoë", width=40, file=out)
    out.flush()
    assert b"#" in raw.getvalue()


@pytest.mark.parametrize(
    "points", [[], [(0.0, 0.0)], [(1.0, 5.0)], [(0.0, 3.0), (0.0, 4.0)], [(0.0, -3.0), (9.0, 2.0)]]
)
def test_small_terminal_charts(points: list[tuple[float, float]]) -> None:
    text = ascii_chart("x" * 200, points, width=1, height=1)
    assert all(len(line) <= 24 for line in text.splitlines())
    assert text.endswith("\n")


def test_a_page_that_cannot_be_written_is_a_clear_error_and_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "page.html"
    file.write_text("before")

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match=r"cannot write .*page.html: No space left") as caught:
        write_atomically(file, "after")
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value.__cause__, OSError)
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert file.read_text() == "before"


def test_a_directory_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose another directory"):
        MemoryVisualizer(recorded("alice")).generate_html_report(output_file=tmp_path / "file" / "page.html")


def test_lone_surrogates_are_written_as_escapes(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / "x", "a\ud800b").read_text() == "a\\ud800b"
