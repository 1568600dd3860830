"""
Of all fault tests: what they need of the machine, and a count of those that could not run.

`@pytest.mark.needs("root", "strace")` names what a test cannot do without: `root`, `loop` (a loop-mounted file system),
or a command. Where it is absent the test is skipped, and counted at the end; with `CI` set it fails, for a fault that
is not injected proves nothing.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

_absent: Counter[str] = Counter()
"""What was missing, by how many tests."""


@functools.cache
def lacking(what: str) -> str | None:
    """
    Why something that a test needs is not to be had here; None if it is.
    """
    if what == "root":
        return None if os.geteuid() == 0 else "needs root"
    if what == "loop":
        return _why_no_loop()
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return None if shutil.which(what, path=path) else f"needs {what} (is it installed? see .ci/run)"


def _why_no_loop() -> str | None:
    if os.geteuid() != 0:
        return "needs root, to mount"
    for tool in ("mkfs.ext4", "mount", "umount"):
        if (why := lacking(tool)) is not None:
            return why
    with tempfile.TemporaryDirectory() as folder:
        image, point = Path(folder) / "image", Path(folder) / "mnt"
        point.mkdir()
        with image.open("wb") as file:
            file.truncate(4 << 20)
        for command in (["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop", image, point]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return f"needs loop mounts: {command[0]} says {done.stderr.strip()}"
        subprocess.run(["umount", point], check=True)
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """
    Skip what cannot run here; with `CI` set, fail.
    """
    for mark in item.iter_markers("needs"):
        for what in mark.args:
            why = lacking(what)
            if why is None:
                continue
            if os.environ.get("CI"):
                pytest.fail(f"{why}; with CI set, what cannot run fails", pytrace=False)
            _absent[why] += 1
            pytest.skip(why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """
    How many faults were not injected, and why.
    """
    if _absent:
        words = ", ".join(f"{count} ({why})" for why, count in sorted(_absent.items()))
        terminalreporter.section("faults that were NOT injected", red=True)
        terminalreporter.write_line(f"{sum(_absent.values())} fault tests did not run here: {words}")
