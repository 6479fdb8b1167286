"""The door inside the process: HTTP requests of httpx and httpx2 clients, answered before a socket opens.

Both client libraries ask ``_transport_for_url`` which transport carries a request, whatever transport they were built
with (their own, or aiohttp's); that is the one place patched. The name is private to them: a test holds it on both.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import respx
from respx.mocks import Mocker
from respx.models import AllMockedAssertionError, PassThrough

from tinytroupe.testing.answer import Answer
from tinytroupe.testing.call import Call, endpoint_of
from tinytroupe.testing.faults import error_body
from tinytroupe.testing.guard import is_loopback

if TYPE_CHECKING:
    from tinytroupe.testing.mock_llm import MockLLM

_NAME = "tinytroupe"
_KEY = "OPENAI_API_KEY"
_DUMMY = "mock-key"
_KEPT_CALLS = 100

_lock = threading.RLock()
_current: ContextVar[Intercepting | None] = ContextVar("tinytroupe_mock_router", default=None)
_key_users = 0


class UnmockedRequestError(AllMockedAssertionError):
    """A request went to a host that nothing mocks; it was refused before a socket opened."""


class Intercepting(respx.MockRouter):
    """What is asked, while it is active, by which transport each HTTP request of the process travels."""

    def __init__(self) -> None:
        super().__init__(assert_all_called=False, assert_all_mocked=True, using=_NAME)
        self.outer: Intercepting | None = None

    def transport(self, http: Any, url: Any, original: Callable[[Any], Any]) -> Any:
        """Return a transport for a request to `url`; `http` is the client's library, `original` its own choice."""
        raise NotImplementedError


class Router(Intercepting):
    """A respx router in front of a mock model; it remembers its last 100 calls only."""

    def __init__(self, brain: MockLLM) -> None:
        super().__init__()
        self.brain = brain

    def transport(self, http: Any, url: Any, original: Callable[[Any], Any]) -> Any:
        """Return what carries a request to `url`: a door to the mock, or the client's own transport."""
        if self.brain.pass_loopback and is_loopback(url.host):
            return original(url)
        return _Door(http, self, lambda: original(url))

    def record(self, request: Any, *, response: Any = None, route: Any = None) -> None:
        """Keep a call, and let the oldest go."""
        super().record(request, response=response, route=route)
        for calls in (self.calls, *(() if route is None else (route.calls,))):
            del calls[:-_KEPT_CALLS]


class _Stream:
    """An answer's events as a response body, with their delays."""

    def __init__(self, http: Any, answer: Answer) -> None:
        self._http = http
        self._answer = answer
        # Whoever iterates anew gets the rest, as from a socket: some clients drain a stream after its last event.
        self._events = answer.events()

    def __iter__(self) -> Iterator[bytes]:
        for delay_s, event in self._events:
            if delay_s:
                time.sleep(delay_s)
            yield event
        self._end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for delay_s, event in self._events:
            if delay_s:
                await asyncio.sleep(delay_s)
            yield event
        self._end()

    def _end(self) -> None:
        if self._answer.cut:
            name, message = _BROKEN["body_cut"]
            raise getattr(self._http, name)(f"{message} (simulated)")

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class _Door:
    """The transport handed to a client for one request."""

    __slots__ = ("_http", "_original", "_router")

    def __init__(self, http: Any, router: Router, original: Callable[[], Any]) -> None:
        self._http = http
        self._router = router
        self._original = original

    def handle_request(self, request: Any) -> Any:
        request.read()
        if self._router.routes:
            try:
                return self._translated(self._router.handler(self._as_httpx(request)), request)
            except PassThrough:
                return self._original().handle_request(request)
            except AllMockedAssertionError:
                pass
        call = self._arrived(request)
        if call is None:
            return self._malformed(request)
        answer = self._router.brain.answer_blocking(call, _read_timeout(request), request.url.path)
        return self._deliver(answer, request)

    async def handle_async_request(self, request: Any) -> Any:
        await request.aread()
        if self._router.routes:
            try:
                return self._translated(await self._router.async_handler(self._as_httpx(request)), request)
            except PassThrough:
                return await self._original().handle_async_request(request)
            except AllMockedAssertionError:
                pass
        call = self._arrived(request)
        if call is None:
            return self._malformed(request)
        answer = await self._router.brain.answer(call, _read_timeout(request), request.url.path)
        return self._deliver(answer, request)

    def _arrived(self, request: Any) -> Call | None:
        """Count a request in; None if its body is malformed.

        Raises
        ------
        UnmockedRequestError
            It is no request to a model.
        """
        endpoint = endpoint_of(request.method, request.url.path)
        if not endpoint:
            self._refuse(request)
        body = _json(request.content)
        return None if body is None else self._router.brain.arrive(endpoint, body)

    def _refuse(self, request: Any) -> None:
        what = f"{request.method} {str(request.url).partition('?')[0]}"
        self._router.brain.refused.append(what)
        raise UnmockedRequestError(
            f"{what} refused: nothing mocks it, and nothing leaves this machine while a mock model is active. "
            "Add a route to its `router`, or send the request to a server on 127.0.0.1."
        )

    def _malformed(self, request: Any) -> Any:
        payload = error_body("The request's body is not a JSON object.")
        return self._http.Response(400, json=payload, request=request)

    def _deliver(self, answer: Answer, request: Any) -> Any:
        broken = answer.broken
        if broken:
            name, message = _BROKEN[broken]
            raise getattr(self._http, name)(f"{message} (simulated)", request=request)
        if answer.streams:
            return self._http.Response(
                200, headers=answer.headers(), stream=_stream(self._http, answer), request=request
            )
        return self._http.Response(answer.status, headers=answer.headers(), content=answer.body(), request=request)

    def _as_httpx(self, request: Any) -> httpx.Request:
        if isinstance(request, httpx.Request):
            return request
        return httpx.Request(
            request.method,
            str(request.url),
            headers=request.headers.raw,
            content=request.content,
            extensions=request.extensions,
        )

    def _translated(self, response: httpx.Response, request: Any) -> Any:
        if self._http is httpx:
            return response
        headers = response.headers.raw
        if isinstance(response.stream, httpx.ByteStream):
            # The content is decoded already; its encoding and old length would mislead.
            kept = [pair for pair in headers if pair[0].lower() not in (b"content-encoding", b"content-length")]
            return self._http.Response(response.status_code, headers=kept, content=response.content, request=request)
        return self._http.Response(
            response.status_code, headers=headers, stream=_adopted(self._http, response.stream), request=request
        )


