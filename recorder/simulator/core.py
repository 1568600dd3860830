"""
The venue without a socket: time and what clients did go in, what to do and what to note come out.

`Venue.step(now, inputs)` may be driven by a real clock or in virtual time, jumping from `next_due()` to `next_due()`.
The same steps with the same seed give the same outputs. Faults change what is sent, never what the market does.

As in the real server, a slow tick is late and not queued: of several ticks that have come due, one is published.
Whoever performs the outputs decides about back-pressure: a data frame for a client with `BACKLOG_LIMIT_BYTES` or more
waiting is dropped, everything else is queued. A `Send` becomes a ledger line by `messages.sent_line`.
"""

from collections.abc import Iterable, Sequence

from recorder.records import SECOND_NS
from recorder.simulator.faults import AnyFault, Drop, Garbage, Silence, Span, StopHeartbeats, WithholdFills, edges
from recorder.simulator.fills import Fills, make_accounts
from recorder.simulator.frames import HEARTBEAT, book_frame, data_frame, trade_frame
from recorder.simulator.ledger import Line
from recorder.simulator.market import MarketModel
from recorder.simulator.markets import SimMarket
from recorder.simulator.messages import Close, Cut, Frame, Gone, Input, Log, Opened, Output, Send, Text
from recorder.simulator.requests import Crash, Hang, Refuse, Subscribe, Unsubscribe, answer
from recorder.venue.protocol import GROUPINGS, HEARTBEAT_INTERVAL_S

SLOT_NS = 400_000_000
FIRST_SLOT = 352_100_000
TRADES_INTERVAL_NS = SECOND_NS
"""The publisher polls the chain this often."""
CONFIRMATION_SLOTS = 2
"""Fills of younger slots are not confirmed yet."""
FEES_INTERVAL_NS = 5 * SECOND_NS

_HEARTBEAT_NS = HEARTBEAT_INTERVAL_S * SECOND_NS
_MS = 1_000_000


class _Client:
    def __init__(self, now: int) -> None:
        self.heartbeat_due = now + _HEARTBEAT_NS
        self.seq = 0


class _Published:
    """
    A market with its model, its fills and the names of its channels.
    """

    def __init__(self, market: SimMarket, model: MarketModel, fills: Fills) -> None:
        stream = f"{market.market_type}_{market.index}"
        self.market, self.model, self.fills = market, model, fills
        self.books = [(f"orderbook_{stream}_grouped_{grouping}", grouping) for grouping in GROUPINGS]
        self.indicative = [(f"{name}_indicative", grouping) for name, grouping in self.books]
        self.trades = f"trades_{stream}"
        self.fees = f"priorityFees_{stream}"


