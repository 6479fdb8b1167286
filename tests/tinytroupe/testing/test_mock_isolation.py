"""Several threads, loops, mocks and test processes at once: everyone gets their own replies."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from tinytroupe.testing import MockLLM

try:
    import httpx2 as http
except ImportError:
    import httpx as http  # type: ignore[no-redef]

URL = "https://api.example.com/v1/chat/completions"
THREADS, LOOPS, TASKS = 4, 2, 20
CALLS = 1680  # in each of six: 10,080


def body(person):
    return {"model": "m", "messages": [{"role": "system", "content": f"You are {person}."}]}


def echo(name):
    mock = MockLLM()
    mock.when(predicate=lambda call: True).reply(lambda call: f"{name} to {call.person}, call {call.number}")
    return mock


def said(response):
    return response.json()["choices"][0]["message"]["content"]


def in_a_thread(name, wrong, calls=CALLS):
    with http.Client() as client:
        for i in range(calls):
            text = said(client.post(URL, json=body(name)))
            if text != f"{name[0]} to {name}, call {i}":
                wrong.append((name, i, text))


def in_a_loop(name, wrong, calls=CALLS):
    async def task(client, person):
        for i in range(calls // TASKS):
            text = said(await client.post(URL, json=body(person)))
            if text != f"{name[0]} to {person}, call {i}":
                wrong.append((person, i, text))

    async def main():
        async with http.AsyncClient() as client:
            await asyncio.gather(*(task(client, f"{name}.{i}") for i in range(TASKS)))

    asyncio.run(main())


def at_once(works):
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not errors, errors


def test_four_threads_and_two_loops_with_a_mock_each_get_only_their_own_replies():
    wrong = []
    mocks = {}

    def own(name, work):
        def run():
            with echo(name[0]) as mocks[name]:
                work(name, wrong)

        return run

    names = [f"{letter} {i}" for i, letter in enumerate("abcdef")]
    works = [own(name, in_a_thread if i < THREADS else in_a_loop) for i, name in enumerate(names)]
    at_once(works)
    assert not wrong, wrong[:3]
    assert sum(mock.calls for mock in mocks.values()) == 10_080
    for name, mock in mocks.items():
        assert all(person.startswith(name) for person in mock.by_person)


def test_threads_and_loops_share_one_mock():
    wrong = []
    with echo("s") as mock:
        at_once([lambda i=i: (in_a_thread if i < THREADS else in_a_loop)(f"s{i}", wrong, 160) for i in range(6)])
    assert not wrong, wrong[:3]
    assert mock.calls == 6 * 160


def test_a_thread_of_nobody_is_refused_rather_than_answered_by_the_wrong_mock():
    caught = []

    def stray():
        try:
            with http.Client() as client:
                caught.append(said(client.post(URL, json=body("x"))))
        except RuntimeError as error:
            caught.append(str(error))

    def run_thread(target):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()

    with echo("outer"):
        run_thread(stray)
        with echo("inner"):
            run_thread(stray)  # inside one another: the inner one

    def other():
        with echo("side"):
            run_thread(stray)
            run_thread(lambda: copied.run(stray))

    with echo("first"):
        copied = contextvars.copy_context()
        run_thread(other)
    assert caught[:2] == ["outer to x, call 0", "inner to x, call 0"]
    assert "2 mock models are active side by side" in caught[2]
    assert caught[3] == "first to x, call 0"


@pytest.mark.slow
def test_two_mocks_at_once_in_two_processes(pytester):
    pytest.importorskip("xdist")
    for me, other in ("ab", "ba"):
        pytester.makepyfile(
            **{
                f"test_{me}": f"""
                import pathlib, time, httpx
                from tinytroupe.testing import MockLLM

                def test_{me}():
                    here = pathlib.Path({str(pytester.path)!r})
                    with MockLLM() as llm, httpx.Client() as client:
                        llm.when(predicate=lambda call: True).reply(lambda call: f"{me} {{call.number}}")
                        (here / "{me}").touch()
                        deadline = time.monotonic() + 60
                        while not (here / "{other}").exists():  # now both are active
                            assert time.monotonic() < deadline
                            time.sleep(0.01)
                        for i in range(200):
                            answer = client.post("{URL}", json={body("Lisa")!r}).json()
                            assert answer["choices"][0]["message"]["content"] == f"{me} {{i}}"
                        assert llm.calls == 200
                """
            }
        )
    result = pytester.runpytest_subprocess("-n2", "--dist=loadfile", "-p", "no:randomly", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
