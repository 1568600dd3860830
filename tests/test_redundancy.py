"""
Everything recorded twice: what one connection misses, the other has, and the lake holds it once.
"""

import asyncio
import contextlib
from collections import Counter
from functools import partial
from io import StringIO
from urllib.parse import urlsplit

import polars as pl
import pytest

from lake_cases import HOUR as OLD_HOUR
from lake_cases import SOL, SOL_TRADES, Run, book, make_root, trade
from loopback import config_text, entries, facts, recording, simulator, until
from recorder.analysis import Lake
from recorder.analysis.events import with_gaps
from recorder.lake.layout import parse_hour
from recorder.lake.sealing import seal
from recorder.records import SECOND_NS, Connected, EntryKind, Flag, RunStarted, Stream
from recorder.show_quality import print_events
from recorder.simulator.core import Venue
from recorder.simulator.drive import Link
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.terminal import PlainConsole
from virtual_recorder import VirtualRecorder

HOUR = parse_hour("2026-03-01T10")
START = HOUR + 600 * SECOND_NS
STREAMS = [
    Stream(market.market_type, market.symbol, channel, 1 if channel == "orderbook" else None)
    for market in DEFAULT_MARKETS
    for channel in ("orderbook", "trades")
]


def recorded(root, *, for_s=180, venue=None, **options):
    """
    A sealed hour of a recorder in virtual time; what it heard.
    """
    recorder = VirtualRecorder(root, venue or Venue(DEFAULT_MARKETS, start=START), STREAMS, start=START, **options)
    recorder.until(START + for_s * SECOND_NS)
    recorder.stop()
    seal(root)
    return recorder


def stored(root):
    """
    Rows of books and trades together: channel, when they came, on which connection, their flags.
    """
    lake = Lake(root)
    tables = {"orderbook": lake.books(units="raw"), "trades": lake.trades(units="raw")}
    columns = ["recv_ts", "connection", "symbol", "flags"]
    return pl.concat([of.select(*columns, channel=pl.lit(name)) for name, of in tables.items()]).collect()


def kinds(root):
    """
    How many events of each kind.
    """
    return Counter(Lake(root).quality().collect()["kind"])


ALWAYS = {"recorder_started", "connected", "recorder_stopped", "recorder_down"}
"""Of a run that begins and ends within the hour."""
CUTS = {
    "one is cut": {0: (60.0,)},
    "the other is cut": {1: (60.0,)},
    "each is cut, in turn": {0: (60.0, 100.0), 1: (80.0, 120.0)},
}


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_a_cut_of_one_connection_costs_no_row_and_is_on_record(tmp_path, cuts):
    """
    Every payload either of them heard is a row, once; what was heard twice is counted; each outage is an event of its
    connection; and nothing is made up: no repeat, no missing fill, no silence, no row that says it comes after a gap.
    """
    links = {index: Link(latency_ms=3 + 7 * index, jitter_ms=4, cuts_s=cuts.get(index, ())) for index in (0, 1)}

    recorder = recorded(tmp_path, copies=2, links=links)

    by_connection = [Counter(e.payload for e in recorder.heard if e.connection == index) for index in (0, 1)]
    union = by_connection[0] | by_connection[1]
    rows = stored(tmp_path)
    assert len(rows) == union.total() > 2000
    assert min(by_connection, key=Counter.total) < union
    removed = Lake(tmp_path).coverage().collect()["duplicates_removed"].sum()
    assert removed == len(recorder.heard) - len(rows) > 1500
    told = with_gaps(Lake(tmp_path).events().collect(), partial(Lake(tmp_path).spans, None))
    ours = pl.col("cause") == "recorder"
    down = told.filter(~ours, kind="disconnected")
    assert Counter(down["connection"]) == {index: len(at) for index, at in cuts.items()}
    assert not down["gap"].any(), "the other heard it"
    printed = PlainConsole(width=80, highlight=False, markup=False, record=True, file=StringIO())
    print_events(printed, told.with_columns(pl.col("start", "end").to_physical()).rows(named=True), left_out=0)
    assert printed.export_text().count(", no gap\n") == len(down)
    # Both were stopped in order, and nothing is recorded from then on.
    assert told.filter(ours, kind="disconnected")["gap"].to_list() == [True, True]
    assert told.filter(kind="recorder_down")["gap"].to_list() == [True]
    assert kinds(tmp_path).keys() == {*ALWAYS, "disconnected"}
    marked = rows.filter((pl.col("flags") & Flag.FIRST_AFTER_GAP.value) != 0, pl.col("channel") == "orderbook")
    assert (marked["recv_ts"].dt.epoch("ns") < START + SECOND_NS).all()
    assert (rows["flags"] & Flag.REPEAT.value == 0).all()


def test_an_hour_in_which_one_copy_was_dead_for_a_while_is_proven_by_the_other(tmp_path):
    """
    The dead one is on record with all that is known of it; of the streams nothing is missing.
    """
    start, market = HOUR - 5 * SECOND_NS, DEFAULT_MARKETS[:1]
    streams = [stream for stream in STREAMS if stream.symbol == market[0].symbol]
    links = {0: Link(latency_ms=3, jitter_ms=4, dead_s=((600.0, 640.0),)), 1: Link(latency_ms=10)}
    recorder = VirtualRecorder(tmp_path, Venue(market, start=start), streams, start=start, copies=2, links=links)
    recorder.until(HOUR + 3665 * SECOND_NS)
    recorder.stop()

    seal(tmp_path)

    hour = pl.lit(HOUR).cast(pl.Datetime("ns", "UTC"))
    coverage = Lake(tmp_path).coverage().filter(pl.col("start") == hour).collect()
    assert len(coverage) == 2
    assert coverage.select("missing_s", "suspect_s", "longest_hole_s").sum().row(0) == (0, 0, 0)
    books = coverage.filter(channel="orderbook").row(0, named=True)
    assert (books["rows"], books["complete_s"]) == (9000, 3600)
    # It was found to be dead 11 s after its last heartbeat, and made again within a second.
    assert 8970 <= books["duplicates_removed"] <= 8985
    down = Lake(tmp_path).quality().filter(kind="disconnected", connection=0).sort("start").first().collect()
    assert down.select("cause", "evidence").row(0) == ("network", "no heartbeat for 11.2 s, after 606.2 s")


