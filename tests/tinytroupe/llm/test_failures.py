"""Each failure of docs/failures.md on a real socket: what is sent, what becomes of the turn, what is left behind."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from misbehaving import Answering, serving

from tinytroupe import ModelError, SimulationError, TinyPerson, TinyWorld, VirtualClock, WallClock, config_manager
from tinytroupe.llm import ChatRequest, RefusalError
from tinytroupe.llm.journal import Journal, use_journal
from tinytroupe.llm.model import ContextLengthError
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.testing import MockLLM

DOCUMENT = Path(__file__).parents[3] / "docs" / "failures.md"
PLAIN = ChatRequest([{"role": "user", "content": "Hello"}])

# What goes wrong the first time (or always), requests that arrive, and how the turn ends.
CASES = {
    "429 retry-after-ms": ({"kind": "rate_limit", "retry_after_ms": 20, "retry_after": 60}, 2, None),
    "429 retry-after in seconds": ({"kind": "rate_limit", "retry_after": "0.02"}, 2, None),
    "429 retry-after as a date": ({"kind": "rate_limit", "retry_after": "now"}, 2, None),
    "429 without a word": ({"kind": "rate_limit"}, 2, None),
    "429 used-up quota": ({"kind": "quota"}, 1, ModelError),
    "x-should-retry false": ({"kind": "server_error", "should_retry": False}, 1, ModelError),
    "x-should-retry true": ({"kind": "bad_request", "should_retry": True}, 2, None),
    "500": ({"kind": "server_error"}, 2, None),
    "502": ({"kind": 502}, 2, None),
    "503": ({"kind": 503}, 2, None),
    "529": ({"kind": 529}, 2, None),
    "500 for ever": ({"kind": "server_error", "retry_after_ms": 1, "times": 0}, 5, ModelError),
    "connection reset": ({"kind": "reset"}, 2, None),
    "connection stalled": ({"kind": "stall"}, 2, None),
    "body cut": ({"kind": "body_cut"}, 2, None),
    "body is half a document": ({"kind": "malformed_body"}, 2, None),
    "body is a web page": ({"kind": "web_page"}, 2, None),
    "empty choices": ({"kind": "empty_choices"}, 2, None),
    "reply is broken JSON": ({"kind": "malformed"}, 1, None),
    "reply is no JSON": ({"reply": "I would rather not say."}, 2, None),
    "reply of another schema": ({"kind": "wrong_schema"}, 2, None),
    "reply cut at its greatest length": ({"kind": "length"}, 2, None),
    "refusal": ({"kind": "refusal"}, 1, RefusalError),
    "content filter": ({"kind": "content_filter"}, 1, RefusalError),
    "context length exceeded": ({"kind": "context_length"}, 2, None),
    "context length exceeded twice": ({"kind": "context_length", "times": 2}, 2, ContextLengthError),
}
STALLED = "connection stalled"
BYSTANDER = "Bo"


def town(model, *names, **options):
    return TinyWorld("Town", [TinyPerson(name) for name in names], model=model, **options)


def remembered(world):
    """What people did, as they remember it."""
    return {agent.name: len(agent.episodic_memory.retrieve_all("action")) for agent in world.agents}


@pytest.fixture(scope="module")
def storm():
    """One step of a world in which every person meets another failure, and one none."""
    mock = MockLLM(strict=False)
    for name, (fault, _, _) in CASES.items():
        fault = dict(fault)
        if fault.get("retry_after") == "now":
            fault["retry_after"] = formatdate(time.time() + 1, usegmt=True)
        times = fault.pop("times", 1)
        rule = mock.when(person=name)
        if times:
            rule.times(times)
        rule.reply(fault["reply"]) if "reply" in fault else rule.fail(**fault)
    with mock.serve() as server, WallClock() as clock:
        # Who meets a stalled connection waits for the end of the limit: a short one, which is not the others'.
        worlds = []
        for timeout_s, names in ((60, [name for name in (*CASES, BYSTANDER) if name != STALLED]), (3, [STALLED])):
            with config_manager.override(timeout=timeout_s, seed=1):
                world = town(OpenAIModel(base_url=server.base_url, api_key="x"), *names, clock=clock)
                world.run(1)
            worlds.append(world)
        yield mock, worlds, {outcome.person: outcome for world in worlds for outcome in world.timeline()}


@pytest.mark.parametrize("case", CASES)
def test_server(storm, case):
    mock, worlds, outcomes = storm
    _, requests, error = CASES[case]
    outcome = outcomes[case]
    actions = {name: count for world in worlds for name, count in remembered(world).items()}[case]
    assert mock.by_person[case].calls == requests
    if error is None:
        assert (outcome.status, outcome.error) == ("acted", None)
        assert actions > 0
        return
    assert outcome.status == "failed"
    assert type(outcome.error) is error
    assert outcome.actions == ()
    assert actions == 0


def test_nobody_else_is_touched(storm):
    mock, (world, _), outcomes = storm
    failed = [name for name, (_, _, error) in CASES.items() if error]
    assert outcomes[BYSTANDER].status == "acted"
    assert mock.by_person[BYSTANDER].calls == 1
    assert world.get_parallel_metrics()["parallel_errors"] == len(failed)


def test_the_document_names_exactly_what_is_tested():
    rows = re.findall(r"^\| `([^`]+)` \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    tests = {name for name, _ in inspect.getmembers(sys.modules[__name__], inspect.isfunction) if name in rows}
    assert len(rows) == len(set(rows))
    assert set(rows) == tests | set(CASES)
    about_rows = {"test_server", "test_nobody_else_is_touched", "test_the_document_names_exactly_what_is_tested"}
    named = {name for name in vars(sys.modules[__name__]) if name.startswith("test_")}
    assert named - about_rows == {row for row in rows if row.startswith("test_")}


# ---------------------------------------------------------------- connections


def once(url, **options):
    """Ask a server once, without a world."""

    async def main():
        model = OpenAIModel(base_url=url, api_key="x", **options)
        try:
            return await model.complete(PLAIN)
        finally:
            await model.aclose()

    return asyncio.run(main())


def test_connection_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        with config_manager.override(max_attempts=2), pytest.raises(ModelError, match="no connection to the") as caught:
            once(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
    assert caught.value.transient


@pytest.mark.parametrize("http_client", ["aiohttp", "httpx"])
def test_tls_certificate_not_trusted(certificate, http_client, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with serving(certificate=certificate) as server, pytest.raises(ModelError, match="SSL_CERT_FILE") as caught:
        once(server.url, http_client=http_client)
    assert "certificate" in str(caught.value)
    assert not caught.value.transient
    assert server.paths == []


@pytest.mark.parametrize("http_client", ["aiohttp", "httpx"])
def test_tls_certificate_trusted(certificate, http_client, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with serving(certificate=certificate) as server:
        assert once(server.url, http_client=http_client).text == "Hi"
    assert server.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize("http_client", ["aiohttp", "httpx"])
def test_body_that_drips(http_client):
    gone = threading.Event()

    class Dripping(Answering):
        def send(self, body):
            try:
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if gone.wait(0.1):
                        return
            finally:
                self.close_connection = True

    with serving(Dripping) as server, config_manager.override(timeout=0.5, max_attempts=1):
        with pytest.raises(ModelError, match=r"in time \(setting TIMEOUT\)") as caught:
            once(server.url, http_client=http_client)
        gone.set()
    assert caught.value.transient


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_invalid_key(on_error):
    with VirtualClock() as clock, MockLLM(strict=False) as mock:
        mock.when(person="Ann").fail("invalid_key")
        world = town(OpenAIModel(), "Ann", "Bo", clock=clock, on_error=on_error)
        with pytest.raises(SimulationError, match=r"turn of Ann failed.*401"):
            world.run(3)
        assert mock.by_person["Ann"].calls == 1
        assert remembered(world) == {"Ann": 0, "Bo": 0}


def test_model_not_found():
    with VirtualClock() as clock, MockLLM() as mock:
        mock.when().fail("not_found")
        with pytest.raises(SimulationError, match="404") as caught:
            town(OpenAIModel(), "Ann", clock=clock).run(3)
        assert isinstance(caught.value.__cause__, ModelError)
        assert mock.calls == 1


# ---------------------------------------------------------------- turns


def test_act_that_raises():
    def act():
        raise LookupError("lost")

    with VirtualClock() as clock, MockLLM():
        world = town(OpenAIModel(), "Ann", "Bo", clock=clock)
        world.agents[0].act = act
        world.run(1)
        assert [outcome.status for outcome in world.timeline()] == ["failed", "acted"]
        assert remembered(world)["Ann"] == 0
        world.on_error = "raise"
        with pytest.raises(SimulationError, match="lost"):
            world.run(1)


@pytest.mark.parametrize("setting", ["turn_timeout", "parallel_execution_timeout"])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("clock_kind", [VirtualClock, WallClock])
def test_act_that_never_returns(setting, plain, clock_kind):
    released = threading.Event()

    def act_in_a_thread():
        released.wait(60)

    async def act():
        await asyncio.Event().wait()

    virtual = clock_kind is VirtualClock
    timeout_s = 1.0 if virtual else 0.5
    if plain and virtual:
        pytest.skip("a thread's work is real time, for which virtual time stands still")
    with clock_kind() as clock, MockLLM():
        world = town(OpenAIModel(), "Ann", "Bo", clock=clock)
        world.run(1)  # what the first step imports and builds is no part of Bo's turn
        world.agents[0].act = act_in_a_thread if plain else act
        with config_manager.override(**{setting: timeout_s}):
            world.run(1)
        released.set()
        ann, bo = world.timeline()[-2:]
        assert (ann.status, bo.status) == ("timed out", "acted")
        assert setting.upper() in str(ann.error)
        assert remembered(world) == {"Ann": 1, "Bo": 2}
        if virtual:
            assert ann.elapsed_s == pytest.approx(timeout_s)


def test_late_reply_of_a_turn_that_timed_out():
    with VirtualClock() as clock, MockLLM(strict=False) as mock, Journal() as journal, use_journal(journal):
        mock.when(person="Ann").times(1).reply({}, latency_s=10.0)
        model = OpenAIModel()
        world = town(model, "Ann", "Bo", clock=clock)
        with config_manager.override(turn_timeout=1):
            world.run(1)
        assert clock.now() == 1.0
        assert [outcome.status for outcome in world.timeline()] == ["timed out", "acted"]
        assert clock.run(in_use(model)) == 0
        assert journal.stats().unfinished == 1
        clock.run(asyncio.sleep(20))
        assert remembered(world)["Ann"] == 0
        assert world.agents[0].usage.calls == 0
        stats = journal.stats()
        assert (stats.exchanges, stats.unfinished) == (1, 1)


async def in_use(model):
    return model.gate.in_use


CROWD = """
import sys, time
from tinytroupe import TinyPerson, TinyWorld, control, config_manager

