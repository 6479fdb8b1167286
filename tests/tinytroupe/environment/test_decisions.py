"""Decisions that hold on every scheduler: what a prompt begins with, the order of what happens, retries, chance."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import pytest

from tinytroupe import TinyPerson, TinySocialNetwork, VirtualClock, config_manager
from tinytroupe.llm.openai_model import OpenAIModel
from tinytroupe.runtime.clock import use_clock
from tinytroupe.testing import LogNormal, MockLLM, Reply

NAMES = ("Dora", "Ann", "Cid", "Bo", "Eve", "Fay")  # agent order is not that of the alphabet
STEPS = 6
every_scheduler = pytest.mark.parametrize("how", ["sequential", "parallel", "dependency"])


class Story:
    """A run of a ring of people, and what was asked and answered in it."""

    def __init__(self, how, *, latency_seed=0, seed=0, faults=()):
        self.asked = {name: [] for name in NAMES}
        with (
            VirtualClock() as clock,
            use_clock(clock),
            MockLLM(seed=latency_seed, latency=LogNormal(1.0, 1.0), strict=False) as mock,
            config_manager.override(seed=seed, loglevel="ERROR"),
        ):
            mock.when(endpoint="chat").reply(self.answer)
            for share, kind, details in faults:
                mock.fault_rate(share, kind, **details)
            model = OpenAIModel()
            self.world = TinySocialNetwork("Ring", [TinyPerson(name).define("age", 40) for name in NAMES], model=model)
            people = self.world.agents
            for one, other in zip(people, people[1:] + people[:1], strict=True):
                self.world.add_relation(one, other)
            self.world.run(STEPS, scheduler=how)
            self.elapsed_s = clock.now()
            self.calls = mock.calls
            self.in_use = clock.run(_in_use(model))

    def answer(self, call):
        self.asked[call.person].append([message["content"] for message in call.messages])
        said = hashlib.sha1(call.content.encode()).hexdigest()[:8]
        actions = [{"type": "TALK", "content": said, "target": ""}, {"type": "DONE", "content": "", "target": ""}]
        return Reply(json.dumps({"actions": actions, "cognitive_state": {}}))

    @property
    def state(self):
        return [
            {name: value for name, value in agent.encode_complete_state().items() if name not in ("usage", "calls")}
            for agent in self.world.agents
        ]

    @property
    def times(self):
        return [(one.person, one.step, one.started_s, one.finished_s) for one in self.world.timeline()]


async def _in_use(model):
    return model.gate.in_use, model.gate.waiting


@every_scheduler
def test_what_a_prompt_begins_with_never_changes_and_what_is_new_comes_at_its_end(how):
    story = Story(how)
    for prompts in story.asked.values():
        assert len(prompts) == STEPS
        assert len({system for system, _ in prompts}) == 1
        memories = [present.partition("# Now")[0].rstrip() for _, present in prompts]
        assert all(later.startswith(earlier) for earlier, later in pairwise(memories))
        assert memories[0] != memories[-1]


@every_scheduler
def test_what_happens_is_in_agent_order_whoever_is_faster(how):
    stories = [Story(how, latency_seed=seed) for seed in range(3)]
    assert len({story.elapsed_s for story in stories}) == 3
    assert all(story.state == stories[0].state and story.asked == stories[0].asked for story in stories)
    for agent in stories[0].world.agents:
        heard = [
            (memory.timestamp, NAMES.index(each["source"]))
            for memory in agent.episodic_memory.retrieve_all("stimulus")
            for each in memory.content["stimuli"]
        ]
        assert len(heard) == 2 * STEPS
        if how != "sequential":  # there, who acts later in a step has heard the earlier ones before that step's turn
            by_step = [heard[at : at + 2] for at in range(0, len(heard), 2)]
            assert all(two == sorted(two) for two in by_step)


@every_scheduler
def test_retries_wait_as_long_as_told_change_nothing_and_leave_no_slot_taken(how):
    faults = [(0.15, "rate_limit", {"retry_after_ms": 5000}), (0.1, "server_error", {}), (0.05, "reset", {})]
    calm, rough = Story(how), Story(how, faults=faults)
    metrics = rough.world.get_parallel_metrics()
    assert rough.state == calm.state
    assert metrics["retries"] > 3
    assert rough.calls == calm.calls + metrics["retries"]
    assert metrics["parallel_errors"] == 0
    assert rough.elapsed_s >= 5.0
    assert rough.in_use == (0, 0)


@every_scheduler
def test_chance_comes_from_the_seed_alone(how):
    faults = [(0.3, "server_error", {})]
    first, again, other = (Story(how, faults=faults, seed=seed) for seed in (1, 1, 2))
    assert first.times == again.times
    assert first.state == again.state == other.state
    assert first.times != other.times  # the jitter of retries
