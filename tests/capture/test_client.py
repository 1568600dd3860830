"""
The client against hostile, broken and dying servers, on loopback sockets.

In each case: the fact is journaled with its cause, a reconnect follows, and what was received before the end is kept.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import shutil
import ssl
import subprocess
import zlib
from random import Random

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from recorder.capture import client as client_module
from recorder.capture import copies as copies_module
from recorder.capture.client import Capture, ClientSettings
from recorder.capture.session import Session, SessionSettings
from recorder.capture.tape import Tape, TapeSettings
from recorder.journal.reader import read_merged, segments
from recorder.journal.writer import JournalSettings
from recorder.records import (
    Connected,
    ConnectFailed,
    Disconnected,
    EntryKind,
    Moved,
    QualitySettings,
    Requested,
    Stream,
    decode_fact,
)
from recorder.venue.markets import market_list

SOL = Stream("perp", "SOL-PERP", "orderbook", 1)
BTC = Stream("perp", "BTC-PERP", "orderbook", 1)
INDEX = {"SOL-PERP": 0, "BTC-PERP": 1}
TIGHT = (",", ":")
HEARTBEAT = b'{"channel":"heartbeat"}'
QUICK = SessionSettings(reconnect_first_s=0.05, subscribe_interval_ms=1)
IMPATIENT = SessionSettings(
    heartbeat_timeout_s=1.2, idle_timeout_s=0.8, reconnect_first_s=0.05, subscribe_interval_ms=1
)
SOON_SILENT_S = 0.8
"""For a market; more than a busy machine makes a venue in this very process stand still."""
WITHIN_S = 20.0


def book(market, slot):
    """
    A frame of a book, told apart by its slot.
    """
    data = {"bids": [], "asks": [], "marketName": market, "marketType": "perp", "marketIndex": INDEX[market]}
    data |= {"ts": 1_795_000_000_000 + slot, "slot": slot}
    channel = f"orderbook_perp_{INDEX[market]}_grouped_1"
    return json.dumps({"channel": channel, "data": json.dumps(data, separators=TIGHT)}, separators=TIGHT).encode()


# ---- the recording side


class Recording:
    """
    A capture under way and its journal.
    """

    def __init__(self, folder):
        self.folder = folder
        self.capture = None
        self.tape = None
        self.running = None
        self.began = 0

    def entries(self):
        """
        All that is committed.
        """
        return list(read_merged(segments(self.folder), start=0, end=1 << 62))

    def frames(self, connection=None):
        """
        Payloads of the frames, of all connections or one.
        """
        return [
            entry.payload
            for entry in self.entries()
            if entry.kind == EntryKind.FRAME and connection in {None, entry.connection}
        ]

    def streams_of(self, connection):
        """
        What was asked for on a connection.
        """
        facts = [
            decode_fact(entry.payload)
            for entry in self.entries()
            if entry.kind == EntryKind.FACT and entry.connection == connection
        ]
        return {fact.stream for fact in facts if isinstance(fact, Requested)}

    def facts(self, kind):
        """
        The facts of one kind.
        """
        facts = [decode_fact(entry.payload) for entry in self.entries() if entry.kind == EntryKind.FACT]
        return [fact for fact in facts if isinstance(fact, kind)]

    async def until(self, happened, within_s=WITHIN_S):
        """
        Wait for a condition on the journal.
        """
        async with asyncio.timeout(within_s):
            while not happened():
                assert not self.running.done(), self.running
                await asyncio.sleep(0.02)

    async def until_fact(self, kind, count=1, within_s=WITHIN_S):
        """
        Wait for so many facts of a kind.
        """
        await self.until(lambda: len(self.facts(kind)) >= count, within_s)
        return self.facts(kind)

    async def stop(self):
        """
        Stop, and wait for the last frame.
        """
        await self.capture.stop()
        await asyncio.wait_for(self.running, WITHIN_S)


@contextlib.asynccontextmanager
async def recording(folder, url, *connections, session=QUICK, ssl_context=None, urls=None, markets=0, **limits):
    """
    A capture of `connections` from `url`; stopped at the end, with all committed.
    """
    streams = [stream for connection in connections for stream in connection] or [SOL]
    settings = TapeSettings(
        journal_folder=folder,
        venue="test",
        network="mainnet-beta",
        urls=[url],
        streams=streams,
        quality=QualitySettings(),
        journal=JournalSettings(commit_interval_s=0.01),
    )
    record = Recording(folder)
    record.tape = Tape(
        settings,
        listed=market_list("mainnet-beta"),
        pid=1,
        beside=[],
        on_event=lambda _: None,
        on_opening=lambda _: None,
    )
    record.capture = Capture(
        lambda: record.tape,
        urls=urls or [url],
        connections=list(connections) or [[SOL]],
        markets_per_connection=markets,
        session=session,
        client=ClientSettings(**{"open_timeout_s": WITHIN_S, **limits}),
        random=Random(1),
        ssl_context=ssl_context,
    )
    record.began = record.tape.clock.now()
    record.running = asyncio.create_task(record.capture.run())
    try:
        yield record
    finally:
        if not record.running.done():
            await record.stop()
        record.tape.stop("over")
        async with asyncio.timeout(WITHIN_S):
            while not record.tape.closed():  # noqa: ASYNC110  # a thread closes it
                await asyncio.sleep(0.01)


# ---- the hostile side


def text_frame(payload, *, opcode=1, rsv1=False):
    """
    A websocket frame from a server: not masked.
    """
    first = 0x80 | (0x40 if rsv1 else 0) | opcode
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 1 << 16:
        return bytes([first, 126]) + len(payload).to_bytes(2) + payload
    return bytes([first, 127]) + len(payload).to_bytes(8) + payload


def close_frame(code, reason=b""):
    """
    A close frame.
    """
    return text_frame(code.to_bytes(2) + reason, opcode=8)


@contextlib.asynccontextmanager
async def listening(handle, *, scheme="ws", tls=None):
    """
    A TCP server whose clients may hang up at any moment; yields its URL. At the end all its sockets are cut.
    """
    writers = []

    async def guarded(reader, writer):
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handle(reader, writer)
        writer.close()

    async with await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls) as server:
        try:
            yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        finally:
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def raw_server(behave, *, deflate=False, tls=None):
    """
    Accepts, shakes hands, and does as it is told; afterwards the socket stays open until the client hangs up.

    Yields the URL and the list of connections so far.
    """
    seen = []

    async def handle(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
        key = headers[b"Sec-WebSocket-Key"] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        answer = base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest())
        extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else b""
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + extension
            + b"Sec-WebSocket-Accept: "
            + answer
            + b"\r\n\r\n"
        )
        seen.append(writer)
        if await behave(writer, len(seen)) != "hang up":
            await reader.read()

    async with listening(handle, scheme="wss" if tls else "ws", tls=tls) as url:
        yield url, seen


def sends(*frames, hang_up=False):
    """
    A behaviour: one book, then these bytes.
    """

    async def behave(writer, number):
        writer.write(text_frame(book("SOL-PERP", number)) + b"".join(frames))
        await writer.drain()
        return "hang up" if hang_up else None

    return behave


async def sends_books_only(writer, number):
    """
    Data, and never a heartbeat.
    """
    while not writer.is_closing():
        writer.write(text_frame(book("SOL-PERP", number)))
        await asyncio.sleep(0.05)


ENDS = {
    "hangs up": (sends(hang_up=True), "network", "without a close frame", None),
    "going away": (sends(close_frame(1001, b"bye")), "venue", "the venue closed", 1001),
    "we are too slow": (sends(close_frame(1008, b"Buffer overflow")), "recorder", "too slowly", 1008),
    "half-open": (sends(), "network", "nothing heard for ", None),
    "data without heartbeats": (sends_books_only, "recorder", "no heartbeat for ", None),
    "announces 2 GiB": (sends(b"\x81\x7f" + (2 << 30).to_bytes(8)), "venue", "gave up on it: 1009", None),
    "announces 60 kB and never sends them": (sends(b"\x81\x7e\xea\x60"), "network", "nothing heard for ", None),
    "a frame above the limit": (sends(text_frame(b"x" * 70_000)), "venue", "gave up on it: 1009", None),
    "no such opcode": (sends(b"\x83\x01x"), "venue", "gave up on it: 1002", None),
    "pings without end": (sends(text_frame(b"", opcode=9) * 3000), "venue", "a flood of pings", None),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_end_is_journaled_with_its_cause_and_followed_by_a_reconnect(name, tmp_path):
    """
    Whatever the server does, the connection ends soon, the words say why, and frames before and after are kept.
    """
    behave, cause, words, code = ENDS[name]

    async def scenario():
        async with (
            raw_server(behave) as (url, _),
            recording(tmp_path, url, session=IMPATIENT, max_frame_bytes=65_536) as record,
        ):
            ended = (await record.until_fact(Disconnected))[0]
            await record.until_fact(Connected, 2)
            await record.until(lambda: book("SOL-PERP", 2) in record.frames())
            return ended, record.frames()

    ended, frames = asyncio.run(scenario())

    assert (ended.cause, ended.code, ended.attempt) == (cause, code, 1)
    assert words in ended.why
    assert frames[0] == book("SOL-PERP", 1)


def test_a_close_for_a_malformed_request_is_not_looped_on(tmp_path):
    """
    1003 is our own fault: the same request again at once would be refused again.
    """

    async def scenario():
        async with (
            raw_server(sends(close_frame(1003, b'{"error":"x"}\n'))) as (url, seen),
            recording(tmp_path, url) as record,
        ):
            ended = (await record.until_fact(Disconnected))[0]
            await asyncio.sleep(0.5)
            return ended, len(seen)

    ended, connections = asyncio.run(scenario())

    assert (ended.cause, ended.code, connections) == ("recorder", 1003, 1)
    assert ended.reason == '{"error":"x"}\\n'


def bomb(size, count):
    """
    Messages of `size` equal bytes, deflated with one context.
    """
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    for _ in range(count):
        packed = deflate.compress(b"a" * size) + deflate.flush(zlib.Z_SYNC_FLUSH)
        yield text_frame(packed.removesuffix(b"\x00\x00\xff\xff"), rsv1=True)


def test_a_compression_bomb_is_cut_before_it_fills_the_memory(tmp_path):
    """
    400 messages of 1 MiB in 400 kB: the library would inflate a whole chunk before it looks at its queue.
    """

    async def scenario():
        async with (
            raw_server(sends(*bomb(1 << 20, 400)), deflate=True) as (url, _),
            recording(tmp_path, url, session=IMPATIENT) as record,
        ):
            ended = (await record.until_fact(Disconnected))[0]
            return ended, sum(len(frame) for frame in record.frames())

    ended, taken = asyncio.run(scenario())

    assert ended.cause == "venue"
    assert "compression bomb" in ended.why
    assert taken < 32 << 20


def test_a_frozen_market_is_no_bomb(tmp_path):
    """
    Equal books compress more than 64 times. At the pace of a feed that is no attack, and cutting it would be a hole.
    """
    content = b'{"channel":"frozen","data":"' + b"0123456789abcdef" * 1000 + b'"}'

    async def behave(writer, _):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        for _ in range(200):
            packed = deflate.compress(content) + deflate.flush(zlib.Z_SYNC_FLUSH)
            assert len(content) > 100 * len(packed) or _ == 0
            writer.write(text_frame(packed.removesuffix(b"\x00\x00\xff\xff"), rsv1=True))
            await asyncio.sleep(0.005)

    async def scenario():
        async with raw_server(behave, deflate=True) as (url, seen), recording(tmp_path, url) as record:
            await record.until(lambda: len(record.frames()) == 200)
            return record.facts(Disconnected), len(seen)

    assert asyncio.run(scenario()) == ([], 1)


STRANGE = {
    "no JSON": b"\x00\x01 garbage",
    "no UTF-8": b'{"channel":"heartbeat\xff"}',
    "a list": b"[1,2,3]",
    "deep": b'{"data":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "empty": b"",
    "unknown channel": b'{"channel":"\x1b[31morderbook\\u0007","data":"{}"}',
    "an absurd time": book("SOL-PERP", 1).replace(b"1795000000001", b"9" * 400),
    "an absurd slot": book("SOL-PERP", 1).replace(b'slot\\":1', b'slot\\":' + b"9" * 400),
    "members missing": b'{"channel":"orderbook_perp_0_grouped_1","data":"{}"}',
    "null data": b'{"channel":"orderbook_perp_0_grouped_1","data":null}',
    "an absurd fill": b'{"channel":"trades_perp_0","data":"{\\"fillRecordId\\":1e400,\\"ts\\":-5}"}',
    "empty book": book("SOL-PERP", 7),
    "10,000 levels": book("SOL-PERP", 8).replace(
        b'\\"bids\\":[]',
        b'\\"bids\\":[' + b",".join([b'{\\"size\\":1,\\"price\\":1,\\"sources\\":{}}'] * 10_000) + b"]",
    ),
    "an error nobody asked for": b'{"error":"' + b"E" * 5000 + b'\\u001b[2J"}',
    "an acknowledgement nobody asked for": b'{"message":"Subscribe received for channel: x"}',
}


def test_strange_frames_are_kept_as_they_came_and_the_connection_lives(tmp_path):
    """
    Nothing that can stand in a message may end the recording: it is journaled raw, and the next frame is taken.
    """
    last = book("SOL-PERP", 99)
    sent = [*STRANGE.values(), last]
    assert len(set(sent)) == len(sent)
    assert len(STRANGE["10,000 levels"]) > 300_000

    async def scenario():
        frames = b"".join(text_frame(payload) for payload in sent) + text_frame(b"\x00\xff", opcode=2)
        async with raw_server(sends(frames)) as (url, seen), recording(tmp_path, url) as record:
            await record.until(lambda: b"\x00\xff" in record.frames())
            return record.frames(), record.facts(Disconnected), len(seen)

    frames, ends, connections = asyncio.run(scenario())

    assert frames == [book("SOL-PERP", 1), *sent, b"\x00\xff"]
    assert (ends, connections) == ([], 1)


# ---- connects that fail


async def never_answers(reader, _):
    """
    Accepts and says nothing.
    """
    await reader.read()


async def drips(_, writer):
    """
    One byte of an answer at a time.
    """
    for byte in b"HTTP/1.1 101 Switching Protocols\r\n" * 10:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.1)


def answers(response, *, after=b"\r\n\r\n"):
    """
    A server with one answer to everything.
    """

    async def handle(reader, writer):
        await reader.readuntil(after)
        writer.write(response)
        await writer.drain()

    return handle


NEVER, DRIPS = "never answers", "drips"
REFUSALS = {
    "HTTP 400": (answers(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), "venue", "HTTP 400 instead"),
    "a redirect": (
        answers(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/ws\r\nContent-Length: 0\r\n\r\n"),
        "venue",
        "HTTP 302 instead of a websocket, which points to ws://127.0.0.1:1/",
    ),
    "no HTTP": (answers(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "venue", "no valid HTTP answer"),
    "another protocol's upgrade": (
        answers(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
        "venue",
        "not a websocket handshake",
    ),
    NEVER: (never_answers, "network", "no websocket within 0.5 s"),
    DRIPS: (drips, "network", "no websocket within 0.5 s"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_handshake_is_journaled_and_tried_again(name, tmp_path):
    """
    In words a user can act on, with the cause, and with the time of the next attempt.
    """
    handle, cause, words = REFUSALS[name]
    # Where there is an answer, a machine that stands still meanwhile must not cut it off.
    limits = {"open_timeout_s": 0.5} if name in {NEVER, DRIPS} else {}

    async def scenario():
        async with listening(handle) as url, recording(tmp_path, url, **limits) as record:
            return await record.until_fact(ConnectFailed, 2)

    failed = asyncio.run(scenario())

    assert [fact.attempt for fact in failed[:2]] == [1, 2]
    assert failed[0].cause == cause
    assert words in failed[0].error
    assert failed[0].error.isprintable()


def test_a_server_that_is_not_there_is_said_so(tmp_path):
    """
    By its name in words, not by an error number; the waits grow, but the first is short.
    """

    async def scenario():
        async with recording(tmp_path, "ws://127.0.0.1:1/ws", session=SessionSettings()) as record:
            return await record.until_fact(ConnectFailed, 2)

    first = asyncio.run(scenario())[0]

    assert (first.cause, first.error) == ("network", "connection refused: nothing listens there")
    assert first.retry_in_s <= 1


def test_a_name_that_cannot_be_looked_up_is_said_so(tmp_path):
    """
    `.invalid` never resolves (RFC 6761).
    """

    async def scenario():
        async with recording(tmp_path, "wss://nonexistent.invalid/ws") as record:
            return (await record.until_fact(ConnectFailed))[0]

    failed = asyncio.run(scenario())

    assert failed.cause == "network"
    assert failed.error


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """
    A certificate for 127.0.0.1 that nobody signed but itself.
    """
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return folder


def server_context(certificate):
    """
    TLS of the server.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


