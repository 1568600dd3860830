"""
A client that only empties its socket: what it hears in a second is the limit of the source, not of a recorder.

Run as a child of the suite: `drain.py URL --markets N [--deflate]`.
"""

import argparse
import json
import socket
import time

from firehose import framed
from load import wanted
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from recorder.venue.protocol import request

CHUNK_BYTES = 1 << 20
QUIET_S = 0.3
"""After the last ping, for the source to be surely done."""


def drained_s(url: str, *, markets: int, deflate: bool) -> float:
    """
    Seconds from the first byte after the requests to the last.
    """
    uri = parse_uri(url)
    protocol = ClientProtocol(uri, extensions=[ClientPerMessageDeflateFactory()] if deflate else [])
    with socket.create_connection((uri.host, uri.port)) as connection:
        protocol.send_request(protocol.connect())
        connection.sendall(b"".join(protocol.data_to_send()))
        while not any(isinstance(event, Response) for event in protocol.events_received()):
            protocol.receive_data(connection.recv(CHUNK_BYTES))
        for stream in wanted(markets):
            protocol.send_text(request(stream).encode())
        connection.sendall(b"".join(protocol.data_to_send()))
        buffer = bytearray(CHUNK_BYTES)
        begun = last = time.monotonic()
        ending = framed(b"", Opcode.PING)
        connection.settimeout(30.0)
        while True:
            try:
                size = connection.recv_into(buffer)
            except TimeoutError:
                return last - begun
            last = time.monotonic()
            connection.settimeout(QUIET_S if buffer[:size].endswith(ending) else 30.0)


def main() -> None:
    """
    Measure, as a child of the suite.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("url")
    parser.add_argument("--markets", type=int, required=True)
    parser.add_argument("--deflate", action="store_true")
    options = parser.parse_args()
    print(json.dumps({"lasted_s": drained_s(options.url, markets=options.markets, deflate=options.deflate)}))


if __name__ == "__main__":
    main()
