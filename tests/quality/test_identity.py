"""
Whose a data frame is: names outrank indices, and only what was asked for has a stream.
"""

import pytest

from quality_cases import BTC, SOL, SOL_TRADES, book_frame
from recorder.quality.identity import LONGEST_NAME, MAX_LEARNED, Identity, Resolution
from recorder.records import Stream
from recorder.venue.markets import market_list
from recorder.venue.protocol import parse_channel, peek


def channel(name: str):
    """
    A channel name, taken apart.
    """
    parsed = parse_channel(name)
    assert parsed is not None
    return parsed


def identity(network: str = "mainnet-beta", learned: dict[str, str] | None = None) -> Identity:
    """
    Of a network, with names already heard.
    """
    return Identity(market_list(network), {} if learned is None else learned)


def spot(symbol: str) -> Stream:
    """
    A spot book.
    """
    return Stream("spot", symbol, "orderbook", 1)


def test_a_listed_market_is_what_list_and_book_say():
    """
    The ordinary case.
    """
    assert identity().resolve(channel("orderbook_perp_0_grouped_1"), "SOL-PERP", [SOL]) == Resolution("SOL-PERP", SOL)
    assert identity().resolve(channel("trades_perp_0"), None, [SOL, SOL_TRADES]) == Resolution("SOL-PERP", SOL_TRADES)


def test_a_book_in_upper_case_is_spelled_as_the_list_does():
    """
    The publisher shouts; the lake's folder must not depend on it.
    """
    listed = market_list("mainnet-beta").by_symbol("spot", "JITOSOL")
    assert listed is not None
    assert listed.symbol == "jitoSOL"
    stream = spot("jitoSOL")

    resolution = identity().resolve(channel(f"orderbook_spot_{listed.index}_grouped_1"), "JITOSOL", [stream])

    assert resolution == Resolution("jitoSOL", stream)


def test_a_market_of_no_list_is_spelled_as_configured():
    """
    A recorder's list may be older than the venue's.
    """
    stream = spot("newCOIN")

    assert identity().resolve(channel("orderbook_spot_999_grouped_1"), "NEWCOIN", [stream]) == Resolution(
        "newCOIN", stream
    )


def test_on_the_wrong_network_the_books_name_wins_and_says_what_it_contradicts():
    """
    Index 3 is HYPE-PERP on one network and APT-PERP on another.
    """
    hype = Stream("perp", "HYPE-PERP", "orderbook", 1)

    resolution = identity().resolve(channel("orderbook_perp_3_grouped_1"), "HYPE-PERP", [hype])

    assert resolution == Resolution("HYPE-PERP", hype, renamed="APT-PERP")


def test_a_name_once_heard_in_a_book_names_the_trades_of_its_index():
    """
    Trades carry the index alone; the name is kept for the next hours, too.
    """
    learned: dict[str, str] = {}
    trades = Stream("perp", "HYPE-PERP", "trades")
    apt = Stream("perp", "APT-PERP", "trades")
    who = identity(learned=learned)

    before = who.resolve(channel("trades_perp_3"), None, [trades, apt])
    who.resolve(channel("orderbook_perp_3_grouped_1"), "HYPE-PERP", [trades, apt])
    after = who.resolve(channel("trades_perp_3"), None, [trades, apt])

    assert before == Resolution("APT-PERP", apt)
    assert after == Resolution("HYPE-PERP", trades)
    assert identity(learned=learned).resolve(channel("trades_perp_3"), None, [trades]) == after


def test_trades_of_an_index_nobody_can_name_are_the_unlisted_market_that_was_asked_for():
    """
    They are stored, under the index, until a book tells the name.
    """
    stream = Stream("perp", "NEW-PERP", "trades")

    assert identity().resolve(channel("trades_perp_4321"), None, [SOL_TRADES, stream]) == Resolution(
        "perp-4321", stream
    )
    assert identity().resolve(channel("trades_perp_4321"), None, [SOL_TRADES]) == Resolution("perp-4321", None)


