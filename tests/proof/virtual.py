"""
A recorder in virtual time: the real session, the real journal and the real seal, between them what `capture/client.py`
does with sockets. Several connections, probation, absences in order or by a kill.

What it did is a `Side`: which connection each of the venue's clients was, and where each frame it heard is in the
journal. `account.py` holds it against the venue's ledger.
"""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import msgspec

import lake_cases
from recorder.capture.session import Abort, Action, GoHome, Note, Send, Session, SessionSettings, ToProbation
from recorder.capture.wire import blame
from recorder.lake.root import bind
from recorder.records import (
    SECOND_NS,
    Cause,
    Connected,
    ConnectFailed,
    Disconnected,
    EntryKind,
    Moved,
    Stream,
)
from recorder.simulator.core import Venue
from recorder.simulator.drive import Drive, Event, Heard, Joined, Link, Lost, Refused
from recorder.simulator.generations import ServerName
from recorder.simulator.kinds import AnyFault
from recorder.simulator.ledger import Line
from recorder.simulator.markets import DEFAULT_MARKETS, VELOCITY_MARKETS, SimMarket, market_named
from recorder.simulator.rhythm import AS_CAPTURED, Rhythm
from recorder.venue.markets import market_list
from recorder.venue.protocol import FrameKind, peek

URL = "ws://venue.example/ws"
TICK_NS, PACING_TICK_NS = SECOND_NS // 5, SECOND_NS // 50
COMMIT_NS = SECOND_NS // 10
"""What was heard this long before a kill is not on disk."""
_PATIENCE = SimpleNamespace(protocol=SimpleNamespace(close_sent=None))
"""A socket that we did not close."""


class Absence(msgspec.Struct, frozen=True):
    """
    The recorder ends, and starts again.
    """

    at_s: float
    back_s: float
    how: Literal["stop", "kill"] = "kill"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """
    A venue, what befalls it and the way to it, and a recorder. Times in seconds from the start.
    """

    server: ServerName = "2026-05"
    faults: tuple[AnyFault, ...] = ()
    links: dict[int, Link] = {}
    connections: int = 1
    copies: bool = False
    """Each connection carries every market; else each its share."""
    absences: tuple[Absence, ...] = ()
    markets: int = 4
    calm: bool = False
    """Hardly anything moves in the books, so that hours pass faster."""
    duration_s: float = 130.5
    seed: int = 1
    rhythm: Rhythm = AS_CAPTURED
    tick_ms: int = 400
    two_feeds: bool = False
    before_hour_s: float | None = None
    """How long before an hour's end it starts; None: at its beginning."""

    @property
    def start(self) -> int:
        """
        In ns.
        """
        if self.before_hour_s is None:
            return lake_cases.HOUR + SECOND_NS
        return lake_cases.NEXT - round(self.before_hour_s * SECOND_NS)

    @property
    def network(self) -> str:
        """
        Whose market list is meant.
        """
        return "velocity-mainnet-beta" if self.server == "velocity" else "mainnet-beta"


class Frame(msgspec.Struct, frozen=True, gc=False):
    """
    A websocket message that was heard, in the order of its client's.
    """

    run: str
    seq: int | None
    """In the journal; None: it was not committed when the recorder was killed."""
    recv_ts: int


class Life(msgspec.Struct, frozen=True):
    """
    A run.
    """

    run: str
    started: int
    ended: int
    how: Literal["stop", "kill"]


class Side(msgspec.Struct):
    """
    What the recorder did, as far as it is not in its journal.
    """

    streams: dict[str, Stream] = {}
    """By the name of the channel the venue publishes them on."""
    carriers: dict[Stream, set[int]] = {}
    """Connections that may carry a stream; probation among them."""
    latency_ns: dict[int, int] = {}
    """Of the way to each connection; probation among them."""
    clients: dict[int, int] = {}
    """The connection each of the venue's clients was."""
    heard: dict[int, list[Frame]] = {}
    """By client."""
    gone: dict[int, int] = {}
    """When the recorder had no more to do with a client."""
    lives: list[Life] = []


def markets_of(scenario: Scenario) -> list[SimMarket]:
    """
    Those of the network, as the recorder's own list has them.
    """
    if scenario.server == "velocity":
        markets = list(VELOCITY_MARKETS[:4])[: scenario.markets]
    else:
        markets = list(DEFAULT_MARKETS[: scenario.markets])
        taken = {(market.market_type, market.index) for market in markets}
        listed = market_list(scenario.network)
        for market in (*listed.perps, *listed.spots):
            if len(markets) >= scenario.markets:
                break
            if market.status == "listed" and (market.market_type, market.index) not in taken:
                markets.append(market_named(market.market_type, market.symbol, market.index, market.size_exponent))
    if scenario.calm:
        return [msgspec.structs.replace(m, moves=0.08, churn=0.0004, fills_per_s=m.fills_per_s / 4) for m in markets]
    return markets


