"""What went wrong with a call, as one kind of error: whether it may pass, and what to do where it can't."""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
from collections.abc import Mapping

from tinytroupe.llm.model import ContextLengthError, ModelError, RefusalError
from tinytroupe.llm.retry import is_transient
from tinytroupe.runtime.clock import VirtualTimeError

_FILTERS = ("content_filter", "content_policy_violation")
_TOO_LONG = ("context_length_exceeded", "string_above_max_length")
_SAYS_TOO_LONG = ("maximum context length", "context window", "prompt is too long", "too many tokens")
_CUT_OFF = ("UNEXPECTED_EOF", "EOF occurred")
_SSL = re.compile(r"\[SSL: [A-Z_]+\]|certificate verify failed")


def model_error(error: Exception) -> ModelError:
    """Return what the failure of an attempt means, with the attempt's own error as its cause.

    Raises
    ------
    Exception
        `error` itself, where it is no failure of a call but a bug.
    """
    if isinstance(error, ModelError):
        return error
    failure = _translated(error)
    failure.__cause__ = error
    return failure


def headers_of(failure: ModelError) -> Mapping[str, str]:
    """Return the headers of the answer that was a failure; empty where none came."""
    response = getattr(failure.__cause__, "response", None)
    return response.headers if response is not None else {}


def server_epoch(headers: Mapping[str, str]) -> float:
    """Return seconds since 1970 by the server's own clock, against which its Retry-After dates are meant."""
    try:
        return email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return time.time()


def about_schema(failure: ModelError) -> bool:
    """Tell whether a server refused the request for the structured output it asks for."""
    text = str(failure).lower()
    return failure.status in (400, 404, 422) and ("response_format" in text or "json_schema" in text)


def _translated(error: Exception) -> ModelError:
    import openai

    if isinstance(error, (ValueError, RecursionError)) and not isinstance(error, openai.OpenAIError):
        # A body that is not JSON, or not of the shape of an answer.
        return ModelError(f"the model's answer could not be read: {error}", transient=True)
    if isinstance(error, VirtualTimeError):
        return ModelError(f"no connection to the model's API: {error}")
    if isinstance(error, TimeoutError) or (isinstance(error, openai.APITimeoutError) and not _never_connected(error)):
        return ModelError("the model did not answer in time (setting TIMEOUT)", transient=True)
    if not isinstance(error, openai.OpenAIError):
        raise error
    if isinstance(error, openai.APIStatusError):
        return _refused(error.status_code, error.message, getattr(error, "code", None))
    if isinstance(error, openai.APIConnectionError):
        return _not_reached(error)
    return ModelError(f"{type(error).__name__}: {error}", transient=isinstance(error, openai.APIError))


def _refused(status: int, message: str, code: object) -> ModelError:
    if code in _FILTERS:
        return RefusalError(f"a content filter stopped the request: {message}", status=status)
    what = f"the model's API answered {status}: {message}"
    if code in _TOO_LONG or (status in (400, 413) and any(each in message.lower() for each in _SAYS_TOO_LONG)):
        return ContextLengthError(what, status=status)
    return ModelError(what, transient=is_transient(status) and code != "insufficient_quota", status=status)


def _never_connected(error: BaseException) -> bool:
    # Under the client's transport on aiohttp every lost connection is called a time-out.
    causes = _causes(error)
    return any(
        type(cause).__module__.startswith("aiohttp") and not isinstance(cause, asyncio.TimeoutError) for cause in causes
    )


def _not_reached(error: BaseException) -> ModelError:
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, VirtualTimeError):  # there is no network, however often it is tried
            return ModelError(f"no connection to the model's API: {cause}")
        text = str(cause)
        if _SSL.search(text) and not any(each in text for each in _CUT_OFF):
            return ModelError(
                f"no secure connection to the model's API: {text}. Where its certificate is signed by an authority of "
                "your own, name that authority's file in the environment variable SSL_CERT_FILE."
            )
    return ModelError(
        f"no connection to the model's API: {str(causes[-1]) or type(causes[-1]).__name__}", transient=True
    )


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and what it came from; libraries hide some of it (``from None``)."""
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and cause not in found:
        found.append(cause)
    return found
