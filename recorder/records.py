"""
The values that travel between the stages: journal entries, facts about ourselves, streams, events, quality bits.

All are frozen structs. `*_ts` are integer nanoseconds since the Unix epoch, UTC, on the recorder's clock (`clock.py`).
New fields go last, with a default: journals of older versions decode.
"""

from enum import IntEnum, IntFlag
from typing import Literal

import msgspec

SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS

MarketType = Literal["perp", "spot"]
Cause = Literal["venue", "network", "recorder", "unknown"]
Scope = Literal["recorder", "connection", "stream"]


class EntryKind(IntEnum):
    """
    What a journal entry holds. Numbers are on disk: never reuse one.
    """

    HEADER = 1
    """First entry of a segment: `SegmentHeader` as JSON."""
    FRAME = 2
    """A websocket message, the bytes as received."""
    FACT = 3
    """One `Fact` as JSON: something that happened to ourselves."""
    ALIVE = 4
    """Empty; written each second so that a crash hides at most that much."""


NO_CONNECTION = -1
"""`Entry.connection` of what concerns the whole recorder."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """
    One record of the journal.

    `(run, seq)` identifies it: an entry that stands in two segments (rewritten after a failed sync) is one entry.
    """

    kind: int
    connection: int
    """Index of the configured connection, `NO_CONNECTION` for the recorder itself."""
    attempt: int
    """Counts the connects of that connection within the run, from 1; 0 before the first."""
    seq: int
    """Counts the entries of the run, from 1, without a hole: a missing one is a lost one."""
    recv_ts: int
    """When it reached us. Never steps back within a run."""
    payload: bytes
    run: str = ""
    """Set by the reader, from the segment's header; not in the entry's bytes."""


class Stream(msgspec.Struct, frozen=True, order=True):
    """
    One market and channel that is, or should be, recorded.
    """

    market_type: MarketType
    symbol: str
    """Canonical spelling: as in the shipped market list, else as configured."""
    channel: Literal["orderbook", "orderbook_indicative", "trades", "priorityfees"]
    grouping: int | None = None
    """Ticks a level of the book channels covers; None for the others."""

    def label(self) -> str:
        """
        For people: `SOL-PERP orderbook`, `SOL-PERP orderbook/100`.
        """
        suffix = f"/{self.grouping}" if self.grouping not in {None, 1} else ""
        return f"{self.symbol} {self.channel}{suffix}"


class QualitySettings(msgspec.Struct, frozen=True):
    """
    Thresholds of the monitor. Journaled, so that the seal judges as the recorder did.
    """

    heartbeat_gap_s: float = 10.0
    """An interval between heartbeats above this is an event: twice what the venue keeps to."""
    silent_after_s: float = 5.0
    """A book stream without a frame for this long is silent: books come each tick, changed or not."""
    trade_wait_s: float = 10.0
    """How long a missing fill id may still arrive: the venue reorders within a few seconds."""
    halted_after_s: float = 20.0
    """All books silent for this long, on all connections, while heartbeats come: the venue is halted."""


class SegmentHeader(msgspec.Struct, frozen=True):
    """
    Makes a segment readable alone: whose it is, and what was subscribed when it was opened.
    """

    format: int
    run: str
    host: str
    recorder_version: str
    venue: str
    network: str
    streams: list[Stream]
    quality: QualitySettings = QualitySettings()


class Fact(msgspec.Struct, frozen=True, tag_field="fact"):
    """
    Something that happened to ourselves. Journaled when it happens, copied into `quality` by the seal.
    """


class RunStarted(Fact, frozen=True, tag="run_started"):
    """
    First entry of a run. `beside` names runs that held their lock at that moment: they were recording too.
    """

    run: str
    host: str
    pid: int
    recorder_version: str
    venue: str
    network: str
    urls: list[str]
    streams: list[Stream]
    beside: list[str] = []
    continues: str | None = None
    """The run of the same process that this one follows after a backward clock step."""
    quality: QualitySettings = QualitySettings()


class RunStopped(Fact, frozen=True, tag="run_stopped"):
    """
    Last entry of a run that ended by itself.
    """

    reason: str


class Connected(Fact, frozen=True, tag="connected"):
    """
    The websocket handshake succeeded.
    """

    url: str
    attempt: int
    took_ms: float
    compressed: bool


class ConnectFailed(Fact, frozen=True, tag="connect_failed"):
    """
    A connect did not get as far as a websocket.
    """

    url: str
    attempt: int
    error: str
    cause: Cause
    retry_in_s: float


class Disconnected(Fact, frozen=True, tag="disconnected"):
    """
    A connection ended. `cause` and `why` are what the capture could tell at that moment.
    """

    url: str
    attempt: int
    cause: Cause
    why: str
    code: int | None = None
    """Close code received, if any (RFC 6455)."""
    reason: str | None = None
    lived_s: float = 0.0


class Requested(Fact, frozen=True, tag="requested"):
    """
    A subscribe or unsubscribe went out.
    """

    stream: Stream
    op: Literal["subscribe", "unsubscribe"] = "subscribe"
    why: str = ""
    """Empty for the first request of a connection; else what made it necessary."""


class NotAcknowledged(Fact, frozen=True, tag="not_acknowledged"):
    """
    No acknowledgement of a subscription came in time.
    """

    stream: Stream
    requested_ts: int
    waited_s: float


class Rejected(Fact, frozen=True, tag="rejected"):
    """
    The venue refused a request. `stream` is None if its error cannot be matched to one (the text names no market).
    """

    stream: Stream | None
    text: str


class Moved(Fact, frozen=True, tag="moved"):
    """
    A stream changed its connection: to probation because it stays silent, or back.
    """

    stream: Stream
    to_connection: int
    why: str


class Overflowed(Fact, frozen=True, tag="overflowed"):
    """
    We dropped entries, because the journal's queue was full: the numbers `first_seq`..`last_seq` are lost.
    """

    count: int
    bytes: int
    first_seq: int
    last_seq: int
    first_ts: int
    last_ts: int


class ClockStepped(Fact, frozen=True, tag="clock_stepped"):
    """
    The wall clock moved against the monotonic clock by `step_ns` (negative: backwards).
    """

    step_ns: int
    before_ts: int
    after_ts: int


class WriteFailed(Fact, frozen=True, tag="write_failed"):
    """
    A journal write or sync failed; what was in memory went to a new segment.
    """

    segment: str
    operation: str
    errno: int | None
    error: str


class DiskFull(Fact, frozen=True, tag="disk_full"):
    """
    Capture stopped for want of space, until `DiskFreed` or the end of the run.
    """

    free_bytes: int
    free_inodes: int
    why: str


class DiskFreed(Fact, frozen=True, tag="disk_freed"):
    """
    There is space again, and capture goes on.
    """

    free_bytes: int
    free_inodes: int


class LoopStalled(Fact, frozen=True, tag="loop_stalled"):
    """
    The event loop did not run for `stall_ns`; receive times inside that window are late.
    """

    stall_ns: int


class Reloaded(Fact, frozen=True, tag="reloaded"):
    """
    The configuration was read again and taken over. One that is refused is a `JobFailed` of the job `reload`.
    """

    added: list[Stream]
    removed: list[Stream]
    words: str


class Expired(Fact, frozen=True, tag="expired"):
    """
    Something was removed by rule, or because the disk was full: sealed journal, or rows of the lake.
    """

    what: Literal["journal", "lake"]
    first: int
    """Of what was removed: the earliest instant, ns."""
    last: int
    """Begin of the latest hour or segment."""
    files: int
    bytes: int
    words: str
    by_rule: bool = True
    """Else it was found to be gone: removed while no recorder was at work, or by hand."""


class JobFailed(Fact, frozen=True, tag="job_failed"):
    """
    A scheduled job ended with an error. It will run again.
    """

    job: str
    error: str


class Telemetry(Fact, frozen=True, tag="telemetry"):
    """
    A minute in the recorder's own life. Durations in ms, sizes in bytes; percentiles over the minute.
    """

    frames: int
    bytes: int
    cpu_s: float
    rss_bytes: int
    loop_lag_p99_ms: float
    loop_lag_max_ms: float
    queue_max_bytes: int
    commits: int
    commit_p50_ms: float
    commit_p99_ms: float
    commit_max_ms: float
    journal_bytes: int
    disk_free_bytes: int
    clock_offset_ns: int
    """Wall clock minus the run's own clock at the end of the minute."""
    connections: list[int] = []
    latency_p50_ms: list[float | None] = []
    """Per connection of `connections`: `recv_ts − ts` of its books; None if it had none."""
    durable_p50_ms: float | None = None
    durable_p99_ms: float | None = None
    durable_max_ms: float | None = None
    """Of each commit, how long its oldest entry took from receipt to disk; None where nobody measured it."""
    disk_free_inodes: int | None = None
    """None where the file system does not count them, or nobody asked."""
    paused: bool | None = None
    """Capture is stopped, for the disk is full; None where nobody says."""