_BROKEN = {
    "connection": ("ConnectError", "connection refused"),
    "reset": ("ReadError", "connection reset by peer"),
    "timeout": ("ReadTimeout", "no answer within the client's read time-out"),
    "stall": ("ReadTimeout", "no answer within the client's read time-out"),
    "connect_timeout": ("ConnectTimeout", "no connection within the client's time-out"),
    "pool_timeout": ("PoolTimeout", "no free connection within the client's time-out"),
    "body_cut": ("RemoteProtocolError", "peer closed connection without sending complete message body"),
}

_stream_types: dict[tuple[Any, type], type] = {}


def _stream_type(http: Any, base: type) -> type:
    found = _stream_types.get((http, base))
    if found is None:
        found = _stream_types[http, base] = type("Stream", (base, http.SyncByteStream, http.AsyncByteStream), {})
    return found


def _stream(http: Any, answer: Answer) -> Any:
    return _stream_type(http, _Stream)(http, answer)


class _Adopted:
    """A stream of the other client library."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        found: AsyncIterator[bytes] = self._stream.__aiter__()
        return found

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _adopted(http: Any, stream: Any) -> Any:
    return _stream_type(http, _Adopted)(stream)


def _json(content: bytes) -> dict[str, Any] | None:
    if not content:
        return {}
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _read_timeout(request: Any) -> float | None:
    timeout = request.extensions.get("timeout")
    found = timeout.get("read") if timeout else None
    return None if found is None else float(found)


def _forget(name: str) -> None:
    # Test runners may drop and re-import this module while respx, with its register of mockers, stays.
    getattr(Mocker, "_Mocker__registry", {}).pop(name, None)


_forget(_NAME)


class TransportMocker(Mocker):
    """Catches the requests of every client of httpx and httpx2, as respx mocker ``tinytroupe``."""

    name: ClassVar[str] = _NAME
    routers: ClassVar[list[Any]] = []
    targets: ClassVar[list[str]] = [
        f"{module}._client.{kind}"
        for module in ("httpx2", "httpx")
        if find_spec(module) is not None
        for kind in ("AsyncClient", "Client")
    ]
    target_methods: ClassVar[list[str]] = ["_transport_for_url"]

    @classmethod
    def mock(cls, spec: Any) -> Any:
        """Return what stands in for a client's choice of transport."""
        http = importlib.import_module(spec.__module__.partition(".")[0])

        def _transport_for_url(client: Any, url: Any) -> Any:
            router = active_router()
            if router is None:
                return spec(client, url)
            return router.transport(http, url, lambda to: spec(client, to))

        return _transport_for_url


def active_router() -> Intercepting | None:
    """Return the router of this context, or else, in a thread that was started without one, the only one there is.

    Raises
    ------
    RuntimeError
        If several are active side by side: a reply of the wrong one would be worse than none.
    """
    active = TransportMocker.routers
    own = _current.get()
    if own is not None and own in active:
        return own
    if len(active) < 2:
        return active[0] if active else None
    with _lock:
        found = [each for each in active if isinstance(each, Intercepting)]
        under = {id(each.outer) for each in found}  # inside another's ``with`` block the inner one answers
        innermost = [each for each in found if id(each) not in under]
    if len(innermost) > 1:
        raise RuntimeError(
            f"{len(innermost)} mock models are active side by side, and this thread was started inside none of them, "
            "so none can be chosen. Start it with contextvars.copy_context().run, or enter the mock model in it."
        )
    return innermost[0] if innermost else None


@contextlib.contextmanager
def intercepted(router: Intercepting) -> Iterator[None]:
    """Let HTTP requests be carried as `router` says inside the ``with`` block."""
    with _lock:
        fresh = router not in TransportMocker.routers
        if fresh:
            router.outer = _current.get()
            router.start()
    token = _current.set(router)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # left in another context than entered: there it was never set
            _current.reset(token)
        if fresh:
            with _lock:
                router.stop(clear=False, quiet=True)
                router.outer = None


@contextlib.contextmanager
def dummy_api_key() -> Iterator[None]:
    """Make sure that clients find an API key in the environment, and take it away again."""
    global _key_users
    with _lock:
        if not os.environ.get(_KEY):
            os.environ[_KEY] = _DUMMY
        _key_users += 1
    try:
        yield
    finally:
        with _lock:
            _key_users -= 1
            if _key_users == 0 and os.environ.get(_KEY) == _DUMMY:
                del os.environ[_KEY]
