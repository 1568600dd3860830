"""
Syncing and renaming: a name that is there is whole, and a lock holds against other processes.
"""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recorder import durable
from recorder.errors import RootBusy


def open_descriptors() -> int:
    """
    Of this process.
    """
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """
    The order of syncs and renames, by name of what they were asked of.
    """
    seen: list[str] = []
    real_fsync, real_fdatasync, real_rename = os.fsync, os.fdatasync, os.rename

    def name(fd: int) -> str:
        return Path(f"/proc/self/fd/{fd}").readlink().name

    def fsync(fd: int) -> None:
        seen.append(f"fsync {name(fd)}")
        real_fsync(fd)

    def fdatasync(fd: int) -> None:
        seen.append(f"fdatasync {name(fd)}")
        real_fdatasync(fd)

    def rename(source: Path, target: Path) -> None:
        seen.append(f"rename {source.name} {target.name}")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(os, "rename", rename)
    return seen


# ---- publishing


def test_publishing_syncs_before_the_name_is_there_and_after(tmp_path, calls):
    """
    File, rename, directory: a power cut at any moment leaves the old content or the new.
    """
    folder = tmp_path / "folder"
    folder.mkdir()
    durable.publish_bytes(folder / "root.json", b"new")

    assert (folder / "root.json").read_bytes() == b"new"
    assert calls == ["fdatasync .root.json.tmp", "rename .root.json.tmp root.json", "fsync folder"]


@pytest.mark.parametrize("call", ["write_all", "sync", "rename"])
def test_publishing_that_fails_leaves_the_old_content_and_no_trail(tmp_path, monkeypatch, call):
    """
    The temporary file goes too: a full disk needs its space.
    """
    path = tmp_path / "root.json"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, call, fail)
    with pytest.raises(OSError, match="No space"):
        durable.publish_bytes(path, b"new content")

    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["root.json"]


@pytest.mark.parametrize("kind", ["symlink", "hard link", "leftover"])
def test_a_temporary_name_that_is_taken_is_not_written_through(tmp_path, kind):
    """
    Neither a link that somebody put there nor what a crash left reaches what is published.
    """
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    temporary = tmp_path / ".root.json.tmp"
    if kind == "symlink":
        temporary.symlink_to(victim)
    elif kind == "hard link":
        temporary.hardlink_to(victim)
    else:
        temporary.write_bytes(b"longer than what is published now")

    durable.publish_bytes(tmp_path / "root.json", b"new")

    assert (tmp_path / "root.json").read_bytes() == b"new"
    assert not (tmp_path / "root.json").is_symlink()
    assert victim.read_bytes() == b"precious"
    assert not temporary.exists()


def test_a_published_name_that_was_a_symlink_is_replaced(tmp_path):
    """
    Not what it pointed to.
    """
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "root.json").symlink_to(victim)

    durable.publish_bytes(tmp_path / "root.json", b"new")

    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "root.json").read_bytes() == b"new"


def test_a_rename_across_folders_syncs_both(tmp_path, calls):
    """
    Else a power cut could bring the old name back, or lose both.
    """
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "a").touch()
    durable.rename(tmp_path / "one" / "a", tmp_path / "two" / "b")

    assert calls == ["rename a b", "fsync two", "fsync one"]


def test_removing_is_durable_and_may_come_late(tmp_path, calls):
    """
    A file that is gone already is what was wanted.
    """
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").touch()

    durable.remove(folder / "a")
    durable.remove(folder / "a")

    assert list(folder.iterdir()) == []
    assert calls == ["fsync folder"]


def test_a_file_of_somebody_else_can_be_synced(tmp_path, calls):
    """
    A library writes it, we make it durable.
    """
    (tmp_path / "a").write_bytes(b"x")
    durable.sync_file(tmp_path / "a")
    durable.drop_cache(tmp_path / "a")

    assert calls == ["fsync a"]
    assert (tmp_path / "a").read_bytes() == b"x"


# ---- appending


def test_a_file_to_append_to_must_be_new(tmp_path):
    """
    Neither a file nor a link is ever written into.
    """
    (tmp_path / "there").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError):
            durable.create_append(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_to_append_to_is_in_its_folder_durably(tmp_path, calls):
    """
    Before anything is written to it.
    """
    folder = tmp_path / "folder"
    folder.mkdir()
    fd = durable.create_append(folder / "a")
    assert calls == ["fsync folder"]
    durable.write_all(fd, b"one")
    durable.sync(fd)
    durable.write_all(fd, b"two")
    durable.close(fd)

    assert (folder / "a").read_bytes() == b"onetwo"
    assert calls == ["fsync folder", "fdatasync a"]


def test_a_file_whose_folder_cannot_be_synced_is_gone_again(tmp_path, monkeypatch):
    """
    And its descriptor closed: trying for an hour must not leave a file a second.
    """
    before = open_descriptors()

    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durable, "sync_directory", fail)
    with pytest.raises(OSError, match="Input/output"):
        durable.create_append(tmp_path / "a")

    assert list(tmp_path.iterdir()) == []
    assert open_descriptors() == before


