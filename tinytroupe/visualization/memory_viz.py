"""Showing what a memory monitor knows: a page, its data, a chart in the terminal."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from tinytroupe.monitoring.memory_monitor import MemoryMonitor
from tinytroupe.runtime.files import write_atomically
from tinytroupe.visualization import pages
from tinytroupe.visualization.ascii_chart import ascii_chart
from tinytroupe.visualization.charts import SERIES_LIMIT, Chart, Mark, Series, chart_view, spark_view
from tinytroupe.visualization.text import display_text, format_number

AGENT_LIMIT = 200
"""The most agents listed on a page."""
ALERT_LIMIT = 100
"""The most alarms listed on a page."""


class MemoryVisualizer:
    """Draws what a `MemoryMonitor` has recorded.

    Parameters
    ----------
    monitor
        Where the figures come from; each call shows what it knows by then.
    """

    def __init__(self, monitor: MemoryMonitor) -> None:
        self.monitor = monitor

    def generate_html_report(
        self, agent_name: str | None = None, output_file: str | os.PathLike[str] | None = None
    ) -> str:
        """Describe one agent, or all, on a page.

        Parameters
        ----------
        agent_name
            Whom to describe; all by default.
        output_file
            Where to write the page, atomically; its stylesheet `report.css` is written beside it.

        Returns
        -------
        str
            The page.

        Raises
        ------
        LookupError
            If no agent of this name is tracked.
        OSError
            If the file cannot be written.
        """
        names = self._names(agent_name)
        agents = sorted((self._agent_row(name) for name in names), key=lambda row: -row["peak"])
        alerts = self.monitor.get_alerts(agent_name)
        page = pages.render(
            "memory.html.j2",
            root="",
            heading=f"Memory of {agent_name}" if agent_name is not None else "Memory of the agents",
            single=agent_name,
            lede=_lede(agents),
            tiles=_tiles(agents),
            charts=[chart_view(chart) for chart in self._charts(agent_name, agents)],
            agents=agents,
            agent_limit=AGENT_LIMIT,
            alerts=alerts[-ALERT_LIMIT:],
            alert_total=len(alerts),
        )
        if output_file is not None:
            write_atomically(Path(output_file).with_name(pages.STYLESHEET), pages.stylesheet())
            write_atomically(output_file, page)
        return page

    def prepare_memory_timeline_data(self, agent_name: str | None = None) -> dict[str, dict[str, list[float | None]]]:
        """Give by agent the columns `time_s`, `total_size`, `episodic_size`, `buffer_size`, `semantic_size`,
        `max_size` (None where there was no bound) and `snapshot`."""
        return {name: _jsonable(self.monitor.get_history(name)) for name in self._names(agent_name)}

    def prepare_consolidation_data(self, agent_name: str | None = None) -> dict[str, dict[str, list[float | None]]]:
        """Give by agent the columns `time_s`, `memories_consolidated` and `count` (consolidations)."""
        return {name: _jsonable(self.monitor.get_consolidations(name)) for name in self._names(agent_name)}

    def prepare_alert_timeline_data(self, agent_name: str | None = None) -> list[dict[str, Any]]:
        """Give the alarms as dicts, oldest first."""
        return [asdict(alert) for alert in self.monitor.get_alerts(agent_name)]

    def export_data_json(self, output_file: str | os.PathLike[str] | None = None, agent_name: str | None = None) -> str:
        """Write all of it as JSON and return the text: `schema`, `agents` (statistics), `timeline`,
        `consolidations` and `alerts`."""
        data = {
            "schema": 1,
            "agents": {name: self.monitor.get_agent_stats(name) for name in self._names(agent_name)},
            "timeline": self.prepare_memory_timeline_data(agent_name),
            "consolidations": self.prepare_consolidation_data(agent_name),
            "alerts": self.prepare_alert_timeline_data(agent_name),
        }
        text = json.dumps(data, indent=1, allow_nan=False, default=str) + "\n"
        if output_file is not None:
            write_atomically(output_file, text)
        return text

    def print_ascii_chart(
        self,
        agent_name: str,
        *,
        width: int | None = None,
        height: int = 10,
        file: TextIO | None = None,
        ascii_only: bool | None = None,
    ) -> None:
        """Draw the entries of one agent over time with characters.

        Parameters
        ----------
        agent_name
            Whose memory to draw.
        width, height
            Columns over all (those of the terminal by default) and rows of the drawing.
        file
            Where to print; standard output by default.
        ascii_only
            Keep to ASCII; by default only where the output's encoding knows no block characters.
        """
        out = file if file is not None else sys.stdout
        history = self.monitor.get_history(agent_name)
        columns = shutil.get_terminal_size().columns if width is None else width
        if ascii_only is None:
            ascii_only = not _can_print("█▄…", getattr(out, "encoding", None))
        out.write(
            ascii_chart(
                f"{display_text(agent_name, 60)}: memory entries",
                list(zip(history["time_s"], history["total_size"], strict=True)),
                width=columns,
                height=height,
                ascii_only=ascii_only,
            )
        )

    # ------------------------------------------------------------------ inside

    def _names(self, agent_name: str | None) -> list[str]:
        if agent_name is None:
            return self.monitor.agent_names
        self.monitor.get_history(agent_name)  # Raises for a name that is not tracked.
        return [agent_name]

    def _agent_row(self, name: str) -> dict[str, Any]:
        stats = self.monitor.get_agent_stats(name)
        memory = stats["current_memory"]
        history = self.monitor.get_history(name)
        bound = memory.get("max_size") if memory.get("is_bounded", True) else None
        return {
            "name": name,
            "spark": spark_view(zip(history["time_s"], history["total_size"], strict=True), bound),
            "now": memory["total_size"],
            "bound": bound,
            "used": f"{memory.get('usage_ratio') or 0.0:.1%}" if bound is not None else "–",
            "peak": stats["peak_size"],
            "trend": stats["memory_trend"],
            "growth": f"{stats['growth_rate']:+.2f}".replace("-", "−"),
            "snapshots": stats["snapshots"],
            "consolidations": stats["consolidation"].get("total", 0),
            "alerts": stats["total_alerts"],
            "critical": stats["alerts_by_severity"]["critical"],
            "warning": stats["alerts_by_severity"]["warning"],
        }

    def _charts(self, agent_name: str | None, agents: list[dict[str, Any]]) -> list[Chart]:
        if not any(row["snapshots"] for row in agents):
            return []
        alerts = self.monitor.get_alerts(agent_name)
        marks = [Mark(alert.time_s, f"{alert.severity}: {alert.kind}", alert.severity) for alert in alerts]
        if agent_name is None:
            shown = [row["name"] for row in agents[:SERIES_LIMIT]]
            bounds = {row["bound"] for row in agents[:SERIES_LIMIT]}
            series = [Series(name, self._curve(name, "total_size")) for name in shown]
            more = f", the {len(shown)} of {len(agents)} with the highest peaks" if len(agents) > len(shown) else ""
            bound = bounds.pop() if len(bounds) == 1 else None
            return [Chart("entries", f"Memory entries by agent{more}", "entries", series, marks, bound, "bound")]
        columns = [("all episodic", "total_size"), ("committed", "episodic_size"), ("buffer", "buffer_size")]
        columns.append(("semantic", "semantic_size"))
        series = [Series(label, self._curve(agent_name, column)) for label, column in columns]
        series = [s for k, s in enumerate(series) if k == 0 or any(value for _, value in s.points)]
        done = self.monitor.get_consolidations(agent_name)
        marks += [
            Mark(time_s, f"consolidated {format_number(size)}", "info")
            for time_s, size in zip(done["time_s"], done["memories_consolidated"], strict=True)
        ]
        return [Chart("entries", "Memory entries", "entries", series, marks, agents[0]["bound"], "bound")]

    def _curve(self, name: str, column: str) -> list[tuple[float, float]]:
        history = self.monitor.get_history(name)
        return list(zip(history["time_s"], history[column], strict=True))


def _can_print(characters: str, encoding: str | None) -> bool:
    try:
        characters.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _jsonable(columns: dict[str, list[float]]) -> dict[str, list[float | None]]:
    return {name: [None if math.isnan(v) else v for v in values] for name, values in columns.items()}


def _tiles(agents: list[dict[str, Any]]) -> list[dict[str, str]]:
    def total(key: str) -> int:
        return sum(row[key] for row in agents)

    def tile(label: str, value: float, css: str = "") -> dict[str, str]:
        return {"label": label, "value": format_number(value), "css": css if value else ""}

    return [
        tile("snapshots", total("snapshots")),
        tile("entries now", total("now")),
        tile("highest peak", max((row["peak"] for row in agents), default=0)),
        tile("consolidations", total("consolidations")),
        tile("warnings", total("warning"), "warn"),
        tile("critical alerts", total("critical"), "bad"),
    ]


def _lede(agents: list[dict[str, Any]]) -> str:
    if not agents:
        return "No agents are tracked yet."
    if not any(row["snapshots"] for row in agents):
        return "No snapshot was taken yet."
    growing = [row["name"] for row in agents if row["trend"] == "increasing"]
    critical = [row["name"] for row in agents if row["critical"]]
    sentences = []
    if critical:
        sentences.append(f"The bound was reached or near for {_listed(critical)}.")
    if growing:
        sentences.append(f"Still growing: {_listed(growing)}.")
    return " ".join(sentences) or "Memory is steady and within its bounds."


def _listed(names: list[str]) -> str:
    shown = ", ".join(display_text(name, 40) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
