"""A guard that lets nothing leave this machine: sockets may reach loopback addresses only while it is up."""

from __future__ import annotations

import ipaddress
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class NetworkBlockedError(RuntimeError):
    """Code under the guard tried to reach an address that is not loopback."""


_lock = threading.Lock()
_raised = 0
_installed = False
_EVENTS = frozenset(
    {
        "socket.connect",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
    }
)


def is_loopback(host: object) -> bool:
    """Return whether `host` (a name or an address, as text or bytes) is this machine; an empty host is."""
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii", "replace")
    if host is None or host == "":
        return True
    if not isinstance(host, str):
        return False
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _hook(event: str, args: tuple[Any, ...]) -> None:
    # Runs on every audit event of the process for its whole life (hooks cannot be removed): leave at once when down.
    if not _raised or event not in _EVENTS:
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        # A unix socket's address is a path and netlink's begins with a number; neither leaves the machine.
        # A datagram on a connected socket has no address and was checked on connecting.
        if not isinstance(address, tuple) or not address or not isinstance(address[0], (str, bytes, bytearray)):
            return
        host, port = address[0], address[1] if len(address) > 1 else ""
    else:
        host, port = args[0], args[1] if len(args) > 1 else ""
    if not is_loopback(host):
        shown = host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else host
        where = f"{shown}:{port}" if port else str(shown)
        raise NetworkBlockedError(
            f"{event} to {where} refused: only loopback addresses may be reached here. "
            "Mock the request, or point it at a server on 127.0.0.1."
        )


@contextmanager
def network_guard() -> Iterator[None]:
    """Refuse every connection and name look-up in this process except to loopback, inside the ``with`` block.

    Holds for all threads; blocks may nest and overlap. Sub-processes are not covered.

    Raises
    ------
    NetworkBlockedError
        In the code that tries, naming the address, before a packet leaves.
    """
    global _raised, _installed
    with _lock:
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True
        _raised += 1
    try:
        yield
    finally:
        with _lock:
            _raised -= 1
