"""Between a client and its own transport: requests pass through to the real endpoint and are recorded on the way."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol

from tinytroupe.testing.call import endpoint_of
from tinytroupe.testing.interception import Intercepting
from tinytroupe.testing.recording import Take, secrets_in, take_of


class Listener(Protocol):
    """Who is told what passes: a `Recorder`, or `Traffic`."""

    @property
    def base_url(self) -> str | None:
        """Where requests are sent instead; None for where they are going."""
        ...

    def add(self, take: Take, secrets: Sequence[str] = ()) -> None:
        """Take in one exchange."""
        ...


_FAULTS = (
    ("ConnectTimeout", "connect_timeout"),
    ("PoolTimeout", "pool_timeout"),
    ("TimeoutException", "timeout"),
    ("ConnectError", "connection"),
    ("TransportError", "reset"),
)


class TapRouter(Intercepting):
    """Lets every request go where it is going, or to the recorder's `base_url`, and records those to a model."""

    def __init__(self, recorder: Listener) -> None:
        super().__init__()
        self.recorder = recorder

    def transport(self, http: Any, url: Any, original: Callable[[Any], Any]) -> Any:
        return _Tap(http, self.recorder, original)


class _Tap:
    """The transport handed to a client for one request."""

    __slots__ = ("_http", "_original", "_recorder")

    def __init__(self, http: Any, recorder: Listener, original: Callable[[Any], Any]) -> None:
        self._http = http
        self._recorder = recorder
        self._original = original

    def handle_request(self, request: Any) -> Any:
        request.read()
        take = self._taking(request)
        transport = self._original(request.url)
        if take is None:
            return transport.handle_request(request)
        try:
            response = transport.handle_request(request)
        except self._http.TransportError as error:
            take.failed(error)
            raise
        return self._tapped(response, take)

    async def handle_async_request(self, request: Any) -> Any:
        await request.aread()
        take = self._taking(request)
        transport = self._original(request.url)
        if take is None:
            return await transport.handle_async_request(request)
        try:
            response = await transport.handle_async_request(request)
        except self._http.TransportError as error:
            take.failed(error)
            raise
        return self._tapped(response, take)

    def _taking(self, request: Any) -> _Taking | None:
        path = request.url.path
        endpoint = endpoint_of(request.method, path)
        if not endpoint:
            return None
        base_url = self._recorder.base_url
        if base_url is not None:
            query = f"?{request.url.query.decode('ascii')}" if request.url.query else ""
            request.url = self._http.URL(base_url + after_base(path) + query)
            request.headers["host"] = request.url.netloc.decode("ascii")
        # What is recorded should be readable, and what is passed on the same as what is recorded.
        request.headers["accept-encoding"] = "identity"
        return _Taking(self._recorder, endpoint, path, request)

    def _tapped(self, response: Any, take: _Taking) -> Any:
        stream = _stream_type(self._http)(response, take)
        return self._http.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )


def after_base(path: str) -> str:
    """Return the part of a URL's path that comes after the base URL's: ``/chat/completions`` and the like."""
    for end in ("/chat/completions", "/responses", "/embeddings"):
        if path.rstrip("/").endswith(end):
            return end
    _, found, rest = path.rpartition("/models")
    return found + rest if found else path


class _Taking:
    """One exchange while it happens."""

    def __init__(self, recorder: Listener, endpoint: str, path: str, request: Any) -> None:
        self._recorder = recorder
        self._endpoint, self._path = endpoint, path
        self._secrets = secrets_in(request.headers)
        body = json.loads(request.content) if request.content else {}
        self._body = body if isinstance(body, dict) else {"body": body}
        self._chunks: list[tuple[float, bytes]] = []
        self._start = self._headers = time.monotonic()
        self._done = False

    def failed(self, error: Exception) -> None:
        names = {each.__name__ for each in type(error).__mro__}
        kind = next(kind for name, kind in _FAULTS if name in names)
        latency_s = round(time.monotonic() - self._start, 6)
        self._add(Take(self._endpoint, self._path, self._body, 0, latency_s, failed=kind))

    def begun(self) -> None:
        self._headers = time.monotonic()

    def chunk(self, data: bytes) -> None:
        self._chunks.append((time.monotonic() - self._headers, data))

    def end(self, response: Any, cut: bool) -> None:
        latency_s = self._headers - self._start
        self._add(
            take_of(
                self._endpoint,
                self._path,
                self._body,
                response.status_code,
                response.headers,
                latency_s,
                self._chunks,
                cut,
            )
        )

    def _add(self, take: Take) -> None:
        if not self._done:
            self._done = True
            self._recorder.add(take, self._secrets)


class _Tapped:
    """A response's body that notes what it hands on, and when."""

    def __init__(self, response: Any, take: _Taking) -> None:
        self._response = response
        self._take = take
        take.begun()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._response.stream:
            self._take.chunk(chunk)
            yield chunk
        self._take.end(self._response, cut=False)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.stream:
            self._take.chunk(chunk)
            yield chunk
        self._take.end(self._response, cut=False)

    def close(self) -> None:
        self._response.stream.close()
        self._take.end(self._response, cut=True)

    async def aclose(self) -> None:
        await self._response.stream.aclose()
        self._take.end(self._response, cut=True)


_types: dict[Any, type] = {}


def _stream_type(http: Any) -> type:
    if http not in _types:
        _types[http] = type("Tapped", (_Tapped, http.SyncByteStream, http.AsyncByteStream), {})
    return _types[http]
