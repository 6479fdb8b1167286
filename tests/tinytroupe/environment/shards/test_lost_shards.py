"""A shard that is lost at any time and begins anew with its journal lives on as it would have: all of it but Ray."""

from __future__ import annotations

import pickle
import random
from contextlib import ExitStack
from dataclasses import replace

import pytest
from lives import SETTINGS, Chatty, graph, lived, world_of

from tinytroupe import TinyPerson, TinyWorld
from tinytroupe.config import config_manager
from tinytroupe.environment import SimulationError
from tinytroupe.environment.shards.host import Host, HostSpec, LostHistoryError, Past, digest_of, pack, unpacked
from tinytroupe.llm import ModelError
from tinytroupe.llm.asking import ReplyError
from tinytroupe.llm.journal import current_journal
from tinytroupe.llm.shard_journal import ShardJournals
from tinytroupe.testing import DirectModel, MockLLM


class Perilous:
    """Hosts in this process, which get their post as bytes and are lost now and then before they are asked."""

    def __init__(self, seed, losses=0.5):
        self.chance, self.losses, self.lost = random.Random(seed), losses, 0

    async def start(self, specs):
        self.open = ExitStack()
        self.journals = self.open.enter_context(ShardJournals(current_journal()).under_way())
        self.bases = [pickle.dumps(replace(spec, model=None)) for spec in specs]
        self.model = specs[0].model
        self.past = [[] for _ in specs]
        self.hosts = [self.host(shard) for shard in range(len(specs))]

    def host(self, shard):
        host = Host(HostSpec(None, self.journals.part(shard)), self.bases[shard])
        host._shard._world.model = self.model  # a copy of the mock would count calls for itself
        return host

    async def may_be_lost(self, shard):
        if self.chance.random() < self.losses:
            await self.hosts[shard].leave()
            self.hosts[shard] = self.host(shard)
            await self.hosts[shard].relive(self.past[shard], len(self.past[shard]))
            self.lost += 1

    async def step(self, shard, inbox):
        await self.may_be_lost(shard)
        sent = pack(inbox)
        outbox = unpacked(await self.hosts[shard].step(len(self.past[shard]) + 1, sent))
        self.past[shard].append(Past(sent, outbox.left_out, digest_of(outbox.outcomes)))
        self.journals.count(outbox.hits, outbox.misses)
        return outbox

    async def snapshot(self, shard, settlement):
        await self.may_be_lost(shard)
        number = len(self.past[shard])
        return pickle.loads(await self.hosts[shard].snapshot(number, pack(None), pack(settlement)))

    async def stop(self):
        for host in self.hosts:
            await host.leave()
        self.open.close()


def left(seed, path, **options):
    with MockLLM(seed=seed) as llm, config_manager.override(**SETTINGS):
        llm.when(endpoint="chat").reply(Chatty(seed, graph(seed)[0], 0.1 * (seed % 2)))
        llm.fault_rate(0.05, "overloaded" if seed % 4 == 1 else 429)
        world = world_of(seed, DirectModel(llm), network=seed % 4 != 0)
        return lived(world, path, times=False, **options)


@pytest.mark.parametrize("seed", range(20))
def test_whoever_is_lost_lives_on_as_before(tmp_path, seed):
    whole = left(seed, tmp_path / "whole", scheduler="parallel")
    perilous = Perilous(seed)
    parts = left(seed, tmp_path / "parts", backend=perilous, shards=3)
    assert perilous.lost
    assert parts == whole


def test_a_past_that_is_not_on_record_is_never_made_up(tmp_path):
    class Forgetful(Perilous):
        """Loses the journal with the host."""

        async def may_be_lost(self, shard):
            if len(self.past[shard]) == 2:
                await self.hosts[shard].leave()
                self.journals.part(shard).path.unlink()
                self.hosts[shard] = self.host(shard)
                await self.hosts[shard].relive(self.past[shard], 2)

    with pytest.raises(LostHistoryError, match="its journal does not hold all that it had asked"):
        left(2, tmp_path / "parts", backend=Forgetful(2), shards=2)


def test_errors_come_from_a_host_as_what_they_are():
    with MockLLM(seed=1) as llm, config_manager.override(max_reply_repairs=0):
        llm.when(person="Ann").reply("no turn")
        llm.when(person="Ben").fail(status=503)
        llm.when(endpoint="chat").reply({"actions": [{"type": "DONE"}]})
        world = TinyWorld("Town", [TinyPerson(name) for name in ("Ann", "Ben", "Cid")], model=DirectModel(llm))
        world.run(1, backend=Perilous(1), shards=2)
        ann, ben, cid = world.timeline()
        assert (type(ann.error), type(ben.error), cid.error) == (ReplyError, ModelError, None)
        assert ann.error.raw == "no turn"
        assert (ben.error.transient, ben.error.status) == (True, 503)
        assert "Traceback" in str(ann.error.__cause__)
        world.on_error = "raise"
        with pytest.raises(SimulationError, match=r"the turn of (Ann failed: Ann could not act|Ben failed: )"):
            world.run(1, backend=Perilous(1), shards=2)
