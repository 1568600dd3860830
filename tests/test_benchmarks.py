"""
The benchmark suite runs, prints every figure it promises, and the README quotes no other. No time is judged here.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

PROJECT = Path(__file__).resolve().parents[1]
SUITE = PROJECT / "tests" / "benchmarks"

pytestmark = pytest.mark.timeout(700)

BUDGETS = {
    "capture on one core": "≥ 20,000 frames/s",
    "capture on one core, permessage-deflate": "≥ 20,000 frames/s",
    "capture on one core, frames lost": "0",
    "live load, CPU of one core": "≤ 5 %",
    "live load, memory": "≤ 80 MB",
    "live load, growth of memory": "< 1 MB/h",
    "live load, receipt to durable, p99": "≤ 250 ms",
    "5 × live load, event loop lag, p99": "≤ 10 ms",
    "live load, frames lost": "0",
    "5 × live load, frames lost": "0",
    "journal, a frame": "≤ 0.55 kB",
    "seal, 96 markets, one core": "≥ 20,000 frames/s",
    "seal, 100 markets, one core": "≥ 20,000 frames/s",
    "seal, 96 markets, peak memory": "≤ 300 MB",
    "seal, 100 markets, peak memory": "≤ 300 MB",
    "Parquet, a 20-level book of the study": "≤ 170 bytes",
    "polars, mid series of a market-hour": "≤ 3 ms",
    "polars, one book at a time": "≤ 7 ms",
    "polars, depth within 10 bps of a market-hour": "≤ 16 ms",
    "a day of 12 markets, mid of a market-hour": "≤ 20 ms",
    "a day of 12 markets, 1-minute bars of a market-day": "≤ 100 ms",
    "a day of 12 markets, time-weighted spread of all": "≤ 1,500 ms",
    "a day of 12 markets, one book at a time": "≤ 15 ms",
    "a day of 12 markets, peak memory of these": "≤ 500 MB",
    "live monitor, a frame": "≤ 6 µs",
    "ready to record, empty root": "< 1 s",
    "ready to record, a day of journal on disk": "< 1 s",
    "ready to record, a day of damaged journal on disk": "< 1 s",
}
"""The project's budgets, said a second time: a row that vanishes, or a budget that softens, is a decision."""


def figures(*arguments: str | Path, **environment: str) -> str:
    """
    What the command prints.
    """
    done = subprocess.run(
        [sys.executable, SUITE / "figures.py", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def table() -> ModuleType:
    """
    The suite's own account of its rows.
    """
    spec = importlib.util.spec_from_file_location("benchmarks_table", SUITE / "table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The whole suite on tiny input.
    """
    path = tmp_path_factory.mktemp("figures") / "quick.json"
    path.write_text(figures("--quick", "--json"), encoding="utf-8")
    return path


def cells(markdown: str) -> list[list[str]]:
    """
    Rows of a table, without its head.
    """
    rows = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_figure_is_measured_and_nothing_is_lost(quick, table):
    """
    Each row has a value (but the slope of memory, which seconds cannot tell), and no frame is missing anywhere.
    """
    measured = {row["name"]: row for row in msgspec.json.decode(quick.read_bytes())}

    assert set(measured) == {figure.name for figure in table.FIGURES}
    assert {name for name, row in measured.items() if not row["ours"]} == {"live load, growth of memory"}
    assert {sum(row["ours"]) for name, row in measured.items() if name.endswith("frames lost")} == {0}


def test_every_budget_has_its_row(quick):
    """
    The table for the README names each budget beside its figure and the command that prints it.
    """
    rows = cells(figures("--load", quick, "--markdown"))

    assert {row[0]: row[1] for row in rows if row[1]} == BUDGETS


def test_the_command_writes_the_table_into_a_readme_and_leaves_the_rest(quick, tmp_path):
    """
    Filling in the figures must not cost a word around them.
    """
    readme = tmp_path / "README.md"
    readme.write_text("before\n\n<!-- figures -->\nold\n<!-- end -->\n\nafter <!-- end -->\n", encoding="utf-8")

    figures("--load", quick, "--write", readme)

    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n\n<!-- figures -->\n")
    assert text.endswith("\n<!-- end -->\n\nafter <!-- end -->\n")
    assert "old" not in text
    assert len(cells(text)) >= len(BUDGETS)


def test_a_missed_budget_is_marked(table):
    """
    A table that flatters is worth nothing: more is better for some figures, less for others, and some must be beaten.
    """
    by_name = {figure.name: figure for figure in table.FIGURES}

    def verdict(name: str, value: float) -> bool | None:
        return table.met(by_name[name], table.Measured(name, [value]))

    assert verdict("capture on one core", 19_999) is False
    assert verdict("capture on one core", 20_000) is True
    assert verdict("live load, CPU of one core", 5.1) is False
    assert verdict("live load, growth of memory", 1.0) is False
    assert verdict("live load, growth of memory", -0.2) is True
    assert verdict("live load, frames lost", 1) is False
    assert verdict("live load, event loop lag, max", 1e9) is None
    assert "(missed)" in table.markdown([table.Measured("live load, memory", [81.0], [162.0])])
    assert "2.0 ×" in table.markdown([table.Measured("live load, memory", [81.0], [162.0])])


def test_the_readme_quotes_figures_that_exist(table):
    """
    Each row of the README's table is one of the suite's, with its budget, and beside a command that measures it.
    """
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    quoted = readme.partition(table.BEGIN)[2].partition(table.END)[0]
    by_name = {figure.name: figure for figure in table.FIGURES}

    rows = cells(quoted)

    assert [row[0] for row in rows] == [figure.name for figure in table.FIGURES]
    for name, budget, *_, command in rows:
        assert budget == table.budget(by_name[name])
        assert command == f"`{table.COMMAND} --only {by_name[name].part}`"
    options = set(re.findall(r"figures\.py (--[\w-]+)", readme))
    assert options <= set(re.findall(r"--[\w-]+", figures("--help")))


def test_the_rate_of_replay_is_measured_beside_polars_own_rows():
    """
    The command runs; what it says of so few records is nothing.
    """
    done = subprocess.run(
        [sys.executable, SUITE / "replaying.py", "--books", "60", "--rounds", "1"],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )

    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        *("records", "by_venue", "with_levels", "plain_rows", "peak"),
    ]


def test_what_a_kill_costs_is_measured_from_outside():
    """
    The command runs, and nothing that was committed is lost; what it says of one kill of each is nothing.
    """
    done = subprocess.run(
        [sys.executable, SUITE / "killing.py", "--kills", "1", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )

    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()[1:]] == [
        *("killed", "not committed", "killed"),
    ]
