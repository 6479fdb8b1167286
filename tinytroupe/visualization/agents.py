"""The memories of many agents as charts and as the rows of a table; the same for every page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinytroupe.visualization.agent_memory import AgentMemory
from tinytroupe.visualization.axis import moment
from tinytroupe.visualization.charts import PLOT_PX, SERIES_LIMIT, Chart, Mark, Series, chart_view, spark_view
from tinytroupe.visualization.text import display_text, format_number

AGENT_LIMIT = 200
"""The most agents listed on a page."""
ALERT_LIMIT = 100
"""The most alerts listed on a page: the latest."""
OPEN_ROWS = 12
"""Rows of the table that need not be unfolded."""
SMALL_PX = 120
"""Height of the drawing of one agent among several, in pixels."""

_STORES = (("episodic", "episodic"), ("buffer", "buffer"), ("semantic", "semantic"))


def memory_view(agents: Sequence[AgentMemory], *, alone: bool = False, who: str = "agent") -> dict[str, Any]:
    """Work out everything the template draws.

    Parameters
    ----------
    agents
        Whose memories.
    alone
        Whether the page is about a single agent.
    who
        What they are called.
    """
    ranked = sorted(agents, key=lambda agent: (-agent.criticals, -agent.warnings, -agent.peak, agent.name))
    drawn = [agent for agent in ranked if agent.x]
    charts = [] if alone or len(drawn) < 2 else [_together(sorted(drawn, key=lambda agent: -agent.peak), who)]
    charts += [
        _one(f"a{k}", agent, "Memory entries" if alone else agent.name, PLOT_PX if alone else SMALL_PX)
        for k, agent in enumerate(drawn[:SERIES_LIMIT])
    ]
    alerts = sorted(
        ((*alert, agent.axis) for agent in agents for alert in agent.alerts),
        key=lambda alert: alert[0],
    )
    return {
        "charts": [chart_view(chart) for chart in charts],
        "drawn": min(len(drawn), SERIES_LIMIT),
        "agents": [_row(agent) for agent in ranked[:AGENT_LIMIT]],
        "agent_total": len(agents),
        "who": who,
        # Nobody unfolds two rows.
        "open": OPEN_ROWS if len(agents) > OPEN_ROWS + 3 else AGENT_LIMIT,
        "alerts": [
            {
                "severity": severity,
                "kind": kind,
                "message": display_text(message, 300),
                "when": moment(x, axis),
            }
            for x, severity, kind, message, axis in alerts[-ALERT_LIMIT:]
        ],
        "alert_total": len(alerts),
    }


def _together(agents: Sequence[AgentMemory], who: str) -> Chart:
    shown = agents[:SERIES_LIMIT]
    bounds = {agent.bound for agent in shown}
    title = f"Entries by {who}"
    if len(shown) < len(agents):
        title += f", the {len(shown)} of {format_number(len(agents))} with the highest peaks"
    return Chart(
        "entries",
        title,
        "entries",
        [Series(agent.name, agent.curve("total")) for agent in shown],
        [mark for agent in agents for mark in _alerts(agent, named=True)],
        bounds.pop() if len(bounds) == 1 else None,
        "bound",
        axis=agents[0].axis,
        wide=True,
    )


def _one(name: str, agent: AgentMemory, title: str, plot_px: int) -> Chart:
    stores = [Series(label, agent.curve(store)) for label, store in _STORES]
    used = [series for series in stores if any(value for _, value in series.points)]
    series = [Series("all episodic", agent.curve("total")), *used] if len(used) > 1 else used or stores[:1]
    marks = [
        *(Mark(x, f"{format_number(count)} consolidated", "consolidated") for x, count in agent.consolidated),
        *(Mark(x, f"{format_number(count)} evicted", "evicted") for x, count in agent.evicted),
        *_alerts(agent, named=False),
    ]
    return Chart(name, title, "entries", series, marks, agent.bound, "bound", agent.axis, plot_px)


def _alerts(agent: AgentMemory, *, named: bool) -> list[Mark]:
    who = f"{display_text(agent.name, 40)}: " if named else ""
    return [Mark(x, f"{who}{severity}, {kind}", severity) for x, severity, kind, _ in agent.alerts]


def _row(agent: AgentMemory) -> dict[str, Any]:
    return {
        "name": agent.name,
        "spark": spark_view(agent.curve("total"), agent.bound),
        "now": agent.now,
        "bound": agent.bound,
        "used": f"{agent.now / agent.bound:.0%}" if agent.bound else "–",
        "peak": agent.peak,
        "buffer": agent.buffer[-1] if agent.buffer else 0,
        "semantic": agent.semantic[-1] if agent.semantic else 0,
        "trend": agent.trend,
        "growth": f"{agent.growth:+.2f}".replace("-", "−"),
        "consolidations": agent.consolidations,
        "evictions": agent.evictions,
        "alerts": agent.warnings + agent.criticals,
        "css": "bad" if agent.criticals else "warn" if agent.warnings else "",
    }