def record(scenario: Scenario, root: Path) -> tuple[list[Line], Side]:
    """
    Let a scenario pass, and leave its journal in a new root.
    """
    bind(root, venue="test", network=scenario.network)
    markets = markets_of(scenario)
    venue = Venue(
        markets,
        start=scenario.start,
        seed=scenario.seed,
        tick_ms=scenario.tick_ms,
        faults=scenario.faults,
        server=scenario.server,
        two_feeds=scenario.two_feeds,
        rhythm=scenario.rhythm,
    )
    lines: list[Line] = []
    drive = Drive(venue, start=scenario.start, links=scenario.links, seed=scenario.seed, ledger=lines.append)
    side = Side()
    homes = homes_of(scenario, markets, side)
    for index in range(scenario.connections + 1):
        side.latency_ns[index] = round(scenario.links.get(index, Link()).latency_ms * 1_000_000)
    recorder = _Recorder(scenario, root, drive, homes, side)
    end = scenario.start + round(scenario.duration_s * SECOND_NS)
    for number, absence in enumerate((*scenario.absences, None)):
        at = scenario.start + round(absence.at_s * SECOND_NS) if absence is not None else end
        recorder.live(at, how=absence.how if absence is not None else "stop", number=number)
        if absence is not None:
            for _ in drive.until(scenario.start + round(absence.back_s * SECOND_NS)):
                pass
    for _ in drive.finish():
        pass
    return lines, side


def homes_of(scenario: Scenario, markets: list[SimMarket], side: Side) -> list[list[Stream]]:
    """
    What each connection is to carry; noted in `side`.
    """
    homes: list[list[Stream]] = [[] for _ in range(scenario.connections)]
    for number, market in enumerate(markets):
        name = f"{market.market_type}_{market.index}"
        both = {
            f"orderbook_{name}_grouped_1": Stream(market.market_type, market.symbol, "orderbook", 1),
            f"trades_{name}": Stream(market.market_type, market.symbol, "trades"),
        }
        side.streams |= both
        on = range(scenario.connections) if scenario.copies else [number % scenario.connections]
        for stream in both.values():
            side.carriers[stream] = {*on, scenario.connections}
            for connection in on:
                homes[connection].append(stream)
    return homes


class _Line:
    """
    One connection of a run.
    """

    def __init__(self, index: int, session: Session) -> None:
        self.index, self.session = index, session
        self.attempt = 0
        self.client = 0
        self.open = self.opening = False
        self.opened = 0
        self.retry_at = 0
        self.outbox: list[Action] = []


