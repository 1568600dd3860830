"""
Whose files a verb makes that is run by root. `test_service.py` has a seal by root under a service.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from recorder.errors import RootError
from recorder.lake.root import bind
from recorder.owner import become_owner

OWNER = 12_345
"""A user that is not in the list of users, either."""

NOT_ROOT = os.geteuid() != 0


@pytest.fixture
def seen():
    """
    A folder that any user may enter; pytest's own is for its user alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(NOT_ROOT and not os.environ.get("CI"), reason="OWNERS NOT TESTED: takes root")
def test_root_becomes_the_owner_of_the_data_for_good(tmp_path):
    """
    With no group of root's left, and no way back.
    """
    os.chown(tmp_path, OWNER, OWNER)
    code = f"""
import os
from pathlib import Path
from recorder.owner import become_owner
become_owner(Path({str(tmp_path)!r}))
print(os.getresuid(), os.getresgid(), os.getgroups())
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    three = (OWNER, OWNER, OWNER)
    assert done.stdout == f"{three} {three} [{OWNER}]\n", done.stderr


@pytest.mark.skipif(NOT_ROOT and not os.environ.get("CI"), reason="OWNERS NOT TESTED: takes root")
def test_root_records_into_nobody_elses_recording(tmp_path):
    """
    An operator tries the service's configuration as root: refused, and nothing is left that its user could not open.
    """
    bind(tmp_path, venue="v", network="n")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, OWNER, OWNER)

    with pytest.raises(RootError, match=f"belongs to user {OWNER}, who could not open what root makes in it; run it"):
        bind(tmp_path, venue="v", network="n")

    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {OWNER}


@pytest.mark.skipif(NOT_ROOT and not os.environ.get("CI"), reason="OWNERS NOT TESTED: takes root")
def test_a_right_that_is_missing_is_told_with_who_has_it(seen):
    """
    A folder of another's, a file of another's in a folder of ours, what cannot even be seen, and what is ours.
    """
    for name, owner, mode in (("theirs", 0, 0o700), ("ours", OWNER, 0o755)):
        (seen / name).mkdir(mode=mode)
        (seen / name / "file").touch(mode=0o600)
        os.chown(seen / name, owner, owner)
    code = f"""
import os, errno
from pathlib import Path
from recorder.config import load_config
from recorder.errors import RecorderError, whose
from recorder.lake.root import bind
os.seteuid({OWNER})
for name in ("theirs", "theirs/file", "ours/file", "ours"):
    print(whose(OSError(errno.EACCES, "no", {str(seen)!r} + "/" + name)))
print(whose(OSError(errno.ENOSPC, "full", "x")))
for attempt in (
    lambda: load_config(Path({str(seen)!r}, "ours", "file")),
    lambda: bind(Path({str(seen)!r}, "theirs"), venue="v", network="n"),
):
    try:
        attempt()
    except RecorderError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    theirs, hidden, file, _, nothing, config, root = done.stdout.splitlines()
    assert theirs == hidden == f" ({seen}/theirs belongs to root, mode 700; this is user {OWNER})", done.stderr
    assert file == f" ({seen}/ours/file belongs to root, mode 600; this is user {OWNER})"
    assert nothing == ""
    assert config.endswith(f"cannot be read: Permission denied{file}; check its owner and mode")
    assert root.startswith(f"{seen}/theirs: cannot be written: Permission denied{theirs}; check its owner")


def test_nothing_changes_where_there_is_nothing_to_change(tmp_path):
    """
    A root of one's own, or none at all: the verb goes on and says itself what is wrong.
    """
    before = os.getuid(), os.getgid(), os.getgroups()

    become_owner(tmp_path)
    become_owner(tmp_path / "nothing")

    assert (os.getuid(), os.getgid(), os.getgroups()) == before
