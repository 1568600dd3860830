"""
The accounting itself: what it finds when something is missing and nobody says so.
"""

import msgspec
import pytest
from account import account
from cases import CASES
from holes import DOUBT, Finder, excess, holds_any, holes_of, late_ticks_of, slow_ticks_of
from judge import judge, let_pass
from lakes import read_lake
from terms import Lake, Mark, Meant
from virtual import Absence, Frame, Life, Scenario, Side, record

from recorder.lake.sealing import seal
from recorder.quality import cadence
from recorder.quality.telling import Telling
from recorder.records import Stream
from recorder.simulator.drive import Link
from recorder.simulator.kinds import Drop, Garbage, RepeatFrames, Silence, WithholdFills
from recorder.simulator.ledger import Line

EVENTFUL = Scenario(
    faults=(
        Silence(from_s=20, to_s=32, market="SOL-PERP"),
        Drop(50.2),
        WithholdFills(from_s=60, to_s=70, every=2),
        RepeatFrames(from_s=72, to_s=80),
        Garbage(81.2),
    ),
    connections=2,
    links={1: Link(cuts_s=(40.1,), latency_ms=30, jitter_ms=5)},
    absences=(Absence(85.1, 90),),
    markets=3,
    duration_s=110.5,
)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """
    An eventful run: ledger, side and lake.
    """
    root = tmp_path_factory.mktemp("eventful")
    lines, side = record(EVENTFUL, root)
    seal(root)
    return lines, side, read_lake(root)


def test_everything_that_was_meant_has_a_place(played):
    """
    The sum is whole, and with the real events nothing is unexplained.
    """
    whole = account(*played)

    assert whole.meant == sum(whole.states.values())
    assert whole.states["unexplained"] == 0
    assert whole.unstored == []
    assert whole.states["covered"] > 60
    assert {"silence", "nobody", "withhold_fills"} <= set().union(*(hole.why for hole in whole.holes))


@pytest.mark.parametrize("kind", ["silent", "disconnected", "recorder_down"])
def test_a_hole_whose_event_is_taken_away_is_unexplained(played, kind):
    """
    The harness would notice that the recorder keeps silent.
    """
    lines, side, lake = played
    fewer = msgspec.structs.replace(lake, marks=[mark for mark in lake.marks if mark.kind != kind], doubts={})

    assert account(lines, side, fewer).states["unexplained"] > 0


def test_doubt_does_not_explain_a_hole_that_can_be_seen(played):
    """
    That `coverage` does not vouch for it is no event.
    """
    lines, side, lake = played
    quiet = [mark for mark in lake.marks if mark.kind != "silent"]

    doubted = account(lines, side, msgspec.structs.replace(lake, marks=quiet))

    assert doubted.states["unexplained"] > 20
    assert doubted.states["suspect"] <= 4


@pytest.mark.parametrize("name", ["skip_frames", "silence of one market, 2 s", "two_feeds, velocity goes over"])
def test_a_monitor_that_keeps_missed_ticks_to_itself_does_not_pass(name, monkeypatch):
    """
    Coverage made by the same recorder has its doubts; they do not save it.
    """
    (case,) = [case for case in CASES if case.name == name]
    monkeypatch.setattr(Telling, "hole", lambda *_, **__: None)

    verdict = judge(case)

    assert not verdict.right
    assert verdict.unexplained >= verdict.holes


def test_a_monitor_that_invents_missed_ticks_does_not_pass(monkeypatch):
    """
    Nor one that tells of any late book.
    """
    (case,) = [case for case in CASES if case.name == "cadence, 400 to 1000 ms and back"]
    monkeypatch.setattr(cadence, "slower", lambda _: None)

    assert judge(case).false


def test_an_event_of_another_stream_or_time_explains_nothing(played):
    """
    It must be of the stream, and contain the hole.
    """
    lines, side, lake = played

    def changed(**members):
        marks = [msgspec.structs.replace(m, **members) if m.kind == "silent" else m for m in lake.marks]
        return account(lines, side, msgspec.structs.replace(lake, marks=marks, doubts={})).states["unexplained"]

    (silent,) = [mark for mark in lake.marks if mark.kind == "silent"]
    assert changed(symbol="BTC-PERP") >= 29
    assert changed(channel="trades") >= 29
    assert changed(end=silent.start + 2_000_000_000) >= 24
    assert changed(start=silent.end) >= 29
    assert changed() == 0


