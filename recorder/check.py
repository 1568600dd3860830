"""
`drift-recorder check CONFIG --connect`: ask the venue for everything that is configured, and see what comes.
"""

import asyncio

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from recorder.capture.client import explain
from recorder.config import Config, streams
from recorder.errors import Unreachable
from recorder.quality.identity import Identity
from recorder.records import Stream
from recorder.venue.markets import market_list
from recorder.venue.protocol import FrameKind, ack_text, peek, request


class Answer(msgspec.Struct):
    """
    What the venue did about one stream.
    """

    stream: Stream
    acknowledged: bool = False
    frames: int = 0


class Checked(msgspec.Struct):
    """
    What a short conversation showed.
    """

    answers: list[Answer]
    compressed: bool
    heartbeats: int = 0
    errors: list[str] = []
    other_names: dict[str, str] = {}
    """Markets whose books name another market than the list has for the index."""
    listened_s: float = 0.0


async def ask_venue(config: Config, *, listen_s: float) -> Checked:
    """
    Connect, subscribe to everything, and listen.

    Raises:
        Unreachable: no websocket could be opened, or it closed at once.
    """
    url = config.venue.url
    try:
        socket = await connect(
            url,
            compression="deflate" if config.capture.compression else None,
            proxy=None,
            open_timeout=config.capture.open_timeout_s,
            close_timeout=1,
            max_size=config.capture.max_frame_bytes,
        )
    except (OSError, InvalidHandshake, TimeoutError, EOFError) as error:
        _, words = explain(error, config.capture.open_timeout_s)
        raise Unreachable(f"{url}: {words}; check `venue.url`, the network, and whether the venue is up") from None
    wanted = streams(config)
    checked = Checked([Answer(stream) for stream in wanted], bool(socket.protocol.extensions))
    by_stream = {answer.stream: answer for answer in checked.answers}
    identity = Identity(market_list(config.venue.network), {})
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(listen_s):
            for stream in wanted:
                await socket.send(request(stream))
            while True:
                _take(await socket.recv(decode=False), checked, by_stream, identity, wanted)
    except TimeoutError:
        pass
    except ConnectionClosed as error:
        closed = error.rcvd or error.sent
        words = f"{closed.code} {closed.reason}".strip() if closed is not None else "without a close frame"
        checked.errors.append(f"the venue closed the connection: {words}")
    finally:
        checked.listened_s = loop.time() - started
        socket.transport.abort()
    return checked


def _take(
    payload: bytes, checked: Checked, by_stream: dict[Stream, Answer], identity: Identity, wanted: list[Stream]
) -> None:
    seen = peek(payload)
    if seen.kind == FrameKind.HEARTBEAT:
        checked.heartbeats += 1
    elif seen.kind == FrameKind.ERROR:
        checked.errors.append(f"{seen.name}: {seen.text}".removeprefix(": "))
    elif seen.kind == FrameKind.ACK:
        for answer in by_stream.values():
            if not answer.acknowledged and ack_text(answer.stream) == seen.text:
                answer.acknowledged = True
                return
    elif seen.kind == FrameKind.DATA and seen.channel is not None:
        resolution = identity.resolve(seen.channel, seen.market_name, wanted)
        if resolution.renamed is not None:
            checked.other_names[resolution.symbol] = resolution.renamed
        if resolution.stream is not None:
            by_stream[resolution.stream].frames += 1
