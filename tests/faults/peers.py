"""
What a recorder may meet at the other end: a TCP proxy with toxics, and servers that write websocket frames by hand.

Each runs on a thread of its own, so that a test may wait for a child process meanwhile.
"""

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Literal, Self

Toxic = Literal["pass", "hole", "deaf", "accept", "reset", "drip", "slow", "close"]
"""
pass    bytes go through
hole    nothing goes through, either way; the sockets stay open, and nobody is told
deaf    nothing comes from the venue; what is sent to it arrives
accept  new connections are accepted, and nothing is ever said on them; old ones go on
reset   all connections are reset, and each new one at once
drip    a byte each 20 ms comes from the venue
slow    `rate` bytes a second come from the venue
close   all connections are closed, and each new one at once
"""


class Loop:
    """
    An event loop on a thread of its own.
    """

    def __enter__(self) -> Self:
        self.endings: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """Run before it ends."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """
        Run to its end on that thread.
        """
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def __exit__(self, *_: object) -> None:
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        for end in self.endings:
            await end()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Proxy:
    """
    Between a client and a venue on loopback; what it does to their bytes can be changed at any time.
    """

    def __init__(self, loop: Loop, upstream: int, *, host: str = "127.0.0.1", rate: int = 20_000) -> None:
        """
        Args:
            loop: it runs on.
            upstream: port of the venue.
            host: to listen on, and where the venue is.
            rate: of `slow`, bytes a second.
        """
        self.toxic: Toxic = "pass"
        self.rate = rate
        self.accepted = 0
        """Connections so far."""
        self._upstream, self._host, self._loop = upstream, host, loop
        self._writers: set[asyncio.StreamWriter] = set()
        # The loop holds tasks weakly, and one that waits in a black hole is held by nobody else.
        self._serving: set[asyncio.Task[None] | None] = set()
        self._server: asyncio.Server = loop.run(asyncio.start_server(self._serve, host, 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        loop.endings.append(self._stop)

    @property
    def url(self) -> str:
        """
        What a client connects to.
        """
        return f"ws://{self._host}:{self.port}/ws"

    def set(self, toxic: Toxic) -> None:
        """
        From now on, for connections that are open too.
        """
        self.toxic = toxic
        if toxic in {"reset", "close"}:
            self._loop.run(self._cut_all(hard=toxic == "reset"))

    def end(self) -> None:
        """
        Listen no more: connections are refused.
        """
        self._loop.run(self._stop())

    async def _stop(self) -> None:
        self._server.close()
        await self._cut_all(hard=True)

    async def _cut_all(self, *, hard: bool) -> None:
        for writer in list(self._writers):
            cut(writer, hard=hard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        self._serving.add(asyncio.current_task())
        there = None
        try:
            if self.toxic in {"reset", "close"}:
                cut(writer, hard=self.toxic == "reset")
                return
            if self.toxic in {"accept", "hole"}:
                await reader.read()
                return
            back, there = await asyncio.open_connection(self._host, self._upstream)
            self._writers.add(there)
            pumps = [
                asyncio.ensure_future(self._pump(reader, there, down=False)),
                asyncio.ensure_future(self._pump(back, writer, down=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            # The latter at the end of the test: the streams' own callback would complain of a cancelled task.
            pass
        finally:
            self._serving.discard(asyncio.current_task())
            for each in (writer, there):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool) -> None:
        while data := await reader.read(1 << 16):
            while data:
                toxic = self.toxic
                if toxic == "hole" or (toxic == "deaf" and down):
                    # Lost: a stream that has lost bytes never makes sense again.
                    await asyncio.Event().wait()
                if down and toxic == "drip":
                    part, data = data[:1], data[1:]
                    await asyncio.sleep(0.02)
                elif down and toxic == "slow":
                    part, data = data[: self.rate // 20], data[self.rate // 20 :]
                    await asyncio.sleep(0.05)
                else:
                    part, data = data, b""
                writer.write(part)
                await writer.drain()


def cut(writer: asyncio.StreamWriter, *, hard: bool) -> None:
    """
    Close a socket; `hard`: with a reset.
    """
    raw = writer.get_extra_info("socket")
    if hard and raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort() if hard else writer.close()


# ---- servers that write frames by hand


async def shake_hands(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, deflate: bool = False
) -> dict[str, str]:
    """
    The server's side of the opening handshake; the request's headers.
    """
    request = await reader.readuntil(b"\r\n\r\n")
    lines = request.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    digest = hashlib.sha1(  # the protocol's own digest, RFC 6455 §4.2.2
        headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False
    ).digest()
    extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"{extension}Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n".encode()
    )
    return headers


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True, rsv1: bool = False, size: int | None = None) -> bytes:
    """
    A websocket frame as a server sends it; `size`: what its header claims.
    """
    said = len(payload) if size is None else size
    first = (0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode
    if said < 126:
        head = bytes([first, said])
    elif said < 1 << 16:
        head = bytes([first, 126]) + said.to_bytes(2)
    else:
        head = bytes([first, 127]) + said.to_bytes(8)
    return head + payload


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """
    A TCP server whose clients may hang up at any moment; its port. At the end all its sockets are cut.
    """
    writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            await behave(reader, writer)
        tasks.discard(task)
        writer.close()

    async with await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0.01)


async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, first: bytes = b"") -> None:
    """
    Pass bytes to and from a server on loopback until either side has no more; `first` was read already.
    """
    back, there = await asyncio.open_connection("127.0.0.1", port)
    there.write(first)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            sink.write(data)

    pumps = [asyncio.ensure_future(pump(reader, there)), asyncio.ensure_future(pump(back, writer))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        # An alert may be on its way to the client: it is let through before the sockets go.
        await asyncio.wait(pumps[1:], timeout=1)
    finally:
        for each in pumps:
            each.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        there.transport.abort()


@contextlib.contextmanager
def served(loop: Loop, behave: Behaviour) -> Iterator[int]:
    """
    The same on another thread; the port.
    """
    serving = listening(behave)
    port = loop.run(serving.__aenter__())
    try:
        yield port
    finally:
        loop.run(serving.__aexit__(None, None, None))