class Venue:
    """
    The simulated server, with its publishers.

    Args of the constructor:
        markets: published in this order each tick.
        start: ns since the epoch; faults count from here.
        quiet: acknowledge and beat, but publish nothing (a replay feeds the clients).
        priority_fees: whether that channel speaks; on the real server it mostly does not.
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
    ) -> None:
        self._start = start
        self._tick_ns = tick_ms * _MS
        accounts = make_accounts(seed)
        self._published: list[_Published] = []
        self._indices: dict[tuple[str, str], int] = {}
        for market in markets:
            model = MarketModel(market, seed=seed)
            fills = Fills(model, accounts, seed=seed)
            self._published.append(_Published(market, model, fills))
            # Of two markets with one name the server finds the first.
            self._indices.setdefault((market.market_type, market.symbol.upper()), market.index)
        self._clients: dict[int, _Client] = {}
        self._subscribers: dict[str, dict[int, None]] = {}
        never = 1 << 63
        self._tick_due = never if quiet else start + self._tick_ns
        self._trades_due = never if quiet else start + TRADES_INTERVAL_NS
        self._fees_due = start + FEES_INTERVAL_NS if priority_fees and not quiet else never
        self._told_slot = FIRST_SLOT
        self._edges: list[tuple[int, AnyFault]] = sorted(
            ((start + round(at * SECOND_NS), fault) for fault in faults for at in edges(fault)),
            key=lambda edge: edge[0],
        )
        self._on: dict[AnyFault, int] = {}
        """Faults that last, with their start."""

    def slot(self, now: int) -> int:
        """
        The chain's slot.
        """
        return FIRST_SLOT + (now - self._start) // SLOT_NS

    def next_due(self) -> int:
        """
        When `step` has to be called next, at the latest.
        """
        due = min(self._tick_due, self._trades_due, self._fees_due)
        if self._edges:
            due = min(due, self._edges[0][0])
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
                    self._clients[client] = _Client(now)
                    outputs.append(Log(Line(now, "connected", client)))
                case Text(client, text) if client in self._clients:
                    self._answer(now, client, text, outputs)
                case Gone(client, code) if client in self._clients:
                    self._forget(now, client, code, outputs)
        while self._edges and self._edges[0][0] <= now:
            self._turn(now, outputs)
        if self._tick_due <= now:
            self._publish_books(now, outputs)
        if self._trades_due <= now:
            self._publish_trades(now, outputs)
        if self._fees_due <= now:
            self._publish_fees(now, outputs)
        for number, state in self._clients.items():
            if state.heartbeat_due <= now:
                state.heartbeat_due = _after(state.heartbeat_due, _HEARTBEAT_NS, now)
                if any(isinstance(fault, StopHeartbeats) for fault in self._on):
                    outputs.append(Log(Line(now, "heartbeat_withheld", number)))
                else:
                    outputs.append(Send(number, _HEARTBEAT_FRAME))
        return outputs

    def due_to(self, client: int, *, channel: str, text: str) -> Send | None:
        """
        A data frame from elsewhere (a replay), counted as due to this client; None if it is gone.
        """
        state = self._clients.get(client)
        if state is None:
            return None
        state.seq += 1
        return Send(client, Frame("sent", text, channel), state.seq)

    def has_subscribed(self, client: int) -> bool:
        """
        Whether a client is subscribed to anything at present.
        """
        return any(client in subscribers for subscribers in self._subscribers.values())

    def close(self, now: int, client: int, code: int) -> list[Output]:
        """
        Close one client.
        """
        outputs: list[Output] = []
        if client in self._clients:
            outputs.append(Close(client, code, ""))
            self._forget(now, client, code, outputs)
        return outputs

    def finish(self, now: int) -> list[Output]:
        """
        The server stops: faults that were on end here, clients are closed with 1001.
        """
        outputs: list[Output] = [Log(_fault_line(now, fault, began)) for fault, began in self._on.items()]
        self._on.clear()
        for client in list(self._clients):
            outputs.extend(self.close(now, client, 1001))
        return outputs

    def _answer(self, now: int, client: int, text: str, outputs: list[Output]) -> None:
        match answer(text, self._indices):
            case Subscribe(name, ack):
                self._subscribers.setdefault(name, {})[client] = None
                outputs.append(Send(client, Frame("ack", ack, name)))
            case Unsubscribe(name):
                if self._subscribers.get(name, {}).pop(client, client) is None:
                    outputs.append(Log(Line(now, "unsubscribed", client, name)))
            case Refuse(frame):
                outputs.append(Send(client, Frame("error", frame)))
            case Hang(code, reason):
                outputs.append(Close(client, code, reason))
                self._forget(now, client, code, outputs)
            case Crash():
                outputs.append(Log(Line(now, "fault", fault="crash", start_ns=now, end_ns=now, text=text)))
                self._cut_all(now, None, outputs)

    def _forget(self, now: int, client: int, code: int | None, outputs: list[Output]) -> None:
        state = self._clients.pop(client)
        for subscribers in self._subscribers.values():
            subscribers.pop(client, None)
        outputs.append(Log(Line(now, "disconnected", client, code=code, count=state.seq)))

    def _cut_all(self, now: int, code: int | None, outputs: list[Output]) -> None:
        for client in list(self._clients):
            outputs.append(Cut(client) if code is None else Close(client, code, ""))
            self._forget(now, client, code, outputs)

    def _turn(self, now: int, outputs: list[Output]) -> None:
        due, fault = self._edges.pop(0)
        if isinstance(fault, Span):
            if fault in self._on:
                outputs.append(Log(_fault_line(now, fault, self._on.pop(fault))))
            else:
                self._on[fault] = now
                outputs.append(Log(_fault_line(now, fault, None)))
            return
        outputs.append(Log(_fault_line(now, fault, now)))
        match fault:
            case Drop():
                self._cut_all(now, fault.code, outputs)
            case Garbage():
                frame = Frame("garbage", fault.text)
                outputs.extend(Send(client, frame) for client in self._clients)
        if fault.every_s is not None:
            again = (_after(due, round(fault.every_s * SECOND_NS), now), fault)
            self._edges.append(again)
            self._edges.sort(key=lambda edge: edge[0])

    def _silent(self, symbol: str, channels: str) -> bool:
        return any(
            isinstance(fault, Silence) and fault.market in {"*", symbol} and fault.channels in {"all", channels}
            for fault in self._on
        )

    def _hand_out(self, now: int, frame: Frame, outputs: list[Output], *, withheld: bool) -> None:
        for client in self._subscribers[frame.channel or ""]:
            state = self._clients[client]
            state.seq += 1
            if withheld:
                line = Line(now, "withheld", client, frame.channel, state.seq, fill_id=frame.fill_id)
                outputs.append(Log(line))
            else:
                outputs.append(Send(client, frame, state.seq))

    def _publish_books(self, now: int, outputs: list[Output]) -> None:
        missed = (now - self._tick_due) // self._tick_ns
        if missed:
            outputs.append(Log(Line(now, "ticks_missed", count=missed)))
        self._tick_due = _after(self._tick_due, self._tick_ns, now)
        slot, ts_ms = self.slot(now), now // _MS
        for published in self._published:
            published.model.advance()
        # Two publishers: that of the firm books goes through all markets first.
        for indicative in (False, True):
            for published in self._published:
                channels = published.indicative if indicative else published.books
                wanted = [channel for channel in channels if self._subscribers.get(channel[0])]
                if not wanted:
                    continue
                if self._on and self._silent(published.market.symbol, "books"):
                    for name, _ in wanted:
                        self._hand_out(now, Frame("sent", "", name), outputs, withheld=True)
                    continue
                for name, text in _book_texts(published.model, wanted, slot=slot, ts_ms=ts_ms, indicative=indicative):
                    self._hand_out(now, Frame("sent", text, name), outputs, withheld=False)

    def _publish_trades(self, now: int, outputs: list[Output]) -> None:
        self._trades_due = _after(self._trades_due, TRADES_INTERVAL_NS, now)
        for slot in range(self._told_slot, self.slot(now) - CONFIRMATION_SLOTS):
            ts_s = (self._start + (slot - FIRST_SLOT) * SLOT_NS) // SECOND_NS
            transactions = [
                (published, transaction)
                for published in self._published
                for transaction in published.fills.in_slot(slot=slot, ts_s=ts_s, slot_s=SLOT_NS / SECOND_NS)
            ]
            # Signatures are polled newest first and sorted by slot only; fills of one transaction stay in order.
            for published, transaction in reversed(transactions):
                if not self._subscribers.get(published.trades):
                    continue
                for fill in transaction:
                    withheld = bool(self._on) and self._keeps_back(published.market.symbol, fill.fill_id)
                    text = "" if withheld else trade_frame(fill, name=published.trades)
                    frame = Frame("sent", text, published.trades, fill.fill_id)
                    self._hand_out(now, frame, outputs, withheld=withheld)
            self._told_slot = slot + 1

    def _keeps_back(self, symbol: str, fill_id: int) -> bool:
        return self._silent(symbol, "trades") or any(
            isinstance(fault, WithholdFills) and fault.market in {"*", symbol} and fill_id % fault.every == 0
            for fault in self._on
        )

    def _publish_fees(self, now: int, outputs: list[Output]) -> None:
        self._fees_due = _after(self._fees_due, FEES_INTERVAL_NS, now)
        for published in self._published:
            if self._subscribers.get(published.fees):
                fees: dict[str, object] = {
                    "min": 0,
                    "low": 0,
                    "medium": 1.25,
                    "high": 10_000,
                    "veryHigh": 1_050_000,
                    "unsafeMax": 250_000_000,
                }
                text = data_frame(published.fees, fees)
                self._hand_out(now, Frame("sent", text, published.fees), outputs, withheld=False)


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
        fault=str(type(fault).__struct_config__.tag),
        market=getattr(fault, "market", None),
        start_ns=began if began is not None else now,
        end_ns=now if over else None,
        code=getattr(fault, "code", None),
    )


def _book_texts(
    model: MarketModel, wanted: list[tuple[str, int]], *, slot: int, ts_ms: int, indicative: bool
) -> Iterable[tuple[str, str]]:
    book = model.book(slot=slot, ts_ms=ts_ms)
    shown = model.with_indicative(book) if indicative else book
    for name, grouping in wanted:
        text = book_frame(shown, name=name, grouping=grouping)
        if text is None:
            book = model.book(slot=slot, ts_ms=ts_ms, whole=True)
            shown = model.with_indicative(book) if indicative else book
            text = book_frame(shown, name=name, grouping=grouping)
        if text is not None:
            yield name, text
