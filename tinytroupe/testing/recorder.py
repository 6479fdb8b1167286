"""Recording a real model through any of three doors, for the mock model to play back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tinytroupe.llm.model import ChatModel, ChatReply, ChatRequest, ModelError, RefusalError
from tinytroupe.testing import wire
from tinytroupe.testing.call import Call
from tinytroupe.testing.direct import chat_body, embeddings_body
from tinytroupe.testing.recording import MAX_BYTES, Take, Writer
from tinytroupe.testing.rules import Reply

if TYPE_CHECKING:
    from types import TracebackType

    from tinytroupe.testing.interception import Intercepting
    from tinytroupe.testing.proxy import RecordingServer


class Recorder:
    """Records what a program asks a real model, and what it answers, for `MockLLM.replay`.

    One recorder serves one door, for one ``with`` block: the recorder itself (every OpenAI-like HTTP request of this
    process passes through and is recorded), `serve` (a proxy for other processes and languages), or `model` (around a
    `ChatModel`). When the block ends well the file is put in its place at once and whole; when it ends with an error,
    what there is stays beside it as ``PATH.partial``.

    Keys never reach the file: no request headers, of the response's only those about limits and retries, and whatever
    in the text is the key in use, or looks like one, becomes ``[key]``.

    Parameters
    ----------
    path
        The recording: JSON lines, one exchange a line.
    base_url
        Where the real endpoint is, e.g. ``https://api.example.com/v1``. For `serve` it is required; for HTTP requests
        of this process None means where they are going anyway.
    max_bytes
        Most bytes of the file. Leaving the block raises `RecordingError` if it did not hold all.
    """

    def __init__(
        self, path: str | os.PathLike[str], base_url: str | None = None, *, max_bytes: int = MAX_BYTES
    ) -> None:
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must begin with http:// or https://, not {base_url!r}")
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        self.path = os.fspath(path)
        self.base_url = None if base_url is None else base_url.rstrip("/")
        self._max_bytes = max_bytes
        self._writer: Writer | None = None
        self._entered = ExitStack()

    @property
    def takes(self) -> int:
        """Exchanges recorded so far."""
        return 0 if self._writer is None else self._writer.takes

    def add(self, take: Take, secrets: Sequence[str] = ()) -> None:
        """Write one exchange; `secrets` are blotted out."""
        if self._writer is None:
            raise RuntimeError("this recorder is not recording: use it, its serve() or its model() in a with block")
        self._writer.add(take, (*secrets, os.environ.get("OPENAI_API_KEY", "")))

    def open(self) -> None:
        """Begin the file."""
        if self._writer is not None:
            raise RuntimeError(f"a recorder records through one door, once; {self.path} needs another Recorder")
        self._writer = Writer(self.path, self._max_bytes)

    def close(self, error: BaseException | None = None) -> None:
        """End the file: in its place, or beside it if there was an `error`."""
        if self._writer is not None:
            self._writer.close(keep=error is None)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> RecordingServer:
        """Pass on, inside the ``with`` block, what arrives at the `base_url` of what it yields, and record it."""
        from tinytroupe.testing.proxy import RecordingServer

        return RecordingServer(self, host, port)

    def model(self, inner: ChatModel) -> RecordingModel:
        """Return a `ChatModel` that passes everything on to `inner` and records it inside its ``with`` block."""
        return RecordingModel(self, inner)

    def __enter__(self) -> Recorder:
        from tinytroupe.testing.interception import intercepted

        self.open()
        self._entered.enter_context(intercepted(self._router()))
        return self

    def _router(self) -> Intercepting:
        from tinytroupe.testing.tap import TapRouter

        return TapRouter(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()
        self.close(error)

    async def __aenter__(self) -> Recorder:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class RecordingModel:
    """A `ChatModel` around another that records every exchange; made by `Recorder.model`."""

    def __init__(self, recorder: Recorder, inner: ChatModel) -> None:
        self._recorder = recorder
        self._inner = inner
        self._model = str(getattr(inner, "model", "") or wire.DEFAULT_MODEL)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Pass `request` on and record what comes back; a `ModelError` is recorded and raised."""
        body = chat_body(request, self._model)
        call = Call("chat", body, request.origin.person or None, request.messages)
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            reply = await self._inner.complete(request)
        except ModelError as error:
            self._add("chat", body, loop.time() - start, *_failure(error, call))
            raise
        call.prompt_tokens, call.cached_tokens = reply.usage.prompt_tokens, reply.usage.cached_tokens
        said = Reply(reply.text, finish_reason=reply.finish_reason)
        response = wire.chat_completion(call, (said,), reply.usage.completion_tokens)
        response["model"] = reply.model or call.model
        self._add("chat", body, reply.latency_s or loop.time() - start, 200, response)
        return reply

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Pass `texts` on and record their vectors."""
        body = embeddings_body(texts)
        call = Call("embeddings", body)
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            vectors = await self._inner.embed(texts)
        except ModelError as error:
            self._add("embeddings", body, loop.time() - start, *_failure(error, call))
            raise
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        self._add("embeddings", body, loop.time() - start, 200, {"object": "list", "data": data, "model": call.model})
        return vectors

    async def aclose(self) -> None:
        """Close the inner model's connections."""
        await self._inner.aclose()

    def _add(
        self, endpoint: str, body: Mapping[str, Any], latency_s: float, status: int, response: Any, failed: str = ""
    ) -> None:
        path = "/chat/completions" if endpoint == "chat" else "/embeddings"
        self._recorder.add(Take(endpoint, path, body, status, round(latency_s, 6), {}, response, failed=failed))

    def __enter__(self) -> RecordingModel:
        self._recorder.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.close(error)

    async def __aenter__(self) -> RecordingModel:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def _failure(error: ModelError, call: Call) -> tuple[int, Any, str]:
    """Return status, response and fault that make the direct door raise the like of `error` again."""
    if isinstance(error, RefusalError):
        return 200, wire.chat_completion(call, (Reply(refusal=str(error)),), 0), ""
    if error.status is None or error.status < 400:
        return 0, None, "reset"
    return error.status, {"error": {"message": str(error), "type": "error", "param": None, "code": None}}, ""