def test_a_certificate_nobody_vouches_for_is_refused_and_said_so(tmp_path, certificate):
    """
    There is no switch to accept it.
    """

    async def scenario():
        async with (
            raw_server(sends(), tls=server_context(certificate)) as (url, seen),
            recording(tmp_path, url) as record,
        ):
            return (await record.until_fact(ConnectFailed))[0], len(seen)

    failed, connections = asyncio.run(scenario())

    assert (failed.cause, connections) == ("venue", 0)
    assert "the certificate does not hold: self-signed certificate" in failed.error


def test_a_good_certificate_is_accepted(tmp_path, certificate):
    """
    The same server, trusted: encrypted frames arrive.
    """

    async def scenario():
        context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        async with (
            raw_server(sends(), tls=server_context(certificate)) as (url, _),
            recording(tmp_path, url, ssl_context=context) as record,
        ):
            await record.until(lambda: record.frames() == [book("SOL-PERP", 1)])
            return record.facts(Connected)

    assert len(asyncio.run(scenario())) == 1


def test_tls_to_a_server_without_it_is_said_so(tmp_path):
    """
    A wrong scheme in the URL is a common mistake.
    """

    async def scenario():
        plain = answers(b"HTTP/1.1 400 Bad Request\r\n\r\n", after=b"\x03")
        async with listening(plain, scheme="wss") as url, recording(tmp_path, url) as record:
            return (await record.until_fact(ConnectFailed))[0]

    assert "TLS failed" in asyncio.run(scenario()).error


