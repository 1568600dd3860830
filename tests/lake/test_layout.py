"""
Paths below a root: no two things share one, and no name leaves its folder.
"""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.lake.layout import (
    MAX_NAME,
    book_table,
    encode_name,
    hour_label,
    hour_of,
    manifest_path,
    parse_hour,
    partition,
    table_of,
)
from recorder.records import HOUR_NS, SECOND_NS
from recorder.venue.protocol import parse_channel

HOUR = 497_600 * HOUR_NS
HOURS = st.integers(0, 2_500_000).map(lambda n: n * HOUR_NS)
NAMES = st.text(st.characters(codec=None), max_size=80)


def test_paths_are_as_documented():
    """
    What users point their readers at.
    """
    assert partition("books", HOUR, "SOL-PERP") == Path(
        "lake/books/market=SOL-PERP/date=2026-10-07/hour=08/books.parquet"
    )
    assert partition("quality", HOUR) == Path("lake/quality/date=2026-10-07/hour=08/quality.parquet")
    assert manifest_path(HOUR) == Path("manifest/2026-10-07T08.json")


@given(HOURS)
def test_an_hours_label_gives_the_hour(hour):
    """
    Both ways, and labels sort by time.
    """
    assert parse_hour(hour_label(hour)) == hour
    assert hour_label(hour) < hour_label(hour + HOUR_NS)


@given(st.integers(-(10**18), 10**19))
def test_an_instant_lies_in_its_hour(recv_ts):
    """
    Also before 1970, and on the very boundary.
    """
    assert hour_of(recv_ts) % HOUR_NS == 0
    assert 0 <= recv_ts - hour_of(recv_ts) < HOUR_NS


@pytest.mark.parametrize(
    "label",
    [
        "",
        "2026-10-07",
        "2026-10-07T8",
        "2026-10-07T24",
        "2026-13-07T08",
        "2026-02-30T08",
        "2026-10-07 08",
        "2026-10-07T08:00",
        "2026-10-07T08Z",
        "2026-10-07T0८",
        "2026-10-07T08\n",
        "yesterday",
    ],
)
def test_what_is_no_hour_is_refused_with_the_form_it_has(label):
    """
    Users type these.
    """
    with pytest.raises(ValueError, match="write it as 2026-11-22T16"):
        parse_hour(label)


@given(NAMES)
@example("../../etc")
@example("..")
@example(".")
@example("")
@example("a/b")
@example("a\x00b")
@example("=")
@example("\ud800")
@example("%2E")
@example("x" * 1000)
def test_a_name_is_one_folder_of_safe_letters(name):
    """
    Whatever the venue calls a market: no separator, no dots, no more than a file system takes.
    """
    encoded = encode_name(name)

    assert encoded
    assert encoded.isascii()
    assert not set(encoded) & set("/\\.\0=: ")
    assert len(f"market={encoded}") < 200
    path = PurePosixPath(partition("books", HOUR, name).as_posix())
    assert path.parts[:2] == ("lake", "books")
    assert len(path.parts) == 6


@given(NAMES, NAMES)
@example("a", "A")
@example("%", "")
@example("a b", "a%20b")
@example("é", "e\u0301")
@example("x" * MAX_NAME, "x" * (MAX_NAME + 1))
@example("x" * 200, "x" * 201)
def test_two_names_never_share_a_folder(one, other):
    """
    Also where they are long, or look like encoded ones.
    """
    assert (encode_name(one) == encode_name(other)) == (one == other)


def test_names_of_the_venue_stay_readable():
    """
    Only what is unsafe is encoded.
    """
    assert encode_name("1MBONK-PERP") == "1MBONK-PERP"
    assert encode_name("TRUMP-WIN-2024-BET") == "TRUMP-WIN-2024-BET"
    assert encode_name("wETH/SOL") == "wETH%2FSOL"


@given(st.lists(st.tuples(st.sampled_from(["books", "trades"]), HOURS, NAMES), min_size=2, max_size=2, unique=True))
def test_two_partitions_never_share_a_file(partitions):
    """
    One file per table, market and hour.
    """
    one, other = partitions

    assert partition(*one) != partition(*other)


@pytest.mark.parametrize(
    ("channel", "table"),
    [
        ("orderbook_perp_0_grouped_1", "books"),
        ("orderbook_perp_0", "books_ungrouped"),
        ("last_update_orderbook_perp_0", "books_ungrouped"),
        ("orderbook_spot_3_grouped_100", "books_grouped_100"),
        ("orderbook_perp_0_indicative", "books_ungrouped_indicative"),
        ("orderbook_perp_0_grouped_1_indicative", "books_indicative"),
        ("orderbook_perp_0_grouped_10_indicative", "books_grouped_10_indicative"),
        ("dlob:trades_perp_0", "trades"),
        ("priorityFees_perp_0", "priority_fees"),
    ],
)
def test_each_kind_of_book_has_a_table_of_its_own(channel, table):
    """
    So that a glob over one table never mixes books that mean different things.
    """
    name = parse_channel(channel)

    assert name is not None
    assert table_of(name) == table


def test_the_firm_book_at_grouping_1_is_books():
    """
    And nothing else is.
    """
    tables = {
        book_table(grouping=g, indicative=i): (g, i) for g in (None, 1, 10, 100, 500, 1000) for i in (False, True)
    }

    assert len(tables) == 12
    assert tables["books"] == (1, False)


def test_hours_are_whole():
    """
    The constant all of this rests on.
    """
    assert HOUR_NS == 3600 * SECOND_NS
