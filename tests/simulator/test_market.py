"""
The market model: plausible, seeded, and printed with every level where it belongs.
"""

import itertools
import json

import msgspec
import pytest

from recorder.errors import ConfigError
from recorder.simulator.frames import DLOB, SAFE_INTEGER, Book, book_frame, level_text
from recorder.simulator.market import MarketModel
from recorder.simulator.markets import (
    DEFAULT_MARKETS,
    Moods,
    market_named,
    select_markets,
    synthetic_markets,
)

TICKS = 300


def payload(frame):
    """
    The book inside a frame.
    """
    return json.loads(json.loads(frame)["data"])


def frames_of(market, *, grouping=1, ticks=TICKS, seed=1):
    """
    Some ticks of a market, as frames.
    """
    model = MarketModel(market, seed=seed)
    for tick in range(ticks):
        model.advance()
        text = book_frame(model.book(slot=tick, ts_ms=tick), name="n", grouping=grouping)
        yield text or book_frame(model.book(slot=tick, ts_ms=tick, whole=True), name="n", grouping=grouping)


@pytest.mark.parametrize("market", [*DEFAULT_MARKETS, *synthetic_markets(40)[30:]], ids=lambda market: market.symbol)
def test_every_book_is_sorted_grouped_and_sums_up(market):
    """
    Levels best first, at multiples of the tick, each size the sum of its sources, and all sizes positive.
    """
    for frame in frames_of(market, ticks=100):
        book = payload(frame)
        bids, asks = ([level["price"] for level in book[side]] for side in ("bids", "asks"))
        assert bids == sorted(set(bids), reverse=True)
        assert asks == sorted(set(asks))
        assert all(price % market.tick == 0 and price > 0 for price in bids + asks)
        for level in book["bids"] + book["asks"]:
            assert level["size"] == sum(level["sources"].values())
            assert all(size > 0 for size in level["sources"].values())
        assert book["marketName"] == market.symbol.upper()


def test_the_same_seed_gives_the_same_books_and_another_seed_others():
    """
    A failure can be run again.
    """
    first, again, other = (list(frames_of(DEFAULT_MARKETS[0], ticks=20, seed=seed)) for seed in (7, 7, 8))

    assert first == again
    assert first != other


def test_spot_markets_have_no_pool_levels():
    """
    The protocol's pool quotes perps only.
    """
    sources = {
        market.market_type: {
            source
            for frame in frames_of(market, ticks=50)
            for level in payload(frame)["bids"]
            for source in level["sources"]
        }
        for market in (DEFAULT_MARKETS[0], DEFAULT_MARKETS[4])
    }

    assert sources == {"perp": {"dlob", "vamm"}, "spot": {"dlob"}}


def test_orders_rest_and_the_pools_sizes_move():
    """
    Most resting levels outlive a tick; no pool level keeps its size while the oracle moves.
    """
    books = [payload(frame) for frame in frames_of(DEFAULT_MARKETS[0], ticks=50)]
    kept = {"dlob": [0, 0], "vamm": [0, 0]}
    for before, after in itertools.pairwise(books):
        if before["oracle"] == after["oracle"]:
            continue
        held = {(tuple(level["sources"]), level["price"], level["size"]) for level in before["bids"]}
        for level in after["bids"]:
            for source, counts in kept.items():
                if (source,) == tuple(level["sources"]):
                    counts[0] += (tuple(level["sources"]), level["price"], level["size"]) in held
                    counts[1] += 1

    assert kept["dlob"][0] / kept["dlob"][1] > 0.6
    assert kept["vamm"][1] > 50
    assert kept["vamm"][0] / kept["vamm"][1] < 0.05


