"""
The venue without a socket: time and what clients did go in, what to do and what to note come out.

`Venue.step(now, inputs)` may be driven by a real clock or in virtual time, jumping from `next_due()` to `next_due()`.
The same steps with the same seed give the same outputs. Most faults change what is sent, never what the market does.

As in the real server, a slow tick is late and not queued: of several ticks that have come due, one is published.
Whoever performs the outputs decides about back-pressure: a data frame (`Send.limited`) for a client with
`BACKLOG_LIMIT_BYTES` or more waiting is dropped, everything else is queued; at a `Check` such a client is reported to
`Venue.overflowed`. A `Send` becomes a ledger line by `messages.sent_line`.
"""

import heapq
import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from recorder.records import SECOND_NS
from recorder.simulator.alter import BUS_ERROR, GARBAGE
from recorder.simulator.clients import CLOSE_REASON, Client
from recorder.simulator.frames import HEARTBEAT
from recorder.simulator.generations import GENERATIONS, PublisherName, ServerName
from recorder.simulator.kinds import (
    AnyFault,
    Backlog,
    BusFails,
    Cadence,
    Drop,
    Garbage,
    HalfOpen,
    NewMarket,
    Restart,
    SlowTicks,
    Span,
    StopHeartbeats,
    TwoFeeds,
    edges,
    kind_of,
)
from recorder.simulator.ledger import Line
from recorder.simulator.markets import SimMarket, market_named
from recorder.simulator.messages import Check, Close, Cut, Frame, Gone, Input, Log, Opened, Output, Pause, Text
from recorder.simulator.publisher import FIRST_SLOT, SLOT_NS, BookChannel, Printed, Published, Publisher
from recorder.simulator.requests import Crash, Hang, Refuse, Subscribe, Unsubscribe, answer
from recorder.simulator.rhythm import STEADY, Rhythm
from recorder.simulator.routing import Router
from recorder.venue.protocol import BACKLOG_LIMIT_BYTES, CLOSE_POLICY, HEARTBEAT_INTERVAL_S

__all__ = ["FIRST_SLOT", "SLOT_NS", "Venue"]

TRADES_INTERVAL_NS = SECOND_NS
"""The publisher polls the chain this often."""
FEES_INTERVAL_NS = 5 * SECOND_NS
CLOSE_TIMEOUT_NS = 30 * SECOND_NS
"""A close frame that finds no way through a backlog is given up after this long, and the socket destroyed."""

_HEARTBEAT_NS = HEARTBEAT_INTERVAL_S * SECOND_NS
_MS = 1_000_000
_NEVER = 1 << 63

_Kind = TypeVar("_Kind", bound=Span)


class _SecondFeed(msgspec.Struct, frozen=True):
    """
    What the other publisher says of one tick.
    """

    books: list[tuple[Published, list[Printed]]]


class _Initial(msgspec.Struct, frozen=True):
    """
    A stored copy on its way to a client.
    """

    client: int
    name: str
    text: str


