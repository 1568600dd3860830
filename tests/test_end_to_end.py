"""
The whole path: a venue on a real loopback websocket, the real recorder, the seal, and the lake compared with what was
sent, by a decoder that shares no code with it and by the venue's own ledger.
"""

import asyncio
from collections import Counter, defaultdict
from pathlib import Path

import polars as pl
import pytest

import reference
from captures import CAPTURES, FIXTURES, capture
from loopback import within_an_hour
from recorder.analysis import Lake
from recorder.config import parse_config
from recorder.daemon import Recorder
from recorder.journal.reader import read_merged, segments
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import SECOND_NS, EntryKind
from recorder.simulator.faults import Drop, Garbage, Silence, WithholdFills
from recorder.simulator.ledger import digest, read_ledger
from recorder.simulator.server import SimulatorOptions, serve

SPOT_DECIMALS = {"USDC": 6, "SOL": 9, "USDT": 6, "BONK": 5}
SLACK_NS = SECOND_NS // 10
"""Between two clocks of one machine, anchored apart, and through a socket."""

CONFIG = """
[venue]
name = "loopback"
url = "{url}"
network = "mainnet-beta"
[markets]
perp = ["SOL-PERP", "BTC-PERP", "ETH-PERP", "1MBONK-PERP"]
spot = {spot}
channels = {channels}
grouping = {grouping}
[storage]
root = "{root}"
[capture]
silent_after_s = {silent_after_s}
[quality]
trade_wait_s = 2
"""


def record(
    root: Path,
    options: SimulatorOptions,
    *,
    for_s: float | None,
    channels: str = '["orderbook", "trades"]',
    grouping: str = "[1]",
    spot: str = '["SOL", "USDC"]',
    silent_after_s: float = 5.0,
) -> None:
    """
    Run venue and recorder until the venue is done, or for a time; then seal the hour so far.
    """

    async def scenario():
        listening, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
        venue = asyncio.create_task(serve(options, listening.set_result, stop))
        await asyncio.wait([venue, listening], return_when=asyncio.FIRST_COMPLETED)
        chosen = {"spot": spot, "channels": channels, "grouping": grouping, "silent_after_s": silent_after_s}
        text = CONFIG.format(url=await listening, root=root, **chosen)
        recorder = Recorder(parse_config(text, file="test"), seal=False, for_s=for_s)
        recording = asyncio.create_task(recorder.run())
        await asyncio.wait([venue, recording], return_when=asyncio.FIRST_COMPLETED)
        recorder.stop("the venue is done")
        await recording
        stop.set()
        await venue

    asyncio.run(scenario())
    seal(root, open_hour=True)


def lake_rows(root: Path) -> dict[tuple[str, str], list[dict[str, object]]]:
    """
    All rows of the markets' tables by table and symbol, in the order of receipt.
    """
    lake = Lake(root)
    found: dict[tuple[str, str], list[dict[str, object]]] = {}
    for table in sorted(path.name for path in (root / "lake").iterdir()):
        if table == "trades":
            frame = lake.trades(units="raw")
        elif table.startswith("books"):
            frame = lake.books(table=table, units="raw")
        else:
            continue
        for row in reference.rows(frame.sort("recv_ts", "run", "seq").collect().to_arrow()):
            found.setdefault((table, row["symbol"]), []).append(row)
    return found


