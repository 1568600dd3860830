"""
The line of cells that a stream's hours become.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.records import SECOND_NS
from recorder.timeline import CELLS_S, cell_s, cells, coloured, scale

HOUR = 1_795_366_800 * SECOND_NS
STATES = ("complete", "unverifiable", "suspect", "missing")


def at(seconds: float) -> int:
    """
    The instant that many seconds into the hour, ns.
    """
    return HOUR + round(seconds * 1000) * 1_000_000


def line(stretches: list[tuple[float, float, str]], count: int = 6, seconds: int = 10) -> str:
    """
    Cells of ten seconds from the hour's begin.
    """
    return cells([(at(a), at(b), state) for a, b, state in stretches], HOUR, count, seconds)


@pytest.mark.parametrize(
    ("stretches", "letters"),
    [
        ([], "      "),
        ([(0, 60, "complete")], "cccccc"),
        ([(0, 20, "complete"), (20, 40, "missing"), (40, 60, "complete")], "ccMMcc"),
        ([(0, 20, "complete"), (20, 20.001, "missing"), (20.001, 60, "complete")], "ccmccc"),
        ([(0, 25, "complete"), (25, 45, "suspect"), (45, 60, "unverifiable")], "ccsSsu"),
        ([(0, 5, "suspect"), (5, 10, "missing"), (10, 60, "unverifiable")], "muuuuu"),
        ([(-100, 15, "complete"), (15, 400, "unverifiable")], "cuuuuu"),
        ([(25, 35, "complete")], "  cc  "),
    ],
)
def test_a_cell_shows_the_worst_that_is_in_it(stretches, letters):
    """
    However short; a capital where there is nothing else, a blank where nothing is known.
    """
    assert line(stretches) == letters


@given(
    st.lists(st.tuples(st.integers(0, 59), st.sampled_from(STATES)), min_size=1, max_size=8, unique_by=lambda s: s[0])
)
def test_no_stretch_is_left_out(starts):
    """
    Against every second.
    """
    starts = sorted(starts)
    ends = [*(start for start, _ in starts[1:]), 60]
    stretches = [(start, end, state) for (start, state), end in zip(starts, ends, strict=True)]

    got = line(stretches)

    for number, letter in enumerate(got):
        seconds = range(number * 10, number * 10 + 10)
        here = [state for second in seconds for start, end, state in stretches if start <= second < end]
        worst = max(here, key=STATES.index, default=" ")
        assert letter.lower() == worst[0]
        assert letter.isupper() == (worst in {"suspect", "missing"} and set(here) == {worst})


def test_letters_keep_their_places_in_colour():
    """
    A terminal without colours shows the same.
    """
    assert coloured("cuS mM").plain == "cuS mM"


@given(start=st.integers(0, 10**9), lasts=st.integers(1, 10**8), width=st.integers(20, 200))
def test_the_range_fits_into_the_width(start, lasts, width):
    """
    With the shortest cells that do.
    """
    first, last = start * SECOND_NS, (start + lasts) * SECOND_NS

    def needed(seconds: int) -> int:
        cell = seconds * SECOND_NS
        return -(-last // cell) - first // cell

    seconds = cell_s(first, last, width)

    assert needed(seconds) <= width
    assert all(needed(shorter) > width for shorter in CELLS_S[: CELLS_S.index(seconds)])


@pytest.mark.parametrize(
    ("seconds", "count", "text"),
    [
        (60, 60, "17:00     17:10     17:20     17:30     17:40     17:50"),
        (2, 40, "17:00:00  17:00:20  17:00:40  17:01:00"),
        (1800, 48, "17:00 20:00   00:00   04:00   08:00   12:00"),
        (60, 3, "17:00"),
        (21_600, 28, "  11-23   11-25   11-27"),
    ],
)
def test_the_scale_names_round_times(seconds, count, text):
    """
    As many as have room.
    """
    assert scale(HOUR - HOUR % (seconds * SECOND_NS), count, seconds) == text
