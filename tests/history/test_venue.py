"""
A recording as a venue: what our own recorder makes of it is the recording.
"""

import asyncio
import contextlib
import json
import shutil

import polars as pl
import pytest
from websockets.asyncio.client import connect

from faulty_lake import END, START
from loopback import config_text, recording, until
from recorder.analysis import Lake
from recorder.errors import RecorderError
from recorder.history.frames import History
from recorder.lake import layout
from recorder.lake.heard import frames
from recorder.lake.sealing import seal
from recorder.records import SECOND_NS
from recorder.simulator.server import SimulatorOptions, serve

OURS = {"recv_ts", "run", "seq", "connection", "attempt", "flags"}
"""Columns that tell how we heard a row, and not what the venue said."""


@contextlib.asynccontextmanager
async def venue(history, **options):
    """
    A running replay; its URL, and the task.
    """
    listening, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    options = SimulatorOptions(timeline=history, crash=False, **options)
    running = asyncio.create_task(serve(options, listening.set_result, stop))
    try:
        yield await listening, running
    finally:
        stop.set()
        await running


def said(lake, table, start=None, end=None):
    """
    All that the venue said in a table, in an order of its own.
    """
    frame = (lake.trades if table == "trades" else lake.books)(start=start, end=end, units="raw").collect()
    columns = [name for name in frame.columns if name not in OURS]
    # Within one tick the order of markets is that of receipt: compare each market by itself.
    return frame.sort("symbol", "recv_ts", "run", "seq").select(columns)


@pytest.fixture(scope="module")
def without_journal(faulty_root, tmp_path_factory):
    """
    The same lake after its journal has expired.
    """
    root = tmp_path_factory.mktemp("sealed") / "lake"
    shutil.copytree(faulty_root, root)
    shutil.rmtree(root / "journal")
    return root


@pytest.mark.parametrize("source", ["journal", "lake"])
def test_our_recorder_records_the_replay_and_the_two_lakes_say_the_same(source, faulty_root, without_journal, tmp_path):
    """
    Every book and fill once, in order, with every number as it was; from the journal and from sealed files alone.
    """
    root = faulty_root if source == "journal" else without_journal
    history = History(root, ["SOL-PERP", "BTC-PERP"], None, None)
    assert {part.exact for part in history.parts} == {source == "journal"}

    async def again():
        async with venue(history, speed=0, once=True) as (url, running):
            text = config_text(url, tmp_path / "again")
            async with recording(tmp_path / "again", text=text):
                await asyncio.wait_for(running, 60)

    asyncio.run(again())
    seal(tmp_path / "again", open_hour=True)

    before, after = Lake(root), Lake(tmp_path / "again")
    for table in ("books", "trades"):
        wanted = said(before, table).filter(pl.col("symbol").is_in(["SOL-PERP", "BTC-PERP"]))
        assert wanted.height > 1000
        assert said(after, table).equals(wanted)
    if source == "journal":
        first, last = before.bounds()
        indices = {0, 1}
        heard = [e.payload for e, s in frames(root, first, last) if s.channel and s.channel.market_index in indices]
        first, last = after.bounds()
        assert [e.payload for e, s in frames(tmp_path / "again", first, last) if s.channel] == heard


def test_clients_are_answered_as_by_the_venue_and_hear_by_one_clock(faulty_root):
    """
    Acknowledgement, refusal, unsubscribe; two clients hear the same frames at the same pace; speed is kept.
    """
    start = START + 30 * SECOND_NS
    history = History(faulty_root, None, start, start + 20 * SECOND_NS)
    subscribe = {"type": "subscribe", "marketType": "perp", "channel": "orderbook", "market": "SOL-PERP"}

    wanted = [e.payload.decode() for e, s in frames(faulty_root, start, start + 20 * SECOND_NS)
              if s.name == "orderbook_perp_0_grouped_1"]  # fmt: skip
    one, two, none = [], [], []

    async def hear(found, url, *requests):
        clock = asyncio.get_running_loop().time
        async with connect(url) as socket:
            for request in requests:
                await socket.send(json.dumps(request))
            while True:
                message = await socket.recv()
                found.append((clock(), message))

    def heard():
        return len(none) > 1 and all({*wanted} <= {text for _, text in found} for found in (one, two))

    async def scene():
        began = asyncio.get_running_loop().time()
        async with venue(history, speed=10, lead_s=1.5) as (url, _):
            hearing = [
                hear(one, url, subscribe),
                hear(two, url, subscribe, subscribe | {"channel": "trades"}),
                hear(none, url, subscribe, subscribe | {"type": "unsubscribe"}, subscribe | {"market": "NOPE-PERP"}),
            ]
            tasks = [asyncio.create_task(each) for each in hearing]
            # At the pace it was recorded at it would take as long.
            await until(heard, 15)
            await asyncio.sleep(0.3)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        return began

    began = asyncio.run(scene())

    ack = {"message": "Subscribe received for channel: orderbook, market: SOL-PERP, marketType: perp"}
    assert json.loads(one[0][1]) == ack
    assert [text for _, text in one[1:]] == wanted
    assert [text for _, text in two if "orderbook_perp" in text] == wanted
    assert any('"trades_perp_0"' in text for _, text in two)
    assert [json.loads(text) for _, text in none] == [
        ack,
        {"channel": "orderbook", "error": "Error subscribing to channel"},
    ]
    assert len(wanted) == 20
    # A tenth of 19 s, and not before it is due.
    assert one[-1][0] - began > 1.5 + 1.8


def test_what_no_frame_of_the_venue_is_comes_as_it_came(faulty_root, without_journal):
    """
    Garbage is part of a history, from either source.
    """
    for root in (faulty_root, without_journal):
        due = [d for batch in History(root, None, START, END).batches() for d in batch if d.channel is None]
        assert [d.payload for d in due] == [b"{"]
        assert abs(due[0].offset_ns - 1000 * SECOND_NS) < SECOND_NS


def test_each_hour_comes_from_where_it_is_best(faulty_root, tmp_path):
    """
    The journal where it is whole; the sealed files where a segment is gone; and in words what cannot be had.
    """
    shutil.copytree(faulty_root, tmp_path / "root")
    victim = min((tmp_path / "root" / layout.JOURNAL).rglob("*.zst"))
    victim.unlink()

    parts = History(tmp_path / "root", None, None, None).parts

    assert [part.exact for part in parts] == [False, True]
    with pytest.raises(RecorderError, match="the journal of 2026-03-01T10 is gone"):
        History(tmp_path / "root", None, None, None, source="journal")
    with pytest.raises(RecorderError, match="nothing was recorded"):
        History(tmp_path / "root", None, END + 9000 * SECOND_NS, END + 9001 * SECOND_NS)