# ---- stopping


def test_what_the_sockets_delivered_is_journaled_when_stopping(tmp_path):
    """
    A burst is on its way when we stop, and the server never answers our close: every frame of it is kept.
    """
    burst = [book("SOL-PERP", slot) for slot in range(2, 3002)]

    async def scenario():
        async with (
            raw_server(sends(*map(text_frame, burst))) as (url, _),
            recording(tmp_path, url, max_queue=64) as record,
        ):
            await record.until(record.frames)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await record.stop()
            took_s = loop.time() - began
        return took_s, record

    took_s, record = asyncio.run(scenario())

    assert record.frames() == [book("SOL-PERP", 1), *burst]
    assert took_s < 5
    assert [fact.why for fact in record.facts(Disconnected)] == ["the recorder is stopping"]


def test_stopping_does_not_wait_for_a_connect(tmp_path):
    """
    A server that never answers the handshake must not hold the stop for the open timeout.
    """

    async def scenario():
        async with listening(never_answers) as url, recording(tmp_path, url, open_timeout_s=10) as record:
            await asyncio.sleep(0.1)
            began = asyncio.get_running_loop().time()
            await record.stop()
            took_s = asyncio.get_running_loop().time() - began
        return took_s, record.facts(ConnectFailed)

    took_s, failed = asyncio.run(scenario())

    assert took_s < 5
    assert failed == []