AnyFact = (
    RunStarted
    | RunStopped
    | Connected
    | ConnectFailed
    | Disconnected
    | Requested
    | NotAcknowledged
    | Rejected
    | Moved
    | Overflowed
    | ClockStepped
    | WriteFailed
    | DiskFull
    | DiskFreed
    | LoopStalled
    | Reloaded
    | Expired
    | JobFailed
    | Telemetry
)

_fact_decoder = msgspec.json.Decoder(AnyFact)


def encode_fact(fact: Fact) -> bytes:
    """
    JSON, members in declared order.
    """
    return msgspec.json.encode(fact)


def decode_fact(payload: bytes) -> AnyFact:
    """
    Inverse of `encode_fact`.

    Raises:
        msgspec.DecodeError: not a fact of this or an older version.
    """
    fact: AnyFact = _fact_decoder.decode(payload)
    return fact


class Flag(IntFlag):
    """
    Bits of `flags`. Numbers are in files: never reuse one.
    """

    CROSSED = 1 << 0
    """Best bid above best ask."""
    LOCKED = 1 << 1
    """Best bid equal to best ask."""
    ONE_SIDED = 1 << 2
    """At least one side is empty."""
    UNSORTED = 1 << 3
    """Levels did not come best first; they are stored sorted."""
    INEXACT = 1 << 4
    """A number of 2^53 or more was sent as a JSON number: its last digits were lost at the venue."""
    SATURATED = 1 << 5
    """A value outside int64 was clamped, or a level had a null (stored as null)."""
    OTHER_SOURCE = 1 << 6
    """A level names a source this version does not know (bit 256); see `extra`."""
    MAYBE_INITIAL = 1 << 7
    """First book of its stream on a connection: may be a stored copy, older than live."""
    FIRST_AFTER_GAP = 1 << 8
    """The first row of its stream, as received, after an outage, a silence, or a missed tick; one that turns out to
    have been late, or the first of a slower cadence, may bear it, too. Missing fills are not marked in `trades`:
    `fill_record_id` tells them."""
    BACKLOG = 1 << 9
    """Came more than a second late, or before the stream had caught up: `recv_ts` lies, compare with `ts`."""
    REPEAT = 1 << 10
    """The same payload (books) or fill id (trades) came before on this connection."""
    ROUNDED = 1 << 11
    """A number had more digits than the column's scale holds."""
    SPREAD_UNIT = 1 << 12
    """`spread_pct` is 100 times smaller than documented: a fraction ×10^6, from the newer publisher."""
    ASSUMED_SCALE = 1 << 13
    """`size_exponent` is unknown; amounts of trades are ×10^9."""


