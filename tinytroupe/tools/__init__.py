"""What people can use: a calendar, a word processor, and what other tools are made of."""

from tinytroupe.agent.faculty import TinyToolUse
from tinytroupe.tools.tiny_calendar import CalendarEvent, TinyCalendar
from tinytroupe.tools.tiny_tool import TinyTool, ToolError
from tinytroupe.tools.tiny_word_processor import Document, TinyWordProcessor

__all__ = [
    "CalendarEvent",
    "Document",
    "TinyCalendar",
    "TinyTool",
    "TinyToolUse",
    "TinyWordProcessor",
    "ToolError",
]
