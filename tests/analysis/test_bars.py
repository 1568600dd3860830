"""
Trades put together: which of them count, in what order, and what a bar says of them.
"""

from pathlib import Path
from typing import Any

import pytest

from analysis_cases import Writer, blank, trade
from recorder.analysis import Lake
from recorder.errors import RecorderError
from recorder.lake import layout
from recorder.records import SECOND_NS, Flag

HOUR = layout.parse_hour("2026-11-22T16")
S = SECOND_NS


def fill(second: float, number: int, **columns: Any) -> dict[str, object]:
    """
    One token for as many dollars as its number and a hundred.
    """
    at = HOUR + int(second * S)
    amounts = {"base_amount": 10**9, "quote_amount": (100 + number) * 10**6, "price": 100.0 + number}
    return trade("SOL-PERP", at) | amounts | {"fill_record_id": number, "aggressor": "buy"} | columns


def lake(folder: Path, fills: list[dict[str, object]]) -> Lake:
    """
    An hour that is complete.
    """
    told = {"start": HOUR, "symbol": "SOL-PERP", "market_type": "perp", "channel": "trades", "complete_s": 3600.0}
    stretch = {"span_start": [HOUR], "span_state": ["complete"], "span_why": ["fill ids"]}
    writer = Writer(folder / "lake")
    writer.hour(HOUR, {("trades", "SOL-PERP"): fills, ("coverage", None): [blank("coverage") | told | stretch]})
    return Lake(writer.root)


def test_a_bar_says_what_was_traded(tmp_path):
    """
    Prices, counts and volumes of either side; what took no side is in neither.
    """
    fills = [
        fill(1, 1),
        fill(2, 3, aggressor="sell", base_amount=3 * 10**9, quote_amount=309 * 10**6),
        fill(3, 2, aggressor=None),
    ]

    row = lake(tmp_path, fills).bars("SOL-PERP", HOUR, HOUR + 60 * S).collect().row(0, named=True)

    assert (row["open"], row["high"], row["low"], row["close"]) == (101, 103, 101, 103)
    assert (row["trades"], row["buys"], row["sells"]) == (3, 1, 1)
    assert (row["volume"], row["buy_volume"], row["sell_volume"]) == (5, 1, 3)
    assert row["quote_volume"] == 512
    assert row["vwap"] == 512 / 5
    assert (row["covered"], row["proven"]) == (1, 1)


def test_the_venues_count_orders_trades_within_a_bar_and_arrival_chooses_the_bar(tmp_path):
    """
    Within a slot they come newest first; one that is late is in the bar in which it became known.
    """
    fills = [fill(1, 5), fill(2, 4), fill(61, 3), fill(62, 6)]

    rows = lake(tmp_path, fills).bars("SOL-PERP", HOUR, HOUR + 120 * S).collect()

    assert rows.select("open", "close").rows() == [(104, 105), (103, 106)]


def test_repeats_and_transfers_count_for_nothing_unless_asked_for(tmp_path):
    """
    A fill that came twice was traded once, and a position handed over was not traded.
    """
    found = lake(
        tmp_path,
        [
            fill(1, 1),
            fill(2, 1, flags=int(Flag.REPEAT)),
            fill(3, 2, is_market_trade=False, action_explanation="transferPerpPosition"),
            fill(4, 3, action_explanation="liquidation"),
        ],
    )

    def trades(which: Any) -> int:
        return int(found.bars("SOL-PERP", HOUR, HOUR + 60 * S, trades=which).collect()["trades"].item())

    counts = {which: trades(which) for which in ("market", "liquidations", "transfers", "all")}
    assert counts == {"market": 2, "liquidations": 1, "transfers": 1, "all": 3}
    with pytest.raises(RecorderError, match="trades='maker' is unknown"):
        trades("maker")


def test_intervals_without_a_trade_are_there(tmp_path):
    """
    Covered, with nothing traded: not missing.
    """
    rows = lake(tmp_path, [fill(1, 1), fill(130, 2)]).bars("SOL-PERP", HOUR, HOUR + 180 * S).collect()

    assert rows["trades"].to_list() == [1, 0, 1]
    assert rows["volume"].to_list() == [1, 0, 1]
    assert rows["open"].to_list() == [101, None, 102]


