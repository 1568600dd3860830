"""
The kinds of faults: what can go wrong at the venue and on the way from it, as values.

Times are seconds from the start of the simulator. A fault either happens at a moment (`at_s`, again each `every_s`) or
lasts for a span (`from_s` up to `to_s`). `market` selects what it concerns: `*`, `perp:*`, `spot:*`, a symbol, or
several of these separated by commas, as one publisher's group of markets. `every` counts frames of one channel.

Most faults change what is sent and never what the market does; `Halt` and `StaleOracle` do, being states of the venue.
"""

from typing import Literal, get_args

import msgspec

from recorder.records import MarketType

Garbled = Literal[
    "brace",
    "empty",
    "array",
    "null",
    "html",
    "deep",
    "bad_utf8",
    "control",
    "long",
    "unknown_channel",
    "unknown_object",
    "bus_error",
    "unrequested",
    "stale_heartbeat",
    "binary",
]
Altered = Literal[
    "envelope_member",
    "payload_member",
    "level_member",
    "source",
    "null_level",
    "strings",
    "unsorted",
    "sorted_members",
    "no_slot",
    "no_ts",
    "other_name",
    "prelaunch",
    "huge",
    "object_data",
    "prefixed",
    "stored_name",
    "no_fill_id",
    "explanation",
    "truncated",
    "bad_utf8",
    "html",
]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """
    Base of all.
    """


class Moment(Fault, frozen=True):
    """
    A fault that happens at once.
    """

    at_s: float
    every_s: float | None = None
    """Again after each of these; None: once."""


class Span(Fault, frozen=True, kw_only=True):
    """
    A fault that lasts.
    """

    from_s: float
    to_s: float


# ---- connections


class Drop(Moment, frozen=True, tag="drop"):
    """
    Cut every client's connection.
    """

    code: int | None = None
    """Close with this code; None: cut the transport with no close frame, so that clients see 1006."""


class HalfOpen(Span, frozen=True, tag="half_open"):
    """
    Those connected when it begins hear nothing more, not even a pong, and are not heard; it ends in a cut.
    """


class Backlog(Span, frozen=True, tag="backlog", kw_only=True):
    """
    Those connected when it begins hear nothing until it ends, then all that waited in one burst.

    Data that finds `buffer_bytes` of kernel buffers and the server's own limit full is dropped; at the 10 s check such
    a client is closed with 1008, which it sees only if the burst reaches it within 30 s, else it sees 1006.
    """

    buffer_bytes: int = 4_000_000


class Restart(Span, frozen=True, tag="restart", kw_only=True):
    """
    The server is down: all are cut, handshakes are refused, and it comes back with no memory. Publishers go on.
    """

    code: int | None = None


class BusFails(Span, frozen=True, tag="bus_fails"):
    """
    The server's own message bus refuses: a subscribe gets an error without channel, an acknowledgement and no data.
    """


class StopHeartbeats(Span, frozen=True, tag="stop_heartbeats"):
    """
    Send no heartbeats; everything else goes on.
    """


class Garbage(Moment, frozen=True, tag="garbage"):
    """
    Send something that is no frame of ours to every client: `what` if given, else `text` as it is.
    """

    text: str = "{"
    what: Garbled | None = None


# ---- publishers


class Silence(Span, frozen=True, tag="silence", kw_only=True):
    """
    Publish nothing of some markets.
    """

    market: str = "*"
    channels: Literal["books", "trades", "all"] = "books"
    feed: Literal[1, 2] | None = None
    """Of two feeds only this one; None: both."""


class SkipFrames(Span, frozen=True, tag="skip_frames", kw_only=True):
    """
    Lose single books: each n-th of a channel.
    """

    market: str = "*"
    every: int = 10


class PublisherDown(Span, frozen=True, tag="publisher_down", kw_only=True):
    """
    The publisher of some markets is down: no books, and what is filled meanwhile is never sent. When it comes back it
    sends the last transaction it had sent once more.
    """

    market: str = "*"


class RepeatFrames(Span, frozen=True, tag="repeat_frames", kw_only=True):
    """
    Send books twice: each n-th of a channel.
    """

    market: str = "*"
    every: int = 5


class SlowTicks(Span, frozen=True, tag="slow_ticks", kw_only=True):
    """
    Each n-th tick comes late, and the timer goes on from there: nothing is queued and nothing left out.
    """

    late_ms: int = 700
    every: int = 5


class Cadence(Span, frozen=True, tag="cadence", kw_only=True):
    """
    Another interval between ticks.
    """

    tick_ms: int = 1000


class Freeze(Span, frozen=True, tag="freeze", kw_only=True):
    """
    Frames go on and `ts` with them, but slot, content or both stand still: a publisher that lost its chain node.
    """

    market: str = "*"
    what: Literal["all", "slot", "content"] = "all"


class ShiftSlots(Span, frozen=True, tag="shift_slots", kw_only=True):
    """
    Slots are off: behind (negative) or ahead. On a single feed the server drops what is lower than it remembers.
    """

    market: str = "*"
    slots: int = -50


