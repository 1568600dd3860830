"""
`drift-recorder simulate --help` and the README: enough for a stranger to test a client with.
"""

import contextlib
import io
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from recorder.cli import main
from recorder.simulator.faults import faults_from_arguments
from recorder.simulator.kinds import KINDS, kind_of

VALUES = {"at_s": "5", "from_s": "5", "to_s": "9", "what": "source"}


@pytest.fixture(scope="module")
def text():
    """
    The help, on one line.
    """
    result = CliRunner().invoke(main, ["simulate", "--help"], prog_name="drift-recorder")
    assert result.exit_code == 0
    return " ".join(result.output.split())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__struct_config__.tag)
def test_every_kind_of_fault_can_be_typed_from_what_the_help_says(text, kind):
    """
    Its name with each member it takes; those it needs are enough.
    """
    name = str(kind.__struct_config__.tag)
    fields = msgspec.structs.fields(kind)

    said = text[text.index(f" {name} {fields[0].name}") :]
    assert all(field.name in said[: said.index(":")] for field in fields)
    needed = " ".join(f"{field.name}={VALUES[field.name]}" for field in fields if field.required)
    (fault,) = faults_from_arguments(fault=[f"{name} {needed}"])
    assert kind_of(fault) == name


def test_servers_ledger_and_how_to_begin_are_told(text):
    """
    What to be, what to write down, and a line to copy.
    """
    for words in ("2026-05|2025-09|velocity", "--ledger truth.jsonl", "listening on ws://", "html"):
        assert words in text


def test_the_readmes_example_in_virtual_time_runs():
    """
    Ten seconds of silence are 25 books.
    """
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"<!-- ci: virtual -->\n```python\n(.*?)```", readme, re.DOTALL)

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(example, "README.md", "exec"), {})  # noqa: S102  # our own text

    assert re.fullmatch(r"heard 1[56]\d\d frames; 25 books were withheld, by silence\n", printed.getvalue())
