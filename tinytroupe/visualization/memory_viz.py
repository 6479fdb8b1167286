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
from tinytroupe.visualization.agent_memory import AgentMemory, agent_memory
from tinytroupe.visualization.agents import memory_view
from tinytroupe.visualization.ascii_chart import ascii_chart
from tinytroupe.visualization.text import display_text, format_number

POINTS, FEWEST_POINTS = 600, 48
"""Points kept of each curve on a page about one agent, and on a page about very many."""


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
        points = max(FEWEST_POINTS, POINTS // max(len(names), 1))
        agents = [agent_memory(self.monitor, name, points=points) for name in names]
        page = pages.render(
            "memory.html.j2",
            root="",
            heading=f"Memory of {agent_name}" if agent_name is not None else "Memory of the agents",
            single=agent_name,
            lede=_lede(agents),
            tiles=_tiles(agents),
            m=memory_view(agents, alone=agent_name is not None),
        )
        if output_file is not None:
            write_atomically(Path(output_file).with_name(pages.STYLESHEET), pages.stylesheet())
            write_atomically(output_file, page)
        return page

    def prepare_memory_timeline_data(self, agent_name: str | None = None) -> dict[str, dict[str, list[float | None]]]:
        """Give by agent the columns of `MemoryMonitor.get_history`, with None where there was no bound."""
        return {name: _jsonable(self.monitor.get_history(name)) for name in self._names(agent_name)}

    def prepare_consolidation_data(self, agent_name: str | None = None) -> dict[str, dict[str, list[float | None]]]:
        """Give by agent the columns `time_s`, `memories_consolidated` and `count` (consolidations)."""
        return {name: _jsonable(self.monitor.get_consolidations(name)) for name in self._names(agent_name)}

    def prepare_eviction_data(self, agent_name: str | None = None) -> dict[str, dict[str, list[float | None]]]:
        """Give by agent the columns `time_s` and `memories_evicted`."""
        return {name: _jsonable(self.monitor.get_evictions(name)) for name in self._names(agent_name)}

    def prepare_alert_timeline_data(self, agent_name: str | None = None) -> list[dict[str, Any]]:
        """Give the alarms as dicts, oldest first."""
        return [asdict(alert) for alert in self.monitor.get_alerts(agent_name)]

    def export_data_json(self, output_file: str | os.PathLike[str] | None = None, agent_name: str | None = None) -> str:
        """Write all of it as JSON and return the text: `schema`, `agents` (statistics), `timeline`,
        `consolidations`, `evictions` and `alerts`."""
        data = {
            "schema": 1,
            "agents": {name: self.monitor.get_agent_stats(name) for name in self._names(agent_name)},
            "timeline": self.prepare_memory_timeline_data(agent_name),
            "consolidations": self.prepare_consolidation_data(agent_name),
            "evictions": self.prepare_eviction_data(agent_name),
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


def _can_print(characters: str, encoding: str | None) -> bool:
    try:
        characters.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _jsonable(columns: dict[str, list[float]]) -> dict[str, list[float | None]]:
    return {name: [None if math.isnan(v) else v for v in values] for name, values in columns.items()}


def _tiles(agents: list[AgentMemory]) -> list[dict[str, str]]:
    def tile(label: str, value: float, css: str = "") -> dict[str, str]:
        return {"label": label, "value": format_number(value), "css": css if value else ""}

    return [
        tile("snapshots", sum(agent.snapshots for agent in agents)),
        tile("entries now", sum(agent.now for agent in agents)),
        tile("highest peak", max((agent.peak for agent in agents), default=0)),
        tile("consolidations", sum(agent.consolidations for agent in agents)),
        tile("entries evicted", sum(agent.evictions for agent in agents)),
        tile("warnings", sum(agent.warnings for agent in agents), "warn"),
        tile("critical alerts", sum(agent.criticals for agent in agents), "bad"),
    ]


def _lede(agents: list[AgentMemory]) -> str:
    if not agents:
        return "No agents are tracked yet."
    if not any(agent.snapshots for agent in agents):
        return "No snapshot was taken yet."
    growing = [agent.name for agent in agents if agent.trend == "increasing"]
    critical = [agent.name for agent in agents if agent.criticals]
    sentences = []
    if critical:
        sentences.append(f"The bound was reached or near for {_listed(critical)}.")
    if growing:
        sentences.append(f"Still growing: {_listed(growing)}.")
    return " ".join(sentences) or "Memory is steady and within its bounds."


def _listed(names: list[str]) -> str:
    shown = ", ".join(display_text(name, 40) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
