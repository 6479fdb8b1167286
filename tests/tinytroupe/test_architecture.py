"""The house: who may import whom, which library lives in which room, who may look at the clock, how big a module is.

Read from the import statements; those under ``TYPE_CHECKING`` cost nothing and tie nothing, and do not count.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("tinytroupe", "pytest_tinytroupe") for path in (ROOT / package).rglob("*.py"))

# From the ground up: a room may import rooms that stand further left.
CORE = ("_version", "config", "runtime", "llm", "agent", "engine", "environment")
# On top of the core, which all of them may use: what each may use besides.
ON_TOP = {
    "control": set(),
    "monitoring": set(),
    "testing": set(),
    "extraction": set(),
    "visualization": {"monitoring"},
    "factory": {"extraction"},
    "tools": {"extraction"},
    "steering": {"extraction"},
    "examples": {"testing", "extraction", "factory", "steering", "tools", "control"},
    "benchmarks": {"monitoring", "testing", "examples", "visualization"},
    "cli": {"monitoring", "testing", "examples", "visualization", "benchmarks", "control"},
}
PLUGIN = "pytest_tinytroupe"

HOMES = {
    "aiohttp": {"tinytroupe/testing"},
    "anyio": {"tinytroupe/runtime/clock.py"},
    "httpx": {"tinytroupe/llm/transport.py", "tinytroupe/testing"},
    "httpx2": {"tinytroupe/llm/transport.py", "tinytroupe/testing"},
    "jinja2": {"tinytroupe/agent/prompt.py", "tinytroupe/visualization", "pytest_tinytroupe/report"},
    "json_repair": {
        "tinytroupe/agent/action.py",
        "tinytroupe/agent/memory/consolidation.py",
        "tinytroupe/llm/asking.py",
    },
    "numpy": {"tinytroupe/agent/memory"},
    "docx": {"tinytroupe/agent/documents.py"},
    "pypdf": {"tinytroupe/agent/documents.py"},
    "openai": {"tinytroupe/llm/openai_model.py", "tinytroupe/llm/transport.py", "tinytroupe/llm/failures.py"},
    "psutil": {"tinytroupe/monitoring/process_memory.py"},
    "pydantic": {"tinytroupe/extraction"},
    "pydantic_core": {"tinytroupe/extraction"},
    "respx": {"tinytroupe/testing"},
    "memray": {"pytest_tinytroupe/instruments/flame.py"},
    "rich": {"tinytroupe/agent/display.py"},
    "genai_prices": {"tinytroupe/llm/prices.py"},
    "opentelemetry": {"tinytroupe/runtime/telemetry.py"},
    "typing_extensions": {"tinytroupe/extraction"},
    "pytest": {"pytest_tinytroupe"},
    "_pytest": {"pytest_tinytroupe/_pytest_private.py"},
    "xdist": {"pytest_tinytroupe/xdist.py"},
}

TIME = {
    # Where time comes from, and where real time is what is measured.
    "tinytroupe/runtime/clock.py": {"monotonic"},
    "tinytroupe/monitoring/memory_monitor.py": {"monotonic"},
    "tinytroupe/monitoring/memory_profiler.py": {"perf_counter"},
    "tinytroupe/monitoring/process_memory.py": {"monotonic"},
    "tinytroupe/benchmarks/runner.py": {"perf_counter"},
    "pytest_tinytroupe/instruments/exact.py": {"perf_counter"},
    "pytest_tinytroupe/perf.py": {"perf_counter"},
    "pytest_tinytroupe/versus.py": {"perf_counter"},
    "pytest_tinytroupe/instruments/timed.py": {"perf_counter"},
    # Waits for other processes.
    "pytest_tinytroupe/measuring_lock.py": {"monotonic", "sleep"},
    "pytest_tinytroupe/fresh.py": {"monotonic"},
    "pytest_tinytroupe/fresh_child.py": {"sleep"},
    # A server's Retry-After may be a date, and the server may not send its own.
    "tinytroupe/llm/failures.py": {"time"},
    # When a report was written.
    "pytest_tinytroupe/gate.py": {"datetime.now"},
    # Synchronous clients, and real servers between which it stands, know no other time.
    "tinytroupe/testing/proxy.py": {"monotonic"},
    "tinytroupe/testing/tap.py": {"monotonic"},
    "tinytroupe/testing/brain.py": {"monotonic", "sleep"},
    "tinytroupe/testing/interception.py": {"sleep"},
}

MOST_LINES = 400
LARGER = {
    "tinytroupe/agent/tiny_person.py": 500,
    "tinytroupe/environment/tiny_world.py": 520,
}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path):
    return ast.parse(path.read_text("utf-8"))


@cache
def parent_of(path):
    """Return the node around each node of a file."""
    return {child: node for node in ast.walk(tree(path)) for child in ast.iter_child_nodes(node)}


@cache
def imports(path):
    """Return the dotted names a file imports, with the line of each."""
    uncounted = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree(path)):
        if id(node) in uncounted:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            # "from tinytroupe import control" names a room as well as "from tinytroupe.control import begin" does.
            whole = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "tinytroupe" else []
            found += [(name, node.lineno) for name in whole or [node.module]]
    return found


def room_of(dotted):
    """Return the room of a dotted name of ours; names at the top of the package belong to no room."""
    package, _, rest = dotted.partition(".")
    if package == PLUGIN:
        return PLUGIN
    room = rest.partition(".")[0]
    return room if room in CORE or room in ON_TOP else ""


def home_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return PLUGIN if parts[0] == PLUGIN else room_of(".".join(parts))


def ours():
    for path in FILES:
        for dotted, line in imports(path):
            if dotted.split(".")[0] in ("tinytroupe", PLUGIN):
                yield path, dotted, line


def test_every_room_is_known():
    core = ROOT / "tinytroupe"
    rooms = {path.relative_to(core).parts[0].removesuffix(".py") for path in FILES if path.is_relative_to(core)}
    assert rooms - {"__init__"} <= {*CORE, *ON_TOP}


def test_arrows_point_one_way():
    wrong = []
    for path, dotted, line in ours():
        home, room = home_of(path), room_of(dotted)
        if home in (PLUGIN, room) or not room or not home:
            # The plugin may use all of the core; within a room everything may use everything.
            allowed = room != PLUGIN or home == PLUGIN
        elif home in CORE:
            allowed = room in CORE and CORE.index(room) < CORE.index(home)
        else:
            allowed = room in CORE or room in ON_TOP[home]
        if not allowed:
            wrong.append(f"{name_of(path)}:{line}: {home} must not import {dotted}")
    assert wrong == []


def test_no_room_is_part_of_a_circle():
    arrows = {}
    for path, dotted, _ in ours():
        home, room = home_of(path), room_of(dotted)
        if home and room and home != room:
            arrows.setdefault(home, set()).add(room)
    TopologicalSorter(arrows).prepare()


def test_no_module_is_part_of_a_circle_of_imports_at_its_top():
    known = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
    arrows = {}
    for name, path in known.items():
        top = {node.lineno for node in tree(path).body if isinstance(node, (ast.Import, ast.ImportFrom))}
        for dotted, line in imports(path):
            if line in top and dotted in known and known[dotted].name != "__init__.py":
                arrows.setdefault(name, set()).add(dotted)
    TopologicalSorter(arrows).prepare()


def test_the_core_knows_nothing_of_pytest():
    for path, dotted, line in ours():
        if path.is_relative_to(ROOT / "tinytroupe"):
            assert not dotted.startswith(PLUGIN), f"{name_of(path)}:{line}"
    assert all(
        dotted.split(".")[0] not in ("pytest", "_pytest")
        for path in FILES
        if path.is_relative_to(ROOT / "tinytroupe")
        for dotted, _ in imports(path)
    )


def test_each_library_lives_in_its_rooms():
    wrong = []
    for path in FILES:
        for dotted, line in imports(path):
            library = dotted.split(".")[0]
            if library in sys.stdlib_module_names or library in ("tinytroupe", PLUGIN, "__future__"):
                continue
            homes = HOMES.get(library, set())
            if not any(name_of(path) == home or name_of(path).startswith(f"{home}/") for home in homes):
                wrong.append(f"{name_of(path)}:{line}: {library} belongs in {sorted(homes) or 'no room'}")
    assert wrong == []


def test_ray_is_imported_only_when_it_is_asked_for():
    """By name, inside a function, in one module: whoever has not installed the extra notices nothing of it."""
    named = {
        name_of(path)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.value == "ray" or re.fullmatch(r"ray(\.\w+)+", node.value))
        and isinstance(parent_of(path).get(node), ast.Call)
        and "import_module" in ast.unparse(parent_of(path)[node].func)
    }
    direct = {name_of(path) for path in FILES for dotted, _ in imports(path) if dotted.split(".")[0] == "ray"}
    assert (named, direct) == ({"tinytroupe/runtime/cluster.py"}, set())


def test_time_is_read_only_where_it_comes_from():
    """What waits or reads the time waits on the loop's time, or its tests would take as long as it does."""
    reads = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"}
    found = {}
    for path in FILES:
        if name_of(path) == "tinytroupe/cli.py" or path.is_relative_to(ROOT / "tinytroupe" / "examples"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                found.setdefault(name_of(path), set()).update(alias.name for alias in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "time" and node.attr in reads:
                    found.setdefault(name_of(path), set()).add(node.attr)
                if node.value.id in ("datetime", "date") and node.attr in ("now", "utcnow", "today"):
                    found.setdefault(name_of(path), set()).add(f"{node.value.id}.{node.attr}")
    assert {path: names - TIME.get(path, set()) for path, names in found.items() if names - TIME.get(path, set())} == {}


def test_nothing_prints_but_what_is_meant_to():
    printing = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    allowed = (
        *("tinytroupe/cli.py", "tinytroupe/benchmarks/command.py", "tinytroupe/examples/"),
        "tinytroupe/monitoring/memory_profiler.py",
    )
    assert [place for place in printing if not place.startswith(allowed)] == []


@pytest.mark.parametrize("module", ["random", "numpy.random"])
def test_chance_comes_from_seeded_generators(module):
    """No module draws from the process's own generator, whose order depends on who comes first."""
    drawing = {"random", "choice", "choices", "shuffle", "uniform", "randint", "sample", "gauss", "lognormvariate"}
    wrong = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == module and node.attr in drawing
    ]
    assert wrong == []


def test_modules_are_small():
    lines = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > LARGER.get(name, MOST_LINES)} == {}
