"""
Frames from sealed rows decode to those rows: on frames that the real servers sent, of every channel.
"""

from collections import Counter

import pytest

from lake_cases import make_root
from make_golden_lake import fill
from recorder.analysis import Lake
from recorder.history.frames import History
from recorder.history.rebuilt import channel_of
from recorder.lake.heard import frames
from recorder.lake.sealing import seal
from recorder.venue.normalize import decode
from recorder.venue.protocol import FrameKind, parse_channel


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """
    A sealed root of captured frames of three servers.
    """
    root = make_root(tmp_path_factory.mktemp("captured") / "root")
    fill(root)
    seal(root)
    return root


def both_ways(root, market=None):
    """
    What was heard, and what is rebuilt, by order.
    """
    history = History(root, market, None, None, source="lake")
    first, last = history.start, history.end
    heard = [(e.recv_ts - first, e.payload, s.name) for e, s in frames(root, first, last) if s.kind == FrameKind.DATA]
    made = [(d.offset_ns, d.payload, d.channel) for batch in history.batches() for d in batch if d.channel is not None]
    return heard, made


@pytest.mark.parametrize("which", ["captured", "faulty_root"])
def test_a_rebuilt_frame_decodes_to_what_was_heard_and_is_mostly_the_same_bytes(which, request):
    """
    Books of all kinds, fills and fees; most to the byte.
    """
    heard, made = both_ways(request.getfixturevalue(which), None if which == "captured" else ["BTC-PERP"])

    wanted = {(at, name) for at, _, name in made}
    heard = [each for each in heard if (each[0], each[2]) in wanted]
    assert [(at, name) for at, _, name in heard] == [(at, name) for at, _, name in made]
    same = Counter()
    pairs = list(zip(heard, made, strict=True))
    for (_, before, name), (_, after, _) in pairs if which == "captured" else pairs[::10]:
        assert decode(after, size_exponent=9) == decode(before, size_exponent=9)
        same[parse_channel(name).family, before == after] += 1
    assert len({family for family, _ in same}) == (3 if which == "captured" else 2)
    assert sum(n for (_, equal), n in same.items() if equal) > 0.5 * same.total()


def test_every_row_of_the_lake_has_a_rebuilt_frame(captured):
    """
    None is left out.
    """
    lake = Lake(captured)
    rows = lake.markets().collect()["rows"].sum()

    _, made = both_ways(captured)

    assert len(made) == rows


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("books", "orderbook_perp_3_grouped_1"),
        ("books_indicative", "orderbook_perp_3_grouped_1_indicative"),
        ("books_grouped_100", "orderbook_perp_3_grouped_100"),
        ("books_grouped_10_indicative", "orderbook_perp_3_grouped_10_indicative"),
        ("books_ungrouped", "orderbook_perp_3"),
        ("books_ungrouped_indicative", "orderbook_perp_3_indicative"),
        ("trades", "trades_perp_3"),
        ("priority_fees", "priorityFees_perp_3"),
    ],
)
def test_a_table_knows_its_channel(table, name):
    """
    The inverse of where the seal puts a channel.
    """
    from recorder.lake.layout import table_of  # noqa: PLC0415

    assert channel_of(table, "perp", 3) == name
    assert table_of(parse_channel(name)) == table
