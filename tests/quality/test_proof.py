"""
What the seconds of a stream can prove.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality_cases import HOUR, at, since
from recorder.quality.counter import FillState, MissingFills
from recorder.quality.effects import Effects
from recorder.quality.events import build
from recorder.quality.proof import Judged, judge_books, judge_others, judge_trades
from recorder.quality.ticks import learn
from recorder.records import HOUR_NS, SECOND_NS, Event

END = HOUR + HOUR_NS
SILENCE_NS = 6 * SECOND_NS
Kinds = dict[str, list[tuple[float, float]]]


def ns(kinds: Kinds | None) -> dict[str, list[tuple[int, int]]]:
    """
    Spans given in seconds into the hour.
    """
    return {kind: [(at(a), at(b)) for a, b in spans] for kind, spans in (kinds or {}).items()}


def said(
    absent: Kinds | None = None,
    *,
    doubtful: Kinds | None = None,
    late: Kinds | None = None,
    any_absent: Kinds | None = None,
    counted: list[Event] | None = None,
    unnumbered: list[tuple[float, float]] | None = None,
    undecodable: list[tuple[float, float]] | None = None,
) -> Effects:
    """
    Effects in seconds into the hour.
    """
    return Effects(
        ns(absent),
        ns(doubtful),
        ns(late),
        ns(absent if any_absent is None else any_absent),
        counted or [],
        [(at(a), at(b)) for a, b in unnumbered or []],
        [(at(a), at(b)) for a, b in undecodable or []],
    )


def gap(start: float, end: float) -> Event:
    """
    A jump of the fill counter.
    """
    return build("trade_gap", cause="venue", start=at(start), end=at(end), evidence="e", missing=1)


def told(judged: list[Judged]) -> list[tuple[float, float, str, str]]:
    """
    In seconds into the hour.
    """
    return [(since(j.start), since(j.end), j.state, j.why) for j in judged]


def of_books(instants: list[float], events: Effects | None = None, *, until: float = 3600) -> list[object]:
    """
    A book at each of some seconds.
    """
    books = [at(t) for t in instants]
    ticks = learn(books, [t // 10**6 for t in books])
    return told(judge_books(ticks, events or said(), start=HOUR, until=at(until), silence_ns=SILENCE_NS))


def each(start: float, end: float, tick: float = 0.4) -> list[float]:
    """
    A tick after the other, `end` left out.
    """
    return [start + n * tick for n in range(round((end - start) / tick))]


ALL = each(0.2, 3600.2)


# ---- books


def test_an_hour_of_ticks_is_complete():
    """
    To its very bounds: the neighbours beyond them are where they should be.
    """
    assert of_books(ALL) == [(0, 3600, "complete", "ticks")]


def test_a_hole_with_an_event_is_missing_and_what_is_left_of_a_tick_goes_with_it():
    """
    The event may be a little shorter than what is not there; the book before stands for its own tick.
    """
    books = [t for t in ALL if not 100 < t < 130]

    assert of_books(books, said({"silent": [(100.5, 129.8)]})) == [
        (0, 100.2, "complete", "ticks"),
        (100.2, 130.2, "missing", "silent"),
        (130.2, 3600, "complete", "ticks"),
    ]


def test_a_short_event_does_not_explain_a_long_hole():
    """
    What nothing speaks of is told as what it is: a slow tick, or a stretch in which nobody asked.
    """
    books = [t for t in ALL if not 100 < t < 130]

    assert of_books(books, said({"silent": [(103, 120)]}))[1:-1] == [
        (100.2, 103, "suspect", "slow tick"),
        (103, 120, "missing", "silent"),
        (120, 130.2, "missing", "nobody asked"),
    ]


def test_time_that_our_clock_leapt_over_is_no_hole_that_nobody_asked_for():
    """
    No book can have come in it; nor is it called complete.
    """
    books = [t for t in ALL if not 100 < t < 160]

    assert of_books(books, said(late={"clock_step": [(100.4, 160)]}))[1:-1] == [
        (100.2, 100.4, "suspect", "slow tick"),
        (100.4, 160, "suspect", "clock_step"),
        (160, 160.2, "suspect", "slow tick"),
    ]


def test_a_book_that_cannot_be_decoded_is_a_tick_that_is_not_there():
    """
    Also the first or last of an hour, whose neighbour nobody looks for; and it is told as what it is.
    """
    lost = (0.2, 100.2, 3599.8)
    books = [t for t in ALL if not any(abs(t - n) < 0.1 for n in lost)]

    got = of_books(books, said(undecodable=[(t, t) for t in lost]))

    assert got == [
        (0, 0.6, "suspect", "undecodable"),
        (0.6, 100.2, "complete", "ticks"),
        (100.2, 100.6, "suspect", "undecodable"),
        (100.6, 3599.8, "complete", "ticks"),
        (3599.8, 3600, "suspect", "undecodable"),
    ]


def test_each_part_of_a_hole_has_the_event_that_tells_of_it():
    """
    Where two tell of one instant, the one that tells of more.
    """
    books = [t for t in ALL if not 100 < t < 130]

    got = of_books(books, said({"silent": [(99.8, 108)], "disconnected": [(105, 125)]}))

    assert got[1:-1] == [
        (100.2, 105, "missing", "silent"),
        (105, 125, "missing", "disconnected"),
        (125, 130.2, "suspect", "slow tick"),
    ]


def test_a_hole_of_one_carrier_explains_what_none_brought():
    """
    Another was said to be well, and brought nothing either.
    """
    books = [t for t in ALL if not 100 < t < 103]

    got = of_books(books, said({}, any_absent={"silent": [(99, 103)]}))

    assert got[1] == (100.2, 103, "missing", "silent")


@pytest.mark.parametrize(("end", "state", "why"), [(103, "suspect", "slow tick"), (130, "missing", "nobody asked")])
def test_a_hole_without_an_event_is_a_slow_tick_or_nobody_asked(end, state, why):
    """
    The monitor names every silence of a stream that was asked for.
    """
    got = of_books([t for t in ALL if not 100 < t < end])

    assert got[1][2:] == (state, why)
    assert len(got) == 3


def test_ticks_prove_themselves_whatever_became_of_the_connection():
    """
    The outage reaches from the last book of the first market to the first book of the last one.
    """
    got = of_books(ALL, said({"disconnected": [(100, 103)]}))

    assert got == [(0, 3600, "complete", "ticks")]


@pytest.mark.parametrize(
    "events",
    [
        {"doubtful": {"heartbeat_gap": [(100, 112)]}},
        {"late": {"backlog": [(100, 112)]}},
        {"absent": {"cadence_hole": [(100, 112)]}},
    ],
)
def test_ticks_that_are_there_can_be_suspect(events):
    """
    No heartbeat, receive times that lie, or a monitor that counted otherwise.
    """
    (kind,) = next(iter(events.values()))

    got = of_books(ALL, said(**events))

    assert got == [(0, 100, "complete", "ticks"), (100, 112, "suspect", kind), (112, 3600, "complete", "ticks")]


def test_a_hole_over_the_bounds_of_the_hour_is_missing_in_it():
    """
    A book soon after the hour's begin does not prove what was before, if an event says otherwise.
    """
    books = each(0.2, 3599.8)

    got = of_books(books, said({"silent": [(0, 0.2), (3599.4, 3600)]}))

    assert got == [
        (0, 0.2, "missing", "silent"),
        (0.2, 3599.4, "complete", "ticks"),
        (3599.4, 3600, "missing", "silent"),
    ]


def test_a_recording_that_begins_in_the_hour_proves_nothing_before():
    """
    And its end not what follows.
    """
    got = of_books(each(600, 1200), said({"not running": [(0, 599.5)], "recorder_down": [(1199.7, 3600)]}))

    assert got == [
        (0, 600, "missing", "not running"),
        (600, 1200, "complete", "ticks"),
        (1200, 3600, "missing", "recorder_down"),
    ]


@pytest.mark.parametrize("asked_s", [0.3, 2, 60])
def test_before_a_stream_was_added_nobody_asked_for_it(asked_s):
    """
    However soon in the hour that was; until its first book it is missing because it was only just asked for.
    """
    judged = of_books(each(asked_s + 0.3, 3600), said({"added": [(asked_s, asked_s + 0.3)]}))

    assert judged == [
        (0, asked_s, "missing", "nobody asked"),
        (asked_s, asked_s + 0.3, "missing", "added"),
        (asked_s + 0.3, 3600, "complete", "ticks"),
    ]


def test_few_books_prove_nothing():
    """
    Not even that any is missing.
    """
    got = of_books([10, 20, 30], said({"silent": [(40, 3600)]}))

    assert got == [
        (0, 30, "unverifiable", "no even pace"),
        (30, 40, "suspect", "near silent"),
        (40, 3600, "missing", "silent"),
    ]


@given(
    lost=st.sets(st.integers(1, 248), max_size=40),
    events=st.lists(
        st.tuples(
            st.sampled_from(["silent", "cadence_hole", "heartbeat_gap", "backlog"]),
            st.integers(0, 100_000),
            st.integers(0, 100_000),
        ),
        max_size=6,
    ),
)
def test_no_second_is_complete_of_which_a_tick_is_lost(lost, events):
    """
    Against every tick: complete is what lies between neighbours and outside of every doubt.
    """
    kept = [t for n, t in enumerate(each(0, 100)) if n not in lost]
    spans = [(kind, min(a, b) / 1000, max(a, b) / 1000) for kind, a, b in events]
    absent = {k: [(a, b)] for k, a, b in spans if k in {"silent", "cadence_hole"}}
    doubtful = {k: [(a, b)] for k, a, b in spans if k == "heartbeat_gap"}
    late = {k: [(a, b)] for k, a, b in spans if k == "backlog"}

    got = of_books(kept, said(absent, doubtful=doubtful, late=late), until=100)

    for n in range(250):
        middle = n * 0.4 + 0.2
        state = next(s for a, b, s, _ in got if a <= middle < b)
        if n in lost:
            assert state != "complete", middle
        # After the last book, silence may hide ticks.
        if n < 249 and n not in lost and any(a <= middle < b for by in (doubtful, late) for ((a, b),) in by.values()):
            assert state == "suspect", middle
        if n not in lost and n + 1 not in lost and not any(a <= middle < b for _, a, b in spans):
            assert state == "complete", middle


# ---- trades


def of_trades(
    fills: FillState | None,
    first: float | None,
    events: Effects | None = None,
    *more: float,
    until: float = 3600,
) -> list[object]:
    """
    The seconds of a trade stream, with fills stored at `first`, and at `more`.
    """
    arrivals = [at(t) for t in (first, *more) if t is not None]
    return told(judge_trades(fills, arrivals, events or said(), start=HOUR, until=at(until)))


def fills(last: float, *, lowest: int = 1, first_id: int = 5, **more: object) -> FillState:
    """
    A counter whose last fill came at that second.
    """
    return FillState("SOL-PERP", lowest, 9, at(last), None, hour_first=first_id, hour_last=9, **more)


def test_ids_that_follow_each_other_prove_all_between_them():
    """
    From the hour's begin, where the counter knew a fill from before; not beyond the last one.
    """
    assert of_trades(fills(3000), 100) == [
        (0, 3000, "complete", "fill ids"),
        (3000, 3600, "unverifiable", "no later fill yet"),
    ]


def test_the_first_fill_ever_proves_nothing_before_it():
    """
    What came before it has no id to miss.
    """
    assert of_trades(fills(3000, lowest=5), 100)[0] == (0, 100, "unverifiable", "no earlier fill")


def test_ids_outweigh_an_outage():
    """
    The recorder was down, and the ids before and after it follow each other: there was no fill.
    """
    events = said({"recorder_down": [(500, 900)]}, doubtful={"heartbeat_gap": [(400, 500)]})

    assert of_trades(fills(3000), 100, events)[0] == (0, 3000, "complete", "fill ids")


def test_ids_do_not_make_receive_times_true():
    """
    Everything came, but late.
    """
    got = of_trades(fills(3000), 100, said(late={"backlog": [(500, 510)]}))

    assert got[1] == (500, 510, "suspect", "backlog")


def test_a_jump_of_the_ids_is_missing_from_fill_to_fill():
    """
    Where in between the fills are missing, nobody knows. It may reach into the next hour.
    """
    got = of_trades(fills(3000), 100, said(counted=[gap(50, 60), gap(3000, 3600)]))

    assert got == [
        (0, 50, "complete", "fill ids"),
        (50, 60, "missing", "trade_gap"),
        (60, 3000, "complete", "fill ids"),
        (3000, 3600, "missing", "trade_gap"),
    ]


def test_after_the_last_fill_a_hole_is_missing_and_what_is_close_to_it_suspect():
    """
    Fills come out of order by some seconds.
    """
    events = said({"disconnected": [(3100, 3130)]}, doubtful={"heartbeat_gap": [(3300, 3312)]})

    assert of_trades(fills(3000), 100, events)[1:] == [
        (3000, 3090, "unverifiable", "no later fill yet"),
        (3090, 3100, "suspect", "near disconnected"),
        (3100, 3130, "missing", "disconnected"),
        (3130, 3140, "suspect", "near disconnected"),
        (3140, 3300, "unverifiable", "no later fill yet"),
        (3300, 3312, "suspect", "heartbeat_gap"),
        (3312, 3600, "unverifiable", "no later fill yet"),
    ]


def test_an_hour_without_a_fill_proves_nothing():
    """
    Though the counter is known: the next id will tell.
    """
    quiet = FillState("SOL-PERP", 1, 9, at(-100), None)

    assert of_trades(quiet, None) == [(0, 3600, "unverifiable", "no later fill yet")]


def test_fills_without_ids_prove_nothing():
    """
    Old servers sent none.
    """
    assert of_trades(None, 100) == [(0, 3600, "unverifiable", "no ids")]
    assert of_trades(None, None) == [(0, 3600, "unverifiable", "no fill yet")]


def test_a_counter_that_began_anew_proves_nothing_in_that_hour():
    """
    How many fills lie between the old ids and the new, nobody knows.
    """
    assert of_trades(fills(3000, hour_anew=True), 100) == [(0, 3600, "unverifiable", "ids began anew")]


def test_where_fills_came_without_an_id_ids_prove_nothing():
    """
    From the id before them to the id after them; and after the last id, until one comes.
    """
    got = of_trades(fills(3000, nameless=2), 100, said(unnumbered=[(500, 510)]))

    assert got == [
        (0, 500, "complete", "fill ids"),
        (500, 510, "unverifiable", "trade_unnumbered"),
        (510, 3000, "complete", "fill ids"),
        (3000, 3600, "unverifiable", "trade_unnumbered"),
    ]


def test_the_proof_begins_with_the_first_id_not_with_the_first_fill():
    """
    What came before it, without an id, may not have been all.
    """
    got = of_trades(fills(3000, lowest=5, begun=at(200)), 100)

    assert got[:2] == [(0, 200, "unverifiable", "no earlier fill"), (200, 3000, "complete", "fill ids")]


def test_a_fill_that_could_not_be_decoded_is_not_in_the_table():
    """
    Its id was counted, so that no other is missing; but from the fill before to the fill after it, one is.
    """
    got = of_trades(fills(3000), 100, said(undecodable=[(500, 520), (3000, 3000)]), 400, 600, 2900)

    assert got == [
        (0, 400, "complete", "fill ids"),
        (400, 600, "suspect", "undecodable"),
        (600, 2900, "complete", "fill ids"),
        (2900, 3600, "suspect", "undecodable"),
    ]


def test_of_an_open_hour_ids_that_are_still_waited_for_prove_nothing():
    """
    In the closed hour they would be an event by now.
    """
    pending = [MissingFills(7, 8, at(80), at(89), None, None, "a", 0)]

    assert of_trades(fills(89, pending=pending), 10, until=90)[0] == (0, 80, "complete", "fill ids")
    assert of_trades(fills(89, pending=pending), 10)[0] == (0, 89, "complete", "fill ids")


def test_other_streams_are_never_complete():
    """
    They have neither ticks nor ids.
    """
    got = told(judge_others(said({"disconnected": [(100, 130)]}), start=HOUR, until=END))

    assert [(a, b, state) for a, b, state, _ in got] == [
        (0, 90, "unverifiable"),
        (90, 100, "suspect"),
        (100, 130, "missing"),
        (130, 140, "suspect"),
        (140, 3600, "unverifiable"),
    ]
