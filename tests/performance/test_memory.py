"""What a long run may hold in memory."""

from __future__ import annotations

import pytest

from tinytroupe import config_manager


@pytest.mark.perf(max_heap_mb=24, max_peak_memory_mb=500)
def test_memory_of_a_long_run_is_bounded(make_world, mock_llm, memory_monitor):
    world = make_world(agents=10)
    for agent in world.agents:
        agent.episodic_memory.max_size = 100
    world.run(steps=100)
    for agent in world.agents:
        assert agent.episodic_memory.get_memory_stats()["total_size"] <= 100


@pytest.mark.perf(max_heap_mb=24, max_llm_calls=430)
def test_consolidation_keeps_pace(make_world, mock_llm, memory_monitor):
    with config_manager.override(auto_consolidation_threshold=40):
        world = make_world(agents=5)
        world.run(steps=80)
    for agent in world.agents:
        assert agent.get_consolidation_metrics()["automatic"] >= 1
        assert len(agent.episodic_memory.memory) <= 60
