"""The journal: recorded once, replayed exactly, and safe whatever happens to the process or the file."""

import asyncio
import gc
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest

from tinytroupe.llm.canonical import canonical_text
from tinytroupe.llm.exchange_key import Key
from tinytroupe.llm.exchanges import SCHEMA_VERSION
from tinytroupe.llm.journal import (
    Journal,
    JournaledModel,
    JournalError,
    ReplayMismatch,
    current_journal,
    set_process_journal,
    use_journal,
)
from tinytroupe.llm.model import ChatModel, ChatReply, ChatRequest, ModelError, Origin
from tinytroupe.llm.usage import Usage
from tinytroupe.runtime.clock import VirtualClock


class Parrot:
    """Answers with what was said, and counts."""

    def __init__(self, latency_s=0.0):
        self.latency_s = latency_s
        self.asked = []
        self.embedded = []
        self.closed = False

    async def complete(self, request):
        self.asked.append(request)
        number = len(self.asked)
        await asyncio.sleep(self.latency_s)
        return ChatReply(f"{number}: {request.messages[-1]['content']}", Usage(1, 10, 2), "parrot", "stop", 1.5, 0.5)

    async def embed(self, texts):
        self.embedded += texts
        return [[float(len(text)), 0.1] for text in texts]

    async def aclose(self):
        self.closed = True


def ask(text, person="Ann", call=0, simulation="w", **options):
    messages = [{"role": "system", "content": f"You are {person}. " * 40}, {"role": "user", "content": text}]
    return ChatRequest(messages, origin=Origin(simulation, person, call), **options)


def answer(journal, *requests, model=None):
    """Ask all at once, return the replies' texts."""

    async def main():
        journaled = JournaledModel(model or Parrot(), journal)
        return [reply.text for reply in await asyncio.gather(*[journaled.complete(request) for request in requests])]

    return asyncio.run(main())


def test_it_is_a_chat_model():
    parrot = Parrot()
    with Journal() as journal:
        model = JournaledModel(parrot, journal)
        assert isinstance(model, ChatModel)
        asyncio.run(model.aclose())
    assert parrot.closed


@pytest.mark.parametrize(("mode", "prepared"), [("record", 1), ("replay", 0)])
def test_the_model_gets_ready_for_its_first_call_unless_none_will_come(tmp_path, mode, prepared):
    class Slow(Parrot):
        prepared = 0

        async def prepare(self):
            self.prepared += 1

    Journal(tmp_path / "j").close()
    slow = Slow()
    with Journal(tmp_path / "j", mode) as journal:
        asyncio.run(JournaledModel(slow, journal).prepare())
        asyncio.run(JournaledModel(Parrot(), journal).prepare())  # not every model has something to prepare
    assert slow.prepared == prepared


def test_what_is_known_is_replayed_without_a_call(tmp_path):
    first, second = Parrot(), Parrot()
    requests = [ask(f"question {call}", call=call) for call in range(3)]
    with Journal(tmp_path / "j") as journal:
        texts = answer(journal, *requests, model=first)
        assert (journal.hits, journal.misses) == (0, 3)
    with Journal(tmp_path / "j") as journal:
        assert answer(journal, *requests, ask("new", call=3), model=second) == [*texts, "1: new"]
        assert (journal.hits, journal.misses) == (3, 1)
        assert journal.stats().exchanges == 4
    assert [request.messages[-1]["content"] for request in second.asked] == ["new"]


def test_a_replayed_reply_is_the_recorded_one_at_no_cost():
    async def main(journal):
        model = JournaledModel(Parrot(), journal)
        live, replayed = await model.complete(ask("hi")), await model.complete(ask("hi"))
        assert live == ChatReply("1: hi", Usage(1, 10, 2), "parrot", "stop", 1.5, 0.5)
        assert replayed == ChatReply("1: hi", Usage(), "parrot", "stop", 0.0, 0.0, 0.0)

    with Journal() as journal:
        asyncio.run(main(journal))


