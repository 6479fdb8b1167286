"""begin, checkpoint, end, reset: as programs written for the API use them."""

import asyncio

import pytest

from tinytroupe import control
from tinytroupe.llm.journal import JournaledModel, JournalError, current_journal
from tinytroupe.llm.model import ChatReply, ChatRequest, Origin


@pytest.fixture(autouse=True)
def _nothing_begun():
    control.reset()
    yield
    control.reset()


class Model:
    sent = 0

    async def complete(self, request):
        self.sent += 1
        return ChatReply(f"reply {self.sent}")


def program(calls, path=None, **options):
    """A program between begin and end. Returns the calls it sent and the texts it got."""
    model = Model()
    control.begin(path, **options)
    journaled = JournaledModel(model, current_journal())
    texts = []
    for call in range(calls):
        request = ChatRequest([{"role": "user", "content": f"{call}"}], origin=Origin("w", "Ann", call))
        texts.append(asyncio.run(journaled.complete(request)).text)
    control.checkpoint()
    control.end()
    return model.sent, texts


@pytest.mark.parametrize("auto_checkpoint", [False, True])
def test_a_second_run_sends_only_what_is_new(tmp_path, auto_checkpoint):
    path = tmp_path / "market.journal"
    sent, texts = program(5, path, auto_checkpoint=auto_checkpoint)
    assert sent == 5
    assert (control.cache_hits(), control.cache_misses()) == (0, 5)
    sent, again = program(7, str(path), auto_checkpoint=auto_checkpoint)
    assert sent == 2
    assert again[:5] == texts
    assert (control.cache_hits(), control.cache_misses()) == (5, 2)


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program(3)[0] == 3
    assert program(3)[0] == 3
    assert not list(tmp_path.iterdir())


def test_the_current_simulation():
    assert control.current_simulation() is None
    assert current_journal() is None
    simulation = control.begin(id="survey")
    assert control.current_simulation() is simulation
    assert simulation.id == "survey"
    assert current_journal() is simulation.journal
    control.end("survey")
    assert control.current_simulation() is None
    assert current_journal() is None


def test_beginning_twice_is_an_error_and_leaves_the_first_running(tmp_path):
    simulation = control.begin()
    with pytest.raises(RuntimeError, match=r"'default' has begun and not ended.*control.end\(\)"):
        control.begin(tmp_path / "j", id="other")
    assert control.current_simulation() is simulation
    assert not list(tmp_path.iterdir())


def test_a_path_that_fails_begins_nothing(tmp_path):
    (tmp_path / "old.cache.json").write_text("[]")
    with pytest.raises(JournalError, match="not a journal"):
        control.begin(tmp_path / "old.cache.json")
    assert control.current_simulation() is None
    control.begin()


@pytest.mark.parametrize("verb", [control.end, control.checkpoint])
def test_without_a_beginning_there_is_no_end(verb):
    with pytest.raises(RuntimeError, match=r"call control.begin\(\) first"):
        verb()
    control.begin(id="a")
    with pytest.raises(RuntimeError, match="has begun is 'a'"):
        verb("b")
    verb("a")


def test_reset_ends_what_runs_and_forgets_the_figures():
    journal = control.begin().journal
    control.reset()
    assert current_journal() is None
    with pytest.raises(JournalError, match="closed"):
        journal.flush()
    with pytest.raises(KeyError, match="no simulation has begun"):
        control.cache_hits()
    control.reset()


def test_figures_by_name():
    program(2, id="a")
    program(3)
    control.begin(id="b")
    assert control.cache_misses("a") == 2
    assert control.cache_misses() == 0
    control.end()
    assert control.cache_misses() == 3
    with pytest.raises(KeyError, match="'c'"):
        control.cache_misses("c")


def test_the_number_of_remembered_simulations_is_bounded(monkeypatch):
    monkeypatch.setattr(control, "SIMULATIONS_KEPT", 2)
    for name in "abc":
        program(1, id=name)
    assert control.cache_misses("b") == control.cache_misses("c") == 1
    with pytest.raises(KeyError):
        control.cache_misses("a")
