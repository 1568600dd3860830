"""
What the page shows of the present: one fold over the journal's entries, and a picture of it at any moment. Pure.

Holes are judged by the monitor that the recorder and the seal use. It wants entries in order of time, and runs that
record beside one another are read one after the other, so it is kept behind the one that is read last.
"""

from collections import Counter, deque
from heapq import heappop, heappush
from itertools import pairwise
from typing import Any

import msgspec

from recorder.journal.names import run_started
from recorder.quality.effects import effect_of
from recorder.quality.identity import Identity
from recorder.quality.monitor import Monitor
from recorder.quality.pairing import Pairing
from recorder.quality.state import MonitorState
from recorder.records import (
    SECOND_NS,
    Connected,
    Disconnected,
    Entry,
    EntryKind,
    Event,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    Telemetry,
    decode_fact,
)
from recorder.venue.markets import market_list, size_exponent
from recorder.venue.normalize import Book, Trade, decode
from recorder.venue.payloads import NULL, Side
from recorder.venue.protocol import BOOK_CHANNELS, FrameKind, Peek, peek

LEVELS = 12
TRADES = 60
HOLES = 80
SPARK_POINTS = 60
SPARK_NS = 5 * SECOND_NS
RATE_NS = 10 * SECOND_NS
SILENT_NS = 5 * SECOND_NS
PRICE = 1_000_000
QUIET_KINDS = frozenset({"added", "connected", "recorder_started", "recorder_stopped"})
"""Events that are no holes."""


class _Flow(msgspec.Struct):
    """
    One stream, as it was last heard.
    """

    stream: Stream
    payload: bytes = b""
    decoded: Book | None = None
    last: int = 0
    frames: int = 0
    recent: deque[int] = msgspec.field(default_factory=deque)
    """When each frame of the last RATE_NS came."""
    spark: deque[tuple[int, float]] = msgspec.field(default_factory=lambda: deque(maxlen=SPARK_POINTS))
    """Middle prices, one in SPARK_NS."""