class _Recorder:
    """
    One run after the other.
    """

    def __init__(self, scenario: Scenario, root: Path, drive: Drive, homes: list[list[Stream]], side: Side) -> None:
        self._scenario, self._root, self._drive, self._side = scenario, root, drive, side
        self._homes = homes
        self._home = {stream: index for index, streams in enumerate(homes) for stream in streams}
        """Where a stream goes when it speaks again: with copies, to that it was moved from last."""
        self._streams = tuple(dict.fromkeys(stream for streams in homes for stream in streams))
        self._random = random.Random(f"recorder {scenario.seed}")
        self._clients = 0
        self._lines: list[_Line] = []
        self._run: lake_cases.Run
        self._last_commit = 0

    # ---- a run

    def live(self, until: int, *, how: Literal["stop", "kill"], number: int) -> None:
        """
        Start, record, end.
        """
        drive = self._drive
        started = drive.now
        self._last_commit = until - self._random.randrange(COMMIT_NS) if how == "kill" else until
        self._run = lake_cases.Run(
            self._root, started, nonce=f"{number:06x}", streams=self._streams, network=self._scenario.network
        )
        settings = SessionSettings()
        self._lines = [_Line(i, Session(list(s), settings, self._random)) for i, s in enumerate(self._homes)]
        probation = _Line(len(self._homes), Session([], settings, self._random, probation=True))
        probation.retry_at = 1 << 63
        self._lines.append(probation)
        self._promoting: dict[Stream, int] = {}
        alive, tick = started + SECOND_NS, started
        while drive.now < until:
            now = drive.now
            if alive <= now:
                self._put(EntryKind.ALIVE, b"", -1, 0)
                alive += SECOND_NS
            for line in self._lines:
                if not line.open and not line.opening and line.retry_at <= now and line.session.streams:
                    self._connect(line)
            if tick <= now:
                for line in self._lines:
                    if line.open:
                        actions, line.outbox = line.outbox, []
                        self._perform(line, actions + line.session.tick(now))
                pacing = any(line.open and line.session.pacing for line in self._lines)
                tick = now + (PACING_TICK_NS if pacing else TICK_NS)
            waits = [line.retry_at for line in self._lines if not line.open and not line.opening]
            for event in drive.until(min([until, alive, tick, *(at for at in waits if at > now)])):
                self._meet(event)
        for line in self._lines:
            if line.open and how == "stop":
                self._ended(line, "recorder", "the recorder is stopping")
            drive.leave(line.index)
            self._side.gone.setdefault(line.client, drive.now)
        if how == "stop":
            self._run.close(drive.now)
        else:
            self._run.close()
        self._side.lives.append(Life(self._run.name, started, drive.now, how))

    def _put(self, kind: EntryKind, payload: bytes, connection: int, attempt: int) -> int | None:
        now = self._drive.now
        if now > self._last_commit:
            return None
        return self._run.journal.append(kind, connection=connection, attempt=attempt, recv_ts=now, payload=payload)

    def _fact(self, line: _Line, fact: msgspec.Struct) -> None:
        if self._drive.now <= self._last_commit:
            self._run.put(EntryKind.FACT, self._drive.now, msgspec.json.encode(fact), line.index, line.attempt)

    # ---- a connection

    def _connect(self, line: _Line) -> None:
        line.attempt += 1
        line.opening = True
        self._clients += 1
        line.client = self._clients
        self._side.clients[line.client] = line.index
        self._side.heard[line.client] = []
        line.outbox.clear()
        self._drive.connect(line.index)

    def _meet(self, event: Event) -> None:
        line = self._lines[event.connection]
        now = self._drive.now
        match event:
            case Heard(payload=payload):
                seq = self._put(EntryKind.FRAME, payload, line.index, line.attempt)
                self._side.heard[line.client].append(Frame(self._run.name, seq, now))
                seen = peek(payload)
                stream = self._side.streams.get(seen.name) if seen.kind == FrameKind.DATA else None
                self._perform(line, line.session.heard(now, seen, stream))
                if stream is not None and stream in self._promoting:
                    self._settle(line, stream)
            case Joined():
                line.open, line.opening, line.opened = True, False, now
                self._fact(line, Connected(URL, line.attempt, 10.0, compressed=True))
                self._perform(line, line.session.opened(now))
            case Refused():
                self._failed(line, "venue", "HTTP 503 instead of a websocket")
            case Lost() if line.opening:
                self._side.gone[line.client] = now
                self._failed(line, "network", "the connection broke while it was opened")
            case Lost(code=code):
                cause, why = blame(code, _PATIENCE)  # type: ignore[arg-type]
                self._ended(line, cause, why, code)

    def _failed(self, line: _Line, cause: Cause, why: str) -> None:
        line.opening = False
        delay_s = line.session.ended(self._drive.now, opened=False)
        line.retry_at = self._drive.now + round(delay_s * SECOND_NS)
        self._fact(line, ConnectFailed(URL, line.attempt, why, cause, round(delay_s, 3)))

    def _ended(self, line: _Line, cause: str, why: str, code: int | None = None) -> None:
        now = self._drive.now
        line.open = False
        self._side.gone[line.client] = now
        lived_s = round((now - line.opened) / SECOND_NS, 3)
        self._fact(line, Disconnected(URL, line.attempt, cause, why, code, None, lived_s))  # type: ignore[arg-type]
        line.retry_at = now + round(line.session.ended(now, opened=True, close_code=code) * SECOND_NS)

    def _perform(self, line: _Line, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(text):
                    self._drive.send(line.index, text)
                case Note(fact):
                    self._fact(line, fact)
                case Abort(cause, why):
                    self._drive.leave(line.index)
                    self._ended(line, cause, why)
                    return
                case ToProbation(stream, why):
                    self._to_probation(line, stream, why)
                case GoHome(stream) if stream in self._home:
                    self._promoting[stream] = self._home[stream]
                    home = self._lines[self._home[stream]]
                    home.outbox += home.session.add(stream, why="it speaks again")

    def _to_probation(self, line: _Line, stream: Stream, why: str) -> None:
        probation = self._lines[-1]
        self._promoting.pop(stream, None)
        if line is not probation:
            self._home[stream] = line.index
        self._fact(line, Moved(stream, probation.index, why))
        probation.outbox += probation.session.add(stream, why=why)
        if probation.retry_at == 1 << 63:
            probation.retry_at = 0
        line.outbox += line.session.remove(stream)

    def _settle(self, line: _Line, stream: Stream) -> None:
        if self._promoting[stream] != line.index:
            return
        del self._promoting[stream]
        self._fact(line, Moved(stream, line.index, "it speaks again"))
        probation = self._lines[-1]
        probation.outbox += probation.session.remove(stream)
        if probation.open and not probation.session.streams:
            self._drive.leave(probation.index)
            self._ended(probation, "recorder", "no stream is on probation any more")
            probation.retry_at = 1 << 63
