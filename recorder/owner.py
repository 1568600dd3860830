"""
Whose files a verb makes: always the recording's own user's.
"""

import os
import pwd
from contextlib import suppress
from pathlib import Path


def become_owner(root: Path) -> None:
    """
    As the superuser, become whoever owns a data root, for good; as anybody else, do nothing.

    An operator types `drift-recorder seal ROOT` as root. Files that root makes are not the service's to replace: its
    own next seal of the hour would fail, and go on failing.
    """
    if os.geteuid() != 0:
        return
    with suppress(OSError):  # what is wrong with it, the verb itself says better
        owner = root.stat()
        if owner.st_uid == 0:
            return
        try:
            os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
        except KeyError:  # of a user this machine does not know by name
            os.setgroups([owner.st_gid])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
