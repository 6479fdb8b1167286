"""Any OpenAI-compatible API, through the official client: one client, one gate and one retry layer a loop."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import logging
import ssl
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tinytroupe.config import config_manager
from tinytroupe.llm.gate import Gate
from tinytroupe.llm.model import ChatReply, ChatRequest, Message, ModelError, RefusalError
from tinytroupe.llm.retry import retry_after_s, retry_delay_s
from tinytroupe.llm.usage import Usage
from tinytroupe.runtime.clock import VirtualTimeError
from tinytroupe.runtime.portal import at_loop_close
from tinytroupe.runtime.randomness import generator

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger("tinytroupe.llm")

_CHARACTERS_PER_TOKEN = 4  # a rule of thumb, for the estimate that the token bucket starts from; usage corrects it
_SAMPLING = ("temperature", "top_p", "max_completion_tokens", "reasoning_effort")


T = TypeVar("T")
_Send = Callable[["AsyncOpenAI"], Awaitable[tuple[T, int, Mapping[str, str]]]]


@dataclass(slots=True)
class _Sent(Generic[T]):
    """An answer, and what it took to get it."""

    result: T
    retries: int
    latency_s: float
    queued_s: float


@dataclass(slots=True)
class _Connection:
    """What belongs to one loop."""

    client: AsyncOpenAI
    gate: Gate


class OpenAIModel:
    """A `ChatModel` behind an OpenAI-compatible API.

    Settings are read at every call, so that changes hold at once; arguments given here win over them.

    Parameters
    ----------
    base_url
        Root of the API; None: setting ``BASE_URL``, else the client's own default.
    api_key
        None: the environment variable ``OPENAI_API_KEY``.
    http_client
        ``aiohttp`` (default: steady at hundreds of concurrent calls) or ``httpx``, the client's own default.

    Notes
    -----
    The client, its connections and the gate are made at the first call on a loop and shared by all calls on it.
    On loops that a portal runs they are closed with it; elsewhere call `aclose`.
    """

    def __init__(
        self, *, base_url: str | None = None, api_key: str | None = None, http_client: str = "aiohttp"
    ) -> None:
        if http_client not in ("aiohttp", "httpx"):
            raise ValueError(f"http_client must be 'aiohttp' or 'httpx', got {http_client!r}")
        self._base_url = base_url
        self._api_key = api_key
        self._http_client = http_client
        self._connections: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Connection] = (
            weakref.WeakKeyDictionary()
        )
        # Servers differ in how much of structured output they know: 0 strict schema, 1 JSON mode, 2 plain text.
        self._schema_level: dict[str, int] = {}

    async def prepare(self) -> None:
        """Build the client now, so that the first call is not slower than the others."""
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

        async def send(client: AsyncOpenAI) -> tuple[ChatReply, int, Mapping[str, str]]:
            body = self._body(request)
            raw = await client.chat.completions.with_raw_response.create(
                model=body["model"], messages=[], extra_body=body, timeout=config_manager.get("timeout")
            )
            reply = _reply(raw.parse())
            return reply, reply.usage.tokens, raw.headers

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

        async def send(client: AsyncOpenAI) -> tuple[list[list[float]], int, Mapping[str, str]]:
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
        connection = self._connections.pop(asyncio.get_running_loop(), None)
        if connection is not None:
            await connection.client.close()

    # ------------------------------------------------------------------------------------------------------------

    async def _retrying(self, send: _Send[T], characters: int, request: ChatRequest) -> _Sent[T]:
        """Send until it succeeds, or repeating can't help, or the attempts are used up.

        The slot is given back while waiting for the next attempt.
        """
        connection = self._connection()
        gate = connection.gate
        loop = asyncio.get_running_loop()
        attempts: int = config_manager.get("max_attempts")
        attempt = 0
        queued_s = 0.0
        while True:
            attempt += 1
            async with gate.slot(characters // _CHARACTERS_PER_TOKEN) as slot:
                queued_s += slot.queued_s
                started_s = loop.time()
                try:
                    result, tokens, headers = await send(connection.client)
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
            delay_s = self._delay_s(failure, attempt, request) if attempt < attempts else None
            if delay_s is None:
                raise failure
            logger.info("attempt %d of %d failed, next in %.2f s: %s", attempt, attempts, delay_s, failure)
            await asyncio.sleep(delay_s)

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        model = request.model or config_manager.get("model")
        body: dict[str, Any] = {"model": model}
        for name in _SAMPLING:
            if (value := config_manager.get(name)) is not None:
                body[name] = value
        body.update(request.parameters)
        messages: list[Message] = list(request.messages)
        if request.schema is not None:
            level = self._schema_level.get(model, 0)
            if level == 0:
                schema = {"name": request.schema.name, "strict": True, "schema": request.schema.schema}
                body["response_format"] = {"type": "json_schema", "json_schema": schema}
            elif level == 1:
                body["response_format"] = {"type": "json_object"}
        # In extra_body the messages travel as they are: as an argument the client walks through each of them,
        # at 0.13 ms CPU a message.
        body["messages"] = messages
        return body

    def _delay_s(self, failure: ModelError, attempt: int, request: ChatRequest) -> float | None:
        if failure.status in (400, 404, 422) and self._lower_schema_level(failure, request):
            return 0.0
        headers = _headers_of(failure)
        if not failure.transient and headers.get("x-should-retry") != "true":
            return None
        origin = request.origin
        rng = generator(config_manager.get("seed"), "retry", origin.person, origin.call, attempt)
        return retry_delay_s(attempt, headers, _epoch(headers), rng)

    def _lower_schema_level(self, failure: ModelError, request: ChatRequest) -> bool:
        """Where a server does not know structured output, ask for less of it. True: worth another attempt."""
        model = request.model or config_manager.get("model")
        level = self._schema_level.get(model, 0)
        text = str(failure).lower()
        if request.schema is None or level == 2 or not ("response_format" in text or "json_schema" in text):
            return False
        logger.warning("%s does not take strict structured output, falling back: %s", model, failure)
        self._schema_level[model] = level + 1
        return True

    def _connection(self) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = self._connections.get(loop)
        if connection is None:
            fixed = config_manager.get("max_concurrent_model_calls")
            gate = Gate(
                start=fixed or 20,
                low=fixed or config_manager.get("min_concurrent_model_calls"),
                high=fixed or config_manager.get("max_adaptive_model_calls"),
                rpm=config_manager.get("requests_per_minute"),
                tpm=config_manager.get("tokens_per_minute"),
                adaptive=fixed is None,
            )
            connection = self._connections[loop] = _Connection(self._client(), gate)
            at_loop_close(self.aclose)
        return connection

    def _client(self) -> AsyncOpenAI:
        import openai

        most = max(config_manager.get("max_concurrent_model_calls", 0), config_manager.get("max_adaptive_model_calls"))
        timeout = config_manager.get("timeout")
        factory = openai.DefaultAioHttpClient if self._http_client == "aiohttp" else openai.DefaultAsyncHttpxClient
        http = factory(verify=_certificates(), timeout=timeout, limits=_limits(most))
        base_url = self._base_url or config_manager.get("base_url")
        options: dict[str, Any] = {"api_key": self._api_key, "http_client": http, "max_retries": 0, "timeout": timeout}
        try:
            if config_manager.get("api_type") == "azure":
                client: AsyncOpenAI = openai.AsyncAzureOpenAI(**options, azure_endpoint=base_url)
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


def _model_error(error: Exception) -> ModelError:
    """Return what the failure of an attempt means, with the attempt's own error as its cause."""
    if isinstance(error, ModelError):
        return error
    failure = _translated(error)
    failure.__cause__ = error
    return failure


