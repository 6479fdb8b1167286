"""A large load against a real server: the mock model on 127.0.0.1, in a process of its own as a model is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tinytroupe.llm import ChatReply, ChatRequest
from tinytroupe.llm.openai_model import OpenAIModel

if TYPE_CHECKING:
    from typing_extensions import Self

    from tinytroupe.environment import TinyWorld

GROUP = 10
"""People who know each other, in `crowd`: everyone talks to nine others."""

STORM: Mapping[str, float] = {
    "rate_limit": 0.05,
    "server_error": 0.02,
    "stall": 0.01,
    "body_cut": 0.01,
    "malformed_body": 0.01,
}
"""Shares of calls that go wrong in `ModelServer`, by the name of the fault, for a soak."""


@dataclass(frozen=True, slots=True)
class Served:
    """One request as the server saw it.

    Attributes
    ----------
    person, number
        Who asked, and which of the person's requests it was, from 0, attempts included.
    asked
        Hash of what was asked; equal for attempts of the same call.
    fault
        Name of what went wrong, or empty.
    """

    person: str
    number: int
    asked: str
    fault: str


@dataclass(slots=True)
class ModelServer:
    """A mock model's server in a process of its own, for the length of a ``with`` block.

    Attributes
    ----------
    latency
        Seconds a call, or text such as ``lognormal:1.0,0.5``.
    seed
        Of latencies, replies and faults: the same requests get the same of all three.
    faults
        Shares of calls that fail, by the name of the fault; see `STORM`.
    retry_after_ms
        What its 429 asks for.
    log
        File for the requests seen, readable with `served` after the block; None = they are not kept.
    base_url
        While it runs.
    """

    latency: float | str = 0.0
    seed: int = 0
    faults: Mapping[str, float] = field(default_factory=dict)
    retry_after_ms: float = 100.0
    log: Path | None = None
    base_url: str = ""
    _process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        details = {
            "latency": str(self.latency),
            "seed": self.seed,
            "faults": dict(self.faults),
            "retry_after_ms": self.retry_after_ms,
            "log": None if self.log is None else str(self.log),
        }
        command = [sys.executable, "-m", "tinytroupe.benchmarks.load_server", json.dumps(details)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        if not self.base_url:
            self._process.wait()
            raise RuntimeError("the mock model's server did not start; its own words are above")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdout is not None
            process.terminate()
            process.wait()
            process.stdout.close()

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def served(self) -> list[Served]:
        """Return the requests that were answered, in the order of their answers; only after the block."""
        assert self.log is not None, "give the server a file to log to"
        return [Served(*json.loads(line)) for line in self.log.read_text("utf-8").splitlines()]


class Noting:
    """A model that passes everything on and notes the requests, so that another client can send the same."""

    def __init__(self, model: OpenAIModel) -> None:
        self._model = model
        self.steps: dict[int, list[ChatRequest]] = {}

    async def prepare(self) -> None:
        """See `OpenAIModel.prepare`."""
        await self._model.prepare()

    async def complete(self, request: ChatRequest) -> ChatReply:
        """See `ChatModel.complete`."""
        self.steps.setdefault(request.origin.step, []).append(request)
        return await self._model.complete(request)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See `ChatModel.embed`."""
        return await self._model.embed(texts)

    async def aclose(self) -> None:
        """See `ChatModel.aclose`."""
        await self._model.aclose()


def crowd(people: int, **options: Any) -> TinyWorld:
    """Return a world of `people` in groups of `GROUP` who can talk to each other.

    Parameters
    ----------
    people
        How many.
    **options
        Of `TinyWorld`: ``model``, ``clock``, ``on_error``.
    """
    from tinytroupe.agent import TinyPerson
    from tinytroupe.environment import TinyWorld

    agents = [TinyPerson(f"P{number}").define("age", 20 + number % 60) for number in range(people)]
    for number, one in enumerate(agents):
        first = number - number % GROUP
        one.make_agents_accessible([other for other in agents[first : first + GROUP] if other is not one])
    return TinyWorld("crowd", agents, **options)
