"""
What events mean for a stream, and which of several carriers is heard.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality_cases import BTC, HOUR, SOL, SOL_TRADES, at, since
from recorder.quality import effects as effects_module
from recorder.quality.effects import EFFECTS, NOT_RUNNING, Effects, effect_of, effects
from recorder.quality.events import build
from recorder.quality.intervals import Spans, union
from recorder.quality.kinds import KINDS
from recorder.records import HOUR_NS, Event, Stream

END = HOUR + HOUR_NS
BOTH = {("a", 0): HOUR, ("a", 1): HOUR}


def event(kind: str, start: float, end: float, **where: object) -> Event:
    """
    An event of connection 0 of run a, unless told otherwise.
    """
    place = {"run": "a", "connection": 0} | where
    return build(kind, cause="venue", start=at(start), end=at(end), evidence="e", **place)


def said(
    events: list[Event],
    stream: Stream = SOL,
    *,
    carriers: dict[tuple[str, int], int] | None = None,
    surely: bool = True,
    not_running: Spans | None = None,
) -> Effects:
    """
    The effects, of one connection if nothing else is told.
    """
    carriers = {("a", 0): HOUR} if carriers is None else carriers
    return effects(stream, events, carriers, since=carriers if surely else {}, until=END, not_running=not_running or [])


def seconds(by_kind: dict[str, Spans]) -> dict[str, list[tuple[float, float]]]:
    """
    Spans as seconds into the hour.
    """
    return {kind: [(since(a), since(b)) for a, b in spans] for kind, spans in by_kind.items()}


def test_every_kind_has_an_effect():
    """
    A kind that nobody thought about must not pass for harmless.
    """
    assert set(KINDS) <= set(EFFECTS)
    assert effect_of("of a later version") == "doubtful"


def test_a_run_that_only_meant_to_carry_a_stream_makes_no_hole_of_another_doubtful():
    """
    What its connections went through, none of them the stream's, is no hearing.
    """
    events = [event("disconnected", 12, 15), event("heartbeat_gap", 10, 20, run="b")]

    found = said(events, carriers={("a", 0): HOUR, ("b", -1): HOUR}, surely=False)

    assert seconds(found.absent) == {"disconnected": [(12, 15)]}


@pytest.mark.parametrize(
    ("where", "concerned"),
    [
        ({}, True),
        ({"symbol": "SOL-PERP"}, True),
        ({"symbol": "SOL-PERP", "channel": "orderbook"}, True),
        ({"symbol": "BTC-PERP", "channel": "orderbook"}, False),
        ({"symbol": "SOL-PERP", "channel": "orderbook/100"}, False),
        ({"symbol": "SOL-PERP", "channel": "orderbook_indicative"}, False),
        ({"symbol": "SOL-PERP", "channel": "trades"}, False),
        ({"connection": 1}, False),
        ({"run": "b"}, False),
        ({"connection": None}, True),
        ({"run": None, "connection": None}, True),
    ],
)
def test_an_event_concerns_what_it_names(where, concerned):
    """
    A stream, a connection, a run, or all.
    """
    assert seconds(said([event("silent", 10, 20, **where)]).absent) == ({"silent": [(10, 20)]} if concerned else {})


@pytest.mark.parametrize(
    ("stream", "table", "concerned"),
    [
        (SOL, "books", True),
        (SOL, "books_ungrouped", True),
        (SOL, "books_indicative", False),
        (SOL, "trades", False),
        (SOL_TRADES, "trades", True),
        (Stream("perp", "SOL-PERP", "orderbook_indicative", 1), "books_indicative", True),
        (Stream("perp", "SOL-PERP", "orderbook", 100), "books_grouped_100", True),
        (Stream("perp", "SOL-PERP", "priorityfees"), "priority_fees", True),
    ],
)
def test_a_table_that_could_not_be_written_is_missing_from_its_stream(stream, table, concerned):
    """
    Its event names the table.
    """
    failed = event("seal_failed", 0, 3600, symbol="SOL-PERP", channel=table, run=None, connection=None)

    assert bool(said([failed], stream).absent) == concerned


def test_each_kind_goes_where_its_effect_says():
    """
    Absent, doubtful, late, counted; the rest says nothing.
    """
    kinds = {"silent": "absent", "heartbeat_gap": "doubtful", "loop_stall": "late", "connect_failed": None}
    got = said([event(kind, 10, 20) for kind in kinds] + [event("trade_gap", 30, 40)])

    assert seconds(got.absent) == {"silent": [(10, 20)]}
    assert seconds(got.doubtful) == {"heartbeat_gap": [(10, 20)]}
    assert seconds(got.late) == {"loop_stall": [(10, 20)]}
    assert [e.kind for e in got.counted] == ["trade_gap"]


def test_a_broken_frame_that_names_no_market_is_nobodys():
    """
    Only one that names it is about the stream.
    """
    assert said([event("undecodable", 1, 2)]).doubtful == {}
    assert seconds(said([event("undecodable", 1, 2, symbol="SOL-PERP")]).doubtful) == {"undecodable": [(1, 2)]}


def test_what_one_connection_missed_another_heard():
    """
    The union over redundancy: only where both were down is nothing there.
    """
    events = [event("disconnected", 10, 20), event("disconnected", 15, 30, connection=1)]

    got = said(events, carriers=BOTH)

    assert seconds(got.absent) == {"disconnected": [(15, 20)]}
    assert seconds(got.any_absent) == {"disconnected": [(10, 30)]}


def test_a_connection_that_may_not_have_carried_the_stream_outweighs_nothing():
    """
    A market that moved to another connection, later.
    """
    events = [event("silent", 10, 20, symbol="SOL-PERP", channel="orderbook")]

    later = {("a", 0): HOUR, ("a", 5): at(15)}
    assert seconds(said(events, carriers=later).absent) == {"silent": [(10, 15)]}
    assert seconds(said(events, carriers=BOTH, surely=False).absent) == {"silent": [(10, 20)]}


def test_what_names_the_stream_counts_though_its_connection_carried_it_in_no_part_of_the_hour():
    """
    A silence is of the connection that it began on; what a connection says of itself is of those that carried it.
    """
    silent = event("silent", 0, 10, symbol="SOL-PERP", channel="orderbook")
    moved = {("a", 1): at(10)}

    assert seconds(said([silent], carriers=moved).absent) == {"silent": [(0, 10)]}
    assert seconds(said([silent], carriers={**moved, ("b", 0): HOUR}).absent) == {}
    assert said([event("disconnected", 0, 10)], carriers=moved).any_absent == {}


def test_something_doubtful_is_better_than_nothing():
    """
    One connection is down, the other has no heartbeat: what there is, is suspect and not missing.
    """
    got = said([event("disconnected", 10, 20), event("heartbeat_gap", 5, 30, connection=1)], carriers=BOTH)

    assert got.absent == {}
    assert seconds(got.doubtful) == {"heartbeat_gap": [(10, 20)]}


def test_a_stream_no_connection_came_to_ask_for_has_the_events_of_all():
    """
    The venue could not be reached in the whole hour: that is no hour without a hole.
    """
    down = [event("disconnected", 1, 900, connection=c) for c in (0, 1)]

    assert seconds(said(down, carriers={}).absent) == {"disconnected": [(1, 900)]}


def test_a_stream_only_a_dead_run_recorded_has_its_hole_alone():
    """
    The streams of the run beside it went on.
    """
    down = event("recorder_down", 1, 9, connection=None, symbol="BTC-PERP", channel="orderbook")

    assert said([down], carriers={("b", 0): HOUR}).absent == {}
    assert seconds(said([down], BTC, carriers={("b", 0): HOUR}).absent) == {"recorder_down": [(1, 9)]}


@pytest.mark.parametrize("carriers", [{}, {("a", 0): HOUR}, BOTH])
def test_before_the_first_run_ever_nothing_is_there(carriers):
    """
    No event tells of it.
    """
    got = said([], carriers=carriers, not_running=[(HOUR, at(60))])

    assert seconds(got.absent) == {NOT_RUNNING: [(0, 60)]}


RANK = {"clean": 0, "doubtful": 1, "late": 1, "absent": 2}
_KIND = {"absent": "silent", "doubtful": "heartbeat_gap", "late": "backlog"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["absent", "doubtful", "late"]),
            st.integers(0, 30),
            st.integers(0, 30),
            st.integers(0, 2),
        ),
        max_size=8,
    )
)
def test_the_best_carrier_counts_at_each_instant(spans):
    """
    Against looking at every second, with three connections that all surely carried the stream.
    """
    carriers = {("a", c): HOUR for c in range(3)}
    kinds = {effect: kind if kind in KINDS else "clock_step" for effect, kind in _KIND.items()}
    events = [event(kinds[e], min(a, b), max(a, b), connection=c) for e, a, b, c in spans]

    got = said(events, carriers=carriers)

    for second in range(31):
        here = [[e for e, a, b, c in spans if c == n and min(a, b) <= second < max(a, b)] for n in range(3)]
        worst = [max(RANK[e] for e in effects_) if effects_ else 0 for effects_ in here]
        told = {
            "absent": any(a <= at(second) < b for spans in got.absent.values() for a, b in spans),
            "doubtful": any(
                a <= at(second) < b for by in (got.doubtful, got.late) for spans in by.values() for a, b in spans
            ),
        }
        assert told["absent"] == (min(worst) == 2), second
        if min(worst) < 2:
            assert told["doubtful"] == (min(worst) == 1), second


def test_hundreds_of_runs_in_an_hour_cost_no_more_each(monkeypatch):
    """
    A recorder that crashes and is started again each few seconds: twice as many runs take twice as many steps, not
    eight times as many, so that its hour is sealed in time.
    """

    def steps(runs: int) -> int:
        done = 0

        def counted(*of: Spans) -> Spans:
            nonlocal done
            done += 1
            return union(*of)

        monkeypatch.setattr(effects_module, "union", counted)
        carriers = [(f"run-{number:04d}", 0) for number in range(runs)]
        events = [
            event(kind, 3600 * number / runs, 3600 * (number + 1) / runs, run=run)
            for number, (run, _) in enumerate(carriers)
            for kind in ("disconnected", "backlog")
        ]
        effects(SOL, events, carriers, since={carriers[-1]: HOUR}, until=HOUR + HOUR_NS, not_running=[])
        return done

    assert steps(80) < 2.2 * steps(40)
