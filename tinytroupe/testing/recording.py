"""Recordings of real exchanges: a readable file of JSON lines, without keys, written whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import re
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

_VERSION = 1
_HEADER = "tinytroupe_recording"
MAX_BYTES = 100_000_000

# What a program may act on; all else (cookies, organisations, keys) never reaches the file.
_KEPT_HEADERS = re.compile(r"x-ratelimit-.*|retry-after(-ms)?|x-should-retry|openai-processing-ms|content-type")
_KEYS = re.compile(r"\b(?:sk-|sess-|gsk_|xai-|hf_|AIza)[A-Za-z0-9_-]{16,}|(?<=Bearer )[^\s\"]{8,}")
_LAST_EVENT = re.compile(
    r'^data: ?(\[DONE\]|\{"type": ?"(response\.(completed|incomplete|failed)|error)")', re.MULTILINE
)
_HIDDEN = "[key]"
_SHORTEST_SECRET = 6


class RecordingError(ValueError):
    """A recording can't be read, or could not hold everything that happened."""


@dataclass(frozen=True, slots=True)
class Take:
    """One recorded exchange.

    Attributes
    ----------
    endpoint, path
        What was asked: ``chat``, ``responses``, ``embeddings`` or ``models``, and the URL's path.
    request
        The request's JSON.
    status
        HTTP status; 0 where the connection failed.
    latency_s
        Seconds to the whole answer, or to the beginning of a stream.
    headers
        The few response headers that tell a client how to go on.
    response
        The answer's JSON, or its text where it was none.
    events
        For streams: seconds since the one before, and text of each server-sent event.
    failed
        Name of the fault (see `Fault`) that stands for a connection that failed.
    cut
        Whether a stream was left or broke off before its end.
    """

    endpoint: str
    path: str
    request: Mapping[str, Any]
    status: int
    latency_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    response: Any = None
    events: tuple[tuple[float, str], ...] | None = None
    failed: str = ""
    cut: bool = False

    def line(self, secrets: Iterable[str] = ()) -> str:
        """Return it as one line of the file, with everything that is or looks like a key taken out."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        kept = {name: values[name] for name in values if name not in _OPTIONAL or values[name] != _OPTIONAL[name]}
        return without_keys(json.dumps(kept, ensure_ascii=False, default=plain), secrets)


_OPTIONAL: dict[str, Any] = {"headers": {}, "response": None, "events": None, "failed": "", "cut": False}


def plain(value: Any) -> Any:
    """Return what JSON holds in place of another mapping, sequence or object."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Sequence) else str(value)


def take_of(
    endpoint: str,
    path: str,
    request: Mapping[str, Any],
    status: int,
    headers: Mapping[str, str],
    latency_s: float,
    chunks: Sequence[tuple[float, bytes]],
    cut: bool = False,
) -> Take:
    """Return a take from an answer's bytes as they came: `chunks` holds seconds since the headers, and bytes."""
    low = {name.lower(): value for name, value in headers.items()}
    kept = {name: value for name, value in low.items() if _KEPT_HEADERS.fullmatch(name)}
    if low.get("content-type", "").startswith("text/event-stream"):
        events = _events(chunks)
        cut = cut and not (events and _LAST_EVENT.search(events[-1][1]))  # a client may leave after the last event
        return Take(endpoint, path, request, status, round(latency_s, 6), kept, events=events, cut=cut)
    if cut:
        return Take(endpoint, path, request, status, round(latency_s, 6), failed="body_cut")
    raw = _decoded(b"".join(each for _, each in chunks), low.get("content-encoding", ""))
    last_s = chunks[-1][0] if chunks else 0.0
    try:
        response = json.loads(raw)
    except (ValueError, RecursionError):
        response = raw.decode("utf-8", "replace")
    return Take(endpoint, path, request, status, round(latency_s + last_s, 6), kept, response)


def _events(chunks: Sequence[tuple[float, bytes]]) -> tuple[tuple[float, str], ...]:
    found: list[tuple[float, str]] = []
    rest, before_s = b"", 0.0
    for at_s, chunk in chunks:
        *whole, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in whole:
            found.append((round(at_s - before_s, 6), event.decode("utf-8", "replace")))
            before_s = at_s
    if rest.strip():
        found.append((0.0, rest.decode("utf-8", "replace")))
    return tuple(found)


def _decoded(raw: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return raw
    try:
        if encoding == "gzip":
            return gzip.decompress(raw)
        if encoding == "deflate":
            return zlib.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(f"the server's {encoding} encoding can't be read: {error}") from error
    raise RecordingError(f"the server sent {encoding!r} encoding though none was asked for; it can't be recorded")


def without_keys(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with `secrets`, and all that looks like a key, replaced by ``[key]``."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(json.dumps(secret, ensure_ascii=False)[1:-1], _HIDDEN)
    return _KEYS.sub(_HIDDEN, text)


def secrets_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys that a request's headers carry."""
    found = []
    for name, value in headers.items():
        if name.lower() in ("authorization", "api-key", "x-api-key", "openai-organization", "openai-project"):
            found.append(value.removeprefix("Bearer ").strip())
    return tuple(found)


class Writer:
    """Writes takes to ``PATH.partial``, which becomes ``PATH`` when all went well. For several threads.

    Parameters
    ----------
    max_bytes
        Most bytes; what comes later is not written, and `close` says so.
    """

    def __init__(self, path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.takes = 0
        self.left_out = 0
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._file = open(self.partial, "w", encoding="utf-8")  # noqa: SIM115
        self._file.write(json.dumps({_HEADER: _VERSION}) + "\n")

    def add(self, take: Take, secrets: Iterable[str] = ()) -> None:
        """Write one take."""
        line = take.line(secrets) + "\n"
        with self._lock:
            size = len(line.encode("utf-8", "surrogatepass"))
            if self._file.closed or self._bytes + size > self._max_bytes:
                self.left_out += 1
                return
            self._file.write(line)
            self._file.flush()
            self._bytes += size
            self.takes += 1

    def close(self, keep: bool = True) -> None:
        """Put the file in its place, or with ``keep=False`` leave it as ``.partial``.

        Raises
        ------
        RecordingError
            If takes were left out for want of room.
        """
        with self._lock:
            if self._file.closed:
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        if not keep:
            return
        os.replace(self.partial, self.path)
        if self.left_out:
            raise RecordingError(
                f"{self.path}: {self.left_out} exchange(s) were left out, because the recording reached "
                f"{self._max_bytes} bytes after {self.takes}; raise max_bytes"
            )


def read_recording(path: str | os.PathLike[str]) -> list[Take]:
    """Return the takes of a recording, in the order of the file.

    Raises
    ------
    RecordingError
        Naming file and line, if it is not a recording, of a newer version, or malformed.
    """
    takes: list[Take] = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                if number == 1:
                    _check_header(entry)
                    continue
                events = entry.pop("events", None)
                if events is not None:
                    entry["events"] = tuple((float(delay_s), str(text)) for delay_s, text in events)
                takes.append(Take(**entry))
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                raise RecordingError(f"{path}, line {number}: {error}") from error
    if not takes and os.path.getsize(path) == 0:
        raise RecordingError(f"{path}, line 1: the file is empty, not a recording")
    return takes


def _check_header(entry: Any) -> None:
    version = entry.get(_HEADER) if isinstance(entry, dict) else None
    if version is None:
        raise ValueError(f'this is no recording: its first line should be {{"{_HEADER}": {_VERSION}}}')
    if version != _VERSION:
        raise ValueError(f"the recording has version {version}, this program reads version {_VERSION}")
