"""
A disk without space or inodes: the recorder stays up, says so on the disk that is full, and goes on by itself.
"""

import os
import signal
import time
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from disks import tmpfs
from program import Bench

from recorder.analysis import Lake
from recorder.config import Storage
from recorder.daemon.disk import UNLIMITED, Space, stage
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import DiskFreed, DiskFull, EntryKind, decode_fact

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


def disk_facts(bench: Bench) -> list[type]:
    """
    Of a full disk, in order.
    """
    facts = [decode_fact(e.payload) for e in bench.entries() if e.kind == EntryKind.FACT]
    return [type(fact) for fact in facts if isinstance(fact, DiskFull | DiskFreed)]


def wait_for(what, within_s: float) -> float:
    """
    Until something is so; how long that took.
    """
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < within_s, "it did not come about"
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.needs("root", "mount")
@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_full_disk_is_on_record_and_capture_goes_on_by_itself(tmp_path, what):
    """
    The fact is written while nothing is free; ≤ 5 s after there is space again frames are committed, and what was
    published is as it was.
    """
    with tmpfs(tmp_path / "disk", size="12m", inodes=400) as point:
        bench = Bench(tmp_path, root=point / "root", settings="[seal]\nenabled = false\n", storage=SETTINGS)
        recorder = bench.recorder()
        try:
            bench.wait_recording(than=20)
            seal(bench.root, open_hour=True)
            before = published(bench.root)
            ballast = fill(point, what)

            wait_for(lambda: disk_facts(bench) == [DiskFull], 15)
            heard = len(bench.data_frames())
            time.sleep(1.5)
            assert recorder.poll() is None, bench.said()
            assert len(bench.data_frames()) == heard, "capture goes on without space to keep it"
            assert published(bench.root) == before

            for path in ballast:
                path.unlink()
            took_s = wait_for(lambda: len(bench.data_frames()) > heard, 20)
            print(f"frames again {took_s:.1f} s after there was space")
            assert took_s <= 5
            recorder.send_signal(signal.SIGTERM)
            assert recorder.wait(10) == 0, bench.said()
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
        assert cut[0]["start"] <= full["start"]
        assert full["end"] <= cut[0]["end"]
        assert verify(bench.root).problems == []


@pytest.mark.needs("root", "mount")
def test_a_recorder_that_starts_on_a_full_disk_waits_for_space(tmp_path):
    """
    On the reserve of the one before it: a supervisor that starts it again and again would record nothing.
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
            wait_for(lambda: disk_facts(bench) == [DiskFull], 15)
            assert len(bench.data_frames()) == heard
            for path in ballast:
                path.unlink()
            assert wait_for(lambda: len(bench.data_frames()) > heard, 20) <= 5
            assert recorder.poll() is None
        finally:
            recorder.kill()
            recorder.wait(10)
            bench.close()
