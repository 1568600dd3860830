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


class Hole(msgspec.Struct):
    """
    Ticks that a stream seems to have missed. Judged when the next ones have come: a late one may still make up for it.
    """

    start: int
    """Receipt of the book before; of one that was late itself, when it was due here."""
    end: int
    """Receipt of the book after."""
    left_ts: int
    """When the book before should have been built, by the publisher's clock, ms; our estimate where it sends none."""
    right_ts: int
    missing: int
    step_ms: int
    """From the book before to the book after, by the publisher's clock."""
    left_slot: int | None = None
    right_slot: int | None = None
    count: int = 1
    """Books since the one before."""
    off_ms: int = 0
    """How far from a tick of the old grid the nearest book since has been."""
    late: bool = False
    """The books around it were late."""
    anew: bool = False
    """No step since an outage or a silence has kept to the cadence that was before it."""


class Watch(msgspec.Struct):
    """
    Slots have stepped back: what follows tells whether that was once, or whether two feeds alternate.
    """

    start: int
    """Receipt of the book before the first step back."""
    last: int
    """Receipt of the last book that stepped back."""
    first_slot: int
    last_slot: int
    total: int = 0
    """Steps back."""
    deepest: int = 0
    frames: int = 0
    """Of the block that is being counted."""
    backs: int = 0
    feeds: bool = False
    """They come so often that two feeds alternate."""


class Track(msgspec.Struct, omit_defaults=True):
    """
    What is learned of one book stream on one connection: its cadence, how late its books come, where its slots stand.

    A book that keeps to all of it costs a few comparisons (`low`, `high`, `lag_low`, `lag_high`, `slot`).
    """

    ts: int = 0
    """The publisher's clock of the last book that fits, ms; 0: none yet."""
    recv: int = 0
    """When that came."""
    slot: int = 0
    """Of the last book; 0: none yet."""
    moved: int = 0
    """When the slot last changed."""
    low: int = 1 << 62
    """A step of `ts` above this and up to `high` is usual, ms. Above all numbers while every book needs a look."""
    high: int = 0
    lag_low: int = 0
    lag_high: int = 0
    lag_min: int = 1 << 62
    """The least `recv_ts − ts` since the cadence was last learned, ns."""
    base: int | None = None
    """The least `recv_ts − ts` that is usual, ns: what the clocks differ by, and the way here."""
    cadence: int = 0
    """Learned, ms; 0: not yet."""
    spread: int = 0
    """Median distance of a step from it, ms."""
    allow: int = 0
    """A step this much shorter than two ticks is still two ticks, ms."""
    calm_low: int = 0
    """`low` when nothing is the matter."""
    paced: int = 0
    """Since when the cadence is what it is."""
    former: int = 0
    """The last one before it that was long in force, ms; 0: none."""
    ring: list[int] = []
    """Steps of `ts` since it was last learned, ms."""
    past: list[int] = []
    """Steps before those."""
    whole: int = 0
    """Since which book, by `ts`, no step is left out of them, or was judged by a cadence that has changed since."""
    told: int = 0
    """`ts` of the book after the last hole that was told."""
    anew: bool = False
    """Since an outage or a silence no step has kept to the cadence from before it: that may have changed meanwhile."""
    kept: int = 0
    """When one last did for the first time."""
    stored: int = 0
    """`ts` of a stored copy that came in a silence and may have been the next book, held back on its way."""
    early: list[tuple[int, int, int]] = []
    """(ts, recv_ts, slot) of the first books, until they tell the cadence."""
    gap: int = 0
    """The next book is the first after a silence (1), or after a request or an outage (2)."""
    strays: int = 0
    """Books since `ts` whose clock fits nothing."""
    useless: int = 0
    """Likewise, with repeated times."""
    deaf: bool = False
    """Its publisher's clock is of no use: judged by our own."""
    alt_ts: int = 0
    alt_since: int = 0
    """Receipt of the first of …"""
    alt_count: int = 0
    """… books in a row that fit each other, but not what went before: the publisher's clock has stepped."""
    holes: list[Hole] = []
    odd: int = 0
    """Steps in a row that each missed a tick: the cadence may have changed."""
    alone: int = 0
    """Since when it misses ticks all the time, and others of its connection do not; 0: it does not."""
    doubt: int = 0
    """Since when just half of the books come, of all streams of its connection: a slower publisher, or every second
    one is lost. If it stays so, it is the cadence; if they all come again, they were lost. 0: no doubt."""
    late_since: int = 0
    """Receipt of the last book in time, while books are late; 0: they are not."""
    late_first: int = 0
    """Receipt of the first late one."""
    late_worst: int = 0
    late_ref: int = 0
    late_mark: int = 0
    """Since when the lateness is about `late_ref`: one that stays is the new usual."""
    watch: Watch | None = None
    frozen: int = 0
    """Since when the slot stands still, once that is reported; 0: it does not."""
    content: int = 0
    """Digest of some of the levels."""
    content_since: int = 0
    content_run: int = 0
    """Looks in a row that found it the same."""
    content_looks: int = 0
    content_same: float = 0.0
    """Share of looks that find it the same."""
    content_frozen: int = 0
    """Since when the content stands still, once that is reported; 0: it does not."""
    skew_since: int = 0
    """Since when the publisher's clock is off; 0: it is not."""
    skew_ref: int = 0
    """`base` before that."""
    feeds: "Feeds | None" = None
    """Two feeds alternate, or may."""