@pytest.mark.parametrize("name", CAPTURES)
def test_every_data_frame_of_a_capture_is_in_the_lake_value_by_value(tmp_path, name):
    """
    Sent over a real websocket by the simulator, as fast as it is read; no frame more, none less, in order.
    """
    root, ledger = tmp_path / "root", tmp_path / "ledger"
    options = SimulatorOptions(replay=FIXTURES / f"{name}.jsonl.zst", speed=0, once=True, ledger=ledger)
    frames = [captured.frame for captured in capture(name)]
    names = {
        (e.market_type, e.market_index): e.market_name
        for frame in frames
        if (e := reference.decode(frame, size_exponent=9)) is not None and e.market_name is not None
    }
    expected = defaultdict(list)
    for frame in frames:
        probe = reference.decode(frame, size_exponent=9)
        if probe is None:
            continue
        symbol = names[probe.market_type, probe.market_index]
        exponent = 9 if probe.market_type == "perp" else SPOT_DECIMALS[symbol]
        decoded = reference.decode(frame, size_exponent=exponent)
        expected[decoded.table, symbol].append({**decoded.columns, "symbol": symbol, "size_exponent": exponent})

    channels = '["orderbook", "orderbook_indicative", "trades"]'
    record(
        root,
        options,
        for_s=100,
        channels=channels,
        grouping="[1, 10, 100]",
        spot=str(list(SPOT_DECIMALS)).replace("'", '"'),
    )

    stored = lake_rows(root)
    assert {key: len(rows) for key, rows in stored.items()} == {key: len(rows) for key, rows in expected.items()}
    origin = reference.ORIGIN - {"symbol", "size_exponent"}
    for key, rows in stored.items():
        for place, (row, wanted) in enumerate(zip(rows, expected[key], strict=True)):
            assert row.keys() - origin == wanted.keys(), key
            flags = row["flags"] & reference.CONTENT_FLAGS, wanted["flags"] & reference.CONTENT_FLAGS
            assert flags[0] == flags[1], (key, place)
            for column in wanted.keys() - {"flags"}:
                assert row[column] == wanted[column], (key, place, column)
    sent = [line for line in read_ledger(ledger) if line.what == "sent"]
    unplaced = Lake(root).undecodable().collect()
    placed = sum(map(len, stored.values()))
    assert len(sent) - placed - len(unplaced) == 0, "unexplained"
    assert unplaced.is_empty()
    assert verify(root).problems == []


def test_what_a_venue_sent_and_what_it_kept_back_are_both_told(tmp_path):
    """
    Against the ledger of a simulated venue with a silence, withheld fills, a dropped connection and garbage: each frame
    sent is a row or inside a hole that is named, and each fault is an event with the right bounds and count.
    """
    root, ledger = tmp_path / "root", tmp_path / "ledger"
    options = SimulatorOptions(
        tick_ms=50,
        ledger=ledger,
        faults=(
            Garbage(2.0, text="{not JSON"),
            # Longer than a market may be silent, shorter than what moves it to a connection for silent ones.
            Silence(from_s=3.0, to_s=6.0, market="SOL-PERP"),
            WithholdFills(from_s=3.0, to_s=6.0, every=2),
            Drop(8.0),
        ),
    )

    within_an_hour(40)
    record(root, options, for_s=14, silent_after_s=2.0)

    lines = read_ledger(ledger)
    lake = Lake(root)
    books, trades, quality = lake.books(units="raw").collect(), lake.trades(units="raw").collect(), nanoseconds(lake)
    heard = [e for e in read_merged(segments(root / "journal"), start=0, end=1 << 62) if e.kind == EntryKind.FRAME]
    frames_of_ledger_are_rows(lines, heard, books, trades, quality)
    the_silence_is_told(lines, heard, quality)
    the_withheld_fills_are_told(lines, trades, quality)
    the_drop_is_told(lines, heard, books, quality)
    (garbage,) = lake.undecodable().collect().iter_rows(named=True)
    assert (garbage["kind"], garbage["payload"]) == ("undecodable", b"{not JSON")
    assert quality.filter(kind="undecodable")["missing"].to_list() == [1]
    beats = sum(line.what == "heartbeat" for line in lines)
    coverage = lake.coverage().collect()
    assert beats >= 1
    assert set(coverage["heartbeats"]) == {beats}
    assert len(coverage) == 12
    assert verify(root).problems == []


def nanoseconds(lake: Lake) -> pl.DataFrame:
    """
    The quality table with integer instants.
    """
    return lake.quality().with_columns(pl.col("start", "end", "true_start").dt.epoch("ns")).collect()