def test_an_unlisted_market_whose_index_is_known_does_not_take_others_trades():
    """
    With two of them asked for, the one that a book has named elsewhere is not the nameless one.
    """
    first, second = (Stream("perp", s, "trades") for s in ("NEW1-PERP", "NEW2-PERP"))
    who = identity(learned={"perp:4000": "NEW1-PERP"})

    assert who.resolve(channel("trades_perp_4001"), None, [first, second]) == Resolution("perp-4001", second)
    assert who.resolve(channel("trades_perp_4000"), None, [first, second]) == Resolution("NEW1-PERP", first)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("orderbook_perp_0_grouped_1", True),
        ("orderbook_perp_0", True),
        ("last_update_orderbook_perp_0", True),
        ("dlob:orderbook_perp_0_grouped_1", True),
        ("orderbook_perp_0_grouped_10", False),
        ("orderbook_perp_0_grouped_1_indicative", False),
        ("orderbook_spot_0_grouped_1", False),
        ("trades_perp_0", False),
    ],
)
def test_old_servers_answer_with_the_ungrouped_book_and_other_groupings_were_not_asked_for(name, asked):
    """
    Data frames are never matched by the channel that was asked for.
    """
    resolution = identity().resolve(channel(name), "SOL-PERP", [SOL])

    assert (resolution.stream == SOL) is asked


def test_each_channel_finds_its_own_stream():
    """
    Indicative books, coarse books and fees beside the firm book.
    """
    indicative = Stream("perp", "SOL-PERP", "orderbook_indicative", 1)
    coarse = Stream("perp", "SOL-PERP", "orderbook", 100)
    fees = Stream("perp", "SOL-PERP", "priorityfees")
    streams = [indicative, coarse, fees, SOL]
    who = identity()

    found = {
        name: who.resolve(channel(name), None, streams).stream
        for name in (
            "orderbook_perp_0_grouped_1_indicative",
            "orderbook_perp_0_grouped_100",
            "priorityFees_perp_0",
            "orderbook_perp_0_grouped_1",
        )
    }

    assert list(found.values()) == [indicative, coarse, fees, SOL]


@pytest.mark.parametrize("name", ["", "X" * (LONGEST_NAME + 1)])
def test_what_cannot_be_a_name_is_none(name):
    """
    The index tells, and nothing is learned.
    """
    learned: dict[str, str] = {}

    assert identity(learned=learned).resolve(channel("orderbook_perp_0_grouped_1"), name, [SOL]).stream == SOL
    assert learned == {}


def test_invented_indices_do_not_fill_the_carry():
    """
    And a name that is known can still change.
    """
    learned: dict[str, str] = {}
    who = identity(learned=learned)
    for index in range(MAX_LEARNED + 100):
        who.resolve(channel(f"orderbook_perp_{index}_grouped_1"), f"N{index}", [])

    who.resolve(channel("orderbook_perp_0_grouped_1"), "SOL-PERP", [])

    assert len(learned) == MAX_LEARNED
    assert learned["perp:0"] == "SOL-PERP"


def test_looking_up_learns_nothing():
    """
    For a frame that was not kept.
    """
    learned: dict[str, str] = {}

    assert identity(learned=learned).look_up(channel("orderbook_perp_0_grouped_1"), "SOL-PERP", [SOL]).stream == SOL
    assert learned == {}


def test_a_book_that_contradicts_its_channel_names_nothing():
    """
    One such frame must not store the trades of its index under another market for ever.
    """
    streams, learned = [SOL, BTC, SOL_TRADES], {}
    who = identity(learned=learned)
    seen = peek(book_frame("BTC-PERP", 1, channel="orderbook_perp_0_grouped_1"))
    assert seen.channel is not None

    assert who.resolve(seen.channel, seen.market_name, streams).symbol == "SOL-PERP"
    assert who.resolve(channel("trades_perp_0"), None, streams).stream == SOL_TRADES
    assert learned == {}
