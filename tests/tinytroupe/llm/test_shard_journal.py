"""The journals of shards: what one run has asked is replayed at its cost, and all of them become one again."""

from __future__ import annotations

import asyncio

import pytest

from tinytroupe.llm import ChatReply, ChatRequest, ModelError, Origin, Usage
from tinytroupe.llm.journal import Journal, JournaledModel, ReplayMismatch
from tinytroupe.llm.shard_journal import ShardJournal, ShardJournals, reaches


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


@pytest.mark.parametrize("kept", [True, False], ids=["file", "memory"])
def test_the_journals_of_shards_become_one_again(tmp_path, kept):
    with Journal(tmp_path / "journal" if kept else ":memory:") as journal:
        ask(journal, "Before")
        journals = ShardJournals(journal)
        mark = journals.open()
        directory = journals.directory
        assert reaches(directory, mark)
        assert not reaches(directory, "another")
        for shard, person in enumerate(("Ann", "Ben")):
            with ShardJournal(journals.path(shard), journals.earlier, journals.mode) as part:
                assert ask(part, "Before", "Ann")[1] == 0
                ask(part, "Hello", person, 1)
        journals.gather()
        assert not directory.exists()
        assert journal.stats().exchanges == 3
        assert [ask(journal, "Hello", person, 1)[1] for person in ("Ann", "Ben")] == [0, 0]


def test_what_a_killed_run_left_behind_is_taken_in_by_the_next(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        killed = ShardJournals(journal)
        killed.open()
        with ShardJournal(killed.path(1), None, "record") as part:
            ask(part, "Hello")
    with Journal(tmp_path / "journal") as journal:
        journals = ShardJournals(journal)
        journals.open()
        with ShardJournal(journals.path(0), journals.earlier, "record") as part:
            assert ask(part, "Hello")[1] == 0
        journals.gather()
        assert (journal.stats().exchanges, journal.stats().unfinished) == (1, 0)


def test_a_reply_completes_a_request_that_was_on_record_without_one(tmp_path):
    class Silent(Model):
        async def complete(self, request):
            raise ModelError("down", transient=True)

    request = ChatRequest([{"role": "user", "content": "Hello"}], origin=Origin("Town", "Ann", 0))
    with Journal(tmp_path / "journal") as journal:
        with pytest.raises(ModelError):
            asyncio.run(JournaledModel(Silent(), journal).complete(request))
        journals = ShardJournals(journal)
        journals.open()
        with ShardJournal(journals.path(0), journals.earlier, "record") as part:
            ask(part, "Hello")
        journals.gather()
        assert (journal.stats().exchanges, journal.stats().unfinished) == (1, 0)
        assert ask(journal, "Hello")[1] == 0


def test_a_cache_for_all_who_ask_the_same_can_not_be_divided():
    with Journal(mode="cache") as journal, pytest.raises(ValueError, match="use mode 'record'"):
        ShardJournals(journal)
