"""
The thin asyncio shell around `session.py`: sockets, tasks, and nothing that judges.

One task per configured connection, for ever: connect, hand frames to the tape and the session, perform the session's
actions, reconnect. The reader only stamps and appends; the venue drops frames for a client that is slow.

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

from recorder.capture.session import (
    PROMOTE_AFTER_S,
    PROMOTE_MAX_S,
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
    Moved,
    NotAcknowledged,
    Rejected,
    Requested,
    Stream,
)

log = logging.getLogger("recorder.capture")

SEND_TIMEOUT_S = 5.0
"""For the socket to take a request; a peer that reads nothing would hold us for ever."""
TICK_S = 0.2
PACING_TICK_S = 0.02


class _Cut(msgspec.Struct):
    """
    Why we ended a connection ourselves.
    """

    cause: Cause
    why: str


class _Line:
    """
    One configured connection: its session, and its socket while there is one.
    """

    def __init__(self, index: int, session: Session) -> None:
        self.index = index
        self.session = session
        self.attempt = 0
        self.opening: asyncio.Task[Wire] | None = None
        self.socket: Wire | None = None
        self.cut: _Cut | None = None
        self.connected: Connected | None = None
        self.outbox: list[Action] = []
        """Put there by another line's task, performed by our own: no line waits for another's socket."""


class Capture:
    """
    All connections of a run.
    """

    def __init__(
        self,
        tape: Callable[[], Tape],
        *,
        url: str,
        connections: list[list[Stream]],
        session: SessionSettings,
        client: ClientSettings,
        random: Random,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """
        Args:
            tape: the present run's tape; asked each time, since a clock step begins a new run.
            url: the venue's.
            connections: streams of each connection; the one for probation comes after them.
            session: limits of the conversation.
            client: limits of the sockets.
            random: for jitter.
            ssl_context: for tests with a CA of their own; the default verifies against the system's.
        """
        self._tape = tape
        self._url = url
        self._client = client
        self._ssl = ssl_context
        self._lines = [_Line(i, Session(streams, session, random)) for i, streams in enumerate(connections)]
        self._home = {stream: i for i, streams in enumerate(connections) for stream in streams}
        self._probation = _Line(len(connections), Session([], session, random, probation=True))
        self._probation_wanted = asyncio.Event()
        self._promoting: dict[Stream, int] = {}
        self._promote_after_s: dict[Stream, float] = {}
        """Of streams that were on probation before: each return makes them wait longer."""
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """
        Record until cancelled, or until `stop` has closed the sockets.
        """
        async with asyncio.TaskGroup() as tasks:
            for line in self._lines:
                tasks.create_task(self._hold(line), name=f"connection-{line.index}")
            tasks.create_task(self._hold_probation(), name="probation")

    async def stop(self) -> None:
        """
        Close politely; at most about a second. `run` returns when all that the sockets had delivered is on the tape.
        """
        self._stopping.set()
        self._probation_wanted.set()
        for line in (*self._lines, self._probation):
            if line.opening is not None:
                line.opening.cancel()
        open_lines = [(line, line.socket) for line in (*self._lines, self._probation) if line.socket is not None]
        for line, _ in open_lines:
            line.cut = line.cut or _Cut("recorder", "the recorder is stopping")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S + 0.1):
                await asyncio.gather(*(socket.close() for _, socket in open_lines))
        except TimeoutError:
            log.warning("the venue did not close in time; its connections are cut")
        for _, socket in open_lines:
            # From here nothing more comes in; the readers drain what has.
            socket.transport.abort()

    def standing(self) -> list[tuple[int, int, list[Fact]]]:
        """
        Facts that put a new run's journal in the picture: (connection, attempt, [connected, requested …]).
        """
        return [
            (line.index, line.attempt, [line.connected, *(Requested(s) for s in line.session.live())])
            for line in (*self._lines, self._probation)
            if line.socket is not None and line.connected is not None
        ]

    # ---- one connection

    async def _hold_probation(self) -> None:
        while not self._stopping.is_set():
            await self._probation_wanted.wait()
            await self._hold(self._probation)
            # Nothing is awaited between the last look at what is needed and this, so no wish is lost.
            self._probation_wanted.clear()

    def _needed(self, line: _Line) -> bool:
        return not self._stopping.is_set() and (line is not self._probation or bool(line.session.streams))

    async def _hold(self, line: _Line) -> None:
        while self._needed(line):
            line.attempt += 1
            line.cut = None
            delay_s = await self._attempt(line)
            if delay_s and not self._stopping.is_set():
                await _happens(self._stopping, delay_s)

    async def _attempt(self, line: _Line) -> float:
        """
        One connection from connect to end. Returns the seconds to wait before the next.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        line.opening = asyncio.create_task(open_wire(self._url, self._client, self._ssl), name=f"open-{line.index}")
        try:
            socket = await line.opening
        except asyncio.CancelledError:
            if self._stopping.is_set():
                return 0
            raise
        except Exception as error:  # whatever it is, this connection is tried again, the others go on
            cause, words = explain(error, self._client.open_timeout_s)
            if cause == "recorder":
                log.exception("connection %d: %s", line.index, words)
            delay_s = line.session.ended(monotonic_ns(), opened=False)
            # A run of failures is one event, told when it ends; whoever just started us wants to know now.
            log.warning("connection %d: attempt %d: %s; again in %.1f s", line.index, line.attempt, words, delay_s)
            fact = ConnectFailed(self._url, line.attempt, words, cause, round(delay_s, 3))
            self._tape().fact(fact, connection=line.index, attempt=line.attempt)
            return delay_s
        finally:
            line.opening = None
        if self._stopping.is_set():
            socket.transport.abort()
            return 0
        opened = loop.time()
        line.connected = Connected(self._url, line.attempt, round((opened - started) * 1000, 3), compressed(socket))
        line.socket = socket
        self._tape().fact(line.connected, connection=line.index, attempt=line.attempt)
        try:
            await self._converse(line, socket)
        finally:
            line.socket = None
            line.outbox.clear()
            socket.transport.abort()
        close = socket.protocol.close_rcvd
        code = close.code if close is not None else None
        if socket.fault:
            line.cut = line.cut or _Cut("venue", socket.fault)
        cause, why = (line.cut.cause, line.cut.why) if line.cut is not None else blame(code, socket)
        self._tape().fact(
            Disconnected(
                url=self._url,
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

    async def _converse(self, line: _Line, socket: Wire) -> None:
        """
        From the handshake to the last frame. A fault of our own costs this connection, and no other.
        """
        first = line.session.opened(monotonic_ns())
        ticking = asyncio.create_task(self._tick(line, socket, first), name=f"tick-{line.index}")
        try:
            await self._read(line, socket)
        except Exception as error:
            log.exception("connection %d: our own fault", line.index)
            line.cut = _Cut("recorder", printable(f"our own fault: {type(error).__name__}: {error}"))
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])

    async def _read(self, line: _Line, socket: Wire) -> None:
        """
        The hot loop. Ends when the socket does.
        """
        index, attempt = line.index, line.attempt
        heard = line.session.heard
        try:
            while True:
                payload = await socket.recv(decode=False)
                _, seen, stream = self._tape().frame(index, attempt, payload)
                actions = heard(monotonic_ns(), seen, stream)
                if actions:
                    await self._perform(line, socket, actions)
                if self._promoting and stream is not None:
                    self._settle(line, stream)
        except ConnectionClosed:
            return

    async def _tick(self, line: _Line, socket: Wire, first: list[Action]) -> None:
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
                actions, line.outbox = line.outbox, []
                await self._perform(line, socket, actions + line.session.tick(monotonic_ns()))
        except Exception as error:
            # Without us nobody would notice a dead peer.
            log.exception("connection %d: our own fault", line.index)
            line.cut = _Cut("recorder", printable(f"our own fault: {type(error).__name__}: {error}"))
            socket.transport.abort()

    # ---- actions

    async def _perform(self, line: _Line, socket: Wire, actions: list[Action]) -> None:
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
                    self._tape().fact(self._told(action.fact), connection=line.index, attempt=line.attempt)
                case Abort():
                    self._abort(line, socket, action.cause, action.why)
                    return
                case ToProbation():
                    self._to_probation(line, action)
                case GoHome():
                    self._go_home(action.stream)

    @staticmethod
    def _abort(line: _Line, socket: Wire, cause: Cause, why: str) -> None:
        line.cut = line.cut or _Cut(cause, why)
        socket.transport.abort()

    def _told(self, fact: Fact) -> Fact:
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

    def _to_probation(self, line: _Line, action: ToProbation) -> None:
        stream = action.stream
        # If it is on trial at home, that has failed; probation still carries it.
        self._promoting.pop(stream, None)
        log.warning("%s moves to the probation connection: %s", stream.label(), action.why)
        fact = Moved(stream, self._probation.index, action.why)
        self._tape().fact(fact, connection=line.index, attempt=line.attempt)
        wait_s = self._promote_after_s.get(stream, PROMOTE_AFTER_S)
        self._promote_after_s[stream] = min(wait_s * 4, PROMOTE_MAX_S)
        self._probation.session.add(stream, why=action.why, promote_after_s=wait_s)
        self._probation_wanted.set()
        line.outbox += line.session.remove(stream)

    def _go_home(self, stream: Stream) -> None:
        """
        Subscribe at home as well; probation lets go only when home has brought a frame, so that nothing is missed.
        """
        home = self._home.get(stream)
        if home is None:
            return
        self._promoting[stream] = home
        self._lines[home].session.add(stream, why="it speaks again")

    def _settle(self, line: _Line, stream: Stream) -> None:
        if self._promoting.get(stream) != line.index:
            return
        del self._promoting[stream]
        log.info("%s is back on connection %d", stream.label(), line.index)
        fact = Moved(stream, line.index, "it speaks again")
        self._tape().fact(fact, connection=line.index, attempt=line.attempt)
        probation = self._probation
        leaving = probation.session.remove(stream)
        if probation.socket is None:
            return
        probation.outbox += leaving
        if not probation.session.streams:
            self._abort(probation, probation.socket, "recorder", "no stream is on probation any more")


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