class Source(IntFlag):
    """
    Bits of `bid_source` and `ask_source`: where a level's size comes from.
    """

    DLOB = 1
    """Resting orders."""
    VAMM = 2
    """The protocol's pool."""
    INDICATIVE = 4
    """Quotes that are not firm; only in indicative books."""
    PHOENIX = 8
    OPENBOOK = 16
    SERUM = 32
    CLOB = 64
    """On-chain book of the relaunch."""
    PROPAMM = 128
    OTHER = 256
    """Any other name; its parts are summed here and named in `extra`."""


class Event(msgspec.Struct, frozen=True):
    """
    One row of `quality`: something that is not known, or that happened to the recorder.

    `start` and `end` bound what is unknown, cut to the hour of the table; `true_start` is never cut.
    A moment (a connect, a start) has `start == end`.
    """

    event_id: str
    """Same for the parts of one event in several hours."""
    kind: str
    cause: Cause
    scope: Scope
    run: str | None
    connection: int | None
    symbol: str | None
    channel: str | None
    start: int
    end: int
    true_start: int
    continues: bool
    """Goes on after the end of this hour (or, live, is still open)."""
    missing: int | None
    """Frames or trades lost in this hour; None when that cannot be known."""
    first_slot: int | None
    last_slot: int | None
    evidence: str
