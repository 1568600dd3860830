"""
The publishers behind the server: each market's model as frames, tick by tick, bent by the faults that concern it.

Pure: time is an argument. What is published is decided here, who gets it in `core`.
"""

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from recorder.records import SECOND_NS
from recorder.simulator.alter import alter
from recorder.simulator.fills import Fills, make_accounts
from recorder.simulator.frames import Book, Fill, book_frame, book_sides, trade_frame
from recorder.simulator.generations import Generation, PublisherName
from recorder.simulator.kinds import (
    Alter,
    AnyFault,
    ClockSkew,
    Freeze,
    Halt,
    LateFills,
    PublisherDown,
    ReorderFills,
    RepeatFills,
    ShiftSlots,
    Silence,
    StaleOracle,
    StaleStore,
    kind_of,
    selects,
)
from recorder.simulator.market import MarketModel
from recorder.simulator.markets import SimMarket
from recorder.simulator.shapes import rust_frame, ungrouped_frame
from recorder.venue.protocol import GROUPINGS

SLOT_NS = 400_000_000
FIRST_SLOT = 352_100_000
CONFIRMATION_SLOTS = 2
"""Fills of younger slots are not confirmed yet."""

_MS = 1_000_000


def _has(faults: Iterable[AnyFault], kind: type[AnyFault]) -> bool:
    return any(isinstance(fault, kind) for fault in faults)


def _keeps_store_old(fault: AnyFault) -> bool:
    """
    Whether no copy is stored while this is on: a publisher that says nothing stores nothing either.
    """
    silent = isinstance(fault, Silence) and fault.channels != "trades" and fault.feed is None
    return silent or isinstance(fault, StaleStore | PublisherDown)


class BookChannel(msgspec.Struct, frozen=True):
    """
    A channel that books of one market are published on.
    """

    name: str
    grouping: int | None
    """None: ungrouped."""
    indicative: bool


class Printed(msgspec.Struct, frozen=True, gc=False):
    """
    A book as printed for one channel.
    """

    channel: BookChannel
    text: str
    slot: int
    altered: bool = False


class Told(msgspec.Struct, frozen=True):
    """
    A fill that is published now. `why`: the fault that moved or repeated it, with the time it was due.
    """

    fill: Fill
    why: str | None = None
    due_ns: int | None = None


class Published:
    """
    A market with its model, its fills, the names of its channels and the faults that concern it.
    """

    def __init__(self, market: SimMarket, model: MarketModel, fills: Fills) -> None:
        stream = f"{market.market_type}_{market.index}"
        self.market, self.model, self.fills = market, model, fills
        self.books = [
            BookChannel(
                f"orderbook_{stream}{f'_grouped_{grouping}' if grouping else ''}{'_indicative' if indicative else ''}",
                grouping,
                indicative,
            )
            for indicative in (False, True)
            for grouping in (None, *GROUPINGS)
        ]
        self.trades = f"trades_{stream}"
        self.fees = f"priorityFees_{stream}"
        self.faults: tuple[AnyFault, ...] = ()
        self.frozen: tuple[Book, int] | None = None
        """A whole book and its slot, while a `Freeze` is on."""
        self.stored: Book | None = None
        """The last stored copy, while a `StaleStore` is on."""
        self.oracle_slot: int | None = None
        """While a `StaleOracle` is on."""
        self.counts: dict[tuple[AnyFault, str], int] = {}
        self.last_transaction: list[Told] = []
        """The last one that was filled, told or not."""
        self.late: list[tuple[int, int, Told]] = []
        """Fills that come later, as a heap: when, in which order."""
        self.printed: dict[int, tuple[int, tuple[str, str]]] = {}
        """By grouping: version of the model and the sides as printed; most of the cost of a frame."""
        self.shallow: tuple[int, Book] | None = None
        """Version of the model and its book."""

    def counted(self, fault: AnyFault, channel: str, every: int) -> bool:
        """
        Whether it is this frame's turn, with one fault and channel: each n-th.
        """
        count = self.counts[fault, channel] = self.counts.get((fault, channel), 0) + 1
        return count % every == 0


