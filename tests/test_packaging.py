"""
What an installation holds besides modules: a file that is not named in `pyproject.toml` would be missed by users only.
"""

import subprocess
import sys
import tomllib
from pathlib import Path, PurePath

PROJECT = Path(__file__).parent.parent
COMPILED = {".c": "built into a module", ".so": "built", ".pyc": "made on import"}


def test_every_file_beside_the_modules_is_installed():
    """
    Market lists, type stubs, the mark of a typed package.
    """
    setuptools = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = setuptools["package-data"]
    missed = []
    for path in (PROJECT / "recorder").rglob("*"):
        if path.is_dir() or path.suffix in {".py", *COMPILED}:
            continue
        package = next(parent for parent in path.parents if (parent / "__init__.py").exists())
        inside = PurePath(path.relative_to(package))
        wanted = [*patterns.get("*", []), *patterns.get(".".join(package.relative_to(PROJECT).parts), [])]
        if not any(inside.match(pattern) for pattern in wanted):
            missed.append(str(path.relative_to(PROJECT)))

    assert missed == []


def test_every_extension_is_optional_and_has_its_source():
    """
    Without a compiler the installation must go through, and everything must work.
    """
    setuptools = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]

    assert setuptools["ext-modules"] != []
    for extension in setuptools["ext-modules"]:
        assert extension["optional"]
        assert all((PROJECT / source).is_file() for source in extension["sources"])


def test_a_worker_of_the_tests_that_dies_is_a_failure_and_no_hang(tmp_path):
    """
    One that a test took along, the last of its file: the README's command must end by itself, and not as if all were
    well. By default xdist starts another worker then, and waits for it for ever.
    """
    many = "import os, time, pytest\n@pytest.mark.parametrize('n', range(6))\ndef test(n): time.sleep(0.02)"
    for name in "abc":
        (tmp_path / f"test_{name}.py").write_text(many + ("; n == 5 and os._exit(0)" if name == "c" else ""))
    arguments = ["-c", str(PROJECT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *arguments, "-n", "2", "--dist", "loadfile", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "crashed while running" in ended.stdout
