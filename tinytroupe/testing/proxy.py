"""The recording proxy: a loopback server that passes requests on to a real endpoint and records what it answers."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from tinytroupe.testing.call import endpoint_of
from tinytroupe.testing.faults import error_body
from tinytroupe.testing.recording import Take, secrets_in, take_of
from tinytroupe.testing.server import MAX_BODY_BYTES, LoopbackServer, serve_until_stopped
from tinytroupe.testing.tap import after_base

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinytroupe.testing.recorder import Recorder

# Headers about one connection, or about a length and an encoding that are not passed on.
_NOT_PASSED_ON = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "host", "keep-alive",
        "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_CONNECT_S = 30.0
_SESSION = web.AppKey("session", aiohttp.ClientSession)


class RecordingServer(LoopbackServer):
    """A recorder's HTTP server; made by `Recorder.serve`."""

    def __init__(self, recorder: Recorder, host: str = "127.0.0.1", port: int = 0) -> None:
        _base_url(recorder)
        super().__init__(lambda: application(recorder), host, port)
        self._recorder = recorder

    def __enter__(self) -> Self:
        self._recorder.open()
        try:
            return super().__enter__()
        except BaseException as error:
            self._recorder.close(error)
            raise

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._recorder.close(error[1] if len(error) > 1 else None)


def _base_url(recorder: Recorder) -> str:
    if recorder.base_url is None:
        raise ValueError("a recording server needs to know the real endpoint: Recorder(path, base_url=...)")
    return recorder.base_url


def application(recorder: Recorder) -> web.Application:
    """Return the proxy as a web application."""
    base_url = _base_url(recorder)

    async def connections(app: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as app[_SESSION]:
            yield

    async def handle(request: web.Request) -> web.StreamResponse:
        content = await request.read()
        endpoint = endpoint_of(request.method, request.path)
        tail = after_base(request.path) if endpoint else request.path.removeprefix("/v1")
        query = f"?{request.query_string}" if request.query_string else ""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        headers["accept-encoding"] = "identity"
        start = time.monotonic()
        chunks: list[tuple[float, bytes]] = []
        status, kept, cut = 502, {"content-type": "application/json"}, False
        begun = start
        response: web.StreamResponse | None = None
        try:
            async with request.app[_SESSION].request(
                request.method, base_url + tail + query, data=content or None, headers=headers, allow_redirects=False
            ) as answer:
                begun = time.monotonic()
                status = answer.status
                kept = {n: v for n, v in answer.headers.items() if n.lower() not in _NOT_PASSED_ON}
                cut = True
                response = web.StreamResponse(status=status, headers=kept)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    chunks.append((time.monotonic() - begun, chunk))
                    await response.write(chunk)
                await response.write_eof()
                cut = False
        except aiohttp.ClientError as error:
            if response is not None:  # it broke off half-way, and so must ours
                if request.transport is not None:
                    request.transport.abort()
            else:
                message = f"the recording proxy can't reach {base_url}: {error}"
                response = web.json_response(error_body(message, "server_error"), status=502)
                chunks.append((0.0, json.dumps(error_body(message, "server_error")).encode()))
        finally:
            if endpoint:
                body = _json(content)
                take: Take = take_of(endpoint, request.path, body, status, kept, begun - start, chunks, cut)
                recorder.add(take, secrets_in(request.headers))
        return response

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.cleanup_ctx.append(connections)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


def _json(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        body = content.decode("utf-8", "replace")
    return body if isinstance(body, dict) else {"body": body}


def run_proxy(
    recorder: Recorder, *, host: str = "127.0.0.1", port: int = 0, announce: Callable[[str], object] | None = None
) -> None:
    """Serve a recording proxy in the foreground until Ctrl-C or SIGTERM, then put the recording in its place.

    Raises
    ------
    ValueError
        If the recorder has no `base_url`; `RecordingError` if the recording could not hold all.
    OSError
        If the address can't be listened on or the file can't be written.
    """
    _base_url(recorder)
    recorder.open()
    try:
        serve_until_stopped(lambda: application(recorder), host, port, announce)
    except BaseException as error:
        recorder.close(error)
        raise
    recorder.close()