def test_stopping_ends_a_wait_for_the_next_attempt(tmp_path):
    """
    Also one of five minutes.
    """

    async def scenario():
        async with raw_server(sends(close_frame(1003))) as (url, _), recording(tmp_path, url) as record:
            await record.until_fact(Disconnected)
            began = asyncio.get_running_loop().time()
            await record.stop()
            return asyncio.get_running_loop().time() - began

    assert asyncio.run(scenario()) < 5


# ---- several connections


class Market:
    """
    A small venue: numbered books of each market at a pace, acknowledgements, heartbeats, and markets that fall silent.
    """

    def __init__(self):
        self.silent = set()
        self.doomed = set()
        """Whoever subscribes to one of these is cut."""
        self.published = dict.fromkeys(INDEX, 0)
        self.subscribed = {}

    async def handle(self, connection):
        """
        One client's requests.
        """
        self.subscribed[connection] = set()
        try:
            async for text in connection:
                request = json.loads(text)
                market = request["market"]
                if request["type"] == "unsubscribe":
                    self.subscribed[connection].discard(market)
                    continue
                if market in self.doomed:
                    connection.transport.abort()
                    return
                words = f"Subscribe received for channel: orderbook, market: {market}, marketType: perp"
                await connection.send(json.dumps({"message": words}))
                self.subscribed[connection].add(market)
        except ConnectionClosed:
            pass
        finally:
            del self.subscribed[connection]

    async def publish(self):
        """
        Books and heartbeats, for ever.
        """
        while True:
            for market in INDEX:
                if market in self.silent:
                    continue
                self.published[market] += 1
                for connection, markets in list(self.subscribed.items()):
                    if market in markets:
                        with contextlib.suppress(ConnectionClosed):
                            await connection.send(book(market, self.published[market]), text=True)
            for connection in list(self.subscribed):
                with contextlib.suppress(ConnectionClosed):
                    await connection.send(HEARTBEAT, text=True)
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def small_venue():
    """
    Yields it, and its URL.
    """
    market = Market()
    async with serve(market.handle, "127.0.0.1", 0, compression=None) as server:
        publishing = asyncio.create_task(market.publish())
        try:
            yield market, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)