def test_of_two_publishers_the_books_of_both_stay_and_a_fill_in_other_words_is_flagged(tmp_path):
    """
    Frames pair by their bytes: what only means the same is not dropped, since nobody can say which of them is right.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, OLD_HOUR, streams=(SOL, SOL_TRADES))
    for connection in (0, 1):
        run.connect(OLD_HOUR, connection)
    for second in range(1, 60):
        at = OLD_HOUR + second * SECOND_NS
        run.frame(at, book("SOL-PERP", 0, at, second), 0)
        run.frame(at + 1, book("SOL-PERP", 0, at - SECOND_NS // 20, second), 1)
        fill = trade(0, at, second)
        run.frame(at + 2, fill, 0)
        run.frame(at + 3, fill if second % 2 else fill.replace(b"TakerAccount", b"OtherAccount"), 1)
        run.put(EntryKind.ALIVE, at + 4, b"", -1, 0)
    run.close(OLD_HOUR + 60 * SECOND_NS)

    seal(root)

    rows = stored(root)
    repeated = (pl.col("flags") & Flag.REPEAT.value) != 0
    assert Counter(rows.filter(channel="orderbook")["connection"]) == {0: 59, 1: 59}
    assert Counter(rows.filter(channel="trades")["connection"]) == {0: 59, 1: 29}
    assert Counter(rows.filter(repeated)["connection"]) == {1: 29}
    assert Lake(root).coverage().collect()["duplicates_removed"].sum() == 30
    (told,) = Lake(root).quality().filter(kind="trade_repeat").collect().iter_rows(named=True)
    assert (told["connection"], told["evidence"]) == (1, "fill ids that had come before (29 times)")


# ---- over sockets


@contextlib.asynccontextmanager
async def way_to(url):
    """
    A TCP relay to a venue; yields its URL, and what cuts all who came by it.
    """
    port, open_ends = urlsplit(url).port, set()

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def relay(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", port)
        open_ends.update((writer, back))
        await asyncio.wait(
            [asyncio.ensure_future(pump(reader, back)), asyncio.ensure_future(pump(there, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        cut((writer, back))

    def cut(ends=None):
        for end in list(ends or open_ends):
            open_ends.discard(end)
            end.transport.abort()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws", cut
    finally:
        server.close()
        cut()


def test_over_sockets_a_cut_of_one_copy_costs_nothing(tmp_path):
    """
    The second copy comes another way, which breaks: its outage is told live and in the lake, every frame is stored
    once, and a trade heard twice is not taken for one that the venue repeats.
    """
    told = []

    async def scenario():
        async with simulator(tick_ms=100) as url, way_to(url) as (second, cut):
            extra = "[capture]\nredundancy = 2\nreconnect_first_s = 0.3\n[seal]\nenabled = false"
            text = config_text(url, tmp_path, extra).replace("network =", f'copy_urls = ["{second}"]\nnetwork =')
            async with recording(tmp_path, text=text, on_event=told.append) as recorder:
                await until(lambda: {e.connection for e in data(tmp_path)} == {0, 1})
                await asyncio.sleep(1.5)
                cut()
                await until(lambda: len(facts(tmp_path, Connected)) == 3)
                await asyncio.sleep(1.5)
                assert not recorder.running.done()
                stopped = recorder.tape.clock.now()
            return url, second, stopped

    url, second, stopped = asyncio.run(scenario())
    seal(tmp_path, open_hour=True)

    (started,) = facts(tmp_path, RunStarted)
    assert started.urls == [url, second]
    assert {(fact.url, fact.attempt) for fact in facts(tmp_path, Connected)} == {(url, 1), (second, 1), (second, 2)}
    heard = [Counter(e.payload for e in data(tmp_path) if e.connection == index) for index in (0, 1)]
    rows = stored(tmp_path)
    assert len(rows) == (heard[0] | heard[1]).total() > 30
    # The first copy came before the second, and lost nothing until it was ended, which is not at the same moment.
    assert set(heard[1] - heard[0]) <= {e.payload for e in data(tmp_path) if e.recv_ts > stopped}
    assert heard[1].total() < heard[0].total()
    assert Lake(tmp_path).coverage().collect()["duplicates_removed"].sum() == (heard[0] & heard[1]).total() > 15
    # Of the second copy: the cut, and the end of the recording.
    down = Lake(tmp_path).quality().filter(kind="disconnected", connection=1).sort("start").collect()
    assert down["cause"].to_list() == ["network", "recorder"]
    live = [event.kind for event in told]
    assert "disconnected" in live
    assert not {"trade_repeat", "trade_gap", "silent", "unrequested"} & {*live, *kinds(tmp_path)}


def data(root):
    """
    The committed data frames.
    """
    return [e for e in entries(root) if e.kind == EntryKind.FRAME and b'"data"' in e.payload]
