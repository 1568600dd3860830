"""
Journals for tests of the monitor, told in seconds: what happened when, in any order; entries are numbered at the end.
"""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from recorder.quality.monitor import Monitor
from recorder.quality.state import MonitorState
from recorder.records import (
    NO_CONNECTION,
    SECOND_NS,
    Connected,
    ConnectFailed,
    Disconnected,
    Entry,
    EntryKind,
    Event,
    Fact,
    Requested,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    encode_fact,
)
from recorder.venue.markets import market_list
from recorder.venue.protocol import peek

HOUR = 1_795_366_800 * SECOND_NS
"""An hour's beginning; the captures lie in it."""
URL = "wss://venue.example/ws"
INDEX = {"SOL-PERP": 0, "BTC-PERP": 1, "ETH-PERP": 2}
SOL, BTC, ETH = (Stream("perp", symbol, "orderbook", 1) for symbol in INDEX)
SOL_TRADES = Stream("perp", "SOL-PERP", "trades")
TICK_S = 0.4


def at(seconds: float) -> int:
    """
    The instant that many seconds into the hour, ns.
    """
    return HOUR + round(seconds * 1e3) * 1_000_000


def slot_at(seconds: float) -> int:
    """
    The chain's slot then, one each 400 ms.
    """
    return 1 + int((seconds + 1e-6) / 0.4)


def since(instant: int) -> float:
    """
    Inverse of `at`.
    """
    return round((instant - HOUR) / 1e9, 3)


def book_frame(
    symbol: str | None, index: int, *, slot: int | None = 1, channel: str | None = None, ts: int | None = 1
) -> bytes:
    """
    A book as the venue writes it, empty but for its scalars.
    """
    members: dict[str, Any] = {"bids": [], "asks": []}
    if symbol is not None:
        members |= {"marketName": symbol, "marketType": "perp", "marketIndex": index}
    members |= {name: value for name, value in (("ts", ts), ("slot", slot)) if value is not None}
    data = json.dumps(members, separators=(",", ":"))
    return _frame(channel or f"orderbook_perp_{index}_grouped_1", data)


def trade_frame(fill_id: int | None, index: int = 0, *, slot: int = 1, ts: int = 1) -> bytes:
    """
    A fill, as far as the monitor looks.
    """
    members = {"ts": ts, "marketIndex": index, "marketType": "perp", "slot": slot}
    return _frame(f"trades_perp_{index}", json.dumps(members | ({} if fill_id is None else {"fillRecordId": fill_id})))


def _frame(channel: str, data: str) -> bytes:
    return json.dumps({"channel": channel, "data": data}, separators=(",", ":")).encode()


