"""
What is known of one market's fill ids: values of the carry. Pure.
"""

import msgspec

from recorder.records import Cause


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
    spans: list[tuple[int, int]] = []
    """Where they lie, ns, in order and apart: what came between them is there."""


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
    far: int = 0
    """Fills in a row that were later than any fill is."""
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
