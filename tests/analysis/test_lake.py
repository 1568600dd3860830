"""
Reading a small lake: two hours, three markets, one whose token's decimals are unknown.
"""

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from analysis_cases import EXPONENTS, Writer, blank, book, event, trade
from recorder.analysis import Lake
from recorder.errors import DamagedFile, RecorderError, RootError
from recorder.lake import layout
from recorder.lake.schema import table
from recorder.records import HOUR_NS, SECOND_NS, Flag

H16 = layout.parse_hour("2026-11-22T16")
H17 = H16 + HOUR_NS
MINUTES = (0, 20, 40)
OUTSIDE = {
    "path": "../../etc/passwd",
    "table": "books",
    "symbol": "A",
    "rows": 1,
    "bytes": 1,
    "sha256": "00",
    "first_recv_ts": None,
    "last_recv_ts": None,
}


@pytest.fixture
def root(tmp_path) -> Path:
    """
    Hours 16 (complete) and 17 (not yet), in a folder whose name looks like a pattern.
    """
    writer = Writer(tmp_path / "lake[1]*")
    for hour in (H16, H17):
        times = [hour + minute * 60 * SECOND_NS for minute in MINUTES]
        tables: dict[tuple[str, str | None], list[dict[str, object]]] = {}
        for symbol in EXPONENTS:
            tables["books", symbol] = [book(symbol, t) for t in times]
            tables["trades", symbol] = [trade(symbol, t + 1) for t in times[:2]]
        tables["books_grouped_100", "SOL-PERP"] = [book("SOL-PERP", times[0])]
        tables["quality", None] = [
            event("connected", hour, hour),
            event("disconnected", hour + 600 * SECOND_NS, hour + 1200 * SECOND_NS),
        ]
        tables["coverage", None] = [
            blank("coverage") | {"start": hour, "symbol": symbol, "channel": "orderbook", "rows": 3}
            for symbol in (*EXPONENTS, "NEVER-SPOKE")
        ]
        tables["telemetry", None] = [blank("telemetry") | {"recv_ts": times[1]}]
        tables["undecodable", None] = [blank("undecodable") | {"recv_ts": times[1], "payload": b"\xff"}]
        writer.hour(hour, tables, complete=hour == H16)
    return writer.root


def at(frame: pl.LazyFrame, column: str = "recv_ts") -> list[int]:
    """
    Instants of a frame as ns since the first hour.
    """
    return [t - H16 for t in frame.collect()[column].cast(pl.Int64)]


def test_a_market_is_read_over_its_hours_in_order_of_time(root):
    """
    The plainest question: all books of a market.
    """
    frame = Lake(root).books("SOL-PERP")

    assert at(frame) == [h * HOUR_NS + m * 60 * SECOND_NS for h in (0, 1) for m in MINUTES]
    assert set(frame.collect()["symbol"]) == {"SOL-PERP"}


def test_natural_units_are_tokens_and_quote(root):
    """
    Scales are applied once, here, so that nobody applies them wrongly.
    """
    row = Lake(root).books("USDC").collect().row(0, named=True)

    assert row["bid_price"] == [150.0, 149.5]
    assert row["bid_size"] == [1.5, 2.0]
    assert row["ask_price"] == [151.000001]
    assert row["ask_part"] == [0.5, 1.5]
    assert row["ask_source"] == [3]
    assert (row["best_bid_price"], row["best_bid_size"]) == (150.0, 1.5)
    assert (row["best_ask_price"], row["best_ask_size"]) == (151.000001, 2.0)
    assert row["oracle_price"] == 150.25
    assert row["spread_pct"] == 0.664452
    assert row["slot"] == 7
    assert row["mark_price"] is None


def test_each_rows_own_exponent_scales_its_sizes(root):
    """
    A perp's sizes have nine decimals, a token's its own: one frame may hold both.
    """
    sizes = Lake(root).books(["SOL-PERP", "USDC"], end=H16 + 1).collect()

    assert dict(zip(sizes["symbol"], sizes["best_bid_size"], strict=True)) == {"SOL-PERP": 0.0015, "USDC": 1.5}


