"""The threads of plain `act` functions: how many count, whatever becomes of them."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading

import pytest

from tinytroupe.config import config_manager
from tinytroupe.engine.taking import Workers


def opened(most):
    workers = Workers()
    with config_manager.override(max_workers=most):
        workers.open()
    return workers


def nothing():
    pass


def test_a_thread_that_can_not_be_started_takes_no_place(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    async def main():
        workers = opened(1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                await workers.call(nothing)
        assert workers.at_work == 0
        await asyncio.wait_for(workers.call(nothing), 20.0)

    asyncio.run(main())


def futures():
    gc.collect()
    return sum(issubclass(type(one), asyncio.Future) for one in gc.get_objects())


def test_who_no_longer_waits_for_a_thread_is_forgotten():
    async def main():
        workers, release = opened(1), threading.Event()
        busy = asyncio.ensure_future(workers.call(lambda: release.wait(60)))
        await asyncio.sleep(0)
        assert workers.at_work == 1
        before = futures()
        for _ in range(100):
            task = asyncio.ensure_future(workers.call(nothing))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert futures() - before < 50
        last = asyncio.ensure_future(workers.call(nothing))
        await asyncio.sleep(0)
        release.set()
        await asyncio.wait_for(asyncio.gather(busy, last), 20.0)
        assert workers.at_work == 0

    asyncio.run(main())


FORKED = """
import asyncio, os, threading
from tinytroupe.engine.taking import Workers

workers, begun, release = Workers(), threading.Event(), threading.Event()
workers.open()

def hang():
    begun.set()
    release.wait()

async def give_up():
    task = asyncio.ensure_future(workers.call(hang))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])

asyncio.run(give_up())
assert workers.at_work == 1
if child := os.fork():
    status = os.waitpid(child, 0)[1]
    release.set()
    assert status == 0
    assert workers.at_work <= 1
else:
    workers.open()
    os._exit(workers.at_work)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_leaves_the_threads_behind():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
