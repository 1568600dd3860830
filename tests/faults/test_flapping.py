"""
A connection that is cut every second for an hour, in virtual time on real sockets; and a thousand clients of a server
that restarts.
"""

import asyncio
import contextlib
import gc
import itertools
import logging
import tracemalloc
from bisect import bisect_left, bisect_right
from pathlib import Path
from random import Random

import pytest
from virtual_time import complete, virtual_time
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from lake_cases import book
from loopback import config_text, entries, facts
from recorder.capture.session import Session, SessionSettings
from recorder.config import parse_config
from recorder.daemon import Recorder
from recorder.daemon import recorder as recorder_module
from recorder.lake.layout import parse_hour
from recorder.records import SECOND_NS, Connected, Disconnected, EntryKind, Stream, decode_fact

START = parse_hour("2026-03-01T10")
HOUR_S = 3600
SETTLED_S = 900
"""By then all caches are full and each kind of thing has happened."""


class Flapping:
    """
    A venue with heartbeats and a book, which cuts all its connections each second of the first hour.
    """

    def __init__(self, loop):
        self._loop = loop
        self._open = set()

    def cut(self):
        """
        Of the hour that is not over.
        """
        if self._loop.time() < HOUR_S:
            for connection in self._open:
                connection.transport.abort()

    async def talk(self, connection):
        """
        To one client.
        """
        self._open.add(connection)
        try:
            with contextlib.suppress(ConnectionClosed):
                for slot in itertools.count():
                    if slot % 4 == 0:
                        await connection.send('{"channel":"heartbeat"}')
                    for index, market in enumerate(("SOL-PERP", "BTC-PERP")):
                        at = round(self._loop.time() * SECOND_NS)
                        await connection.send(book(market, index, START + at, slot).decode())
                    await asyncio.sleep(1)
        finally:
            self._open.discard(connection)


@pytest.mark.timeout(400)
def test_an_hour_of_flapping_leaks_nothing_and_never_gives_up(tmp_path, monkeypatch):
    """
    Every wait is within its bounds, the first is short, and afterwards the recorder has as many tasks and sockets as
    before, and as much memory; when the flapping ends it records on.
    """
    # The writer's thread lives in real time: a virtual second is too short for its last commit.
    monkeypatch.setattr(recorder_module, "COMMIT_DEADLINE_S", 1e6)
    seen = []

    def look(loop):
        gc.collect()
        ours = tracemalloc.take_snapshot().filter_traces(
            [
                tracemalloc.Filter(inclusive=True, filename_pattern=f"*{place}*")
                for place in ("recorder/capture", "recorder/quality", "recorder/daemon", "websockets/asyncio/client")
            ]
        )
        size = sum(statistic.size for statistic in ours.statistics("filename"))
        sockets = sum(1 for _ in Path("/proc/self/fd").iterdir())
        seen.append((loop.time(), len(asyncio.all_tasks(loop)), sockets, size))

    async def scenario(loop):
        venue = Flapping(loop)
        async with serve(venue.talk, "127.0.0.1", 0, ping_interval=None) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            recorder = Recorder(parse_config(config_text(url, tmp_path), file="test"), seal=False)
            running = asyncio.create_task(recorder.run())
            for until in (SETTLED_S, HOUR_S // 2, HOUR_S + 120):
                while loop.time() < until:
                    await asyncio.sleep(1)
                    venue.cut()
                assert not running.done()
                if not tracemalloc.is_tracing():
                    tracemalloc.start()
                look(loop)
            recorder.stop("over")
            await running

    # pytest keeps each line that is logged.
    logging.disable()
    try:
        with virtual_time(START) as loop:
            complete(loop, scenario(loop))
    finally:
        tracemalloc.stop()
        logging.disable(logging.NOTSET)

    told = [(e.recv_ts, decode_fact(e.payload)) for e in entries(tmp_path) if e.kind == EntryKind.FACT]
    ends = [at for at, fact in told if isinstance(fact, Disconnected)][:-1]
    begins = [at for at, fact in told if isinstance(fact, Connected)]
    waits = [(begin - end) / SECOND_NS for begin, end in zip(begins[1:], ends, strict=True)]
    lived = [fact.lived_s for fact in facts(tmp_path, Disconnected)][:-1]
    print(
        f"{len(begins)} connections, waits {waits[0]:.2f} … mean {sum(waits) / len(waits):.1f}, max {max(waits):.1f} s"
    )
    print(seen)
    assert waits[0] <= 1.0
    assert max(waits) <= 30.5
    assert max(waits) > 25
    assert len(begins) > 150
    assert max(lived) <= 1.01
    # After the last cut it is back within the longest wait, and stays.
    assert begins[-1] <= START + (HOUR_S + 31) * SECOND_NS
    assert entries(tmp_path)[-1].recv_ts >= START + (HOUR_S + 119) * SECOND_NS
    (_, tasks, sockets, size), *_, (_, tasks_then, sockets_then, size_then) = seen
    assert tasks_then <= tasks + 3, "a connection that is up has two more than one that waits"
    assert sockets_then <= sockets + 3, "and a socket at either end"
    assert size_then - size < 128 << 10


@pytest.mark.parametrize("down_s", [0.0, 10.0, 90.0], ids=lambda s: f"down for {s:g} s")
def test_a_thousand_clients_do_not_come_back_at_once(down_s):
    """
    After a restart of the server, at whatever moment it is back: in no tenth of a second more than a small share of
    them, for waits are drawn evenly from nothing to a growing limit. Each comes back within the limit of 30 s.
    """
    random = Random(5)
    stream = Stream("perp", "SOL-PERP", "orderbook", 1)
    back: list[float] = []
    attempts: list[float] = []
    for _ in range(1000):
        session = Session([stream], SessionSettings(), random)
        session.opened(0)
        now = 3600.0
        now += session.ended(round(now * SECOND_NS), opened=True)
        while now < 3600 + down_s:
            attempts.append(now)
            # Refused at once: the hardest on a server.
            now += session.ended(round(now * SECOND_NS), opened=False)
        back.append(now - 3600 - down_s)
    back.sort()
    most = max(bisect_right(back, at + 0.1) - bisect_left(back, at) for at in back)
    print(f"down {down_s:g} s: last back after {back[-1]:.1f} s, most within 0.1 s: {most}, attempts {len(attempts)}")

    assert back[-1] <= 30
    assert most <= {0.0: 140, 10.0: 90, 90.0: 40}[down_s]
