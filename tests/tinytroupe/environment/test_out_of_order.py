"""Without barriers: the same results as with them, to the last memory, and never later."""

from __future__ import annotations

import hashlib
import random
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinytroupe.agent import TinyPerson
from tinytroupe.config import config_manager
from tinytroupe.environment import TinySocialNetwork
from tinytroupe.runtime.clock import VirtualClock, use_clock
from tinytroupe.testing import DirectModel, LogNormal, MockLLM

NAMES = [f"P{number}" for number in range(12)]


def chatty(seed, faults=0.0):
    """What people do: decided by who they are, by how often they were asked, and by what they were told."""

    def answer(call):
        if call.schema_name != "turn":
            return {"summary": f"{call.person} {hashlib.sha1(call.content.encode()).hexdigest()}", "key_facts": []}
        rng = random.Random(f"{seed}/{call.person}/{call.content}")
        if rng.random() < faults:
            return "this is no turn"
        kinds = rng.choices(("TALK", "TALK", "REACH_OUT", "THINK"), k=rng.randrange(4))
        actions = [
            {"type": kind, "content": f"{rng.random()}", "target": rng.choice(["", "Nobody", *NAMES])} for kind in kinds
        ]
        return {"actions": [*actions, {"type": "DONE", "content": "", "target": ""}], "cognitive_state": {}}

    return answer


class Noting(DirectModel):
    """Notes what it is asked, and as whose and which call: what a journal knows exchanges by."""

    def __init__(self, llm):
        super().__init__(llm)
        self.asked = []

    async def complete(self, request):
        origin = request.origin
        text = "".join(message["content"] for message in request.messages)
        self.asked.append((origin.simulation, origin.person, origin.call, text))
        return await super().complete(request)


def lived(how, edges, seed, *, people=6, steps=4, sigma=1.0, faults=0.0, prepare=None, **options):
    """Return everything that a run leaves behind but its times, and the world and its clock's time beside it."""
    options = {"auto_consolidation_threshold": 9, "max_episodic_memory_size": 12, **options}
    with (
        VirtualClock() as clock,
        use_clock(clock),
        MockLLM(seed=seed, latency=LogNormal(1.0, sigma)) as llm,
        config_manager.override(**options),
    ):
        llm.when(endpoint="chat").reply(chatty(seed, faults))
        model = Noting(llm)
        world = TinySocialNetwork("Net", [TinyPerson(name) for name in NAMES[:people]], model=model)
        for one, other in edges:
            world.add_relation(world.agents[one], world.agents[other])
        if prepare is not None:
            prepare(world)
        actions = world.run(steps, timedelta(hours=1), True, scheduler=how)
        metrics = world.get_parallel_metrics()
        left = {
            "state": world.encode_complete_state(),
            "asked": sorted(model.asked),
            "actions": actions,
            "usage": world.usage_by_agent(),
            "counts": {name: metrics[name] for name in COUNTED},
            "turns": [(o.step, o.person, o.status, o.actions, o.usage, str(o.error)) for o in world.timeline()],
        }
        return left, world, clock.now()


COUNTED = ("total_parallel_steps", "parallel_errors", "parallel_timeouts", "model_calls", "tokens", "retries")

graphs = st.integers(2, 7).flatmap(
    lambda people: st.tuples(
        st.just(people),
        st.sets(st.tuples(st.integers(0, people - 1), st.integers(0, people - 1)).filter(lambda e: e[0] < e[1])),
    )
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(graphs, st.integers(0, 1000), st.sampled_from([0, 1, 50]), st.none() | st.integers(1, 3), st.booleans())
def test_everything_is_as_with_a_barrier(graph, seed, steps_ahead, workers, faulty):
    people, edges = graph
    options = {"people": people, "faults": 0.1 * faulty, "max_steps_ahead": steps_ahead, "max_workers": workers}
    barrier, _, barrier_s = lived("parallel", edges, seed, **options)
    ahead, world, ahead_s = lived("dependency", edges, seed, **options)
    assert ahead == barrier
    assert world.get_parallel_metrics()["efficiency"] <= 1 + 1e-9
    if workers is None:
        assert ahead_s <= barrier_s + 1e-9
