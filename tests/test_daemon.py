"""
The recorder as a whole: in this process where its inside is asked, as a child process where signals are.
"""

import asyncio
import contextlib
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from loopback import WITHIN_S, config_text, entries, facts, recording, simulator, unheard, until
from recorder import clock, durable
from recorder.capture.wire import CLOSE_TIMEOUT_S
from recorder.config import Journal, parse_config
from recorder.daemon import Recorder
from recorder.daemon import child as seal_child
from recorder.daemon import recorder as daemon
from recorder.daemon.runs import Runs
from recorder.errors import RecorderError, RootBusy, RootError
from recorder.journal import writer
from recorder.journal.reader import segments
from recorder.lake.gone import ON_RECORD
from recorder.lake.layout import JOURNAL
from recorder.lake.removal import Removal
from recorder.quality.facts import event_of
from recorder.quality.monitor import Monitor
from recorder.records import (
    SECOND_NS,
    ClockStepped,
    Connected,
    Disconnected,
    Entry,
    EntryKind,
    Expired,
    JobFailed,
    LoopStalled,
    Rejected,
    RunStarted,
    RunStopped,
    Telemetry,
    WriteFailed,
    decode_fact,
)

PROJECT = Path(__file__).parents[1]


def slots(root, index=0):
    """
    The slots of a market's books, in the order of the journal.
    """
    channel = f'"channel":"orderbook_perp_{index}_grouped_1"'.encode()
    frames = [e.payload for e in entries(root) if e.kind == EntryKind.FRAME and channel in e.payload]
    return [json.loads(json.loads(frame)["data"])["ts"] for frame in frames]


@contextlib.asynccontextmanager
async def stalls():
    """
    Times for which this loop really stood still, in seconds: half of what the recorder calls a stall, or more.
    """
    loop, stood = asyncio.get_running_loop(), []

    async def look():
        while True:
            began = loop.time()
            await asyncio.sleep(0.02)
            if loop.time() - began > daemon.STALL_NS / SECOND_NS / 2:
                stood.append(loop.time() - began)

    looking = asyncio.create_task(look())
    try:
        yield stood
    finally:
        looking.cancel()


# ---- starting


def test_a_second_recorder_on_a_root_is_refused_unless_beside(tmp_path):
    """
    Two by mistake would double the load; two on purpose is how one upgrades. Both are then on record.
    """

    async def scenario():
        async with simulator() as url, recording(tmp_path, url) as first:
            with pytest.raises(RootBusy, match="--beside"):
                await Recorder(parse_config(config_text(url, tmp_path), file="test"), seal=False).run()
            async with recording(tmp_path, url, beside=True) as second:
                await until(lambda: len(facts(tmp_path, Connected)) == 2)
            return first.tape.run, second.tape.run

    first, second = asyncio.run(scenario())
    started = {fact.run: fact.beside for fact in facts(tmp_path, RunStarted)}

    assert started == {first: [], second: [first]}
    assert not any(durable.is_locked(tmp_path / JOURNAL / run / "lock") for run in started)


def test_another_venue_is_refused(tmp_path):
    """
    A root is bound to one venue: another's data would mix with it.
    """

    async def scenario():
        async with simulator() as url:
            async with recording(tmp_path, url):
                pass
            other = config_text(url, tmp_path).replace('"test"', '"other"')
            with pytest.raises(RootError, match="belongs to venue test"):
                await Recorder(parse_config(other, file="test"), seal=False).run()

    asyncio.run(scenario())


# ---- recording