class TwoFeeds(Span, frozen=True, tag="two_feeds", kw_only=True):
    """
    A second publisher sends the same books somewhat later, with lower slots.
    """

    lag_ms: int = 150
    slots_behind: int = 3


class ClockSkew(Span, frozen=True, tag="clock_skew", kw_only=True):
    """
    The publisher's clock is off: `ts` of books, by this much.
    """

    market: str = "*"
    by_ms: int = -3000


class StaleStore(Span, frozen=True, tag="stale_store", kw_only=True):
    """
    Stored copies are no longer written: initial books are as old as the fault. For servers that send them.
    """

    market: str = "*"


class Alter(Span, frozen=True, tag="alter", kw_only=True):
    """
    Each n-th frame of a channel has another shape than documented, or none.
    """

    what: Altered
    market: str = "*"
    channels: Literal["books", "trades", "all"] = "books"
    every: int = 1


class NewMarket(Moment, frozen=True, tag="new_market"):
    """
    A market is listed: before, asking for it is refused.
    """

    market: str = "NEW-PERP"
    market_type: MarketType = "perp"
    index: int = 900


# ---- the market itself


class Halt(Span, frozen=True, tag="halt", kw_only=True):
    """
    The venue is halted: books come, their slots go on, nothing in them moves and nothing is filled.
    """

    market: str = "*"


class StaleOracle(Span, frozen=True, tag="stale_oracle", kw_only=True):
    """
    The oracle stands still; once it is 160 slots old, the pool's levels leave the book.
    """

    market: str = "*"
    behind_slots: int = 0
    """How old it is at the beginning."""


# ---- fills


class WithholdFills(Span, frozen=True, tag="withhold_fills", kw_only=True):
    """
    Publish only some of a market's fills; their ids count on, so that the loss can be proved.
    """

    market: str = "*"
    every: int = 1
    """Withhold each n-th fill; 1: all."""


class ReorderFills(Span, frozen=True, tag="reorder_fills", kw_only=True):
    """
    Fills with an even id come a poll (1 s) after those with an odd one.
    """

    market: str = "*"


class LateFills(Span, frozen=True, tag="late_fills", kw_only=True):
    """
    Fills are published this much later.
    """

    market: str = "*"
    by_s: float = 5.0


class RepeatFills(Span, frozen=True, tag="repeat_fills", kw_only=True):
    """
    Each n-th fill is published again `after_s` later.
    """

    market: str = "*"
    every: int = 3
    after_s: float = 2.0


AnyFault = (
    Drop
    | HalfOpen
    | Backlog
    | Restart
    | BusFails
    | StopHeartbeats
    | Garbage
    | Silence
    | PublisherDown
    | SkipFrames
    | RepeatFrames
    | SlowTicks
    | Cadence
    | Freeze
    | ShiftSlots
    | TwoFeeds
    | ClockSkew
    | StaleStore
    | Alter
    | NewMarket
    | Halt
    | StaleOracle
    | WithholdFills
    | ReorderFills
    | LateFills
    | RepeatFills
)
KINDS: tuple[type[AnyFault], ...] = AnyFault.__args__

REPLAY_KINDS = (Drop, HalfOpen, Backlog, Restart, BusFails, StopHeartbeats, Garbage)
"""Those that a replay of captured frames can have: of connections, not of publishers and markets."""


def kind_of(fault: Fault) -> str:
    """
    The kind as scripts and the ledger spell it.
    """
    return str(type(fault).__struct_config__.tag)


def described() -> list[tuple[str, list[str], str]]:
    """
    For help texts: of each kind its name, its members (`to_s`, `every=10`), and what it does, in a line.
    """
    kinds: list[tuple[str, list[str], str]] = []
    for kind in KINDS:
        members = [
            field.name if field.required else f"{field.name}={_choices(field.type) or _shown(field.default)}"
            for field in msgspec.structs.fields(kind)
        ]
        words = " ".join((kind.__doc__ or "").split())
        kinds.append((str(kind.__struct_config__.tag), members, words.split(". ")[0].rstrip(".") + "."))
    return kinds


def _shown(default: object) -> str:
    return "" if default is None else str(default)


def _choices(of: object) -> str:
    """
    The words a member can be, default first as declared; empty if they are many or it is no word.
    """
    words = get_args(of)
    return "|".join(words) if words and len(words) < 4 and all(isinstance(word, str) for word in words) else ""


def edges(fault: AnyFault) -> tuple[float, ...]:
    """
    The instants at which a fault happens first, or begins and ends; seconds from the start.
    """
    return (fault.from_s, fault.to_s) if isinstance(fault, Span) else (fault.at_s,)


def selects(selector: str, *, market_type: MarketType, symbol: str) -> bool:
    """
    Whether a fault's `market` concerns this market. Letter case does not count.
    """
    wanted = {name.strip().upper() for name in selector.split(",")}
    return bool(wanted & {"*", f"{market_type.upper()}:*", symbol.upper(), f"{market_type.upper()}:{symbol.upper()}"})
