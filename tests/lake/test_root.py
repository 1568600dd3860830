"""
A data root: bound to one venue, and refused in one line where it cannot be used.
"""

import errno
import json
import os
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from recorder import durable
from recorder.errors import RootBusy, RootError
from recorder.lake import root as root_module
from recorder.lake.root import Binding, bind, read_binding, seal_lock

VENUE = {"venue": "velocity-mainnet", "network": "velocity-mainnet-beta"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """
    A bound root.
    """
    bind(tmp_path / "data", **VENUE)
    return tmp_path / "data"


def contents(root: Path) -> list[str]:
    """
    All there is below it.
    """
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*"))


@pytest.mark.parametrize("there", [False, True])
def test_a_new_or_empty_folder_becomes_a_root(tmp_path, there):
    """
    Parents are made; nothing is left of the probe.
    """
    root = tmp_path / "a" / "b"
    if there:
        root.mkdir(parents=True)

    assert bind(root, **VENUE) == Binding(1, **VENUE)

    assert contents(root) == ["journal", "lake", "manifest", "manifest/seal.lock", "root.json"]
    said = json.loads((root / "root.json").read_bytes())
    assert said.pop("sha256") == sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()
    assert said == {"format": 1, **VENUE}
    assert read_binding(root) == Binding(1, **VENUE)


def test_a_root_is_bound_again_by_its_own_venue(root):
    """
    Each start does; nothing changes, and folders somebody removed come back.
    """
    (root / "lake").rmdir()
    before = (root / "root.json").stat()

    bind(root, **VENUE)

    assert (root / "root.json").stat() == before
    assert (root / "lake").is_dir()


@pytest.mark.parametrize("other", [{"venue": "drift-mainnet"}, {"network": "mainnet-beta"}])
def test_another_venue_or_network_is_refused(root, other):
    """
    Before anything is written: the two are named.
    """
    before = contents(root)
    (root / "lake").rmdir()

    with pytest.raises(RootError, match=r"belongs to venue velocity-mainnet on velocity-mainnet-beta, not to .*; "):
        bind(root, **{**VENUE, **other})

    assert contents(root) == [name for name in before if name != "lake"]


def test_a_folder_of_other_things_is_refused(tmp_path):
    """
    And nothing is put beside them.
    """
    (tmp_path / "thesis.doc").touch()

    with pytest.raises(RootError, match=r"is not empty .*'thesis.doc'.*; choose an empty or new folder"):
        bind(tmp_path, **VENUE)

    assert contents(tmp_path) == ["thesis.doc"]


@pytest.mark.parametrize("kept", ["journal/r/s.zst", "lake/books/b.parquet", "manifest/2026-10-07T08.json"])
def test_data_without_a_binding_is_refused(root, kept):
    """
    Whose it is nothing tells: another venue's must not be mixed with it.
    """
    (root / "root.json").unlink()
    (root / kept).parent.mkdir(parents=True, exist_ok=True)
    (root / kept).touch()

    with pytest.raises(RootError, match=r"has data \(.*\) but no root.json; restore it"):
        bind(root, **VENUE)


def test_a_root_whose_making_was_killed_is_made(tmp_path):
    """
    Empty folders, the lock and the temporary file mean nothing.
    """
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest" / "seal.lock").touch()
    (tmp_path / ".root.json.tmp").write_bytes(b'{"form')

    assert bind(tmp_path, **VENUE) == Binding(1, **VENUE)


def test_of_two_that_make_a_root_at_once_one_venue_wins(tmp_path):
    """
    The other is refused; never both into one root.
    """
    for attempt in range(20):
        root = tmp_path / str(attempt)
        barrier = threading.Barrier(2)
        bound: list[Binding] = []
        refused: list[RootError] = []

        def start(name, root=root, barrier=barrier, bound=bound, refused=refused):
            barrier.wait()
            try:
                bound.append(bind(root, venue=name, network="n"))
            except RootError as error:
                refused.append(error)

        threads = [threading.Thread(target=start, args=(name,)) for name in ("one", "other")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(bound), len(refused)) == (1, 1)
        assert read_binding(root) == bound[0]


def test_a_root_that_another_makes_meanwhile_is_found(tmp_path, monkeypatch):
    """
    What it has put there is not taken for other people's things.
    """
    real = root_module._refuse_other_content

    def late(root):
        monkeypatch.undo()
        bind(root, **VENUE)
        real(root)

    monkeypatch.setattr(root_module, "_refuse_other_content", late)

    assert bind(tmp_path, **VENUE) == Binding(1, **VENUE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 1}', "venue"),
        ('{"format": 1, "venue": 7, "network": "n"}', "venue"),
        ('{"format": "1", "venue": "v", "network": "n"}', "format"),
        ('{"venue": "v", "network": "n"}', "format"),
        ("\x00" * 60, "cannot be read"),
    ],
)
def test_a_damaged_binding_is_refused_and_kept(root, text, problem):
    """
    The user restores it; we never guess.
    """
    (root / "root.json").write_text(text)

    for attempt in (lambda: bind(root, **VENUE), lambda: read_binding(root)):
        with pytest.raises(RootError, match=f"(?s){problem}.*restore it: format, venue and network as JSON"):
            attempt()
    assert (root / "root.json").read_text() == text


