"""
What is known of one book stream, or of one of two feeds in it: values of the carry. Pure.
"""

import msgspec


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
    doubted: bool = False
    """Just half of the books came for a while, of all streams of the connection: they may have been all there were."""
    passed: int = 0
    """Books that another stream of the connection had meanwhile, where the cadence became another one."""
    asked: bool = False
    """The others have been asked for those, when they had long had a book since."""


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
    left: int = 0
    """When that was over."""
    held: int = 0
    """When the cadence was last kept to, if no step has since the stream began; else 0."""
    guessed: bool = False
    """It is just twice the one before it: every second book may be lost, though it is believed that none is."""
    ring: list[int] = []
    """Steps of `ts` since it was last learned, ms."""
    past: list[int] = []
    """Steps before those."""
    whole: int = 0
    """Since which book, by `ts`, no step is left out of them, or was judged by a cadence that has changed since."""
    unbroken: int = 0
    """Since which book no step is left out of them, at least."""
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
    alone_until: int = 0
    """Likewise, one of them had been given up by then: the last book before the outage."""
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
