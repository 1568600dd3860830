"""
What the monitor remembers between entries: plain structs, so that an hour's end state is the next hour's carry.

Everything in it is bounded, whatever the venue sends and however long the recorder runs.
"""

import msgspec

from recorder.quality.counter import FillState
from recorder.quality.tallies import Tally
from recorder.quality.track import Track
from recorder.records import Cause, Event, QualitySettings, Stream


class Leaving(msgspec.Struct):
    """
    A stream that nobody carries any more; frames of it may still be on their way.
    """

    stream: Stream
    since: int


class Stretch(msgspec.Struct):
    """
    What was found of one stream, until it is known whether it was found of its neighbours, too.
    """

    kind: str
    run: str
    connection: int
    stream: Stream
    start: int
    end: int
    added: int
    words: str
    missing: int | None = None
    first_slot: int | None = None
    last_slot: int | None = None
    late: int = 0
    """`backlog`: receipt of the first late book. `cadence_hole`: 1 if the books around it were late."""


class Often(msgspec.Struct):
    """
    Holes of one stream or connection that come so often that they are told as one.
    """

    kind: str
    run: str
    connection: int
    stream: Stream | None
    since: int
    """When this minute's count began."""
    told: int = 0
    """Events since then."""
    first: Event | None = None
    """The first of those that are told as one."""
    last: int = 0
    count: int = 0
    missing: int = 0


class Pace(msgspec.Struct, frozen=True, order=True):
    """
    What a book stream kept to when its last book came.
    """

    until: int
    """Receipt of that book."""
    since: int
    """Since when it did."""
    cadence: int
    """ms, as the rest of it."""
    spread: int
    former: int
    """The one before it that was long in force; 0: none."""
    left: int = 0
    """When that was over."""


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
    full_since: int = 0
    """Since when it does not listen for want of space; 0: it does."""
    full_why: str = ""
    freed: int = 0
    """When it last listened again; 0: it never stopped."""

    @property
    def listens_since(self) -> int:
        """
        Since when it has done what it can to hear.
        """
        return max(self.started, self.freed)


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
    recent: list[int] = []
    """Its last heartbeats, oldest first; the instant of the connect before them."""
    halted: int = 0
    """Since when no market brings a book although heartbeats come, once that is long enough; 0: some do."""
    resuming: int = 0
    """The first book after that, …"""
    resumed: int = 0
    """… and the last first book of a stream."""


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
    asked: int = 0
    """When it was last asked for, until a stored copy came: that is older than what came before it."""
    halted: bool = False
    """Its silence is told by the `halted` of its connection."""
    homes: list[int] = []
    """The connections it has moved here from: it leaves when it is back on one of them."""
    track: Track | None = None
    """Of a book stream."""
    added: bool = False
    """A book that the run had not asked for before, on a connection that was open: none has come yet."""
    moved: bool = False
    """Likewise, of one that still came on the connection it has moved from."""
    pace: int = 0
    """What it kept to there, ms; 0: not known."""


UNKNOWN_CONNECTION = -1


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
    symbol: str | None = None
    """None: of all markets."""


class Orphan(msgspec.Struct):
    """
    A stream that a run asked for which died, and that no run beside it asks for.
    """

    stream: Stream
    run: str
    since: int


class Removed(msgspec.Struct):
    """
    A stream that was taken out of the configuration of a run, which went on.
    """

    stream: Stream
    run: str
    since: int
    """Its last frame."""
    asked: int = 0
    """When it was asked for again; 0: it is not."""


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
    removed: list[Removed] = []
    stretches: list[Stretch] = []
    often: list[Often] = []
    fed: dict[str, int] = {}
    """When two feeds were last heard, by the stream's label: if only one comes after an outage, the other is missed."""
    paces: dict[str, Pace] = {}
    """What pace book streams kept, by label: if half as many come after a restart, every second one may be missed."""
