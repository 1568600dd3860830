"""
Every call that changes a disk fails, in turn: once, for a while, for ever; with each of the errors disks give.

In each case what was taken is kept, nothing hangs, no hole is silent, and all goes on by itself.
"""

import errno
import json
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from program import Bench
from zygote import Disk

from journal_cases import HEADER, HOUR, run_folder
from lake_cases import NEXT, S, make_root, recorded, tree
from recorder import durable
from recorder.clock import wall_ns
from recorder.errors import RecorderError, RootError
from recorder.journal import writer
from recorder.journal.reader import read_run, segments
from recorder.journal.writer import Journal, JournalSettings
from recorder.lake.layout import JOURNAL
from recorder.lake.repair import repair
from recorder.lake.retention import expire
from recorder.lake.root import bind, seal_lock
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import SECOND_NS, EntryKind, decode_fact

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE)
CALLS = ("open", "write", "short write", "fdatasync", "rename", "fsync", "unlink")
FOR_EVER = 1 << 30
STRACE = ("strace", "-D", "-f", "-qq", "-o")
"""As a grandchild, so that signals reach the program itself."""


def failing(what: str | None, *, first: int, times: int, code: int) -> Disk:
    """
    Fails from the `first` call of a kind (None: of any) on, so many times. A short write takes half, and fails then.
    """
    wanted, seen, left = "write" if what == "short write" else what, 0, times

    def at_call(name, _, real):
        nonlocal seen, left
        if wanted is not None and name != wanted:
            return real()
        seen += 1
        if seen < first or not left:
            return real()
        left -= 1
        raise OSError(code, "injected")

    disk = Disk(at_call)
    if what == "short write":
        whole = disk.write
        disk.write = lambda fd, data: whole(fd, data[: len(data) // 2] if len(data) > 1 and seen < first else data)
    return disk


# ---- the journal


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The writer tries again without a pause.
    """
    monkeypatch.setattr(writer, "pause", lambda _: time.sleep(0.0005))


def appended(folder: Path) -> Journal:
    """
    Twelve entries over four segments, each waited for or not.
    """
    settings = JournalSettings(commit_interval_s=0.0005, segment_s=3, frame_s=1)
    journal = Journal(folder, header=lambda: HEADER, settings=settings)
    journal.start()
    for number in range(1, 13):
        journal.append(
            EntryKind.FRAME, connection=0, attempt=1, recv_ts=HOUR + number * SECOND_NS, payload=b"%d" % number * 300
        )
        time.sleep(0.0006)
    return journal


def numbers(folder: Path) -> list[int]:
    """
    What is read back.
    """
    return [entry.seq for entry in read_run(segments(folder.parent))]


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("call", CALLS)
def test_the_journal_keeps_all_whatever_call_fails(tmp_path, at_once, monkeypatch, call, times):
    """
    Each of the first calls of a kind, with each error, once and for a while: all entries are there, once, in order, and
    the failure is told.
    """
    for first in (1, 2, 3, 5):
        for code in ERRORS:
            folder = run_folder(tmp_path / f"{first}-{code}")
            disk = failing(call, first=first, times=times, code=code)
            monkeypatch.setattr(durable, "system", disk)
            journal = appended(folder)
            assert journal.close(20), "it hangs"
            case = f"{call} {first} {errno.errorcode[code]}"
            assert numbers(folder) == list(range(1, 13)), case
            # The removal of a file nobody needs may fail in silence.
            struck = call != "unlink" and disk.count > first
            assert {f.errno for f in journal.take_failures()} <= {code}, case
            assert not struck or journal.stuck is None


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("call", ["open", "write", "fdatasync", "fsync"])
def test_a_journal_whose_disk_fails_for_ever_says_so_and_goes_on_when_it_is_back(
    tmp_path, at_once, monkeypatch, call, code
):
    """
    A stop does not hang on it; what is in memory is written when it can be.
    """
    folder = run_folder(tmp_path)
    monkeypatch.setattr(durable, "system", failing(call, first=2, times=FOR_EVER, code=code))
    journal = appended(folder)
    deadline = time.monotonic() + 20
    while journal.stuck is None:
        assert time.monotonic() < deadline, "no call failed"
        time.sleep(0.001)

    assert not journal.close(0.1)
    assert journal.stuck == code
    told = journal.take_failures()
    assert {failure.errno for failure in told} == {code}
    assert len(told) <= 3, "told once for each operation, however often it is tried"

    monkeypatch.undo()
    monkeypatch.setattr(writer, "pause", lambda _: time.sleep(0.0005))
    assert journal.close(20)
    assert numbers(folder) == list(range(1, 13))


def test_a_journal_whose_disk_never_comes_back_drops_by_name(tmp_path, at_once, monkeypatch):
    """
    Memory is bounded; the hole is in the numbers, and its fact waits for the disk with the rest.
    """
    folder = run_folder(tmp_path)
    monkeypatch.setattr(durable, "system", failing("write", first=1, times=FOR_EVER, code=errno.EIO))
    journal = Journal(
        folder, header=lambda: HEADER, settings=JournalSettings(commit_interval_s=0.001, queue_bytes=4096)
    )
    journal.start()
    kept = [
        journal.append(EntryKind.FRAME, connection=0, attempt=1, recv_ts=HOUR + n, payload=b"x" * 500)
        for n in range(20)
    ]
    assert 0 < kept.count(0) < 20
    monkeypatch.undo()
    assert journal.close(20)

    entries = list(read_run(segments(folder.parent)))
    overflows = [decode_fact(e.payload) for e in entries if e.kind == EntryKind.FACT]
    assert sum(overflow.count for overflow in overflows) == kept.count(0)
    assert sum(e.kind == EntryKind.FRAME for e in entries) == 20 - kept.count(0)


# ---- the lake


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> Path:
    """
    A root with two hours, nothing of it sealed.
    """
    root = make_root(tmp_path_factory.mktemp("io") / "journal")
    recorded(root, NEXT - 4 * S, NEXT + 4 * S)
    return root


@pytest.fixture(scope="module")
def sealed(journal, tmp_path_factory) -> Path:
    """
    The same, sealed.
    """
    root = shutil.copytree(journal, tmp_path_factory.mktemp("io") / "sealed")
    seal(root)
    return root


def swept(work: Path, start: Path, do, expected: dict[str, str], monkeypatch, *, step: int, folders=()) -> int:
    """
    Fail each `step`-th call, once or from there on for ever; then do it again on a disk that is well. How many.
    """
    at, done = 1, 0
    while True:
        root = shutil.copytree(start, work / str(at))
        code, times = ERRORS[at % 4], FOR_EVER if at // step % 2 else 1
        disk = failing(None, first=at, times=times, code=code)
        monkeypatch.setattr(durable, "system", disk)
        began = time.monotonic()
        with suppress(OSError, RecorderError):
            do(root)
        assert time.monotonic() - began < 60, "it hangs"
        monkeypatch.undo()
        if disk.count < at:
            return done
        do(root)
        assert tree(root, *folders) == expected, f"call {at} failed with {errno.errorcode[code]}, {times} times"
        shutil.rmtree(root)
        at += step
        done += 1


def test_a_seal_whose_disk_fails_at_any_call_is_made_up_for(tmp_path, monkeypatch, journal, sealed):
    """
    The next one makes the tree that would have been.
    """
    assert swept(tmp_path, journal, seal, tree(sealed), monkeypatch, step=7) > 15


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_seal_whose_disk_fails_at_each_call_is_made_up_for(tmp_path, monkeypatch, journal, sealed):
    """
    The long form: every one.
    """
    assert swept(tmp_path, journal, seal, tree(sealed), monkeypatch, step=1) > 100


def test_a_seal_whose_disk_fails_touches_nothing_that_is_published(tmp_path, monkeypatch, sealed):
    """
    An hour that is made again stays as it was, or is withdrawn with its manifest, which never describes other files.
    """
    for at in range(1, 60, 6):
        root = shutil.copytree(sealed, tmp_path / str(at))
        monkeypatch.setattr(durable, "system", failing(None, first=at, times=FOR_EVER, code=errno.ENOSPC))
        with pytest.raises((OSError, RecorderError)):
            seal(root, hour=NEXT)
        monkeypatch.undo()
        problems = [problem.problem for problem in verify(root).problems]
        assert not [words for words in problems if "SHA-256" in words or "damaged" in words], problems
        seal(root)
        seal(root, hour=NEXT)  # takes what the first left under temporary names with it
        assert tree(root) == tree(sealed)
        shutil.rmtree(root)


def test_a_repair_whose_disk_fails_at_any_call_is_made_up_for(tmp_path, monkeypatch, sealed):
    """
    What it had set aside is made again by the next.
    """
    broken = shutil.copytree(sealed, tmp_path / "broken")
    for path in [*sorted((broken / "lake").rglob("*.parquet"))[::4], broken / "root.json"]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))

    assert swept(tmp_path, broken, repair, tree(sealed), monkeypatch, step=23) > 5


def test_retention_whose_disk_fails_at_any_call_is_made_up_for(tmp_path, monkeypatch, sealed):
    """
    The lake stays as it is throughout.
    """

    def do(root: Path) -> None:
        expire(root, now=wall_ns(), keep_days=0.0001, keep_bytes=1)
        assert tree(root, "lake") == tree(sealed, "lake")

    undisturbed = shutil.copytree(sealed, tmp_path / "undisturbed")
    do(undisturbed)
    expected = tree(undisturbed, "lake", "journal")

    assert swept(tmp_path, sealed, do, expected, monkeypatch, step=1, folders=("lake", "journal")) >= 3


def test_a_root_that_cannot_be_made_is_refused_and_made_later(tmp_path, monkeypatch):
    """
    Whatever call fails: an error that says so, and nothing left that another start would stumble over.
    """
    said: list[str] = []
    for at in range(1, 40, 2):
        root = tmp_path / str(at)
        disk = failing(None, first=at, times=1 if at % 4 == 1 else FOR_EVER, code=ERRORS[at // 2 % 4])
        monkeypatch.setattr(durable, "system", disk)
        try:
            bind(root, venue="test", network="mainnet-beta")
        except RootError as error:
            said.append(str(error))
        monkeypatch.undo()
        bind(root, venue="test", network="mainnet-beta")
        seal_lock(root).release()
        assert verify(root).problems == []
    assert said
    assert all("cannot be" in words for words in said)


# ---- the real processes


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "fault",
    [
        "fdatasync:error=EIO:when=8+20",
        "fdatasync:error=ENOSPC:when=8..10",
        "fsync:error=EIO:when=24+6",
        "rename:error=EIO:when=4+2",
    ],
)
def test_a_recorder_whose_calls_fail_in_the_kernel_has_every_entry(tmp_path, fault):
    """
    The program itself, its errors from strace: no number is missing, and the failure is on record.
    """
    bench = Bench(tmp_path, settings="[seal]\nenabled = false\n[journal]\nsegment_s = 1\nframe_s = 0.5\n")
    call = fault.partition(":")[0]
    under = (*STRACE, str(tmp_path / "strace"), "-e", f"trace={call}", "-e", f"inject={fault}")
    recorder = bench.child("run", bench.config(), under=under)
    try:
        deadline = time.monotonic() + 30
        while not any(b'"write_failed"' in e.payload for e in bench.entries() if e.kind == EntryKind.FACT):
            assert time.monotonic() < deadline, "no failure is on record"
            time.sleep(0.1)
        bench.wait_recording(than=len(bench.data_frames()) + 50)
        recorder.send_signal(signal.SIGTERM)
        assert recorder.wait(20) == 0, bench.said()
    except AssertionError:
        print(bench.said())
        raise
    finally:
        recorder.kill()
        recorder.wait(10)
        bench.close()

    assert "(INJECTED)" in (tmp_path / "strace").read_text()
    entries = bench.entries()
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    facts = [json.loads(e.payload)["fact"] for e in entries if e.kind == EntryKind.FACT]
    assert "write_failed" in facts
    seal(bench.root, open_hour=True)
    assert verify(bench.root).problems == []


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "fault", ["write:error=ENOSPC:when=6+", "fsync:error=EIO:when=9+", "rename:error=EROFS:when=2+"]
)
def test_a_sealer_whose_calls_fail_in_the_kernel_says_so_and_is_made_up_for(tmp_path, journal, sealed, fault):
    """
    The program itself: an exit code, a line of what is wrong, and the next one makes the tree.
    """
    root = shutil.copytree(journal, tmp_path / "root")
    bench = Bench(tmp_path, root=root)
    call = fault.partition(":")[0]
    tracing = ("-e", f"trace={call}", "-e", f"inject={fault}")
    try:
        under = (*STRACE, str(tmp_path / "strace"), *tracing)
        sealer = bench.child("seal", root, under=under)
        code = sealer.wait(60)
        assert "(INJECTED)" in (tmp_path / "strace").read_text()
        assert code != 0
        assert bench.child("seal", root).wait(60) == 0, bench.said()
    finally:
        bench.close()

    assert tree(root) == tree(sealed)
    assert (root / JOURNAL).is_dir()
