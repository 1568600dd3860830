"""
Which connection carries which market, when the markets change.
"""

from hypothesis import given
from hypothesis import strategies as st

from recorder.capture.placement import replaced
from recorder.records import Stream


def books(*symbols):
    """
    The book of each market.
    """
    return [Stream("perp", symbol, "orderbook", 1) for symbol in symbols]


def names(placement):
    """
    The markets of each connection.
    """
    return ["".join(stream.symbol for stream in streams) for streams in placement]


def test_a_new_market_goes_where_most_room_is_left():
    """
    The first of equals; and no connection is opened while one has room.
    """
    before = [books("A", "B", "C"), books("D"), books("E")]

    after = replaced(before, books("A", "B", "C", "D", "E", "F", "G", "H"), limit=3)

    assert names(after) == ["ABC", "DFH", "EG"]


def test_where_there_is_no_room_a_connection_is_added():
    """
    As many as are needed, each filled before the next.
    """
    after = replaced([books("A", "B")], books("A", "B", "C", "D", "E"), limit=2)

    assert names(after) == ["AB", "CD", "E"]


def test_an_empty_connection_is_used_before_another_is_added_and_after_those_with_room():
    """
    Its index is free; but while another has room, no connect is needed.
    """
    before = [books("A"), [], books("B", "C")]

    assert names(replaced(before, books("A", "B", "C", "D"), limit=2)) == ["AD", "", "BC"]
    assert names(replaced(before, books("A", "B", "C", "D", "E"), limit=2)) == ["AD", "E", "BC"]


def test_without_a_limit_all_stay_on_one():
    """
    Also when every market is another one than before: the connection there is goes on.
    """
    assert names(replaced([books("A", "B")], books("A", "C", "D"), limit=0)) == ["ACD"]
    assert names(replaced([books("A", "B")], books("C", "D"), limit=0)) == ["CD"]


def test_further_streams_of_a_market_join_it():
    """
    Whether or not there is room: the limit counts markets.
    """
    trades = Stream("perp", "B", "trades")
    spot = Stream("spot", "B", "orderbook", 1)

    after = replaced([books("A"), books("B")], sorted([*books("A", "B"), trades, spot]), limit=1)

    assert after == [books("A"), [*books("B"), trades], [spot]]


@given(
    changes=st.lists(
        st.sets(st.tuples(st.sampled_from("ABCDEFGH"), st.booleans()), min_size=1), min_size=1, max_size=6
    ),
    limit=st.integers(0, 4),
)
def test_whatever_changes_nothing_moves_doubles_or_exceeds(changes, limit):
    """
    After any row of changes each stream is carried once, beside its market's others, and where it was before.
    """
    placement = [[]]
    for change in changes:
        wanted = sorted(Stream("perp", symbol, "orderbook" if book else "trades") for symbol, book in change)
        before = {stream: index for index, streams in enumerate(placement) for stream in streams}

        placement = replaced(placement, wanted, limit=limit)

        after = [(stream, index) for index, streams in enumerate(placement) for stream in streams]
        assert sorted(stream for stream, _ in after) == wanted
        assert all(before.get(stream, index) == index for stream, index in after)
        assert len({(stream.symbol, index) for stream, index in after}) == len({stream.symbol for stream in wanted})
        markets = [len({stream.symbol for stream in streams}) for streams in placement]
        assert not limit or max(markets) <= limit
        assert limit or sum(map(bool, markets)) == 1