def _translated(error: Exception) -> ModelError:
    import openai

    if isinstance(error, ValueError) and not isinstance(error, openai.OpenAIError):
        # A body that is not JSON, or not of the shape of an answer.
        return ModelError(f"the model's answer could not be read: {error}", transient=True)
    if not isinstance(error, openai.OpenAIError):
        raise error
    if isinstance(error, openai.APITimeoutError):
        return ModelError("the model did not answer in time", transient=True)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        transient = status in (408, 409, 429) or status >= 500
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


def _reply(completion: Any) -> ChatReply:
    """Turn a completion into a `ChatReply`.

    Servers that call themselves compatible leave fields out or send null: nothing is taken for granted.
    """
    choices = getattr(completion, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        raise ModelError("the model's answer holds no choice", transient=True)
    choice = choices[0]
    if getattr(choice.message, "refusal", None):
        raise RefusalError(f"the model refused: {choice.message.refusal}")
    if choice.finish_reason == "content_filter":
        raise RefusalError("a content filter stopped the reply")
    usage = getattr(completion, "usage", None)
    details = getattr(usage, "prompt_tokens_details", None)
    return ChatReply(
        text=choice.message.content or "",
        usage=Usage(
            calls=1,
            prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
            completion_tokens=getattr(usage, "completion_tokens", 0) or 0,
            cached_tokens=getattr(details, "cached_tokens", 0) or 0,
        ),
        model=getattr(completion, "model", "") or "",
        finish_reason=choice.finish_reason or "",
    )
