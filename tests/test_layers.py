"""
Who may import what, and who may touch the world: the architecture, held as data and read from the source.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
SOURCE = PROJECT / "recorder"

LAYERS = {
    "base": ("__init__", "records", "errors", "clock", "durable", "redaction"),
    "venue": ("venue.*",),
    "config": ("config", "config_ops", "config_streams", "config_values"),
    "journal": ("journal.*",),
    "quality": ("quality.*",),
    "capture": ("capture.*",),
    "lake": ("lake.*",),
    "status": ("status.*",),
    "analysis": ("analysis.*",),
    "simulator": ("simulator.*",),
    "export": ("export.*",),
    "history": ("history.*",),
    "report": ("report.*",),
    "page": ("page.*",),
    "daemon": ("daemon.*",),
    "verbs": ("check", "demo", "logs", "owner", "show", "show_quality", "show_status", "terminal", "timeline", "top"),
    "cli": (
        "cli",
        "cli_check",
        "cli_export",
        "cli_quality",
        "cli_replay",
        "cli_report",
        "cli_retention",
        "cli_seal",
        "cli_serve",
        "cli_simulate",
        "cli_status",
        "__main__",
    ),
}
"""Every module is in one layer; what verbs of the command line need a file for is in `verbs`."""

EVERYTHING_BELOW = {
    "base",
    "venue",
    "config",
    "journal",
    "quality",
    "capture",
    "lake",
    "status",
    "analysis",
    "simulator",
    "export",
    "history",
    "report",
}
MAY_IMPORT = {
    "base": {"base"},
    "venue": {"base", "venue"},
    "config": {"base", "venue", "quality", "config"},
    "journal": {"base", "journal"},
    "quality": {"base", "venue", "quality"},
    "capture": {"base", "venue", "journal", "quality", "capture"},
    "lake": {"base", "venue", "journal", "quality", "lake"},
    "status": {"base", "venue", "journal", "quality", "lake", "status"},
    "analysis": {"base", "venue", "quality", "lake", "analysis"},
    "simulator": {"base", "venue", "simulator"},
    "export": {"base", "venue", "journal", "lake", "analysis", "export"},
    "history": {"base", "venue", "journal", "lake", "analysis", "simulator", "history"},
    "report": {"base", "venue", "quality", "lake", "analysis", "report"},
    "page": {"base", "venue", "journal", "quality", "lake", "analysis", "page"},
    "daemon": {*EVERYTHING_BELOW, "daemon"},
    "verbs": {*EVERYTHING_BELOW, "daemon", "verbs"},
    "cli": {*EVERYTHING_BELOW, "daemon", "page", "verbs", "cli"},
}

PURE = (
    "venue.*",
    "quality.*",
    "capture.session",
    "capture.placement",
    "journal.entry",
    "journal.names",
    "lake.schema",
    "lake.layout",
    "lake.plan",
    "lake.removal",
    "status.report",
    "status.markets",
)
IMPURE_MODULES = {"asyncio", "time", "os", "socket", "threading", "subprocess", "signal", "select", "secrets"}
ASK_THE_TIME = {"clock", "durable"}
"""`durable` sleeps between its tries for a lock; everybody else asks `clock`."""
START_JOBS_NOW = {"daemon.jobs"}
"""Its scheduler runs by the wall clock, so it is told to start a job by that."""
CHANGE_THE_DISK = {"durable"}
SYNCING = {"fsync", "fdatasync", "rename", "renames"}


def modules() -> dict[str, ast.Module]:
    """
    Every module below `recorder/` by its dotted name there.
    """
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


MODULES = modules()


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """
    Whether a module is one of those, or in one of those packages.
    """
    return any(name == p or (p.endswith(".*") and (name + ".").startswith(p[:-1])) for p in patterns)


def layer_of(name: str) -> str | None:
    """
    Of a module, by its dotted name below `recorder`.
    """
    return next((layer for layer, patterns in LAYERS.items() if matches(name, patterns)), None)


def resolved(name: str) -> str:
    """
    The module that an imported dotted name belongs to: itself, its package, or the module that defines it.
    """
    while name and name not in MODULES and f"{name}.__init__" not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """
    (line, dotted name) of everything a module imports, wherever it stands in it.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            assert node.module is not None
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def ours(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """
    (line, module) of what a module imports of this project.
    """
    for line, name in imports(tree):
        if name.split(".")[0] == "recorder":
            yield line, resolved(name.partition(".")[2])


def foreign(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """
    (line, top-level package) of what a module imports of others.
    """
    for line, name in imports(tree):
        if name.split(".")[0] != "recorder":
            yield line, name.split(".")[0]


def calls_of(tree: ast.Module, owner: str) -> Iterator[tuple[int, str]]:
    """
    (line, name) of each use of `owner.name`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == owner:
            yield node.lineno, node.attr


def test_every_module_has_a_layer():
    """
    A new one is placed on purpose.
    """
    assert [name for name in MODULES if layer_of(name) is None] == []
    assert set(LAYERS) == set(MAY_IMPORT)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    """
    Each layer imports only what stands below it.
    """
    layer = layer_of(name)
    assert layer is not None
    wrong = [
        f"recorder/{name.replace('.', '/')}.py:{line} ({layer}) imports {imported} ({layer_of(imported)})"
        for line, imported in ours(MODULES[name])
        if layer_of(imported) not in MAY_IMPORT[layer]
    ]
    assert wrong == []


def test_the_table_itself_goes_one_way():
    """
    No two layers may import each other, by any way round; capture and lake share files, not code.
    """
    reach = {layer: set(allowed) - {layer} for layer, allowed in MAY_IMPORT.items()}
    for _ in reach:
        for allowed in reach.values():
            allowed.update(*(reach[other] for other in tuple(allowed)))
    assert [layer for layer, allowed in reach.items() if layer in allowed] == []
    assert "lake" not in reach["capture"]
    assert "capture" not in reach["lake"]
    assert reach["simulator"] == {"base", "venue"}


@pytest.mark.parametrize("name", [name for name in MODULES if matches(name, PURE)])
def test_pure_modules_touch_nothing(name):
    """
    No clock, no socket, no thread, no process, and chance only as an argument.
    """
    tree = MODULES[name]
    assert [(line, package) for line, package in foreign(tree) if package in IMPURE_MODULES] == []
    chance = [use for use in calls_of(tree, "random") if use[1] != "Random"]
    chance += [(line, full) for line, full in imports(tree) if full.startswith("random.") and full != "random.Random"]
    assert chance == []


def test_the_pure_modules_are_there():
    """
    A module that was renamed must not slip out of the rule.
    """
    assert [pattern for pattern in PURE if not any(matches(name, (pattern,)) for name in MODULES)] == []


@pytest.mark.parametrize("name", MODULES)
def test_only_the_clock_asks_the_time(name):
    """
    So that a test can set it everywhere at once.
    """
    uses = [line for line, package in foreign(MODULES[name]) if package == "time"]
    if name not in START_JOBS_NOW:
        of_datetime = calls_of(MODULES[name], "datetime")
        uses += [line for line, attribute in of_datetime if attribute in {"now", "utcnow", "today"}]
    assert not uses or name in ASK_THE_TIME, f"recorder/{name.replace('.', '/')}.py, lines {uses}: use clock.py"


@pytest.mark.parametrize("name", MODULES)
def test_only_durable_syncs_and_renames(name):
    """
    What makes a name whole is in one place.
    """
    uses = [
        node.lineno
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.Attribute)
        and (
            (node.attr in SYNCING and not (isinstance(node.value, ast.Name) and node.value.id == "durable"))
            or (node.attr == "replace" and isinstance(node.value, ast.Name) and node.value.id in {"os", "path"})
        )
    ]
    uses += [line for line, full in imports(MODULES[name]) if full in {f"os.{name}" for name in (*SYNCING, "replace")}]
    assert not uses or name in CHANGE_THE_DISK, f"recorder/{name.replace('.', '/')}.py, lines {uses}: use durable.py"


HEAVY = ("pyarrow", "polars", "numpy", "pandas")
SLOW = ("rich", "recorder.cli_quality", "recorder.cli_export")


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("recorder.capture.client", HEAVY),
        ("recorder.simulator.server", HEAVY),
        # With all that draws tables it took a third longer until it recorded.
        ("recorder.daemon, recorder.cli", HEAVY + SLOW),
    ],
)
def test_the_hot_process_loads_nothing_heavy(module, spared):
    """
    A crash or a stall in C++ must not reach the reader of the socket; nor its memory. And a start is to be quick.
    """
    code = f"import sys, {module}; print(sorted(set(sys.modules) & set({spared!r})))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.stderr == ""
    assert result.stdout == "[]\n"
