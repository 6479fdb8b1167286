"""What the panel may cost: run with ``pytest --perf``, skipped without."""

import pytest
from price_panel import ask_panel

# What Python's heap holds also hangs on the versions of the libraries, which this sample does not pin.
pytestmark = pytest.mark.perf(tolerance={"heap_mb": 0.25})


@pytest.mark.perf(min_speedup=5.0, min_efficiency=1.0, max_llm_calls=16)
def test_eight_people_answer_at_once(world, mock_llm, troupe, memory_monitor):
    mock_llm.latency = 1.0
    world.add_agents(troupe(8)).make_everyone_accessible()

    ask_panel(world, "What would you pay for a kettle that knows when you wake up?")

    assert not memory_monitor.get_alerts(), "nobody's memory comes near its bound"


@pytest.mark.perf(max_time_s=10.0, max_heap_mb=20)
def test_a_long_discussion_stays_bounded(world, mock_llm, troupe, perf):
    mock_llm.latency = 0.2
    world.add_agents(troupe(4)).make_everyone_accessible()

    said = ask_panel(world, "What would you pay for a kettle?", rounds=40)

    perf.record("sentences", sum(map(len, said.values())), better="higher")