def slots(frames, market):
    """
    The numbers of a market's books among frames.
    """
    channel = f'"orderbook_perp_{INDEX[market]}_grouped_1"'.encode()
    return [json.loads(json.loads(frame)["data"])["slot"] for frame in frames if channel in frame]


def in_a_row(numbers):
    """
    Whether nothing is missing between the first and the last.
    """
    return bool(numbers) and sorted(set(numbers)) == list(range(min(numbers), max(numbers) + 1))


def test_a_connection_that_keeps_dying_costs_another_nothing(tmp_path):
    """
    Each connection has its own task, its own backoff and its own facts.
    """

    async def scenario():
        async with small_venue() as (venue, url):
            venue.doomed.add("BTC-PERP")
            async with recording(tmp_path, url, [SOL], [BTC], session=IMPATIENT) as record:
                await record.until_fact(Disconnected, 3)
                await asyncio.sleep(0.2)
            return record

    record = asyncio.run(scenario())
    ends = record.facts(Disconnected)

    assert {end.cause for end in ends[:3]} == {"network"}
    assert in_a_row(slots(record.frames(connection=0), "SOL-PERP"))
    assert [e.attempt for e in record.entries() if e.connection == 0][-1] == 1


def test_a_silent_market_goes_to_probation_and_comes_home_without_a_hole_in_the_others(tmp_path, monkeypatch):
    """
    The healthy market's connection is never cut for it; when it speaks again nothing of it is missed on the way home.
    """
    monkeypatch.setattr(copies_module, "PROMOTE_AFTER_S", 0.3)
    session = SessionSettings(silent_after_s=SOON_SILENT_S, reconnect_first_s=0.05, subscribe_interval_ms=1)

    async def scenario():
        async with small_venue() as (venue, url):
            async with recording(tmp_path, url, [SOL, BTC], session=session) as record:
                await record.until(lambda: slots(record.frames(), "BTC-PERP"))
                venue.silent.add("BTC-PERP")
                await record.until_fact(Moved, 1)
                await record.until_fact(Connected, 2)
                venue.silent.clear()
                await record.until_fact(Moved, 2)
                await record.until_fact(Disconnected)
                on_probation, at_home = (len(slots(record.frames(connection=n), "BTC-PERP")) for n in (1, 0))
                await record.until(lambda: len(slots(record.frames(connection=0), "BTC-PERP")) > at_home + 5)
            return record, on_probation

    record, on_probation = asyncio.run(scenario())
    moves = record.facts(Moved)

    assert [(move.stream, move.to_connection) for move in moves] == [(BTC, 1), (BTC, 0)]
    assert in_a_row(slots(record.frames(connection=0), "SOL-PERP"))
    assert in_a_row(slots(record.frames(), "BTC-PERP"))
    # It has left probation, whose connection is gone.
    assert on_probation == len(slots(record.frames(connection=1), "BTC-PERP")) > 0
    assert [end.why for end in record.facts(Disconnected)][:1] == ["it has no stream to carry any more"]
    assert {e.attempt for e in record.entries() if e.connection == 0 and e.kind == EntryKind.FRAME} == {1}


