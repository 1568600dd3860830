"""
The shipped unit and its notes: that they hold together with the rest of the repository.
"""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from recorder.config import TABLES

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "deploy" / "drift-recorder.service"
NOTES = ROOT / "deploy" / "README.md"


@pytest.fixture
def unit() -> configparser.ConfigParser:
    """
    The unit, read by rules stricter than systemd's: no key twice, no line outside a section.
    """
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # systemd's keys are case-sensitive
    parser.read_string(UNIT.read_text())
    return parser


def test_the_unit_runs_the_recorder_with_its_config(unit):
    """
    The program and file that the notes install are those that are started.
    """
    program, verb, config = unit["Service"]["ExecStart"].split()

    assert (program, verb) == ("/opt/drift-recorder/bin/drift-recorder", "run")
    assert f"{Path(program).parent}/pip install ." in NOTES.read_text()
    assert f"config/velocity-mainnet.toml {config}" in NOTES.read_text()


def test_the_unit_never_gives_up(unit):
    """
    A recorder that stays down records nothing, so neither an exit code nor a count of failures ends the restarts.
    """
    assert unit["Service"]["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert "RestartPreventExitStatus" not in unit["Service"]


def test_a_stop_leaves_time_to_commit(unit):
    """
    The recorder needs up to 5 s after SIGTERM; a kill before that would cost what it heard last.
    """
    service = unit["Service"]

    assert (service["KillSignal"], service["KillMode"]) == ("SIGTERM", "mixed")
    assert int(service["TimeoutStopSec"]) > 5


def test_a_reload_is_the_signal_the_recorder_takes_it_for(unit):
    """
    Any other would end it, or do nothing.
    """
    assert unit["Service"]["ExecReload"] == "kill -HUP $MAINPID"


def test_a_relative_root_lands_where_the_service_may_write(unit):
    """
    Everything but the state directory is read-only to it.
    """
    service = unit["Service"]

    assert service["ProtectSystem"] == "strict"
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"


def test_every_section_is_one_of_systemds(unit):
    """
    A misspelled section is ignored by systemd with a warning nobody reads.
    """
    assert unit.sections() == ["Unit", "Service", "Install"]


@pytest.mark.parametrize("path", [UNIT, NOTES], ids=lambda path: path.name)
def test_settings_that_are_mentioned_exist(path):
    """
    `[table] key` in the notes is a key of the configuration.
    """
    text = re.sub(r"\s+#?\s*", " ", path.read_text())

    mentioned = re.findall(r"`\[(\w+)\] (\w+)`", text)

    assert mentioned
    assert [(table, key) for table, key in mentioned if key not in TABLES[table].__struct_fields__] == []


def test_files_that_are_mentioned_exist():
    """
    The commands of the notes are run in a checkout.
    """
    mentioned = re.findall(r"\b(?:config|deploy)/[\w.-]+\b", NOTES.read_text())

    assert len(mentioned) >= 2
    assert [name for name in mentioned if not (ROOT / name).is_file()] == []


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NOT CHECKED: systemd-analyze is not installed here"
)
def test_systemd_accepts_every_line(tmp_path):
    """
    The judge of its directives is systemd itself; any warning about the unit is a failure.
    """
    # It also looks for the program, which is not installed where tests run.
    text = UNIT.read_text().replace("/opt/drift-recorder/bin/drift-recorder", shutil.which("true"))
    copy = tmp_path / UNIT.name
    copy.write_text(text)

    judged = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    about_it = [line for line in (judged.stdout + judged.stderr).splitlines() if UNIT.name in line]
    assert about_it == []
    assert judged.returncode == 0, judged.stderr
