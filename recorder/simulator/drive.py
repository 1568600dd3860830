"""
The venue in virtual time: several clients at once, a network between, no socket, no sleep, hours in seconds.

`Drive` steps the venue and yields what each connection meets, in the order of its arrival there, while the consumer
answers in between:

    drive = Drive(Venue(markets, start=start), start=start, ledger=lines.append)
    drive.connect(0)
    for event in drive.until(start + 3600 * SECOND_NS):
        match event:
            case Joined(connection):
                drive.send(connection, '{"type":"subscribe",…}')
            case Heard(connection, attempt, recv_ts, payload):
                ...
            case Lost(connection) | Refused(connection):
                drive.connect(connection)

A consumer with timers of its own drives from timer to timer: `until` may be called again and again. `listen` is the
whole of it for a client that only subscribes and reconnects.

Faults of the venue are given to `Venue`, those of the way to it are a `Link`. Every line of the ledger goes to
`ledger`; a frame that was sent and lost on the way has a line `lost` as well, so that for each client the data frames
heard are exactly those sent and not lost. `finish` ends all and delivers what is under way.
"""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from recorder.records import SECOND_NS
from recorder.simulator.core import CLOSE_TIMEOUT_NS, Venue
from recorder.simulator.ledger import Line
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
    Send,
    Text,
    sent_line,
)
from recorder.venue.protocol import BACKLOG_LIMIT_BYTES, HEARTBEAT_LIMIT_S