def test_each_return_to_probation_makes_a_stream_wait_longer(tmp_path, monkeypatch):
    """
    Else a market that fails each minute would move to and fro for ever.
    """
    monkeypatch.setattr(copies_module, "PROMOTE_AFTER_S", 0.2)
    waits = []
    add = Session.add

    def noting(self, stream, *, promote_after_s=0.0, **options):
        if self._probation:
            waits.append(promote_after_s)
        return add(self, stream, promote_after_s=promote_after_s, **options)

    monkeypatch.setattr(Session, "add", noting)
    session = SessionSettings(silent_after_s=SOON_SILENT_S, reconnect_first_s=0.05, subscribe_interval_ms=1)

    async def scenario():
        async with small_venue() as (venue, url), recording(tmp_path, url, [SOL, BTC], session=session) as record:
            for returns in (1, 2):
                venue.silent.add("BTC-PERP")
                await record.until_fact(Moved, 2 * returns - 1)
                venue.silent.clear()
                if returns == 1:
                    await record.until_fact(Moved, 2)

    asyncio.run(scenario())

    assert waits == [0.2, 0.8]


def test_a_fault_of_our_own_costs_one_connection_and_is_on_record(tmp_path, monkeypatch):
    """
    An error in judging one conversation must neither end the recorder nor go unnoticed.
    """
    tick = Session.tick
    faults = []

    def failing(self, now, **others):
        if BTC in self.streams and not faults:
            faults.append(now)
            raise KeyError("market")
        return tick(self, now, **others)

    monkeypatch.setattr(Session, "tick", failing)

    async def scenario():
        async with small_venue() as (_, url):
            async with recording(tmp_path, url, [SOL], [BTC]) as record:
                await record.until_fact(Disconnected, 1)
                await record.until_fact(Connected, 3)
            return record

    record = asyncio.run(scenario())
    ended = record.facts(Disconnected)[0]

    assert (ended.cause, ended.why) == ("recorder", "our own fault: KeyError: 'market'")
    assert in_a_row(slots(record.frames(connection=0), "SOL-PERP"))


