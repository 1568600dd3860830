"""
The frames that everything is measured on: the simulated venue's, rendered in virtual time, and files of them.

The same arguments give the same frames on every machine.
"""

import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from recorder.journal.names import run_name
from recorder.journal.writer import Journal, JournalSettings
from recorder.lake.layout import JOURNAL
from recorder.lake.root import bind
from recorder.records import (
    SECOND_NS,
    Connected,
    EntryKind,
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
from recorder.venue.protocol import request

HOUR = 1_795_341_600 * SECOND_NS
"""An hour that is over."""
NETWORK = "mainnet-beta"
TICK_MS = 400
"""The venue's cadence: a book of each market."""
WIRE_NS = 30_000
"""Between two frames of a burst."""

Frame = tuple[int, bytes]
"""Receive time (ns) and text."""

_HEAD = struct.Struct("<qI")


def wanted(markets: int) -> list[Stream]:
    """
    Books and trades of the simulated markets.
    """
    return [
        Stream(market.market_type, market.symbol, channel, grouping)
        for market in synthetic_markets(markets)
        for channel, grouping in (("orderbook", 1), ("trades", None))
    ]


def heard(markets: int, *, books: int, start: int = HOUR) -> list[Frame]:
    """
    What one connection hears until there are at least that many books: books, fills, and heartbeats between them.
    """
    venue = Venue(synthetic_markets(markets), start=start, tick_ms=TICK_MS)
    venue.step(start, [Opened(1), *(Text(1, request(stream)) for stream in wanted(markets))])
    frames: list[Frame] = []
    end = start + -(-books // markets) * TICK_MS * 1_000_000
    at = start
    while (now := venue.next_due()) <= end:
        at = max(at, now)
        for output in venue.step(now):
            if isinstance(output, Send):
                at += WIRE_NS
                frames.append((at, output.frame.text.encode()))
    return frames


def is_data(payload: bytes) -> bool:
    """
    Whether a frame is a book or a fill, not a heartbeat or an answer.
    """
    return b'","data":"' in payload[:80]


def write_frames(path: Path, frames: Iterable[Frame]) -> None:
    """
    Frames for a child process.
    """
    with path.open("wb") as file:
        for recv_ts, payload in frames:
            file.write(_HEAD.pack(recv_ts, len(payload)) + payload)


def read_frames(path: Path) -> Iterator[Frame]:
    """
    Inverse of `write_frames`.
    """
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            recv_ts, length = _HEAD.unpack(head)
            yield recv_ts, file.read(length)


def write_journal(root: Path, streams: list[Stream], frames: Iterable[Frame], *, live: bool = False) -> None:
    """
    A data root whose journal holds the frames, each as heard at its time on one connection.

    Args:
        root: not there yet, or empty.
        streams: asked for.
        frames: in order.
        live: commit as often as a recorder would: what comes before a pause in virtual time is on disk before what
            comes after it. The blocks, and so the bytes, are then those of a live journal; it takes longer.
    """
    bind(root, venue="benchmark", network=NETWORK)
    frames = iter(frames)
    first = next(frames)
    begin = first[0] - WIRE_NS
    run = run_name(begin, "000000")
    folder = root / JOURNAL / run
    folder.mkdir(parents=True)
    header = SegmentHeader(1, run, "benchmark", "0", "benchmark", NETWORK, streams)
    settings = JournalSettings(queue_bytes=1 << 40, commit_interval_s=0.001 if live else 0.1)
    journal = Journal(folder, header=lambda: header, settings=settings)
    journal.start()
    started = RunStarted(run, "benchmark", 1, "0", "benchmark", NETWORK, ["-"], streams)
    journal.append(EntryKind.FACT, connection=-1, attempt=0, recv_ts=begin, payload=encode_fact(started))
    for fact in (Connected("-", 1, 1.0, compressed=True), *(Requested(stream) for stream in streams)):
        journal.append(EntryKind.FACT, connection=0, attempt=1, recv_ts=begin, payload=encode_fact(fact))
    beat = last = begin
    for recv_ts, payload in (first, *frames):
        if live and recv_ts - last > 10 * WIRE_NS:
            while journal.queued_bytes:
                time.sleep(0.0005)
        if recv_ts - beat >= SECOND_NS:
            beat = recv_ts
            journal.append(EntryKind.ALIVE, connection=-1, attempt=0, recv_ts=recv_ts, payload=b"")
        journal.append(EntryKind.FRAME, connection=0, attempt=1, recv_ts=recv_ts, payload=payload)
        last = recv_ts
    stopped = encode_fact(RunStopped("the benchmark is over"))
    journal.append(EntryKind.FACT, connection=-1, attempt=0, recv_ts=last, payload=stopped)
    if not journal.close(600):
        raise SystemExit("the disk did not take the journal")


def journal_bytes(root: Path) -> int:
    """
    Size of all segments.
    """
    return sum(path.stat().st_size for path in (root / JOURNAL).rglob("*.zst"))


def recorder_config(
    root: Path, url: str, *, markets: int, seal: bool = False, subscribe_interval_ms: int = 20, level: str = "error"
) -> str:
    """
    A configuration that records the simulated markets.
    """
    symbols = {
        kind: [market.symbol for market in synthetic_markets(markets) if market.market_type == kind]
        for kind in ("perp", "spot")
    }
    return f"""
[venue]
name = "benchmark"
url = "{url}"
network = "{NETWORK}"
[markets]
perp = {symbols["perp"]}
spot = {symbols["spot"]}
[storage]
root = "{root}"
[capture]
subscribe_interval_ms = {subscribe_interval_ms}
[seal]
enabled = {str(seal).lower()}
[log]
level = "{level}"
"""
