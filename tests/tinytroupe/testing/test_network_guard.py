"""Nothing leaves this machine while the guard is up."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import pytest

from tinytroupe.testing import MockLLM, NetworkBlockedError, network_guard
from tinytroupe.testing.guard import is_loopback


def test_connections_and_look_ups_are_refused_by_name():
    with network_guard():
        with socket.socket() as outside, pytest.raises(NetworkBlockedError, match=r"192\.0\.2\.1:443 refused"):
            outside.connect(("192.0.2.1", 443))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside, pytest.raises(NetworkBlockedError):
            outside.sendto(b"x", ("192.0.2.1", 53))
        with pytest.raises(NetworkBlockedError, match=r"example\.org:443"):
            socket.getaddrinfo("example.org", 443)
        with pytest.raises(NetworkBlockedError, match=r"example\.org"):
            socket.gethostbyname("example.org")


def test_asyncio_connections_are_refused():
    async def main():
        await asyncio.open_connection("192.0.2.1", 443)

    with network_guard(), pytest.raises(NetworkBlockedError):
        asyncio.run(main())


def test_loopback_works():
    with network_guard(), socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(("localhost", server.getsockname()[1]), timeout=10):
            pass


def test_all_threads_are_guarded_and_blocks_nest():
    errors = []

    def reach():
        try:
            socket.getaddrinfo("example.org", 443)
        except NetworkBlockedError as error:
            errors.append(error)

    with network_guard():
        with network_guard():
            pass
        thread = threading.Thread(target=reach)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_it_comes_down_again():
    code = (  # in a process of its own: here the guard is up for all tests
        "import socket\nfrom tinytroupe.testing import network_guard\n"
        "with network_guard():\n    pass\n"
        "assert socket.getaddrinfo('192.0.2.1', 443)"  # an address in figures needs no network
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_mock_model_puts_it_up():
    with MockLLM(), pytest.raises(NetworkBlockedError):
        socket.getaddrinfo("example.org", 443)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST.", "a.localhost",
                                  b"127.0.0.1", "", None, "::ffff:127.0.0.1", "::1%lo"])  # fmt: skip
def test_loopback_hosts(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "10.0.0.1", "0.0.0.0", "::", "example.org", "localhost.example.org",
                                  "127.0.0.1.example.org", b"\xff", 5, "::ffff:192.0.2.1"])  # fmt: skip
def test_other_hosts(host):
    assert not is_loopback(host)