def test_sizes_of_an_unknown_token_are_null_in_books_and_known_in_trades(root):
    """
    A book gives integers of unknown scale; a guess would be a wrong size. A trade gives decimals.
    """
    book_row = Lake(root).books("spot-99").collect().row(0, named=True)
    trade_row = Lake(root).trades("spot-99").collect().row(0, named=True)

    assert book_row["bid_size"] == [None, None]
    assert book_row["best_bid_size"] is None
    assert book_row["bid_price"] == [150.0, 149.5]
    assert trade_row["base_amount"] == 0.25
    assert trade_row["taker_order_base_amount"] == 0.5


def test_trades_are_tokens_and_quote(root):
    """
    Amounts and fees, signed; ids stay integers.
    """
    row = Lake(root).trades("SOL-PERP").collect().row(0, named=True)

    assert (row["base_amount"], row["quote_amount"], row["price"]) == (0.25, 37.5, 150.0)
    assert (row["taker_fee"], row["maker_fee"]) == (0.01875, -0.00125)
    assert row["taker_order_base_amount"] == 0.5
    assert row["maker_order_base_amount"] is None
    assert row["fill_record_id"] == 12


@pytest.mark.parametrize(("flags", "percent"), [(0, 0.02), (Flag.CROSSED, 0.02), (Flag.SPREAD_UNIT, 2.0)])
def test_the_spread_is_in_percent_whichever_publisher_sent_it(tmp_path, flags, percent):
    """
    The newer publisher sends a fraction where the older one sends percent; the flag tells.
    """
    row = book("USDC", H16) | {"spread_pct": 20_000, "flags": int(flags)}
    Writer(tmp_path).hour(H16, {("books", "USDC"): [row]})

    assert Lake(tmp_path).books("USDC").collect()["spread_pct"].to_list() == [percent]


@pytest.mark.parametrize("count", [1, 500])
def test_a_quotient_is_the_nearest_float(tmp_path, count):
    """
    Natural units must print as the venue's decimals do, for any value and exponent.
    """
    values = range(664_452, 664_452 + count)
    rows = [
        book("USDC", H16 + n)
        | {"size_exponent": n % 13, "best_bid_size": n, "oracle_price": n, "bid_price": [n, n + 1], "spread_pct": n}
        for n in values
    ]
    Writer(tmp_path).hour(H16, {("books", "USDC"): rows})

    books = Lake(tmp_path).books("USDC").collect()

    assert books["oracle_price"].to_list() == [float(f"{n}e-6") for n in values]
    assert books["spread_pct"].to_list() == [float(f"{n}e-6") for n in values]
    assert books["bid_price"].to_list() == [[float(f"{n}e-6"), float(f"{n + 1}e-6")] for n in values]
    assert books["best_bid_size"].to_list() == [float(f"{n}e-{n % 13}") for n in values]


@pytest.mark.parametrize("name", ["books", "trades"])
def test_raw_units_are_the_columns_as_stored(root, name):
    """
    Exact integers for those who need them.
    """
    frame = getattr(Lake(root), name)("SOL-PERP", units="raw").collect()

    stored = pl.read_parquet(root / layout.partition(name, H16, "SOL-PERP"), hive_partitioning=False, glob=False)
    assert frame.schema == stored.schema
    assert frame.head(stored.height).equals(stored)