@pytest.mark.parametrize("grouping", [10, 100, 500, 1000])
def test_a_coarser_grouping_holds_what_the_finer_one_holds(grouping):
    """
    Each level of the fine book lies in the coarse level its price rounds to, bids down and asks up.
    """
    market = DEFAULT_MARKETS[0]
    step = market.tick * grouping
    for fine, coarse in zip(frames_of(market, ticks=40), frames_of(market, ticks=40, grouping=grouping), strict=True):
        fine_book, coarse_book = payload(fine), payload(coarse)
        for side, up in (("bids", False), ("asks", True)):
            sizes = {level["price"]: level["size"] for level in coarse_book[side]}
            sums = {}
            for level in fine_book[side][:-1]:
                price = -(-level["price"] // step) * step if up else level["price"] // step * step
                sums[price] = sums.get(price, 0) + level["size"]
            assert all(price % step == 0 for price in sizes)
            assert all(size <= sizes[price] for price, size in sums.items())
            whole_ones = list(sums)[:-1]
            assert all(sums[price] == sizes[price] for price in whole_ones)


@pytest.mark.parametrize("grouping", [1, 100])
def test_a_shallow_book_prints_like_the_whole_one_or_not_at_all(grouping):
    """
    Taking only the top of each source is a matter of speed and must not be seen.
    """
    model = MarketModel(DEFAULT_MARKETS[2], seed=3)
    printed = 0
    for tick in range(100):
        model.advance()
        shallow = book_frame(model.book(slot=tick, ts_ms=tick), name="n", grouping=grouping)
        whole = book_frame(model.book(slot=tick, ts_ms=tick, whole=True), name="n", grouping=grouping)
        assert shallow in {None, whole}
        printed += shallow is not None

    assert (printed > 90) == (grouping == 1)


def mooded(**moods):
    """
    A market that is in a mood from the first tick on, and its books.
    """
    market = market_named("perp", "SOL-PERP", 0)
    market = msgspec.structs.replace(market, moods=Moods(**moods))
    return [payload(frame) for frame in frames_of(market)]


def test_a_crossed_book_shows_twenty_levels_and_those_that_are_crossed():
    """
    No spread, and a mark held between the two sides.
    """
    crossed = [
        book for book in mooded(crossed=1.0, locked=0.0) if int(book["bestBidPrice"]) > int(book["bestAskPrice"])
    ]

    assert len(crossed) > TICKS / 2
    for book in crossed:
        bids, asks = ([level["price"] for level in book[side]] for side in ("bids", "asks"))
        through = max(sum(bid >= asks[0] for bid in bids), sum(ask <= bids[0] for ask in asks))
        assert len(bids) == len(asks) == 20 + through
        assert book["spreadPct"] == book["spreadQuote"] == "0"
        assert int(book["bestAskPrice"]) <= int(book["markPrice"]) <= int(book["bestBidPrice"])


def test_a_locked_book_has_one_price_on_both_sides():
    """
    The spread is zero, the mark is that price.
    """
    locked = [book for book in mooded(crossed=0.0, locked=1.0) if book["bids"][0]["price"] == book["asks"][0]["price"]]

    assert len(locked) > TICKS / 4
    assert all(book["spreadQuote"] == "0" for book in locked)
    assert any(book["markPrice"] == book["bestBidPrice"] == book["bestAskPrice"] for book in locked)


@pytest.mark.parametrize(("mood", "sides"), [("one_sided", 1), ("empty", 0)])
def test_with_a_side_empty_the_mark_is_a_number_and_best_prices_are_absent(mood, sides):
    """
    Captured: `markPrice` turns into the oracle price as a JSON number.
    """
    moods = {"crossed": 0.0, "locked": 0.0, mood: 1.0}

    seen = [book for book in mooded(**moods) if bool(book["bids"]) + bool(book["asks"]) == sides]

    assert len(seen) > TICKS / 2
    for book in seen:
        assert book["markPrice"] == book["oracle"]
        assert not {"bestBidPrice", "bestAskPrice", "spreadPct", "spreadQuote"} & book.keys()


def test_sizes_beyond_the_safe_integers_lose_their_digits_as_in_javascript():
    """
    Grouped sizes are sums of JavaScript numbers; from 10^21 on they have an exponent.
    """
    big = SAFE_INTEGER + 1
    levels = [(10, big, 0, level_text(10, big, 0)), (20, SAFE_INTEGER, 0, ""), (20, 3, 1, ""), (30, 10**21, 0, "")]
    book = Book("perp", "A", 0, 10, 0, 0, 0, 5, 0, 0, 0, [], levels)

    text = book_frame(book, name="n", grouping=1)

    assert text is not None
    asks = text.replace("\\", "")
    assert '{"size":9007199254740992,"price":10,"sources":{"dlob":9007199254740992}}' in asks
    assert '{"size":9007199254740996,"price":20,"sources":{"dlob":9007199254740992,"vamm":3}}' in asks
    assert '{"size":1e+21,"price":30,"sources":{"dlob":1e+21}}' in asks
    assert DLOB == 0


def test_indicative_quotes_come_on_top_of_the_firm_book_and_change_nothing_in_it():
    """
    They are never better than the best firm price, and asking for them draws nothing from the model.
    """
    asked, alone = (MarketModel(DEFAULT_MARKETS[0], seed=5) for _ in range(2))
    for tick in range(50):
        asked.advance()
        alone.advance()
        book = asked.book(slot=tick, ts_ms=tick)
        shown = asked.with_indicative(book)
        firm = [level for level in shown.bids if level[2] != 2]
        assert firm == book.bids
        assert shown.bids[0][0] == book.bids[0][0]
        assert len(shown.bids) > len(book.bids)
        assert book == alone.book(slot=tick, ts_ms=tick)


def test_markets_are_chosen_by_number_or_by_name():
    """
    Any number up to 1,000, each with its own symbol and index; names in the order given, each once.
    """
    many = synthetic_markets(1000)

    assert [market.symbol for market in select_markets("btc-perp, SOL-PERP,BTC-PERP")] == ["BTC-PERP", "SOL-PERP"]
    assert select_markets("3") == list(DEFAULT_MARKETS[:3])
    assert len({(market.market_type, market.index) for market in many}) == 1000
    assert len({market.symbol for market in many}) == 1000
    assert all(market.tick >= 1 and market.step >= 1 and market.price > 0 for market in many)


@pytest.mark.parametrize("text", ["0", "1001", "99999999999999999999", "NOPE-PERP", "", "SOL-PERP,,"])
def test_a_wrong_choice_of_markets_says_what_is_allowed(text):
    """
    One line, with the way out.
    """
    with pytest.raises(ConfigError, match="give"):
        select_markets(text)
