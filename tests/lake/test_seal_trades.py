"""
What sealed hours say of fills that came late, without an id, broken, or before their market had a name.
"""

from pathlib import Path
from random import Random

import polars as pl
import pytest

from lake_cases import HOUR, NEXT, Run, S, book, frame, make_root, trade
from recorder.analysis import Lake
from recorder.analysis.events import is_gap
from recorder.lake.sealing import seal
from recorder.records import EntryKind, Stream

TRADES = Stream("perp", "SOL-PERP", "trades")
Put = list[tuple[float, bytes]]
"""Second from the first hour's begin, and payload."""


@pytest.fixture
def root(tmp_path) -> Path:
    """
    Without any journal.
    """
    return make_root(tmp_path / "root")


def fill(second: float, fill_id: int | None, index: int = 0) -> tuple[float, bytes]:
    """
    A fill that comes at that second.
    """
    payload = trade(index, HOUR + int(second * S), fill_id or 0)
    if fill_id is None:
        payload = payload.replace(b'\\"fillRecordId\\":0', b'\\"other\\":0')
    return second, payload


def sealed(root: Path, put: Put, *, until: float, streams: tuple[Stream, ...] = (TRADES,)) -> Lake:
    """
    A run of one connection to which this came, sealed.
    """
    run = Run(root, HOUR, streams=streams)
    run.connect(HOUR)
    beats: Put = [(5.0 * n, b"") for n in range(1, int(until / 5))]
    for second, payload in sorted([*put, *beats], key=lambda each: each[0]):
        run.frame(HOUR + int(second * S), payload or b'{"channel":"heartbeat"}')
        if not payload:
            for n in range(5):
                run.put(EntryKind.ALIVE, HOUR + int((second + n) * S) + 1, b"", -1, 0)
    run.close(HOUR + int(until * S))
    seal(root)
    return Lake(root)


def spans(lake: Lake, market: str = "SOL-PERP") -> list[tuple[float, float, str, str]]:
    """
    Stretches of the trades, in seconds from the first hour's begin.
    """
    rows = lake.spans(market).filter(pl.col("channel") == "trades")
    ns = rows.with_columns(pl.col("start", "end").cast(pl.Int64)).collect().rows(named=True)
    return [((r["start"] - HOUR) / S, (r["end"] - HOUR) / S, r["state"], r["why"]) for r in ns]


def not_complete(lake: Lake, until: float) -> list[tuple[float, float, str, str]]:
    """
    Stretches up to a second that are anything but complete.
    """
    return [span for span in spans(lake) if span[0] < until and span[2] != "complete"]


def test_fills_without_an_id_leave_their_stretch_unproven(root):
    """
    As many came as ids are left out: they may be those, or others, and the lake does not claim to know.
    """
    lake = sealed(root, [fill(10, 1), fill(20, 2), fill(30, None), fill(40, 4), fill(50, 5), fill(60, 6)], until=90)

    assert not_complete(lake, 55) == [
        (0, 10, "unverifiable", "no earlier fill"),
        (20, 40, "unverifiable", "trade_unnumbered"),
    ]
    assert lake.coverage().collect()["fills_missing"].to_list() == [0]


def test_a_fill_without_an_id_before_the_hour_ends_is_not_proven_by_the_next_hours_id(root):
    """
    The next id follows the last: but that says nothing of fills that have none.
    """
    last = 3600
    lake = sealed(root, [fill(10, 1), fill(20, None), fill(last + 10, 2), fill(last + 20, 3)], until=last + 90)

    assert not_complete(lake, last + 15)[1:] == [
        (10, 3600, "unverifiable", "trade_unnumbered"),
        (3600, 3610, "unverifiable", "trade_unnumbered"),
    ]


def test_a_fill_that_cannot_be_decoded_is_not_called_complete(root):
    """
    It came, its id cannot be read, and it is not in the table.
    """
    payload = frame("trades_perp_0", {"fillRecordId": 3, "a": 1}).replace(b'{\\"fill', b'[{\\"fill')

    lake = sealed(root, [fill(10, 1), fill(20, 2), (30.0, payload), fill(40, 4), fill(50, 5)], until=90)

    assert lake.trades(units="raw").collect()["fill_record_id"].to_list() == [1, 2, 4, 5]
    assert lake.undecodable().collect()["payload"].to_list() == [payload]
    assert not_complete(lake, 45)[1:] == [(20, 40, "suspect", "undecodable")]


def test_late_fills_close_the_gap_in_their_own_hour(root):
    """
    Half a minute late is not missing: the gap is gone from table, coverage and condition.
    """
    lake = sealed(root, [fill(10, 1), fill(20, 4), fill(50, 3), fill(52, 2), fill(60, 5)], until=90)

    assert not_complete(lake, 55) == [(0, 10, "unverifiable", "no earlier fill")]
    events = lake.events().filter(pl.col("kind").str.starts_with("trade")).collect()
    assert events.select("kind", "missing").rows() == [("trade_late", 0)]
    assert "2 fills, ids 2 to 3, came after all" in events["evidence"][0]
    assert events.filter(is_gap()).is_empty()


