"""The connections under the official client: how many, how long they are kept, whose certificates are believed."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEEP_ALIVE_S = 30.0
"""Seconds for which an idle connection is kept."""
SHARD_CONNECTIONS = 16
"""Connections of one httpx pool: its cost a call grows with every further one."""
HTTP_CLIENTS = ("aiohttp", "httpx")


def http_library() -> Any:
    """Return the HTTP library that the installed client speaks: httpx2 from 3.0 on, httpx before."""
    import openai

    if int(openai.VERSION.split(".")[0]) >= 3:
        import httpx2

        return httpx2
    import httpx

    return httpx


def certificates() -> ssl.SSLContext:
    """Return whom to believe: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` where they are set, else the usual authorities."""
    return _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.lru_cache(maxsize=4)
def _certificates(file: str | None, directory: str | None) -> ssl.SSLContext:
    # Loading the bundle takes 20 ms of CPU: once a process, not once a client.
    context: ssl.SSLContext = http_library().create_ssl_context()
    return context


def http_client(kind: str, most: int, timeout_s: float) -> Any:
    """Return a new HTTP client, which reads proxies from the environment as its library does.

    Parameters
    ----------
    kind
        One of `HTTP_CLIENTS`.
    most
        Connections at once; as many are kept alive.
    timeout_s
        For each of connecting, sending and waiting for more.
    """
    import openai

    factory = openai.DefaultAioHttpClient if kind == "aiohttp" else openai.DefaultAsyncHttpxClient
    limits = http_library().Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=KEEP_ALIVE_S)
    return factory(verify=certificates(), timeout=timeout_s, limits=limits)


class Shards:
    """One client where its HTTP library bears any number of connections, else as many as the load needs.

    Parameters
    ----------
    make
        Makes a client whose pool has that many connections.
    most
        Calls in flight at once, at most.
    each
        Connections a pool bears well.
    """

    def __init__(self, make: Callable[[int], AsyncOpenAI], most: int, each: int | None) -> None:
        self._make = make
        self._each = most if each is None else min(each, most)
        self._calls = [0]
        self.clients = [make(self._each)]

    @contextmanager
    def one(self) -> Iterator[AsyncOpenAI]:
        """Lend a client that has a connection to spare, for one call."""
        index = next((index for index, calls in enumerate(self._calls) if calls < self._each), len(self._calls))
        if index == len(self._calls):
            self.clients.append(self._make(self._each))
            self._calls.append(0)
        self._calls[index] += 1
        try:
            yield self.clients[index]
        finally:
            self._calls[index] -= 1

    async def close(self) -> None:
        """Close all connections."""
        for client in self.clients:
            await client.close()
