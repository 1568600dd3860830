"""
Pictures say what the tables say, and break where nothing is known.
"""

import sys

import pytest

from faulty_lake import END, START
from recorder.analysis import book
from recorder.analysis.pictures import MAX_SHADES, figure, iso, said, shade, step_ns
from recorder.analysis.plot import POINTS
from recorder.analysis.records import Hole
from recorder.errors import RecorderError
from recorder.records import SECOND_NS

SILENCE = (START + 185 * SECOND_NS, START + 255 * SECOND_NS)


def trace(made, name):
    """
    The trace of that name.
    """
    return next(each for each in made.data if (each.name or "").startswith(name))


@pytest.mark.parametrize("points", [POINTS, 200])
def test_the_line_of_prices_breaks_at_a_hole_and_the_hole_is_shaded(faulty, monkeypatch, points):
    """
    Whether every book is drawn or the last of each bin.
    """
    monkeypatch.setattr("recorder.analysis.plot.POINTS", points)

    made = faulty.plot.price("BTC-PERP", START, END)

    inside = [iso(at) for at in SILENCE]
    for name in ("bid", "ask"):
        line = trace(made, name)
        # Between any point before the silence and any after it stands one without a value.
        marks = [at for at, y in zip(line.x, line.y, strict=True) if y is None]
        assert any(iso(START + 178 * SECOND_NS) < at < inside[1] for at in marks)
        assert not [at for at, y in zip(line.x, line.y, strict=True) if inside[0] < at < inside[1] and y is not None]
        assert list(line.x) == sorted(line.x)
        assert len(line.x) <= points + 60
    assert any(shape.x0 <= inside[0] and shape.x1 >= inside[1] for shape in made.layout.shapes)
    fills = faulty.trades("BTC-PERP", START, END).filter("is_market_trade").collect()
    assert len(trace(made, "buys").x) + len(trace(made, "sells").x) == fills.height


def test_the_heat_map_holds_the_sizes_of_the_last_book_of_each_column_and_nothing_in_a_hole(faulty):
    """
    A total over a column is that of a book's levels in the range shown.
    """
    made = faulty.plot.depth("BTC-PERP", START, END)
    heat = trace(made, "depth")

    at = next(n for n, x in enumerate(heat.x) if x > iso(SILENCE[0] + 10 * SECOND_NS))
    assert all(row[at] is None for row in heat.z)
    assert trace(made, "mid").y[at] is None
    first = [row[0] for row in heat.z if row[0] is not None]
    books = faulty.books("BTC-PERP", START, START + 5 * SECOND_NS).collect().rows(named=True)
    levels = [*zip(books[-1]["bid_price"], books[-1]["bid_size"], strict=True)]
    levels += zip(books[-1]["ask_price"], books[-1]["ask_size"], strict=True)
    low, high = made.layout.yaxis.range
    assert sum(10**value for value in first) == pytest.approx(sum(s for p, s in levels if low <= p <= high), rel=1e-6)


def test_the_ladder_is_one_book_and_refuses_an_instant_in_a_hole(faulty):
    """
    Each level once, with the size it had.
    """
    made = faulty.plot.ladder("SOL-PERP", START + 60 * SECOND_NS, levels=8)
    row = faulty.book("SOL-PERP", START + 60 * SECOND_NS).collect().row(0, named=True)

    drawn = {label: size for bars in made.data for label, size in zip(bars.y, bars.x, strict=True)}
    wanted = [*zip(row["bid_price"][:8], row["bid_size"], strict=False)]
    wanted += zip(row["ask_price"][:8], row["ask_size"], strict=False)
    assert drawn == {f"{price:.10g}": size for price, size in wanted}
    # As the legend shows them.
    assert len({bars.marker.color for bars in made.data}) == len(made.data) > 2
    with pytest.raises(RecorderError, match="no book is known at"):
        faulty.plot.ladder("BTC-PERP", SILENCE[0] + 20 * SECOND_NS)
    assert "SOL-PERP at 2026-03-01 11:0" in faulty.plot.ladder("SOL-PERP").layout.title.text


def test_the_distribution_of_spreads_is_of_all_time_that_is_covered(faulty):
    """
    It sums to the whole, and its median is the one weighted with time.
    """
    made = faulty.plot.spread("ETH-PERP", START, END)

    assert sum(made.data[0].y) == pytest.approx(100)
    spreads = faulty.books("ETH-PERP", START, END, gaps="split").select(book.spread_bps()).collect().to_series()
    assert f"median {spreads.median():.1f}" in made.data[0].name
    assert len(faulty.plot.spread(None, START, END).data) == 4


