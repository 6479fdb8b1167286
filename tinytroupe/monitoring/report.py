"""What a memory monitor knows, as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinytroupe.monitoring.memory_monitor import MemoryMonitor

LATEST_ALERTS = 20
_NAME_WIDTH = 32


def _printable(text: str, limit: int) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def text_report(monitor: MemoryMonitor) -> str:
    """Write a table of the agents and the latest alarms, ending in a newline."""
    names = monitor.agent_names
    if not names:
        return "Memory report: no agents are tracked.\n"
    width = min(_NAME_WIDTH, max(len("agent"), *(len(_printable(name, _NAME_WIDTH)) for name in names)))
    lines = [
        f"Memory report: {len(names)} agent{'s' if len(names) != 1 else ''}",
        "",
        f"{'agent':{width}}  {'now':>8}  {'bound':>8}  {'used':>6}  {'peak':>8}  {'trend':10}  "
        f"{'per snapshot':>12}  {'consolidated':>12}  {'evicted':>8}  {'bytes':>11}  {'alerts':>6}",
    ]
    for name in names:
        try:
            stats = monitor.get_agent_stats(name)
        except LookupError:  # Untracked by another thread in between.
            continue
        memory = stats["current_memory"]
        bound = memory.get("max_size") if memory.get("is_bounded", True) else None
        size_bytes = stats["size_bytes"]
        used = f"{memory.get('usage_ratio') or 0.0:.1%}" if bound is not None else "-"
        lines.append(
            f"{_printable(name, _NAME_WIDTH):{width}}  {memory['total_size']:>8}  "
            f"{'none' if bound is None else bound:>8}  {used:>6}  {stats['peak_size']:>8}  {stats['memory_trend']:10}  "
            f"{stats['growth_rate']:>+12.2f}  {stats['consolidation'].get('total', 0):>12}  {stats['evicted']:>8}  "
            f"{'-' if size_bytes is None else f'{size_bytes:,}':>11}  {stats['total_alerts']:>6}"
        )
    alerts = monitor.get_alerts()
    if alerts:
        lines += [
            "",
            f"Alerts: {len(alerts)}" + (f", the latest {LATEST_ALERTS}:" if len(alerts) > LATEST_ALERTS else ""),
        ]
        for alert in alerts[-LATEST_ALERTS:]:
            when = f"{alert.time_s:.2f} s" + (f", step {alert.step}" if alert.step is not None else "")
            lines.append(f"  {alert.severity.upper():8}  {when}  {_printable(alert.message, 240)}")
    else:
        lines += ["", "Alerts: none"]
    return "\n".join(lines) + "\n"
