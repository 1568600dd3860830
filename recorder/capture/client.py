"""
The thin asyncio shell around `session.py`: sockets, tasks, and nothing that judges.

One task per connection, for ever: wait until it has something to carry, connect, hand frames to the tape and the
session, perform the session's actions, reconnect. The reader only stamps and appends; the venue drops frames for a
client that is slow.

The session lives on monotonic time: a step of the wall clock must not look like minutes of silence and cut every
connection. What it says of the past is put on the tape's clock when it is journaled.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from random import Random

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from recorder.capture.copies import Copy, Cut, Line, Told, must_stay
from recorder.capture.flood import LARGE_FRAME, Flood
from recorder.capture.placement import replaced
from recorder.capture.session import (
    Abort,
    Action,
    GoHome,
    Note,
    Send,
    Session,
    SessionSettings,
    ToProbation,
)
from recorder.capture.tape import Tape
from recorder.capture.wire import CLOSE_TIMEOUT_S, ClientSettings, Wire, blame, compressed, explain, open_wire
from recorder.clock import monotonic_ns
from recorder.quality.events import printable
from recorder.records import (
    Cause,
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    NotAcknowledged,
    Rejected,
    Requested,
    Stream,
)

log = logging.getLogger("recorder.capture")

IDLE = "it has no stream to carry any more"
"""Why we close a connection that let go of all its streams, as what it carried last is at home again."""
SEND_TIMEOUT_S = 5.0
"""For the socket to take a request; a peer that reads nothing would hold us for ever."""
TICK_S = 0.2
PACING_TICK_S = 0.02
COPIES_APART_S = 1.0
"""From the first connects of one copy to those of the next."""


class Capture:
    """
    All connections of a process.
    """

    def __init__(
        self,
        tape: Callable[[], Tape],
        *,
        urls: list[str],
        connections: list[list[Stream]],
        session: SessionSettings,
        client: ClientSettings,
        random: Random,
        markets_per_connection: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """
        Connections are numbered copy by copy; then come those for probation, one of each copy; then what is added.

        Args:
            tape: the present run's tape; asked each time, since a clock step begins a new run.
            urls: the venue's, of each copy of the whole.
            connections: streams of each connection of one copy.
            session: limits of the conversation.
            client: limits of the sockets.
            random: for jitter.
            markets_per_connection: how many at most, when others are added; 0: any number.
            ssl_context: for tests with a CA of their own; the default verifies against the system's.
        """
        self._tape = tape
        self._urls = urls
        self._placement = connections
        self._limit = markets_per_connection
        self._session = session
        self._client = client
        self._random = random
        self._ssl = ssl_context
        self._count = 0
        lines = [[self._line(copy, streams) for streams in connections] for copy in range(len(urls))]
        probations = [self._line(copy, [], probation=True) for copy in range(len(urls))]
        self._copies = [Copy(*both) for both in zip(lines, probations, strict=True)]
        self._copy_of = {line: copy for copy in self._copies for line in copy.everything()}
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._paused = False

    def _line(self, copy: int, streams: list[Stream], *, probation: bool = False) -> Line:
        session = Session(streams, self._session, self._random, probation=probation)
        line = Line(self._count, self._urls[copy], session, apart_s=copy * COPIES_APART_S)
        self._count += 1
        return line

    async def run(self) -> None:
        """
        Record until cancelled, or until `stop` has closed the sockets.
        """
        async with asyncio.TaskGroup() as self._tasks:
            for line in self._copy_of:
                self._begin(line)

    def _begin(self, line: Line) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._hold(line), name=f"connection-{line.index}")

    async def stop(self) -> None:
        """
        Close politely; at most about a second. `run` returns when all that the sockets had delivered is on the tape.
        """
        self._stopping.set()
        for line in self._copy_of:
            line.wanted.set()
            if line.opening is not None:
                line.opening.cancel()
        open_lines = [(line, line.socket) for line in self._copy_of if line.socket is not None]
        for line, _ in open_lines:
            line.cut = line.cut or Cut("recorder", "the recorder is stopping")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S + 0.1):
                await asyncio.gather(*(socket.close() for _, socket in open_lines))
        except TimeoutError:
            log.warning("the venue did not close in time; its connections are cut")
        for _, socket in open_lines:
            # From here nothing more comes in; the readers drain what has.
            socket.transport.abort()

    def pause(self, why: str) -> None:
        """
        Cut every connection, and make none, until `resume`: what cannot be kept must not seem to have been heard.
        """
        self._paused = True
        for line in self._copy_of:
            if line.opening is not None:
                line.opening.cancel()
            if line.socket is not None:
                self._abort(line, line.socket, "recorder", why)

    def resume(self) -> None:
        """
        Connect again, all at once.
        """
        self._paused = False
        for line in self._copy_of:
            if line.session.streams:
                line.wanted.set()

    def standing(self) -> list[tuple[int, int, list[Fact]]]:
        """
        Facts that put a new run's journal in the picture: (connection, attempt, [connected, requested …]).
        """
        return [
            (line.index, line.attempt, [line.connected, *(Requested(s) for s in line.session.live())])
            for line in self._copy_of
            if line.socket is not None and line.connected is not None
        ]

    def now_recorded(self) -> tuple[set[Stream], int, str]:
        """
        What is recorded now: the streams that are, on any connection; open connections; why one is not open.
        """
        lines = list(self._copy_of)
        recorded = {stream for line in lines for stream in line.session.recorded()}
        shut = [f"connection {line.index}: {line.trouble}" for line in lines if line.trouble and self._needed(line)]
        return recorded, sum(line.socket is not None for line in lines), shut[0] if shut else ""

    def carry(self, streams: list[Stream]) -> None:
        """
        Record these from now on, sorted. What was and is recorded goes on untouched, in each copy alike.
        """
        if self._stopping.is_set():
            return
        self._placement = replaced(self._placement, streams, limit=self._limit)
        for number, copy in enumerate(self._copies):
            while len(copy.lines) < len(self._placement):
                line = self._line(number, [])
                copy.lines.append(line)
                self._copy_of[line] = copy
                self._begin(line)
            self._journal(copy.carry(self._placement))
            self._close_idle(copy)

    def _journal(self, told: list[Told]) -> None:
        for line, fact in told:
            self._tape().fact(self._in_words(fact), connection=line.index, attempt=line.attempt)

    def _close_idle(self, copy: Copy) -> None:
        for line in copy.everything():
            if line.socket is not None and not line.session.streams:
                self._abort(line, line.socket, "recorder", IDLE)

    # ---- one connection

    def _needed(self, line: Line) -> bool:
        return bool(line.session.streams) and not self._paused and not self._stopping.is_set()

    async def _hold(self, line: Line) -> None:
        while not self._stopping.is_set():
            await line.wanted.wait()
            if line.apart_s:
                await _happens(self._stopping, line.apart_s)
            while self._needed(line):
                line.attempt += 1
                line.cut = None
                delay_s = await self._attempt(line)
                if delay_s and self._needed(line):
                    await _happens(self._stopping, delay_s)
            # Nothing is awaited between the last look at what is needed and this, so no wish is lost.
            line.wanted.clear()

    async def _attempt(self, line: Line) -> float:
        """
        One connection from connect to end. Returns the seconds to wait before the next.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        line.opening = asyncio.create_task(open_wire(line.url, self._client, self._ssl), name=f"open-{line.index}")
        try:
            socket = await line.opening
        except asyncio.CancelledError:
            if self._stopping.is_set() or self._paused:
                return 0
            raise
        except MemoryError:
            raise
        except Exception as error:  # whatever it is, this connection is tried again, the others go on
            cause, words = explain(error, self._client.open_timeout_s)
            if cause == "recorder":
                log.exception("connection %d: %s", line.index, words)
            delay_s = line.session.ended(monotonic_ns(), opened=False)
            # A run of failures is one event, told when it ends; whoever just started us wants to know now.
            log.warning("connection %d: attempt %d: %s; again in %.1f s", line.index, line.attempt, words, delay_s)
            line.trouble = f"attempt {line.attempt}: {words}"
            fact = ConnectFailed(line.shown, line.attempt, words, cause, round(delay_s, 3))
            self._tape().fact(fact, connection=line.index, attempt=line.attempt)
            return delay_s
        finally:
            line.opening = None
        if not self._needed(line):
            socket.transport.abort()
            return 0
        opened = loop.time()
        line.connected = Connected(line.shown, line.attempt, round((opened - started) * 1000, 3), compressed(socket))
        line.socket = socket
        line.trouble = ""
        self._tape().fact(line.connected, connection=line.index, attempt=line.attempt)
        try:
            await self._converse(line, socket)
        finally:
            line.socket = None
            socket.transport.abort()
        close = socket.protocol.close_rcvd
        code = close.code if close is not None else None
        if socket.fault:
            line.cut = line.cut or Cut("venue", socket.fault)
        cause, why = (line.cut.cause, line.cut.why) if line.cut is not None else blame(code, socket)
        self._tape().fact(
            Disconnected(
                url=line.shown,
                attempt=line.attempt,
                cause=cause,
                why=why,
                code=code,
                reason=printable(close.reason) if close is not None else None,
                lived_s=round(loop.time() - opened, 3),
            ),
            connection=line.index,
            attempt=line.attempt,
        )
        return line.session.ended(monotonic_ns(), opened=True, close_code=code)

    async def _converse(self, line: Line, socket: Wire) -> None:
        """
        From the handshake to the last frame. A fault of our own costs this connection, and no other.
        """
        first = line.session.opened(monotonic_ns())
        ticking = asyncio.create_task(self._tick(line, socket, first), name=f"tick-{line.index}")
        try:
            await self._read(line, socket)
        except MemoryError:
            # There is none for the other connections either: another process begins with all there is.
            raise
        except Exception as error:
            log.exception("connection %d: our own fault", line.index)
            line.cut = Cut("recorder", printable(f"our own fault: {type(error).__name__}: {error}"))
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])

    async def _read(self, line: Line, socket: Wire) -> None:
        """
        The hot loop. Ends when the socket does.
        """
        index, attempt = line.index, line.attempt
        heard, copy = line.session.heard, self._copy_of[line]
        flood = Flood(monotonic_ns())
        try:
            while True:
                payload = await socket.recv(decode=False)
                _, seen, stream = self._tape().frame(index, attempt, payload)
                now = monotonic_ns()
                if stream is None or len(payload) > LARGE_FRAME:
                    why = flood.weigh(now, len(payload), useful=stream is not None)
                    if why:
                        # What the library holds already is still taken; nothing more comes in.
                        self._abort(line, socket, "venue", why)
                actions = heard(now, seen, stream)
                if actions:
                    await self._perform(line, socket, actions)
                if copy.trying and stream is not None:
                    self._journal(copy.settle(line, stream))
                    self._close_idle(copy)
        except ConnectionClosed:
            return

    async def _tick(self, line: Line, socket: Wire, first: list[Action]) -> None:
        closing_since = None
        now_s = asyncio.get_running_loop().time
        try:
            await self._perform(line, socket, first)
            while True:
                await asyncio.sleep(PACING_TICK_S if line.session.pacing else TICK_S)
                if socket.state is not State.OPEN:
                    # The library waits for the peer to hang up, without limit, after a close frame or a broken one.
                    closing_since = closing_since or now_s()
                    if now_s() - closing_since >= CLOSE_TIMEOUT_S:
                        socket.transport.abort()
                    continue
                now = monotonic_ns()
                stay = len(self._copies) > 1 and must_stay(line, self._copies, now)
                await self._perform(line, socket, line.session.tick(now, stay=stay))
        except Exception as error:
            # Without us nobody would notice a dead peer.
            log.exception("connection %d: our own fault", line.index)
            line.cut = Cut("recorder", printable(f"our own fault: {type(error).__name__}: {error}"))
            socket.transport.abort()

    # ---- actions

    async def _perform(self, line: Line, socket: Wire, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    try:
                        async with asyncio.timeout(SEND_TIMEOUT_S):
                            await socket.send(action.text)
                    except ConnectionClosed:
                        return
                    except TimeoutError:
                        self._abort(line, socket, "venue", f"did not take a request within {SEND_TIMEOUT_S:g} s")
                        return
                case Note():
                    self._journal([(line, action.fact)])
                case Abort():
                    self._abort(line, socket, action.cause, action.why)
                    return
                case ToProbation():
                    self._journal(self._copy_of[line].to_probation(line, action.stream, action.why))
                case GoHome():
                    self._copy_of[line].go_home(action.stream)

    @staticmethod
    def _abort(line: Line, socket: Wire, cause: Cause, why: str) -> None:
        line.cut = line.cut or Cut(cause, why)
        socket.transport.abort()

    def _in_words(self, fact: Fact) -> Fact:
        """
        A fact of the session's, on the tape's clock and with the venue's words bounded.
        """
        match fact:
            case NotAcknowledged():
                asked = self._tape().clock.now() - (monotonic_ns() - fact.requested_ts)
                return msgspec.structs.replace(fact, requested_ts=asked)
            case Rejected():
                return msgspec.structs.replace(fact, text=printable(fact.text))
        return fact


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
