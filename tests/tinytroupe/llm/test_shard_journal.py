"""The journals of shards: what one run has asked is replayed at its cost, and all of them become one again."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from tinytroupe.llm import ChatReply, ChatRequest, ModelError, Origin, Usage
from tinytroupe.llm.journal import Journal, JournaledModel, JournalError, ReplayMismatch
from tinytroupe.llm.shard_journal import ShardJournal, ShardJournals, ShardReplies


class Model:
    """Answers with what it was asked, and counts."""

    def __init__(self):
        self.asked = 0

    async def complete(self, request):
        self.asked += 1
        return ChatReply(f"re: {request.messages[0]['content']}", Usage(1, 7, 5), "m", latency_s=2.0)

    async def embed(self, texts):
        self.asked += 1
        return [[1.0, 2.0] for _ in texts]


def ask(journal, text, person="Ann", call=0):
    model = Model()
    request = ChatRequest([{"role": "user", "content": text}], origin=Origin("Town", person, call))
    return asyncio.run(JournaledModel(model, journal).complete(request)), model.asked


def vectors(journal):
    model = Model()
    return asyncio.run(JournaledModel(model, journal).embed(["tea"])), model.asked


def test_what_the_run_itself_has_asked_is_replayed_at_its_cost(tmp_path):
    with ShardJournal(tmp_path / "0.journal", None, "record") as journal:
        first, _ = ask(journal, "Hello")
    with ShardJournal(tmp_path / "0.journal", None, "record") as journal:
        again, asked = ask(journal, "Hello")
    assert (again.text, again.usage, again.latency_s, asked) == (first.text, Usage(1, 7, 5), 2.0, 0)


def test_what_an_earlier_run_has_asked_costs_nothing_now_and_never_again(tmp_path):
    with Journal(tmp_path / "earlier") as journal:
        ask(journal, "Hello")
        vectors(journal)
    for _ in range(2):  # the second time it is the shard's own
        with ShardJournal(tmp_path / "0.journal", tmp_path / "earlier", "replay") as journal:
            reply, asked = ask(journal, "Hello")
            assert (reply.text, reply.usage, reply.latency_s, asked) == ("re: Hello", Usage(), 0.0, 0)
            assert vectors(journal) == ([[1.0, 2.0]], 0)
            with pytest.raises(ReplayMismatch):
                ask(journal, "Bye")


def test_who_relives_the_past_asks_nothing(tmp_path):
    with ShardJournal(tmp_path / "0.journal", None, "record") as journal:
        ask(journal, "Hello")
        journal.reliving = True
        assert ask(journal, "Hello")[1] == 0
        with pytest.raises(ModelError, match="no reply is on record for call 1 of Ann in simulation 'Town'"):
            ask(journal, "And now?", call=1)
        journal.reliving = False
        assert ask(journal, "And now?", call=1)[1] == 1


def test_a_part_that_is_for_lost_processes_alone_holds_no_requests(tmp_path):
    path = tmp_path / "0.journal"
    for known in (0, 1):
        with ShardReplies(path) as journal:
            reply, asked = ask(journal, "Is anybody there?")
            assert (reply.text, reply.usage, asked) == ("re: Is anybody there?", Usage(1, 7, 5), 1 - known)
            assert vectors(journal) == ([[1.0, 2.0]], 1 - known)
            assert journal.misses == 2 * (1 - known)
            assert journal.stats().exchanges == 2
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT DISTINCT request FROM exchange").fetchall() == [(b"",)]
        assert file.execute("SELECT count(*) FROM prefix").fetchall() == [(0,)]
    file.close()


def test_whoever_asks_after_the_end_is_told_before_a_model_is_asked(tmp_path):
    journal = ShardReplies(tmp_path / "0.journal")
    journal.close()
    model = Model()
    with pytest.raises(JournalError, match="is closed"):
        asyncio.run(JournaledModel(model, journal).embed(["tea"]))
    assert model.asked == 0


def test_whoever_takes_the_place_of_a_lost_process_relives_what_there_is_and_goes_on(tmp_path):
    with ShardReplies(tmp_path / "0.journal") as journal:
        ask(journal, "Hello")
    with ShardReplies(tmp_path / "0.journal") as journal:
        journal.reliving = True
        assert ask(journal, "Hello")[1] == 0
        with pytest.raises(ModelError, match="no reply is on record for call 1 of Ann"):
            ask(journal, "And now?", call=1)
        journal.reliving = False
        assert [ask(journal, "And now?", call=1)[1] for _ in range(2)] == [1, 0]
    with ShardReplies(tmp_path / "other.journal") as journal:  # on a machine that has not got the file
        journal.reliving = True
        with pytest.raises(ModelError, match="no reply is on record for call 0 of Ann"):
            ask(journal, "Hello")


@pytest.mark.parametrize("kept", [True, False], ids=["file", "memory"])
def test_the_parts_become_one_again(tmp_path, kept):
    with Journal(tmp_path / "journal" if kept else ":memory:") as journal:
        ask(journal, "Before")
        with ShardJournals(journal).under_way() as journals:
            for number, person in enumerate(("Ann", "Ben")):
                with journals.part(number).opened() as part:
                    assert ask(part, "Before", "Ann")[1] == 0
                    ask(part, "Hello", person, 1)
        assert not journals.directory.exists()
        assert journal.stats().exchanges == 3
        assert [ask(journal, "Hello", person, 1)[1] for person in ("Ann", "Ben")] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal"] * kept


def test_runs_at_the_same_time_keep_their_parts_apart(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        with ShardJournals(journal).under_way() as first:
            with first.part(0).opened() as part:
                ask(part, "Hello", "Ann")
                with ShardJournals(journal).under_way() as second, second.part(0).opened() as other:
                    ask(other, "Hello", "Ben")
                Journal(tmp_path / "journal").close()  # nor does another process that looks into it disturb anybody
                ask(part, "Bye", "Ann", 1)
            with first.part(0).opened() as again:  # a shard that was lost
                assert [ask(again, "Hello", "Ann")[1], ask(again, "Bye", "Ann", 1)[1]] == [0, 0]
        assert journal.stats().exchanges == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal"]


KILLED = """
import asyncio, os, sys
sys.path.insert(0, os.path.dirname(sys.argv[2]))
from test_shard_journal import ask
from tinytroupe.llm.journal import Journal
from tinytroupe.llm.shard_journal import ShardJournals

