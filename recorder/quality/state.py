"""
What the monitor remembers between entries: plain structs, so that an hour's end state is the next hour's carry.

Everything in it is bounded, whatever the venue sends and however long the recorder runs.
"""

import msgspec

from recorder.quality.events import Tally
from recorder.records import Cause, Event, QualitySettings, Stream


class Leaving(msgspec.Struct):
    """
    A stream that nobody carries any more; frames of it may still be on their way.
    """

    stream: Stream
    since: int


class RunState(msgspec.Struct):
    """
    One run of the recorder.
    """

    run: str
    streams: list[Stream]
    settings: QualitySettings
    started: int
    """Since when it records; its first entry, or the first after it was taken for dead."""
    last_ts: int
    last_seq: int
    known: bool = True
    """All it asked for was seen. False if its entries begin in the middle: then frames tell what it asked for."""
    gone: bool = False
    """It stopped, died, or stands still. Remembered for a while, so that it can go on."""
    resumed: int = 0
    """When it last heard again, after it stood still or entries of it were lost: silence before that proves nothing."""
    leaving: list[Leaving] = []


class ConnectionState(msgspec.Struct):
    """
    One configured connection of a run.
    """

    run: str
    connection: int
    attempt: int = 0
    up: bool = False
    last_frame: int = 0
    """Anything heard; the instant of the connect before that."""
    last_heartbeat: int = 0
    """Likewise."""
    gap_open: bool = False
    """A heartbeat is overdue and was reported, live."""
    outage_start: int | None = None
    outage_cause: Cause = "unknown"
    outage_why: str = ""
    outage_end: int = 0
    """Of the last one that is over: the next begins no earlier."""
    counted_to: int = 0
    """Up to when `HourBeats.up_ns` counts."""
    settled: int = 0
    """When the last of the books it owed since it was down came, or was asked for and stayed silent; 0 for none."""
    opened: int = 0
    opening: str = ""
    """What its first connect says, while the run has not heard all its books: the outage is the run's start."""


class HourBeats(msgspec.Struct):
    """
    A connection's heartbeats within the hour; outlives its run.
    """

    run: str
    connection: int
    heartbeats: int = 0
    up_ns: int = 0
    longest_ns: int | None = None


class FlowState(msgspec.Struct):
    """
    One stream as one connection of a run hears it.
    """

    run: str
    connection: int
    """`UNKNOWN_CONNECTION` until a frame tells, in a run met in the middle."""
    stream: Stream
    since: int
    """When it was asked for on this connection."""
    up: bool = True
    """Its connection is, as far as is known."""
    last: int = 0
    """Its last frame here; 0 for none."""
    last_slot: int | None = None
    silent: bool = False
    fresh: int = 0
    """Flags for its next row."""
    awaited: bool = False
    """A book: owed since its connection was down, or since it was asked for."""
    refusal: Event | None = None
    """Its request was not acknowledged, or refused; it goes on until that changes."""
    silent_on: int | None = None
    """The connection its silence began on, where it has moved since."""


UNKNOWN_CONNECTION = -1


class MissingFills(msgspec.Struct):
    """
    Fill ids that were jumped over and may still arrive.
    """

    first: int
    last: int
    left_ts: int
    right_ts: int
    left_slot: int | None
    right_slot: int | None
    run: str
    connection: int
    before_first: bool = False
    """They lie before the first fill we ever had: they may have been sent before we listened."""


class FillState(msgspec.Struct):
    """
    The fill counter of one market. Across connections and runs: ids are the venue's.
    """

    symbol: str
    lowest: int
    highest: int
    highest_ts: int
    highest_slot: int | None
    pending: list[MissingFills] = []
    judged: list[tuple[int, int]] = []
    """Ranges already reported as missing, newest last: one that arrives after all is no repeat."""
    stray: int | None = None
    """An id too far from the counter to be of it. A second one beside it shows that the counter began anew."""
    hour_first: int | None = None
    hour_last: int | None = None
    hour_repeated: int = 0


class Outage(msgspec.Struct):
    """
    A hole that explains others: missing fills whose bounds touch it have its cause.
    """

    start: int
    end: int
    cause: Cause
    why: str
    run: str | None = None
    """None: of all runs."""
    connection: int | None = None
    """None: of all connections of the run."""


class Orphan(msgspec.Struct):
    """
    A stream that a run asked for which died, and that no run beside it asks for.
    """

    stream: Stream
    run: str
    since: int


class MonitorState(msgspec.Struct):
    """
    Everything; the fold's value at one instant.
    """

    now: int
    runs: list[RunState] = []
    connections: list[ConnectionState] = []
    flows: list[FlowState] = []
    fills: dict[str, FillState] = {}
    """By `perp:0`."""
    identity: dict[str, str] = {}
    """Names the books gave, by `perp:0`."""
    conflicts: list[str] = []
    """Identities already reported as conflicting since the last start."""
    outages: list[Outage] = []
    tallies: list[Tally] = []
    beats: list[HourBeats] = []
    down_since: int | None = None
    """Since when no run records; None while one does, and before the first."""
    stopped_by: str | None = None
    """Why the last run stopped, if it said so."""
    configured: list[Stream] = []
    """What the last run asked for, when none is left: hours without a recorder are on record too."""
    orphans: list[Orphan] = []
