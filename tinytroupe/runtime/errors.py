"""Errors on their way to another process."""

from __future__ import annotations

import pickle
import traceback

PROTOCOL = 5
"""Of pickle: what every supported Python reads."""


def portable(error: BaseException) -> Exception:
    """Return an error that can be pickled: the same where it can, else a RuntimeError that names it."""
    try:
        copy = pickle.loads(pickle.dumps(error, PROTOCOL))
    except Exception:
        copy = None
    if isinstance(copy, Exception) and type(copy) is type(error) and str(copy) == str(error):
        return copy
    return RuntimeError(f"{type(error).__name__}: {error}")


def story(error: BaseException) -> str:
    """Return the traceback of an error, which does not travel with it, and those of its causes."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))
