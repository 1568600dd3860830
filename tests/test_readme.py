"""
The front door: what the README says is what the code does, and what it tells one to type works.
"""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import polars as pl
import pytest

from readme_tables import DICTIONARY, README, filled
from recorder.cli import main

TEXT = README.read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- ci: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)


def ci_blocks(name: str) -> list[str]:
    """
    The code blocks that are marked to be run.
    """
    return [code for marker, code in BLOCK.findall(TEXT) if marker == name]


@pytest.mark.parametrize("document", [README, DICTIONARY], ids=["README", "dictionary"])
def test_generated_tables_are_those_of_the_code(document):
    """
    Columns, flags and kinds are written by `python tests/readme_tables.py`, and not by hand.
    """
    assert filled(document) == document.read_text(encoding="utf-8")


@pytest.mark.parametrize("example", ci_blocks("python"))
def test_the_python_examples_run_on_a_demo_lake_and_show_something(example, demo_root, tmp_path, monkeypatch):
    """
    A new user's first ten lines must not fail, and a screen of nulls teaches nothing.
    """
    (tmp_path / "demo-lake").symlink_to(demo_root)
    monkeypatch.chdir(tmp_path)

    shown: list[object] = []
    exec(compile(example, "README", "exec"), {"print": shown.append})  # noqa: S102  # that is the test

    frames = [each for each in shown if isinstance(each, pl.DataFrame)]
    assert frames or "SOL-PERP" in str(shown)
    assert all(frame.height and told(frame) > 0.5 for frame in frames)


def told(frame: pl.DataFrame) -> float:
    """
    Share of its cells that are not null.
    """
    return 1 - frame.null_count().sum_horizontal().item() / (frame.height * frame.width)


def test_the_first_example_shows_the_hole_and_what_is_beside_it(demo_root, monkeypatch, tmp_path):
    """
    Bars that a hole touches, with the share that was heard, and whole ones; and the hole by name.
    """
    (tmp_path / "demo-lake").symlink_to(demo_root)
    monkeypatch.chdir(tmp_path)

    shown: list[object] = []
    exec(compile(ci_blocks("python")[0], "README", "exec"), {"print": shown.append})  # noqa: S102  # that is the test

    bars = next(each for each in shown if isinstance(each, pl.DataFrame) and "covered" in each.columns)
    events = next(each for each in shown if isinstance(each, pl.DataFrame) and "kind" in each.columns)
    spreads = next(each for each in shown if isinstance(each, pl.DataFrame) and "covered_s" in each.columns)
    assert bars["close"].is_not_null().to_list() == [False, True, True, True, True, True, False]
    assert spreads["covered_s"].round(1).to_list() == [2.6, 10.0, 2.2, 9.0, 10.0, 10.0, 6.6]
    assert {("silent", "BTC-PERP"), ("trade_gap", "BTC-PERP")} <= set(events.select("kind", "symbol").rows())


def test_the_shell_commands_name_what_there_is():
    """
    Verbs, configurations and extras that the README's commands use exist; CI runs the commands themselves.
    """
    verbs = set(re.findall(r"drift-recorder (\w+)", TEXT)) - {"markets`"}
    configs = set(re.findall(r"config/[\w-]+\.toml", TEXT))
    project = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert verbs <= set(main.list_commands(click.Context(main)))
    assert configs
    assert all((README.parent / name).is_file() for name in configs)
    assert len(ci_blocks("demo")) == len(ci_blocks("test")) == 1
    assert set(re.findall(r"\[(dev)\]", ci_blocks("test")[0])) <= set(project["optional-dependencies"])


def test_the_map_names_every_package():
    """
    And none that is not there.
    """
    named = set(re.findall(r"`recorder/(\w+)/`", TEXT[TEXT.index("## How it works") :]))

    assert named == {path.parent.name for path in README.parent.glob("recorder/*/__init__.py")}


DOCUMENTS = [
    README,
    *(path for top in ("recorder", "deploy", "tests") for path in README.parent.glob(f"{top}/**/*.md")),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(README.parent)))
def test_links_lead_somewhere(document):
    """
    A dead link costs a reader, be it to a file or to a heading.
    """
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))

    for path, _, heading in (link.partition("#") for link in links if "://" not in link):
        target = document.parent / path if path else document
        assert target.exists(), path
        if heading:
            assert heading in anchors(target.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """
    What a link can name in a document: its headings, as Markdown makes anchors of them.
    """
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_top_level_name_is_one_the_project_allows():
    """
    No other folder than the agreed ones.
    """
    git = shutil.which("git")
    if git is None or not (README.parent / ".git").exists():
        pytest.skip("SKIPPED LOUDLY: no git checkout, so what is tracked cannot be told")
    tracked = subprocess.run([git, "ls-files"], cwd=README.parent, capture_output=True, text=True, check=True).stdout
    names = {Path(line).parts[0] for line in tracked.splitlines()}

    assert names <= {
        ".ci", ".gitignore", "LICENSE", "README.md", "config", "deploy", "pyproject.toml", "recorder", "tests",
    }  # fmt: skip