# ---- several copies, and another configuration


def test_copies_are_made_one_after_the_other_and_each_at_its_address(tmp_path, monkeypatch):
    """
    A venue that comes back must not meet all at once. Connections are numbered copy by copy, then those for probation.
    """
    monkeypatch.setattr(client_module, "COPIES_APART_S", 0.4)

    async def scenario():
        async with small_venue() as (_, url), small_venue() as (_, second):
            async with recording(tmp_path, url, [SOL], [BTC], urls=[url, second, url]) as record:
                await record.until_fact(Connected, 6)
                await record.until(lambda: all(record.frames(connection) for connection in range(6)))
                assert {line.index for line in record.capture._copy_of} == set(range(9))
            return record, url, second

    record, url, second = asyncio.run(scenario())
    opened = {e.connection: e for e in record.entries() if b'"fact":"connected"' in e.payload}

    assert [decode_fact(opened[index].payload).url for index in range(6)] == [url, url, second, second, url, url]
    assert {index: record.streams_of(index) for index in range(6)} == {0: {SOL}, 1: {BTC}} | {
        2: {SOL},
        3: {BTC},
        4: {SOL},
        5: {BTC},
    }
    # From the beginning, and not from one to the next: a machine that is busy then may make any of them late.
    assert all(opened[2 * copy].recv_ts - record.began >= copy * 399_000_000 for copy in range(3))