@pytest.mark.parametrize("late", [3600.0, 2 * 3600.0])
def test_late_fills_close_a_gap_of_an_hour_that_is_sealed(root, late):
    """
    The file stays as it is; whoever reads gets what is true now. One that never came keeps its own gap.
    """
    put = [fill(10, 1), fill(20, 4), fill(100, 5), fill(110, 7), fill(3500, 8)]
    put += [fill(late + 200, 3), fill(late + 201, 2), fill(late + 300, 9)]
    lake = sealed(root, put, until=late + 700)

    raw = pl.concat([pl.read_parquet(path) for path in sorted((root / "lake" / "quality").rglob("*.parquet"))])
    gaps = raw.filter(pl.col("kind").is_in(["trade_gap", "trade_late"]))
    assert gaps["missing"].to_list() == [2, 1, -2]
    assert not_complete(lake, late + 250) == [
        (0, 10, "unverifiable", "no earlier fill"),
        (100, 110, "missing", "trade_gap"),
    ]
    events = lake.events().filter(pl.col("kind").str.starts_with("trade")).collect()
    assert events.select("kind", "missing", pl.col("end").cast(pl.Int64) - HOUR).rows() == [
        ("trade_late", 0, 20 * S),
        ("trade_gap", 1, 110 * S),
    ]
    rows = lake.coverage().collect()
    assert rows["fills_missing"][0] == 1
    assert rows["evidence"][0].endswith("; of what was missing, 2 came later")
    assert lake.coverage(end=NEXT).collect()["fills_missing"].to_list() == [1]


def test_a_gap_over_the_hours_end_heals_in_both_hours(root):
    """
    In the hour before the gap was told of by the ids alone.
    """
    put = [fill(10, 1), fill(3400, 2), fill(3700, 5), fill(3710, 6)]
    without = sealed(root, put, until=5000)
    assert not_complete(without, 3705)[1:] == [
        (3400, 3600, "missing", "trade_gap"),
        (3600, 3700, "missing", "trade_gap"),
    ]

    again = make_root(root.with_name("again"))
    lake = sealed(again, [*put, fill(7300, 3), fill(7301, 4), fill(7310, 7)], until=9000)

    assert not_complete(lake, 7305) == [(0, 10, "unverifiable", "no earlier fill")]
    assert lake.coverage().collect()["fills_missing"].to_list() == [0, 0, 0]


def test_a_repeat_does_not_hide_the_proof_of_the_hour_before(root):
    """
    The publisher restarted and sent its last fills again: the hour's first id is that of the first new one.
    """
    lake = sealed(root, [fill(10, 1), fill(3500, 2), fill(3650, 1), fill(3651, 2), fill(3700, 3)], until=3800)

    assert not_complete(lake, 3700) == [(0, 10, "unverifiable", "no earlier fill")]
    rows = lake.coverage().collect()
    assert rows["first_fill_id"].to_list() == [1, 3]
    assert rows["fills_repeated"].to_list() == [0, 2]


def test_a_gap_of_a_market_that_had_no_name_yet_is_its_own(root):
    """
    The list does not have it; a book names it once the gap is told.
    """
    streams = (Stream("perp", "NEW-PERP", "trades"), Stream("perp", "NEW-PERP", "orderbook", 1))
    put = [fill(10, 1, 99), fill(20, 4, 99), (40.0, book("NEW-PERP", 99, HOUR + 40 * S, 7)), fill(60, 5, 99)]
    lake = sealed(root, put, until=90, streams=streams)

    assert ("trade_gap", "NEW-PERP") in lake.events().select("kind", "symbol").collect().rows()
    assert (10, 20, "missing", "trade_gap") in spans(lake, "NEW-PERP")


def test_ids_that_began_anew_prove_nothing_however_much_else_was_odd(root):
    """
    So many strange things were found that the finding itself stands for many: the counter knows.
    """
    odd = [(70 + n / 1000, frame(f"unknown_{n}", {})) for n in range(1500)]
    put = [fill(10, 5_000_000), fill(20, 5_000_001), *odd, fill(75, 1), fill(76, 2), fill(78, 3)]
    lake = sealed(root, put, until=90)

    assert {why for _, _, state, why in spans(lake) if state == "complete"} == set()


@pytest.mark.parametrize("seed", range(4))
def test_no_second_is_complete_in_which_a_fill_is_lost(root, seed):
    """
    Over hours in which fills are lost, late, repeated and without an id, as the dice fall; and the count is right.
    """
    dice = Random(seed)
    at, meant, put = 5.0, [], []
    for fill_id in range(1, 50):
        at += dice.choice([1, 5, 30, 200, 900]) * dice.random() + 0.01
        meant.append((fill_id, at))
        fate = dice.random()
        if fate < 0.1:
            continue
        late_s = dice.choice([2, 8, 15, 100, 500, 4000]) if fate < 0.2 else 0
        put.append((at + late_s, fill(at, None if 0.2 < fate < 0.25 else fill_id)[1]))
        if fate > 0.9:
            put.append((at + dice.choice([3, 50, 3000]), fill(at, fill_id)[1]))

    lake = sealed(root, put, until=max(when for when, _ in put) // 5 * 5 + 120)

    rows = lake.trades(units="raw").collect()
    stored, nameless = set(rows["fill_record_id"]), rows["fill_record_id"].null_count()
    complete = [(a, b) for a, b, state, _ in spans(lake) if state == "complete"]
    came = {int(payload.rpartition(b"sig")[2].split(b"\\")[0]) for _, payload in put}
    for fill_id, when in meant:
        assert fill_id in came or not any(a <= when < b for a, b in complete), (fill_id, when)
    ids = sorted(each for each in stored if each is not None)
    lost = sum(each not in stored for each in range(ids[0], ids[-1]))
    told = lake.events().filter(pl.col("kind").is_in(["trade_gap", "trade_late"])).collect()["missing"].sum()
    assert lost - nameless <= told <= lost
    assert lake.coverage().collect()["fills_missing"].sum() == told
