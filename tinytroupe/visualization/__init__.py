"""Charts and pages that open anywhere: no script, no request."""

from tinytroupe.visualization.memory_viz import MemoryVisualizer
from tinytroupe.visualization.text import safe_file_name

__all__ = ["MemoryVisualizer", "safe_file_name"]
