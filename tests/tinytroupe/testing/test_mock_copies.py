"""A mock model in several processes: each has a copy that answers alike and counts for itself."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from tinytroupe.llm import ChatRequest, Origin
from tinytroupe.testing import DirectModel, LogNormal, MockLLM


def said(llm, person, call=0):
    request = ChatRequest([{"role": "user", "content": "Hello"}], origin=Origin("Town", person, call))
    return asyncio.run(DirectModel(llm).complete(request)).text


def test_a_copy_answers_alike_and_counts_for_itself():
    llm = MockLLM(seed=5, latency=LogNormal(0.001, 0.1), rpm=1000, models=("one", "two"))
    llm.when(person="Ann").reply_talk("I am Ann.")
    llm.strict = False
    first = [said(llm, "Ann"), said(llm, "Ben")]
    copy = pickle.loads(pickle.dumps(llm))
    assert (copy.seed, copy.rpm, copy.models, copy.strict) == (5, 1000, ("one", "two"), False)
    assert (copy.calls, llm.calls) == (0, 2)
    assert [said(copy, "Ann"), said(copy, "Ben")] == [first[0], said(MockLLM(seed=5), "Ben")]


def test_what_goes_to_whoever_asks_first_can_not_be_copied():
    with pytest.raises(TypeError, match="give it rules"):
        pickle.dumps(MockLLM().reply("once"))