def test_the_calendar_shows_every_stream_and_hour(faulty):
    """
    In per cent of the hour, from the first run on, with grey for hours that were never recorded.
    """
    made = faulty.plot.coverage("2026-03-01T09", "2026-03-01T12")
    heat = made.data[0]

    assert len(heat.y) == 8
    assert len(heat.x) == 3 + 1  # the edges
    at = list(heat.y).index("BTC-PERP books")
    rows = faulty.coverage("BTC-PERP").collect().rows(named=True)
    complete = [row["complete_s"] for row in rows if row["channel"] == "orderbook"]
    # The first run began at 10:46.
    assert list(heat.z[at]) == [None, pytest.approx(complete[0] / 840 * 100), pytest.approx(complete[1] / 36)]


def test_many_holes_are_bounded_and_the_largest_are_drawn():
    """
    A browser does not bear a million rectangles.
    """
    holes = [Hole(n * 10 * SECOND_NS, n * 10 * SECOND_NS + n, "X", "books", "missing", "x") for n in range(1, 1000)]
    made = figure("x")

    left = shade(made, holes)

    assert left == 999 - MAX_SHADES
    assert len(made.layout.shapes) == MAX_SHADES
    assert iso(holes[-1].start) in {shape.x0 for shape in made.layout.shapes}


def test_words_from_outside_are_no_markup():
    """
    Plotly reads tags and links in labels.
    """
    assert said("<a href='javascript:x'>\u202e\n") == "&lt;a href=&#x27;javascript:x&#x27;&gt;\\u202e\\n"
    assert len(said("y" * 500)) == 120


def test_steps_are_round_and_few():
    """
    At most as many columns as asked for.
    """
    assert step_ns(0, 3600 * SECOND_NS, 300) == 15 * SECOND_NS
    assert step_ns(0, 10**19, 100) >= 10**17
    assert step_ns(5, 5, 10) > 0


def test_an_hour_alone_in_the_calendar_has_a_width(faulty):
    """
    By the middle of a single cell plotly cannot tell how wide it is, and draws nothing: grey, as if never recorded.
    """
    heat = faulty.plot.coverage("2026-03-01T10", "2026-03-01T11").data[0]

    assert [str(edge)[:16] for edge in heat.x] == ["2026-03-01 10:00", "2026-03-01 11:00"]
    assert all(len(shares) == 1 for shares in heat.z)


def test_without_plotly_it_is_said_what_to_install(faulty, monkeypatch):
    """
    It is an extra.
    """
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)

    with pytest.raises(RecorderError, match="pip install plotly"):
        faulty.plot.coverage()


def test_a_picture_without_a_range_is_of_the_time_in_which_rows_came(faulty):
    """
    Of any market: a market that fell silent is a hole to the end, the minutes before the recording are not drawn.
    """
    for made in (faulty.plot.price("BTC-PERP"), faulty.plot.depth("BTC-PERP")):
        first, last = made.layout.xaxis.range
        assert first.startswith("2026-03-01 10:46:0")
        assert last.startswith(("2026-03-01 11:09:5", "2026-03-01 11:10:0"))
    assert faulty.heard(START, END) == (START, END)


def test_a_line_reaches_up_to_the_start_of_a_hole(faulty):
    """
    What stood before it stood until then, and nothing stands in it.
    """
    line = trace(faulty.plot.price("BTC-PERP", START, END), "bid")
    told = [hole for hole in faulty.holes("BTC-PERP", START, END, tables=["books"]) if hole.start > START]

    assert len(told) > 1
    for hole in told:
        *_, held, gone = (at for at, x in enumerate(line.x) if x == iso(hole.start))
        assert line.y[gone] is None
        assert line.y[held] == line.y[held - 1] is not None


def test_spreads_of_several_markets_have_the_same_bins(faulty):
    """
    Their shares are compared; each sums up to all of the time that was known.
    """
    made = faulty.plot.spread(["BTC-PERP", "SOL-PERP"], START, END)

    assert len(made.data) == 2
    assert made.data[0].x == made.data[1].x
    for each in made.data:
        assert sum(each.y) == pytest.approx(100)