def frames_of_ledger_are_rows(lines, heard, books, trades, quality) -> None:
    """
    Sent = stored + inside a named hole; and what was stored is what was sent, by digest and fill id.
    """
    sent = [line for line in lines if line.what == "sent"]
    data = [e for e in heard if b'"data"' in e.payload]
    stored = Counter((digest(e.payload.decode()), len(e.payload)) for e in data)
    holes = [(e["start"], e["end"]) for e in quality.filter(kind="disconnected").iter_rows(named=True)]
    unexplained = []
    for line in sent:
        if stored[line.sha, line.length]:
            stored[line.sha, line.length] -= 1
        elif not any(start - SLACK_NS <= line.t_ns <= end + SLACK_NS for start, end in holes):
            unexplained.append(line)
    assert unexplained == []
    assert stored.total() == 0, "something was stored that was not sent"
    assert len(sent) > 300
    assert sorted([*books["seq"], *trades["seq"]]) == sorted(e.seq for e in data)
    fills = Counter(line.fill_id for line in sent if line.fill_id is not None)
    assert Counter(trades["fill_record_id"]) <= fills
    assert fills.total() - len(trades) <= 20, "no more than what was on its way when the connection was cut"


def the_silence_is_told(lines, heard, quality) -> None:
    """
    From the receipt of the last book that was sent before it to that of the first after it, on a connection that lived.
    """
    (fault,) = [line for line in lines if line.what == "fault_end" and line.market == "SOL-PERP"]
    (silent,) = quality.filter(kind="silent", symbol="SOL-PERP").iter_rows(named=True)
    sent = [line for line in lines if line.what == "sent" and line.channel == "orderbook_perp_0_grouped_1"]
    received = {digest(entry.payload.decode()): entry.recv_ts for entry in heard}
    assert silent["start"] == received[[line.sha for line in sent if line.t_ns < fault.start_ns][-1]]
    assert silent["end"] == received[next(line.sha for line in sent if line.t_ns >= fault.end_ns)]
    assert silent["cause"] == "venue"
    assert quality.filter(kind="silent").filter(pl.col("symbol").is_in(["BTC-PERP", "ETH-PERP", "SOL"])).is_empty()


def the_withheld_fills_are_told(lines, trades, quality) -> None:
    """
    Every id missing between two that came is counted, once; what was kept back, within the bounds of an event.
    """
    withheld = {
        (line.channel, line.fill_id): line.t_ns
        for line in lines
        if line.what == "withheld" and line.fill_id is not None
    }
    told = 0
    for (symbol, market_type, index), rows in trades.group_by("symbol", "market_type", "market_index"):
        ids = set(rows["fill_record_id"])
        missing = set(range(min(ids), max(ids) + 1)) - ids
        gaps = quality.filter(kind="trade_gap", symbol=symbol)
        assert gaps["missing"].sum() == len(missing), symbol
        for fill in missing:
            kept_back = withheld.get((f"trades_{market_type}_{index}", fill))
            if kept_back is not None:
                bounds = zip(gaps["start"], gaps["end"], strict=True)
                assert any(start - SLACK_NS <= kept_back <= end + SLACK_NS for start, end in bounds), (symbol, fill)
                told += 1
    assert told > 0, "no withheld fill lay between two that came"


def the_drop_is_told(lines, heard, books, quality) -> None:
    """
    From the last book of the first market to fall silent to the first of the last one to come back.
    """
    cut, _ = [line for line in lines if line.what == "disconnected"]
    dropped = quality.filter(pl.col("kind") == "disconnected", pl.col("cause") != "recorder").row(0, named=True)
    assert dropped["start"] - SLACK_NS <= cut.t_ns <= dropped["end"] + SLACK_NS
    assert dropped["end"] in books["recv_ts"].dt.epoch("ns").to_list()
    attempts = {entry.seq: entry.attempt for entry in heard}
    for (symbol,), rows in books.group_by("symbol"):
        before = max(entry for entry in rows["seq"] if attempts[entry] == 1)
        after = min(entry for entry in rows["seq"] if attempts[entry] == 2)
        begin, end = (rows.filter(seq=seq)["recv_ts"].dt.epoch("ns").item() for seq in (before, after))
        assert dropped["start"] <= begin < end <= dropped["end"], symbol
    assert quality.filter(kind="connected").height == 2