def test_markets_come_and_go_without_a_hole_in_the_others(tmp_path):
    """
    A new one is asked for where there is room, on a new connection where there is none; what carries nothing is closed.
    Requests are facts; no connection of others is made again.
    """

    async def scenario():
        async with small_venue() as (venue, url), recording(tmp_path, url, [SOL], markets=1) as record:
            await record.until(lambda: slots(record.frames(0), "SOL-PERP"))
            record.capture.carry([BTC, SOL])
            await record.until(lambda: len(slots(record.frames(2), "BTC-PERP")) > 3)
            record.capture.carry([SOL])
            await record.until_fact(Disconnected, 1)
            last = len(record.frames(2))
            record.capture.carry([BTC, SOL])
            await record.until(lambda: len(record.frames(2)) > last + 3)
            record.capture.carry([BTC])
            await record.until_fact(Disconnected, 2)
            assert [set(markets) for markets in venue.subscribed.values()] == [{"BTC-PERP"}]
            assert not record.running.done()
        return record

    record = asyncio.run(scenario())
    requested = [
        (e.connection, fact.stream.symbol, fact.op)
        for e in record.entries()
        if e.kind == EntryKind.FACT and isinstance(fact := decode_fact(e.payload), Requested)
    ]

    idle = "it has no stream to carry any more"
    assert [end.why for end in record.facts(Disconnected)] == [idle, idle, "the recorder is stopping"]
    assert [(e.connection, e.attempt) for e in record.entries() if b'"fact":"connected"' in e.payload] == [
        (0, 1),
        (2, 1),
        (2, 2),
    ]
    # A connection that is down is expected to carry it from the moment of the change, and asks for it once it is up.
    assert requested == [
        (0, "SOL-PERP", "subscribe"),
        (2, "BTC-PERP", "subscribe"),
        (2, "BTC-PERP", "subscribe"),
        (2, "BTC-PERP", "unsubscribe"),
        (2, "BTC-PERP", "subscribe"),
        (2, "BTC-PERP", "subscribe"),
        (0, "SOL-PERP", "unsubscribe"),
    ]
    assert in_a_row(slots(record.frames(0), "SOL-PERP"))


def test_a_market_that_is_removed_beside_another_is_unsubscribed(tmp_path):
    """
    The venue must not go on sending it; the connection stays.
    """

    async def scenario():
        async with small_venue() as (venue, url), recording(tmp_path, url, [SOL, BTC]) as record:
            await record.until(lambda: slots(record.frames(), "BTC-PERP"))
            record.capture.carry([SOL])
            await record.until(lambda: list(venue.subscribed.values()) == [{"SOL-PERP"}])
            record.capture.carry([BTC, SOL])
            await record.until(lambda: list(venue.subscribed.values()) == [{"BTC-PERP", "SOL-PERP"}])
        return record

    record = asyncio.run(scenario())

    assert len(record.facts(Connected)) == 1
    assert in_a_row(slots(record.frames(), "SOL-PERP"))


def test_a_change_while_a_connection_is_away_is_what_it_asks_for_when_it_is_back(tmp_path):
    """
    And a connection that has nothing to ask for any more is not made again.
    """

    async def scenario():
        async with small_venue() as (venue, url):
            venue.doomed.update({"SOL-PERP", "BTC-PERP"})
            async with recording(tmp_path, url, [SOL], [BTC], markets=1) as record:
                await record.until_fact(Disconnected, 2)
                record.capture.carry([BTC])
                venue.doomed.clear()
                await record.until(lambda: slots(record.frames(1), "BTC-PERP"))
                attempts = record.capture._copies[0].lines[0].attempt
                await asyncio.sleep(0.3)
                assert record.capture._copies[0].lines[0].attempt == attempts
                assert list(venue.subscribed.values()) == [{"BTC-PERP"}]
            return record

    record = asyncio.run(scenario())

    assert slots(record.frames(), "SOL-PERP") == []


def test_a_change_while_stopping_changes_nothing(tmp_path):
    """
    Nothing may begin any more, and nothing may fail.
    """

    async def scenario():
        async with small_venue() as (_, url), recording(tmp_path, url, [SOL]) as record:
            await record.until(record.frames)
            stopping = asyncio.create_task(record.capture.stop())
            await asyncio.sleep(0)
            record.capture.carry([BTC, SOL])
            await stopping
            await asyncio.wait_for(record.running, WITHIN_S)
            return record

    record = asyncio.run(scenario())

    assert [fact.stream for fact in record.facts(Requested)] == [SOL]
