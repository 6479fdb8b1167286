"""What a person remembers: events (episodic), knowledge (semantic), and how old memories give way to summaries."""

from tinytroupe.agent.memory.consolidation import (
    Batch,
    Consolidation,
    ConsolidationError,
    ConsolidationMetrics,
    consolidate,
    should_consolidate,
)
from tinytroupe.agent.memory.embedding import Embedder
from tinytroupe.agent.memory.entry import Memory, plain_text
from tinytroupe.agent.memory.episodic import OMISSION, EpisodicMemory
from tinytroupe.agent.memory.semantic import SemanticMemory
from tinytroupe.agent.memory.store import FROM_SETTINGS

__all__ = [
    "FROM_SETTINGS",
    "OMISSION",
    "Batch",
    "Consolidation",
    "ConsolidationError",
    "ConsolidationMetrics",
    "Embedder",
    "EpisodicMemory",
    "Memory",
    "SemanticMemory",
    "consolidate",
    "plain_text",
    "should_consolidate",
]