def test_it_ends_after_the_time_asked_for(tmp_path):
    """
    With everything committed, an entry a second, and its reason.
    """

    async def scenario():
        async with simulator() as url, stalls() as stood:
            recorder = Recorder(parse_config(config_text(url, tmp_path), file="test"), for_s=2.2, seal=False)
            await recorder.run()
            return recorder, stood

    recorder, stood = asyncio.run(scenario())

    assert not recorder.interrupted
    assert [fact.reason for fact in facts(tmp_path, RunStopped)] == ["the 2.2 s asked for are over"]
    assert [fact.cause for fact in facts(tmp_path, Disconnected)] == ["recorder"]
    # One or two where start and stop take no time.
    alive = [entry.recv_ts for entry in entries(tmp_path) if entry.kind == EntryKind.ALIVE]
    assert alive
    assert all(after - before > SECOND_NS // 2 for before, after in pairwise(alive))
    assert slots(tmp_path)
    # No stall is made up at the start.
    assert len(facts(tmp_path, LoopStalled)) <= len(stood)


def test_no_thread_of_it_is_left_that_the_end_of_the_process_would_take_for_a_hung_one(tmp_path):
    """
    Threads of its own for the disk, for looks and for reloads end with it; only one that hangs goes on.
    """
    before = set(threading.enumerate())

    async def scenario():
        async with simulator() as url, recording(tmp_path, url, telemetry_s=1000) as recorder:
            await until(lambda: recorder._disk.words)
            await recorder._watch.look()
            await asyncio.get_running_loop().run_in_executor(recorder._reader, int)
            mine = {thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")} - before
            recorder.stop("enough")
            await recorder.running
            return mine

    mine = asyncio.run(scenario())
    for thread in mine:
        thread.join(5)

    assert {thread.name.rsplit("_", 1)[0] for thread in mine} >= {"asyncio_disk", "asyncio_watch", "asyncio_reload"}
    assert not [thread for thread in mine if thread.is_alive()]


def test_telemetry_tells_the_time_since_the_row_before(tmp_path):
    """
    A row at each interval and one at the end; together they count every frame once.
    """

    async def scenario():
        async with simulator() as url, recording(tmp_path, url, telemetry_s=1.0):
            await until(lambda: len(facts(tmp_path, Telemetry)) >= 2)

    asyncio.run(scenario())
    rows = facts(tmp_path, Telemetry)
    frames = [entry for entry in entries(tmp_path) if entry.kind == EntryKind.FRAME]

    assert sum(row.frames for row in rows) == len(frames)
    assert all(row.rss_bytes > 0 and row.disk_free_bytes > 0 and row.commits > 0 for row in rows[:2])
    assert {row.paused for row in rows} == {False}
    inodes = os.statvfs(tmp_path)
    assert all(bool(row.disk_free_inodes) == bool(inodes.f_files) for row in rows[:2])
    assert [0] in [row.connections for row in rows]
    assert rows[0].loop_lag_max_ms < WITHIN_S * 1000
    assert all(0 < row.durable_p50_ms <= row.durable_p99_ms <= row.durable_max_ms for row in rows[:2])
    assert all(row.durable_max_ms >= row.commit_p50_ms for row in rows[:2])


def test_what_nobody_can_reach_goes_within_a_minute(tmp_path):
    """
    Connections that have ended hold on to themselves, and Python comes by for them when much else has been made.
    """

    class Ended:
        """
        Holds on to itself.
        """

        def __init__(self):
            self.itself = self

    async def scenario():
        async with simulator() as url, recording(tmp_path, url, telemetry_s=1.0):
            await until(lambda: facts(tmp_path, Telemetry))
            left = weakref.ref(Ended())
            await until(lambda: left() is None)

    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()


def test_a_fault_of_the_live_monitor_costs_no_frame(tmp_path, monkeypatch):
    """
    It only comments: the journal is the truth, and the seal judges again. The fault is on record, once.
    """
    step = Monitor.step

    def failing(self, entry, seen=None, **options):
        if entry.kind == EntryKind.FRAME:
            raise OverflowError("too large")
        return step(self, entry, seen, **options)

    monkeypatch.setattr(Monitor, "step", failing)

    async def scenario():
        async with simulator() as url, recording(tmp_path, url) as recorder:
            await until(lambda: len(slots(tmp_path)) > 10)
            assert not recorder.running.done()

    asyncio.run(scenario())

    assert len({entry.seq for entry in entries(tmp_path)}) == max(entry.seq for entry in entries(tmp_path))
    assert [fact.job for fact in facts(tmp_path, JobFailed)] == ["live monitor"]
    assert len(facts(tmp_path, Connected)) == 1


def test_a_task_that_fails_ends_the_recorder_with_its_reason_committed(tmp_path, monkeypatch):
    """
    A core task must not die unnoticed: the process ends, non-zero, for the service manager to start it again.
    """

    async def failing(self):
        await asyncio.sleep(0.3)
        raise ZeroDivisionError("beat")

    monkeypatch.setattr(Recorder, "_beat", failing)

    async def scenario():
        async with simulator() as url:
            with pytest.raises(RecorderError, match="our own fault: beat: beat; please report"):
                await Recorder(parse_config(config_text(url, tmp_path), file="test"), seal=False).run()

    asyncio.run(scenario())

    assert [fact.reason for fact in facts(tmp_path, RunStopped)] == ["our own fault: beat: beat"]
    assert len(facts(tmp_path, Disconnected)) == 1


# ---- the clock


@pytest.fixture
def ledger(tmp_path_factory):
    """
    The venue's own account of what it sent.
    """
    return tmp_path_factory.mktemp("venue") / "ledger"


@pytest.fixture
def wall(monkeypatch):
    """
    Steps the wall clock by so many seconds: what `clock.py` reads.
    """
    moved = [0]
    true_ns = time.time_ns

    class Stepped:
        """
        The module `time`, as the clock sees it.
        """

        time_ns = staticmethod(lambda: true_ns() + moved[0])
        monotonic_ns = staticmethod(time.monotonic_ns)
        process_time = staticmethod(time.process_time)
        sleep = staticmethod(time.sleep)

    monkeypatch.setattr(clock, "time", Stepped)

    def step(seconds):
        moved[0] += seconds * SECOND_NS

    return step


def test_a_backward_step_begins_a_new_run_on_the_same_connection(tmp_path, wall, ledger):
    """
    No frame is lost, the new run knows what is subscribed, and the old one's lock is free so that its hour can close.
    """

    async def scenario():
        async with simulator(ledger=ledger) as url, recording(tmp_path, url) as recorder:
            await until(lambda: len(slots(tmp_path)) > 5)
            old = recorder.tape.run
            triggers = {job.id: job.trigger for job in recorder._jobs.scheduler.get_jobs()}
            wall(-3600)
            await until(lambda: recorder.tape.run != old)
            await until(lambda: not durable.is_locked(tmp_path / JOURNAL / old / "lock"))
            before = len(slots(tmp_path))
            await until(lambda: len(slots(tmp_path)) > before + 5)
            # An interval trigger remembers when it was made, and would wait until that time comes back.
            remade = {job.id: job.trigger is not triggers[job.id] for job in recorder._jobs.scheduler.get_jobs()}
            return old, recorder.tape.run, remade

    old, new, remade = asyncio.run(scenario())
    by_run = {run: [e for e in entries(tmp_path) if e.run == run] for run in (old, new)}
    started = {fact.run: fact for fact in facts(tmp_path, RunStarted)}

    assert started[new].continues == old
    assert started[new].beside == [old]
    assert [round(fact.step_ns / SECOND_NS) for fact in facts(tmp_path, ClockStepped)] == [-3600]
    assert len(facts(tmp_path, Disconnected)) == 1
    assert [decode_fact(e.payload).attempt for e in by_run[new] if b'"fact":"connected"' in e.payload] == [1]
    assert sum(b'"fact":"requested"' in e.payload for e in by_run[new]) == 4
    assert not unheard(ledger, tmp_path)
    assert all(a.recv_ts <= b.recv_ts for run in by_run.values() for a, b in pairwise(run))
    assert by_run[new][-1].recv_ts < by_run[old][0].recv_ts
    assert remade == {"second": True, "disk": True}


def test_a_run_that_begins_after_a_reload_asks_for_what_is_asked_for_now(tmp_path, wall):
    """
    Not for what the process began with: `coverage` would miss the one and make up the other.
    """
    other = parse_config(config_text("ws://127.0.0.1:1/ws", tmp_path, perp='["SOL-PERP", "ETH-PERP"]'), file="test")

    async def scenario():
        async with simulator() as url:
            fresh = msgspec.structs.replace(other, venue=msgspec.structs.replace(other.venue, url=url))
            async with recording(tmp_path, url, reread=lambda: fresh) as recorder:
                await until(lambda: slots(tmp_path))
                recorder.reload()
                await until(lambda: slots(tmp_path, 2))
                wall(-3600)
                await until(lambda: len(facts(tmp_path, RunStarted)) == 2)

    asyncio.run(scenario())
    asked = {fact.continues is None: {stream.symbol for stream in fact.streams} for fact in facts(tmp_path, RunStarted)}

    assert asked == {True: {"SOL-PERP", "BTC-PERP"}, False: {"SOL-PERP", "ETH-PERP"}}


def test_a_forward_step_re_anchors_and_cuts_nothing(tmp_path, wall, ledger):
    """
    An hour on the clock is not an hour of silence: the connection stays.
    """

    async def scenario():
        async with simulator(ledger=ledger) as url, recording(tmp_path, url) as recorder:
            await until(lambda: len(slots(tmp_path)) > 5)
            wall(3600)
            await until(lambda: facts(tmp_path, ClockStepped))
            before = len(slots(tmp_path))
            await until(lambda: len(slots(tmp_path)) > before + 5)
            return recorder.tape.clock.offset()

    offset = asyncio.run(scenario())

    assert [round(fact.step_ns / SECOND_NS) for fact in facts(tmp_path, ClockStepped)] == [3600]
    assert len(facts(tmp_path, RunStarted)) == len(facts(tmp_path, Connected)) == 1
    assert [fact.why for fact in facts(tmp_path, Disconnected)] == ["the recorder is stopping"]
    assert not unheard(ledger, tmp_path)
    assert abs(offset) < SECOND_NS


def test_a_backward_step_that_cannot_begin_a_run_goes_on_with_the_old_one(tmp_path, wall, ledger, monkeypatch):
    """
    A full disk at that moment costs neither the recording nor the step: it is tried again.
    """
    begin, refusals = Runs._made, []

    def refusing(self, config, **options):
        if options.get("continues") and len(refusals) < 2:
            refusals.append(options)
            raise OSError(28, "No space left on device")
        return begin(self, config, **options)

    monkeypatch.setattr(Runs, "_made", refusing)

    async def scenario():
        async with simulator(ledger=ledger) as url, recording(tmp_path, url):
            await until(lambda: slots(tmp_path))
            wall(-60)
            await until(lambda: len(facts(tmp_path, RunStarted)) == 2)

    asyncio.run(scenario())

    assert len(refusals) == 2
    assert len(facts(tmp_path, ClockStepped)) == 1
    assert not unheard(ledger, tmp_path)


# ---- jobs


def test_jobs_run_on_the_loop(tmp_path, monkeypatch):
    """
    A job on another thread would touch the tape while the reader does.
    """
    threads = set()
    second = Recorder._second

    def noting(self):
        threads.add(threading.current_thread())
        second(self)

    monkeypatch.setattr(Recorder, "_second", noting)

    async def scenario():
        async with simulator() as url, recording(tmp_path, url) as recorder:
            await until(lambda: threads)
            assert {job.id for job in recorder._jobs.scheduler.get_jobs()} == {"second", "disk"}

    asyncio.run(scenario())

    assert threads == {threading.main_thread()}


def test_a_seal_that_fails_is_on_record_and_recording_goes_on(tmp_path, monkeypatch, caplog):
    """
    With the child's last word, fit for a log.
    """
    words = "print('drift-recorder: disk \\x1b[31mgone', file=__import__('sys').stderr); raise SystemExit(7)"
    monkeypatch.setattr(seal_child, "SEAL_COMMAND", (sys.executable, "-c", words))

    async def scenario():
        async with simulator() as url, recording(tmp_path, url, seal=True):
            await until(lambda: facts(tmp_path, JobFailed))
            before = len(slots(tmp_path))
            await until(lambda: len(slots(tmp_path)) > before)

    asyncio.run(scenario())

    assert [(f.job, f.error) for f in facts(tmp_path, JobFailed)] == [
        ("seal", "seal ended with 7: drift-recorder: disk \\x1b[31mgone")
    ]


def test_a_seal_that_is_busy_elsewhere_is_no_failure(tmp_path, monkeypatch):
    """
    Two recorders on one root each try; one of them finds the lock taken.
    """
    monkeypatch.setattr(seal_child, "SEAL_COMMAND", (sys.executable, "-c", "raise SystemExit(4)"))

    async def scenario():
        async with simulator() as url, recording(tmp_path, url, seal=True) as recorder:
            await until(lambda: recorder._seal.process is not None and recorder._seal.process.returncode is not None)
            await asyncio.sleep(0.2)

    asyncio.run(scenario())

    assert facts(tmp_path, JobFailed) == []


def test_there_is_one_seal_at_a_time_and_each_answers_for_itself(tmp_path, monkeypatch):
    """
    A disk that fills up asks for one while the scheduler's is at work; that the one fails is not taken from the other.
    """
    script = (
        "import pathlib, sys, time; here = pathlib.Path(sys.argv[-1]) / 'here'; here.mkdir(); time.sleep(0.2); "
        "here.rmdir(); sys.exit(0 if '--want-free' in sys.argv else 'no luck')"
    )
    monkeypatch.setattr(seal_child, "SEAL_COMMAND", (sys.executable, "-c", script))

    async def scenario():
        child = seal_child.SealChild(tmp_path, Journal())
        return await asyncio.gather(child.run(), child.run(1 << 30), return_exceptions=True)

    scheduled, pressed = asyncio.run(scenario())

    assert str(scheduled) == "seal ended with 1: no luck"
    assert pressed is None


def test_what_a_seal_says_has_gone_is_on_record_before_the_note_says_so(tmp_path, monkeypatch):
    """
    Whoever removed it; the note keeps the next seal from telling it again.
    """
    removal = Removal("journal", 1, 2, 3, 4, by_rule=False)
    said = f"removed: {msgspec.json.encode(removal).decode()}\\n{ON_RECORD}{{}}"
    monkeypatch.setattr(seal_child, "SEAL_COMMAND", (sys.executable, "-c", f"print('{said}')"))
    told = []
    monkeypatch.setattr(daemon, "write_note", lambda _, note: told.append((note, facts(tmp_path, Expired))))

    async def scenario():
        async with simulator() as url, recording(tmp_path, url, seal=True):
            await until(lambda: told)

    asyncio.run(scenario())

    note, on_disk = told[0]
    assert note == b"{}"
    assert [(fact.files, fact.by_rule) for fact in on_disk] == [(3, False)]
    event = event_of(on_disk[0], Entry(EntryKind.FACT, -1, 0, 1, 1, b"", "run"))
    assert "found to be gone, by `drift-recorder retention` or by hand: 3 journal files" in event.evidence


def test_a_removal_that_the_queue_had_no_room_for_is_left_to_the_next_seal(tmp_path, monkeypatch):
    """
    The note would say that it is on record: nobody would tell of it any more.
    """
    removal = Removal("journal", 1, 2, 3, 4)
    config = parse_config(config_text("ws://127.0.0.1:9/ws", tmp_path), file="test")
    notes = []
    monkeypatch.setattr(daemon, "write_note", lambda _, note: notes.append(note))

    async def scenario():
        recorder = Recorder(config, seal=False)
        running = asyncio.create_task(recorder.run())
        await until(lambda: entries(tmp_path))
        with monkeypatch.context() as full:
            full.setattr(writer, "_FACT_RESERVE_BYTES", -config.journal.queue_bytes)
            recorder._removed(removal)
        recorder._removed(removal)
        await recorder._on_record(b"first")
        recorder._removed(removal)
        await recorder._on_record(b"second")
        recorder.stop("over")
        await running

    asyncio.run(scenario())

    assert notes == [b"second"]
    assert len(facts(tmp_path, Expired)) == 2


def test_what_a_seal_removed_before_it_failed_is_on_record(tmp_path, monkeypatch):
    """
    It makes space first; the next one may fail as well.
    """
    removal = msgspec.json.encode(Removal("journal", 1, 2, 3, 4)).decode()
    words = f"print('removed: {removal}\\n{ON_RECORD}{{}}'); raise SystemExit(7)"
    monkeypatch.setattr(seal_child, "SEAL_COMMAND", (sys.executable, "-c", words))
    told, notes = [], []

    async def on_record(note):
        notes.append(note)

    child = seal_child.SealChild(tmp_path, Journal(), on_removed=told.append, on_record=on_record)
    with pytest.raises(RecorderError, match="seal ended with 7"):
        asyncio.run(child.run())

    assert [each.files for each in told] == [3]
    assert notes == [b"{}"]


@pytest.mark.parametrize("ignores", [False, True])
def test_a_seal_under_way_does_not_hold_the_stop(tmp_path, monkeypatch, caplog, ignores):
    """
    It is ended, even if it does not listen, and nothing is said to have failed.
    """
    listens_not = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if ignores else ""
    words = f"{listens_not}import pathlib, time; pathlib.Path({str(tmp_path / 'up')!r}).touch(); time.sleep(60)"
    monkeypatch.setattr(seal_child, "SEAL_COMMAND", (sys.executable, "-c", words))

    async def scenario():
        async with simulator() as url, recording(tmp_path, url, seal=True) as recorder:
            await until((tmp_path / "up").exists)
            began = time.monotonic()
            recorder.stop("enough")
            await recorder.running
            return time.monotonic() - began, recorder._seal.process.returncode

    took_s, code = asyncio.run(scenario())

    assert took_s < 20
    assert code == (-signal.SIGKILL if ignores else -signal.SIGTERM)
    assert facts(tmp_path, JobFailed) == []
    assert [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []


# ---- a disk that hangs

HANGS_S = 40.0


def test_a_stuck_disk_stops_neither_the_reading_nor_the_exit(tmp_path, monkeypatch):
    """
    Frames are taken while a sync hangs; the stop says what could not be committed instead of waiting for it.
    """
    stuck, took_s = threading.Event(), []
    release = threading.Event()
    sync = durable.sync

    def hanging(fd):
        if stuck.is_set():
            release.wait(HANGS_S)
        sync(fd)

    monkeypatch.setattr(durable, "sync", hanging)

    async def scenario():
        async with simulator() as url, recording(tmp_path, url, telemetry_s=1000) as recorder:
            await until(lambda: slots(tmp_path))
            stuck.set()
            before = recorder.tape.counters.frames
            await until(lambda: recorder.tape.counters.frames > before + 30, HANGS_S / 2)
            recorder.stop("enough")
            began = time.monotonic()
            try:
                await recorder.running
            finally:
                took_s.append(time.monotonic() - began)

    try:
        with pytest.raises(RecorderError, match=r"the disk did not take what came after entry \d+"):
            asyncio.run(scenario())
    finally:
        release.set()

    assert took_s[0] < HANGS_S / 2
    assert facts(tmp_path, WriteFailed) == []


# ---- as a process

ENDS_WITHIN_S = 30.0
"""Five, if the processor is there when it is wanted; none of its limits is so long, and the disk hangs for 60."""


def test_the_limits_of_an_orderly_end_leave_it_five_seconds():
    """
    Of sockets that do not close, of what they still deliver, of a seal that does not listen, of a disk that hangs.
    """
    assert CLOSE_TIMEOUT_S + daemon.DRAIN_S + 2 * seal_child.END_S + daemon.COMMIT_DEADLINE_S < 5


@pytest.fixture
def child(tmp_path):
    """
    Starts the command line as a process; what is left of it is ended.
    """
    started = []

    def start(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        process = subprocess.Popen(
            [sys.executable, "-m", "recorder", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_until(happened, within_s=WITHIN_S):
    """
    Wait for what another process does.
    """
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start_both(child, tmp_path, *options, extra="[seal]\nenabled = false", **simulated):
    """
    A simulator and a recorder on it, both running.
    """
    faults = [word for key, value in simulated.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    venue = child("simulate", "--port", "0", *faults)
    url = venue.stdout.readline().split()[-1]
    config = tmp_path / "config.toml"
    config.write_text(config_text(url, tmp_path / "root", extra))
    recorder = child("run", config, *options)
    wait_until(lambda: recorder.poll() is not None or slots(tmp_path / "root"))
    assert recorder.poll() is None, recorder.communicate()
    return recorder


def test_sigterm_under_load_commits_everything_and_exits_in_time(child, tmp_path):
    """
    With the exit code of an orderly end, and a last entry that says why.
    """
    recorder = start_both(child, tmp_path, tick_ms=10, markets=40)
    time.sleep(0.5)
    recorder.terminate()
    _, errors = recorder.communicate(timeout=ENDS_WITHIN_S)

    assert recorder.returncode == 0
    assert "Traceback" not in errors
    assert [fact.reason for fact in facts(tmp_path / "root", RunStopped)] == ["SIGTERM"]
    last = entries(tmp_path / "root")[-1]
    assert decode_fact(last.payload) == RunStopped("SIGTERM")
    assert not [s for s in segments(tmp_path / "root" / JOURNAL) if s.open]


STUCK_DISK = """
import shutil, sys, threading, time
from recorder import durable
from recorder.cli import main

sync = durable.sync
durable.sync = lambda fd: time.sleep(60) if threading.current_thread().name == "journal" else sync(fd)
shutil.disk_usage = lambda root: time.sleep(60)
main(["run", sys.argv[1]])
"""


@pytest.fixture
def stuck_recorder(tmp_path):
    """
    A recorder, as a process, whose journal cannot sync and whose disk cannot be asked.
    """
    config = tmp_path / "config.toml"
    config.write_text(config_text("ws://127.0.0.1:1/ws", tmp_path / "root", "[seal]\nenabled = false"))
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK_DISK, config], stderr=subprocess.PIPE, text=True, cwd=PROJECT
    )
    while "attempt 1: connection refused" not in (line := process.stderr.readline()):
        assert line
    yield process
    process.kill()
    process.communicate()


def test_a_second_signal_exits_at_once(stuck_recorder):
    """
    Whoever signals twice does not want to wait, whatever the first one is waiting for.
    """
    stuck_recorder.send_signal(signal.SIGINT)
    time.sleep(0.3)
    stuck_recorder.send_signal(signal.SIGTERM)
    _, errors = stuck_recorder.communicate(timeout=WITHIN_S)

    assert stuck_recorder.returncode == 1
    assert "SIGTERM again: exit without waiting" in errors
    assert "the disk did not take" not in errors, "it waited for as long as after one signal"


def test_a_stuck_disk_ends_as_a_process_too(stuck_recorder):
    """
    No thread that hangs holds the exit; the exit code and one line say that something is not on disk.
    """
    stuck_recorder.terminate()
    _, errors = stuck_recorder.communicate(timeout=ENDS_WITHIN_S)

    assert stuck_recorder.returncode == 1
    assert "the disk did not take what came after entry 0 of this run" in errors.splitlines()[-1]


def test_sighup_takes_over_the_markets_of_the_file(child, tmp_path):
    """
    As a process, twice: a file that is wrong is refused in one line, the next one is taken, and the end is orderly.
    """
    root, config = tmp_path / "root", tmp_path / "config.toml"
    recorder = start_both(child, tmp_path)
    text = config.read_text()
    config.write_text(text.replace("perp", "prep"))
    recorder.send_signal(signal.SIGHUP)
    wait_until(lambda: facts(root, JobFailed))
    config.write_text(text.replace('"BTC-PERP"', '"ETH-PERP"'))
    recorder.send_signal(signal.SIGHUP)
    wait_until(lambda: slots(root, 2))
    recorder.terminate()
    _, errors = recorder.communicate(timeout=WITHIN_S)

    assert recorder.returncode == 0
    refused = f"{config}: markets.prep: unknown key, did you mean perp?; allowed: perp, spot, channels, grouping"
    assert f"the new configuration is refused, recording goes on by the old one: {refused}\n" in errors
    assert "added ETH-PERP orderbook, ETH-PERP trades; removed BTC-PERP orderbook, BTC-PERP trades" in errors
    assert "Traceback" not in errors
    assert len(facts(root, Connected)) == 1


def test_run_for_ends_by_sealing_the_open_hour(child, tmp_path):
    """
    `run --for` is a recording one can read at once.
    """
    recorder = start_both(child, tmp_path, "--for", "3")
    out, errors = recorder.communicate(timeout=60)

    assert recorder.returncode == 0, errors
    assert re.search(r"published so far: \d+ books and trades of \d+ frames", out)
    assert list((tmp_path / "root" / "lake" / "books").rglob("*.parquet"))


def test_run_for_that_is_interrupted_does_not_seal(child, tmp_path):
    """
    Whoever ends it early wants it gone in seconds; it says how to seal.
    """
    recorder = start_both(child, tmp_path, "--for", "60")
    recorder.send_signal(signal.SIGINT)
    out, errors = recorder.communicate(timeout=WITHIN_S)

    assert (recorder.returncode, out) == (0, "")
    assert f"not sealed: run `drift-recorder seal {tmp_path / 'root'} --open`" in errors
    assert not list((tmp_path / "root" / "lake").rglob("*.parquet"))


def test_the_recording_process_loads_neither_pyarrow_nor_polars(child, tmp_path):
    """
    Their memory, threads and crashes belong to the child that seals, which has run by then.
    """
    recorder = start_both(child, tmp_path, extra="")
    time.sleep(1.5)
    maps = Path(f"/proc/{recorder.pid}/maps").read_text(encoding="utf-8")
    recorder.terminate()
    _, errors = recorder.communicate(timeout=WITHIN_S)

    assert "zstandard" in maps
    assert "pyarrow" not in maps
    assert "polars" not in maps
    assert recorder.returncode == 0
    assert "ERROR" not in errors
    assert facts(tmp_path / "root", JobFailed) == []


def test_the_log_escapes_what_the_venue_says(child, tmp_path):
    """
    A close reason or an error text must not forge lines or drive a terminal.
    """
    garbage = '4:{"channel":"x","error":"Error \\u001b[31m\\nforged"}'
    recorder = start_both(child, tmp_path, garbage=garbage)
    wait_until(lambda: facts(tmp_path / "root", Rejected))
    recorder.terminate()
    _, errors = recorder.communicate(timeout=WITHIN_S)

    assert "\\x1b[31m\\nforged" in errors
    assert "\x1b" not in errors
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z ", line) for line in errors.splitlines())


def test_the_tape_tells_the_stream_of_a_frame_it_could_not_keep(tmp_path, monkeypatch):
    """
    A slow disk must not look like a silent venue to the session, which would cut healthy connections for it.
    """
    monkeypatch.setattr(durable, "sync", lambda _: time.sleep(0.2))
    config = parse_config(config_text("ws://127.0.0.1:1/ws", tmp_path, "[journal]\nqueue_bytes = 4194304"), file="test")
    (tmp_path / JOURNAL).mkdir()
    runs = Runs(tmp_path, on_event=lambda _: None, on_opening=lambda _: None)
    runs.begin(config, beside=[])
    tape = runs.tape
    data = '{\\"bids\\":[],\\"marketName\\":\\"SOL-PERP\\",\\"ts\\":1,\\"slot\\":1,\\"pad\\":\\"' + "x" * 1_000_000
    frame = ('{"channel":"orderbook_perp_0_grouped_1","data":"' + data + '\\"}"}').encode()

    streams = [tape.frame(0, 1, frame)[2] for _ in range(20)]
    tape.stop("over")
    deadline = time.monotonic() + 10
    while not tape.closed():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert {stream.symbol for stream in streams} == {"SOL-PERP"}
    assert len([e for e in entries(tmp_path) if e.kind == EntryKind.FRAME]) < 20
