"""
A disk without space or inodes: the recorder stays up, says so on the disk that is full, and goes on by itself.
"""

import asyncio
import datetime as dt
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from socket import SO_REUSEADDR, SOL_SOCKET, socket
from threading import Event
from types import SimpleNamespace
from urllib.request import urlopen

import polars as pl
import pytest
from disks import ext4, tmpfs
from program import Bench

from lake_cases import make_root, recorded
from loopback import within_an_hour
from recorder.analysis import Lake
from recorder.config import Storage
from recorder.daemon.disk import SEALED_GOES, UNLIMITED, DiskGuard, Space, space, stage
from recorder.journal.reader import segments
from recorder.lake.layout import hour_of
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import (
    HOUR_NS,
    SECOND_NS,
    Disconnected,
    DiskFreed,
    DiskFull,
    EntryKind,
    Expired,
    LoopStalled,
    Telemetry,
    decode_fact,
)
from recorder.status.follow import Follower

MIB = 1 << 20
SETTINGS = f"""
stop_free_bytes = {2 * MIB}
stop_free_inodes = 8
expire_free_bytes = {3 * MIB}
reserve_bytes = {MIB}
"""


@pytest.mark.parametrize(
    ("free", "inodes", "stopped", "wanted"),
    [
        (2000, 200, False, "fine"),
        (999, 200, False, "expire"),
        (2000, 39, False, "expire"),
        (99, 200, False, "stop"),
        (2000, 9, False, "stop"),
        (149, 200, False, "expire"),
        (149, 200, True, "stop"),
        (2000, 14, True, "stop"),
        (151, 200, True, "expire"),
        (2000, UNLIMITED, True, "fine"),
    ],
)
def test_what_has_to_be_done_follows_from_what_is_free(free, inodes, stopped, wanted):
    """
    Bytes and inodes alike; once stopped, half as much again must be there.
    """
    limits = Storage(Path("x"), stop_free_bytes=100, stop_free_inodes=10, expire_free_bytes=1000)

    assert stage(Space(free, 10_000, inodes, 1000), limits, stopped=stopped) == wanted


def test_names_that_are_looked_up_for_ever_hide_no_full_disk(tmp_path):
    """
    Each such lookup holds a thread of the loop's few; the disk is looked at by one of its own.
    """
    said, dead = [], Event()
    limits = Storage(tmp_path, stop_free_bytes=1 << 60, reserve_bytes=0)
    tape = SimpleNamespace(run="run", journal=SimpleNamespace(stuck=None), fact=lambda _: 1)

    async def scenario():
        loop = asyncio.get_running_loop()
        lookups = ThreadPoolExecutor(1)
        loop.set_default_executor(lookups)
        hung = loop.run_in_executor(None, dead.wait, 30)
        guard = DiskGuard(tmp_path, limits, tape=lambda: tape, pause=said.append, resume=said.clear, press=None)
        async with asyncio.timeout(10):
            await guard.look()
        guard.close()
        dead.set()
        await hung

    asyncio.run(scenario())

    assert said == ["the disk is full"]


def published(root: Path) -> dict[str, str]:
    """
    Digests of everything in the lake.
    """
    return {p.as_posix(): sha256(p.read_bytes()).hexdigest() for p in (root / "lake").rglob("*.parquet")}


def fill(point: Path, what: str) -> list[Path]:
    """
    Take what is left of a disk.
    """
    made: list[Path] = []
    try:
        while True:
            path = point / f"ballast-{len(made)}"
            path.touch()
            made.append(path)
            if what == "bytes":
                with path.open("wb", buffering=0) as file:
                    while True:
                        file.write(os.urandom(4096))
    except OSError:
        return made


@contextmanager
def free_port() -> Iterator[int]:
    """
    One that nobody listens at, and that the system gives to nobody else meanwhile: it is held, as two may hold an
    address that say so and of which one listens.
    """
    with socket() as held:
        held.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def disk_facts(bench: Bench) -> list[type]:
    """
    Of a full disk, in order.
    """
    return [type(fact) for fact in facts_of(bench) if isinstance(fact, DiskFull | DiskFreed)]


def wait_for(what, within_s: float) -> None:
    """
    Until something is so.
    """
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < within_s, "it did not come about"
        time.sleep(0.05)


