"""Who acts: people, what they do, what they remember."""

from tinytroupe.agent.action import Action, CognitiveState, ReplyError
from tinytroupe.agent.tiny_person import TinyPerson

__all__ = ["Action", "CognitiveState", "ReplyError", "TinyPerson"]