config_manager.set("base_url", sys.argv[1])
world = TinyWorld("Town", [TinyPerson(f"P{n}") for n in range(100)])
control.begin(sys.argv[2])
world.run(1)
print("running", flush=True)
try:
    world.run(100)
except KeyboardInterrupt:
    print([len(agent.episodic_memory) for agent in world.agents].count(len(world.agents[0].episodic_memory)))
    print(time.monotonic(), flush=True)
    raise SystemExit(130)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c(tmp_path):
    for number in range(8):  # what else runs on the machine only ever adds
        stopped_s, ended_s = pressed(tmp_path / f"journal {number}")
        if stopped_s < 1.0 and ended_s < 2.0:
            break
    assert stopped_s < 1.0
    assert ended_s < 2.0  # the interpreter's own end included


def pressed(path):
    """Press Ctrl-C in the middle of a step, and return after how many seconds the run and the program have ended."""
    mock = MockLLM(strict=False)
    mock.when(predicate=lambda call: call.number > 0).reply("Late", latency_s=600.0)
    with mock.serve() as server:
        command = [sys.executable, "-c", CROWD, server.base_url, str(path)]
        environment = {**os.environ, "OPENAI_API_KEY": "x"}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
            try:
                assert process.stdout.readline().strip() == "running"
                deadline_s = time.monotonic() + 60
                while mock.in_flight < 100:
                    assert time.monotonic() < deadline_s
                    time.sleep(0.01)
                pressed_s = time.monotonic()
                process.send_signal(signal.SIGINT)
                output, errors = process.communicate(timeout=60)
                ended_s = time.monotonic()
            finally:
                process.kill()
        assert process.returncode == 130
    alike, stopped_s = output.split()
    assert alike == "100"
    assert "did not end within" not in errors
    with Journal(path) as journal:
        stats = journal.stats()
    assert (stats.exchanges, stats.unfinished) == (100, 100)
    return float(stopped_s) - pressed_s, ended_s - pressed_s


