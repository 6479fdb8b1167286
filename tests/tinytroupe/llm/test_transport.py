"""Connections: as many as calls in flight, certificates once, proxies as the environment says, nothing left open."""

from __future__ import annotations

import asyncio
import importlib
import os
import ssl
import subprocess
import sys

import pytest
from misbehaving import Answering, serving

from tinytroupe.config import config_manager
from tinytroupe.llm import ChatRequest, transport
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.testing import MockLLM

HELLO = ChatRequest([{"role": "user", "content": "Hello"}])
KINDS = pytest.mark.parametrize("kind", transport.HTTP_CLIENTS)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def ask(url, calls=1, **options):
    """Return the replies to calls at once, and the clients that were made for them."""

    async def main():
        model = OpenAIModel(base_url=url, api_key="x", **options)
        try:
            replies = await asyncio.gather(*(model.complete(HELLO) for _ in range(calls)))
            return replies, model._connection().clients.clients
        finally:
            await model.aclose()

    return asyncio.run(main())


@KINDS
def test_as_many_calls_are_in_flight_as_the_gate_lets_through(kind):
    mock = MockLLM()

    async def once_all_are_there(_):
        for _ in range(3000):
            if mock.in_flight_peak >= 100:
                break
            await asyncio.sleep(0.01)
        return "Hi"

    mock.when().reply(once_all_are_there)
    with mock.serve() as server, config_manager.override(max_concurrent_model_calls=100):
        replies, clients = ask(server.base_url, calls=100, http_client=kind)
    assert len(replies) == 100
    assert mock.in_flight_peak == 100
    assert len(clients) == (1 if kind == "aiohttp" else -(-100 // transport.SHARD_CONNECTIONS))
    assert all(client.is_closed() for client in clients)


def test_a_pool_more_is_opened_only_where_it_is_needed():
    with MockLLM() as mock, mock.serve() as server, config_manager.override(http_client="httpx"):
        _, clients = ask(server.base_url, calls=transport.SHARD_CONNECTIONS)
        assert len(clients) == 1
        with config_manager.override(max_concurrent_model_calls=3):
            _, clients = ask(server.base_url, calls=50)
        assert len(clients) == 1


@KINDS
def test_certificates_are_loaded_once(kind, monkeypatch):
    transport._certificates.cache_clear()
    made = []
    new = ssl.SSLContext.__new__

    def counted(cls, *args, **kwargs):
        made.append(cls)
        return new(cls, *args, **kwargs)

    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    importlib.import_module("aiohttp")  # makes some of its own
    with MockLLM() as mock, mock.serve() as server, config_manager.override(max_concurrent_model_calls=100):
        monkeypatch.setattr(ssl.SSLContext, "__new__", counted)
        for _ in range(3):
            ask(server.base_url, calls=50, http_client=kind)
    assert len(made) == 1


@KINDS
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_used(kind, variable, monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving() as proxy:
        monkeypatch.setenv(variable, proxy.url.removesuffix("/v1"))
        assert ask("http://model.invalid/v1", http_client=kind)[0][0].text == "Hi"
        assert proxy.paths == ["http://model.invalid/v1/chat/completions"]
        with serving() as direct:  # but not where the environment says so
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            ask(direct.url, http_client=kind)
            assert direct.paths == ["/v1/chat/completions"]
        assert len(proxy.paths) == 1


@KINDS
def test_connections_are_used_again(kind):
    connections = set()

    class Noting(Answering):
        def setup(self):
            super().setup()
            connections.add(self.client_address)

    async def main(url):
        model = OpenAIModel(base_url=url, api_key="x", http_client=kind)
        for _ in range(5):
            await asyncio.gather(*(model.complete(HELLO) for _ in range(3)))
        await model.aclose()

    with serving(Noting) as server:
        asyncio.run(main(server.url))
    assert len(server.paths) == 15
    assert len(connections) == 3


def test_no_calls_in_flight_is_no_setting():
    with pytest.raises(ValueError, match=r"max_concurrent_model_calls.*of at least 1 or None, got 0"):
        config_manager.set("max_concurrent_model_calls", 0)


LEFT_OPEN = """
import logging, os, sys
from tinytroupe import TinyPerson, TinyWorld, config_manager

logging.getLogger("asyncio").setLevel("ERROR")  # that a callback was slow says only that the machine is
config_manager.update_multiple({"base_url": sys.argv[1], "http_client": sys.argv[2]})
world = TinyWorld("Town", [TinyPerson(f"P{n}") for n in range(20)], on_error="raise")
world.run(2)
child = os.fork() if hasattr(os, "fork") else None
world.run(1)
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@KINDS
def test_a_program_that_closes_nothing_ends_cleanly_on_both_sides_of_a_fork(kind, tmp_path):
    with MockLLM() as mock, mock.serve() as server:
        options = ("-X", "dev", "-W", "error", "-W", "ignore:.*fork:DeprecationWarning")
        done = subprocess.run(
            [sys.executable, *options, "-c", LEFT_OPEN, server.base_url, kind],
            env={**os.environ, "OPENAI_API_KEY": "x"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode == 0
    assert mock.calls == 20 * (4 if hasattr(os, "fork") else 3)
    assert list(tmp_path.iterdir()) == []  # and nothing is written where nobody asked for it