class Tape:
    """
    Gathers what happened.
    """

    def __init__(self) -> None:
        self._put: list[tuple[float, str, int, int, int, bytes]] = []

    # ---- one entry

    def frame(self, t: float, payload: bytes, *, run: str = "a", connection: int = 0, attempt: int = 1) -> None:
        """
        A frame came.
        """
        self._put.append((t, run, EntryKind.FRAME, connection, attempt, payload))

    def fact(self, t: float, fact: Fact, *, run: str = "a", connection: int = NO_CONNECTION, attempt: int = 0) -> None:
        """
        Something happened to ourselves.
        """
        self._put.append((t, run, EntryKind.FACT, connection, attempt, encode_fact(fact)))

    def book(self, t: float, stream: Stream, *, slot: int | None = None, ts: float | None = None, **where: Any) -> None:
        """
        A book came; by the publisher's clock at `ts`, in seconds, or just now.
        """
        slot = slot_at(t if ts is None else ts) if slot is None else slot
        ts_ms = at(t if ts is None else ts) // 1_000_000
        self.frame(t, book_frame(stream.symbol, INDEX[stream.symbol], slot=slot, ts=ts_ms), **where)

    def undated_book(self, t: float, stream: Stream, **where: Any) -> None:
        """
        A book came without the publisher's time.
        """
        frame = book_frame(stream.symbol, INDEX[stream.symbol], slot=slot_at(t), ts=None)
        self.frame(t, frame, **where)

    def trade(self, t: float, fill_id: int | None, *, slot: int = 1, ts: float | None = None, **where: Any) -> None:
        """
        A fill of SOL-PERP came; of a block at `ts`, in seconds, or just now.
        """
        block_time = at(t if ts is None else ts) // SECOND_NS
        self.frame(t, trade_frame(fill_id, slot=slot, ts=block_time), **where)

    def heartbeat(self, t: float, **where: Any) -> None:
        """
        A heartbeat came.
        """
        self.frame(t, b'{"channel":"heartbeat"}', **where)

    # ---- stretches

    def run(self, t0: float, t1: float, streams: list[Stream], *, run: str = "a", beside: Iterable[str] = ()) -> None:
        """
        A run starts and lives; the end is not its own.
        """
        self.fact(t0, RunStarted(run, "host", 1, "0.1", "venue", "mainnet-beta", [URL], streams, list(beside)), run=run)
        self.alive(t0, t1, run=run)

    def alive(self, t0: float, t1: float, *, run: str = "a") -> None:
        """
        The entry of each second, from a little after `t0` up to `t1`.
        """
        t = t0 + 0.05
        while t <= t1:
            self._put.append((t, run, EntryKind.ALIVE, NO_CONNECTION, 0, b""))
            t += 1

    def stop(self, t: float, *, run: str = "a", reason: str = "SIGTERM") -> None:
        """
        A run ends by itself.
        """
        self.fact(t, RunStopped(reason), run=run)

    def connection(
        self,
        t0: float,
        t1: float,
        streams: list[Stream],
        *,
        run: str = "a",
        connection: int = 0,
        attempt: int = 1,
    ) -> None:
        """
        A connection opens, asks, and brings heartbeats and books until `t1`.
        """
        where: dict[str, Any] = {"run": run, "connection": connection, "attempt": attempt}
        self.fact(t0, Connected(URL, attempt, 1.0, compressed=True), **where)
        for stream in streams:
            self.fact(t0, Requested(stream), **where)
        self.heartbeats(t0, t1, **where)
        for stream in streams:
            if stream.channel == "orderbook":
                self.books(t0 + 0.2, t1, stream, **where)

    def heartbeats(self, t0: float, t1: float, **where: Any) -> None:
        """
        One each 5 s after `t0`, up to `t1`.
        """
        t = t0 + 5
        while t <= t1:
            self.heartbeat(t, **where)
            t += 5

    def books(self, t0: float, t1: float, stream: Stream, **where: Any) -> None:
        """
        A book each tick from `t0`, up to `t1`.
        """
        for tick in range(int((t1 - t0) / TICK_S + 1e-6) + 1):
            self.book(t0 + tick * TICK_S, stream, **where)

    def disconnected(self, t: float, *, cause: Any = "network", why: str = "gone", **where: Any) -> None:
        """
        A connection ended.
        """
        where = {"connection": 0, "attempt": 1} | where
        self.fact(t, Disconnected(URL, where["attempt"], cause, why), **where)

    def connect_failed(self, t: float, *, attempt: int, connection: int = 0, **where: Any) -> None:
        """
        A connect failed.
        """
        fact = ConnectFailed(URL, attempt, "refused", "network", 1.0)
        self.fact(t, fact, connection=connection, attempt=attempt, **where)

    # ---- what is left out

    def without(self, t0: float, t1: float, *, channel: str) -> None:
        """
        Frames of a channel name that did not come after all, in (t0, t1).
        """
        name = f'"{channel}"'.encode()
        self._put = [p for p in self._put if not (t0 < p[0] < t1 and p[2] == EntryKind.FRAME and name in p[5])]

    # ---- the journal

    def entries(self, *, lost: Iterable[tuple[float, float]] = ()) -> list[Entry]:
        """
        The entries, in order and numbered; those inside a lost span are taken out after that.
        """
        numbers: dict[str, int] = {}
        entries = []
        for t, run, kind, connection, attempt, payload in sorted(self._put, key=lambda put: (put[0], put[1])):
            numbers[run] = numbers.get(run, 0) + 1
            if not any(a < t < b for a, b in lost):
                entries.append(Entry(kind, connection, attempt, numbers[run], at(t), payload, run))
        return entries


def steady(t1: float, streams: list[Stream] | None = None) -> Tape:
    """
    A run with one connection, all well from 0 to `t1`.
    """
    tape = Tape()
    streams = [SOL, BTC] if streams is None else streams
    tape.run(0, t1, streams)
    tape.connection(0.1, t1, streams)
    return tape


def one(events: Iterable[Event], kind: str) -> Event:
    """
    The only event of a kind.
    """
    (event,) = [e for e in events if e.kind == kind]
    return event


def monitor(state: MonitorState | None = None, *, network: str = "mainnet-beta") -> Monitor:
    """
    A monitor at the beginning of the hour, or going on from a carry.
    """
    return Monitor(market_list(network), state if state is not None else MonitorState(now=HOUR))


def feed(into: Monitor, entries: Iterable[Entry]) -> list[Any]:
    """
    Fold entries; the verdicts of the frames among them.
    """
    verdicts = []
    for entry in entries:
        verdict = into.step(entry, peek(entry.payload) if entry.kind == EntryKind.FRAME else None)
        if entry.kind == EntryKind.FRAME:
            verdicts.append(verdict)
    return verdicts


def fold(tape: Tape, *, until: float | None = None, closed: bool = False, network: str = "mainnet-beta") -> list[Event]:
    """
    All events of a journal: folded, and finished at its last entry, or at `until`.
    """
    entries = tape.entries()
    judge = monitor(network=network)
    feed(judge, entries)
    judge.finish(entries[-1].recv_ts if until is None else at(until), closed=closed)
    return judge.events


def told(events: Iterable[Event], *kinds: str) -> list[tuple[Any, ...]]:
    """
    (kind, start, end, cause) of events of some kinds, in order of time; seconds into the hour.
    """
    chosen = [e for e in events if e.kind in kinds]
    return sorted((e.kind, since(e.start), since(e.end), e.cause) for e in chosen)


def unusual(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """
    All but what every run has: starts, stops and connects.
    """
    return sorted(
        (e.kind, since(e.start), since(e.end), e.cause)
        for e in events
        if e.kind not in {"recorder_started", "recorder_stopped", "connected"}
    )


def carried(state: MonitorState) -> MonitorState:
    """
    A state as the next hour finds it in the manifest.
    """
    return msgspec.json.decode(msgspec.json.encode(state), type=MonitorState)


def header(run: str, streams: list[Stream]) -> SegmentHeader:
    """
    Of a segment of the run.
    """
    return SegmentHeader(1, run, "host", "0.1", "venue", "mainnet-beta", streams)