def again_s(bench: Bench, freed: int) -> float:
    """
    How long after that instant a frame was heard again, but for the time in which the recorder stood still with the
    machine, by its own account.
    """
    later = [entry for entry in bench.entries() if entry.recv_ts > freed]
    heard = next(entry.recv_ts for entry in later if entry.kind == EntryKind.FRAME)
    told = [decode_fact(entry.payload) for entry in later if entry.kind == EntryKind.FACT and entry.recv_ts <= heard]
    return (heard - freed - sum(fact.stall_ns for fact in told if isinstance(fact, LoopStalled))) / SECOND_NS


@pytest.mark.needs("root", "mount")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_full_disk_is_on_record_and_capture_goes_on_by_itself(tmp_path, what):
    """
    The fact is written while nothing is free; ≤ 5 s after there is space again frames are committed, and what was
    published is as it was.
    """
    # Of an event that goes on over the hour's turn there are two parts.
    within_an_hour(60)
    with tmpfs(tmp_path / "disk", size="12m", inodes=400) as point, free_port() as port:
        listen = f"127.0.0.1:{port}"
        settings = f'[seal]\nenabled = false\n[metrics]\nlisten = "{listen}"\n'
        bench = Bench(tmp_path, root=point / "root", settings=settings, storage=SETTINGS)
        recorder = bench.recorder()
        try:
            bench.wait_recording(than=20)
            wait_for(lambda: f"status at http://{listen}" in bench.said(), 60)  # it is up later than the recording
            seal(bench.root, open_hour=True)
            before = published(bench.root)
            ballast = fill(point, what)

            wait_for(lambda: disk_facts(bench) == [DiskFull], 40)
            # What its socket had delivered by then is still taken.
            wait_for(lambda: any(isinstance(fact, Disconnected) for fact in facts_of(bench)), 40)
            heard = len(bench.data_frames())
            with closing(Follower(bench.root)) as follower:
                follower.advance()
                status = follower.status()
            assert not status.ready
            assert status.paused_since is not None
            assert status.problems[0].startswith("the disk is full: capture stopped")
            assert (status.disk.free_inodes if what == "inodes" else status.disk.free_bytes) < 2 * MIB
            with urlopen(f"http://{listen}/metrics", timeout=10) as answer:
                assert b"\ndrift_recorder_capture_paused 1.0\n" in answer.read()
            time.sleep(1.5)
            assert recorder.poll() is None, bench.said()
            assert len(bench.data_frames()) == heard, "capture goes on without space to keep it"
            assert published(bench.root) == before

            freed = time.time_ns()
            for path in ballast:
                path.unlink()
            wait_for(lambda: len(bench.data_frames()) > heard, 40)
            took_s = again_s(bench, freed)
            print(f"frames again {took_s:.1f} s after there was space")
            assert took_s <= 5
            recorder.send_signal(signal.SIGTERM)
            assert recorder.wait(30) == 0, bench.said()
        finally:
            recorder.kill()
            recorder.wait(10)
            bench.close()

        assert disk_facts(bench) == [DiskFull, DiskFreed]
        seal(bench.root, open_hour=True)
        events = Lake(bench.root).quality().filter(pl.col("kind").is_in(["disk_full", "disconnected"])).collect()
        full = events.filter(kind="disk_full").row(0, named=True)
        cut = [e for e in events.filter(kind="disconnected").to_dicts() if "disk is full" in e["evidence"]]
        assert full["cause"] == "recorder"
        assert not full["continues"]
        # What was not heard meanwhile is bounded by the event of the connection that was cut.
        assert cut
        assert cut[0]["cause"] == "recorder"
        # What its socket had delivered by then is still taken.
        assert cut[0]["start"] <= full["start"] + dt.timedelta(seconds=1)
        assert full["end"] <= cut[0]["end"]
        assert verify(bench.root).problems == []


