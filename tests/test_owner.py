"""
Whose files a verb makes that is run by root. `test_service.py` has a seal by root under a service.
"""

import os
import subprocess
import sys

import pytest

from recorder.owner import become_owner

OWNER = 12_345
"""A user that is not in the list of users, either."""

NOT_ROOT = os.geteuid() != 0


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


def test_nothing_changes_where_there_is_nothing_to_change(tmp_path):
    """
    A root of one's own, or none at all: the verb goes on and says itself what is wrong.
    """
    before = os.getuid(), os.getgid(), os.getgroups()

    become_owner(tmp_path)
    become_owner(tmp_path / "nothing")

    assert (os.getuid(), os.getgid(), os.getgroups()) == before