def test_short_writes_are_gone_on_with_until_the_disk_says_why(monkeypatch):
    """
    A disk that fills writes short before it says ENOSPC.
    """
    taken = bytearray()

    def write(_, data):
        if len(taken) >= 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken.extend(data[:3])
        return len(data[:3])

    monkeypatch.setattr(os, "write", write)
    durable.write_all(0, b"0123456")
    assert bytes(taken) == b"0123456"

    with pytest.raises(OSError, match="No space"):
        durable.write_all(0, b"789abcdef")


def test_a_write_that_takes_nothing_is_an_error(monkeypatch):
    """
    Rather than a loop without end.
    """
    monkeypatch.setattr(os, "write", lambda *_: 0)

    with pytest.raises(OSError, match="write returned 0"):
        durable.write_all(0, b"x")


# ---- directories


def test_each_new_directory_is_synced_into_its_parent(tmp_path, calls):
    """
    From the outermost on; what is there is left alone.
    """
    durable.make_directories(tmp_path / "a" / "b")
    assert calls == [f"fsync {tmp_path.name}", "fsync a"]

    calls.clear()
    durable.make_directories(tmp_path / "a" / "b")
    assert calls == []


def test_directories_may_be_made_by_several_at_once(tmp_path):
    """
    Two recorders start on the same new root.
    """
    for attempt in range(20):
        target = tmp_path.joinpath(str(attempt), *"abcdef")
        barrier = threading.Barrier(4)
        errors: list[BaseException] = []

        def make(target: Path = target, barrier: threading.Barrier = barrier, errors: list[BaseException] = errors):
            barrier.wait()
            try:
                durable.make_directories(target)
            except OSError as error:
                errors.append(error)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert target.is_dir()
        assert errors == []


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_something_else_of_that_name_is_an_error(tmp_path, kind):
    """
    Not silently taken for a directory.
    """
    taken = tmp_path / "taken"
    if kind == "file":
        taken.touch()
    else:
        taken.symlink_to(tmp_path / "nowhere")

    with pytest.raises(FileExistsError):
        durable.make_directories(taken)
    with pytest.raises(OSError, match="taken"):
        durable.make_directories(taken / "below")


# ---- locks


HOLD = """
import sys
from pathlib import Path
from recorder.durable import Lock
lock = Lock(Path(sys.argv[1]), holder="nobody")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path):
    """
    Another process that holds the lock file.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_lock_keeps_another_process_out_until_that_dies(tmp_path, other):
    """
    However it dies: the kernel lets go of it.
    """
    path = tmp_path / "lock"
    assert durable.is_locked(path)
    with pytest.raises(RootBusy, match="lock is locked; somebody else records here"):
        durable.Lock(path, holder="somebody else records here")

    other.kill()
    other.wait()

    assert not durable.is_locked(path)
    durable.Lock(path, holder="").release()


def test_asking_does_not_disturb_the_holder(tmp_path, other):
    """
    It holds it as before.
    """
    for _ in range(50):
        assert durable.is_locked(tmp_path / "lock")
    assert other.poll() is None
    with pytest.raises(RootBusy):
        durable.Lock(tmp_path / "lock", holder="")


def test_asking_does_not_keep_anybody_from_locking(tmp_path):
    """
    While others ask without pause, a free lock can still be had.
    """
    path = tmp_path / "lock"
    path.touch()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            durable.is_locked(path)
            done.wait(0.001)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(30):
            durable.Lock(path, holder="").release()
    finally:
        done.set()
        for thread in asking:
            thread.join()


def test_a_lock_of_this_process_is_seen_and_let_go(tmp_path):
    """
    A recorder asks about its own runs as well.
    """
    path = tmp_path / "lock"
    assert not durable.is_locked(path)
    lock = durable.Lock(path, holder="")
    assert durable.is_locked(path)
    lock.release()
    assert not durable.is_locked(path)


def test_asking_needs_no_right_to_write(tmp_path, monkeypatch):
    """
    A reader of somebody else's root may ask who records there.
    """
    path = tmp_path / "lock"
    lock = durable.Lock(path, holder="")
    flags: list[int] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flag, *mode: flags.append(flag) or real(path, flag, *mode))

    assert durable.is_locked(path)

    assert [flag & os.O_ACCMODE for flag in flags] == [os.O_RDONLY]
    lock.release()


def test_a_lock_file_that_is_a_link_is_refused(tmp_path):
    """
    It would make or lock somebody else's file.
    """
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")

    for attempt in (lambda: durable.Lock(tmp_path / "lock", holder=""), lambda: durable.is_locked(tmp_path / "lock")):
        with pytest.raises(OSError, match="symbolic links"):
            attempt()
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_that_is_not_had_leaves_no_descriptor(tmp_path):
    """
    Trying again and again does not use them up.
    """
    lock = durable.Lock(tmp_path / "lock", holder="")
    before = open_descriptors()
    with pytest.raises(RootBusy):
        durable.Lock(tmp_path / "lock", holder="")
    assert open_descriptors() == before
    lock.release()
