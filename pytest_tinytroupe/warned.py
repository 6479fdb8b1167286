"""Warnings on their way from a fresh process to the one that started it: as JSON types and back."""

from __future__ import annotations

import importlib
import warnings
from typing import Any


def to_json(message: warnings.WarningMessage) -> dict[str, Any]:
    """Return a warning as JSON types."""
    return {
        "text": str(message.message),
        "module": message.category.__module__,
        "name": message.category.__qualname__,
        "filename": message.filename,
        "lineno": message.lineno,
    }


def from_json(data: dict[str, Any]) -> warnings.WarningMessage:
    """Build a warning from `to_json`'s result; one whose class is not to be had here names it in its text."""
    try:
        category: Any = importlib.import_module(data["module"])
        for name in data["name"].split("."):
            category = getattr(category, name)
        message = category(data["text"])
    except Exception:  # a class local to a function, or one that takes other arguments
        category, message = Warning, Warning(f"{data['module']}.{data['name']}: {data['text']}")
    return warnings.WarningMessage(message, category, data["filename"], data["lineno"])
