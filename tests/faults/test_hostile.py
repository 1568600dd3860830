"""
A venue that means harm, on one of two connections of a real process: its memory grows by no more than 64 MiB, the
connection is cut and the reason is on record, the other connection misses nothing, and no name or text of the venue's
gets into a path or raw into the log.
"""

import asyncio
import itertools
import json
import os
import time
import zlib

import pytest
from children import Bench, memory_kb, wait_until
from peers import Loop, frame, served, shake_hands

from recorder.records import SECOND_NS, Disconnected, EntryKind, decode_fact

GROWTH_KB = 64 << 10
HEARTBEAT = frame(b'{"channel":"heartbeat"}')
GOOD = 1
"""The connection to a venue that is well."""
LONGEST_S = 12.5
"""For an attack: the recorder's own limits are 11 s."""


def data(channel, payload):
    """
    A data frame, as the servers write it.
    """
    text = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    return frame(json.dumps({"channel": channel, "data": text}, separators=(",", ":")).encode())


def book(name, index, **members):
    """
    A book of no level.
    """
    body = {"bids": [], "asks": [], "marketName": name, "marketType": "perp", "marketIndex": index}
    return data(f"orderbook_perp_{index}_grouped_1", {**body, "ts": 1_795_000_000_000, "slot": 1, **members})


