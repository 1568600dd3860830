"""
A wall clock that steps, drifts, was wrong at boot, or slept, under the real process: nothing is lost, nothing is out of
order, and segments turn with the hour.
"""

import signal
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from children import Bench, covering, read_lake, wait_until

from recorder.journal.reader import read_merged, segments
from recorder.lake.layout import JOURNAL, hour_of
from recorder.records import HOUR_NS, SECOND_NS, ClockStepped, EntryKind, LoopStalled, RunStarted, Stream
from recorder.simulator.ledger import digest, read_ledger

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
ROTATED_WITHIN_S = 2.0
UNTOLD_S = 1.0
"""Less than that a loop may stand still without a word."""


class Wall:
    """
    The wall clock of a child; its monotonic clock stays true.
    """

    def __init__(self, folder):
        self._file = folder / "wall"
        self.set(0)

    def set(self, offset_s, *, rate=None):
        """
        So far from the truth from now on, and `rate` times as fast.
        """
        words = f"{offset_s:+.3f}s"
        fresh = self._file.with_suffix(".new")
        fresh.write_text(words if rate is None else f"{words} x{rate}", encoding="ascii")
        fresh.rename(self._file)

    def environment(self):
        """
        Of a child that has this clock.
        """
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def bench(tmp_path):
    """
    A venue.
    """
    made = Bench(tmp_path, tick_ms=50)
    yield made
    made.close()


def nothing_is_lost(bench, since, until):
    """
    What was sent while it was connected is in the journal once, in order within each run, and in the lake.
    """
    entries = bench.entries()
    kept = Counter(digest(e.payload.decode()) for e in entries if e.kind == EntryKind.FRAME)
    sent = [line for line in read_ledger(bench.ledger) if line.what == "sent" and since <= line.t_ns <= until]
    assert len(sent) > 100
    assert [line for line in sent if kept[line.sha] != 1] == []
    runs = {}
    for entry in entries:
        runs.setdefault(entry.run, []).append(entry)
    for run in runs.values():
        run.sort(key=lambda entry: entry.seq)
        assert all(before.recv_ts <= after.recv_ts for before, after in pairwise(run))
        assert [entry.seq for entry in run] == list(range(run[0].seq, run[0].seq + len(run)))
    # In the order of the runs it is the order it was sent in.
    order = [digest(e.payload.decode()) for run in sorted(runs.values(), key=by_start) for e in run if is_data(e)]
    wanted = [line.sha for line in sent]
    there = set(wanted)
    assert [sha for sha in order if sha in there] == wanted
    return entries


def by_start(run):
    """
    Runs of one process begin one after the other, whatever their clocks say: the later names the one before.
    """
    return RUN_ORDER[run[0].run]


RUN_ORDER = {}


def ordered(bench):
    """
    Learn which run follows which.
    """
    before = {fact.run: fact.continues for fact in bench.facts(RunStarted)}
    run, number = next(run for run, earlier in before.items() if earlier is None), 0
    while run is not None:
        RUN_ORDER[run] = number
        number += 1
        run = next((later for later, earlier in before.items() if earlier == run), None)


def is_data(entry):
    """
    Of the venue's.
    """
    return entry.kind == EntryKind.FRAME and b'"data":' in entry.payload


@pytest.mark.needs("faketime")
@pytest.mark.timeout(120)
def test_steps_of_an_hour_either_way_cost_nothing(bench, tmp_path):
    """
    An hour forward, and two back: the connection stays, each step is on record, no frame is missing or out of order.
    """
    wall = Wall(tmp_path)
    recorder = bench.recorder(bench.config(), environment=wall.environment())
    bench.recording(recorder)
    since = time.time_ns() + SECOND_NS // 2
    for steps, offset_s in enumerate((3600, -3600), 1):
        time.sleep(1.2)
        wall.set(offset_s)
        wait_until(lambda: len(bench.facts(ClockStepped)) >= steps, 10)  # noqa: B023  # waited for at once
    time.sleep(1.5)
    until = time.time_ns() - SECOND_NS // 2
    assert recorder.stop() == 0
    ordered(bench)

    nothing_is_lost(bench, since, until)

    assert [round(fact.step_ns / HOUR_NS) for fact in bench.facts(ClockStepped)] == [1, -2]
    assert len(RUN_ORDER) >= 2
    # Two hours later all of it can be sealed, also what bears a time that is still to come.
    wall.set(7200)
    bench.seal(environment=wall.environment())
    told = bench.account(since=until)
    assert told.twice == 0
    assert told.events["clock_step"] >= 2
    assert told.events.get("disconnected", 0) <= 2, "the end of each run, and nothing else"