with Journal(sys.argv[1]) as journal, ShardJournals(journal).under_way() as journals:
    ask(journals.part(1).opened(), "Hello")
    journals.part(2).path.touch()  # killed as well, before there was anything in it
    os._exit(9)
"""


@pytest.fixture
def killed(tmp_path):
    """Return the journal of a run whose processes were all killed."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "journal"), __file__]
    assert subprocess.run(command, timeout=60).returncode == 9
    return tmp_path / "journal"


def test_what_a_killed_run_left_behind_is_taken_in_by_whoever_opens_the_journal(killed):
    with Journal(killed) as journal:  # in one piece, say
        assert ask(journal, "Hello")[1] == 0
        assert (journal.stats().exchanges, journal.stats().unfinished) == (1, 0)
    assert [path.name for path in killed.parent.iterdir()] == ["journal"]


def test_a_replay_leaves_what_it_can_not_take_in(killed):
    with Journal(killed, "replay") as journal, ShardJournals(journal).under_way() as journals:
        assert journals.part(0).earlier is None
    with Journal(killed) as journal:
        assert journal.stats().exchanges == 1


def test_a_part_that_can_not_be_read_is_named_and_left(killed):
    (damaged,) = killed.parent.glob("journal.shards/*/2.journal")
    damaged.write_bytes(b"no journal at all" * 100)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"2\.journal can't be taken into .*; move it away"):
            Journal(killed)
    damaged.unlink()
    with Journal(killed) as journal:
        assert journal.stats().exchanges == 1


def test_on_a_machine_that_does_not_see_the_directory(tmp_path):
    with ShardJournals(None).under_way() as journals:
        here = journals.part(0)
    # There, a part for lost processes alone goes when it is closed.
    there = replace(here, path=tmp_path / "there" / "0.journal")
    with there.opened() as part:
        ask(part, "Hello")
        assert there.path.exists()
    assert not list(tmp_path.iterdir())
    # A journal that is kept would miss it.
    with pytest.raises(RuntimeError, match=r"there of the journal can't be reached from every machine"):
        replace(there, is_kept=True).opened()


def test_a_reply_completes_a_request_that_was_on_record_without_one(tmp_path):
    class Silent(Model):
        async def complete(self, request):
            raise ModelError("down", transient=True)

    request = ChatRequest([{"role": "user", "content": "Hello"}], origin=Origin("Town", "Ann", 0))
    with Journal(tmp_path / "journal") as journal:
        with pytest.raises(ModelError):
            asyncio.run(JournaledModel(Silent(), journal).complete(request))
        with ShardJournals(journal).under_way() as journals, journals.part(0).opened() as part:
            ask(part, "Hello")
        assert (journal.stats().exchanges, journal.stats().unfinished) == (1, 0)
        assert ask(journal, "Hello")[1] == 0


def test_a_cache_for_all_who_ask_the_same_can_not_be_divided():
    with Journal(mode="cache") as journal, pytest.raises(ValueError, match="use mode 'record'"):
        ShardJournals(journal)
