"""A world in parts: each lives where it likes, and one driver commits what all have decided."""

from tinytroupe.environment.shards.backend import LocalBackend, ShardBackend, ShardError
from tinytroupe.environment.shards.exchange import Inbox, Letter, Outbox, Settlement, ShardSpec
from tinytroupe.environment.shards.ray_backend import RayBackend

__all__ = [
    "Inbox",
    "Letter",
    "LocalBackend",
    "Outbox",
    "RayBackend",
    "Settlement",
    "ShardBackend",
    "ShardError",
    "ShardSpec",
]