@pytest.mark.needs("faketime")
@pytest.mark.timeout(120)
def test_a_first_boot_in_2027_that_is_corrected_costs_nothing(bench, tmp_path):
    """
    A clock without a battery, set right by the network a while later: the rest is recorded at true time, as a run of
    its own, and what came before is kept under the time it had.
    """
    wall = Wall(tmp_path)
    ahead_s = 200 * 86_400
    wall.set(ahead_s)
    recorder = bench.recorder(bench.config(), environment=wall.environment())
    bench.recording(recorder)
    since = time.time_ns() + SECOND_NS // 2
    time.sleep(1)
    wall.set(0)
    wait_until(lambda: bench.facts(ClockStepped), 10)
    right = time.time_ns() + SECOND_NS // 2
    time.sleep(2)
    until = time.time_ns() - SECOND_NS // 2
    assert recorder.stop() == 0
    ordered(bench)

    entries = nothing_is_lost(bench, since, until)

    (step,) = bench.facts(ClockStepped)
    assert abs(step.step_ns / SECOND_NS + ahead_s) < 2
    assert {(e.recv_ts - time.time_ns()) // (100 * 86_400 * SECOND_NS) for e in entries} == {-1, 1}
    bench.seal()
    told = bench.account(since=right, until=until)
    assert told.stored == told.published > 20


@pytest.mark.needs("faketime")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("from_hour_s", [-2.5, 0.3], ids=["as it comes", "by a leap over it"])
def test_segments_turn_with_the_hour(bench, tmp_path, from_hour_s):
    """
    Within two seconds of the wall clock's hour, also where a time keeper leaps over it, and no entry is on the wrong
    side.
    """
    wall = Wall(tmp_path)
    now = time.time_ns()
    hour = hour_of(now) + HOUR_NS
    to_hour_s = (hour - now) / SECOND_NS
    # Minutes before the hour, so that the start may take its time.
    wall.set(to_hour_s - 600)
    recorder = bench.recorder(bench.config(), environment=wall.environment())
    bench.recording(recorder)
    ahead_s = (hour - time.time_ns()) / SECOND_NS + from_hour_s
    wall.set(ahead_s)
    # When the recorder can know at the earliest: a leap over the hour may take the test a while.
    known_s = max(0.0, time.time_ns() / SECOND_NS + ahead_s - hour / SECOND_NS)

    def turned():
        return [s for s in segments(bench.root / JOURNAL) if hour_of(s.start) == hour]

    wait_until(turned, 20)
    bench.recording(recorder)
    assert recorder.stop() == 0

    first = turned()[0]
    # Where the machine stood still, so did the recorder, and said so.
    stood_s = sum(fact.stall_ns for fact in bench.facts(LoopStalled)) / SECOND_NS
    late_s = (first.start - hour) / SECOND_NS
    print(f"first entry {late_s:.3f} s past the hour, known {known_s:.3f} s past it; stood still for {stood_s:.1f} s")
    assert 0 <= late_s <= known_s + ROTATED_WITHIN_S + stood_s + UNTOLD_S
    for segment in segments(bench.root / JOURNAL):
        inside = [e.recv_ts for e in read_merged([segment], start=0, end=1 << 62)]
        assert {hour_of(at) for at in inside} == {hour_of(segment.start)}


@pytest.mark.needs("faketime")
@pytest.mark.timeout(120)
def test_a_clock_that_drifts_is_followed_by_steps_of_a_second(bench, tmp_path):
    """
    A clock that gains a quarter (far more than any crystal) is caught up with whenever it is a second off, and nothing
    comes late or twice for it.
    """
    wall = Wall(tmp_path)
    wall.set(0, rate=1.25)
    recorder = bench.recorder(bench.config(), environment=wall.environment())
    bench.recording(recorder)
    since = time.time_ns() + SECOND_NS // 2
    # Faster than any crystal, or the test would take as long as the clock to be a second off.
    wait_until(lambda: bench.facts(ClockStepped), 40)
    until = time.time_ns() - SECOND_NS // 2
    assert recorder.stop() == 0
    ordered(bench)

    nothing_is_lost(bench, since, until)

    stood = sum(fact.stall_ns for fact in bench.facts(LoopStalled))
    assert all(SECOND_NS <= fact.step_ns < 2 * SECOND_NS + stood for fact in bench.facts(ClockStepped))


@pytest.mark.needs("faketime")
@pytest.mark.timeout(120)
def test_a_machine_that_slept_has_a_hole_of_that_length(bench, tmp_path):
    """
    Suspend: the process stands still, the monotonic clock does not count it, the wall clock does, and the venue has
    long dropped us. The hole has the length of the sleep, by the wall clock.
    """
    wall = Wall(tmp_path)
    recorder = bench.recorder(bench.config(), environment=wall.environment())
    bench.recording(recorder)
    time.sleep(1.2)
    slept = time.time_ns()
    recorder.signal(signal.SIGSTOP)
    time.sleep(1.5)
    wall.set(1800)
    recorder.signal(signal.SIGCONT)
    wait_until(lambda: bench.facts(ClockStepped), 10)
    bench.recording(recorder)
    assert recorder.stop() == 0
    # By then the hour it woke in is over, too.
    wall.set(7200)
    bench.seal(environment=wall.environment())

    (step,) = bench.facts(ClockStepped)
    assert abs(step.step_ns / SECOND_NS - 1800) < 3
    marks = read_lake(bench.root).marks
    books = Stream("perp", "SOL-PERP", "orderbook", 1)
    middle = slept + 900 * SECOND_NS
    print([(m.kind, (m.start - slept) / 1e9, (m.end - slept) / 1e9) for m in marks])
    assert covering(marks, books, middle, 0), "half an hour of which nobody knows anything, and no event"
