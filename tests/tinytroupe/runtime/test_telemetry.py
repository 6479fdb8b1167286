"""What OpenTelemetry is told of a run: in interpreters of their own, since its providers can be set only once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

RUN = """
import sys
from tinytroupe import TinyPerson, TinyWorld, VirtualClock, config_manager
from tinytroupe.agent import TinyToolUse
from tinytroupe.testing import MockLLM
from tinytroupe.tools import TinyCalendar

TURN = {"actions": [
    {"type": "CREATE_EVENT", "content": '{"title": "Tea", "date": "2026-01-05"}', "target": ""},
    {"type": "DONE", "content": "", "target": ""}], "cognitive_state": {}}
with VirtualClock() as clock, MockLLM(latency=2.0, strict=False) as mock, config_manager.override(max_attempts=2):
    mock.when(person="Bo", endpoint="chat").fail("server_error", retry_after_ms=1000)
    mock.when(schema="turn").reply(TURN)
    mock.when(schema="consolidation").reply({"summary": "Somebody called.", "key_facts": []})
    ann, bo = TinyPerson("Ann"), TinyPerson("Bo")
    ann.add_mental_faculties([TinyToolUse([TinyCalendar()])])
    ann.semantic_memory.store("Tea is served at five.")
    ann.listen("Hello").listen("Are you there?")
    with config_manager.override(auto_consolidation_threshold=2):
        TinyWorld("Town", [ann, bo], clock=clock).run(1)
"""

LISTENED = (
    """
import json
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))
"""
    + RUN
    + """
found = spans.get_finished_spans()
names = {span.context.span_id: span.name for span in found}
points = [
    (metric.name, metric.unit, dict(point.attributes), point.count, point.sum, list(point.explicit_bounds))
    for resource in reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics for metric in scope.metrics for point in metric.data.data_points
]
print(json.dumps({
    "spans": [
        (span.name, span.parent and names[span.parent.span_id], span.kind.name, span.status.status_code.name,
         {key: value if isinstance(value, (str, int)) else list(value) for key, value in span.attributes.items()})
        for span in found],
    "points": points}))
"""
)


def printed(program):
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def told():
    pytest.importorskip("opentelemetry.sdk")
    return json.loads(printed(LISTENED))


@pytest.fixture(scope="module")
def spans(told):
    return {(name, parent): (kind, status, attributes) for name, parent, kind, status, attributes in told["spans"]}


def test_a_run_is_a_tree_of_spans(told, spans):
    assert sorted(spans, key=str) == sorted(
        [
            ("invoke_workflow Town", None),
            ("invoke_agent Ann", "invoke_workflow Town"),
            ("invoke_agent Bo", "invoke_workflow Town"),
            ("update_memory", "invoke_agent Ann"),
            ("chat gpt-5-mini", "update_memory"),
            ("search_memory", "invoke_agent Ann"),
            ("embeddings text-embedding-3-small", "search_memory"),
            ("chat gpt-5-mini", "invoke_agent Ann"),
            ("chat gpt-5-mini", "invoke_agent Bo"),
            ("execute_tool CREATE_EVENT", "invoke_workflow Town"),
        ],
        key=str,
    )
    assert len(told["spans"]) == len(spans)


def test_spans_say_who_asked_whom_and_what_it_cost(spans):
    kind, status, chat = spans["chat gpt-5-mini", "invoke_agent Ann"]
    assert (kind, status) == ("CLIENT", "UNSET")
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.provider.name"] == "openai"
    assert chat["gen_ai.request.model"] == chat["gen_ai.response.model"] == "gpt-5-mini"
    assert chat["gen_ai.response.finish_reasons"] == ["stop"]
    assert (chat["server.address"], chat["server.port"]) == ("api.openai.com", 443)
    assert chat["gen_ai.usage.input_tokens"] > 0 < chat["gen_ai.usage.output_tokens"]
    _, _, agent = spans["invoke_agent Ann", "invoke_workflow Town"]
    assert agent["gen_ai.agent.name"] == "Ann"
    assert (agent["tinytroupe.world"], agent["tinytroupe.step"]) == ("Town", 0)
    _, _, tool = spans["execute_tool CREATE_EVENT", "invoke_workflow Town"]
    assert (tool["gen_ai.tool.name"], tool["gen_ai.agent.name"]) == ("calendar", "Ann")


def test_a_failure_is_the_call_s_and_the_turn_s_and_not_the_run_s(spans):
    for name, parent in [("chat gpt-5-mini", "invoke_agent Bo"), ("invoke_agent Bo", "invoke_workflow Town")]:
        _, status, attributes = spans[name, parent]
        assert (status, attributes["error.type"]) == ("ERROR", "500")
    assert spans["invoke_workflow Town", None][1] == "UNSET"


def test_nobody_s_words_are_told(told):
    assert "Hello" not in json.dumps(told)
    assert "served at five" not in json.dumps(told)


def test_metrics_have_the_conventional_names_units_and_bounds(told):
    figures = {}
    for name, unit, attributes, count, total, bounds in told["points"]:
        which = attributes.get("gen_ai.agent.name", ""), attributes.get("gen_ai.token.type", "")
        kind = attributes["gen_ai.operation.name"], attributes.get("error.type", "")
        figures[(name, *kind, *which)] = (unit, count, pytest.approx(total), bounds[:3])
        assert attributes.get("gen_ai.provider.name", "openai") == "openai"
    seconds = [0.01, 0.02, 0.04]
    # The clock is virtual: two seconds a call are two seconds, to the last digit.
    calls = "gen_ai.client.operation.duration"
    assert figures[calls, "chat", "", "", ""] == ("s", 2, 4.0, seconds)
    assert figures[calls, "embeddings", "", "", ""] == ("s", 1, 2.0, seconds)
    assert figures[calls, "chat", "500", "", ""][:2] == ("s", 1)
    assert figures["gen_ai.invoke_agent.duration", "invoke_agent", "", "Ann", ""] == ("s", 1, 4.0, seconds)
    assert figures["gen_ai.workflow.duration", "invoke_workflow", "", "", ""][:2] == ("s", 1)
    tokens = "gen_ai.client.token.usage"
    assert figures[tokens, "chat", "", "", "input"][:2] == ("{token}", 2)
    assert figures[tokens, "chat", "", "", "output"][3] == [1, 4, 16]
    assert {name for name, *_ in figures} == {
        *(calls, tokens, "gen_ai.invoke_agent.duration", "gen_ai.workflow.duration")
    }


def test_without_a_listener_it_is_not_even_imported():
    asked = "\nprint([name for name in sys.modules if name.startswith('opentelemetry')])"
    assert printed(RUN + asked) == "[]\n"
