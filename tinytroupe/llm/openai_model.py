"""Any OpenAI-compatible API, through the official client: one client, one gate and one retry layer a loop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tinytroupe.config import config_manager
from tinytroupe.llm.completion import chat_reply
from tinytroupe.llm.failures import about_schema, headers_of, model_error, server_epoch
from tinytroupe.llm.gate import Gate
from tinytroupe.llm.gate_settings import GateSettings
from tinytroupe.llm.leases import current_leases
from tinytroupe.llm.model import ChatReply, ChatRequest, ModelError
from tinytroupe.llm.request import PLAIN, STRICT, request_body
from tinytroupe.llm.retry import retry_after_s, retry_delay_s
from tinytroupe.llm.transport import HTTP_CLIENTS, SHARD_CONNECTIONS, Shards, certificates, http_client, http_library
from tinytroupe.llm.waiting import during
from tinytroupe.runtime.deadline import within
from tinytroupe.runtime.portal import at_loop_close
from tinytroupe.runtime.randomness import generator
from tinytroupe.runtime.telemetry import operation

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger("tinytroupe.llm")

_CHARACTERS_PER_TOKEN = 4  # a rule of thumb, for the estimate that the token bucket starts from; usage corrects it
_ENVIRONMENT = (
    *("OPENAI_API_KEY", "OPENAI_BASE_URL", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
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
    slot_s: float


@dataclass(slots=True)
class _Connection:
    """What belongs to one server on one loop."""

    clients: Shards
    limits: GateSettings
    gate: Gate
    described: Mapping[str, Any]
    completions: str
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
        ``aiohttp`` (steady at hundreds of concurrent calls) or ``httpx``, the client's own default (httpx2 from openai
        3 on); None: setting ``HTTP_CLIENT``.

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
        http_client: str | None = None,
    ) -> None:
        if http_client not in (None, *HTTP_CLIENTS):
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
            await asyncio.to_thread(certificates)
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
                connection.completions,
                cast_to=http_library().Response,
                body=body,
                options={"timeout": config_manager.get("timeout")},
            )
            reply = chat_reply(json.loads(response.content))
            return reply, reply.usage.tokens, _limits_told(response.headers)

        model = request.model or config_manager.get("model")
        connection = self._connection()
        with operation("chat", model, {**connection.described, "gen_ai.request.model": model}) as op:
            sent = await self._retrying(connection, send, characters, request, op)
            usage = sent.result.usage
            op.note({"gen_ai.response.model": sent.result.model or model, "tinytroupe.retries": sent.retries})
            op.note({"gen_ai.response.finish_reasons": [sent.result.finish_reason]})
            op.tokens(usage.prompt_tokens, usage.completion_tokens)
        return replace(
            sent.result,
            usage=replace(sent.result.usage, retries=sent.retries),
            latency_s=sent.latency_s,
            queued_s=sent.queued_s,
            slot_s=sent.slot_s,
        )

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text, in order.

        Raises
        ------
        ModelError
            As `complete`.
        """

        model = config_manager.get("embedding_model")

        async def send(client: AsyncOpenAI, _: int) -> tuple[list[list[float]], int, Mapping[str, str]]:
            raw = await client.embeddings.with_raw_response.create(
                model=model, input=list(texts), timeout=config_manager.get("timeout")
            )
            answer = raw.parse()
            vectors = [list(item.embedding) for item in sorted(answer.data, key=lambda item: item.index)]
            if len(vectors) != len(texts):
                raise ModelError(f"asked for {len(texts)} embeddings, got {len(vectors)}")
            tokens = getattr(answer.usage, "total_tokens", 0) or 0
            op.tokens(tokens, 0)
            return vectors, tokens, raw.headers

        connection = self._connection()
        with operation("embeddings", model, {**connection.described, "gen_ai.request.model": model}) as op:
            return (await self._retrying(connection, send, sum(map(len, texts)), ChatRequest(()), op)).result

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        for connection in self._connections.pop(asyncio.get_running_loop(), {}).values():
            await connection.clients.close()

    # ------------------------------------------------------------------------------------------------------------

    async def _retrying(
        self, connection: _Connection, send: _Send[T], characters: int, request: ChatRequest, op: operation
    ) -> _Sent[T]:
        """Send until it succeeds, or repeating can't help, or the attempts are used up.

        The slot is given back while waiting for the next attempt.
        """
        gate, schema_levels = connection.gate, connection.schema_level
        model = request.model or config_manager.get("model")
        loop = asyncio.get_running_loop()
        attempts: int = config_manager.get("max_attempts")
        attempt = 0
        queued_s = slot_s = 0.0
        while True:
            attempt += 1
            schema_level = schema_levels.get(model, STRICT)
            async with gate.slot(characters // _CHARACTERS_PER_TOKEN, request.origin.simulation) as slot:
                queued_s += slot.queued_s
                op.excluded_s = queued_s
                started_s = loop.time()
                try:
                    # The client's own time-outs are for each part of it: a body that drips would take for ever.
                    with during("answered"), connection.clients.one() as client:
                        async with within(config_manager.get("timeout")):
                            result, tokens, headers = await send(client, schema_level)
                except Exception as error:
                    slot_s += loop.time() - started_s
                    failure = model_error(error)
                    if failure.status == 429:
                        given = headers_of(failure)
                        gate.on_rate_limited(slot, retry_after_s(given, server_epoch(given)))
                    elif failure.transient:
                        gate.on_transient_error(slot)
                else:
                    gate.on_success(slot)
                    gate.correct(slot, tokens, headers)
                    latency_s = loop.time() - started_s
                    return _Sent(result, attempt - 1, latency_s, queued_s, slot_s + latency_s)
            if request.schema is not None and schema_level < PLAIN and about_schema(failure):
                # Calls that failed side by side ask for one level less, not each for one less than the other.
                schema_levels[model] = max(schema_levels.get(model, STRICT), schema_level + 1)
                logger.warning("%s does not take strict structured output, falling back: %s", model, failure)
                attempt -= 1
                continue
            delay_s = self._delay_s(failure, attempt, request) if attempt < attempts else None
            if delay_s is None:
                raise failure
            logger.info("attempt %d of %d failed, next in %.2f s: %s", attempt, attempts, delay_s, failure)
            with during("backoff"):
                await asyncio.sleep(delay_s)

    def _delay_s(self, failure: ModelError, attempt: int, request: ChatRequest) -> float | None:
        headers, origin = headers_of(failure), request.origin
        rng = generator(config_manager.get("seed"), "retry", origin.person, origin.call, attempt)
        return retry_delay_s(attempt, headers, server_epoch(headers), rng, transient=failure.transient)

    def _connection(self) -> _Connection:
        get = config_manager.get
        limits = GateSettings(
            fixed=get("max_concurrent_model_calls"),
            low=get("min_concurrent_model_calls"),
            high=get("max_adaptive_model_calls"),
            rpm=get("requests_per_minute"),
            tpm=get("tokens_per_minute"),
            leases=current_leases(),
        )
        loop = asyncio.get_running_loop()
        connections = self._connections.setdefault(loop, {})
        if loop not in self._closed_with:
            self._closed_with.add(loop)
            at_loop_close(self.aclose)
        # What the client reads from the environment is part of who it speaks to, and as whom.
        environment = tuple(os.environ.get(name) for name in _ENVIRONMENT)
        kind = self._http_client or get("http_client")
        server = (self._base_url or get("base_url"), get("api_type"), limits.most, kind, environment)
        connection = connections.pop(server, None)
        if connection is None:
            while len(connections) >= _MOST_CONNECTIONS:
                self._retire(connections.pop(next(iter(connections))))
            each = None if kind == "aiohttp" else SHARD_CONNECTIONS
            clients = Shards(lambda most: self._client(kind, most), limits.most, each)
            first = clients.clients[0]
            connection = _Connection(clients, limits, limits.gate(), _described(first), _completions(first))
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
            await connection.clients.close()

        task = asyncio.get_running_loop().create_task(close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _client(self, kind: str, most: int) -> AsyncOpenAI:
        import openai

        timeout = config_manager.get("timeout")
        http = http_client(kind, most, timeout)
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
                "no client could be made; set OPENAI_API_KEY, or answer offline with tinytroupe.testing.MockLLM "
                f"(fixture mock_llm): {error}"
            ) from error
        # The client learns its platform in a worker thread during its first call. A thousand first calls at once would
        # be a thousand such hops, in an order that no seed decides.
        if getattr(client, "_platform", "") is None:
            client._platform = openai._base_client.get_platform()
        return client


def _completions(client: AsyncOpenAI) -> str:
    """Return where to ask: whole, since merging it with the root at every call takes a fifteenth of a turn's CPU time.

    On Azure the client itself makes the path, from the model's name.
    """
    azure = config_manager.get("api_type") == "azure"
    return "/chat/completions" if azure or client.base_url.query else f"{client.base_url}chat/completions"


def _limits_told(headers: Any) -> dict[str, str]:
    """Return those of a reply's headers that the gate reads; to look each up would go through all of them each time."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in headers.raw
        if name[:12].lower() == b"x-ratelimit-"
    }


def _described(client: AsyncOpenAI) -> dict[str, Any]:
    """Return what telemetry says of a server."""
    azure = config_manager.get("api_type") == "azure"
    return {
        "gen_ai.provider.name": "azure.ai.openai" if azure else "openai",
        "server.address": client.base_url.host,
        "server.port": client.base_url.port or (443 if client.base_url.scheme == "https" else 80),
    }