class Publisher:
    """
    All markets of a venue.
    """

    def __init__(
        self,
        markets: Sequence[SimMarket],
        *,
        start: int,
        seed: int,
        generation: Generation,
        publisher: PublisherName = "typescript",
    ) -> None:
        self._start, self._seed = start, seed
        self._generation = generation
        self._rust = publisher == "rust"
        self._accounts = make_accounts(seed)
        self._told_slot = FIRST_SLOT
        self._delayed = 0
        self.markets: list[Published] = []
        """In the order they are published in each tick."""
        for market in markets:
            self.add(market)

    def add(self, market: SimMarket) -> None:
        """
        Publish one more.
        """
        model = MarketModel(market, seed=self._seed, external=self._generation.external_books)
        fills = Fills(model, self._accounts, seed=self._seed)
        self.markets.append(Published(market, model, fills))

    def publishes(self, market: SimMarket) -> bool:
        """
        Whether anything is ever said about a market.
        """
        return market.market_type == "perp" or (self._generation.spot and not self._rust)

    def channels(self, published: Published) -> list[BookChannel]:
        """
        The book channels of a market that are published, firm ones first.
        """
        if not self.publishes(published.market):
            return []
        ungrouped = self._generation.default_grouping is None
        return [
            channel
            for channel in published.books
            if (channel.grouping is not None or ungrouped) and not (self._rust and channel.indicative)
        ]

    def slot(self, now: int) -> int:
        """
        The chain's slot.
        """
        return FIRST_SLOT + (now - self._start) // SLOT_NS

    def set_faults(self, faults: Collection[AnyFault], now: int, *, last_tick: int) -> None:
        """
        These faults are on from now. Books were published last at `last_tick`.
        """
        back: list[Published] = []
        for published in self.markets:
            market = published.market
            before = published.faults
            published.faults = tuple(
                fault
                for fault in faults
                if selects(getattr(fault, "market", "-"), market_type=market.market_type, symbol=market.symbol)
            )
            if _has(before, PublisherDown) and not _has(published.faults, PublisherDown):
                back.append(published)
            if not any(isinstance(fault, Freeze) for fault in published.faults):
                published.frozen = None
            elif published.frozen is None:
                slot = self.slot(now)
                published.frozen = self._live_book(published, slot=slot, ts_ms=now // _MS, whole=True), slot
            if not any(map(_keeps_store_old, published.faults)):
                published.stored = None
            elif published.stored is None:
                slot = self.slot(last_tick)
                published.stored = self._live_book(published, slot=slot, ts_ms=last_tick // _MS, whole=True)
            oracles = [fault for fault in published.faults if isinstance(fault, StaleOracle)]
            if not oracles:
                published.oracle_slot = None
            elif published.oracle_slot is None:
                published.oracle_slot = self.slot(now) - oracles[0].behind_slots
        # A publisher that starts takes the chain's latest transaction, whether it had sent it before or not.
        told = [published for published in back if published.last_transaction]
        for last in sorted(told, key=lambda published: published.last_transaction[0].fill.slot)[-1:]:
            for fill in last.last_transaction:
                self._delay(last, Told(fill.fill, "publisher_down", now), now)

    def advance(self) -> None:
        """
        Let a tick pass in all markets.
        """
        for published in self.markets:
            if not published.faults:
                published.model.advance()
            elif not any(isinstance(fault, Halt) for fault in published.faults):
                published.model.advance(oracle_stands=published.oracle_slot is not None)

    def slot_of(self, published: Published, now: int) -> int:
        """
        The slot a market's next book will bear.
        """
        slot = self.slot(now)
        for fault in published.faults:
            match fault:
                case Freeze(what="all" | "slot") if published.frozen is not None:
                    slot = published.frozen[1]
                case ShiftSlots(slots=slots):
                    slot += slots
        return slot

    def books(
        self, published: Published, channels: Iterable[BookChannel], now: int, *, lag_ms: int = 0, slots_behind: int = 0
    ) -> Iterator[Printed]:
        """
        One market's book, printed for each of these channels.

        Args:
            published: the market.
            channels: which of its channels.
            now: the time of the tick.
            lag_ms: how much later this publisher speaks.
            slots_behind: how far its chain node is behind.
        """
        slot = self.slot_of(published, now)
        ts_ms = now // _MS + lag_ms
        for fault in published.faults:
            if isinstance(fault, ClockSkew):
                ts_ms += fault.by_ms
        shallow: Book | None = None
        whole: Book | None = None
        for channel in channels:
            if shallow is None:
                shallow = self._shallow(published, slot=slot, ts_ms=ts_ms, slots_behind=slots_behind)
            text = self._print(published, shallow, channel, whole=False)
            if text is None:
                whole = whole or self._book(published, slot=slot, ts_ms=ts_ms, slots_behind=slots_behind, whole=True)
                text = self._print(published, whole, channel, whole=True)
            if text is None:
                continue
            altered = False
            if published.faults:
                text, altered = self._altered(published, channel.name, text, "books")
            yield Printed(channel, text, slot - slots_behind, altered)

    def usual(self, published: Published, channel: BookChannel, *, slot: int, ts_ms: int) -> str | None:
        """
        What `books` prints when no fault is on and one firm grouped channel is wanted: in half as many steps.

        Returns:
            None if this is no such case.
        """
        grouping = channel.grouping
        if published.faults or channel.indicative or grouping is None or self._rust:
            return None
        book = self._shallow(published, slot=slot, ts_ms=ts_ms, slots_behind=0)
        version = published.model.version
        known, sides = published.printed.get(grouping, (-1, None))
        if known != version:
            sides = book_sides(book, grouping=grouping, deep=self._generation.deep_when_crossed)
            if sides is None:
                return None
            published.printed[grouping] = version, sides
        return book_frame(book, name=channel.name, sides=sides)

    def stored(self, published: Published, channel: BookChannel, now: int) -> str | None:
        """
        The stored copy of a channel: the book as last published at `now`. None where none is kept.
        """
        kept = self._generation.initial
        if kept == "none" or (kept == "ungrouped" and channel.grouping is not None):
            return None
        if any(isinstance(fault, Alter) and fault.what == "no_slot" for fault in published.faults):
            return None  # of several copies the server takes that of the highest slot: one without is none
        book = published.stored
        if book is None:
            book = self._book(published, slot=self.slot_of(published, now), ts_ms=now // _MS, whole=True)
        return self._print(published, book, channel, whole=True, count=self._generation.initial_levels)

    def polled(self, now: int) -> list[tuple[Published, list[Told]]]:
        """
        The fills that the publisher finds on the chain now, in the order it sends them.
        """
        found: list[tuple[Published, list[Told]]] = []
        for slot in range(self._told_slot, self.slot(now) - CONFIRMATION_SLOTS):
            ts_s = (self._start + (slot - FIRST_SLOT) * SLOT_NS) // SECOND_NS
            transactions = [
                (published, [Told(fill) for fill in transaction])
                for published in self.markets
                if not published.faults or not any(isinstance(fault, Halt) for fault in published.faults)
                for transaction in published.fills.in_slot(slot=slot, ts_s=ts_s, slot_s=SLOT_NS / SECOND_NS)
            ]
            # Signatures are polled newest first and sorted by slot only; fills of one transaction stay in order.
            for published, fills in reversed(transactions):
                published.last_transaction = fills
                found.append((published, self._disturbed(published, fills, now) if published.faults else fills))
            self._told_slot = slot + 1
        for published in self.markets:
            late: list[Told] = []
            while published.late and published.late[0][0] <= now:
                late.append(heapq.heappop(published.late)[2])
            if late:
                found.append((published, late))
        return found

    def unpublished(self) -> list[tuple[Published, list[Told]]]:
        """
        Fills that faults have put off and that will not come any more.
        """
        return [
            (published, [told for _, _, told in sorted(published.late)]) for published in self.markets if published.late
        ]

    def trade(self, published: Published, fill: Fill) -> tuple[str, bool]:
        """
        A fill as printed, and whether a fault bent it.
        """
        if not self._generation.indicative_keys and fill.maker_indicative_key is not None:
            fill = msgspec.structs.replace(fill, maker_indicative_key=None)
        text = trade_frame(fill, name=published.trades)
        return self._altered(published, published.trades, text, "trades") if published.faults else (text, False)

    def _disturbed(self, published: Published, fills: list[Told], now: int) -> list[Told]:
        told: list[Told] = []
        for each in fills:
            wait_s = 0.0
            why: str | None = None
            for fault in published.faults:
                match fault:
                    case LateFills(by_s=by_s):
                        wait_s, why = wait_s + by_s, kind_of(fault)
                    case ReorderFills() if each.fill.fill_id % 2 == 0:
                        wait_s, why = wait_s + 1.0, kind_of(fault)
                    case RepeatFills(every=every, after_s=after_s) if each.fill.fill_id % every == 0:
                        self._delay(published, Told(each.fill, kind_of(fault), now), now + round(after_s * SECOND_NS))
            if wait_s:
                self._delay(published, Told(each.fill, why, now), now + round(wait_s * SECOND_NS))
            else:
                told.append(each)
        return told

    def _delay(self, published: Published, told: Told, until: int) -> None:
        self._delayed += 1
        heapq.heappush(published.late, (until, self._delayed, told))

    def _live_book(self, published: Published, *, slot: int, ts_ms: int, whole: bool) -> Book:
        return published.model.book(slot=slot, ts_ms=ts_ms, whole=whole, oracle_slot=published.oracle_slot)

    def _book(self, published: Published, *, slot: int, ts_ms: int, slots_behind: int = 0, whole: bool = False) -> Book:
        frozen = published.frozen
        if frozen is not None and any(isinstance(fault, Freeze) and fault.what != "slot" for fault in published.faults):
            return msgspec.structs.replace(frozen[0], slot=slot - slots_behind, ts_ms=ts_ms)
        book = self._live_book(published, slot=slot, ts_ms=ts_ms, whole=whole)
        # Seen in the capture with two feeds: only `slot` is that of the feed, all else comes from one source.
        return msgspec.structs.replace(book, slot=slot - slots_behind) if slots_behind else book

    def _shallow(self, published: Published, *, slot: int, ts_ms: int, slots_behind: int) -> Book:
        model = published.model
        if published.faults or slots_behind:
            return self._book(published, slot=slot, ts_ms=ts_ms, slots_behind=slots_behind)
        if published.shallow is None or published.shallow[0] != model.version:
            published.shallow = model.version, model.book(slot=slot, ts_ms=ts_ms)
            return published.shallow[1]
        return model.aged(published.shallow[1], slot=slot, ts_ms=ts_ms)

    def _print(
        self, published: Published, book: Book, channel: BookChannel, *, whole: bool, count: int | None = None
    ) -> str | None:
        grouping = channel.grouping
        if channel.indicative:
            book = published.model.with_indicative(book)
        if grouping is None:
            return ungrouped_frame(book, name=channel.name, count=count) if book.known_to is None or whole else None
        if self._rust:
            return rust_frame(book, name=channel.name, grouping=grouping) if book.known_to is None or whole else None
        deep = self._generation.deep_when_crossed
        if channel.indicative or published.faults:
            return book_frame(book, name=channel.name, grouping=grouping, deep=deep)
        version = published.model.version
        known, sides = published.printed.get(grouping, (-1, None))
        if known != version:
            sides = book_sides(book, grouping=grouping, deep=deep)
            if sides is None:
                return None
            published.printed[grouping] = version, sides
        return book_frame(book, name=channel.name, sides=sides)

    def _altered(self, published: Published, channel: str, text: str, family: str) -> tuple[str, bool]:
        altered = False
        for fault in published.faults:
            if (
                isinstance(fault, Alter)
                and fault.channels in {"all", family}
                and published.counted(fault, channel, fault.every)
            ):
                text, altered = alter(text, fault.what), True
                if fault.what in {"truncated", "bad_utf8", "html", "object_data"}:
                    break  # there is no payload any more that another could bend
        return text, altered