def test_a_range_is_half_open(root):
    """
    Adjacent ranges neither share a row nor lose one.
    """
    lake = Lake(root)
    middle = H16 + 20 * 60 * SECOND_NS

    assert at(lake.books("SOL-PERP", H16, middle)) == [0]
    assert at(lake.books("SOL-PERP", middle, middle + 1)) == [middle - H16]
    assert at(lake.books("SOL-PERP", middle, middle)) == []


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (H17, H17 + HOUR_NS),
        ("2026-11-22T17", "2026-11-22T18"),
        ("2026-11-22T17:00:00Z", "2026-11-22T17:59:59.999999"),
        ("2026-11-22T18:00:00+01:00", None),
        (datetime(2026, 11, 22, 17, tzinfo=UTC), datetime(2026, 11, 22, 18, tzinfo=UTC)),
        (datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(hours=-5))), "2026-11-23"),
        ("2026-11-22 17:00", date(2026, 11, 23)),
    ],
)
def test_a_bound_may_be_written_in_any_of_its_forms(root, start, end):
    """
    Text without a zone is UTC; a date is its midnight.
    """
    assert at(Lake(root).books("SOL-PERP", start, end))[0] == HOUR_NS
    assert len(at(Lake(root).books("SOL-PERP", start, end))) == 3


def test_a_datetime_without_a_zone_is_refused(root):
    """
    Python's own functions take it for local time, so it might mean any.
    """
    with pytest.raises(RecorderError, match=r"start: datetime.datetime\(2026, 11, 22, 17, 0\) has no time zone"):
        Lake(root).books("SOL-PERP", datetime(2026, 11, 22, 17))


def test_a_day_is_a_range_of_its_dates(root):
    """
    The 22nd is from its midnight to the next.
    """
    assert Lake(root).books("SOL-PERP", "2026-11-22", "2026-11-23").collect().height == 6
    assert Lake(root).books("SOL-PERP", end="2026-11-22").collect().height == 0


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ("yesterday", r"start: 'yesterday' is no instant; write it as 2026-11-22"),
        ("", "is no instant"),
        ("2026-11-22T16:00:00.1234567", "finer than microseconds; give integer ns"),
        (1_795_363_200, "too small for nanoseconds"),
        (0, "too small for nanoseconds"),
        (datetime(9999, 1, 1, tzinfo=UTC), "outside of 1677 to 2262"),
        (1 << 63, "outside of 1677 to 2262"),
    ],
)
def test_a_bound_that_is_none_is_said(root, bound, message):
    """
    Seconds taken for nanoseconds would read the wrong half century without a word.
    """
    with pytest.raises(RecorderError, match=message):
        Lake(root).books("SOL-PERP", bound)


@pytest.mark.parametrize("bound", [True, 1.5, b"2026", timedelta(hours=1)])
def test_a_bound_of_another_type_is_a_type_error(root, bound):
    """
    A float of seconds cannot hold nanoseconds, so none is taken.
    """
    with pytest.raises(TypeError, match="start is a"):
        Lake(root).books("SOL-PERP", bound)


def test_an_end_before_the_start_is_refused(root):
    """
    Swapped bounds are a mistake, not an empty market.
    """
    with pytest.raises(RecorderError, match="lies before start"):
        Lake(root).trades("SOL-PERP", "2026-11-23", "2026-11-22")


def test_only_the_files_of_the_market_and_hours_are_in_the_plan(root):
    """
    A year of a hundred markets must cost what is asked for.
    """
    plan = Lake(root).books("SOL-PERP", H17).explain()

    assert str(layout.partition("books", H17, "SOL-PERP")) in plan
    assert "hour=16" not in plan
    assert "USDC" not in plan
    assert "recv_ts" in plan.split("SELECTION")[1]


def test_columns_that_are_not_asked_for_are_not_read(root):
    """
    The level lists are most of a file; a mid series needs none of them.
    """
    wanted = ["recv_ts", "best_bid_price"]
    natural = Lake(root).books("SOL-PERP", columns=wanted)
    raw = Lake(root).books("SOL-PERP", columns=wanted, units="raw")

    assert natural.collect().columns == wanted
    assert f"PROJECT 2/{len(table('books').columns)} COLUMNS" in raw.explain()
    # One more column, for the scale.
    assert f"PROJECT 3/{len(table('books').columns)} COLUMNS" in natural.explain()


def test_hours_outside_the_range_are_never_opened(root):
    """
    Not even their manifest: here both are rubbish.
    """
    (root / layout.partition("books", H17, "SOL-PERP")).write_bytes(b"rubbish")
    (root / layout.manifest_path(H17)).write_bytes(b"rubbish")

    assert Lake(root).books("SOL-PERP", end=H17).collect().height == 3


