"""The door for other processes and languages: the mock model on a loopback socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tinytroupe.testing.answer import Answer
from tinytroupe.testing.call import endpoint_of
from tinytroupe.testing.faults import error_body
from tinytroupe.testing.latency import Latency

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from tinytroupe.testing.mock_llm import MockLLM

MAX_BODY_BYTES = 64 * 1024 * 1024
_START_S = 30.0
_STOP_S = 2.0


def _application(mock: MockLLM) -> web.Application:
    async def handle(request: web.Request) -> web.StreamResponse:
        endpoint = endpoint_of(request.method, request.path)
        if not endpoint:
            return web.json_response(error_body(f"Unknown request: {request.method} {request.path}"), status=404)
        content = await request.read()
        try:
            body = json.loads(content) if content else {}
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return web.json_response(error_body("The request's body is not a JSON object."), status=400)
        answer = await mock.answer(mock.arrive(endpoint, body), path=request.path)
        if answer.broken:
            return await _break(request, answer)
        if answer.streams:
            response = web.StreamResponse(headers=answer.headers())
            await response.prepare(request)
            for delay_s, event in answer.events():
                if delay_s:
                    await asyncio.sleep(delay_s)
                await response.write(event)
            if not answer.cut:
                await response.write_eof()
            elif request.transport is not None:
                request.transport.abort()
            return response
        return web.Response(status=answer.status, body=answer.body(), headers=answer.headers())

    application = web.Application(client_max_size=MAX_BODY_BYTES)
    application.router.add_route("*", "/{path:.*}", handle)
    return application


async def _break(request: web.Request, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(headers=answer.headers())
    if answer.broken == "body_cut":
        body = answer.body()
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
    elif answer.broken in ("timeout", "connect_timeout", "pool_timeout"):
        # A server can't make a client's clock run: it just says nothing until the client gives up.
        await asyncio.sleep(600)
    if request.transport is not None:
        request.transport.abort()
    return response


async def _listen(application: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,  # a client that gives up is no longer in flight
        shutdown_timeout=_STOP_S,
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=4096)
    try:
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])


class LoopbackServer:
    """An HTTP server in a thread of its own.

    Attributes
    ----------
    base_url
        ``http://127.0.0.1:PORT/v1`` while it runs.
    """

    def __init__(self, application: Callable[[], web.Application], host: str = "127.0.0.1", port: int = 0) -> None:
        self.base_url = ""
        self._application = application
        self._host, self._port = host, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._errors: list[BaseException] = []

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("this server is running already")
        self._ready.clear()
        self._errors.clear()
        self._thread = threading.Thread(target=self._run, name="mock-llm-server", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_S):
            raise RuntimeError(f"the mock server did not start within {_START_S:g} s")
        if self._errors:
            self._thread.join()
            self._thread = None
            cause = self._errors[0]
            raise OSError(f"the mock server can't listen on {self._host}:{self._port}: {cause}") from cause
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None
        self.base_url = ""

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._errors.append(error)
            self._ready.set()

    async def _serve(self) -> None:
        runner, port = await _listen(self._application(), self._host, self._port)
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.base_url = f"http://{_shown(self._host)}:{port}/v1"
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            await runner.cleanup()


class MockServer(LoopbackServer):
    """A mock model's HTTP server; made by `MockLLM.serve`."""

    def __init__(self, mock: MockLLM, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(lambda: _application(mock), host, port)
        self.mock = mock


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def load_script(mock: MockLLM, path: str | Path) -> int:
    """Read rules and queued replies from a JSON-lines file into `mock` and return how many there were.

    Each line is an object: ``when`` (conditions of `MockLLM.when`; without it the answer is queued), and one of
    ``reply`` (text, or anything sent as JSON), ``talk`` (text), ``actions`` (a list) or ``fail`` (a name, a status, or
    an object with `Fault`'s fields); for rules also ``times``. Empty lines and lines beginning with ``#`` are skipped.

    Raises
    ------
    ValueError
        Naming file and line, if a line is not understood.
    """
    count = 0
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                _load_line(mock, json.loads(line))
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            count += 1
    return count


def _load_line(mock: MockLLM, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise ValueError("expected an object with reply, talk, actions or fail")
    unknown = set(entry) - {"when", "reply", "talk", "actions", "fail", "times"}
    kinds = [kind for kind in ("reply", "talk", "actions", "fail") if kind in entry]
    if unknown or len(kinds) != 1:
        raise ValueError(
            f"expected one of reply, talk, actions, fail (and when, times), got {', '.join(sorted(entry))}"
        )
    target: Any = mock
    if "when" in entry:
        target = mock.when(**entry["when"])
        if "times" in entry:
            target.times(entry["times"])
    elif "times" in entry:
        raise ValueError("times needs when")
    value = entry[kinds[0]]
    if kinds[0] == "fail":
        target.fail(**value) if isinstance(value, dict) else target.fail(value)
    else:
        {"reply": target.reply, "talk": target.reply_talk, "actions": target.reply_actions}[kinds[0]](value)


def run_server(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    latency: float | str | Latency = 0.0,
    chunk_delay: float = 0.0,
    rpm: float | None = None,
    tpm: float | None = None,
    script: str | Path | None = None,
    replay: str | Path | None = None,
    timing: bool = False,
    strict: bool | None = None,
    announce: Callable[[str], object] | None = None,
) -> None:
    """Serve a mock model in the foreground until Ctrl-C or SIGTERM.

    Parameters
    ----------
    latency
        Seconds, a distribution, or text as `parse_latency` reads it.
    script
        JSON-lines file with rules and replies; see `load_script`.
    replay, timing
        Recording to answer from, and whether at the recorded pace; see `MockLLM.replay`.
    announce
        Called with the base URL once the server listens; None = write it to standard output as one line.

    Raises
    ------
    ValueError
        If the latency or the script is malformed.
    OSError
        If the address can't be listened on or the script can't be read.
    """
    from tinytroupe.testing.mock_llm import MockLLM

    mock = MockLLM(seed, latency, strict, chunk_delay=chunk_delay, rpm=rpm, tpm=tpm)
    if script is not None:
        load_script(mock, script)
    if replay is not None:
        mock.replay(replay, timing)
    serve(mock, host, port, announce)


def serve(
    mock: MockLLM, host: str = "127.0.0.1", port: int = 0, announce: Callable[[str], object] | None = None
) -> None:
    """Serve a ready mock model in the foreground until Ctrl-C or SIGTERM, as `run_server` does."""
    serve_until_stopped(lambda: _application(mock), host, port, announce)


def serve_until_stopped(
    application: Callable[[], web.Application], host: str, port: int, announce: Callable[[str], object] | None
) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM, as `run_server` does."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_foreground(application, host, port, announce))


async def _foreground(
    application: Callable[[], web.Application], host: str, port: int, announce: Callable[[str], object] | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        # Neither on Windows nor outside of the main thread: there Ctrl-C comes as KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(each, stop.set)
    runner, found = await _listen(application(), host, port)
    try:
        url = f"http://{_shown(host)}:{found}/v1"
        if announce is None:
            sys.stdout.write(url + "\n")
            sys.stdout.flush()
        else:
            announce(url)
        await stop.wait()
    finally:
        await runner.cleanup()
