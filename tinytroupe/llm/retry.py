"""Which failures are worth another attempt, and when: pure decisions, nothing here sleeps."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime

_TRANSIENT_STATUSES = frozenset({408, 409, 429})


def is_transient(status: int | None) -> bool:
    """Tell whether a call that failed with this HTTP status may succeed when simply repeated.

    Parameters
    ----------
    status
        HTTP status; None = no reply came at all (connection refused, reset, timed out), which may pass.
    """
    return status is None or status in _TRANSIENT_STATUSES or 500 <= status <= 599


def retry_after_s(headers: Mapping[str, str], now_epoch: float) -> float | None:
    """Return the seconds the server asked to wait, or None where it asked for nothing that can be read.

    Parameters
    ----------
    headers
        The reply's headers, names in lower case. Read in this order: ``retry-after-ms``, ``retry-after`` in seconds,
        ``retry-after`` as an HTTP date (RFC 9110, 10.2.3). A date in the past means 0.
    now_epoch
        Seconds since 1970, to compare the date with.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        date = parsedate_to_datetime(text.strip())
        # A date without a zone ("-0000") is read as UTC, as HTTP dates are.
        epoch = (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return max(epoch - now_epoch, 0.0)


def retry_delay_s(
    attempt: int,
    headers: Mapping[str, str],
    now_epoch: float,
    rng: random.Random,
    *,
    transient: bool = True,
    base_s: float = 0.5,
    cap_s: float = 60.0,
) -> float | None:
    """Return the seconds to wait before repeating a failed call, or None where it should not be repeated.

    Whether is the server's to say (``x-should-retry``); where it says nothing, `transient` decides. As to when, what
    the server asks for comes first, with up to a tenth on top, so that all who were turned away do not come back in
    the same instant. Without it, the delay doubles from `base_s` and is spread over its upper half.

    Parameters
    ----------
    attempt
        Number of the attempt that failed, from 1.
    headers
        The reply's headers, names in lower case; empty when there was no reply.
    now_epoch
        Seconds since 1970, for a Retry-After that is a date.
    rng
        Generator of the jitter.
    transient
        Whether the failure may pass by itself; see `is_transient`.
    base_s, cap_s
        First and longest delay, seconds, before the spread.

    Returns
    -------
    float or None
        Seconds, or None: do not retry. None also where the server asks for more than `cap_s`: it will not be ready
        before, and a caller should hear of it now.
    """
    told = {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower(), transient)
    if not told:
        return None
    asked_s = retry_after_s(headers, now_epoch)
    if asked_s is not None:
        return min(asked_s * (1 + 0.1 * rng.random()), cap_s) if asked_s <= cap_s else None
    # 2**attempt overflows a float at 1024 attempts; the cap is reached long before.
    longest_s = min(base_s * 2.0 ** min(attempt - 1, 64), cap_s)
    return longest_s * (0.5 + 0.5 * rng.random())


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*\d{1,15}(\.\d{1,9})?\s*", text, re.ASCII) else None
