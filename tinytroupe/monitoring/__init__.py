"""Watching memory and time: of agents, of functions, of the process."""

from tinytroupe.monitoring.alerts import Alert
from tinytroupe.monitoring.memory_monitor import MemoryMonitor, MemorySnapshot
from tinytroupe.monitoring.memory_profiler import MemoryProfiler
from tinytroupe.monitoring.process_memory import HighWaterMark, TimelineSampler, rss_bytes

__all__ = [
    "Alert",
    "HighWaterMark",
    "MemoryMonitor",
    "MemoryProfiler",
    "MemorySnapshot",
    "TimelineSampler",
    "rss_bytes",
]