def test_people_and_their_calls_stay_apart():
    same = [ask("hi", "Ann", 0), ask("hi", "Ann", 1), ask("hi", "Bob", 0), ask("hi", "Ann", 0, simulation="other")]
    for request in same:
        object.__setattr__(request, "messages", [{"role": "user", "content": "hi"}])
    with Journal() as journal:
        assert len(set(answer(journal, *same))) == 4
        assert journal.misses == 4


def test_a_cache_answers_whoever_asks_the_same():
    with Journal(mode="cache") as journal:
        messages = [{"role": "user", "content": "hi"}]
        texts = [
            answer(journal, ChatRequest(messages, origin=Origin("w", name, call)))[0]
            for call, name in enumerate(("Ann", "Bob", ""))
        ]
        assert texts == ["1: hi"] * 3
        assert (journal.hits, journal.misses) == (2, 1)


def test_other_settings_are_another_question():
    settings = {"model": "a"}
    parrot = Parrot()
    with Journal() as journal:
        model = JournaledModel(parrot, journal, lambda: settings)
        asyncio.run(model.complete(ask("hi")))
        settings = {"model": "b"}
        asyncio.run(model.complete(ask("hi")))
        asyncio.run(model.embed(["x"]))
        settings = {"model": "c"}
        asyncio.run(model.embed(["x"]))
    assert len(parrot.asked) == 2
    assert parrot.embedded == ["x", "x"]


def test_every_text_is_embedded_once():
    parrot = Parrot()
    with Journal() as journal:
        model = JournaledModel(parrot, journal)
        assert asyncio.run(model.embed([])) == []
        assert asyncio.run(model.embed(["a", "bb", "a"])) == [[1.0, 0.1], [2.0, 0.1], [1.0, 0.1]]
        assert asyncio.run(model.embed(["ccc", "bb"])) == [[3.0, 0.1], [2.0, 0.1]]
    assert parrot.embedded == ["a", "bb", "ccc"]


def test_the_request_is_on_record_before_it_is_sent(tmp_path):
    class Witness(Parrot):
        async def complete(self, request):
            with sqlite3.connect(tmp_path / "j") as other:
                self.seen = other.execute("SELECT person, call, reply FROM exchange").fetchall()
            other.close()
            return await super().complete(request)

    witness = Witness()
    with Journal(tmp_path / "j") as journal:
        answer(journal, ask("hi", "Ann", 7), model=witness)
    assert witness.seen == [("Ann", 7, None)]


def test_many_at_once_share_a_commit(tmp_path):
    commits = []
    with Journal(tmp_path / "j") as journal:
        transaction = journal._file.transaction
        journal._file.transaction = lambda steps: commits.append(len(steps)) or transaction(steps)
        answer(journal, *[ask("hi", f"P{n}") for n in range(100)])
        assert journal.stats().exchanges == 100
    assert (sum(commits), len(commits)) == (200, 2)


ASKED = {Key("Town", "Ann", 0, b"hash"): canonical_text("hi", {})}


def test_what_was_handed_over_is_written_though_the_journal_closes_in_the_same_moment(tmp_path):
    async def main():
        journal = Journal(tmp_path / "j")
        begun = asyncio.ensure_future(journal.begin(ASKED))
        await asyncio.sleep(0)
        journal.close()
        return await begun

    assert asyncio.run(main()) == {}
    with Journal(tmp_path / "j") as journal:
        assert journal.stats().unfinished == 1


def test_whoever_waits_goes_on_once_it_is_written_though_another_thread_closes_the_journal(tmp_path):
    class Slow(Journal):
        """Writes when it is told to."""

        may_write = threading.Event()

        def _drain(self, drain):
            self.may_write.wait()
            super()._drain(drain)

    async def main():
        journal = Slow(tmp_path / "j")
        begun = asyncio.ensure_future(journal.begin(ASKED))
        await asyncio.sleep(0)
        closing = threading.Thread(target=journal.close)
        closing.start()
        while not journal._closed:
            pass
        threading.Timer(0.1, journal.may_write.set).start()
        known = await begun
        closing.join()
        return known

    assert asyncio.run(main()) == {}
    with Journal(tmp_path / "j") as journal:
        assert journal.stats().unfinished == 1


