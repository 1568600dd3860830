"""
SIGKILL for the recorder and the sealer, at random moments, on one root: what was committed is in the lake, once.
"""

import os
import random
import signal
import time
from collections import Counter

import polars as pl
import pytest
from program import Bench

from recorder.analysis import Lake
from recorder.journal.reader import read_merged, segments
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import SECOND_NS
from recorder.simulator.ledger import digest, read_ledger

ENDS_WITHIN_S = 15.0
"""Five, if the processor is there when it is wanted; `test_daemon.py` adds up the limits."""


@pytest.fixture
def bench(tmp_path):
    """
    Running for the length of a test.
    """
    bench = Bench(tmp_path, settings="[seal]\nenabled = false\n")
    yield bench
    bench.close()


def crash_and_restart(bench: Bench, chance: random.Random, *, rounds: int, within_s: float = 1.2) -> list[int]:
    """
    Kill recorder and sealer again and again, the sealer within so long of its start; the instants (ns) of the
    recorder's deaths.
    """
    deaths: list[int] = []
    for number in range(1, rounds + 1):
        before = bench.runs()  # read already; all of them are at the end
        recorder = bench.recorder()
        sealer = None
        try:
            bench.wait_recording(beside=before)
            sealer = bench.sealer()
            time.sleep(chance.uniform(0.05, within_s))
            sealer.kill()
            time.sleep(chance.uniform(0, 0.3))
        finally:
            recorder.kill()
            for child in (recorder, *((sealer,) if sealer is not None else ())):
                child.wait(10)
        deaths.append(time.time_ns())
        bench.committed.update(bench.data_frames(before).keys())
        if number % 10 == 0:
            print(f"{number} kills, {len(bench.committed)} frames committed", flush=True)
    return deaths


def everything_is_in_the_lake(bench: Bench, deaths: list[int]) -> None:
    """
    After one last orderly run and a seal.
    """
    recorder = bench.recorder()
    bench.wait_recording(than=len(bench.data_frames()))
    recorder.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert recorder.wait(30) == 0
    assert time.monotonic() - asked < ENDS_WITHIN_S
    seal(bench.root, open_hour=True)

    frames = bench.data_frames()
    lake = Lake(bench.root)
    rows = [
        row
        for frame in (lake.books(units="raw"), lake.trades(units="raw"), lake.undecodable())
        for row in frame.select("run", "seq").collect().rows()
    ]
    assert not [key for key, count in Counter(rows).items() if count > 1], "a frame twice"
    assert set(rows) == frames.keys(), "what the journal holds is what the lake holds"
    assert bench.committed <= set(rows), "what was committed once is there for ever"
    sent = Counter(line.sha for line in read_ledger(bench.ledger) if line.what == "sent")
    assert Counter(digest(payload.decode()) for payload in frames.values()) <= sent
    down = lake.quality().filter(pl.col("kind") == "recorder_down").unique("event_id").collect()
    ended = down.filter(~pl.col("continues")).select(pl.col("true_start", "end").dt.epoch("ns")).rows()
    for death in deaths:
        # The last committed entry is older than the death by the commit interval and the second between two entries.
        assert any(start - SECOND_NS <= death <= end + SECOND_NS for start, end in ended), "a window without its event"
    assert len(ended) == len(deaths)
    assert verify(bench.root).problems == []
    assert not list((bench.root / "quarantine").rglob("*")), "nothing was damaged"


@pytest.mark.timeout(120)
def test_nothing_committed_is_lost_or_doubled_by_random_kills(bench):
    """
    Recorder and sealer are killed in the middle of whatever they do; every window without a recorder has its event.
    """
    # The gate must say the same of the same commit, as far as a real clock lets it.
    seed = 9 if os.environ.get("CI") else random.randrange(1 << 32)
    print(f"seed {seed}")

    deaths = crash_and_restart(bench, random.Random(seed), rounds=6)

    everything_is_in_the_lake(bench, deaths)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_committed_is_lost_or_doubled_by_a_hundred_random_kills(bench):
    """
    The long form. The journal of a hundred runs takes a sealer longer, so it is given longer.
    """
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")

    deaths = crash_and_restart(bench, random.Random(seed), rounds=100, within_s=3.0)

    everything_is_in_the_lake(bench, deaths)


def test_a_term_signal_ends_the_recorder_within_five_seconds_with_everything_committed(bench):
    """
    All that it says it heard is readable, the run ends in order, and no time without a recorder is claimed before it.
    """
    recorder = bench.recorder()
    bench.wait_recording(than=50)
    asked = time.monotonic()
    recorder.send_signal(signal.SIGTERM)

    assert recorder.wait(30) == 0
    assert time.monotonic() - asked < ENDS_WITHIN_S
    entries = list(read_merged(segments(bench.root / JOURNAL), start=0, end=1 << 62))
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert b'"run_stopped"' in entries[-1].payload
    assert not list((bench.root / JOURNAL).rglob("*.open"))


def test_a_seal_that_is_killed_leaves_no_hour_half_published(bench):
    """
    At any moment: a manifest that is there describes files that are there, whole.
    """
    chance = random.Random(4711)
    recorder = bench.recorder()
    bench.wait_recording(than=200)
    recorder.kill()
    recorder.wait(10)
    for _ in range(5):
        sealer = bench.sealer()
        time.sleep(chance.uniform(0.3, 0.9))
        sealer.kill()
        sealer.wait(10)
        for hour in manifests.hours(bench.root):
            manifest = manifests.read(bench.root, hour)
            if manifest is not None:
                assert all((bench.root / file.path).stat().st_size == file.bytes for file in manifest.files)
        assert not [p for p in verify(bench.root).problems if "is in no manifest" not in p.problem]
    seal(bench.root, open_hour=True)

    assert verify(bench.root).problems == []