def test_an_hour_without_a_manifest_is_not_there(root):
    """
    It is being written or replaced; half of it would look like a hole.
    """
    (root / layout.manifest_path(H16)).unlink()

    assert at(Lake(root).books("SOL-PERP"))[0] == HOUR_NS


def test_a_file_the_manifest_does_not_name_is_not_read(root):
    """
    A leftover of a killed seal is not part of the hour.
    """
    stray = root / "lake/books/market=SOL-PERP/date=2026-11-22/hour=16/stray.parquet"
    stray.write_bytes((root / layout.partition("books", H16, "SOL-PERP")).read_bytes())

    assert Lake(root).books("SOL-PERP").collect().height == 6


def test_a_lake_that_is_kept_sees_what_is_published_later(root):
    """
    The open hour is replaced when it closes, and further hours come.
    """
    lake = Lake(root)
    assert lake.books("SOL-PERP").collect().height == 6

    Writer(root).hour(H17, {("books", "SOL-PERP"): [book("SOL-PERP", H17)] * 9})
    Writer(root).hour(H17 + HOUR_NS, {("books", "SOL-PERP"): [book("SOL-PERP", H17 + HOUR_NS)]})

    assert lake.books("SOL-PERP").collect().height == 3 + 9 + 1


def test_all_markets_come_market_by_market(root):
    """
    Each one's rows stay together and in order of time.
    """
    frame = Lake(root).books().collect()

    assert frame["symbol"].rle_id().max() == 2
    assert frame.height == 18
    for _, rows in frame.group_by("symbol"):
        assert rows["recv_ts"].is_sorted()


def test_names_match_in_any_letter_case(root):
    """
    Books say USDC, a list might say usdc: it is one market.
    """
    assert Lake(root).books(["usdc", "Sol-Perp"]).collect().height == 12


def test_a_table_of_other_books_is_read_by_its_name(root):
    """
    Groupings never mix: each is asked for.
    """
    assert Lake(root).books("SOL-PERP", table="books_grouped_100").collect().height == 2
    assert Lake(root).books("SOL-PERP", table="books_indicative").collect().height == 0


@pytest.mark.parametrize(
    "frame",
    [
        lambda lake, **k: lake.books("BTC-PERP", **k),  # in the venue's list, never heard
        lambda lake, **k: lake.books("NEVER-SPOKE", **k),  # configured, unknown to the list, never heard
        lambda lake, **k: lake.books("SOL-PERP", end="2020-01-01", **k),
        lambda lake, **k: lake.books([], **k),
        lambda lake, **k: lake.books("USDC", table="books_grouped_100", **k),
    ],
)
@pytest.mark.parametrize("units", ["natural", "raw"])
def test_nothing_found_is_an_empty_frame_of_the_same_types(root, frame, units):
    """
    Code that works on a full frame works on an empty one.
    """
    empty = frame(Lake(root), units=units)

    assert empty.collect().height == 0
    assert empty.collect_schema() == Lake(root).books("SOL-PERP", units=units).collect_schema()


@pytest.mark.parametrize(
    "name", ["trades", "priority_fees", "quality", "coverage", "telemetry", "undecodable", "books"]
)
def test_a_root_without_a_published_hour_gives_empty_frames(tmp_path, name):
    """
    The first minutes of a recording.
    """
    Writer(tmp_path)

    frame = getattr(Lake(tmp_path), name)()

    assert frame.collect().height == 0
    assert frame.collect_schema().names() == [c.name for c in table(name).columns]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SOLPERP", r"no market 'SOLPERP'; near: SOL-PERP.*Lake\.markets\(\)"),
        ("", "no market ''"),
        ("zzzzzzzzz", r"no market 'zzzzzzzzz'; `drift-recorder coverage`"),
        ("../../etc", r"no market '\.\./\.\./etc'"),
    ],
)
@pytest.mark.parametrize("frame", ["books", "trades", "coverage"])
def test_an_unknown_market_is_refused_with_near_names(root, frame, name, message):
    """
    A misspelled market must not look like a market without data.
    """
    with pytest.raises(RecorderError, match=message):
        getattr(Lake(root), frame)(name)


