"""
The values of the accounting: what was meant, what was sealed, and what is missing.
"""

from typing import Literal

import msgspec

from recorder.records import Stream

MOMENTS = frozenset({"recorder_started", "recorder_stopped", "connected"})
"""What every run has."""
BOOKS_MISSING = frozenset(
    {
        "recorder_down", "connected", "added", "disconnected", "not_acknowledged", "rejected", "silent", "cadence_hole",
        "halted", "overflow", "journal_damaged", "seal_failed",
    }
)  # fmt: skip
"""Kinds that say books are missing. `connected` reaches from a run's start to the first book."""
FILLS_MISSING = (BOOKS_MISSING - {"added", "silent", "cadence_hole", "halted"}) | {"trade_gap"}
INFERRED = frozenset({"silent", "cadence_hole", "halted", "trade_gap"})
BURST_NS = 300_000_000
"""What comes within this is of one poll of the chain."""
TRUE_HOLE_SLACK_NS = 60_000_000
"""Of latency and jitter on the way."""

State = Literal["stored", "covered", "suspect", "unverifiable", "unexplained"]


class Mark(msgspec.Struct, frozen=True, gc=False):
    """
    An event of `quality`, put together from its hours.
    """

    kind: str
    cause: str
    scope: str
    connection: int | None
    symbol: str | None
    channel: str | None
    start: int
    end: int
    missing: int | None
    evidence: str


class Lake(msgspec.Struct, frozen=True):
    """
    What was sealed.
    """

    rows: frozenset[tuple[str, int]]
    """(run, seq) of all tables of data."""
    raw: frozenset[tuple[str, int]]
    """Of `undecodable`."""
    nameless: frozenset[tuple[str, int]]
    """Fills whose id the venue left out."""
    marks: list[Mark]
    doubts: dict[tuple[str, str], list[tuple[int, int]]] = {}
    """By symbol and channel: the seconds that `coverage` calls suspect or missing, as (from, to)."""


class Meant(msgspec.Struct):
    """
    A book or a fill that the venue meant to send.
    """

    stream: Stream
    at: int
    """When it was due at the venue."""
    arrival: int
    """When it came, or would have."""
    fill_id: int | None = None
    copy: bool = False
    """A stored book, sent after a subscribe: it says nothing of the time it comes at."""
    stored: bool = False
    named: bool = False
    """Stored as a row, with its fill id if it is a fill; what is kept raw only is not."""
    why: set[str] = set()
    """What became of it on connections that did not bring it."""
    connections: set[int] = set()
    """Those it was sent or due on."""
    would: dict[int, int] = {}
    """When it would have come on those that did not bring it."""
    brought: set[int] = set()
    """Those it came on."""
    state: State = "unexplained"


class Hole(msgspec.Struct):
    """
    Consecutive missing books or fills of a stream.
    """

    stream: Stream
    missing: list[Meant]
    before: int | None
    """Receipt of the frame before it; None: it is the first."""
    after: int | None
    mark: Mark | None = None
    """The event that contains it whole, if one does."""
    marks: list[Mark] = []
    """All that some of it lies in."""

    @property
    def why(self) -> set[str]:
        """
        What became of its frames.
        """
        return set().union(*(meant.why for meant in self.missing))

    @property
    def first(self) -> int:
        """
        When the first would have come.
        """
        return min(meant.arrival for meant in self.missing)

    @property
    def last(self) -> int:
        """
        When the last would have come.
        """
        return max(meant.arrival for meant in self.missing)
