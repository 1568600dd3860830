"""
A machine of its own with a real systemd, for tests of the service: a container that boots.

Debian's mmdebstrap makes the root file system, systemd-nspawn boots it, with a network that has nothing but loopback.
Commands enter its namespaces from outside.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

PROJECT = Path(__file__).parent.parent
TOOLS = ("mmdebstrap", "systemd-nspawn", "nsenter")
PACKAGES = "systemd,systemd-sysv,python3,python3-venv,ca-certificates"
SOURCES = ("recorder", "deploy", "config", "pyproject.toml", "README.md", "LICENSE")
BOOT_S = 120
REBOOT_ASKED = 133
"""Exit code of nspawn."""
CGROUPS = Path("/sys/fs/cgroup")


def missing() -> str:
    """
    Why no machine can be had here; empty if one can.
    """
    if os.geteuid() != 0:
        return "a container takes root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)} (Debian: mmdebstrap, systemd-container)" if absent else ""


def build_root(root: Path) -> None:
    """
    A minimal Debian 12 with systemd and its Python; if DRIFT_RECORDER_TEST_ROOT names one, a copy of that.
    """
    made = os.environ.get("DRIFT_RECORDER_TEST_ROOT")
    if made:
        subprocess.run(["cp", "-a", made, str(root)], check=True, timeout=300)
        return
    subprocess.run(
        [
            "mmdebstrap",
            *("--quiet", "--variant=minbase", f"--include={PACKAGES}", "--dpkgopt=force-unsafe-io"),
            *(f"--dpkgopt=path-exclude=/usr/share/{waste}/*" for waste in ("man", "doc", "locale", "info")),
            *("bookworm", str(root)),
        ],
        check=True,
        timeout=600,
        stdout=sys.stderr,
    )


def fetch_wheels(folder: Path) -> None:
    """
    What an installation without a network is made from: the locked files, and the project's own wheel.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    lock = PROJECT / "deploy" / "requirements.lock"
    locked = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock), "-d", str(folder)]
    # For Debian 12's Python, whatever runs the tests.
    subprocess.run([*pip, "download", "--python-version", "3.11", *locked], check=True, timeout=300)
    source = folder.parent / "wheel-source"
    source.mkdir()
    copy_sources(source)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(source)], check=True, timeout=300)


def copy_sources(to: Path) -> None:
    """
    The checkout, without what was built in it.
    """
    waste = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "build")
    for name in SOURCES:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=waste)
        else:
            shutil.copy2(source, to / name)


class Machine:
    """
    One that can be booted; its files lie below `root`.
    """

    def __init__(self, root: Path, *, binds: dict[Path, str]) -> None:
        """
        Args:
            root: its file system.
            binds: folders of this machine, and where they are seen, read-only.
        """
        self.root = root
        self._binds = [f"--bind-ro={path}:{seen}" for path, seen in binds.items()]
        self._name = f"drift-recorder-{os.getpid()}"
        self._container: subprocess.Popen[bytes] | None = None
        self._groups = _own_groups(self._name)

    def boot(self) -> None:
        """
        Until all that is started at boot has been.
        """
        with (self.root.parent / "console.log").open("ab") as console:
            self._container = self._started(console)
        self.await_boot()

    def _started(self, console: BinaryIO) -> subprocess.Popen[bytes]:
        for group in self._groups:
            group.mkdir(exist_ok=True)
        # A shell, which enters the groups before it becomes the container.
        enter = "".join(f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))}; " for group in self._groups)
        return subprocess.Popen(
            [
                *("sh", "-c", f'{enter}exec "$@"', "sh"),
                "systemd-nspawn",
                *("--quiet", "--directory", str(self.root), "--register=no", "--keep-unit", "--private-network"),
                *(*self._binds, f"--machine={self._name}", "--console=pipe", "--boot"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )

    def await_boot(self) -> None:
        """
        Until its systemd has done what it does at the start.
        """
        deadline = time.monotonic() + BOOT_S
        state = ""
        while time.monotonic() < deadline:
            with suppress(subprocess.SubprocessError, OSError, IndexError):
                state = self.run("systemctl is-system-running", check=False, timeout_s=5).strip()
                if state in {"running", "degraded"}:
                    return
            time.sleep(0.2)
        raise AssertionError(f"it did not boot within {BOOT_S} s (state: {state or 'none'})")

    def _leader(self) -> int:
        """
        Its process 1, as numbered here.
        """
        assert self._container is not None
        pid = self._container.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def run(self, command: str, *, check: bool = True, timeout_s: float = 120) -> str:
        """
        A shell command in it; what it said.
        """
        done = subprocess.run(
            [
                *("nsenter", "-t", str(self._leader()), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "env", "-i"),
                *("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"),
                *("SYSTEMD_PAGER=", "COLUMNS=150", "sh", "-c", command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: exit {done.returncode}: {done.stdout}")
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """
        A property of a unit.
        """
        return self.run(f"systemctl show -P {name} {shlex.quote(unit)}").strip()

    def log(self, unit: str) -> str:
        """
        All that a unit has said since the boot.
        """
        return self.run(f"journalctl -b -u {shlex.quote(unit)} -o cat --no-pager")

    def until(self, command: str, words: str, within_s: float = 30) -> str:
        """
        Ask again and again until the answer holds these words.
        """
        deadline = time.monotonic() + within_s
        said = ""
        while time.monotonic() < deadline:
            said = self.run(command, check=False)
            if words in said:
                return said
            time.sleep(0.25)
        raise AssertionError(f"{command}: no {words!r} within {within_s:g} s, but {said!r}")

    def reboot(self) -> None:
        """
        By its own `systemctl reboot`, which nspawn leaves to whoever started it.
        """
        assert self._container is not None
        self.run("systemctl reboot", check=False)
        assert self._container.wait(BOOT_S) == REBOOT_ASKED
        self.boot()

    def power_off(self) -> None:
        """
        And leave nothing behind: nspawn forgets its control groups where it has no manager.
        """
        if self._container is not None:
            with suppress(AssertionError, OSError, IndexError, subprocess.SubprocessError):
                self.run("systemctl poweroff", check=False, timeout_s=10)
            try:
                self._container.wait(20)
            except subprocess.TimeoutExpired:
                self._container.kill()
                self._container.wait(10)
        remains = [Path("/run/systemd/nspawn/propagate") / self._name]
        for group in self._groups:
            remains += sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
            remains.append(group)
        for folder in remains:
            with suppress(OSError):  # gone by itself
                folder.rmdir()


def _own_groups(name: str) -> list[Path]:
    """
    Control groups for one machine alone, in each hierarchy that systemd uses: machines that share their parent's would
    take each other's services for their own.
    """
    hierarchies = [CGROUPS / "systemd", CGROUPS / "unified"]
    if (CGROUPS / "cgroup.controllers").exists():
        hierarchies = [CGROUPS]
    return [hierarchy / name for hierarchy in hierarchies if hierarchy.is_dir()]
