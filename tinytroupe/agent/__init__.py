"""Who acts: people, what they do, what they remember."""

from tinytroupe.agent.action import Action, CognitiveState
from tinytroupe.agent.documents import DocumentError
from tinytroupe.agent.faculty import CustomMentalFaculty, Faculty, RecallFaculty, TinyMentalFaculty, TinyToolUse
from tinytroupe.agent.tiny_person import TinyPerson
from tinytroupe.llm.asking import ReplyError

__all__ = [
    "Action",
    "CognitiveState",
    "CustomMentalFaculty",
    "DocumentError",
    "Faculty",
    "RecallFaculty",
    "ReplyError",
    "TinyMentalFaculty",
    "TinyPerson",
    "TinyToolUse",
]