@pytest.mark.parametrize("text", ['{"format": 2, "venue": "v", "network": "n"}', '{"format": 2, "venues": []}'])
def test_a_newer_format_is_refused_untouched(root, text):
    """
    Whatever members it has.
    """
    (root / "root.json").write_text(text)
    (root / "lake").rmdir()

    for attempt in (lambda: bind(root, **VENUE), lambda: read_binding(root)):
        with pytest.raises(RootError, match="is of format 2; this version knows up to 1; upgrade"):
            attempt()
    assert not (root / "lake").exists()


def test_members_of_later_versions_are_ignored(root):
    """
    The same format may grow.
    """
    (root / "root.json").write_text('{"format": 1, "venue": "v", "network": "n", "new": 1}')

    assert read_binding(root) == Binding(1, "v", "n")


def test_what_is_no_root_is_refused(tmp_path):
    """
    Given to any verb that reads: no folder, a file, or a folder of other things.
    """
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    for name, problem in [
        ("nowhere", "is not a folder"),
        ("file", "is not a folder"),
        ("loop", "is not a folder"),
        ("file/below", "is not a folder"),
        ("folder", r"it has no root.json"),
        ("x" * 300, "cannot be read|is not a folder"),
    ]:
        with pytest.raises(RootError, match=problem):
            read_binding(tmp_path / name)


def test_a_binding_that_cannot_be_opened_is_refused(root):
    """
    Here because it is a folder.
    """
    (root / "root.json").unlink()
    (root / "root.json").mkdir()

    for attempt in (lambda: bind(root, **VENUE), lambda: read_binding(root)):
        with pytest.raises(RootError, match="cannot be read: Is a directory; check its owner and mode"):
            attempt()


def test_no_right_to_look_is_said(root, monkeypatch):
    """
    The kernel's word, and what to check.
    """

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(RootError, match="cannot be read: Permission denied; check its owner and mode"):
        read_binding(root)


@pytest.mark.parametrize("below", ["file", "file/data"])
def test_a_path_at_or_below_a_file_is_refused(tmp_path, below):
    """
    Whoever asks for it: the recorder, or the seal.
    """
    (tmp_path / "file").touch()

    for attempt in (lambda: bind(tmp_path / below, **VENUE), lambda: seal_lock(tmp_path / below)):
        with pytest.raises(RootError, match=r"is a file, or lies below one; choose another"):
            attempt()


@pytest.mark.parametrize(
    ("code", "hint"),
    [(errno.EROFS, "check its owner and mode, or choose another root"), (errno.ENOSPC, "free space on it")],
)
@pytest.mark.parametrize("call", ["write_all", "make_directories", "sync"])
@pytest.mark.parametrize("new", [False, True])
def test_a_disk_that_cannot_be_written_is_found_at_the_start(root, tmp_path, monkeypatch, code, hint, call, new):
    """
    Also where the root is there already: the probe is what tells, and it leaves nothing.
    """

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(durable, call, fail)
    target = tmp_path / "new" if new else root
    with pytest.raises(RootError, match=f"cannot be written: {os.strerror(code)}; {hint}"):
        bind(target, **VENUE)
    assert not list((target / "journal").glob("*") if (target / "journal").is_dir() else [])


def test_one_seal_at_a_time(root):
    """
    The second is told, and may try again.
    """
    lock = seal_lock(root)
    with pytest.raises(RootBusy, match="another seal or verify is at work; try again later"):
        seal_lock(root)
    lock.release()
    seal_lock(root).release()
