"""
Books and trades of one market as hftbacktest reads them: an `.npz` with one array `data` of its events.

An event is 64 bytes, little-endian: `ev` u64, `exch_ts` i64, `local_ts` i64 (ns), `px` f64, `qty` f64, `order_id` u64,
`ival` i64, `fval` f64. The first book, and the first after a hole, is a clearing of both sides and a snapshot; every
other is its differences to the one before, removals first, so that the depth is that of the book after each and never
crossed by the change itself. Levels that leave the recorded twenty are removed like any other.

Two orders have to hold: of the exchange's events by `exch_ts`, of ours by `local_ts`. Where they contradict each other
an event stands twice, once for each, as hftbacktest's own `correct_event_order` has it. Events are put in order within
a minute; one that is later than that, or has a venue's time after our own, is moved to the nearest time it can have,
and counted.

`exch_ts` of books is the publisher's clock (ms), of trades the block's time (whole seconds).

Source: `hftbacktest/types.py`, `data/validation.py` and `data/utils/tardis.py` of hftbacktest 2.4.4.
"""

import heapq
import struct
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import msgspec

from recorder.analysis.records import Book, Hole, Record, Trade
from recorder.records import SECOND_NS

DEPTH, TRADE, DEPTH_CLEAR, DEPTH_SNAPSHOT = 1, 2, 3, 4
EXCHANGE, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28

SETTLED_NS = 60 * SECOND_NS
"""An event that reaches us this late is moved; until then it finds its place."""

FIELDS = ("ev", "exch_ts", "local_ts", "px", "qty", "order_id", "ival", "fval")
_TYPES = ("<u8", "<i8", "<i8", "<f8", "<f8", "<u8", "<i8", "<f8")
_EVENT = struct.Struct("<QqqddQqd")
_CHUNK = 1 << 20

Event = tuple[int, int, int, float, float]
"""ev, exch_ts, local_ts, px, qty."""


class Told(msgspec.Struct):
    """
    What was done about times that cannot be.
    """

    events: int = 0
    ahead: int = 0
    """Events whose venue's time lay after our receipt: `exch_ts` is `local_ts`."""
    late: int = 0
    """Events that came more than a minute late: `exch_ts` is that of the one before."""


def events(records: Iterable[Record], told: Told, *, transfers: bool = False) -> Iterator[Event]:
    """
    Records of one market, in order of receipt, as events without flags of order.
    """
    sides: dict[int, dict[float, float]] = {BUY: {}, SELL: {}}
    # Holes of trades change no depth.
    broken_until = 0
    fresh = True
    for record in records:
        if isinstance(record, Hole):
            if record.table != "trades" and record.state in {"missing", "unrecorded"}:
                broken_until = max(broken_until, record.end)
                fresh = True
            continue
        local = record.recv_ts
        at = local if record.ts is None else record.ts
        if at > local:
            at, told.ahead = local, told.ahead + 1
        if isinstance(record, Trade):
            if record.price is not None and record.base_amount and (record.is_market_trade or transfers):
                side = {"buy": BUY, "sell": SELL}.get(record.aggressor or "", 0)
                yield TRADE | side, at, local, record.price, record.base_amount
            continue
        levels = {BUY: _levels(record, BUY), SELL: _levels(record, SELL)}
        if fresh:
            for side, level in levels.items():
                # Without a price: hftbacktest clears the whole side then.
                yield DEPTH_CLEAR | side, at, local, float("nan"), 0.0
                yield from ((DEPTH_SNAPSHOT | side, at, local, px, qty) for px, qty in level.items())
            fresh = local < broken_until
        else:
            yield from _changes(sides, levels, at, local)
        sides = levels


def _levels(book: Book, side: int) -> dict[float, float]:
    pairs = book.bids if side == BUY else book.asks
    return {px: qty for px, qty in pairs if qty}


def _changes(
    before: dict[int, dict[float, float]], after: dict[int, dict[float, float]], at: int, local: int
) -> Iterator[Event]:
    for side, levels in before.items():
        now = after[side]
        yield from ((DEPTH | side, at, local, px, 0.0) for px in levels if px not in now)
    for side, levels in after.items():
        was = before[side]
        yield from ((DEPTH | side, at, local, px, qty) for px, qty in levels.items() if was.get(px) != qty)


def in_both_orders(given: Iterable[Event], told: Told) -> Iterator[Event]:
    """
    Events in order of `local_ts`, flagged for the exchange, for us, or for both, so that either order holds.
    """
    ours: deque[list[Any]] = deque()
    """[event, whether the exchange's turn was] in order of `local_ts`."""
    theirs: list[tuple[int, int, list[Any]]] = []
    last = -(1 << 63)
    for number, given_event in enumerate(given):
        event = given_event
        if event[1] < last:
            event = (event[0], last, *event[2:])
            told.late += 1
        waiting = [event, False]
        ours.append(waiting)
        heapq.heappush(theirs, (event[1], number, waiting))
        # Nothing that comes from now on is older than this.
        settled = event[2] - SETTLED_NS
        while theirs[0][0] < settled:
            last = theirs[0][0]
            yield from _turn(ours, heapq.heappop(theirs)[2])
    while theirs:
        yield from _turn(ours, heapq.heappop(theirs)[2])


def _turn(ours: "deque[list[Any]]", this: list[Any]) -> Iterator[Event]:
    """
    The exchange's next event, and ours as far as they are due.
    """
    event: Event = this[0]
    if ours[0] is not this:
        this[1] = True
        yield (event[0] | EXCHANGE, *event[1:])
        return
    ours.popleft()
    yield (event[0] | EXCHANGE | LOCAL, *event[1:])
    while ours and ours[0][1]:
        event = ours.popleft()[0]
        yield (event[0] | LOCAL, *event[1:])


def write(ordered: Iterable[Event], to: BinaryIO, told: Told) -> None:
    """
    An `.npz` of the events. They wait in a temporary file, because its head says how many they are.
    """
    with tempfile.TemporaryFile() as waiting:
        buffer = bytearray()
        for ev, exch_ts, local_ts, px, qty in ordered:
            buffer += _EVENT.pack(ev, exch_ts, local_ts, px, qty, 0, 0, 0.0)
            told.events += 1
            if len(buffer) >= _CHUNK:
                waiting.write(buffer)
                buffer.clear()
        waiting.write(buffer)
        waiting.seek(0)
        # A fixed date: the same events give the same bytes.
        entry = zipfile.ZipInfo("data.npy", (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(to, "w") as archive, archive.open(entry, "w", force_zip64=True) as array:
            array.write(_npy_head(told.events))
            while chunk := waiting.read(_CHUNK):
                array.write(chunk)


def _npy_head(count: int) -> bytes:
    """
    Source: numpy.lib.format, version 1.0: padded with blanks to a multiple of 64, ends with a newline.
    """
    described = {"descr": list(zip(FIELDS, _TYPES, strict=True)), "fortran_order": False, "shape": (count,)}
    text = repr(described).encode()
    padding = -(10 + len(text) + 1) % 64
    text += b" " * padding + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
