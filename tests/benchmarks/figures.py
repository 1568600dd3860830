"""
Prints the figures the README quotes: `python tests/benchmarks/figures.py`.

The simulated venue is driven in virtual time, so the input is the same on every machine; durations are medians of
several rounds and belong to this machine. Nothing here is a test: machines are shared and noisy.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

from recorder.capture.tape import Tape, TapeSettings
from recorder.journal.names import run_name
from recorder.journal.reader import read_merged, segments
from recorder.journal.writer import Journal, JournalSettings
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, MANIFEST
from recorder.lake.root import bind
from recorder.quality.monitor import Monitor
from recorder.quality.state import MonitorState
from recorder.records import (
    HOUR_NS,
    SECOND_NS,
    Connected,
    EntryKind,
    QualitySettings,
    Requested,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    encode_fact,
)
from recorder.simulator.core import Venue
from recorder.simulator.markets import synthetic_markets
from recorder.simulator.messages import Opened, Send, Text
from recorder.venue.markets import market_list
from recorder.venue.protocol import peek, request

HOUR = 1_795_341_600 * SECOND_NS
NETWORK = "mainnet-beta"


def wanted(markets: int) -> list[Stream]:
    """
    Books and trades of the simulated markets.
    """
    return [
        Stream(market.market_type, market.symbol, channel, grouping)
        for market in synthetic_markets(markets)
        for channel, grouping in (("orderbook", 1), ("trades", None))
    ]


def heard(streams: list[Stream], *, markets: int, minutes: float, tick_ms: int) -> list[tuple[int, bytes]]:
    """
    What one connection hears of a simulated venue: (receive time, frame).
    """
    venue = Venue(synthetic_markets(markets), start=HOUR, tick_ms=tick_ms)
    venue.step(HOUR, [Opened(1), *(Text(1, request(stream)) for stream in streams)])
    frames: list[tuple[int, bytes]] = []
    end = HOUR + int(minutes * 60 * SECOND_NS)
    while (now := venue.next_due()) < end:
        at = now
        for output in venue.step(now):
            if isinstance(output, Send):
                at += 30_000  # a burst takes its time on the wire
                frames.append((at, output.frame.text.encode()))
    return frames


def write_journal(root: Path, streams: list[Stream], frames: list[tuple[int, bytes]]) -> float:
    """
    A root whose journal holds the frames, synced as a recorder would. Returns the seconds the writing took.
    """
    bind(root, venue="benchmark", network=NETWORK)
    run = run_name(HOUR, "000000")
    folder = root / JOURNAL / run
    folder.mkdir(parents=True)
    header = SegmentHeader(1, run, "benchmark", "0", "benchmark", NETWORK, streams)
    journal = Journal(folder, header=lambda: header, settings=JournalSettings(queue_bytes=1 << 40))
    started = RunStarted(run, "benchmark", 1, "0", "benchmark", NETWORK, ["-"], streams)
    facts = [started, Connected("-", 1, 1.0, compressed=True), *(Requested(stream) for stream in streams)]
    for fact in facts:
        connection = -1 if fact is started else 0
        journal.append(EntryKind.FACT, connection=connection, attempt=1, recv_ts=HOUR, payload=encode_fact(fact))
    begun = time.perf_counter()
    journal.start()
    beat = HOUR
    for at, payload in frames:
        if at - beat >= SECOND_NS:
            beat = at
            journal.append(EntryKind.ALIVE, connection=-1, attempt=0, recv_ts=at, payload=b"")
        journal.append(EntryKind.FRAME, connection=0, attempt=1, recv_ts=at, payload=payload)
    stopped = encode_fact(RunStopped("the benchmark is over"))
    journal.append(EntryKind.FACT, connection=-1, attempt=0, recv_ts=frames[-1][0], payload=stopped)
    if not journal.close(600):
        raise SystemExit("the disk did not take the journal")
    return time.perf_counter() - begun


def median_s(measure: Callable[[], float], rounds: int) -> float:
    """
    Median of several rounds.
    """
    return statistics.median(measure() for _ in range(rounds))


def tape_s(frames: list[tuple[int, bytes]], streams: list[Stream]) -> float:
    """
    Stamp, queue, peek and fold all frames: the reader's work after the socket.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = TapeSettings(
            Path(folder), "benchmark", NETWORK, ["-"], streams, QualitySettings(), JournalSettings(queue_bytes=1 << 40)
        )
        tape = Tape(
            settings, listed=market_list(NETWORK), pid=1, beside=[], on_event=lambda _: None, on_opening=lambda _: None
        )
        begun = time.process_time()
        for _, payload in frames:
            tape.frame(0, 1, payload)
        spent = time.process_time() - begun
        tape.stop("over")
        while not tape.closed():
            time.sleep(0.01)
    return spent