class Feeds(msgspec.Struct, omit_defaults=True):
    """
    Two feeds that alternate in one stream: the one is judged by the stream's own `Track`, the other by a second one.

    They are *suspected* from the first step back in slot, *believed* once it is known, *told apart* as soon as a few
    books of each are there.
    """

    start: int
    """Receipt of the book before the first step back."""
    first_slot: int | None = None
    believed: bool = False
    expected: bool = False
    """They were heard before an outage; not necessarily since."""
    second: Track | None = None
    """The other feed's; None: not told apart now."""
    before: Track | None = None
    """While they are to be told apart: the track as it was before the first of `recent`."""
    recent: list[tuple[int, int, int]] = []
    """(ts, recv_ts, slot) of the books since then."""
    lone: int = 0
    """Since when only one of them comes, ns; 0: both do."""
    slot: int = 0
    """Of the last book, whosever."""
    total: int = 0
    """Steps back."""
    deepest: int = 0
    last: int = 0
    """Receipt of the last book that stepped back …"""
    last_slot: int | None = None
    """… and its slot."""


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
    nameless: int = 0
    """Fills without an id that came since the one before: they are among these."""
    before_first: bool = False
    """They lie before the first fill we ever had: they may have been sent before we listened."""


class ToldGap(msgspec.Struct):
    """
    Fill ids that were told as missing. One that arrives after all is no repeat, and takes the gap back that far.
    """

    first: int
    last: int
    event_id: str
    """Of the `trade_gap` that told of them."""
    left_ts: int
    """Where that begins."""
    right_ts: int
    """Receipt of the fill after them."""


class LateFills(msgspec.Struct):
    """
    Fills of one gap that arrived after it had been told, in this hour.
    """

    event_id: str
    left_ts: int
    first_id: int
    last_id: int
    first_ts: int
    """Receipt of the first that came late …"""
    last_ts: int
    """… and of the last."""
    waited_ns: int
    """From the fill after the gap to the last of them."""
    count: int = 1


class ManyGaps(msgspec.Struct):
    """
    Gaps of one market beyond those that an hour tells one by one.
    """

    event_id: str
    hour: int
    """ns; in which they end."""
    symbol: str
    run: str
    connection: int
    cause: Cause
    why: str
    first: int
    last: int
    left_ts: int
    right_ts: int
    left_slot: int | None
    right_slot: int | None
    gaps: int = 0
    missing: int = 0
    """Exact."""


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
    stray: int | None = None
    """An id too far from the counter to be of it. A second one beside it shows that the counter began anew."""
    hour_first: int | None = None
    """Lowest id of the hour that is above all ids before it, and with nothing missing up to the next of the hour."""
    hour_last: int | None = None
    hour_repeated: int = 0
    nameless: int = 0
    """Fills without an id since the highest."""
    lag: int | None = None
    """The least `recv_ts` − block time that is usual, ns."""
    highest_late: int = 0
    """How much later than that the highest came, ns."""
    overtaken: int = 0
    """When a fill last came after one with a higher id."""
    begun: int = 0
    """Receipt of the counter's first fill; 0: not known."""
    since: int = 0
    """Since when fills before that may have been sent to us: the start of the run that had it; 0: not known."""
    hour_floor: int | None = None
    """Highest id before the hour; None if the counter is younger than that."""
    hour_anew: bool = False
    """In this hour ids came that cannot follow the counter."""
    told: list[ToldGap] = []
    """Newest last."""
    late: list[LateFills] = []
    hour_told: int = 0
    """Gaps told in this hour."""
    many: list[ManyGaps] = []


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