@pytest.mark.needs("root", "loop")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_sealed_journal_goes_early_and_recording_goes_on(tmp_path, what):
    """
    The rung before the last, on a file system in a file: a disk that fills up takes journal whose hours are sealed and
    read back, long before its week is over. Not a moment is lost, nothing published is touched, and it is on record.
    """
    # At the hour's turn the hour that is recorded could go as well.
    within_an_hour(90)
    with ext4(tmp_path, size=40 * MIB, inodes=600 if what == "inodes" else 0) as point:
        root = make_root(point / "root")
        now = hour_of(time.time_ns())
        for number in range(5, 2, -1):
            recorded(root, now - number * HOUR_NS, now - number * HOUR_NS + 600 * SECOND_NS, nonce=f"{number:06x}")
        seal(root)
        before, old = published(root), segments(root / "journal")
        assert verify(root).problems == []
        storage = f"""
stop_free_bytes = {2 * MIB}
stop_free_inodes = 40
expire_free_bytes = {8 * MIB}
reserve_bytes = {MIB}
"""
        bench = Bench(tmp_path, root=root, venue="test", storage=storage, settings='[metrics]\nlisten = ""\n')
        recorder = bench.recorder()
        try:
            bench.wait_recording(than=len(bench.data_frames()) + 20)
            ballast_until(point, what, MIB * 7 if what == "bytes" else 120)

            def early():
                return [f for f in facts_of(bench) if isinstance(f, Expired)]

            wait_for(early, 120)
            bench.wait_recording(than=len(bench.data_frames()) + 20)
            assert recorder.poll() is None, bench.said()
            recorder.send_signal(signal.SIGTERM)
            assert recorder.wait(30) == 0, bench.said()
        finally:
            recorder.kill()
            recorder.wait(10)
            bench.close()

        left = {segment.path for segment in segments(root / "journal")}
        # The last hour on record before the one that is not over stays: the next is sealed from it.
        assert [s for s in old if s.start < now - 3 * HOUR_NS and s.path in left] == []
        assert [fact.what for fact in early()] == ["journal"] * len(early())
        assert sum(fact.files for fact in early()) == sum(1 for s in old if s.path not in left)
        assert disk_facts(bench) == [], "capture stopped, though there was journal to let go of"
        assert SEALED_GOES in bench.said(), "nobody was warned"
        there = published(root)
        assert {path: there.get(path) for path in before} == before
        assert verify(root).problems == []
        events = Lake(root).quality().filter(kind="disconnected").collect()
        assert len(events) == 0


def facts_of(bench: Bench) -> list[object]:
    """
    All facts of the runs there are, in order.
    """
    return [decode_fact(e.payload) for e in bench.entries() if e.kind == EntryKind.FACT]


def ballast_until(point: Path, what: str, left: int) -> None:
    """
    Take space of a disk until so many bytes or inodes are free.
    """
    if what == "bytes":
        with (point / "ballast").open("wb", buffering=0) as file:
            while (free := space(point).free_bytes) > left:
                file.write(bytes(min(free - left, MIB)))
                os.fsync(file.fileno())
    else:
        for number in range(space(point).free_inodes - left):
            (point / f"ballast-{number}").touch()


@pytest.mark.needs("root", "mount")
def test_a_recorder_that_starts_on_a_full_disk_waits_for_space(tmp_path):
    """
    On the reserve of the one before it: a supervisor that starts it again and again would record nothing. And it can be
    stopped while the disk is full again.
    """
    with tmpfs(tmp_path / "disk", size="12m") as point:
        bench = Bench(tmp_path, root=point / "root", settings="[seal]\nenabled = false\n", storage=SETTINGS)
        recorder = bench.recorder()
        try:
            bench.wait_recording(than=20)
            recorder.kill()
            recorder.wait(10)
            ballast = fill(point, "bytes")
            heard = len(bench.data_frames())
            recorder = bench.recorder()
            wait_for(lambda: disk_facts(bench) == [DiskFull], 40)
            assert len(bench.data_frames()) == heard
            freed = time.time_ns()
            for path in ballast:
                path.unlink()
            wait_for(lambda: len(bench.data_frames()) > heard, 40)
            assert again_s(bench, freed) <= 5
            assert recorder.poll() is None
            fill(point, "bytes")
            wait_for(lambda: disk_facts(bench) == [DiskFull, DiskFreed, DiskFull], 40)
            recorder.send_signal(signal.SIGTERM)
            assert recorder.wait(30) == 0, "what was heard before it was full is committed"
            rows = [fact for fact in facts_of(bench) if isinstance(fact, Telemetry)]
            assert rows[-1].paused, "the minute in which it stood still does not say so"
        finally:
            recorder.kill()
            recorder.wait(10)
            bench.close()
