"""
The simulated venue on a socket: an asyncio shell that moves bytes between clients and the pure core.

It behaves as the real server where a client can see it: path exactly `/ws`, else HTTP 400; compression if the client
offers it; no pings; data frames for a client with too much waiting are dropped, all others queued.
"""

import asyncio
import contextlib
import http
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from websockets.asyncio.server import Server, ServerConnection, broadcast
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from recorder.clock import SystemClock
from recorder.errors import ConfigError
from recorder.records import SECOND_NS
from recorder.simulator.core import Venue
from recorder.simulator.generations import PublisherName, ServerName
from recorder.simulator.kinds import REPLAY_KINDS, AnyFault, NewMarket, kind_of
from recorder.simulator.ledger import Ledger, Line
from recorder.simulator.markets import DEFAULT_MARKETS, SimMarket
from recorder.simulator.messages import (
    Check,
    Close,
    Cut,
    Frame,
    Gone,
    Input,
    Log,
    Opened,
    Output,
    Pause,
    Send,
    Text,
    sent_line,
)
from recorder.simulator.replay import CapturedFrame, Due, Timeline, due_after, markets_of, read_capture
from recorder.simulator.rhythm import STEADY, Rhythm
from recorder.venue.protocol import BACKLOG_LIMIT_BYTES, PATH

_MAX_REQUEST_BYTES = 1 << 20
_ROOM_STEP_S = 0.002
_STUCK_S = 30.0
"""A client that takes nothing for so long holds up a history no more."""
_STOP_TIMEOUT_S = 2.0
"""For clients that do not answer the close frame when the simulator stops."""


class SimulatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """
    What `simulate` can be asked for.
    """

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    markets: tuple[SimMarket, ...] = DEFAULT_MARKETS
    seed: int = 1
    tick_ms: int = 400
    faults: tuple[AnyFault, ...] = ()
    ledger: Path | None = None
    """Appended to."""
    for_s: float | None = None
    """Stop after this long; None: when told to."""
    priority_fees: bool = False
    compression: bool = True
    replay: Path | None = None
    """Send these captured frames to each client after its first subscribe, in place of simulated ones."""
    speed: float = 1.0
    """Of the replay; 0: as fast as the client reads."""
    timeline: Timeline | None = None
    """Send this history, by one clock for all clients, which starts `lead_s` after the first subscribe."""
    lead_s: float = 2.0
    """For the clients to make all their subscriptions before the history begins."""
    verbatim: bool = False
    """Replay all captured frames from connect on, with no acknowledgements or heartbeats of our own."""
    once: bool = False
    """Close a client with 1001 after the replay's last frame, and stop when no client is left."""
    server: ServerName = "2026-05"
    """Which version of the server to be."""
    publisher: PublisherName = "typescript"
    """Of the books; `rust` with `velocity` only."""
    two_feeds: bool = False
    """Books come from two publishers, the second 150 ms and 3 slots behind."""
    crash: bool | None = None
    """Whether a `channel` that is no string cuts everybody; None: as that version of the server."""
    initial_delay_ms: int = 2
    """From the acknowledgement to the initial book, for servers that send one. Live books may come before it."""
    close_timeout_s: float = 30.0
    """For a client that does not answer a close frame; then its socket is destroyed, and it sees 1006."""
    check_s: float = 10.0
    """Between checks for clients with more than 300,000 bytes waiting, which are closed with 1008."""
    rhythm: Rhythm = STEADY
    """How regularly the publisher ticks."""


