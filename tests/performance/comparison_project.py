"""The project that ``comparison_benchmark.py`` gives each tool: one program, and its tests as each wants them."""

from __future__ import annotations

PROGRAM = '''\
"""The program under test. INJECTED names the regression that is planted, if any."""

import asyncio
import json
import os

INJECTED = os.environ.get("INJECTED", "")


def digest():
    """Some 50 ms of CPU."""
    kept = []
    for turn in range(920 if INJECTED == "cpu" else 800):
        kept.append({"role": "user", "content": f"what was said in turn {turn} " * 5})
        json.loads(json.dumps(kept[-20:]))


def hold():
    """8 MB of Python's heap."""
    return len([bytes(1000) for _ in range(8400 if INJECTED == "heap" else 8000)])


async def panel(client):
    """Ask five people at once, twice."""
    words = "word " * (210 if INJECTED == "prompt" else 200)

    async def ask(person, turn):
        messages = [
            {"role": "system", "content": f"You are P{person}."},
            {"role": "user", "content": f"Turn {turn}: {words}"},
        ]
        await client.chat.completions.create(model="m", messages=messages)

    people = list(range(6 if INJECTED == "aside" else 5))
    for turn in range(2):
        if INJECTED == "serial":
            await ask(people[0], turn)
        await asyncio.gather(*(ask(person, turn) for person in people[INJECTED == "serial" :]))
    if INJECTED == "after":
        await ask(0, 2)
'''

OURS = """\
import openai
import program
import pytest


@pytest.mark.perf(max_cpu_s=600)
def test_cpu():
    program.digest()


@pytest.mark.perf
def test_memory():
    program.hold()


@pytest.mark.perf
async def test_llm(mock_llm):
    mock_llm.latency = 0.2
    async with openai.AsyncOpenAI(api_key="x") as client:
        await program.panel(client)
"""

BENCHMARK = """\
import asyncio
import os

import openai
import program


async def main():
    async with openai.AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key="x") as client:
        await program.panel(client)


def test_cpu(benchmark):
    benchmark(program.digest)


def test_llm(benchmark):
    benchmark.pedantic(lambda: asyncio.run(main()), rounds=5, warmup_rounds=1)
"""

MEMRAY = """\
import os

import program
import pytest


@pytest.mark.limit_memory(os.environ["LIMIT"])
def test_memory():
    program.hold()
"""

CODSPEED = """\
import program
import pytest


@pytest.mark.benchmark
def test_cpu():
    program.digest()


@pytest.mark.benchmark
def test_memory():
    program.hold()
"""

FILES = {
    "program.py": PROGRAM,
    "test_ours.py": OURS,
    "test_benchmark.py": BENCHMARK,
    "test_memray.py": MEMRAY,
    "test_codspeed.py": CODSPEED,
    "test_trivial.py": "def test_trivial():\n    pass\n",
    "pytest.ini": "[pytest]\n",
}

REGRESSIONS = {
    "after": ("llm", "one more model call, after the others"),
    "serial": ("llm", "one person no longer asked at the same time as the others"),
    "aside": ("llm", "one more person asked, at the same time"),
    "prompt": ("llm", "prompts 5 % longer"),
    "cpu": ("cpu", "15 % more computing"),
    "heap": ("memory", "5 % more memory held"),
}
"""By the value of INJECTED: the test that should see it, and what it is."""
