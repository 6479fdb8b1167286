"""Between a client and its own transport: requests pass through to the real endpoint and are recorded on the way."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
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
    """Lets every request go where it is going, or to the recorder's `base_url`, and records those to a model.

    Parameters
    ----------
    recorder
        Who is told of each exchange when it is over.
    asked
        Who is told of each request when it departs, its endpoint and its JSON, and says whether it is to be taken in.
        None: all are, and the servers are asked to encode no answer, so that what is recorded can be read.
    """

    def __init__(self, recorder: Listener, asked: Callable[[str, Mapping[str, Any]], bool] | None = None) -> None:
        super().__init__()
        self.recorder = recorder
        self.asked = asked

    def transport(self, http: Any, url: Any, original: Callable[[Any], Any]) -> Any:
        return _Tap(http, self, original)


class _Tap:
    """The transport handed to a client for one request."""

    __slots__ = ("_http", "_original", "_router")

    def __init__(self, http: Any, router: TapRouter, original: Callable[[Any], Any]) -> None:
        self._http = http
        self._router = router
        self._original = original

    def handle_request(self, request: Any) -> Any:
        endpoint = endpoint_of(request.method, request.url.path)
        if endpoint:
            request.read()
        take = self._taking(endpoint, request) if endpoint else None
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
        endpoint = endpoint_of(request.method, request.url.path)
        if endpoint:
            await request.aread()
        take = self._taking(endpoint, request) if endpoint else None
        transport = self._original(request.url)
        if take is None:
            return await transport.handle_async_request(request)
        try:
            response = await transport.handle_async_request(request)
        except self._http.TransportError as error:
            take.failed(error)
            raise
        return self._tapped(response, take)

    def _taking(self, endpoint: str, request: Any) -> _Taking | None:
        body, path = _json(request.content), request.url.path
        recorder, asked = self._router.recorder, self._router.asked
        if body is None or not (asked is None or asked(endpoint, body)):
            return None
        if recorder.base_url is not None:
            query = f"?{request.url.query.decode('ascii')}" if request.url.query else ""
            request.url = self._http.URL(recorder.base_url + after_base(path) + query)
            request.headers["host"] = request.url.netloc.decode("ascii")
        if asked is None:
            # What is recorded should be readable, and what is passed on the same as what is recorded.
            request.headers["accept-encoding"] = "identity"
        kind = _Taking if asked is None else _Decoding
        return kind(recorder, endpoint, path, body, secrets_in(request.headers))

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


def _json(content: bytes) -> dict[str, Any] | None:
    """Return a request's JSON, or None: it is no request to a model then, whatever its path looks like."""
    try:
        body = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else {"body": body}


class _Taking:
    """One exchange while it happens."""

    def __init__(
        self, recorder: Listener, endpoint: str, path: str, body: dict[str, Any], secrets: Sequence[str]
    ) -> None:
        self._recorder = recorder
        self._endpoint, self._path, self._body = endpoint, path, body
        self._secrets = secrets
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
        headers, chunks = self._readable(response)
        status = response.status_code
        self._add(take_of(self._endpoint, self._path, self._body, status, headers, latency_s, chunks, cut))

    def _readable(self, response: Any) -> tuple[Mapping[str, str], Sequence[tuple[float, bytes]]]:
        return response.headers, self._chunks

    def _add(self, take: Take) -> None:
        if not self._done:
            self._done = True
            self._recorder.add(take, self._secrets)


class _Decoding(_Taking):
    """One exchange whose answer comes in an encoding that the client asked for."""

    def _readable(self, response: Any) -> tuple[Mapping[str, str], Sequence[tuple[float, bytes]]]:
        raw = b"".join(chunk for _, chunk in self._chunks)
        kind = type(response)
        headers = {name: value for name, value in response.headers.items() if name.lower() != "content-encoding"}
        try:
            raw = kind(response.status_code, headers=response.headers, content=raw).content
        except Exception:  # what can't be read tells nothing; the client will say so itself
            raw = b""
        return headers, [(0.0, raw)]


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