def test_figures_count_what_was_handed_over_in_the_same_moment():
    async def main():
        with Journal() as journal:
            begun = asyncio.ensure_future(journal.begin(ASKED))
            await asyncio.sleep(0)
            stats = journal.stats()
            await begun
            return stats.unfinished

    assert asyncio.run(main()) == 1


def test_a_journal_keeps_no_loop_alive_that_has_ended():
    async def main(journal):
        await journal.begin(ASKED)
        return weakref.ref(asyncio.get_running_loop())

    with Journal() as journal:
        loop = asyncio.run(main(journal))
        journal.flush()  # its thread has let go of what it did before
        gc.collect()
        assert loop() is None


LATE = """
import asyncio, atexit, sys, threading
from tinytroupe.llm.canonical import canonical_text
from tinytroupe.llm.exchange_key import Key
from tinytroupe.llm.journal import Journal

async def main():
    while threading.main_thread().is_alive():
        await asyncio.sleep(0.01)
    assert await journal.begin({Key("Town", "Ann", 0, b"hash"): canonical_text("hi", {})}) == {}

journal = Journal(sys.argv[1])
atexit.register(journal.close)
threading.Thread(target=asyncio.run, args=[main()]).start()
"""


def test_a_program_that_is_ending_still_records_and_closes(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", LATE, tmp_path / "j"], capture_output=True, check=False, timeout=60, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    with Journal(tmp_path / "j") as journal:
        assert journal.stats().unfinished == 1


def test_a_failed_call_stays_unfinished_and_is_asked_again():
    class Broken(Parrot):
        async def complete(self, request):
            raise ModelError("down", transient=True)

    with Journal() as journal:
        with pytest.raises(ModelError, match="down"):
            answer(journal, ask("hi"), model=Broken())
        assert (journal.stats().exchanges, journal.stats().unfinished) == (0, 1)
        assert answer(journal, ask("hi")) == ["1: hi"]
        assert (journal.stats().exchanges, journal.stats().unfinished) == (1, 0)


def test_a_cancelled_call_stays_unfinished():
    async def main(journal):
        task = asyncio.ensure_future(JournaledModel(Parrot(60), journal).complete(ask("hi")))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Journal() as journal:
        asyncio.run(main(journal))
        assert journal.stats().unfinished == 1


def test_virtual_time_waits_for_the_journal():
    async def main(journal):
        model = JournaledModel(Parrot(1.0), journal)

        async def person(name):
            for call in range(20):
                await model.complete(ask("hi", name, call))

        await asyncio.gather(*[person(f"P{n}") for n in range(10)])
        return asyncio.get_running_loop().time()

    for _ in range(3):
        loop = VirtualClock().new_loop()
        with Journal() as journal:
            assert loop.run_until_complete(main(journal)) == 20.0
        loop.close()


def test_loops_in_several_threads_share_a_journal():
    texts, errors = [], []

    def work(name):
        try:
            texts.extend(answer(journal, *[ask("hi", name, call) for call in range(50)]))
        except Exception as error:
            errors.append(error)

    with Journal() as journal:
        threads = [threading.Thread(target=work, args=(f"P{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert len(texts) == journal.stats().exchanges == 200


# Replay ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path):
    with Journal(tmp_path / "j") as journal:
        answer(journal, ask("How are you?"), ask("And now?", call=1))
        asyncio.run(JournaledModel(Parrot(), journal).embed(["a"]))
    return tmp_path / "j"


def test_a_replay_needs_no_model(recorded):
    parrot = Parrot()
    with Journal(recorded, "replay") as journal:
        assert answer(journal, ask("How are you?"), model=parrot) == ["1: How are you?"]
        assert asyncio.run(JournaledModel(parrot, journal).embed(["a"])) == [[1.0, 0.1]]
        journal.flush()
        with pytest.raises(ReplayMismatch):
            asyncio.run(JournaledModel(parrot, journal).embed(["a", "b"]))
    assert not parrot.asked
    assert not parrot.embedded


def test_a_changed_question_is_an_error_with_a_diff(recorded):
    with Journal(recorded, "replay") as journal:
        with pytest.raises(ReplayMismatch) as caught:
            answer(journal, ask("How old are you?"))
        assert not caught.value.transient
    text = str(caught.value)
    assert "call 0 of Ann in simulation 'w' is not what is recorded" in text
    assert "-How are you?" in text
    assert "+How old are you?" in text
    assert "You are Ann" not in text


def test_a_question_too_many_is_an_error(recorded):
    with (
        Journal(recorded, "replay") as journal,
        pytest.raises(ReplayMismatch, match=r"nothing is recorded .* call 2 of Ann"),
    ):
        answer(journal, ask("More?", call=2))


def test_a_mismatch_concerns_only_who_asked(recorded):
    async def main(journal):
        model = JournaledModel(Parrot(), journal)
        return await asyncio.gather(
            *[model.complete(request) for request in (ask("x"), ask("How are you?"))], return_exceptions=True
        )

    with Journal(recorded, "replay") as journal:
        wrong, right = asyncio.run(main(journal))
    assert isinstance(wrong, ReplayMismatch)
    assert right.text == "1: How are you?"


def test_a_replay_leaves_the_file_as_it_is(recorded):
    before = recorded.read_bytes()
    recorded.chmod(0o444)
    with Journal(recorded, "replay") as journal:
        answer(journal, ask("How are you?"))
    assert recorded.read_bytes() == before
    assert [path.name for path in recorded.parent.iterdir()] == ["j"]


def test_a_changed_program_goes_on_live_when_it_records(recorded):
    with Journal(recorded) as journal:
        assert answer(journal, ask("How old are you?")) == ["1: How old are you?"]
        assert answer(journal, ask("How are you?")) == ["1: How are you?"]
        assert (journal.hits, journal.misses) == (1, 1)


# Bounds ---------------------------------------------------------------------------------------------------------


def noise(n):
    return random.Random(n).randbytes(500).hex()


def test_what_was_used_longest_ago_goes_first():
    requests = [ask(noise(n), call=n) for n in range(10)]
    with Journal() as probe:
        for request in requests:
            answer(probe, request)
        full = probe.stats().bytes
    with Journal(max_bytes=full) as journal:
        for request in requests:
            answer(journal, request)
        assert journal.stats().bytes == full
        answer(journal, requests[0])  # used again
        answer(journal, ask(noise(10), call=10))
        stats = journal.stats()
        assert stats.bytes <= full
        assert stats.exchanges == 10
        misses = journal.misses
        answer(journal, requests[0], ask(noise(10), call=10))
        assert journal.misses == misses
        answer(journal, requests[1])
        assert journal.misses == misses + 1


def test_the_bound_holds_over_many_people_and_prefixes(tmp_path):
    with Journal(tmp_path / "j", max_bytes=20_000) as journal:
        for n in range(200):
            answer(journal, ask(noise(n), f"Person {n}"))
            assert journal.stats().bytes <= 20_000
        held = journal.stats()
        assert held.exchanges > 5
    with Journal(tmp_path / "j", max_bytes=20_000) as journal:
        assert journal.stats().bytes == held.bytes
    with sqlite3.connect(tmp_path / "j") as file:
        prefixes = file.execute("SELECT count(*) FROM prefix").fetchone()[0]
    file.close()
    assert prefixes == held.exchanges
    assert (tmp_path / "j").stat().st_size < 100_000


def test_requests_under_way_are_never_dropped():
    with Journal(max_bytes=1) as journal:
        assert answer(journal, *[ask("hi", f"P{n}") for n in range(5)]) != []
        assert journal.stats().exchanges == 0


class Down(Parrot):
    """Fails, and counts."""

    async def complete(self, request):
        self.asked.append(request)
        raise ModelError("down", transient=True)

    embed = complete


def test_the_bound_holds_over_requests_without_a_reply(tmp_path):
    with Journal(tmp_path / "j", max_bytes=20_000) as journal:
        model = JournaledModel(Down(), journal)
        for n in range(100):
            with pytest.raises(ModelError, match="down"):
                asyncio.run(model.complete(ask(noise(n), call=n)))
            with pytest.raises(ModelError, match="down"):
                asyncio.run(model.embed([noise(n)]))
            assert journal.stats().bytes <= 20_000
    with Journal(tmp_path / "j", max_bytes=20_000) as journal:  # what another process left, too
        for n in range(3):
            answer(journal, ask(noise(n), "Ben", n))
        assert (journal.stats().exchanges, journal.stats().bytes <= 20_000) == (3, True)
        assert answer(journal, ask(noise(2), "Ben", 2)) == [f"1: {noise(2)}"]
        assert journal.hits == 1


def test_a_request_under_way_is_kept_while_others_fail():
    async def main(journal):
        under_way, may_answer = asyncio.Event(), asyncio.Event()

        class Slow(Parrot):
            async def complete(self, request):
                under_way.set()
                await may_answer.wait()
                return await super().complete(request)

        slow = asyncio.ensure_future(JournaledModel(Slow(), journal).complete(ask("hi", "Ben")))
        await under_way.wait()
        for n in range(20):
            with pytest.raises(ModelError, match="down"):
                await JournaledModel(Down(), journal).complete(ask(noise(n), call=n))
        may_answer.set()
        await slow

    with Journal(max_bytes=2_000) as journal:
        asyncio.run(main(journal))
        assert answer(journal, ask("hi", "Ben")) == ["1: hi"]
        assert journal.hits == 1


def test_two_programs_that_drop_share_a_file(tmp_path):
    with Journal(tmp_path / "j", max_bytes=6_000) as one, Journal(tmp_path / "j", max_bytes=6_000) as other:
        answer(one, ask(noise(0)))
        for n in range(20):
            answer(other, ask(noise(n), "Ben", n))  # drops what Ann was told first
        for n in range(20):
            answer(one, ask(noise(n), "Ann" if n < 2 else f"P{n}", n))
    with sqlite3.connect(tmp_path / "j") as file:
        lost = file.execute("SELECT count(*) FROM exchange WHERE prefix NOT IN (SELECT id FROM prefix)").fetchone()[0]
    file.close()
    assert lost == 0


def test_the_bound_holds_over_what_several_programs_write(tmp_path):
    def stored():
        with sqlite3.connect(tmp_path / "j") as file:
            (size,) = file.execute(
                "SELECT (SELECT sum(bytes) FROM exchange) + (SELECT sum(length(body)) FROM prefix)"
            ).fetchone()
        file.close()
        return size

    with Journal(tmp_path / "j", max_bytes=20_000) as one, Journal(tmp_path / "j", max_bytes=20_000) as other:
        for n in range(40):
            answer(other if n % 3 else one, ask(noise(n), f"P{n}"))
            assert one.stats().bytes == other.stats().bytes == stored() <= 20_000
        # What was used longest ago goes first, whoever used it.
        answer(one, ask(noise(38), "P38"))
        answer(other, ask(noise(39), "P39"))
        assert (one.hits, other.hits) == (1, 1)
        with Journal(tmp_path / "j", mode="replay") as reader:
            assert reader.stats().bytes == stored()
            answer(one, ask(noise(40), "P40"))
            assert reader.stats().bytes == stored()


def test_what_people_have_in_common_is_stored_once(tmp_path):
    persona = noise(1) * 8  # 8 KB
    requests = [
        ChatRequest(
            [{"role": "system", "content": persona}, {"role": "user", "content": noise(n)}],
            origin=Origin("w", "Ann", n),
        )
        for n in range(100)
    ]
    with Journal(tmp_path / "j") as journal:
        answer(journal, *requests)
    assert (tmp_path / "j").stat().st_size < 100 * 3000


@pytest.mark.parametrize("wrong", [{"mode": "write"}, {"max_bytes": 0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError):
        Journal(**wrong)


# Files that are not ours, and what can go wrong -----------------------------------------------------------------


def make_sqlite(path, version=0):
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()


def make_newer(path):
    Journal(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()


@pytest.mark.parametrize("mode", ["record", "replay", "cache"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text('{"cache": []}'), "not a journal"),
        (lambda path: path.write_bytes(b"SQLite format 3\0"), "not a journal"),
        (make_sqlite, "another program"),
        (make_newer, f"format {SCHEMA_VERSION + 1}"),
        (lambda path: path.mkdir(), "can't be opened"),
    ],
    ids=["text", "stump", "foreign", "newer", "directory"],
)
def test_a_file_that_is_not_ours_is_left_as_it_is(tmp_path, make, message, mode):
    path = tmp_path / "j"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(JournalError, match=message):
        Journal(path, mode)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["j"]


def test_a_missing_directory_or_recording_is_named(tmp_path):
    with pytest.raises(JournalError, match="directory does not exist"):
        Journal(tmp_path / "no" / "j")
    with pytest.raises(JournalError, match="record one first"):
        Journal(tmp_path / "j", "replay")
    assert not list(tmp_path.iterdir())


def test_an_empty_file_becomes_a_journal(tmp_path):
    (tmp_path / "j").touch()
    with Journal(tmp_path / "j") as journal:
        assert answer(journal, ask("hi")) == ["1: hi"]


def test_the_format_is_in_the_file_itself(tmp_path):
    journal = Journal(tmp_path / "j")
    assert struct.unpack(">I", (tmp_path / "j").read_bytes()[60:64]) == (SCHEMA_VERSION,)
    journal.close()


def test_a_failed_write_reaches_everyone_it_concerns_and_the_next_succeeds(tmp_path):
    async def main(journal):
        model = JournaledModel(Parrot(), journal)
        return await asyncio.gather(*[model.complete(ask("hi", name)) for name in "ab"], return_exceptions=True)

    with Journal(tmp_path / "j") as journal:
        journal._file._connection.execute("PRAGMA query_only = ON")
        errors = asyncio.run(main(journal))
        assert all(isinstance(error, JournalError) for error in errors)
        assert "can't be read or written" in str(errors[0])
        assert isinstance(errors[0].__cause__, sqlite3.Error)
        journal._file._connection.execute("PRAGMA query_only = OFF")
        assert answer(journal, ask("hi")) == ["1: hi"]


def test_a_damaged_reply_is_an_error(recorded):
    connection = sqlite3.connect(recorded)
    connection.execute("UPDATE exchange SET reply = x'00'")
    connection.commit()
    connection.close()
    with Journal(recorded) as journal, pytest.raises(JournalError, match="damaged"):
        answer(journal, ask("How are you?"))


def test_a_name_that_cannot_be_stored_concerns_only_its_bearer():
    async def main(journal):
        model = JournaledModel(Parrot(), journal)
        requests = ask("hi", "\ud800"), ask("hi", "Ann")
        return await asyncio.gather(*[model.complete(request) for request in requests], return_exceptions=True)

    with Journal() as journal:
        wrong, right = asyncio.run(main(journal))
    assert isinstance(wrong, UnicodeEncodeError)
    assert right.text.endswith("hi")


def test_after_closing_nothing_is_answered(tmp_path):
    journal = Journal(tmp_path / "j")
    answer(journal, ask("hi"))
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        answer(journal, ask("hi"))
    with pytest.raises(JournalError, match="closed"):
        journal.flush()
    assert [path.name for path in tmp_path.iterdir()] == ["j"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tinytroupe-journal")]
    assert repr(journal) == f"<Journal {str(tmp_path / 'j')!r}, record, 0 hits, 1 misses>"


KILLED = """
import asyncio, os, signal, sys
from tinytroupe.llm.journal import Journal, JournaledModel
from tinytroupe.llm.model import ChatReply, ChatRequest, Origin

sent = open(sys.argv[2], "a", buffering=1)

class Model:
    async def complete(self, request):
        origin = request.origin
        print(origin.person, origin.call, file=sent)
        if (origin.person, origin.call) == ("P3", 5):
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0)
        return ChatReply(f"{origin.person} {origin.call}")

async def person(model, name):
    for call in range(10):
        messages = [{"role": "user", "content": f"{name} asks {call}"}]
        reply = await model.complete(ChatRequest(messages, origin=Origin("w", name, call)))
        assert reply.text == f"{name} {call}"

async def main():
    model = JournaledModel(Model(), Journal(sys.argv[1]))
    await asyncio.gather(*[person(model, f"P{n}") for n in range(8)])

asyncio.run(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_after_kill_9_no_answered_call_is_sent_again(tmp_path):
    path, sent = tmp_path / "j", tmp_path / "sent"
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), path, sent], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    calls = [tuple(line.split()) for line in sent.read_text().splitlines()]
    assert len(calls) == len(set(calls))
    parrot = Parrot()
    with Journal(path) as journal:
        stats = journal.stats()
        assert stats.exchanges + stats.unfinished >= len(calls)  # all that was sent is on record
        assert stats.unfinished <= 8

        async def person(model, name):
            for call in range(10):
                messages = [{"role": "user", "content": f"{name} asks {call}"}]
                await model.complete(ChatRequest(messages, origin=Origin("w", name, call)))

        async def main():
            await asyncio.gather(*[person(JournaledModel(parrot, journal), f"P{n}") for n in range(8)])

        asyncio.run(main())
        assert (journal.stats().exchanges, journal.stats().unfinished) == (80, 0)
        assert len(parrot.asked) == 80 - stats.exchanges
    again = {(request.origin.person, str(request.origin.call)) for request in parrot.asked} & set(calls)
    people = [name for name, _ in again]
    assert ("P3", "5") in again
    assert len(people) == len(set(people))  # at most the one under way for each person


FORKED = """
import asyncio, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from tinytroupe.llm.journal import Journal, JournaledModel
from tinytroupe.llm.model import ChatReply, ChatRequest, Origin

class Model:
    async def complete(self, request):
        return ChatReply("live")

def ask(person):
    request = ChatRequest([{"role": "user", "content": "hi"}], origin=Origin("w", person))
    return asyncio.run(JournaledModel(Model(), journal).complete(request)).usage.calls

journal = Journal(sys.argv[1])
assert ask("parent") == 1
child = os.fork()
if not child:
    assert ask("parent") == 0 and ask("child") == 1
    journal.close()
    os._exit(7)
_, status = os.waitpid(child, 0)
assert os.WEXITSTATUS(status) == 7, status
assert ask("parent") == 0 and (sys.argv[1] == ":memory:" or ask("child") == 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork")
@pytest.mark.parametrize("where", ["file", "memory"])
def test_it_works_on_both_sides_of_a_fork(tmp_path, where):
    path = ":memory:" if where == "memory" else str(tmp_path / "j")
    done = subprocess.run([sys.executable, "-c", FORKED, path], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


# Which journal applies ------------------------------------------------------------------------------------------


def test_the_innermost_journal_applies_and_threads_see_the_process_wide_one():
    assert current_journal() is None
    with Journal() as of_process, Journal() as of_block:
        assert set_process_journal(of_process) is None
        try:
            with use_journal(of_block):
                assert current_journal() is of_block
                seen = []
                thread = threading.Thread(target=lambda: seen.append(current_journal()))
                thread.start()
                thread.join()
                assert seen == [of_process]
            assert current_journal() is of_process
        finally:
            assert set_process_journal(None) is of_process
    assert current_journal() is None
