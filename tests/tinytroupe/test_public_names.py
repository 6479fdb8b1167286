"""What can be imported from where is a promise: removing a name is a decision, not an accident. And it is cheap."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import pytest_tinytroupe
import tinytroupe

NAMES = {
    "pytest_tinytroupe": (),
    "pytest_tinytroupe.fixtures": ("make_world", "memory_monitor", "mock_llm", "troupe", "world"),
    "pytest_tinytroupe.instruments": (),
    "pytest_tinytroupe.report": (),
    "tinytroupe": (
        *("Action", "ChatModel", "CognitiveState", "ConfigError", "ModelError", "RefusalError", "ReplyError"),
        *("SimulationError", "TinyPerson", "TinySocialNetwork", "TinyWorld", "VirtualClock", "WallClock"),
        *("__version__", "config_manager", "run_many", "use_clock", "use_model"),
    ),
    "tinytroupe.agent": (
        *("Action", "CognitiveState", "CustomMentalFaculty", "DocumentError", "Faculty", "RecallFaculty"),
        *("ReplyError", "TinyMentalFaculty", "TinyPerson", "TinyToolUse"),
    ),
    "tinytroupe.agent.memory": (
        *("Batch", "Consolidation", "ConsolidationError", "ConsolidationMetrics", "Embedder", "EpisodicMemory"),
        *("FROM_SETTINGS", "Memory", "OMISSION", "SemanticMemory", "consolidate", "plain_text", "should_consolidate"),
    ),
    "tinytroupe.benchmarks": (
        *("BenchmarkResult", "MemoryResult", "SCENARIOS", "Scenario"),
        *("benchmark_with_config", "run_benchmark", "run_memory_benchmark"),
    ),
    "tinytroupe.control": (
        *("Simulation", "begin", "cache_hits", "cache_misses", "checkpoint", "current_simulation", "end", "reset"),
    ),
    "tinytroupe.engine": (
        *("Capacity", "DependencyScheduler", "EngineMetrics", "Histogram", "LowerBound", "ParallelScheduler"),
        *("Scheduler", "SequentialScheduler", "Turn", "TurnOutcome", "force_scheduler"),
    ),
    "tinytroupe.environment": (
        *("ActionEvent", "RayTasks", "SimulationError", "StepEvent", "TinySocialNetwork", "TinyWorld"),
        *("WorldRun", "run_many", "run_many_async"),
    ),
    "tinytroupe.environment.shards": (
        *("Inbox", "Letter", "LocalBackend", "Outbox", "RayBackend", "Settlement", "ShardBackend", "ShardError"),
        "ShardSpec",
    ),
    "tinytroupe.examples": (
        *("create_lila_the_linguist", "create_lisa_the_data_scientist", "create_marcos_the_physician"),
        *("create_oscar_the_architect", "persona", "persona_specs", "personas", "troupe"),
    ),
    "tinytroupe.extraction": ("ArtifactExporter", "ExtractionError", "ResultsExtractor", "ResultsReducer"),
    "tinytroupe.factory": ("FactoryError", "TinyPersonFactory"),
    "tinytroupe.llm": (
        *("ChatModel", "ChatReply", "ChatRequest", "ModelError", "Origin", "RefusalError", "ReplySchema", "Usage"),
        *("current_model", "default_model", "model_in_use", "use_model"),
    ),
    "tinytroupe.monitoring": (
        *("Alert", "HighWaterMark", "MemoryMonitor", "MemoryProfiler", "MemorySnapshot", "TimelineSampler"),
        "rss_bytes",
    ),
    "tinytroupe.runtime": (),
    "tinytroupe.steering": ("Intervention", "InterventionBatch", "InterventionError", "intervene"),
    "tinytroupe.testing": (
        *("Call", "Constant", "DirectModel", "Fault", "LogNormal", "MockLLM", "NetworkBlockedError", "PerToken"),
        *("Recorded", "Recorder", "RecordingError", "Reply", "Traffic", "Uniform", "network_guard"),
        *("parse_latency", "run_server"),
    ),
    "tinytroupe.tools": (
        *("CalendarEvent", "Document", "TinyCalendar", "TinyTool", "TinyToolUse", "TinyWordProcessor", "ToolError"),
    ),
    "tinytroupe.visualization": ("MemoryVisualizer", "safe_file_name"),
}
# Fixtures are exported through the plugin, under the names that tests ask for.
UNLISTED = {"pytest_tinytroupe.fixtures"}

HEAVY = (
    "openai",
    "pydantic",
    "jinja2",
    "psutil",
    "respx",
    "aiohttp",
    "httpx",
    "httpx2",
    "anyio",
    "json_repair",
    "numpy",
)


@pytest.mark.parametrize("module", sorted(NAMES.keys() - UNLISTED))
def test_the_names_of_a_package_are_these(module):
    assert sorted(getattr(importlib.import_module(module), "__all__", ())) == sorted(NAMES[module])


@pytest.mark.parametrize("module", sorted(NAMES))
def test_every_name_is_there_and_listed(module):
    found = importlib.import_module(module)
    for name in NAMES[module]:
        assert getattr(found, name) is not None
        assert name in dir(found)


@pytest.mark.parametrize("module", ["tinytroupe", "tinytroupe.testing", "tinytroupe.examples"])
def test_a_name_that_is_not_there_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = importlib.import_module(module).Nonsense


def test_every_package_is_pinned():
    packages = {
        f"{outer.__name__}.{module.name}"
        for outer in (tinytroupe, pytest_tinytroupe)
        for module in pkgutil.iter_modules(outer.__path__)
        if module.ispkg
    }
    assert packages <= NAMES.keys()


@pytest.mark.parametrize("module", sorted(NAMES.keys() - UNLISTED))
def test_public_classes_and_functions_say_what_they_are(module):
    found = importlib.import_module(module)
    for name in NAMES[module]:
        value = getattr(found, name)
        if isinstance(value, type) or callable(value):
            assert (value.__doc__ or "").strip(), f"{module}.{name} has no docstring"


def fresh(program):
    """Run a program in an interpreter of its own and return what it prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "module", ["tinytroupe", "tinytroupe.config", "tinytroupe.testing", "pytest_tinytroupe.plugin"]
)
def test_importing_loads_nothing_heavy(module):
    program = f"import sys, {module}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    assert fresh(program) == "[]\n"


def test_the_plugin_does_not_load_the_simulation_before_a_test_asks_for_it():
    program = (
        "import sys, pytest_tinytroupe.plugin\nprint(sorted(n for n in sys.modules if n.startswith('tinytroupe')))"
    )
    assert fresh(program) == "[]\n"


def test_people_and_worlds_do_without_the_client_until_they_are_run():
    program = (
        "import sys\n"
        "from tinytroupe import TinyPerson, TinyWorld, config_manager\n"
        "config_manager.set('max_workers', 4)\n"
        "TinyWorld('Town', [TinyPerson('Ann').define('age', 40).listen('Hello')]).make_everyone_accessible()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert fresh(program) == "[]\n"


def test_importing_everything_changes_nothing_outside():
    """No handler, no thread, no output, no file."""
    modules = sorted(name for name in NAMES if name != "pytest_tinytroupe.fixtures")
    program = (
        "import importlib, logging, threading, warnings\n"
        "before = (logging.getLogger().handlers[:], logging.getLogger().level, threading.active_count())\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert before == (logging.getLogger().handlers, logging.getLogger().level, threading.active_count())\n"
        "assert logging.getLogger('tinytroupe').handlers == []\n"
    )
    assert fresh(program) == ""
