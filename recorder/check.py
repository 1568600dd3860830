"""
`drift-recorder check CONFIG`: which connection will carry what; and with `--connect`, ask the venue for everything that
is configured, and see what comes.
"""

import asyncio

import msgspec
from websockets.exceptions import ConnectionClosed

from recorder.capture.pins import chain_of, pin_of
from recorder.capture.wire import ClientSettings, Wire, blame, compressed, explain, open_wire
from recorder.config import Config
from recorder.config_streams import connections, copies, streams
from recorder.errors import Unreachable
from recorder.quality.events import printable
from recorder.quality.identity import Identity
from recorder.records import Stream
from recorder.show import PlainTable, plain
from recorder.venue.markets import market_list
from recorder.venue.protocol import FrameKind, ack_text, peek, request

NAMED = 6
"""Markets of a connection that are shown; what is recorded at all is in a table of its own."""
MAX_ERRORS = 100
"""Kept of what the venue answers; a hostile one could send millions."""


def connections_table(config: Config) -> PlainTable:
    """
    What each connection carries, by the index that rows and events give it. Those for silent streams are not shown.
    """
    several = config.capture.redundancy > 1
    columns = (
        ("connection", "copy", "server", "markets", "streams", "")
        if several
        else ("connection", "markets", "streams", "")
    )
    table = plain("connections", *columns, right=("connection", "copy", "markets", "streams"))
    index = 0
    for copy, url in enumerate(copies(config), 1):
        for carried in connections(config):
            names = list(dict.fromkeys(stream.symbol for stream in carried))
            markets = len({(stream.market_type, stream.symbol) for stream in carried})
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            place = [str(copy), url] if several else []
            table.add_row(str(index), *place, str(markets), str(len(carried)), ", ".join(names[:NAMED]) + more)
            index += 1
    return table


class Answer(msgspec.Struct):
    """
    What the venue did about one stream.
    """

    stream: Stream
    acknowledged: bool = False
    frames: int = 0

    @property
    def came(self) -> bool:
        """
        Whether the venue knows the stream, as far as one can tell.
        """
        return self.acknowledged or self.frames > 0


class Checked(msgspec.Struct):
    """
    What a short conversation showed.
    """

    url: str
    answers: list[Answer]
    compressed: bool
    heartbeats: int = 0
    errors: list[str] = []
    other_names: dict[str, str] = {}
    """Markets whose books name another market than the list has for the index."""
    listened_s: float = 0.0
    keys: list[str] = []
    """Pins of the keys in its certificate chain, its own first; none without TLS."""


async def ask_venue(config: Config, url: str, *, listen_s: float) -> Checked:
    """
    Connect to one of the addresses, subscribe to everything, and listen for `listen_s` after the last request.

    Raises:
        Unreachable: no websocket could be opened, or it ended before anything was heard on it.
    """
    key = "venue.url" if url == config.venue.url else "venue.copy_urls"
    capture = config.capture
    limits = ClientSettings(
        open_timeout_s=capture.open_timeout_s,
        max_frame_bytes=capture.max_frame_bytes,
        compression=capture.compression,
        pins=config.venue.pins,
        proxy=config.venue.proxy,
    )
    try:
        socket = await open_wire(url, limits)
    except Exception as error:
        cause, words = explain(error, capture.open_timeout_s)
        if cause == "recorder":
            raise
        raise Unreachable(
            f"{printable(url)}: {words}; check `{key}`, the network, and whether the venue is up"
        ) from None
    wanted = streams(config)
    keys = [pin_of(certificate) for certificate in chain_of(socket.transport)]
    checked = Checked(url, [Answer(stream) for stream in wanted], compressed(socket), keys=keys)
    loop = asyncio.get_running_loop()
    started = loop.time()
    asking = asyncio.create_task(_ask(socket, wanted, capture.subscribe_interval_ms / 1000))
    try:
        async with asyncio.timeout(listen_s + len(wanted) * capture.subscribe_interval_ms / 1000):
            await _listen(socket, checked, Identity(market_list(config.venue.network), {}))
    except TimeoutError:
        pass
    except ConnectionClosed:
        close = socket.protocol.close_rcvd
        _, words = blame(close.code if close is not None else None, socket)
        said = f": {close.code} {printable(close.reason)}".rstrip() if close is not None else ""
        checked.errors.append(f"{socket.fault or words}{said}")
        if not any(answer.came for answer in checked.answers):
            raise Unreachable(
                f"{printable(url)}: {checked.errors[-1]}, before any answer; check `{key}`, or try again later"
            ) from None
    finally:
        checked.listened_s = loop.time() - started
        socket.transport.abort()
        asking.cancel()
        await asyncio.wait([asking])
    return checked


async def _ask(socket: Wire, wanted: list[Stream], interval_s: float) -> None:
    try:
        for stream in wanted:
            await socket.send(request(stream))
            await asyncio.sleep(interval_s)
    except ConnectionClosed:
        return  # the listener hears of it too


async def _listen(socket: Wire, checked: Checked, identity: Identity) -> None:
    by_stream = {answer.stream: answer for answer in checked.answers}
    while True:
        seen = peek(await socket.recv(decode=False))
        if seen.kind == FrameKind.HEARTBEAT:
            checked.heartbeats += 1
        elif seen.kind == FrameKind.ERROR:
            if len(checked.errors) < MAX_ERRORS:
                checked.errors.append(printable(f"the venue answered: {seen.name}: {seen.text}"))
        elif seen.kind == FrameKind.ACK:
            # Two groupings of a market are acknowledged in the same words.
            asked = (a for a in checked.answers if not a.acknowledged and ack_text(a.stream) == seen.text)
            if (answer := next(asked, None)) is not None:
                answer.acknowledged = True
        elif seen.kind == FrameKind.DATA and seen.channel is not None:
            resolution = identity.resolve(seen.channel, seen.market_name, list(by_stream))
            if resolution.renamed is not None and len(checked.other_names) < MAX_ERRORS:
                checked.other_names[resolution.symbol] = resolution.renamed
            if resolution.stream is not None:
                by_stream[resolution.stream].frames += 1
