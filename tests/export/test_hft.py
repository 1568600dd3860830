"""
hftbacktest's events: both orders hold, and after each book the depth is that book.
"""

import struct
import zipfile

import pytest
from click.testing import CliRunner

from recorder.analysis.records import Book, Hole, Trade
from recorder.cli_export import export
from recorder.export import hft
from recorder.records import SECOND_NS as S

BOTH = hft.EXCHANGE | hft.LOCAL


def exported(root, path, market):
    """
    Events of an exported file: (ev, exch_ts, local_ts, px, qty).
    """
    result = CliRunner().invoke(
        export, [str(root), "hftbacktest", "--market", market, "-o", str(path)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    raw = zipfile.ZipFile(path).read("data.npy")
    head = 10 + struct.unpack_from("<H", raw, 8)[0]
    assert head % 64 == 0
    described = eval(raw[10:head], {"__builtins__": {}})  # noqa: S307  # numpy's own form of its head
    events = list(struct.iter_unpack("<QqqddQqd", raw[head:]))
    assert described["shape"] == (len(events),)
    assert [name for name, _ in described["descr"]] == list(hft.FIELDS)
    assert {event[5:] for event in events} == {(0, 0, 0.0)}
    return [event[:5] for event in events]


class Depth:
    """
    What a reader of the events has in its book.
    """

    def __init__(self):
        self.sides = {hft.BUY: {}, hft.SELL: {}}

    def take(self, event):
        """
        One event.
        """
        ev, _, _, px, qty = event
        side = self.sides[ev & (hft.BUY | hft.SELL)] if ev & 0xFF != hft.TRADE else None
        match ev & 0xFF:
            case hft.DEPTH_CLEAR:
                assert px != px, "a whole side"  # noqa: PLR0124
                side.clear()
            case hft.DEPTH | hft.DEPTH_SNAPSHOT if qty:
                side[px] = qty
            case hft.DEPTH:
                del side[px]


@pytest.mark.parametrize("flag", [hft.EXCHANGE, hft.LOCAL], ids=["exchange", "local"])
def test_either_order_holds_and_each_leads_through_all_events(faulty, faulty_root, tmp_path, flag):
    """
    What hftbacktest checks of its input, for the exchange's events and for ours.
    """
    events = exported(faulty_root, tmp_path / "x.npz", "SOL-PERP")
    mine = [event for event in events if event[0] & flag]
    times = [event[1 if flag == hft.EXCHANGE else 2] for event in mine]

    assert times == sorted(times)
    assert sorted((e[0] & ~BOTH, *e[1:3], repr(e[3:])) for e in mine) == sorted(
        (e[0] & ~BOTH, *e[1:3], repr(e[3:])) for e in events if e[0] & (BOTH ^ flag)
    )
    assert all(event[1] <= event[2] for event in events)


def test_after_each_book_the_depth_is_that_book(faulty, faulty_root, tmp_path):
    """
    All of it: no level left over from before a hole, none missing.
    """
    events = [e for e in exported(faulty_root, tmp_path / "x.npz", "BTC-PERP") if e[0] & hft.LOCAL]
    books = [r for r in faulty.replay("BTC-PERP", tables=["books"], holes=False) if isinstance(r, Book)]
    depth, at = Depth(), 0
    for book in books:
        while at < len(events) and events[at][2] <= book.recv_ts:
            depth.take(events[at])
            at += 1
        assert depth.sides == {hft.BUY: dict(book.bids), hft.SELL: dict(book.asks)}
    holes = [h for h in faulty.holes("BTC-PERP", tables=["books"]) if h.state in {"missing", "unrecorded"}]
    clears = [e[2] for e in events if e[0] & 0xFF == hft.DEPTH_CLEAR]
    assert clears[0] == books[0].recv_ts
    for hole in holes:
        after = next((book.recv_ts for book in books if book.recv_ts >= hole.start), None)
        assert after is None or after in clears


def test_trades_have_the_initiators_side(faulty, faulty_root, tmp_path):
    """
    And transfers are none.
    """
    events = [e for e in exported(faulty_root, tmp_path / "x.npz", "ETH-PERP") if e[0] & hft.LOCAL]
    trades = [e for e in events if e[0] & 0xFF == hft.TRADE]
    fills = [r for r in faulty.replay("ETH-PERP", tables=["trades"], holes=False) if isinstance(r, Trade)]

    assert [(e[2], e[3], e[4], "buy" if e[0] & hft.BUY else "sell") for e in trades] == [
        (f.recv_ts, f.price, f.base_amount, f.aggressor) for f in fills if f.is_market_trade
    ]


def test_times_that_cannot_be_are_moved_and_counted():
    """
    A venue's clock ahead of ours, and an event an hour late.
    """
    told = hft.Told()
    given = [
        *((hft.TRADE, n * 100 * S, n * 100 * S + S, 1.0, 1.0) for n in range(1, 6)),
        (hft.TRADE, S, 502 * S, 2.0, 1.0),
    ]

    found = list(hft.in_both_orders(given, told))

    exchange = [e[1] for e in found if e[0] & hft.EXCHANGE]
    assert exchange == sorted(exchange)
    assert told.late == 1
    fills = [
        Trade(5, 9, "X", *[None] * 2, 1.0, 1.0, 1.0, "buy", True, *[None] * 8, None, 0, "r", 1),
        Hole(6, 8, "X", "books", "missing", "silent"),
    ]
    assert [e[1:3] for e in hft.events(fills, told)] == [(5, 5)]
    assert told.ahead == 1


def test_events_that_come_in_another_order_than_they_happened_stand_once_for_each():
    """
    As hftbacktest's own correction has it.
    """
    early = (hft.TRADE, 10 * S, 30 * S, 1.0, 1.0)
    late = (hft.TRADE, 5 * S, 31 * S, 2.0, 1.0)

    found = list(hft.in_both_orders([early, late], hft.Told()))

    assert [(e[0] & BOTH, e[3]) for e in found] == [(hft.EXCHANGE, 2.0), (BOTH, 1.0), (hft.LOCAL, 2.0)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hftbacktest_itself_has_each_recorded_book(faulty, faulty_root, tmp_path):
    """
    Its own backtest reads the file; after each book its depth is that book. It brings a hundred packages, so that it is
    not among those of the tests: `pip install hftbacktest`.
    """
    hftbacktest = pytest.importorskip("hftbacktest", reason="HFTBACKTEST ITSELF WAS NOT ASKED: it is not installed")
    exported(faulty_root, tmp_path / "x.npz", "BTC-PERP")
    asset = (
        hftbacktest.BacktestAsset()
        .data([str(tmp_path / "x.npz")])
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0, 0)
        .tick_size(0.1)
        .lot_size(0.00001)
    )
    run = hftbacktest.HashMapMarketDepthBacktest([asset])
    run.wait_next_feed(True, 10**18)  # its signature
    for number, book in enumerate(faulty.replay("BTC-PERP", tables=["books"], holes=False)):
        if number % 25:  # each look asks for thousands of ticks
            continue
        run.elapse(book.recv_ts - run.current_timestamp)
        depth = run.depth(0)
        for levels, at in ((book.bids, depth.bid_qty_at_tick), (book.asks, depth.ask_qty_at_tick)):
            ticks = {round(price / 0.1): size for price, size in levels}
            assert all(abs(at(tick) - size) < 1e-9 for tick, size in ticks.items())
            assert sum(at(tick) > 0 for tick in range(min(ticks) - 3000, max(ticks) + 3000)) == len(ticks)
    run.close()
