"""A world in parts: each lives where it likes, and one driver commits what all have decided."""

from tinytroupe.environment.shards.backend import LocalBackend, ShardBackend, ShardError
from tinytroupe.environment.shards.exchange import Inbox, Letter, Outbox, Settlement, ShardSpec

__all__ = ["Inbox", "Letter", "LocalBackend", "Outbox", "Settlement", "ShardBackend", "ShardError", "ShardSpec"]