async def pour(writer, chunks, *, for_s=LONGEST_S, beats=True):
    """
    As fast as the other side reads, until it hangs up; with heartbeats between, if whole messages may come.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + for_s
    beat = 0.0
    for chunk in chunks:
        if loop.time() > until:
            return
        if beats and loop.time() > beat:
            beat = loop.time() + 4
            writer.write(HEARTBEAT)
        writer.write(chunk)
        await writer.drain()


async def giant_frame(writer):
    """
    Announces 2 GiB, and sends some of it.
    """
    writer.write(frame(b"x" * 100_000, size=2 << 30))
    await pour(writer, itertools.repeat(b"x" * 65_536), for_s=3, beats=False)


async def endless_fragments(writer):
    """
    A message that never ends, in fragments of no byte.
    """
    writer.write(frame(b"", fin=False))
    await pour(writer, itertools.repeat(frame(b"", opcode=0, fin=False) * 2000), beats=False)


async def large_fragments(writer):
    """
    A message that never ends, in fragments as large as a message may be.
    """
    writer.write(frame(b"x" * 1000, fin=False))
    await pour(writer, itertools.repeat(frame(b"x" * (1 << 20), opcode=0, fin=False)), beats=False)


async def ping_flood(writer):
    """
    Pings with the largest payload there is.
    """
    await pour(writer, itertools.repeat(frame(b"p" * 125, opcode=9) * 200))


async def deflate_bomb(writer):
    """
    Each 1000 times larger than it was sent: what comes out looks like books that were asked for.
    """
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = bomb.compress(b'{"channel":"' + b"x" * 1_000_000 + b'"}') + bomb.flush(zlib.Z_SYNC_FLUSH)
    await pour(writer, itertools.repeat(frame(packed[:-4], rsv1=True)))


async def large_frames(writer):
    """
    As large as they may be, and of a channel that was asked for.
    """
    await pour(writer, itertools.repeat(book("SOL-PERP", 0, extra="y" * 4_000_000)))


async def invalid_text(writer):
    """
    Text that is no UTF-8.
    """
    await pour(writer, itertools.repeat(frame(b'{"channel":"\xff\xfe\x80"}') * 200))


async def deep_json(writer):
    """
    A million brackets.
    """
    deep = b'{"channel":"orderbook_perp_0_grouped_1","data":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"
    await pour(writer, itertools.repeat(frame(deep)))


async def huge_numbers(writer):
    """
    Of a million digits each.
    """
    text = '{"bids":[],"asks":[],"marketName":"SOL-PERP","marketType":"perp","marketIndex":0,"ts":%s,"slot":%s}'
    digits = "9" * 500_000
    await pour(writer, itertools.repeat(data("orderbook_perp_0_grouped_1", text % (digits, digits))))


MANY = 60_000
"""More than twice what may come at once."""


def many(text):
    """
    Chunks of frames, each with another number in it; made at once, for an attack must be fast.
    """
    made = [frame(text % n) for n in range(MANY)]
    return [b"".join(made[at : at + 500]) for at in range(0, MANY, 500)]


async def unknown_channels(writer):
    """
    A hundred thousand, each another.
    """
    await pour(writer, many(b'{"channel":"channel-%d-' + b"n" * 60 + b'","data":"{}"}'))


async def unknown_markets(writer):
    """
    Millions, with names as long as a frame.
    """
    numbers = itertools.count()
    await pour(writer, (book(f"M{n}-{'N' * 300_000}", n % 99_999) for n in numbers))


async def endless_errors(writer):
    """
    Each in other words.
    """
    await pour(writer, many(b'{"error":"Error %d ' + b"e" * 300 + b'"}'))


EVIL = "../../evil\x00\x1b[31m\r\n2026-11-27 FAKE LINE \u202e%s"


async def evil_names(writer):
    """
    Names that mean a path, a colour of the terminal, another line of the log.
    """
    sent = [
        frame(json.dumps({"error": EVIL, "channel": EVIL}).encode()),
        frame(json.dumps({"message": EVIL}).encode()),
        frame(json.dumps({"channel": EVIL, "data": EVIL}).encode()),
        book(EVIL, 77),
        book(EVIL, 0),
        frame(EVIL.encode()),
        frame(b"\x03\xf3" + EVIL.encode()[:100], opcode=8),
    ]
    for each in sent:
        writer.write(each)
    await writer.drain()


def told_of(entries, kind):
    """
    The facts of a kind, each with its connection.
    """
    told = [(decode_fact(e.payload), e.connection) for e in entries if e.kind == EntryKind.FACT]
    return [(fact, number) for fact, number in told if isinstance(fact, kind)]


ATTACKS = (
    giant_frame,
    endless_fragments,
    large_fragments,
    ping_flood,
    deflate_bomb,
    large_frames,
    invalid_text,
    deep_json,
    huge_numbers,
    unknown_channels,
    unknown_markets,
    endless_errors,
    evil_names,
)


class Hostile:
    """
    Attacks each connection in another way, in turn; then is quiet.
    """

    def __init__(self):
        self.begun = []

    async def behave(self, reader, writer):
        """
        To one client.
        """
        await shake_hands(reader, writer, deflate=True)
        writer.write(HEARTBEAT)
        number = len(self.begun)
        if number >= len(ATTACKS):
            await reader.read()
            return
        self.begun.append(time.time_ns())
        reading = asyncio.ensure_future(reader.read(1 << 30))
        try:
            await ATTACKS[number](writer)
            # From here on it is deaf and dumb, with the socket open.
            await asyncio.wait([reading], timeout=LONGEST_S)
        finally:
            reading.cancel()


@pytest.mark.timeout(420)
def test_a_hostile_venue_costs_its_own_connection_and_no_memory(tmp_path):
    """
    One attack after the other, on one process: what a flood leaves behind would add up.
    """
    hostile = Hostile()
    with Loop() as loop, served(loop, hostile.behave) as port:
        bench = Bench(tmp_path, tick_ms=100)
        try:
            config = bench.config(
                url=f"ws://127.0.0.1:{port}/ws",
                venue=f'copy_urls = ["{bench.url}"]',
                extra="[capture]\nredundancy = 2\nreconnect_first_s = 0.1\nreconnect_max_s = 1",
            )
            recorder = bench.recorder(config)
            bench.carrying(recorder)
            since, rss = time.time_ns() + SECOND_NS, memory_kb(recorder.pid)
            peaks = {}

            def over():
                assert recorder.alive, recorder.said[-3000:]
                if hostile.begun:
                    peaks[ATTACKS[len(hostile.begun) - 1].__name__] = memory_kb(recorder.pid, "VmHWM") - rss
                return len(hostile.begun) == len(ATTACKS)

            wait_until(over, LONGEST_S * len(ATTACKS))
            time.sleep(2)
            until = time.time_ns()
            grown = memory_kb(recorder.pid, "VmHWM") - rss
            assert recorder.stop() == 0
            bench.seal()
            account = bench.account(since=since, until=until)
            entries = bench.entries()
        finally:
            bench.close()

    print({name: f"{kb / 1024:.1f} MiB" for name, kb in peaks.items()}, account)
    ends = [
        decode_fact(entry.payload)
        for entry in entries
        if entry.kind == EntryKind.FACT and entry.connection != GOOD and b'"disconnected"' in entry.payload
    ]
    words = [end.why for end in ends]
    print(words)
    assert grown <= GROWTH_KB
    assert all(end.cause in {"venue", "network"} for end in ends if "the recorder is stopping" not in end.why)
    # Streams of the one connection move to probation at times, so that two attacks are under way: told by number.
    for said, times in {
        "1009": 3,
        "a flood of pings": 1,
        "a compression bomb": 1,
        # On a machine too slow to take a flood as one, the slower of them pass for a feed.
        "a flood of frames that nobody asked for": 1,
        "MB that is of no use": 2,
        "the venue closed the connection": 1,
    }.items():
        assert sum(said in why for why in words) >= times, said
    assert len(words) >= len(ATTACKS)
    # The good connection heard everything.
    assert account.unexplained == []
    assert account.stored == account.published
    assert not [fact for fact, number in told_of(entries, Disconnected) if number == GOOD and fact.cause != "recorder"]
    log = recorder.said
    assert all(line.isprintable() for line in log.splitlines())
    assert not [line for line in log.splitlines() if line.startswith("2026-11-27 FAKE")]
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert not [name for name in names if "evil" in name]
    assert not (tmp_path.parent / "evil").exists()
    assert all(name.isprintable() and ".." not in name for name in names)
    assert sum(len(os.fsencode(name)) for name in names) < 100_000
