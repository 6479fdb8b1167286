"""Any OpenAI-compatible API, through the official client: one client, one gate and one retry layer a loop."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import json
import logging
import os
import ssl
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tinytroupe.config import config_manager
from tinytroupe.llm.completion import chat_reply
from tinytroupe.llm.gate import Gate, GateSettings
from tinytroupe.llm.model import ChatReply, ChatRequest, ModelError, RefusalError
from tinytroupe.llm.request import PLAIN, STRICT, request_body
from tinytroupe.llm.retry import is_transient, retry_after_s, retry_delay_s
from tinytroupe.runtime.clock import VirtualTimeError
from tinytroupe.runtime.portal import at_loop_close
from tinytroupe.runtime.randomness import generator

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger("tinytroupe.llm")

_CHARACTERS_PER_TOKEN = 4  # a rule of thumb, for the estimate that the token bucket starts from; usage corrects it
_ENVIRONMENT = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT")
_MOST_CONNECTIONS = 8
"""Servers (and keys, and limits) that a loop keeps clients for at once."""


T = TypeVar("T")
_Send = Callable[["AsyncOpenAI", int], Awaitable[tuple[T, int, Mapping[str, str]]]]
"""Sends once: client and level of structured output in; result, tokens and headers out."""


@dataclass(slots=True)
class _Sent(Generic[T]):
    """An answer, and what it took to get it."""

    result: T
    retries: int
    latency_s: float
    queued_s: float


@dataclass(slots=True)
class _Connection:
    """What belongs to one server on one loop."""

    client: AsyncOpenAI
    limits: GateSettings
    gate: Gate
    # What the server knows of structured output, by model.
    schema_level: dict[str, int] = field(default_factory=dict)


class OpenAIModel:
    """A `ChatModel` behind an OpenAI-compatible API.

    Settings are read at every call, so that changes hold at once; arguments given here win over them.

    Parameters
    ----------
    base_url
        Root of the API; None: setting ``BASE_URL``, else the client's own default.
    api_key
        None: the environment variable ``OPENAI_API_KEY``.
    azure_ad_token_provider
        With ``API_TYPE=azure``: called for an Entra token where there is no key; may be a coroutine function.
    http_client
        ``aiohttp`` (default: steady at hundreds of concurrent calls) or ``httpx``, the client's own default.

    Notes
    -----
    The client, its connections and the gate are made at the first call to a server on a loop and shared by all calls
    to it there. On loops that a portal runs they are closed with it; elsewhere call `aclose`.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        azure_ad_token_provider: Callable[[], str | Awaitable[str]] | None = None,
        http_client: str = "aiohttp",
    ) -> None:
        if http_client not in ("aiohttp", "httpx"):
            raise ValueError(f"http_client must be 'aiohttp' or 'httpx', got {http_client!r}")
        self._base_url = base_url
        self._api_key = api_key
        self._azure_ad_token_provider = azure_ad_token_provider
        self._http_client = http_client
        self._connections: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Any, ...], _Connection]] = (
            weakref.WeakKeyDictionary()
        )

        self._closed_with: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._retiring: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """Build the client now, so that the first call is not slower than the others."""
        if "openai" not in sys.modules:  # its import takes a second: not on the loop, where others may be at work
            await asyncio.to_thread(_certificates)
        self._connection()

    @property
    def gate(self) -> Gate:
        """The gate of the running loop."""
        return self._connection().gate

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer `request`.

        Raises
        ------
        ModelError
            After the last attempt (``transient``), or at once where repeating can't help.
        RefusalError
            The model refused, or a content filter stopped it.
        """
        characters = sum(len(str(message.get("content", ""))) for message in request.messages)

        async def send(client: AsyncOpenAI, schema_level: int) -> tuple[ChatReply, int, Mapping[str, str]]:
            body = request_body(request, schema_level)
            # The client's own door for any endpoint: `chat.completions.create` would walk through every message and
            # build a tree of objects from the answer, a third of its CPU time, for what is a few fields here.
            response = await client.post(
                "/chat/completions",
                cast_to=_http_library().Response,
                body=body,
                options={"timeout": config_manager.get("timeout")},
            )
            reply = chat_reply(json.loads(response.content))
            return reply, reply.usage.tokens, response.headers

        sent = await self._retrying(send, characters, request)
        return replace(
            sent.result,
            usage=replace(sent.result.usage, retries=sent.retries),
            latency_s=sent.latency_s,
            queued_s=sent.queued_s,
        )

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text, in order.

        Raises
        ------
        ModelError
            As `complete`.
        """

        async def send(client: AsyncOpenAI, _: int) -> tuple[list[list[float]], int, Mapping[str, str]]:
            raw = await client.embeddings.with_raw_response.create(
                model=config_manager.get("embedding_model"), input=list(texts), timeout=config_manager.get("timeout")
            )
            answer = raw.parse()
            vectors = [list(item.embedding) for item in sorted(answer.data, key=lambda item: item.index)]
            if len(vectors) != len(texts):
                raise ModelError(f"asked for {len(texts)} embeddings, got {len(vectors)}")
            return vectors, getattr(answer.usage, "total_tokens", 0) or 0, raw.headers

        return (await self._retrying(send, sum(map(len, texts)), ChatRequest(()))).result

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        for connection in self._connections.pop(asyncio.get_running_loop(), {}).values():
            await connection.client.close()

    # ------------------------------------------------------------------------------------------------------------

    async def _retrying(self, send: _Send[T], characters: int, request: ChatRequest) -> _Sent[T]:
        """Send until it succeeds, or repeating can't help, or the attempts are used up.

        The slot is given back while waiting for the next attempt.
        """
        connection = self._connection()
        gate, schema_levels = connection.gate, connection.schema_level
        model = request.model or config_manager.get("model")
        loop = asyncio.get_running_loop()
        attempts: int = config_manager.get("max_attempts")
        attempt = 0
        queued_s = 0.0
        while True:
            attempt += 1
            schema_level = schema_levels.get(model, STRICT)
            async with gate.slot(characters // _CHARACTERS_PER_TOKEN) as slot:
                queued_s += slot.queued_s
                started_s = loop.time()
                try:
                    result, tokens, headers = await send(connection.client, schema_level)
                except Exception as error:
                    failure = _model_error(error)
                    if failure.status == 429:
                        given = _headers_of(failure)
                        gate.on_rate_limited(slot, retry_after_s(given, _epoch(given)))
                    elif failure.transient:
                        gate.on_transient_error(slot)
                else:
                    gate.on_success(slot)
                    gate.correct(slot, tokens, headers)
                    return _Sent(result, attempt - 1, loop.time() - started_s, queued_s)
            if request.schema is not None and schema_level < PLAIN and _about_schema(failure):
                # Calls that failed side by side ask for one level less, not each for one less than the other.
                schema_levels[model] = max(schema_levels.get(model, STRICT), schema_level + 1)
                logger.warning("%s does not take strict structured output, falling back: %s", model, failure)
                attempt -= 1
                continue
            delay_s = self._delay_s(failure, attempt, request) if attempt < attempts else None
            if delay_s is None:
                raise failure
            logger.info("attempt %d of %d failed, next in %.2f s: %s", attempt, attempts, delay_s, failure)
            await asyncio.sleep(delay_s)

    def _delay_s(self, failure: ModelError, attempt: int, request: ChatRequest) -> float | None:
        headers = _headers_of(failure)
        if not failure.transient and headers.get("x-should-retry") != "true":
            return None
        origin = request.origin
        rng = generator(config_manager.get("seed"), "retry", origin.person, origin.call, attempt)
        return retry_delay_s(attempt, headers, _epoch(headers), rng)

    def _connection(self) -> _Connection:
        get = config_manager.get
        limits = GateSettings(
            fixed=get("max_concurrent_model_calls"),
            low=get("min_concurrent_model_calls"),
            high=get("max_adaptive_model_calls"),
            rpm=get("requests_per_minute"),
            tpm=get("tokens_per_minute"),
        )
        loop = asyncio.get_running_loop()
        connections = self._connections.setdefault(loop, {})
        if loop not in self._closed_with:
            self._closed_with.add(loop)
            at_loop_close(self.aclose)
        # What the client reads from the environment is part of who it speaks to, and as whom.
        environment = tuple(os.environ.get(name) for name in _ENVIRONMENT)
        server = (self._base_url or get("base_url"), get("api_type"), limits.most, environment)
        connection = connections.pop(server, None)
        if connection is None:
            while len(connections) >= _MOST_CONNECTIONS:
                self._retire(connections.pop(next(iter(connections))))
            connection = _Connection(self._client(limits.most), limits, limits.gate())
        elif connection.limits != limits:
            # Calls under way give their slots back to the gate they came through.
            connection.limits, connection.gate = limits, limits.gate()
        connections[server] = connection  # last: used latest
        return connection

    def _retire(self, connection: _Connection) -> None:
        """Close a client that was not used for the longest, after its calls under way."""

        async def close() -> None:
            # Rare, so that the gate need not tell when its last slot comes back.
            while connection.gate.in_use:  # noqa: ASYNC110
                await asyncio.sleep(1)
            await connection.client.close()

        task = asyncio.get_running_loop().create_task(close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _client(self, most: int) -> AsyncOpenAI:
        import openai

        timeout = config_manager.get("timeout")
        factory = openai.DefaultAioHttpClient if self._http_client == "aiohttp" else openai.DefaultAsyncHttpxClient
        http = factory(verify=_certificates(), timeout=timeout, limits=_limits(most))
        base_url = self._base_url or config_manager.get("base_url")
        options: dict[str, Any] = {"api_key": self._api_key, "http_client": http, "max_retries": 0, "timeout": timeout}
        try:
            if config_manager.get("api_type") == "azure":
                client: AsyncOpenAI = openai.AsyncAzureOpenAI(
                    **options,
                    azure_endpoint=base_url,
                    api_version=config_manager.get("azure_api_version"),
                    azure_ad_token_provider=self._azure_ad_token_provider,
                )
            else:
                client = openai.AsyncOpenAI(**options, base_url=base_url)
        except openai.OpenAIError as error:
            raise ModelError(
                f"no client could be made: {error} "
                "Set OPENAI_API_KEY, or answer offline with tinytroupe.testing.MockLLM (fixture mock_llm)."
            ) from error
        # The client learns its platform in a worker thread during its first call. A thousand first calls at once would
        # be a thousand such hops, in an order that no seed decides.
        if getattr(client, "_platform", "") is None:
            client._platform = openai._base_client.get_platform()
        return client


@functools.lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    # Loading the bundle takes 20 ms of CPU: once a process, not once a client.
    context: ssl.SSLContext = _http_library().create_ssl_context()
    return context


def _limits(most: int) -> Any:
    return _http_library().Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=30.0)


def _http_library() -> Any:
    """The HTTP library that the installed client speaks: httpx2 from 3.0 on, httpx before."""
    import openai

    if int(openai.VERSION.split(".")[0]) >= 3:
        import httpx2

        return httpx2
    import httpx

    return httpx


def _about_schema(failure: ModelError) -> bool:
    text = str(failure).lower()
    return failure.status in (400, 404, 422) and ("response_format" in text or "json_schema" in text)


def _model_error(error: Exception) -> ModelError:
    """Return what the failure of an attempt means, with the attempt's own error as its cause."""
    if isinstance(error, ModelError):
        return error
    failure = _translated(error)
    failure.__cause__ = error
    return failure


def _translated(error: Exception) -> ModelError:
    import openai

    if isinstance(error, (ValueError, RecursionError)) and not isinstance(error, openai.OpenAIError):
        # A body that is not JSON, or not of the shape of an answer.
        return ModelError(f"the model's answer could not be read: {error}", transient=True)
    if isinstance(error, VirtualTimeError):
        return ModelError(f"no connection to the model's API: {error}")
    if not isinstance(error, openai.OpenAIError):
        raise error
    if isinstance(error, openai.APITimeoutError):
        return ModelError("the model did not answer in time", transient=True)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        transient = is_transient(status)
        if getattr(error, "code", None) in ("content_filter", "content_policy_violation"):
            return RefusalError(f"a content filter stopped the request: {error.message}", status=status)
        if getattr(error, "code", None) == "insufficient_quota":
            transient = False
        return ModelError(f"the model's API answered {status}: {error.message}", transient=transient, status=status)
    if isinstance(error, openai.APIConnectionError):
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        # On virtual time there is no network, however often it is tried.
        return ModelError(
            f"no connection to the model's API: {cause}", transient=not isinstance(cause, VirtualTimeError)
        )
    return ModelError(f"{type(error).__name__}: {error}", transient=isinstance(error, openai.APIError))


def _headers_of(failure: ModelError) -> Mapping[str, str]:
    response = getattr(failure.__cause__, "response", None)
    return response.headers if response is not None else {}


def _epoch(headers: Mapping[str, str]) -> float:
    """Seconds since 1970 by the server's own clock, against which its Retry-After dates are meant."""
    try:
        return email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return time.time()