def test_a_market_of_another_hour_is_known(tmp_path):
    """
    A market the list does not know, recorded, but not in this range.
    """
    writer = Writer(tmp_path)
    name = "weird/../näme " + "x" * 200
    writer.hour(H16, {("books", name): [book("USDC", H16)]})
    writer.hour(H17, {("books", "USDC"): [book("USDC", H17)]})

    assert Lake(tmp_path).books(name, H17).collect().height == 0
    assert Lake(tmp_path).books(name).collect().height == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": "float"}, "units='float' is unknown"),
        ({"columns": ["recv_ts", "bid_prices"]}, "books has no column 'bid_prices'; near: bid_price"),
        ({"table": "book"}, "'book' is no table of books; .*: books, books_grouped_100"),
        ({"table": "books_../x"}, "is no table of books"),
    ],
)
def test_an_argument_that_means_nothing_is_said(root, arguments, message):
    """
    Each with what would be right.
    """
    with pytest.raises(RecorderError, match=message):
        Lake(root).books("SOL-PERP", **arguments)


def test_events_are_those_that_overlap_the_range(root):
    """
    A hole that began before the range still is one in it; a moment counts where it lies.
    """
    lake = Lake(root)
    ten, fifteen, twenty = (H16 + m * 60 * SECOND_NS for m in (10, 15, 20))

    assert lake.quality().collect().height == 4
    assert lake.quality(H16, ten).collect()["kind"].to_list() == ["connected"]
    assert lake.quality(H16 + 1, ten + 1).collect()["kind"].to_list() == ["disconnected"]
    assert lake.quality(fifteen, fifteen + 1).collect()["kind"].to_list() == ["disconnected"]
    assert lake.quality(twenty, H17).collect()["kind"].to_list() == []
    assert lake.quality(twenty, H17 + 1).collect()["kind"].to_list() == ["connected"]


def test_coverage_is_of_the_hours_that_begin_in_the_range(root):
    """
    An hour's proof is about the whole of it.
    """
    lake = Lake(root)

    assert lake.coverage().collect().height == 8
    assert at(lake.coverage("SOL-PERP"), "start") == [0, HOUR_NS]
    assert at(lake.coverage(["usdc", "NEVER-SPOKE"], H17), "start") == [HOUR_NS] * 2
    assert at(lake.coverage("USDC", H16 + 1), "start") == [HOUR_NS]


@pytest.mark.parametrize("name", ["telemetry", "undecodable"])
def test_the_other_tables_are_read_by_time(root, name):
    """
    About the whole recorder, so without a market.
    """
    frame = getattr(Lake(root), name)

    assert frame().collect().height == 2
    assert at(frame(end=H17)) == [1200 * SECOND_NS]


def test_hours_say_whether_they_are_complete(root):
    """
    The hour that is still open was published so far, and says so.
    """
    hours = Lake(root).hours().collect()

    assert [t - H16 for t in hours["hour"].cast(pl.Int64)] == [0, HOUR_NS]
    assert hours["complete"].to_list() == [True, False]
    assert hours["rows"].to_list() == [3 * 3 + 3 * 2 + 1 + 2 + 4 + 1 + 1] * 2
    assert Lake(root).hours(start=H17).collect().height == 1


def test_markets_say_what_was_recorded(root):
    """
    The first thing to ask of an unknown lake.
    """
    markets = Lake(root).markets().collect()

    assert markets.select("symbol", "table", "hours", "rows").rows() == [
        ("SOL-PERP", "books", 2, 6),
        ("SOL-PERP", "books_grouped_100", 2, 2),
        ("SOL-PERP", "trades", 2, 4),
        ("USDC", "books", 2, 6),
        ("USDC", "trades", 2, 4),
        ("spot-99", "books", 2, 6),
        ("spot-99", "trades", 2, 4),
    ]
    assert [t - H16 for t in markets["last_hour"].cast(pl.Int64).unique()] == [HOUR_NS]