async def serve(
    options: SimulatorOptions,
    ready: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """
    Run until `stop` is set, SIGTERM or SIGINT comes, or the options say it is over.

    Args:
        options: what to simulate.
        ready: called once with the URL, when clients can connect.
        stop: ends the server when set; without it the two signals do.

    Raises:
        ConfigError: a fault names a market that is not simulated.
        ForeignFile: the file to replay is no capture.
        OSError: the address cannot be bound, or the ledger not be written.
    """
    _check_options(options)
    frames = read_capture(options.replay, verbatim=options.verbatim) if options.replay is not None else None
    await _Shell(options, frames, stop or asyncio.Event()).run(ready, handle_signals=stop is None)


def _check_options(options: SimulatorOptions) -> None:
    if options.publisher == "rust" and options.server != "velocity":
        raise ConfigError(
            file="simulate",
            key="publisher",
            problem=f"rust with server {options.server}",
            allowed="it exists for velocity only",
        )
    listed = {fault.market.upper() for fault in options.faults if isinstance(fault, NewMarket)}
    symbols = [market.symbol for market in options.markets]
    known = {"*", "PERP:*", "SPOT:*", *listed, *(symbol.upper() for symbol in symbols)}
    known |= {f"{market.market_type}:{market.symbol}".upper() for market in options.markets}
    for fault in options.faults:
        if options.replay is not None and not isinstance(fault, REPLAY_KINDS):
            raise ConfigError(
                file="simulate",
                key=kind_of(fault),
                problem="a replay sends what was captured",
                allowed=f"it can have {', '.join(str(kind.__struct_config__.tag) for kind in REPLAY_KINDS)}",
            )
        if isinstance(fault, NewMarket):
            continue
        for name in getattr(fault, "market", "*").split(","):
            if name.strip().upper() not in known:
                raise ConfigError(
                    file="simulate",
                    key=kind_of(fault),
                    problem=f"market {name} is not simulated",
                    allowed=f"give one of {', '.join(symbols[:12])}, or *",
                )


class _Shell:
    def __init__(self, options: SimulatorOptions, frames: list[CapturedFrame] | None, stop: asyncio.Event) -> None:
        self._options, self._frames, self._stop = options, frames, stop
        self._clock = SystemClock()
        markets = list(options.markets) if frames is None else [*markets_of(frames), *options.markets]
        if options.timeline is not None:
            markets = list(options.timeline.markets)
        self._venue = Venue(
            markets,
            start=self._clock.now(),
            seed=options.seed,
            tick_ms=options.tick_ms,
            faults=options.faults,
            quiet=frames is not None or options.timeline is not None,
            priority_fees=options.priority_fees,
            server=options.server,
            publisher=options.publisher,
            two_feeds=options.two_feeds,
            crash=options.crash,
            initial_delay_ms=options.initial_delay_ms,
            check_s=options.check_s,
            rhythm=options.rhythm,
        )
        self._ledger = Ledger(options.ledger) if options.ledger is not None else None
        self._connections: dict[int, ServerConnection] = {}
        self._replaying: set[int] = set()
        self._last_client = 0
        self._playing = False
        self._moved = asyncio.Event()
        """Something may have become due earlier than the timer thinks."""
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self, ready: Callable[[str], None] | None, *, handle_signals: bool) -> None:
        loop = asyncio.get_running_loop()
        self._log(Line(self._clock.now(), "started"))
        try:
            if handle_signals:
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(number, self._stop.set)
            async with (
                serve_websocket(
                    self._handle,
                    self._options.host,
                    self._options.port,
                    process_request=self._refused,
                    compression="deflate" if self._options.compression else None,
                    ping_interval=None,
                    close_timeout=self._options.close_timeout_s,
                    max_size=_MAX_REQUEST_BYTES,
                ) as server,
                asyncio.TaskGroup() as tasks,
            ):
                self._tasks = tasks
                beating = tasks.create_task(self._beat())
                if ready is not None:
                    ready(_url(server, self._options.host))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._options.for_s):
                        await self._stop.wait()
                beating.cancel()
                self._stop.set()
                self._perform(self._venue.finish(self._clock.now()))
                self._tasks = None  # those under way are awaited, no new ones
                loop.call_later(_STOP_TIMEOUT_S, self._abort_all)
        finally:
            if handle_signals:
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.remove_signal_handler(number)
            self._log(Line(self._clock.now(), "stopped"))
            if self._ledger is not None:
                self._ledger.close()

    def _refused(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path.partition("?")[0] != PATH:
            return connection.respond(http.HTTPStatus.BAD_REQUEST, "Bad Request")
        if self._venue.is_down:
            # What the load balancer in front of the real one says.
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "Service Unavailable")
        return None

    async def _beat(self) -> None:
        """
        Step the core whenever it is due.
        """
        while not self._stop.is_set():
            now = self._clock.now()
            wait_s = min((self._venue.next_due() - now) / SECOND_NS, 1.0)
            if wait_s > 0:
                self._moved.clear()
                # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._moved.wait()
            else:
                self._step()
                await asyncio.sleep(0)  # between two late ticks the sockets have their turn
            if self._ledger is not None:
                self._ledger.flush()

    def _step(self, inputs: Iterable[Input] = ()) -> None:
        self._perform(self._venue.step(self._clock.now(), inputs))
        self._moved.set()

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send():
                    self._send(output)
                case Log(line):
                    self._log(line)
                case Cut(client) if client in self._connections:
                    self._connections[client].transport.abort()
                case Pause(client) if client in self._connections:
                    self._connections[client].transport.pause_reading()
                case Check(client) if client in self._connections:
                    if self._connections[client].transport.get_write_buffer_size() > BACKLOG_LIMIT_BYTES:
                        self._perform(self._venue.overflowed(self._clock.now(), client))
                case Close(client, code, reason) if self._tasks is not None and client in self._connections:
                    connection = self._connections[client]
                    self._tasks.create_task(connection.close(code, reason))
                    # The library first waits, without limit, until what is queued before the close frame is written.
                    asyncio.get_running_loop().call_later(self._options.close_timeout_s, connection.transport.abort)

    def _abort_all(self) -> None:
        for connection in self._connections.values():
            connection.transport.abort()

    def _send(self, send: Send) -> None:
        connection, frame = self._connections[send.client], send.frame
        if self._options.verbatim and self._frames is not None and frame.what in {"ack", "error", "heartbeat"}:
            return
        is_open = connection.state is State.OPEN
        # Data has a limit; acknowledgements and heartbeats have none. A replay must arrive whole and waits by itself.
        full = send.limited and connection.transport.get_write_buffer_size() >= BACKLOG_LIMIT_BYTES
        if is_open and not full:
            _write(connection, frame)
        if is_open or send.seq is not None:
            self._log(sent_line(send, self._clock.now(), dropped=full or not is_open))

    def _log(self, line: Line) -> None:
        if self._ledger is not None:
            self._ledger.append(line)

    async def _handle(self, connection: ServerConnection) -> None:
        self._last_client += 1
        client = self._last_client
        self._connections[client] = connection
        self._step([Opened(client)])
        if self._options.verbatim:
            self._start_replay(client)
        try:
            async for message in connection:
                text = message if isinstance(message, str) else message.decode("utf-8", "replace")
                self._step([Text(client, text)])
                if self._venue.has_subscribed(client):
                    self._start_replay(client)
        except ConnectionClosed:
            pass
        finally:
            self._step([Gone(client, connection.close_code)])
            del self._connections[client]
            if self._options.once and not self._connections and (self._playing or client in self._replaying):
                self._stop.set()

    async def _play(self, timeline: Timeline) -> None:
        """
        Send a history: each frame when it is due, to whoever is subscribed by then.
        """
        loop = asyncio.get_running_loop()
        began = loop.time() + self._options.lead_s
        batches = timeline.batches()

        def following() -> list[Due] | None:
            return next(batches, None)

        # The next batch is read while this one is sent: reading must not make frames late.
        reading = asyncio.create_task(asyncio.to_thread(following))
        try:
            while (batch := await reading) is not None and not self._stop.is_set():
                reading = asyncio.create_task(asyncio.to_thread(following))
                for number, due in enumerate(batch):
                    speed = self._options.speed
                    at = began + (due.offset_ns / SECOND_NS / speed if speed > 0 else 0.0)
                    if at > loop.time() and await _happens(self._stop, at - loop.time()):
                        return
                    await self._room(due.channel)
                    self._perform(self._venue.broadcast(self._clock.now(), due.payload, due.channel))
                    if number % 50 == 0:
                        await asyncio.sleep(0)
        finally:
            reading.cancel()
        if self._options.once:
            for client in list(self._connections):
                self._perform(self._venue.close(self._clock.now(), client, 1001))

    async def _room(self, channel: str | None) -> None:
        """
        Wait for clients that are behind, so that each gets everything; one that takes nothing for long is cut.
        """
        waited = 0.0
        while behind := [
            client
            for client in self._venue.listeners(channel)
            if self._connections[client].transport.get_write_buffer_size() >= BACKLOG_LIMIT_BYTES // 2
        ]:
            if await _happens(self._stop, _ROOM_STEP_S):
                return
            waited += _ROOM_STEP_S
            if waited > _STUCK_S:
                for client in behind:
                    self._connections[client].transport.abort()
                await asyncio.sleep(0)

    def _start_replay(self, client: int) -> None:
        timeline = self._options.timeline
        if timeline is not None and not self._playing and self._tasks is not None and not self._stop.is_set():
            self._playing = True
            self._tasks.create_task(self._play(timeline))
        if self._frames is None or client in self._replaying or self._tasks is None or self._stop.is_set():
            return
        self._replaying.add(client)
        self._tasks.create_task(self._replay(client, self._frames))

    async def _replay(self, client: int, frames: list[CapturedFrame]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for frame in frames:
            delay = began + due_after(frame, speed=self._options.speed) - loop.time()
            if delay > 0 and await _happens(self._stop, delay):
                return
            while (connection := self._connections.get(client)) is not None and (
                connection.transport.get_write_buffer_size() >= BACKLOG_LIMIT_BYTES
            ):
                if await _happens(self._stop, 0.002):
                    return
            outputs = self._venue.relay(self._clock.now(), client, channel=frame.channel, text=frame.text)
            if outputs is None:
                return
            self._perform(outputs)
            if self._options.speed <= 0:
                await asyncio.sleep(0)
        if self._options.once:
            self._perform(self._venue.close(self._clock.now(), client, 1001))


def _write(connection: ServerConnection, frame: Frame) -> None:
    """
    Queue without waiting, as the real server does.
    """
    if frame.raw is not None:
        connection.protocol.send_text(frame.raw)
        connection.send_data()
        return
    if frame.binary:
        broadcast([connection], frame.payload)
        return
    try:
        broadcast([connection], frame.text)
    except UnicodeEncodeError:
        # Bytes that are no UTF-8, in a text frame: a library that checks must be gone around.
        connection.protocol.send_text(frame.payload)
        connection.send_data()


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _url(server: Server, host: str) -> str:
    port = next(iter(server.sockets)).getsockname()[1]
    return f"ws://{f'[{host}]' if ':' in host else host}:{port}{PATH}"