def test_a_row_that_is_not_in_the_lake_is_missed(played):
    """
    Heard, journaled, and nowhere to be found.
    """
    lines, side, lake = played
    middle = sorted(lake.rows)[len(lake.rows) // 2]
    fewer = msgspec.structs.replace(lake, rows=lake.rows - {middle})

    short = account(lines, side, fewer)

    assert short.unstored == [middle]
    assert short.states["unexplained"] == 1


def test_fills_are_counted_against_the_gaps(played):
    """
    A gap that counts one too many, or none, is told.
    """
    lines, side, lake = played
    whole = account(lines, side, lake)
    assert whole.fills_missing == whole.fills_claimed
    assert sum(whole.fills_missing.values()) > 10

    marks = [mark for mark in lake.marks if mark.kind != "trade_gap"]
    assert sum(account(lines, side, msgspec.structs.replace(lake, marks=marks)).fills_claimed.values()) == 0


def test_bounds_that_reach_too_far_are_measured(played):
    """
    Beyond the frames received before and after a hole.
    """
    lines, side, lake = played
    wider = [
        msgspec.structs.replace(m, start=m.start - 2_000_000_000, end=m.end + 3_000_000_000)
        if m.kind == "silent"
        else m
        for m in lake.marks
    ]

    def reach(marks):
        found = account(lines, side, msgspec.structs.replace(lake, marks=marks))
        return [
            excess(hole, found.holes) for hole in found.holes if hole.mark is not None and hole.mark.kind == "silent"
        ]

    assert reach(lake.marks) == [(0.0, 0.0)]
    assert reach(wider) == [(2.0, 3.0)]


def test_an_event_in_which_nothing_is_missing_is_needless(played):
    """
    Invented holes are as bad as hidden ones.
    """
    lines, side, lake = played
    (silent,) = [mark for mark in lake.marks if mark.kind == "silent"]
    invented = msgspec.structs.replace(silent, start=silent.end + 2_000_000_000, end=silent.end + 4_000_000_000)

    assert account(lines, side, lake).needless == []
    more = msgspec.structs.replace(lake, marks=[*lake.marks, invented])
    assert account(lines, side, more).needless == [invented]


def test_what_one_connection_brought_is_not_missing_for_the_other():
    """
    Recorded twice over: the cut of one connection costs nothing.
    """
    scenario = Scenario(connections=2, copies=True, markets=2, duration_s=60.5, links={0: Link(cuts_s=(30.1,))})
    whole, _ = let_pass(scenario)

    assert whole.states["unexplained"] == 0
    assert all(hole.first > scenario.start + 60_000_000_000 or hole.last < scenario.start + 1e9 for hole in whole.holes)
    assert any(mark.kind == "disconnected" for mark in whole.marks)


def test_what_a_connection_that_was_given_up_would_have_had_is_no_measure():
    """
    The venue goes on talking to it; what counts is when the book would have come to somebody who was there.
    """
    stream, second = Stream("perp", "SOL-PERP", "orderbook", 1), 1_000_000_000
    lines = [
        Line(30 * second, "dropped", 1, "book", 9, why="backlog"),
        Line(30 * second, "dropped", 2, "book", 1, why="backlog"),
        Line(40 * second, "sent", 2, "book", 2, sha="later"),
    ]
    side = Side()
    side.streams, side.carriers, side.latency_ns = {"book": stream}, {stream: {0, 1}}, {0: 0, 1: 0}
    side.clients, side.gone = {1: 0, 2: 0}, {1: 20 * second, 2: 90 * second}
    side.heard = {1: [], 2: [Frame("run", 1, 41 * second)]}
    side.lives = [Life("run", 0, 90 * second, "stop")]

    (lost,) = account(lines, side, Lake(frozenset({("run", 1)}), frozenset(), frozenset(), [])).unexplained

    assert (lost.at, lost.arrival) == (30 * second, 41 * second)


def test_a_connection_that_breaks_while_it_is_opened_is_made_again():
    """
    Else a run would hear nothing to its end.
    """
    whole, _ = let_pass(Scenario(markets=2, duration_s=40.5, links={0: Link(latency_ms=20, cuts_s=(0.02,))}))

    assert whole.states["unexplained"] == 0
    assert whole.states["stored"] > 150
    assert any(mark.kind == "connect_failed" for mark in whole.marks)


def test_a_silence_is_true_of_the_connection_it_is_of():
    """
    Also where another one brought the books, because the stream was just coming home from there.
    """
    stream, second = Stream("perp", "SOL-PERP", "orderbook", 1), 1_000_000_000
    mark = Mark("silent", "network", "stream", 0, "SOL-PERP", "orderbook", 10 * second, 20 * second, None, "")
    side = Side()
    side.carriers[stream] = {0, 1}
    book = Meant(stream, 15 * second, 15 * second, stored=True, named=True, brought={1})

    assert not holds_any(mark, [book], [], side)
    book.would = {0: 15 * second}
    assert holds_any(mark, [book], [], side)


def test_a_book_that_was_held_back_is_missing_before_a_newer_one_that_came_another_way():
    """
    The stream had moved to a connection on which its next book came at once; its silence ended there.
    """
    stream, second = Stream("perp", "SOL-PERP", "orderbook", 1), 1_000_000_000
    lost = Meant(stream, 12 * second, 19 * second)
    held = Meant(stream, 14 * second, 19 * second, stored=True)
    moved = Meant(stream, 16 * second, 17 * second, stored=True)
    silence = Mark("silent", "venue", "stream", 0, "SOL-PERP", "orderbook", 10 * second, 17 * second, None, "")

    (hole,) = holes_of(stream, [lost, held, moved], Finder([silence]))

    assert (lost.arrival, lost.state, hole.mark) == (17 * second, "covered", silence)


@pytest.mark.parametrize(
    ("slower", "pace_ms", "evidence", "true"),
    [
        (True, 400, DOUBT, True),
        (False, 400, DOUBT, False),
        (True, 300, DOUBT, False),
        (True, 400, "later books came in order", False),
    ],
)
def test_that_a_publisher_may_have_been_slower_is_true_where_it_was(slower, pace_ms, evidence, true):
    """
    Also of a slower pace that lasted; not of one that nobody had, nor where the event is sure of its hole.
    """
    tick = 400_000_000
    ticks = [n * tick for n in (*range(100), *range(100, 160, 2 if slower else 1))]
    stream, side = Stream("perp", "SOL-PERP", "orderbook", 1), Side()
    side.carriers[stream] = {0, 1}
    words = f"800 ms between two books, where one comes each {pace_ms} ms; {evidence}"
    mark = Mark("cadence_hole", "unknown", "stream", 0, "SOL-PERP", "orderbook", 150 * tick, 152 * tick, 1, words)

    late = [*late_ticks_of(ticks, 0), *slow_ticks_of(mark, ticks, 0)]

    assert holds_any(mark, [], late, side) == true


@pytest.mark.parametrize(("gap", "late"), [(549, True), (400, False), (470, False)])
def test_a_tick_is_late_by_the_pace_that_follows_where_that_is_a_faster_one(gap, late):
    """
    The last one of the slower pace is not.
    """
    ticks = [*range(0, 8_000, 400), *range(7_600 + gap, 12_000, 200)]

    found = late_ticks_of([tick * 1_000_000 for tick in ticks], 0)

    assert found == ([(7_600_000_000, (7_600 + gap) * 1_000_000)] if late else [])


def test_a_pace_that_nobody_was_there_to_hear_teaches_none_what_is_usual():
    """
    After a break in it, the publisher is as late by the pace that was heard before as it was at first.
    """
    ticks = [*range(0, 8_000, 400), *range(10_000, 30_000, 2_000)]
    times = [tick * 1_000_000 for tick in ticks]
    last = (times[-2], times[-1])

    assert last not in late_ticks_of(times, 0, [True] * len(ticks))
    assert last in late_ticks_of(times, 0, [tick < 12_000 or tick >= 26_000 for tick in ticks])


@pytest.mark.parametrize(("opened_ms", "true"), [(100, False), (900, True)])
def test_of_a_late_tick_counts_what_passed_while_its_connection_was_there(opened_ms, true):
    """
    From the stored copy that a connection begins with to the next book, it can tell no more than that.
    """
    mark = Mark("cadence_hole", "venue", "stream", 0, "SOL-PERP", "orderbook", 1_100_000_000, 1_800_000_000, 1, "")
    side = Side(
        clients={1: 0, 2: 1}, heard={1: [Frame("r", 1, opened_ms * 1_000_000)], 2: [Frame("r", 2, 950_000_000)]}
    )

    assert holds_any(mark, [], [(0, 1_800_000_000)], side) == true
