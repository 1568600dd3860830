"""
A data root: what it is bound to, and the lock of those who change the lake.
"""

import errno
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from recorder import durable
from recorder.errors import RootError, user, whose
from recorder.lake.layout import JOURNAL, LAKE, MANIFEST, QUARANTINE, ROOT_FILE, SEAL_LOCK

FORMAT = 1


class _Format(msgspec.Struct):
    """
    What `root.json` of every format has.
    """

    format: int


class Binding(msgspec.Struct, frozen=True):
    """
    `root.json`: the venue and network all data of a root is of.
    """

    format: int
    venue: str
    network: str

    def foreign(self, venue: str, network: str) -> str | None:
        """
        In words, that something is of another venue or network; None if it is of this one.
        """
        if (venue, network) == (self.venue, self.network):
            return None
        return f"is of {venue} on {network}, the root of {self.venue} on {self.network}"


def encode_binding(binding: Binding) -> bytes:
    """
    `root.json` as we write it: the last member is a checksum of what the others say.
    """
    return _with_checksum(msgspec.json.encode(binding))


def _with_checksum(said: bytes) -> bytes:
    return said.removesuffix(b"}") + b',"sha256":"' + sha256(said).hexdigest().encode() + b'"}\n'


def read_binding(root: Path) -> Binding:
    """
    What an existing root is bound to.

    Raises:
        RootError: it is not a data root, is damaged, or of a newer format.
    """
    _refuse_links(root)
    try:
        if not root.is_dir():
            raise RootError(root, "is not a folder", "give the folder that `[storage] root` names")
        data = durable.read_bytes(root / ROOT_FILE)
    except FileNotFoundError:
        raise RootError(
            root,
            f"is not a recorder's data root (it has no {ROOT_FILE})",
            "give the folder that `[storage] root` names",
        ) from None
    except OSError as error:
        raise RootError(root, f"cannot be read: {error.strerror}{whose(error)}", "check its owner and mode") from None
    try:
        # Alone and first: a newer format may have other members.
        version = msgspec.json.decode(data, type=_Format).format
        if version > FORMAT:
            raise RootError(root, f"is of format {version}; this version knows up to {FORMAT}", "upgrade")
        binding = msgspec.json.decode(data, type=Binding)
        members: dict[str, Any] = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RootError(
            root, f"has a {ROOT_FILE} that cannot be read ({error})", "restore it: format, venue and network as JSON"
        ) from None
    # One restored by hand has none; one whose member's name is damaged still shows it.
    has_checksum = any(key == "sha256" or (isinstance(v, str) and len(v) == 64) for key, v in members.items())
    if has_checksum and data != _with_checksum(data.rpartition(b',"sha256":"')[0] + b"}"):
        raise RootError(
            root, f"has a damaged {ROOT_FILE}: its checksum does not fit", "run `drift-recorder verify --repair` on it"
        )
    return binding


def _refuse_links(root: Path) -> None:
    for name in (ROOT_FILE, JOURNAL, LAKE, MANIFEST, QUARANTINE):
        if durable.is_link(root / name):
            hint = "remove it; to use another disk, mount it there"
            raise RootError(root, f"{name} is a symbolic link, which is not followed", hint)


def bind(root: Path, *, venue: str, network: str) -> Binding:
    """
    Make a root, or make sure that an existing one is of this venue and network, and can be written.

    Raises:
        RootError: it belongs to another venue, holds other things, cannot be written, or we are root and it is another
            user's.
        RootBusy: another process is making it.
    """
    _refuse_links(root)
    try:
        durable.make_directories(root, private=True)
        if not (root / ROOT_FILE).exists():
            _make(root, Binding(FORMAT, venue, network))
    except OSError as error:
        raise _not_writable(root, error) from None
    binding = read_binding(root)
    if (binding.venue, binding.network) != (venue, network):
        raise RootError(
            root,
            f"belongs to venue {binding.venue} on {binding.network}, not to {venue} on {network}",
            "choose another `storage.root`, or the configuration it was made with",
        )
    try:
        for name in (JOURNAL, LAKE, MANIFEST):
            durable.make_directories(root / name, below=root)
        probe = root / JOURNAL / f".probe.{os.getpid()}"
        durable.publish_bytes(probe, b"can it be written?\n")
        ours, theirs = probe.stat().st_uid, (root / ROOT_FILE).stat().st_uid
        durable.remove(probe)
    except OSError as error:
        raise _not_writable(root, error) from None
    if ours == 0 != theirs:
        # A service that comes after a trial by root would find locks it cannot open, and not start.
        name = user(theirs)
        raise RootError(
            root,
            f"belongs to {name}, who could not open what root makes in it",
            f"run it as {name} (`runuser -u {name}`)",
        )
    return binding


def refuse_unusable(root: Path) -> None:
    """
    Tell whether `bind` could work, without making anything.

    Raises:
        RootError: it is a file, cannot be written, or is bound and cannot be read.
    """
    there = root
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise _not_writable(root, OSError(errno.ENOTDIR, "Not a directory"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise _not_writable(root, OSError(errno.EACCES, os.strerror(errno.EACCES), str(there)))
    if (root / ROOT_FILE).exists():
        read_binding(root)


def _make(root: Path, fresh: Binding) -> None:
    """
    Bind a new root. Under a lock: of two that start on it at once with different venues, one must lose.
    """
    try:
        _refuse_other_content(root)
    except RootError:
        if (root / ROOT_FILE).exists():
            return  # another has made it meanwhile, and that is what was found
        raise
    lock = seal_lock(root)
    try:
        if not (root / ROOT_FILE).exists():
            durable.publish_bytes(root / ROOT_FILE, encode_binding(fresh))
    finally:
        lock.release()


def _refuse_other_content(root: Path) -> None:
    ours = {JOURNAL, LAKE, MANIFEST}
    others = sorted(p.name for p in root.iterdir() if p.name not in {*ours, f".{ROOT_FILE}.tmp"})
    if others:
        raise RootError(
            root, f"is not empty and not a data root (it has {others[0]!r})", "choose an empty or new folder"
        )
    kept = [p for name in sorted(ours) for p in (root / name).rglob("*") if p.is_file() and p.name != SEAL_LOCK]
    if kept:
        # Whose data that is, nothing tells; it must not be mixed with another venue's.
        raise RootError(
            root,
            f"has data ({kept[0].relative_to(root)}) but no {ROOT_FILE}",
            "restore it: format, venue and network as JSON",
        )


def _not_writable(root: Path, error: OSError) -> RootError:
    if error.errno in {errno.EEXIST, errno.ENOTDIR}:
        return RootError(root, "is a file, or lies below one", "choose another `storage.root`")
    hint = "free space on it" if error.errno == errno.ENOSPC else "check its owner and mode, or choose another root"
    return RootError(root, f"cannot be written: {error.strerror or error}{whose(error)}", hint)


def seal_lock(root: Path) -> durable.Lock:
    """
    The lock of all that change the lake: seal, verify, retention.

    Raises:
        RootBusy: another process is at it.
        RootError: the lock file cannot be made.
    """
    _refuse_links(root)
    try:
        durable.make_directories(root / MANIFEST, below=root)
        return durable.Lock(root / MANIFEST / SEAL_LOCK, holder="another seal or verify is at work; try again later")
    except OSError as error:
        raise _not_writable(root, error) from None