class View:
    """
    The present.
    """

    def __init__(self, network: str) -> None:
        """
        Args:
            network: whose market list names the indices.

        Raises:
            ValueError: there is no list of it.
        """
        self._listed = market_list(network)
        self._monitor: Monitor | None = None
        self._identity = Identity(self._listed, {})
        self._pairing = Pairing()
        self._waiting: list[tuple[int, str, int, Entry, Peek | None, bool]] = []
        self._folded = 0
        self._newest: dict[str, int] = {}
        self._headers: dict[str, SegmentHeader] = {}
        self._flows: dict[Stream, _Flow] = {}
        self._trades: dict[str, deque[dict[str, Any]]] = {}
        self._holes: deque[dict[str, Any]] = deque(maxlen=HOLES)
        self._breaks: deque[tuple[int, int, str | None]] = deque(maxlen=HOLES)
        """Where trades may be missing: from, to (ms), of which market; None: of all."""
        self._open: dict[tuple[str, int], bool] = {}
        self._stopped: dict[str, str] = {}
        self._telemetry: Telemetry | None = None
        self._numbers = 0
        self._counts: Counter[str] = Counter()
        self.overtaken = ""
        """Why holes are not judged any more, in words: what a run recorded came after what is later had been judged.
        All has to be read anew, into another view."""

    # ---- what comes in

    def adopt(self, header: SegmentHeader) -> None:
        """
        Learn what a run asks for, from the header of one of its segments.
        """
        self._headers[header.run] = header
        if self._monitor is not None:
            self._monitor.adopt(header)
        for stream in header.streams:
            self._flows.setdefault(stream, _Flow(stream))

    def take(self, entries: list[Entry], whole: int) -> None:
        """
        Fold what the journal has gained.

        Args:
            entries: none older than any of another run that was given with them.
            whole: up to then nothing older is to come, ns.
        """
        for entry in entries:
            if entry.recv_ts < self._folded and not self.overtaken:
                late_s = (self._folded - entry.recv_ts) / SECOND_NS
                self.overtaken = f"run {entry.run} came {late_s:.1f} s after the others"
            self._newest[entry.run] = max(entry.recv_ts, self._newest.get(entry.run, 0))
            seen, duplicate = None, False
            if entry.kind == EntryKind.FRAME:
                # It may have opened long before the page began to read.
                self._open[entry.run, entry.connection] = True
                seen = peek(entry.payload)
                if seen.kind is FrameKind.DATA and seen.channel is not None:
                    duplicate, _ = self._pairing.frame(entry, seen)
                    if not duplicate:
                        self._frame(entry, seen)
            elif entry.kind == EntryKind.FACT:
                self._pairing.fact(entry)
                self._fact(entry)
            heappush(self._waiting, (entry.recv_ts, entry.run, entry.seq, entry, seen, duplicate))
        until = min(whole, max(self._newest.values(), default=0))
        while self._waiting and self._waiting[0][0] <= until and not self.overtaken:
            *_, entry, seen, duplicate = heappop(self._waiting)
            self._judge(entry, seen, duplicate=duplicate)

    def _judge(self, entry: Entry, seen: Peek | None, *, duplicate: bool) -> None:
        if self._monitor is None:
            self._monitor = Monitor(self._listed, MonitorState(now=entry.recv_ts))
            for header in self._headers.values():
                self._monitor.adopt(header)
        self._folded = entry.recv_ts
        self._monitor.step(entry, seen, duplicate=duplicate)
        for words in self._monitor.openings:
            self._tell(entry.recv_ts, "noticed", words)
        for event in self._monitor.events:
            self._tell_event(event)
        self._monitor.openings.clear()
        self._monitor.events.clear()

    def note(self, at: int, words: str) -> None:
        """
        Say something among the holes, at `at`, ns.
        """
        self._tell(at, "noticed", words)

    def _tell(self, at: int, kind: str, words: str, **more: Any) -> None:  # noqa: ANN401
        self._numbers += 1
        self._holes.appendleft({"n": self._numbers, "at": at // 1_000_000, "kind": kind, "words": words, **more})

    def _tell_event(self, event: Event) -> None:
        if event.kind not in QUIET_KINDS:
            self._counts[event.kind] += 1
        lacks = event.kind not in QUIET_KINDS and effect_of(event.kind) in {"absent", "counted"}
        if lacks and event.channel in {None, "trades"}:
            self._breaks.append((event.start // 1_000_000, event.end // 1_000_000, event.symbol))
        place = " ".join(part for part in (event.symbol, event.channel) if part)
        if not place and event.connection is not None:
            place = f"connection {event.connection}"
        self._tell(
            event.end,  # as `status` and `top` say it: when it can be told may be much later
            event.kind,
            event.evidence,
            place=place,
            cause=event.cause,
            lasted_s=round((event.end - event.start) / SECOND_NS, 3),
            missing=event.missing,
            quiet=event.kind in QUIET_KINDS,
        )

    def _fact(self, entry: Entry) -> None:
        try:
            fact = decode_fact(entry.payload)
        except msgspec.DecodeError:
            return  # of a newer version
        match fact:
            case RunStarted():
                for stream in fact.streams:
                    self._flows.setdefault(stream, _Flow(stream))
            case RunStopped():
                self._stopped[entry.run] = fact.reason
            case Connected():
                self._open[entry.run, entry.connection] = True
            case Disconnected():
                self._open[entry.run, entry.connection] = False
            case Telemetry():
                self._telemetry = fact

    def _frame(self, entry: Entry, seen: Peek) -> None:
        assert seen.channel is not None
        header = self._headers.get(entry.run)
        resolution = self._identity.resolve(seen.channel, seen.market_name, header.streams if header else [])
        if resolution.stream is None:
            return
        flow = self._flows.setdefault(resolution.stream, _Flow(resolution.stream))
        flow.frames += 1
        flow.last = entry.recv_ts
        flow.recent.append(entry.recv_ts)
        while flow.recent and entry.recv_ts - flow.recent[0] > RATE_NS:
            flow.recent.popleft()
        if resolution.stream.channel in BOOK_CHANNELS:
            flow.payload, flow.decoded = entry.payload, None
            if not flow.spark or entry.recv_ts - flow.spark[-1][0] >= SPARK_NS:
                middle = _middle(self._book(flow))
                if middle is not None:
                    flow.spark.append((entry.recv_ts, middle))
        elif resolution.stream.channel == "trades":
            self._trade(entry, seen, resolution.symbol)

    def _trade(self, entry: Entry, seen: Peek, symbol: str) -> None:
        assert seen.channel is not None
        exponent = size_exponent(self._listed, seen.channel.market_type, seen.channel.market_index)
        trade = decode(entry.payload, size_exponent=exponent)
        if not isinstance(trade, Trade):
            return
        size = None if trade.base_amount is None else trade.base_amount / 10 ** (9 if exponent is None else exponent)
        self._trades.setdefault(symbol, deque(maxlen=TRADES)).appendleft(
            {
                "id": trade.fill_record_id,
                "n": entry.seq,
                "at": entry.recv_ts // 1_000_000,
                "price": trade.price,
                "size": size,
                "side": trade.aggressor,
                "market": trade.is_market_trade,
            }
        )

    def _book(self, flow: _Flow) -> Book | None:
        if flow.decoded is None and flow.payload:
            book = decode(flow.payload, size_exponent=None)
            flow.decoded = book if isinstance(book, Book) else None
        return flow.decoded

    # ---- what is shown

    def picture(self, now: int, chosen: str | None) -> dict[str, Any]:
        """
        Everything that is shown of the present, ready for JSON. Times are ms since the epoch, ages ms.

        Args:
            now: ns; ages count up to it.
            chosen: the market whose book and trades are wanted; None: the first that has a book.
        """
        configured = self._configured()
        rows = [self._row(symbol, flows, now) for symbol, flows in configured.items()]
        if chosen not in configured:
            chosen = next((row["m"] for row in rows if row["bid"] is not None), next(iter(configured), None))
        return {
            "now": now // 1_000_000,
            "recorder": self._recorder(now),
            "rows": rows,
            "chosen": chosen,
            "book": self._ladder(configured.get(chosen or "", [])),
            "trades": self._told_trades(chosen or ""),
            "holes": list(self._holes),
            "counts": dict(self._counts),
        }

    def _told_trades(self, symbol: str) -> list[dict[str, Any]]:
        """
        The last trades of a market, newest first; `after` of one: before it some may be missing.
        """
        trades = list(self._trades.get(symbol, ()))
        of = [(start, end) for start, end, market in self._breaks if market in {None, symbol}]
        return [
            {**now, "after": any(start < now["at"] and end > before["at"] for start, end in of)}
            for now, before in pairwise(trades)
        ] + [{**last, "after": False} for last in trades[-1:]]

    def sparks(self) -> dict[str, list[float]]:
        """
        By market, the middle prices of the last minutes, oldest first.
        """
        lines = {}
        for symbol, flows in self._configured().items():
            book = _main_book(flows)
            if book is not None:
                lines[symbol] = [middle for _, middle in book.spark]
        return lines

    def _configured(self) -> dict[str, list[_Flow]]:
        """
        The flows of each market that the runs which were heard last ask for.
        """
        latest = max(self._newest.values(), default=0)
        wanted = {
            stream
            for run, header in self._headers.items()
            if latest - self._newest.get(run, 0) < RATE_NS
            for stream in header.streams
        }
        by_symbol: dict[str, list[_Flow]] = {}
        for stream in sorted(wanted, key=lambda s: (s.market_type, s.symbol, s.channel, s.grouping or 0)):
            by_symbol.setdefault(stream.symbol, []).append(self._flows[stream])
        return by_symbol

    def _row(self, symbol: str, flows: list[_Flow], now: int) -> dict[str, Any]:
        main = _main_book(flows)
        book = self._book(main) if main is not None else None
        bid, ask = (_best(book.bid), _best(book.ask)) if book is not None else (None, None)
        heard = max((flow.last for flow in flows), default=0)
        recent = sum(sum(now - at <= RATE_NS for at in flow.recent) for flow in flows)
        judged = main.last if main is not None else heard
        age = (now - judged) // 1_000_000 if judged else None
        state = "never" if age is None else "silent" if main is not None and now - judged > SILENT_NS else "live"
        trades = self._trades.get(symbol)
        return {
            "m": symbol,
            "type": flows[0].stream.market_type,
            "bid": bid,
            "ask": ask,
            "age": age,
            "rate": round(recent * SECOND_NS / RATE_NS, 1),
            "state": state,
            "last": trades[0]["price"] if trades else None,
        }

    def _ladder(self, flows: list[_Flow]) -> dict[str, Any] | None:
        main = _main_book(flows)
        book = self._book(main) if main is not None else None
        if main is None or book is None:
            return None
        exponent = size_exponent(self._listed, book.channel.market_type, book.channel.market_index)
        scale = 10 ** (9 if exponent is None else exponent)
        return {
            "label": main.stream.label(),
            "slot": next((n for n in (peek(main.payload).slot,) if n is not None), None),
            "ts": book.ts,
            "at": main.last // 1_000_000,
            "bids": _levels(book.bid, scale),
            "asks": _levels(book.ask, scale),
            "known": exponent is not None,
        }

    def _recorded_since(self, runs: list[str]) -> int:
        """
        Since when there was no moment without a run that recorded, as far as was read, ns.
        """
        since = min(run_started(run) for run in runs)
        for run in sorted(self._newest, key=run_started, reverse=True):
            if self._newest[run] >= since:
                since = min(since, run_started(run))
        return since

    def _recorder(self, now: int) -> dict[str, Any]:
        latest = max(self._newest.values(), default=0)
        live = [run for run, at in self._newest.items() if now - at < SILENT_NS and run not in self._stopped]
        last = max(self._newest, key=lambda run: self._newest[run], default=None)
        header = self._headers.get(last) if last is not None else None
        words = self._stopped.get(last, "") if last is not None else ""
        telemetry = self._telemetry if live else None
        return {
            "state": "recording" if live else "stopped" if words else "silent" if latest else "unknown",
            "why": words,
            "age": (now - latest) // 1_000_000 if latest else None,
            "runs": live,
            "last": last,
            "host": header.host if header else None,
            "version": header.recorder_version if header else None,
            "since": self._recorded_since(live or [last]) // 1_000_000 if last is not None else None,
            "streams": len(header.streams) if header else 0,
            "connections": sum(self._open.get((run, n), False) for run, n in self._open if run in live),
            "rss": telemetry.rss_bytes if telemetry else None,
            "commit": telemetry.commit_p99_ms if telemetry else None,
            "durable": telemetry.durable_p99_ms if telemetry else None,
            "lag": telemetry.loop_lag_p99_ms if telemetry else None,
        }


def _main_book(flows: list[_Flow]) -> _Flow | None:
    """
    The firm book at the finest grouping, else whatever book there is.
    """
    books = [flow for flow in flows if flow.stream.channel in BOOK_CHANNELS]
    return min(books, key=lambda f: (f.stream.channel != "orderbook", f.stream.grouping or 0), default=None)


def _best(side: Side) -> float | None:
    return side.price[0] / PRICE if side.price and side.price[0] != NULL else None


def _middle(book: Book | None) -> float | None:
    if book is None:
        return None
    bid, ask = _best(book.bid), _best(book.ask)
    return (bid + ask) / 2 if bid is not None and ask is not None else None


def _levels(side: Side, scale: int) -> list[tuple[float, float]]:
    pairs = zip(side.price, side.size, strict=True)
    return [(price / PRICE, size / scale) for price, size in pairs if NULL not in {price, size}][:LEVELS]
