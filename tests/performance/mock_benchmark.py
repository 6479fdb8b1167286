"""What the mock model costs, each figure beside what it is compared with.

    python tests/performance/mock_benchmark.py                  all of it, a few minutes
    python tests/performance/mock_benchmark.py --quick          a tenth of the calls
    python tests/performance/mock_benchmark.py --only server
    python tests/performance/mock_benchmark.py --load URL [--pid N]   only the load, against any server on this machine

Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import psutil

PROMPT_BYTES = 10_000
CONNECTIONS = 32
SENTENCE = "The tea house on the corner opens at seven, and people queue for its iced green tea. "


def messages(person: str, length: int = PROMPT_BYTES) -> list[dict[str, str]]:
    """Return a conversation of two messages and about `length` bytes."""
    rules = (SENTENCE * (length // len(SENTENCE) + 1))[: length - 100]
    return [
        {"role": "system", "content": f"You are {person}.\n{rules}"},
        {"role": "user", "content": "What do you think?"},
    ]


def show(name: str, figure: str, beside: str, kept: bool) -> bool:
    """Print one line of the report."""
    print(f"{'ok    ' if kept else 'MISSED'} {name:34} {figure:34} {beside}", flush=True)
    return kept


def interception(calls: int) -> bool:
    """CPU a call of the official client through interception, against a bare in-memory transport."""
    import openai

    from tinytroupe.testing import MockLLM

    http = importlib.import_module("httpx2" if int(openai.__version__.split(".")[0]) >= 3 else "httpx")

    ask: Any = {"model": "m", "messages": messages("Lisa")}
    rounds, block = 10, max(20, calls // 10)

    async def main() -> tuple[list[float], list[float]]:
        mock = MockLLM(max_exchanges=100)
        mock.when(person="Lisa").reply("Iced green tea, please.")
        async with openai.AsyncOpenAI(api_key="x") as client:
            with mock:
                fixed = (await client.chat.completions.with_raw_response.create(**ask)).content

        def answer(request: Any) -> Any:
            return http.Response(200, headers={"content-type": "application/json"}, content=fixed)

        bare_http = http.AsyncClient(transport=http.MockTransport(answer))
        bare, through = [], []
        async with (
            openai.AsyncOpenAI(api_key="x") as client,
            openai.AsyncOpenAI(api_key="x", http_client=bare_http) as bare_client,
        ):
            # In turn, so that whatever else the machine does falls on both.
            for _ in range(rounds):
                bare.append(await cpu_a_call(lambda: bare_client.chat.completions.create(**ask), block))
                with mock:
                    through.append(await cpu_a_call(lambda: client.chat.completions.create(**ask), block))
        return bare, through

    bare, through = asyncio.run(main())
    ratio = statistics.median(b / a for a, b in zip(bare, through, strict=True))
    return show(
        "interception, CPU a call",
        f"{min(through) * 1e3:.2f} ms, {ratio:.2f} x",
        f"bare in-memory transport {min(bare) * 1e3:.2f} ms; goal <= 1.5 x",
        ratio <= 1.5,
    )


async def cpu_a_call(call: Callable[[], Awaitable[Any]], times: int) -> float:
    """Return the CPU seconds a call, after one to warm up."""
    await call()
    start = time.process_time()
    for _ in range(times):
        await call()
    return (time.process_time() - start) / times


def direct(calls: int) -> bool:
    """Calls a second through the direct door."""
    from tinytroupe.llm.model import ChatRequest, Origin
    from tinytroupe.testing import DirectModel, MockLLM

    async def main(scripted: bool) -> float:
        mock = MockLLM()
        if scripted:
            mock.when(predicate=lambda call: True).reply("Iced green tea, please.")
        model = DirectModel(mock)
        requests = [ChatRequest(messages(f"Person {i}"), origin=Origin(person=f"Person {i}")) for i in range(100)]
        best = 0.0
        for _ in range(5):
            start = time.process_time()
            for i in range(calls // 5):
                await model.complete(requests[i % 100])
            best = max(best, (calls // 5) / (time.process_time() - start))
        return best

    scripted, generated = asyncio.run(main(True)), asyncio.run(main(False))
    return show(
        "direct door, calls a CPU-second",
        f"{scripted:,.0f} scripted, {generated:,.0f} made up",
        f"{PROMPT_BYTES} byte prompts; goal >= 20,000",
        min(scripted, generated) >= 20_000,
    )


# ---------------------------------------------------------------- the load, for any server


async def load(base_url: str, calls: int, length: int = PROMPT_BYTES) -> tuple[float, int]:
    """Send `calls` requests over keep-alive connections and return seconds taken and replies that were no 200."""
    url = urlsplit(base_url)
    assert url.hostname in ("127.0.0.1", "localhost", "::1"), "only servers on this machine"
    payload = json.dumps({"model": "mock-model", "messages": messages("Lisa", length)}).encode()
    head = (
        f"POST {url.path.rstrip('/')}/chat/completions HTTP/1.1\r\nHost: {url.netloc}\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer x\r\nContent-Length: {len(payload)}\r\n\r\n"
    ).encode()
    left, bad = calls, 0

    async def connection() -> None:
        nonlocal left, bad
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            while left > 0:
                left -= 1
                writer.write(head + payload)
                header = (await reader.readuntil(b"\r\n\r\n")).lower()
                bad += b" 200 " not in header.partition(b"\r\n")[0] + b" "
                if b"content-length:" in header:
                    await reader.readexactly(int(header.partition(b"content-length:")[2].partition(b"\r\n")[0]))
                elif b"chunked" in header:
                    while size := int(await reader.readline(), 16):
                        await reader.readexactly(size + 2)
                    await reader.readline()
                if b"connection: close" in header:
                    writer.close()
                    reader, writer = await asyncio.open_connection(url.hostname, url.port)
        finally:
            writer.close()

    start = time.perf_counter()
    await asyncio.wait_for(asyncio.gather(*(connection() for _ in range(CONNECTIONS))), 600)
    return time.perf_counter() - start, bad


def cpu_of(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children."""
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def measured(base_url: str, calls: int, process: psutil.Process | None) -> str:
    """Return one line about `calls` requests, after a tenth as many to warm up."""
    asyncio.run(load(base_url, max(50, calls // 10)))
    before = cpu_of(process) if process is not None else 0.0
    seconds, bad = asyncio.run(load(base_url, calls))
    line = f"{calls / seconds:,.0f} requests/s"
    if process is not None:
        line += f", {calls / max(1e-9, cpu_of(process) - before):,.0f} a CPU-second"
    return line + (f", {bad} were no 200" if bad else "")


def server(calls: int) -> bool:
    """Requests a second of the server, in a process of its own on one core."""
    code = "import sys; from tinytroupe.cli import main; sys.exit(main(['mock-server']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        watched = psutil.Process(process.pid)
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(process.pid, cores[:1])
        line = measured(url, calls, watched)
    finally:
        process.terminate()
        process.wait(30)
    rate = float(line.partition(" ")[0].replace(",", ""))
    return show("server on one core", line, f"{PROMPT_BYTES} byte prompts; goal >= 1,000 requests/s", rate >= 1000)


# ---------------------------------------------------------------- memory


def memory(calls: int) -> bool:
    """Growth of the process over many calls, through each door."""
    from tinytroupe.testing import MockLLM

    kept = True
    for name, door in (("direct", _many_direct), ("interception", _many_intercepted), ("server", _many_served)):
        mock = MockLLM(max_exchanges=100)
        early, late = door(mock, calls)
        grown = late - early
        kept &= show(
            f"memory, {name}",
            f"{grown / 1e6:+.1f} MB",
            f"from call {calls // 5:,} ({early / 1e6:.0f} MB) to {calls:,}; goal <= 5 MB",
            grown <= 5e6,
        )
    return kept


def rss() -> int:
    """Return the resident bytes of this process, garbage collected."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _many_direct(mock: Any, calls: int) -> tuple[int, int]:
    from tinytroupe.llm.model import ChatRequest, Origin
    from tinytroupe.testing import DirectModel

    async def main() -> tuple[int, int]:
        model, early = DirectModel(mock), 0
        for i in range(calls):
            if i == calls // 5:
                early = rss()
            text = f"{i} {SENTENCE}" * 20
            asked = [{"role": "user", "content": text}]
            # Every other call is anonymous and unlike all others.
            await model.complete(ChatRequest(asked, origin=Origin(person=f"Person {i % 200}" if i % 2 else "")))
        return early, rss()

    return asyncio.run(main())


def _many_intercepted(mock: Any, calls: int) -> tuple[int, int]:
    import openai

    with mock, openai.OpenAI() as client:
        early = 0
        for i in range(calls):
            if i == calls // 5:
                early = rss()
            client.chat.completions.create(model="m", messages=messages(f"Person {i % 200}", 2000))  # type: ignore[arg-type]
        return early, rss()


def _many_served(mock: Any, calls: int) -> tuple[int, int]:
    with mock.serve() as running:
        asyncio.run(load(running.base_url, calls // 5, 2000))
        early = rss()
        asyncio.run(load(running.base_url, calls - calls // 5, 2000))
        return early, rss()


def main() -> int:
    """Run what was asked for and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls")
    parser.add_argument("--only", choices=["interception", "direct", "server", "memory"])
    parser.add_argument("--load", metavar="URL", help="base URL of a server on this machine")
    parser.add_argument("--pid", type=int, help="with --load: process whose CPU time to read")
    parser.add_argument("--calls", type=int, default=5000, help="with --load")
    arguments = parser.parse_args()
    if arguments.load:
        watched = psutil.Process(arguments.pid) if arguments.pid else None
        print(measured(arguments.load, arguments.calls, watched))
        return 0
    import openai

    print(f"Python {platform.python_version()}, openai {openai.__version__}, {os.cpu_count()} cores")
    share = 10 if arguments.quick else 1
    parts = {"interception": 3000, "direct": 100_000, "server": 20_000, "memory": 100_000}
    kept = True
    for name, calls in parts.items():
        if arguments.only in (None, name):
            kept &= globals()[name](calls // share)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
