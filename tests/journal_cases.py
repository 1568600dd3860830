"""
Facts of every kind, and small journals made of them: for the tests of journal and lake plan.
"""

from pathlib import Path

from captures import sample_frames
from recorder.journal.names import run_name
from recorder.journal.reader import SegmentFile, read_run, segments
from recorder.journal.writer import Journal, JournalSettings
from recorder.records import (
    HOUR_NS,
    NO_CONNECTION,
    SECOND_NS,
    AnyFact,
    ClockStepped,
    Connected,
    ConnectFailed,
    Disconnected,
    DiskFreed,
    DiskFull,
    Entry,
    EntryKind,
    Expired,
    JobFailed,
    LoopStalled,
    Moved,
    NotAcknowledged,
    Overflowed,
    QualitySettings,
    Rejected,
    Reloaded,
    Requested,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    Telemetry,
    WriteFailed,
    encode_fact,
)

HOUR = 497_600 * HOUR_NS
"""2026-10-07T08, UTC."""
RUN = run_name(HOUR, "0a1b2c")
SOL = Stream("perp", "SOL-PERP", "orderbook", 1)
TRADES = Stream("perp", "SOL-PERP", "trades")
HEADER = SegmentHeader(1, RUN, "host", "0.1.0", "velocity-mainnet", "velocity-mainnet-beta", [SOL, TRADES])

FACTS: list[AnyFact] = [
    RunStarted(
        run=RUN,
        host="host",
        pid=4711,
        recorder_version="0.1.0",
        venue="velocity-mainnet",
        network="velocity-mainnet-beta",
        urls=["wss://dlob.velocity.exchange/ws"],
        streams=[SOL, TRADES],
        beside=["20261007T075900.000000Z-ffffff"],
        continues="20261007T075959.000000Z-eeeeee",
        quality=QualitySettings(heartbeat_gap_s=12.5),
    ),
    Connected(url="wss://dlob.velocity.exchange/ws", attempt=1, took_ms=81.25, compressed=True),
    ConnectFailed(
        url="wss://dlob.velocity.exchange/ws",
        attempt=2,
        error="Connection refused",
        cause="network",
        retry_in_s=0.5,
    ),
    Disconnected(
        url="wss://dlob.velocity.exchange/ws",
        attempt=1,
        cause="venue",
        why="closed by the venue",
        code=1008,
        reason="Buffer overflow",
        lived_s=61.5,
    ),
    Requested(stream=SOL, op="subscribe", why="silent"),
    NotAcknowledged(stream=TRADES, requested_ts=HOUR + 5, waited_s=10.0),
    Rejected(stream=None, text="Error subscribing to channel"),
    Moved(stream=SOL, to_connection=3, why="silent for 15 s"),
    Overflowed(count=3, bytes=12_000, first_seq=7, last_seq=9, first_ts=HOUR + 6, last_ts=HOUR + 8),
    ClockStepped(step_ns=-SECOND_NS * 3600, before_ts=HOUR + HOUR_NS, after_ts=HOUR),
    WriteFailed(segment="20261007T080000.000000000Z.zst.open", operation="sync", errno=5, error="EIO: I/O error"),
    DiskFull(free_bytes=4096, free_inodes=12, why="the journal could not be written: no space"),
    DiskFreed(free_bytes=1 << 30, free_inodes=1 << 20),
    LoopStalled(stall_ns=1_500_000_000),
    JobFailed(job="seal", error="SealFailed: naïve “text” 価格"),
    Telemetry(
        frames=240,
        bytes=900_000,
        cpu_s=1.25,
        rss_bytes=70_000_000,
        loop_lag_p99_ms=1.5,
        loop_lag_max_ms=8.0,
        queue_max_bytes=300_000,
        commits=600,
        commit_p50_ms=0.5,
        commit_p99_ms=2.5,
        commit_max_ms=11.0,
        journal_bytes=120_000,
        disk_free_bytes=80_000_000_000,
        clock_offset_ns=-1200,
        connections=[0, 1],
        latency_p50_ms=[41.5, None],
    ),
    RunStopped(reason="SIGTERM"),
]

LATER_FACTS: list[AnyFact] = [
    Expired(what="lake", first=HOUR, last=HOUR + HOUR_NS, files=3, bytes=12_345, words="3 files of the lake"),
    Reloaded(added=[TRADES], removed=[SOL], words="added SOL-PERP trades; removed SOL-PERP orderbook"),
]
"""That came after the golden journal was written."""


def golden_entries() -> list[Entry]:
    """
    What `golden/journal-1.zst` was written from: each fact, some frames of the captures, and an empty entry.
    """
    frames = [frame for _, frame in sorted(sample_frames().items()) if len(frame) < 1500]
    entries = [(EntryKind.FACT, NO_CONNECTION, 0, encode_fact(fact)) for fact in FACTS[:-1]]
    entries += [(EntryKind.FRAME, number % 3, 1 + number % 2, frame) for number, frame in enumerate(frames)]
    entries += [(EntryKind.ALIVE, NO_CONNECTION, 0, b""), (EntryKind.FRAME, 2, 1, b"\xff\x00 not UTF-8")]
    entries += [(EntryKind.FACT, NO_CONNECTION, 0, encode_fact(FACTS[-1]))]
    return [
        Entry(int(kind), connection, attempt, seq, HOUR + seq * 150_000_000, payload, RUN)
        for seq, (kind, connection, attempt, payload) in enumerate(entries, 1)
    ]


def run_folder(journal: Path, run: str = RUN) -> Path:
    """
    A run's folder below a journal's, made.
    """
    folder = journal / run
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_journal(folder: Path, entries: list[Entry], settings: JournalSettings | None = None) -> list[SegmentFile]:
    """
    Entries through the writer, numbered by it; the finished segments.
    """
    journal = Journal(folder, header=lambda: HEADER, settings=settings or JournalSettings())
    journal.start()
    for entry in entries:
        journal.append(
            entry.kind,
            connection=entry.connection,
            attempt=entry.attempt,
            recv_ts=entry.recv_ts,
            payload=entry.payload,
        )
    assert journal.close(30)
    return segments(folder.parent)


def entries_of(folder: Path) -> list[Entry]:
    """
    What is read back of one run.
    """
    return list(read_run([segment for segment in segments(folder.parent) if segment.run == folder.name]))