def test_a_mid_and_a_depth_are_one_expression_away(root):
    """
    The form analysis wants: level lists are lists of floats.
    """
    frame = Lake(root).books("USDC", end=H16 + 1)

    row = frame.select(
        mid=(pl.col("best_bid_price") + pl.col("best_ask_price")) / 2,
        value=pl.col("bid_price").list.get(0) * pl.col("bid_size").list.get(0),
    ).collect()

    assert math.isclose(row["mid"][0], 150.5000005)
    assert row["value"].to_list() == [225.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"is not a data root \(no root\.json in it\); give the folder"),
        ("{}", r"root\.json is not a recorder's"),
        ("\x00", r"root\.json is not a recorder's"),
        ('{"format":99,"venue":"x","network":"y"}', "has format 99; upgrade"),
    ],
)
def test_a_folder_that_is_no_root_is_refused(tmp_path, content, message):
    """
    At once, before any frame is made.
    """
    if content is not None:
        (tmp_path / "root.json").write_text(content)

    with pytest.raises(RootError, match=message):
        Lake(tmp_path)


def test_a_root_that_is_not_there_is_refused(tmp_path):
    """
    An empty answer would hide a mistyped path.
    """
    with pytest.raises(RootError, match="is not a folder"):
        Lake(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("rubbish", DamagedFile, "is not a manifest.*`drift-recorder verify --repair`"),
        (
            json.dumps({"format": 1, "hour": "2026-11-22T16", "complete": True, "files": [OUTSIDE]}),
            DamagedFile,
            "outside the lake",
        ),
        ('{"format":9,"hour":"2026-11-22T16","complete":true,"files":[]}', RootError, "has format 9; upgrade"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_an_error(root, content, error, message):
    """
    Leaving the hour out silently would be a hole nobody recorded.
    """
    (root / layout.manifest_path(H16)).write_text(content)

    with pytest.raises(error, match=message):
        Lake(root).books("SOL-PERP")


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda data: b"", "has 0 bytes, too few for Parquet"),
        (lambda data: data[: len(data) // 2], "is no whole Parquet file: of its .* bytes the first and last"),
        (lambda data: data[:-8] + b"\xff\xff\xff\x7f" + data[-4:], "is no whole Parquet file"),
        (lambda data: b"\0" * len(data), "is no whole Parquet file"),
    ],
    ids=["empty", "cut", "footer", "zeros"],
)
def test_a_cut_file_is_told_by_its_name_and_how_to_make_it_again(root, keep, message):
    """
    Of a damaged file among hundreds polars tells neither which it is nor what to do; a lake that read it before, too.
    """
    lake = Lake(root)
    lake.books("SOL-PERP").collect()
    path = root / layout.partition("books", H17, "SOL-PERP")
    path.write_bytes(keep(path.read_bytes()))

    with pytest.raises(DamagedFile, match=message) as told:
        lake.books("SOL-PERP")

    assert str(path) in str(told.value)
    assert "drift-recorder verify --repair" in str(told.value)
    assert lake.books("SOL-PERP", "2026-11-22T16", "2026-11-22T17").collect().height == len(MINUTES)


def test_leftovers_beside_the_manifests_are_passed_over(root):
    """
    A temporary file of a killed seal means nothing.
    """
    (root / "manifest" / ".2026-11-22T18.json.tmp").write_text("half")
    (root / "manifest" / "notes.json").write_text("mine")

    assert Lake(root).hours().collect().height == 2


def test_it_shows_what_it_is_bound_to(root):
    """
    In a notebook one wants to see which venue this was.
    """
    lake = Lake(str(root))

    assert (lake.venue, lake.network) == ("demo", "mainnet-beta")
    assert "demo" in repr(lake)
