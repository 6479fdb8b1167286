"""The tests themselves reach nothing but this machine."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from tinytroupe.testing import NetworkBlockedError

ELSEWHERE = "192.0.2.1"  # reserved for documentation (RFC 5737): nobody is there


def test_no_socket_leaves_this_machine():
    with socket.socket() as sock, pytest.raises(NetworkBlockedError, match=ELSEWHERE):
        sock.connect((ELSEWHERE, 443))


def test_no_name_is_looked_up():
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever http_proxy says
    with pytest.raises(NetworkBlockedError, match=r"example\.org"):
        direct.open("http://example.org/", timeout=1)


def test_loopback_stays_open():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