def test_cancellation_of_the_run():
    async def main(world, model):
        run = asyncio.ensure_future(world.run_async(5))
        await asyncio.sleep(1.5)  # in the middle of the second step
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert (model.gate.in_use, model.gate.waiting) == (0, 0)
        before = remembered(world)
        await asyncio.sleep(10)
        assert remembered(world) == before
        await world.run_async(1)
        return before, remembered(world)

    with VirtualClock() as clock, MockLLM(latency=1.0):
        model = OpenAIModel()
        world = town(model, "Ann", "Bo", on_error="raise")
        before, after = clock.run(main(world, model))
        assert clock.now() == 12.5
    assert set(before.values()) == {1}
    assert set(after.values()) == {2}


def test_inside_a_running_loop():
    async def notebook(world):
        world.run(1)
        await asyncio.sleep(0)
        world.run(1)

    with MockLLM() as mock, mock.serve() as server, WallClock() as clock:
        world = town(OpenAIModel(base_url=server.base_url, api_key="x"), "Ann", "Bo", clock=clock, on_error="raise")
        asyncio.run(notebook(world))
    assert mock.calls == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork():
    with MockLLM().serve() as server, WallClock() as clock:
        mock = server.mock
        model = OpenAIModel(base_url=server.base_url, api_key="x")
        world = town(model, "Ann", "Bo", clock=clock, on_error="raise")
        world.run(1)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                world.run(2)
                clock.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        world.run(1)
        assert mock.calls == 2 * (1 + 2 + 1)
        assert remembered(world) == {"Ann": 2, "Bo": 2}
