"""
Interval arithmetic, against sets of instants.
"""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from recorder.quality.intervals import (
    Spans,
    add,
    cut,
    difference,
    intersection,
    layered,
    length,
    shared,
    union,
    widened,
)

END = 60
ANY = st.lists(st.tuples(st.integers(0, END), st.integers(0, END)), max_size=8)
SPANS = ANY.map(union)


def instants(spans: list[tuple[int, int]]) -> set[int]:
    """
    Every instant that is covered.
    """
    return {at for start, end in spans for at in range(start, end)}


def is_normal(spans: Spans) -> bool:
    """
    In order, none empty, none touching the next.
    """
    flat = [at for span in spans for at in span]
    return flat == sorted(set(flat))


@given(a=ANY, b=ANY)
def test_a_union_covers_what_any_covers(a, b):
    """
    Whatever the order, overlaps and empty ones of what goes in.
    """
    got = union(a, b)

    assert instants(got) == instants(a) | instants(b)
    assert is_normal(got)


@given(a=SPANS, one=st.tuples(st.integers(0, END), st.integers(0, END)))
def test_one_more_is_added_as_by_a_union(a, one):
    """
    Also one that is empty, touches its neighbours or swallows them.
    """
    got = list(a)
    add(got, one)

    assert got == union(a, [one])


@given(a=SPANS, b=SPANS)
def test_an_intersection_covers_what_both_cover(a, b):
    """
    And a length is the number of instants.
    """
    got = intersection(a, b)

    assert instants(got) == instants(a) & instants(b)
    assert is_normal(got)
    assert length(got) == len(instants(got))


@given(a=SPANS, b=SPANS)
def test_a_difference_covers_what_only_the_first_covers(a, b):
    """
    Also where one span of the second cuts several of the first, and the other way round.
    """
    got = difference(a, b)

    assert instants(got) == instants(a) - instants(b)
    assert is_normal(got)


@given(of=st.lists(SPANS, max_size=4))
def test_what_two_cover_is_shared(of):
    """
    Or more of them.
    """
    got = shared(of)

    assert instants(got) == {at for at in range(-1, END + 1) if sum(at in instants(spans) for spans in of) > 1}
    assert is_normal(got)


@given(spans=SPANS, start=st.integers(0, END), end=st.integers(0, END))
def test_a_cut_is_what_lies_in_the_window(spans, start, end):
    """
    As an intersection with it would be, found without looking at the rest.
    """
    assert cut(spans, (start, end)) == intersection(spans, union([(start, end)]))


@given(spans=SPANS, by=st.integers(0, 9))
def test_widened_spans_reach_as_much_further(spans, by):
    """
    And become one where they come to touch.
    """
    got = widened(spans, by)

    assert instants(got) == {at + d for at in instants(spans) for d in range(-by, by + 1)}
    assert is_normal(got)


@given(layers=st.lists(SPANS, max_size=4), start=st.integers(0, END), end=st.integers(0, END))
def test_layers_show_the_first_that_covers_each_instant(layers, start, end):
    """
    What best state per instant comes down to; what lies outside of the window, or under none, is left out.
    """
    got = layered([(spans, number) for number, spans in enumerate(layers)], start, end)

    expected = {
        at: next(number for number, spans in enumerate(layers) if at in instants(spans))
        for at in range(start, end)
        if any(at in instants(spans) for spans in layers)
    }
    assert {at: label for a, b, label in got for at in range(a, b)} == expected
    assert all(a < b for a, b, _ in got)
    assert all(x[1] < y[0] or (x[1] == y[0] and x[2] != y[2]) for x, y in pairwise(got))