_MS = 1_000_000
_WIRE_NS = 1_000
"""Between two frames on one connection, at least."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """
    The way between one connection and the venue, in both directions. Times in seconds from the start of the drive.
    """

    latency_ms: float = 5.0
    jitter_ms: float = 0.0
    """On top, evenly up to this; never changes the order."""
    cuts_s: tuple[float, ...] = ()
    """The transport breaks: both sides notice, what was under way is lost."""
    stalls_s: tuple[tuple[float, float], ...] = ()
    """Nothing arrives from the first to the second; then all that waited does, in one burst."""
    dead_s: tuple[tuple[float, float], ...] = ()
    """A connection that is up at the first is dead from then on, and neither side is told; the server notices at the
    second."""
    buffer_bytes: int = 4_000_000
    """What kernels take before anything waits in the server."""


class Joined(msgspec.Struct, frozen=True, gc=False):
    """
    The handshake succeeded.
    """

    connection: int
    attempt: int
    """Counts the connects of this connection from 1."""
    recv_ts: int


class Refused(msgspec.Struct, frozen=True, gc=False):
    """
    The handshake failed: the server is down.
    """

    connection: int
    attempt: int
    recv_ts: int


class Heard(msgspec.Struct, frozen=True, gc=False):
    """
    A frame arrived.
    """

    connection: int
    attempt: int
    recv_ts: int
    payload: bytes
    binary: bool = False


class Lost(msgspec.Struct, frozen=True, gc=False):
    """
    The connection ended, and the client noticed. `code` is that of the close frame; None: there was none (1006).
    """

    connection: int
    attempt: int
    recv_ts: int
    code: int | None = None


Event = Joined | Refused | Heard | Lost


class _Path:
    """
    One attempt of one connection.
    """

    def __init__(self, connection: int, attempt: int, client: int, link: Link) -> None:
        self.connection, self.attempt, self.client, self.link = connection, attempt, client, link
        self.last_recv = 0
        self.under_way = 0
        """Bytes."""
        self.left = False
        """The client is not there any more."""
        self.dead = False

    @property
    def waiting(self) -> int:
        """
        Bytes in the server, beyond what the kernels took.
        """
        return max(0, self.under_way - self.link.buffer_bytes)


class _Arrival(msgspec.Struct, frozen=True, gc=False):
    """
    Something under way to a client.
    """

    path: _Path
    event: Event
    send: Send | None = None


class _Break(msgspec.Struct, frozen=True):
    """
    What happens to the link of a connection, and nobody caused.
    """

    connection: int
    what: str
    """`cut`, `dead` or `noticed`."""


class Drive:
    """
    A venue and its clients in virtual time.

    Args of the constructor:
        venue: not stepped yet.
        start: its start; `now` begins there.
        links: by connection; the others have a `Link()`.
        seed: of the jitter.
        ledger: called with each line.
    """

    def __init__(
        self,
        venue: Venue,
        *,
        start: int,
        links: Mapping[int, Link] | None = None,
        seed: int = 1,
        ledger: Callable[[Line], None] | None = None,
    ) -> None:
        self.now = start
        """Never steps back. Requests are sent at this time."""
        self._venue = venue
        self._links = dict(links or {})
        self._random = random.Random(f"drive {seed}")
        self._ledger = ledger
        self._stalls = {
            connection: [(start + round(a * SECOND_NS), start + round(b * SECOND_NS)) for a, b in link.stalls_s]
            for connection, link in self._links.items()
        }
        self._paths: dict[int, _Path] = {}
        """By connection: its last attempt."""
        self._clients: dict[int, _Path] = {}
        """By the venue's number."""
        self._attempts: dict[int, int] = {}
        self._count = 0
        """Of what is under way: keeps the order of what arrives at one instant."""
        self._last_client = 0
        self._to_venue: list[tuple[int, int, _Path, Input]] = []
        self._to_clients: list[tuple[int, int, _Arrival | _Break]] = []
        self._encoded: tuple[Frame | None, bytes] = (None, b"")
        for connection, link in self._links.items():
            breaks = [(at, "cut") for at in link.cuts_s]
            breaks += [(begins, "dead") for begins, _ in link.dead_s] + [(ends, "noticed") for _, ends in link.dead_s]
            for at, what in breaks:
                self._count += 1
                entry = (start + round(at * SECOND_NS), self._count, _Break(connection, what))
                heapq.heappush(self._to_clients, entry)

    # ---- what the consumer does

    def connect(self, connection: int) -> None:
        """
        Begin a handshake; `Joined` or `Refused` follows. What this connection had before is left.
        """
        self.leave(connection)
        attempt = self._attempts[connection] = self._attempts.get(connection, 0) + 1
        self._last_client += 1
        path = _Path(connection, attempt, self._last_client, self._links.get(connection, Link()))
        self._paths[connection] = self._clients[path.client] = path
        self._ask(path, Opened(path.client))

    def send(self, connection: int, text: str) -> None:
        """
        Send a message; lost if the connection is not up.
        """
        path = self._paths.get(connection)
        if path is not None and not path.left and not path.dead:
            self._ask(path, Text(path.client, text))

    def leave(self, connection: int, code: int | None = None) -> None:
        """
        End a connection from this side, at once: nothing more is heard of it.
        """
        path = self._paths.pop(connection, None)
        if path is not None and not path.left:
            path.left = True
            if not path.dead:
                self._ask(path, Gone(path.client, code))

    def until(self, ts: int) -> Iterator[Event]:
        """
        Let time pass up to and with `ts`; yields what arrives meanwhile.
        """
        while True:
            due = self._venue.next_due()
            if self._to_venue and self._to_venue[0][0] < due:
                due = self._to_venue[0][0]
            if self._to_clients and self._to_clients[0][0] < due:
                if self._to_clients[0][0] > ts:
                    break
                at, _, arrival = heapq.heappop(self._to_clients)
                self.now = max(self.now, at)
                event = self._break(arrival) if isinstance(arrival, _Break) else self._arrived(arrival)
                if event is not None:
                    yield event
                continue
            if due > ts:
                break
            self._step(due)
        self.now = max(self.now, ts)

    def finish(self) -> Iterator[Event]:
        """
        Stop the venue and yield what is still under way.
        """
        self._perform(self.now, self._venue.finish(self.now))
        while self._to_clients:
            at, _, arrival = heapq.heappop(self._to_clients)
            if isinstance(arrival, _Arrival):
                self.now = max(self.now, at)
                event = self._arrived(arrival)
                if event is not None:
                    yield event

    # ---- time

    def _ask(self, path: _Path, given: Input) -> None:
        self._count += 1
        entry = (self.now + round(path.link.latency_ms * _MS), self._count, path, given)
        heapq.heappush(self._to_venue, entry)

    def _step(self, now: int) -> None:
        inputs: list[Input] = []
        while self._to_venue and self._to_venue[0][0] <= now:
            _, _, path, given = heapq.heappop(self._to_venue)
            if path.dead and not isinstance(given, Gone):
                continue
            if isinstance(given, Opened):
                # Handshakes are answered one by one: whether the server is up may change with what came before.
                self._perform(now, self._venue.step(now, inputs))
                inputs = []
                if self._venue.is_down:
                    self._bring(now, path, Refused(path.connection, path.attempt, 0))
                    continue
                self._bring(now, path, Joined(path.connection, path.attempt, 0))
            inputs.append(given)
        self._perform(now, self._venue.step(now, inputs))

    def _perform(self, now: int, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case Send():
                    self._sent(now, output)
                case Log(line):
                    self._log(line)
                case Check(client):
                    if self._clients[client].waiting > BACKLOG_LIMIT_BYTES:
                        self._perform(now, self._venue.overflowed(now, client))
                case Close(client, code):
                    self._ended(now, self._clients[client], code)
                case Cut(client):
                    self._ended(now, self._clients[client], None)

    def _sent(self, now: int, send: Send) -> None:
        path = self._clients[send.client]
        full = send.limited and path.waiting >= BACKLOG_LIMIT_BYTES
        if self._ledger is not None:
            self._ledger(sent_line(send, now, dropped=full))
        if full:
            return
        frame, payload = self._encoded
        if frame is not send.frame:
            payload = send.frame.payload
            self._encoded = send.frame, payload
        event = Heard(path.connection, path.attempt, 0, payload, send.frame.binary)
        self._bring(now, path, event, send, len(payload))

    def _ended(self, now: int, path: _Path, code: int | None) -> None:
        # Behind a backlog a close frame waits; the server destroys the socket when it waits too long.
        stalled = path.waiting > 0 and path.last_recv - now > CLOSE_TIMEOUT_NS
        self._bring(now, path, Lost(path.connection, path.attempt, 0, None if stalled else code))

    def _bring(self, now: int, path: _Path, event: Event, send: Send | None = None, size: int = 0) -> None:
        link = path.link
        recv = now + round(link.latency_ms * _MS)
        if link.jitter_ms:
            recv += int(self._random.random() * link.jitter_ms * _MS)
        for begins, ends in self._stalls.get(path.connection, ()):
            if begins <= recv < ends:
                recv = ends
        path.last_recv = recv = max(recv, path.last_recv + _WIRE_NS)
        path.under_way += size
        self._count += 1
        heapq.heappush(self._to_clients, (recv, self._count, _Arrival(path, event, send)))

    def _arrived(self, arrival: _Arrival) -> Event | None:
        path, event, send = arrival.path, arrival.event, arrival.send
        if send is not None and isinstance(event, Heard):
            path.under_way -= len(event.payload)
        if path.left or path.dead:
            if send is not None and send.seq is not None:
                why = "dead" if path.dead else "left"
                self._log(Line(self.now, "lost", send.client, send.frame.channel, send.seq, why=why))
            return None
        if isinstance(event, Lost | Refused):
            path.left = True
        if isinstance(event, Heard):
            return Heard(event.connection, event.attempt, self.now, event.payload, event.binary)
        return msgspec.structs.replace(event, recv_ts=self.now)

    def _break(self, broken: _Break) -> Event | None:
        path = self._paths.get(broken.connection)
        match broken.what:
            case "noticed":
                for dead in list(self._clients.values()):
                    if dead.dead and dead.connection == broken.connection:
                        self._ask(dead, Gone(dead.client, None))
            case "dead" if path is not None:
                path.dead = True
            case "cut" if path is not None and not path.left and not path.dead:
                path.left = True
                self._ask(path, Gone(path.client, None))
                return Lost(path.connection, path.attempt, self.now)
        return None

    def _log(self, line: Line) -> None:
        if self._ledger is not None:
            self._ledger(line)


def listen(
    drive: Drive,
    requests: Mapping[int, Sequence[str]],
    *,
    until: int,
    reconnect_s: float = 1.0,
    dead_after_s: float = HEARTBEAT_LIMIT_S,
) -> Iterator[Event]:
    """
    Clients that subscribe, listen, and reconnect when they are cut or hear nothing: yields all they meet.

    Args:
        drive: not used yet.
        requests: by connection, what each sends after every handshake.
        until: how long; then the venue finishes.
        reconnect_s: wait after the end of a connection.
        dead_after_s: a connection on which nothing arrives for this long is left.
    """
    again: dict[int, int] = dict.fromkeys(requests, drive.now)
    heard: dict[int, int] = {}
    while drive.now < until:
        for connection in [connection for connection, at in again.items() if at <= drive.now]:
            del again[connection]
            heard[connection] = drive.now
            drive.connect(connection)
        for connection, at in heard.items():
            if connection not in again and drive.now - at >= dead_after_s * SECOND_NS:
                drive.leave(connection)
                yield Lost(connection, 0, drive.now)
                again[connection] = drive.now + round(reconnect_s * SECOND_NS)
        for event in drive.until(min([until, drive.now + SECOND_NS, *again.values()])):
            heard[event.connection] = event.recv_ts
            if isinstance(event, Joined):
                for text in requests[event.connection]:
                    drive.send(event.connection, text)
            elif isinstance(event, Lost | Refused):
                again[event.connection] = event.recv_ts + round(reconnect_s * SECOND_NS)
            yield event
    yield from drive.finish()