def monitor_s(root: Path) -> float:
    """
    Peek and fold alone, of a journal's entries.
    """
    entries = list(read_merged(segments(root / JOURNAL), start=0, end=1 << 62))
    monitor = Monitor(market_list(NETWORK), MonitorState(now=HOUR))
    begun = time.perf_counter()
    for entry in entries:
        monitor.step(entry, peek(entry.payload) if entry.kind == EntryKind.FRAME else None)
    return (time.perf_counter() - begun) / len(entries)


def seal_in_child(root: Path) -> tuple[float, float]:
    """
    Seal in a process of its own: CPU seconds and peak memory in MB, without the start of Python.
    """
    shutil.rmtree(root / MANIFEST)
    (root / MANIFEST).mkdir()
    # VmHWM, not ru_maxrss: that one is inherited from the parent through fork and exec.
    code = (
        "import re, sys, time; from pathlib import Path; from recorder.lake.sealing import seal; "
        "begun = time.process_time(); seal(Path(sys.argv[1])); spent = time.process_time() - begun; "
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text()); "
        "print(spent, int(peak[1]) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], check=True, capture_output=True, text=True)
    seconds, megabytes = done.stdout.split()
    return float(seconds), float(megabytes)


def main() -> None:
    """
    Measure and print.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--markets", type=int, default=96)
    parser.add_argument("--minutes", type=float, default=4.0, help="of virtual time")
    parser.add_argument("--tick-ms", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    streams = wanted(options.markets)
    frames = heard(streams, markets=options.markets, minutes=options.minutes, tick_ms=options.tick_ms)
    count = len(frames)
    total = sum(len(payload) for _, payload in frames)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        written_s = write_journal(root, streams, frames)
        on_disk = sum(path.stat().st_size for path in (root / JOURNAL).rglob("*.zst"))
        reading_s = median_s(lambda: monitor_s(root), options.rounds)
        hearing_s = median_s(lambda: tape_s(frames, streams), options.rounds)
        seals = [seal_in_child(root) for _ in range(options.rounds)]
        manifest = manifests.read(root, HOUR)
        assert manifest is not None
        assert manifest.complete
    a_second = count / (options.minutes * 60)
    rows = [
        (
            "input",
            f"{count} frames of {options.markets} markets, {total / count:.0f} bytes each, {a_second:.0f}/s live",
        ),
        ("journal", f"{on_disk / count:.0f} bytes a frame ({total / on_disk:.1f} times smaller)"),
        ("journal a day at this rate", f"{on_disk / count * a_second * 86_400 / 1e9:.1f} GB"),
        ("journal writer, alone", f"{count / written_s:,.0f} frames/s"),
        (
            "reader after the socket (stamp, queue, peek, fold; with the writer's thread)",
            f"{hearing_s / count * 1e6:.1f} µs",
        ),
        ("peek and live monitor, alone", f"{reading_s * 1e6:.1f} µs an entry"),
        ("seal, one core", f"{count / statistics.median(s for s, _ in seals):,.0f} frames/s"),
        ("seal, peak memory", f"{max(m for _, m in seals):.0f} MB"),
    ]
    for name in ("books", "trades"):
        files = [file for file in manifest.files if file.table == name]
        table_rows = sum(file.rows for file in files)
        rows.append((f"Parquet, {name}", f"{sum(file.bytes for file in files) / table_rows:.0f} bytes a row"))
    lake_bytes = sum(file.bytes for file in manifest.files)
    rows.append(("lake a day at this rate", f"{lake_bytes / count * a_second * 86_400 / 1e9:.1f} GB"))
    width = max(len(name) for name, _ in rows)
    for name, figure in rows:
        print(f"{name:<{width}}  {figure}")


if __name__ == "__main__":
    assert HOUR % HOUR_NS == 0
    main()
