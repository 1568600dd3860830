"""
The thin asyncio shell around `session.py`: sockets, tasks, and nothing that judges.

One task per configured connection, for ever: connect, hand frames to the tape and the session, perform the session's
actions, reconnect. The reader only stamps and appends; the venue drops frames for a client that is slow.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

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
from recorder.records import Cause, Connected, ConnectFailed, Disconnected, Fact, Moved, Requested, Stream
from recorder.venue.protocol import CLOSE_POLICY, CLOSE_UNSUPPORTED

log = logging.getLogger("recorder.capture")

INFLATION_LIMIT = 64
"""Books compress 6 to 16 times; beyond this, past the first MiB, it is a bomb."""
INFLATION_FREE_BYTES = 1 << 20
CLOSE_TIMEOUT_S = 1.0
TICK_S = 0.2


class ClientSettings(msgspec.Struct, frozen=True):
    """
    Limits of the sockets; see `config.py` for what they mean.
    """

    open_timeout_s: float = 10.0
    max_frame_bytes: int = 4 << 20
    max_queue: int = 1024
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    compression: bool = True


class _CountingConnection(ClientConnection):
    """
    Knows how many bytes came over the wire, to set against what they inflate to.
    """

    wire_bytes = 0

    def data_received(self, data: bytes) -> None:
        self.wire_bytes += len(data)
        super().data_received(data)


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
        self.socket: _CountingConnection | None = None
        self.cut: _Cut | None = None
        self.connected: Connected | None = None


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
        self._stopping = False

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
        Close politely, so that what the sockets have already delivered is still read; at most about a second.
        """
        self._stopping = True
        self._probation_wanted.set()
        open_lines = [line for line in (*self._lines, self._probation) if line.socket is not None]
        for line in open_lines:
            line.cut = line.cut or _Cut("recorder", "the recorder is stopping")
        await asyncio.gather(*(line.socket.close() for line in open_lines if line.socket is not None))

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
        while not self._stopping:
            await self._probation_wanted.wait()
            if self._stopping:
                return
            await self._hold(self._probation)
            self._probation_wanted.clear()

    def _needed(self, line: _Line) -> bool:
        return not self._stopping and (line is not self._probation or bool(line.session.streams))

    async def _hold(self, line: _Line) -> None:
        while self._needed(line):
            line.attempt += 1
            line.cut = None
            delay_s = await self._attempt(line)
            if delay_s:
                await self._pause(delay_s)

    async def _pause(self, delay_s: float) -> None:
        deadline = asyncio.get_running_loop().time() + delay_s
        while not self._stopping and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, TICK_S))

    async def _attempt(self, line: _Line) -> float:
        """
        One connection from connect to end. Returns the seconds to wait before the next.
        """
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._client.open_timeout_s + 1):
                socket = await self._connect()
        except (OSError, InvalidHandshake, TimeoutError, EOFError) as error:
            tape = self._tape()
            cause, words = explain(error, self._client.open_timeout_s)
            delay_s = line.session.ended(tape.clock.now(), opened=False)
            if not self._stopping:
                fact = ConnectFailed(self._url, line.attempt, words, cause, round(delay_s, 3))
                tape.fact(fact, connection=line.index, attempt=line.attempt)
            return delay_s
        if self._stopping:
            socket.transport.abort()
            return 0
        took_ms = (asyncio.get_running_loop().time() - started) * 1000
        line.socket = socket
        line.connected = Connected(self._url, line.attempt, round(took_ms, 3), bool(socket.protocol.extensions))
        opened = self._tape().fact(line.connected, connection=line.index, attempt=line.attempt)
        try:
            await self._perform(line, line.session.opened(opened))
            ticking = asyncio.create_task(self._tick(line), name=f"tick-{line.index}")
            try:
                await self._read(line, socket)
            finally:
                ticking.cancel()
                await asyncio.gather(ticking, return_exceptions=True)
        finally:
            line.socket = None
            socket.transport.abort()
        tape = self._tape()
        ended = tape.clock.now()
        close = socket.protocol.close_rcvd
        code = close.code if close is not None else None
        cause, why = (line.cut.cause, line.cut.why) if line.cut is not None else blame(code, socket)
        tape.fact(
            Disconnected(
                url=self._url,
                attempt=line.attempt,
                cause=cause,
                why=why,
                code=code,
                reason=close.reason if close is not None else None,
                lived_s=round((ended - opened) / 1e9, 3),
            ),
            connection=line.index,
            attempt=line.attempt,
        )
        return line.session.ended(ended, opened=True, close_code=code)

    async def _connect(self) -> _CountingConnection:
        arguments: dict[str, Any] = {"ssl": self._ssl} if self._ssl is not None else {}
        socket = await connect(
            self._url,
            compression="deflate" if self._client.compression else None,
            proxy=None,  # the library would read proxy variables of whatever environment it runs in
            open_timeout=self._client.open_timeout_s,
            ping_interval=self._client.ping_interval_s,
            ping_timeout=self._client.ping_timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=self._client.max_frame_bytes,
            max_queue=self._client.max_queue,
            create_connection=_CountingConnection,
            **arguments,
        )
        assert isinstance(socket, _CountingConnection)
        return socket

    async def _read(self, line: _Line, socket: _CountingConnection) -> None:
        """
        The hot loop. Ends when the socket does.
        """
        index, attempt = line.index, line.attempt
        heard = line.session.heard
        inflated = 0
        try:
            while True:
                payload = await socket.recv(decode=False)
                now, seen, stream = self._tape().frame(index, attempt, payload)
                actions = heard(now, seen, stream)
                if actions:
                    await self._perform(line, actions)
                if self._promoting and stream is not None:
                    await self._settle(line, stream)
                inflated += len(payload)
                if inflated > INFLATION_FREE_BYTES and inflated > INFLATION_LIMIT * socket.wire_bytes:
                    line.cut = _Cut("venue", f"{inflated} bytes out of {socket.wire_bytes}: a compression bomb")
                    return
        except ConnectionClosed:
            return

    async def _tick(self, line: _Line) -> None:
        while True:
            await asyncio.sleep(0.02 if line.session.pacing else TICK_S)
            await self._perform(line, line.session.tick(self._tape().clock.now()))

    # ---- actions

    async def _perform(self, line: _Line, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    if line.socket is not None:
                        try:
                            await line.socket.send(action.text)
                        except ConnectionClosed:
                            return
                case Note():
                    self._tape().fact(action.fact, connection=line.index, attempt=line.attempt)
                case Abort():
                    line.cut = line.cut or _Cut(action.cause, action.why)
                    if line.socket is not None:
                        line.socket.transport.abort()
                    return
                case ToProbation():
                    await self._to_probation(line, action)
                case GoHome():
                    await self._go_home(action.stream)

    async def _to_probation(self, line: _Line, action: ToProbation) -> None:
        stream = action.stream
        if stream in self._promoting:
            # Its trial at home failed; probation still carries it.
            del self._promoting[stream]
        log.warning("%s moves to the probation connection: %s", stream.label(), action.why)
        fact = Moved(stream, self._probation.index, action.why)
        self._tape().fact(fact, connection=line.index, attempt=line.attempt)
        self._probation.session.add(stream, why=action.why)
        self._probation_wanted.set()
        await self._perform(line, line.session.remove(stream))

    async def _go_home(self, stream: Stream) -> None:
        """
        Subscribe at home as well; probation lets go only when home has brought a frame, so that nothing is missed.
        """
        home = self._home.get(stream)
        if home is None:
            return
        self._promoting[stream] = home
        self._lines[home].session.add(stream, why="it speaks again")

    async def _settle(self, line: _Line, stream: Stream) -> None:
        if self._promoting.get(stream) != line.index:
            return
        del self._promoting[stream]
        log.info("%s is back on connection %d", stream.label(), line.index)
        fact = Moved(stream, line.index, "it speaks again")
        self._tape().fact(fact, connection=line.index, attempt=line.attempt)
        await self._perform(self._probation, self._probation.session.remove(stream))
        if not self._probation.session.streams and self._probation.socket is not None:
            self._probation.cut = _Cut("recorder", "no stream is on probation any more")
            self._probation.socket.transport.abort()


def blame(code: int | None, socket: ClientConnection) -> tuple[Cause, str]:
    """
    Cause and words for a connection that the other side, or the network, ended.
    """
    if code == CLOSE_UNSUPPORTED:
        return "recorder", "the venue refused a request as malformed"
    if code == CLOSE_POLICY:
        return "recorder", "the venue says we read too slowly"
    if code is not None:
        return "venue", "the venue closed the connection"
    ours = socket.protocol.close_sent
    if ours is not None and ours.code not in {1000, 1001}:
        # The library failed the connection: a ping without pong, a frame too large, a broken frame.
        return ("network" if ours.code == 1011 else "venue"), f"we gave up on it: {ours.code} {ours.reason}"
    return "network", "the connection broke without a close frame"


def explain(error: BaseException, open_timeout_s: float) -> tuple[Cause, str]:
    """
    Cause and one line of words for a connect that failed.
    """
    match error:
        case TimeoutError():
            return "network", f"no websocket within {open_timeout_s:g} s"
        case ssl.SSLCertVerificationError():
            return "venue", f"the certificate does not hold: {error.verify_message}"
        case ssl.SSLError():
            return "network", f"TLS failed: {error.reason or error}"
        case InvalidStatus():
            return "venue", f"HTTP {error.response.status_code} instead of a websocket"
        case InvalidHandshake():
            return "venue", f"not a websocket handshake: {error}"
        case OSError():
            return "network", f"{error.strerror or error}"
    return "network", "the connection ended during the handshake"