def test_an_empty_range_has_no_bars(tmp_path):
    """
    It touches none.
    """
    assert lake(tmp_path, [fill(1, 1)]).bars("SOL-PERP", HOUR + 5, HOUR + 5).collect().is_empty()


def test_bars_of_value_and_volume_end_with_the_trade_that_fills_them(tmp_path):
    """
    A trade is never divided; what it has too much counts into the next.
    """
    fills = [fill(n, n, base_amount=size * 10**9) for n, size in enumerate([1, 1, 5, 1, 1])]
    found = lake(tmp_path, fills)

    by_volume = found.bars("SOL-PERP", HOUR, HOUR + 60 * S, volume=2, gaps="split").collect()
    by_value = found.bars("SOL-PERP", HOUR, HOUR + 60 * S, quote_volume=203, gaps="split").collect()

    assert by_volume.select("volume", "complete").rows() == [(2, True), (5, True), (1, True), (1, False)]
    assert by_value["trades"].to_list() == [3, 1, 1]


def test_raw_volumes_are_exact(tmp_path):
    """
    Integers, summed as such.
    """
    big = 9_007_199_254_740_993  # 2^53 + 1
    fills = [fill(1, 1, base_amount=big), fill(2, 2, base_amount=2)]

    row = lake(tmp_path, fills).bars("SOL-PERP", HOUR, HOUR + 60 * S, units="raw").collect().row(0, named=True)

    assert row["volume"] == big + 2
    assert row["quote_volume"] == 203_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": "1m", "ticks": 5}, "give one of every="),
        ({"ticks": 0}, "ticks=0; give a whole number of trades"),
        ({"ticks": 1.5}, "ticks=1.5; give a whole number"),
        ({"volume": -1.0}, "volume=-1.0; give more than 0"),
        ({"every": "a minute"}, "every='a minute' is no duration"),
        ({"every": "1x"}, r"every='1x' is no duration \(unit: 'x' not supported[^\n]*\); write it as"),
        ({"gaps": "skip"}, "gaps='skip' is unknown"),
    ],
)
def test_a_bar_that_makes_no_sense_is_refused(tmp_path, options, message):
    """
    Naming what was given.
    """
    with pytest.raises(RecorderError, match=message):
        lake(tmp_path, [fill(1, 1)]).bars("SOL-PERP", HOUR, HOUR + 60 * S, **options)


def test_flows_are_of_the_taker_or_the_maker(tmp_path):
    """
    What one bought the other sold; the pool is an account without a name.
    """
    fills = [
        fill(1, 1, taker="A", maker="B", taker_fee=1_000_000, maker_fee=-200_000),
        fill(2, 2, taker="A", maker=None, aggressor="sell", taker_fee=500_000, maker_fee=0),
    ]
    found = lake(tmp_path, fills)
    columns = ("account", "trades", "bought", "sold", "net", "quote_volume", "fees")

    takers = found.flows("SOL-PERP", HOUR, HOUR + 60 * S).select(columns).collect()
    makers = found.flows("SOL-PERP", HOUR, HOUR + 60 * S, by="maker").select(columns).sort("account").collect()

    assert takers.rows() == [("A", 2, 1.0, 1.0, 0.0, 203.0, 1.5)]
    assert makers.rows() == [(None, 1, 1.0, 0.0, 1.0, 102.0, 0.0), ("B", 1, 0.0, 1.0, -1.0, 101.0, -0.2)]
    split = found.flows("SOL-PERP", HOUR, HOUR + 60 * S, by="maker", gaps="split").collect()
    assert split["account"].null_count() == 1


def test_what_is_there_is_told_by_market_and_table(tmp_path):
    """
    Hours, and shares of what they prove.
    """
    found = lake(tmp_path, [fill(1, 1), fill(100, 2)])

    row = found.describe().collect().row(0, named=True)
    assert (row["rows"], row["hours"], row["hours_possible"], row["complete"], row["missing"]) == (2, 1, 1, 1.0, 0.0)
