"""The alarms raised so far, and who is told of them."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable

from tinytroupe.monitoring.alerts import SEVERITIES, Alert

logger = logging.getLogger("tinytroupe.monitoring")

ALERT_LIMIT = 2_000
"""Alarms kept; the counts stay exact beyond it."""

AlertCallback = Callable[[Alert], object]


class AlertLog:
    """Keeps the latest alarms, counts all of them, and hands them to callbacks. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alerts: deque[Alert] = deque(maxlen=ALERT_LIMIT)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._callbacks: list[AlertCallback] = []
        self._delivering = threading.local()

    def add(self, alerts: Iterable[Alert]) -> None:
        """Note alarms; nobody is told yet."""
        with self._lock:
            for alert in alerts:
                self._alerts.append(alert)
                self._counts[alert.agent_name, alert.severity] += 1

    def find(self, agent_name: str | None, severity: str | None) -> list[Alert]:
        """Return the alarms kept, oldest first, of one agent or of one severity if asked."""
        with self._lock:
            return [
                alert
                for alert in self._alerts
                if agent_name in (None, alert.agent_name) and severity in (None, alert.severity)
            ]

    def counts(self, agent_name: str) -> dict[str, int]:
        """Return how many alarms of each severity there were about an agent, also those no longer kept."""
        with self._lock:
            return {severity: self._counts[agent_name, severity] for severity in SEVERITIES}

    def clear(self, agent_name: str | None) -> None:
        """Forget the alarms of one agent, or all, and their counts."""
        with self._lock:
            kept = [alert for alert in self._alerts if agent_name is not None and alert.agent_name != agent_name]
            self._alerts.clear()
            self._alerts.extend(kept)
            for name, severity in list(self._counts):
                if agent_name in (None, name):
                    del self._counts[name, severity]

    def register(self, callback: AlertCallback) -> Callable[[], None]:
        """Have a function called with each alarm delivered from now on; what is returned ends that."""
        with self._lock:
            self._callbacks.append(callback)

        def unregister() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unregister

    def deliver(self, alerts: Iterable[Alert]) -> None:
        """Call the callbacks; no lock is held meanwhile.

        Alarms that a callback causes wait until it returns, and each kind of alarm of an agent is delivered once, so
        that callbacks neither nest nor go on for ever.
        """
        waiting: deque[Alert] | None = getattr(self._delivering, "queue", None)
        if waiting is not None:
            waiting.extend(alerts)  # A callback is running further up in this thread; it delivers these afterwards.
            return
        queue = self._delivering.queue = deque(alerts)
        delivered: set[tuple[str, str, str]] = set()
        try:
            while queue:
                alert = queue.popleft()
                key = (alert.agent_name, alert.kind, alert.severity)
                if key in delivered:
                    continue
                delivered.add(key)
                with self._lock:
                    callbacks = list(self._callbacks)
                for callback in callbacks:
                    _call(callback, alert)
        finally:
            self._delivering.queue = None


def _call(callback: AlertCallback, alert: Alert) -> None:
    try:
        callback(alert)
    except Exception:
        logger.exception("the alert callback %r raised on: %s", callback, alert.message)