class Venue:
    """
    The simulated server, with its publishers.

    Args of the constructor:
        markets: published in this order each tick.
        start: ns since the epoch; faults count from here.
        quiet: acknowledge and beat, but publish nothing (a replay feeds the clients).
        priority_fees: whether that channel speaks; on the real server it mostly does not.
        server: which version of the server.
        publisher: that of the books; the Rust one exists for `velocity` only.
        two_feeds: books come from two publishers, the second somewhat behind.
        crash: whether a `channel` that is no string ends the process; None: as that version does.
        initial_delay_ms: from the acknowledgement to the initial book, where there is one. Live ones may come first.
        check_s: between checks for clients with too much waiting.
        rhythm: how regularly the publisher ticks; as a clock by default.
    """

    def __init__(
        self,
        markets: Sequence[SimMarket],
        *,
        start: int,
        seed: int = 1,
        tick_ms: int = 400,
        faults: Sequence[AnyFault] = (),
        quiet: bool = False,
        priority_fees: bool = False,
        server: ServerName = "2026-05",
        publisher: PublisherName = "typescript",
        two_feeds: bool = False,
        crash: bool | None = None,
        initial_delay_ms: int = 2,
        check_s: float = 10.0,
        rhythm: Rhythm = STEADY,
    ) -> None:
        self._start = start
        self._quiet = quiet
        self._rhythm = rhythm if rhythm != STEADY else None
        self._lateness = random.Random(f"rhythm {seed}")
        self._generation = GENERATIONS[server]
        self._crashes = self._generation.dies_of_bad_channel if crash is None else crash
        self._initial_delay_ns = initial_delay_ms * _MS
        self._publisher = Publisher(markets, start=start, seed=seed, generation=self._generation, publisher=publisher)
        self._indices: dict[tuple[str, str], int] = {}
        self._by_book: dict[str, tuple[Published, BookChannel]] = {}
        for published in self._publisher.markets:
            self._list(published)
        self._clients: dict[int, Client] = {}
        self._router = Router(self._publisher, self._generation, self._clients, start=start)
        self._base_tick_ns = self._tick_ns = tick_ms * _MS
        self._tick_grid = self._tick_due = _NEVER if quiet else start + self._tick_ns
        self._tick_number = 0
        self._last_tick = start
        self._trades_due = _NEVER if quiet else start + TRADES_INTERVAL_NS
        self._fees_due = start + FEES_INTERVAL_NS if priority_fees and not quiet else _NEVER
        self._check_ns = round(check_s * SECOND_NS)
        self._check_due = start + self._check_ns
        self._later: list[tuple[int, int, _SecondFeed | _Initial]] = []
        self._laters = 0
        self._always_two = TwoFeeds(from_s=0, to_s=0) if two_feeds else None
        self._edges: list[tuple[int, AnyFault]] = sorted(
            ((start + round(at * SECOND_NS), fault) for fault in faults for at in edges(fault)),
            key=lambda edge: edge[0],
        )
        self._on: dict[AnyFault, int] = {}
        """Faults that last, with their start."""
        self._struck: dict[AnyFault, list[int]] = {}
        """Clients a fault has got hold of."""

    def _list(self, published: Published) -> None:
        market = published.market
        # Of two markets with one name the server finds the first.
        self._indices.setdefault((market.market_type, market.symbol.upper()), market.index)
        for channel in self._publisher.channels(published):
            self._by_book.setdefault(channel.name, (published, channel))

    @property
    def is_down(self) -> bool:
        """
        Whether the server refuses handshakes at present.
        """
        return bool(self._on) and self._lasting(Restart) is not None

    def slot(self, now: int) -> int:
        """
        The chain's slot.
        """
        return self._publisher.slot(now)

    def next_due(self) -> int:
        """
        When `step` has to be called next, at the latest.
        """
        due = min(self._tick_due, self._trades_due, self._fees_due)
        if self._clients:
            due = min(due, self._check_due)
        if self._edges:
            due = min(due, self._edges[0][0])
        if self._later:
            due = min(due, self._later[0][0])
        for client in self._clients.values():
            due = min(due, client.heartbeat_due)
        return due

    def step(self, now: int, inputs: Iterable[Input] = ()) -> list[Output]:
        """
        Take in what clients did, then do whatever is due.

        Returns:
            What to perform, in this order. Everything in it happens at `now`.
        """
        outputs: list[Output] = []
        for given in inputs:
            match given:
                case Opened(client):
                    self._clients[client] = Client(client, heartbeat_due=now + _HEARTBEAT_NS)
                    outputs.append(Log(Line(now, "connected", client)))
                    if self.is_down:
                        self._cut(now, self._clients[client], None, outputs)
                case Text(client, text) if client in self._clients:
                    if not self._clients[client].deaf:
                        self._answer(now, self._clients[client], text, outputs)
                case Gone(client, code) if client in self._clients:
                    self._forget(now, client, code, outputs)
        while self._edges and self._edges[0][0] <= now:
            self._turn(now, outputs)
        while self._later and self._later[0][0] <= now:
            self._follow_up(now, outputs)
        if self._tick_due <= now:
            self._publish_books(now, outputs)
        if self._trades_due <= now:
            self._trades_due = _after(self._trades_due, TRADES_INTERVAL_NS, now)
            self._router.publish_trades(now, outputs)
        if self._fees_due <= now:
            self._fees_due = _after(self._fees_due, FEES_INTERVAL_NS, now)
            self._router.publish_fees(now, outputs)
        for state in self._clients.values():
            if state.heartbeat_due <= now:
                state.heartbeat_due = _after(state.heartbeat_due, _HEARTBEAT_NS, now)
                if self._on and self._lasting(StopHeartbeats) is not None:
                    outputs.append(Log(Line(now, "heartbeat_withheld", state.number, why="stop_heartbeats")))
                else:
                    state.put(now, _HEARTBEAT_FRAME, outputs, counted=False)
        if self._check_due <= now:
            self._check(now, outputs)
        return outputs

    def overflowed(self, now: int, client: int) -> list[Output]:
        """
        More than the limit waits for this client at a `Check`: close it.
        """
        return self.close(now, client, CLOSE_POLICY, CLOSE_REASON)

    def relay(self, now: int, client: int, *, channel: str, text: str) -> list[Output] | None:
        """
        A data frame from elsewhere (a replay), counted as due to this client; None if it is gone.
        """
        state = self._clients.get(client)
        if state is None:
            return None
        outputs: list[Output] = []
        state.put(now, Frame("sent", text, channel, why="replay"), outputs)
        return outputs

    def broadcast(self, now: int, payload: bytes, channel: str | None) -> list[Output]:
        """
        A frame from elsewhere (a history): to all who are subscribed to its channel, to everybody if it has none.
        """
        outputs: list[Output] = []
        if channel is None:
            frame = Frame("garbage", "", why="replay", raw=payload)
            for client, state in self._clients.items():
                if self._router.is_subscribed(client):
                    state.put(now, frame, outputs, counted=False)
        else:
            self._router.hand_out(now, Frame("sent", "", channel, why="replay", raw=payload), outputs)
        return outputs

    def listeners(self, channel: str | None) -> list[int]:
        """
        The clients that get what is sent on a channel; None: those that are subscribed to anything.
        """
        return [client for client in self._clients if self._router.is_subscribed(client, channel)]

    def has_subscribed(self, client: int) -> bool:
        """
        Whether a client is subscribed to anything at present.
        """
        return self._router.is_subscribed(client)

    def close(self, now: int, client: int, code: int, reason: str = "") -> list[Output]:
        """
        Close one client.
        """
        outputs: list[Output] = []
        if client in self._clients:
            outputs.append(Close(client, code, reason))
            self._forget(now, client, code, outputs)
        return outputs

    def finish(self, now: int) -> list[Output]:
        """
        The server stops: faults that were on end here, clients are closed with 1001.
        """
        outputs: list[Output] = []
        for published, fills in self._publisher.unpublished():
            for told in fills:
                self._router.hand_out(
                    now, Frame("sent", "", published.trades, told.fill.fill_id), outputs, withheld=told.why
                )
        for fault, began in list(self._on.items()):
            self._end(now, fault, outputs)
            outputs.append(Log(_fault_line(now, fault, began)))
        self._on.clear()
        for client in list(self._clients):
            outputs.extend(self.close(now, client, 1001))
        return outputs

    # ---- clients

    def _answer(self, now: int, state: Client, text: str, outputs: list[Output]) -> None:
        client = state.number
        match answer(text, self._indices, default_grouping=self._generation.default_grouping):
            case Subscribe(name, ack):
                if self._on and self._lasting(BusFails) is not None and not self._router.knows(name):
                    state.put(now, Frame("error", BUS_ERROR, why="bus_fails"), outputs, counted=False)
                    state.put(now, Frame("ack", ack, name), outputs, counted=False)
                    return
                self._router.subscribe(client, name)
                state.put(now, Frame("ack", ack, name), outputs, counted=False)
                self._fetch_initial(now, client, name)
            case Unsubscribe(name):
                if self._router.unsubscribe(client, name):
                    outputs.append(Log(Line(now, "unsubscribed", client, name)))
            case Refuse(frame):
                state.put(now, Frame("error", frame), outputs, counted=False)
            case Hang(code, reason):
                if state.open:
                    outputs.append(Close(client, code, reason))
                    self._forget(now, client, code, outputs)
                else:
                    self._cut(now, state, None, outputs)
            case Crash() if self._crashes:
                outputs.append(Log(Line(now, "fault", fault="crash", start_ns=now, end_ns=now, text=text)))
                self._cut_all(now, None, outputs)
                self._router.restart()

    def _fetch_initial(self, now: int, client: int, name: str) -> None:
        if self._quiet or name not in self._by_book or self._generation.initial == "none":
            return
        published, channel = self._by_book[name]
        text = self._publisher.stored(published, channel, self._last_tick)
        if text is not None:
            self._schedule(now + self._initial_delay_ns, _Initial(client, name, text))

    def _schedule(self, due: int, what: _SecondFeed | _Initial) -> None:
        self._laters += 1
        heapq.heappush(self._later, (due, self._laters, what))

    def _forget(self, now: int, client: int, code: int | None, outputs: list[Output]) -> None:
        state = self._clients.pop(client)
        self._router.forget(client)
        state.give_up(now, outputs)
        outputs.append(Log(Line(now, "disconnected", client, code=code, count=state.seq)))

    def _cut(self, now: int, state: Client, code: int | None, outputs: list[Output]) -> None:
        if state.deaf:
            pass  # it is told nothing, not even this; what got hold of it ends in a cut
        elif code is None or not state.open:
            outputs.append(Cut(state.number))
        else:
            outputs.append(Close(state.number, code, ""))
        self._forget(now, state.number, code, outputs)

    def _cut_all(self, now: int, code: int | None, outputs: list[Output]) -> None:
        for state in list(self._clients.values()):
            self._cut(now, state, code, outputs)

    def _check(self, now: int, outputs: list[Output]) -> None:
        self._check_due = _after(self._check_due, self._check_ns, now)
        for state in list(self._clients.values()):
            if state.open:
                outputs.append(Check(state.number))
            elif state.closing_since is not None:
                if now - state.closing_since >= CLOSE_TIMEOUT_NS:
                    self._cut(now, state, None, outputs)
            elif state.waiting > BACKLOG_LIMIT_BYTES:
                state.closing_since = now

    # ---- faults

    def _lasting(self, kind: type[_Kind]) -> _Kind | None:
        return next((fault for fault in self._on if isinstance(fault, kind)), None)

    def _turn(self, now: int, outputs: list[Output]) -> None:
        due, fault = self._edges.pop(0)
        if isinstance(fault, Span):
            if fault in self._on:
                self._end(now, fault, outputs)
                outputs.append(Log(_fault_line(now, fault, self._on.pop(fault))))
            else:
                self._on[fault] = now
                outputs.append(Log(_fault_line(now, fault, None)))
                self._begin(now, fault, outputs)
            self._publisher.set_faults(self._on, now, last_tick=self._last_tick)
            return
        outputs.append(Log(_fault_line(now, fault, now)))
        match fault:
            case Drop(code=code):
                self._cut_all(now, code, outputs)
            case Garbage(text=text, what=what):
                frame = Frame("garbage", GARBAGE[what] if what else text, why=what, binary=what == "binary")
                for state in self._clients.values():
                    state.put(now, frame, outputs, counted=False)
            case NewMarket(market=symbol, market_type=market_type, index=index):
                self._publisher.add(market_named(market_type, symbol, index))
                self._list(self._publisher.markets[-1])
                self._publisher.set_faults(self._on, now, last_tick=self._last_tick)
                self._router.replan()
        if fault.every_s is not None:
            again = (_after(due, round(fault.every_s * SECOND_NS), now), fault)
            self._edges.append(again)
            self._edges.sort(key=lambda edge: edge[0])

    def _begin(self, now: int, fault: AnyFault, outputs: list[Output]) -> None:
        match fault:
            case Cadence(tick_ms=tick_ms) if self._tick_due < _NEVER:
                self._tick_ns = tick_ms * _MS
                self._tick_grid = self._tick_due = now + self._tick_ns
            case Restart(code=code):
                self._cut_all(now, code, outputs)
                self._router.restart()
            case HalfOpen() | Backlog():
                struck = [state for state in self._clients.values() if state.open]
                self._struck[fault] = [state.number for state in struck]
                for state in struck:
                    if isinstance(fault, Backlog):
                        state.hold(fault.buffer_bytes)
                    else:
                        state.deaf = True
                        outputs.append(Pause(state.number))

    def _end(self, now: int, fault: AnyFault, outputs: list[Output]) -> None:
        match fault:
            case Cadence() if self._tick_due < _NEVER:
                self._tick_ns = self._base_tick_ns
                self._tick_grid = self._tick_due = now + self._tick_ns
            case HalfOpen():
                for number in self._struck.pop(fault, ()):
                    outputs.append(Cut(number))
                    if number in self._clients:
                        self._forget(now, number, None, outputs)
            case Backlog():
                for number in self._struck.pop(fault, ()):
                    if number in self._clients:
                        state = self._clients[number]
                        state.release(outputs)
                        if state.closing_since is not None:
                            self._forget(now, number, CLOSE_POLICY, outputs)

    # ---- what is published

    def _publish_books(self, now: int, outputs: list[Output]) -> None:
        missed = (now - self._tick_grid) // self._tick_ns
        if missed:
            outputs.append(Log(Line(now, "ticks_missed", count=missed)))
        self._tick_grid = self._tick_due = _after(self._tick_grid, self._tick_ns, now)
        self._tick_number += 1
        second = self._always_two
        if self._rhythm is not None:
            later, late = self._rhythm.late_ns(self._lateness)
            self._tick_grid += later
            self._tick_due = self._tick_grid + late
        if self._on:
            second = second or self._lasting(TwoFeeds)
            slow = self._lasting(SlowTicks)
            if slow is not None and self._tick_number % slow.every == 0:
                # The timer counts the next interval from here: what comes after is in time again, on a later grid.
                self._tick_grid += slow.late_ms * _MS
                self._tick_due += slow.late_ms * _MS
        self._last_tick = now
        outputs.append(Log(Line(now, "tick")))
        lagging = self._router.publish_books(now, second, outputs)
        if second is not None:
            self._schedule(now + second.lag_ms * _MS, _SecondFeed(lagging))

    def _follow_up(self, now: int, outputs: list[Output]) -> None:
        match heapq.heappop(self._later)[2]:
            case _Initial(client, name, text):
                if client in self._clients and self._router.is_subscribed(client, name):
                    self._clients[client].put(now, Frame("sent", text, name, why="initial"), outputs)
            case _SecondFeed(books):
                self._router.publish_second(now, books, outputs)


_HEARTBEAT_FRAME = Frame("heartbeat", HEARTBEAT)


def _after(due: int, interval: int, now: int) -> int:
    """
    The first instant of the series after `now`.
    """
    return due + ((now - due) // interval + 1) * interval


def _fault_line(now: int, fault: AnyFault, began: int | None) -> Line:
    over = began is not None
    return Line(
        now,
        "fault_end" if over and isinstance(fault, Span) else "fault",
        fault=kind_of(fault),
        market=getattr(fault, "market", None),
        start_ns=began if began is not None else now,
        end_ns=now if over else None,
        code=getattr(fault, "code", None),
        text=msgspec.json.encode(fault).decode(),
    )
