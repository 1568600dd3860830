"""
A venue that is never the bottleneck: frames rendered, compressed and framed beforehand, sent as fast as they are read.

Answers the handshake and the subscribes, then sends everything in large slices of whole frames, with the venue's
heartbeat each five seconds; a ping after the last frame and its pong tell that the client has read it all. Then it
waits for the next client, so that candidates can be measured in turns on the same bytes.

Run as a child of the suite: `firehose.py FRAMES --requests N [--deflate]`. Prints `listening on URL`, then for each
client `begin`, `done` when it has heard all, and `gone`.
"""

import argparse
import contextlib
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from load import read_frames
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from recorder.records import Stream
from recorder.venue.protocol import HEARTBEAT_INTERVAL_S, ack_text

SLICE_BYTES = 256 << 10
_HEARTBEAT = b'{"channel":"heartbeat"}'


def framed(payload: bytes, opcode: int, *, compressed: bool = False) -> bytes:
    """
    One unmasked websocket frame (RFC 6455, 5.2).
    """
    first = 0x80 | (0x40 if compressed else 0) | opcode
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


def slices(frames: Path, *, deflate: bool) -> Iterator[bytes]:
    """
    All frames of a file as they go over the wire, whole frames to a slice.

    Compressed with the context kept from frame to frame, 15 bits of window, as the real server's library does it.
    """
    compressor = zlib.compressobj(wbits=-15)
    waiting = bytearray()
    for _, payload in read_frames(frames):
        if deflate:
            packed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
            waiting += framed(packed.removesuffix(b"\x00\x00\xff\xff"), Opcode.TEXT, compressed=True)
        else:
            waiting += framed(payload, Opcode.TEXT)
        if len(waiting) >= SLICE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


class Conversation:
    """
    One client.
    """

    def __init__(self, connection: socket.socket, *, deflate: bool) -> None:
        extensions = [ServerPerMessageDeflateFactory()] if deflate else []
        self._connection = connection
        self._protocol = ServerProtocol(extensions=extensions, max_size=1 << 20)
        self.requests = 0
        self.pongs = 0

    @property
    def is_open(self) -> bool:
        """
        Whether the client is still there.
        """
        return self._protocol.state in {State.CONNECTING, State.OPEN}

    def listen(self, *, wait: bool) -> None:
        """
        Take what the client sends, and answer it.
        """
        self._connection.setblocking(wait)
        try:
            said = self._connection.recv(1 << 16)
        except BlockingIOError:
            return
        finally:
            self._connection.setblocking(True)
        if said:
            self._protocol.receive_data(said)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._protocol.send_response(self._protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._acknowledge(event.data)
            elif isinstance(event, Frame) and event.opcode is Opcode.PONG:
                self.pongs += 1
        for answer in self._protocol.data_to_send():
            if answer:
                self._connection.sendall(answer)

    def _acknowledge(self, text: bytes) -> None:
        asked = msgspec.json.decode(text)
        self.requests += 1
        stream = Stream(asked["marketType"], asked["market"], asked["channel"])
        answer = msgspec.json.encode({"message": ack_text(stream)})
        self._connection.sendall(framed(answer, Opcode.TEXT))

    def send(self, data: bytes) -> None:
        """
        Send whole frames; returns when the system has taken them.
        """
        self._connection.sendall(data)


def converse(connection: socket.socket, prepared: list[bytes], *, requests: int, deflate: bool) -> None:
    """
    From the handshake until the client leaves.
    """
    client = Conversation(connection, deflate=deflate)
    while client.is_open and client.requests < requests:
        client.listen(wait=True)
    print("begin")
    beat = time.monotonic()
    for part in prepared:
        client.send(part)
        now = time.monotonic()
        if now - beat >= HEARTBEAT_INTERVAL_S:
            beat = now
            client.send(framed(_HEARTBEAT, Opcode.TEXT))
        client.listen(wait=False)
    client.send(framed(b"", Opcode.PING))
    while client.is_open and not client.pongs:
        client.listen(wait=True)
    print("done")
    while client.is_open:
        client.listen(wait=True)


def main() -> None:
    """
    Serve one client after the other until killed.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--deflate", action="store_true")
    options = parser.parse_args()
    prepared = list(slices(options.frames, deflate=options.deflate))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"listening on ws://127.0.0.1:{server.getsockname()[1]}/ws")
        while True:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # The plain recorder leaves when it has heard enough.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    converse(connection, prepared, requests=options.requests, deflate=options.deflate)
            print("gone")


if __name__ == "__main__":
    main()
