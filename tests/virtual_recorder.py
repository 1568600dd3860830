"""
The recorder in virtual time: the real sessions, copies, placement and journal on a simulated venue and network, without
socket or sleep. What `capture/client.py` and `daemon/recorder.py` do with asyncio is done here with time as a number.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from recorder.capture.copies import Copy, Line, Told, must_stay
from recorder.capture.placement import replaced
from recorder.capture.session import Abort, Action, GoHome, Note, Send, Session, SessionSettings, ToProbation
from recorder.journal.names import run_name
from recorder.journal.writer import Journal, JournalSettings
from recorder.lake.root import bind
from recorder.quality.identity import Identity
from recorder.records import (
    SECOND_NS,
    Cause,
    Connected,
    ConnectFailed,
    Disconnected,
    EntryKind,
    Fact,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    encode_fact,
)
from recorder.simulator.core import Venue
from recorder.simulator.drive import Drive, Event, Heard, Joined, Link, Lost, Refused
from recorder.venue.markets import market_list
from recorder.venue.protocol import FrameKind, peek

NETWORK = "mainnet-beta"
URL = "ws://x/ws"
TICK_NS = SECOND_NS // 5


class VirtualRecorder:
    """
    One run, journaled below a root.
    """

    def __init__(
        self,
        root: Path,
        venue: Venue,
        streams: list[Stream],
        *,
        start: int,
        copies: int = 1,
        limit: int = 0,
        links: Mapping[int, Link] | None = None,
        apart_s: float = 1.0,
        beside: Sequence[str] = (),
    ) -> None:
        """
        Args:
            root: bound by this.
            venue: not stepped yet.
            streams: asked for at the start, on one connection of each copy; more come by `reload`.
            start: ns.
            copies: how many times everything is recorded.
            limit: markets per connection.
            links: the way to the venue, by connection.
            apart_s: between the first connects of two copies.
            beside: runs that record as this one begins.
        """
        bind(root, venue="test", network=NETWORK)
        self.streams = sorted(streams)
        self.drive = Drive(venue, start=start, links=links)
        self.heard: list[Heard] = []
        """Data frames, in the order of receipt."""
        self._limit = limit
        self._placement = replaced([], self.streams, limit=limit)
        self._random = Random(7)
        self._count = 0
        lines = [[self._line(copy * apart_s, streams) for streams in self._placement] for copy in range(copies)]
        self.copies = [Copy(of, self._line(copy * apart_s, [], probation=True)) for copy, of in enumerate(lines)]
        self._due: dict[int, int] = {}
        """When a connection that is down is made, ns."""
        self._up: set[int] = set()
        self._joined: dict[int, int] = {}
        self._identity = Identity(market_list(NETWORK), {})
        name = run_name(start, "aaaaaa")
        (root / "journal" / name).mkdir(parents=True)
        self.journal = Journal(
            root / "journal" / name,
            header=lambda: SegmentHeader(1, name, "host", "0", "test", NETWORK, self.streams),
            settings=JournalSettings(queue_bytes=1 << 30),
        )
        self.journal.start()
        self._put_fact(RunStarted(name, "host", 1, "0", "test", NETWORK, [URL], self.streams, [*beside]))
        self._wish()

    def _line(self, apart_s: float, streams: list[Stream], *, probation: bool = False) -> Line:
        session = Session(streams, SessionSettings(), self._random, probation=probation)
        line = Line(self._count, URL, session, apart_s=apart_s)
        self._count += 1
        return line

    def lines(self) -> dict[int, tuple[Copy, Line]]:
        """
        All connections by index.
        """
        return {line.index: (copy, line) for copy in self.copies for line in copy.everything()}

    # ---- what the shell does

    def until(self, ts: int) -> None:
        """
        Record up to `ts`.
        """
        while self.drive.now < ts:
            now = self.drive.now
            for index in [index for index, at in self._due.items() if at <= now]:
                del self._due[index]
                if self.lines()[index][1].session.streams:
                    self.lines()[index][1].attempt += 1
                    self.drive.connect(index)
                    self._joined[index] = -1
            step = min([ts, now - now % TICK_NS + TICK_NS, *(at for at in self._due.values() if at > now)])
            for event in self.drive.until(step):
                self._meet(event)
            now = self.drive.now
            for copy, line in self.lines().values():
                if line.index in self._up:
                    self._perform(copy, line, line.session.tick(now, stay=must_stay(line, self.copies, now)))
            if now % SECOND_NS == 0:
                self.journal.append(EntryKind.ALIVE, connection=-1, attempt=0, recv_ts=now, payload=b"")

    def reload(self, streams: list[Stream]) -> None:
        """
        Another configuration.
        """
        self.streams = sorted(streams)
        self._placement = replaced(self._placement, self.streams, limit=self._limit)
        for copy in self.copies:
            while len(copy.lines) < len(self._placement):
                copy.lines.append(self._line(copy.probation.apart_s, []))
            self._tell(copy.carry(self._placement))
            self._close_idle(copy)
        self._wish()

    def stop(self) -> None:
        """
        End in order, with everything committed.
        """
        for _, line in self.lines().values():
            if line.index in self._up:
                self._end(line, "recorder", "the recorder is stopping", leave=True)
        self._put_fact(RunStopped("told to"))
        assert self.journal.close(30)

    def _wish(self) -> None:
        for index, (_, line) in self.lines().items():
            if line.session.streams and index not in self._joined and index not in self._due:
                self._due[index] = self.drive.now + int(line.apart_s * SECOND_NS)

    def _meet(self, event: Event) -> None:
        copy, line = self.lines()[event.connection]
        now = event.recv_ts
        match event:
            case Joined():
                self._up.add(line.index)
                self._joined[line.index] = now
                self._put_fact(Connected(URL, line.attempt, 1.0, compressed=True), line)
                self._perform(copy, line, line.session.opened(now))
            case Refused():
                delay_s = line.session.ended(now, opened=False)
                self._due[line.index] = now + int(delay_s * SECOND_NS)
                self._put_fact(ConnectFailed(URL, line.attempt, "refused", "network", delay_s), line)
            case Lost():
                self._end(line, "network", "the connection broke")
            case Heard():
                self._hear(copy, line, event)

    def _hear(self, copy: Copy, line: Line, event: Heard) -> None:
        now = event.recv_ts
        self.journal.append(
            EntryKind.FRAME, connection=line.index, attempt=line.attempt, recv_ts=now, payload=event.payload
        )
        seen = peek(event.payload)
        stream = None
        if seen.kind is FrameKind.DATA:
            self.heard.append(event)
            stream = self._identity.resolve(seen.channel, seen.market_name, self.streams).stream
        self._perform(copy, line, line.session.heard(now, seen, stream))
        if stream is not None:
            self._tell(copy.settle(line, stream))
            self._close_idle(copy)

    def _perform(self, copy: Copy, line: Line, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self.drive.send(line.index, action.text)
                case Note():
                    self._put_fact(action.fact, line)
                case Abort():
                    self._end(line, action.cause, action.why, leave=True)
                case ToProbation():
                    self._tell(copy.to_probation(line, action.stream, action.why))
                    self._wish()
                case GoHome():
                    copy.go_home(action.stream)
                    self._wish()

    def _close_idle(self, copy: Copy) -> None:
        for line in copy.everything():
            if line.index in self._up and not line.session.streams:
                self._end(line, "recorder", "it has no stream to carry any more", leave=True)

    def _end(self, line: Line, cause: Cause, why: str, *, leave: bool = False) -> None:
        now = self.drive.now
        if leave:
            self.drive.leave(line.index)
        self._up.discard(line.index)
        lived_s = (now - self._joined.pop(line.index)) / SECOND_NS
        self._put_fact(Disconnected(URL, line.attempt, cause, why, lived_s=lived_s), line)
        self._due[line.index] = now + int(line.session.ended(now, opened=True) * SECOND_NS)

    def _tell(self, told: list[Told]) -> None:
        for line, fact in told:
            self._put_fact(fact, line)

    def _put_fact(self, fact: Fact, line: Line | None = None) -> None:
        self.journal.append(
            EntryKind.FACT,
            connection=-1 if line is None else line.index,
            attempt=0 if line is None else line.attempt,
            recv_ts=self.drive.now,
            payload=encode_fact(fact),
        )
