"""A headless Chromium at the other end of a pipe, and what it says of a page. Needs nothing but the browser."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET_S = 0.15
"""A page that asked for nothing and said nothing for so long has loaded."""

_SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
# The browser reads its orders from descriptor 3 and writes its answers to 4.
_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)


class Chromium:
    """One browser with one page.

    Attributes
    ----------
    events
        What the page did since it was opened: pairs of a method of the DevTools protocol and its parameters.
    """

    def __init__(self, profile: Path) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        above = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (orders, answers)]
        command = [
            sys.executable,
            "-c",
            _START,
            *map(str, above),
            str(BROWSER),
            *_SWITCHES,
            f"--user-data-dir={profile}",
        ]
        self._process = subprocess.Popen(
            command, pass_fds=above, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for each in (orders, answers, *above):
            os.close(each)
        self._rest = b""
        self._last = 0
        self._session = ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def close(self) -> None:
        """End the browser."""
        os.close(self._orders)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send an order, and wait for its result."""
        self._last += 1
        order = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        data = json.dumps(order).encode() + b"\0"
        while data:
            data = data[os.write(self._orders, data) :]
        while True:
            message = self._read()
            if message.get("id") == self._last:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def open(self, url: str, *, width: int, dark: bool) -> None:
        """Go to a page, and wait until it has loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.events.clear()
        loader = self.call("Page.navigate", url=url)["loaderId"]  # of this page: the one before may still be heard of
        while not any(
            method == "Page.lifecycleEvent" and (told["loaderId"], told["name"]) == (loader, "load")
            for method, told in self.events
        ):
            self._read()
        told = -1
        while told != len(self.events):
            told = len(self.events)
            time.sleep(QUIET_S)
            self.call("Runtime.getIsolateId")

    def evaluate(self, source: str) -> Any:
        """Run a script beside the page, in a world of its own: what the page may do has no say in it."""
        frame = self.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
        world = self.call("Page.createIsolatedWorld", frameId=frame)["executionContextId"]
        found = self.call("Runtime.evaluate", expression=source, contextId=world, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    @property
    def asked_for(self) -> list[str]:
        """The addresses the page has asked for."""
        return [told["request"]["url"] for told in self._requests]

    @property
    def complaints(self) -> list[str]:
        """What stands in the console, and requests that failed or were blocked."""
        complaining = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        own = {told["requestId"] for told in self._requests}  # a request of the page before may be cancelled late
        return [
            json.dumps(told)
            for method, told in self.events
            if method in complaining or (method == "Network.loadingFailed" and told["requestId"] in own)
        ]

    @property
    def _requests(self) -> list[dict[str, Any]]:
        return [told for method, told in self.events if method == "Network.requestWillBeSent"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._answers, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        one, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message
