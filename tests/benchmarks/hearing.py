"""
The reader's work after the socket, and the live monitor alone, on frames from a journal.

Run as a child of the suite: `hearing.py ROOT ROUNDS` prints µs of CPU a frame, a value a round.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import Bench
from load import HOUR, NETWORK
from processes import outcome
from table import Measured

from recorder.capture.tape import Tape, TapeSettings
from recorder.clock import monotonic_ns
from recorder.journal.reader import read_merged, segments
from recorder.journal.writer import JournalSettings
from recorder.lake.layout import JOURNAL
from recorder.quality.monitor import Monitor
from recorder.quality.state import MonitorState
from recorder.records import Entry, EntryKind, QualitySettings, RunStarted, decode_fact
from recorder.venue.markets import market_list
from recorder.venue.protocol import peek


def measure(bench: Bench) -> list[Measured]:
    """
    On 96 markets, beside what the plain recorder does with a frame: `json.loads` twice.
    """
    root = bench.sealable(bench.sizes.markets, bench.sizes.books)
    bench.say("reader and live monitor")
    told = outcome("hearing.py", root, str(bench.sizes.rounds))
    note = f"of this, peek {min(told['peek_us']):.1f} µs; the plain recorder's is json.loads twice"
    whole = f"stamp, queue, peek, monitor; with the journal's writer {min(told['with_writer_us']):.1f} µs"
    return [
        Measured("live monitor, a frame", told["monitor_us"], told["json_us"], note=note),
        Measured("reader after the socket, a frame", told["reader_us"], told["json_us"], note=whole),
    ]


def microseconds(entries: list[Entry], rounds: int) -> dict[str, list[float]]:
    """
    All candidates in turns.
    """
    frames = [entry.payload for entry in entries if entry.kind == EntryKind.FRAME]
    times: dict[str, list[float]] = {}

    def note(name: str, spent_s: float) -> None:
        times.setdefault(f"{name}_us", []).append(spent_s / len(frames) * 1e6)

    for _ in range(rounds):
        note("monitor", _cpu_s(lambda: _monitored(entries)))
        note("peek", _cpu_s(lambda: _peeked(frames)))
        reader_s, with_writer_s = _taped(entries)
        note("reader", reader_s)
        note("with_writer", with_writer_s)
        note("json", _cpu_s(lambda: _parsed(frames)))
    return times


def _cpu_s(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _monitored(entries: list[Entry]) -> None:
    monitor = Monitor(market_list(NETWORK), MonitorState(now=HOUR))
    for entry in entries:
        monitor.step(entry, peek(entry.payload) if entry.kind == EntryKind.FRAME else None)
        if monitor.events:
            monitor.events.clear()


def _peeked(frames: list[bytes]) -> None:
    for payload in frames:
        peek(payload)


def _parsed(frames: list[bytes]) -> None:
    for payload in frames:
        json.loads(json.loads(payload).get("data", "null"))


class EntryClock:
    """
    The time of the entry being heard, at the price of asking for it: minutes of venue pass in seconds, and what the
    monitor does only in the first moments of a connection stays rare.
    """

    def __init__(self) -> None:
        self.entry_ts = 0

    def now(self) -> int:
        """
        Of the entry.
        """
        monotonic_ns()
        return self.entry_ts


def _taped(entries: list[Entry]) -> tuple[float, float]:
    """
    CPU seconds of the thread that hears, and of the whole process until all is committed.
    """
    started = decode_fact(entries[0].payload)
    assert isinstance(started, RunStarted)
    with tempfile.TemporaryDirectory() as folder:
        settings = TapeSettings(
            *(Path(folder), "benchmark", NETWORK, ["-"], started.streams, QualitySettings()),
            JournalSettings(queue_bytes=1 << 40),
        )
        tape = Tape(
            settings, listed=market_list(NETWORK), pid=1, beside=[], on_event=lambda _: None, on_opening=lambda _: None
        )
        shift = tape.clock.now() - entries[0].recv_ts
        clock = EntryClock()
        tape.clock = clock  # type: ignore[assignment]
        begun, begun_all = time.thread_time(), time.process_time()
        for entry in entries[1:]:
            clock.entry_ts = entry.recv_ts + shift
            if entry.kind == EntryKind.FRAME:
                tape.frame(0, 1, entry.payload)
            elif entry.kind == EntryKind.ALIVE:
                tape.alive()
            elif entry.connection >= 0:
                tape.fact(decode_fact(entry.payload), connection=0, attempt=1)
        spent_s = time.thread_time() - begun
        tape.stop("over")
        while not tape.closed():
            time.sleep(0.01)
        return spent_s, time.process_time() - begun_all


if __name__ == "__main__":
    heard = list(read_merged(segments(Path(sys.argv[1]) / JOURNAL), start=0, end=1 << 62))
    print(json.dumps(microseconds(heard, int(sys.argv[2]))))
