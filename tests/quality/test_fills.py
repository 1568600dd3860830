"""
Missing fills: proved, counted, and never claimed while they may still come.
"""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality_cases import (
    HOUR,
    SOL,
    SOL_TRADES,
    Tape,
    at,
    carried,
    feed,
    fold,
    monitor,
    one,
    since,
    steady,
    told,
    trade_frame,
    unusual,
)
from recorder.quality import fills as fills_module
from recorder.quality.effects import Effects
from recorder.quality.fills import MAX_ALL_GAPS, MAX_GAPS, MAX_MARKETS, MAX_PENDING, MAX_TOLD
from recorder.quality.gaps import settled
from recorder.quality.proof import judge_trades
from recorder.records import HOUR_NS, SECOND_NS, Entry, EntryKind, Flag, Overflowed, QualitySettings, Stream
from recorder.venue.markets import market_list
from recorder.venue.protocol import peek


def traded(ids: list[tuple[float, int | None]], until: float = 60) -> Tape:
    """
    A healthy run with these fills, as (time, id).
    """
    tape = Tape()
    tape.run(0, until, [SOL, SOL_TRADES])
    tape.connection(0.1, until, [SOL, SOL_TRADES])
    for t, fill_id in ids:
        tape.trade(t, fill_id, slot=int(t * 10))
    return tape


def counter(tape: Tape):
    """
    The counter of SOL-PERP after all.
    """
    judge = monitor()
    feed(judge, tape.entries())
    return judge.fills()["perp:0"]


def test_a_jump_is_a_gap_between_the_fills_around_it():
    """
    The counter proves the loss and its size; nothing was down, so the venue lost them.
    """
    events = fold(traded([(10, 100), (20, 104), (21, 105)]))

    assert unusual(events) == [("trade_gap", 10, 20, "venue")]
    gap = one(events, "trade_gap")
    assert (gap.missing, gap.first_slot, gap.last_slot, gap.symbol, gap.channel) == (3, 100, 200, "SOL-PERP", "trades")
    assert gap.evidence == "fill ids 101 to 103 of perp:0 never came; the connection was up all the while"


@pytest.mark.parametrize("order", [[3, 2, 1], [2, 1, 3], [1, 4, 3, 2], [5, 1, 2, 3, 4]])
def test_reordered_fills_are_no_gap_and_no_repeat(order):
    """
    Within a slot the newest transaction comes first; also before the very first fill we have.
    """
    tape = traded([(10 + i / 10, fill_id) for i, fill_id in enumerate(order)])

    assert unusual(fold(tape)) == []
    assert (counter(tape).lowest, counter(tape).highest) == (1, max(order))


@pytest.mark.parametrize(("late_s", "told_of"), [(9.5, []), (11.5, [("trade_gap", 1), ("trade_late", -1)])])
def test_a_late_fill_closes_its_gap_whenever_it_comes(late_s, told_of):
    """
    Within ten seconds none is told; later it is taken back, under its own id, and the fill is no repeat.
    """
    events = [e for e in fold(traded([(10, 1), (20, 3), (20 + late_s, 2)])) if e.kind.startswith("trade")]

    assert [(e.kind, e.missing) for e in events] == told_of
    assert len({(e.event_id, e.true_start) for e in events}) <= 1
    assert [e.kind for e in settled(events)] == [kind for kind, _ in told_of[1:]]


def test_what_is_left_of_a_gap_is_told_in_its_hour():
    """
    Of two, one came, half a minute late; the bounds are those of the fills around them.
    """
    events = settled(fold(traded([(10, 1), (20, 4), (52, 3)])))

    gap = one(events, "trade_gap")
    assert (since(gap.start), since(gap.end), gap.missing) == (10, 20, 1)
    assert gap.evidence.endswith("but fill id 3 came after all, up to 32.0 s after the fill that followed")


def test_late_fills_of_an_hour_are_one_event_of_their_gap():
    """
    However many, and in whatever order they come.
    """
    ids = [(10, 1), (20, 9), *((32 + n, fill_id) for n, fill_id in enumerate([5, 2, 8, 3]))]

    late = one(fold(traded(ids)), "trade_late")

    assert (since(late.start), since(late.end), late.missing) == (32, 35, -4)
    assert late.evidence.startswith("4 fills, ids 2 to 8, came after all, up to 15.0 s")


def test_fills_may_come_an_hour_after_they_were_told_as_missing():
    """
    The hour that told of them is sealed; the later one takes the gap back, for whoever adds up both.
    """
    judge = monitor()
    feed(judge, traded([(3500, 1), (3520, 4)], until=3590).entries())
    judge.turn_hour(HOUR + HOUR_NS)
    gap = one(judge.events, "trade_gap")
    following = monitor(carried(judge.state()))
    tape = Tape()
    tape.run(3601, 3700, [SOL_TRADES], run="b")
    tape.connection(3601.1, 3700, [SOL_TRADES], run="b")
    for t, fill_id in ((3610, 5), (3650, 3), (3660, 2), (3661, 2)):
        tape.trade(t, fill_id, run="b")
    feed(following, tape.entries())

    fills = following.fills()["perp:0"]
    assert (fills.hour_first, fills.hour_last, fills.hour_repeated) == (5, 5, 1)
    following.finish(at(3700), closed=True)
    late = one(following.events, "trade_late")
    assert (late.event_id, late.true_start, since(late.start), late.missing) == (gap.event_id, gap.start, 3650, -2)
    assert told(following.events, "trade_repeat") == [("trade_repeat", 3661, 3661, "venue")]


def test_a_late_fill_that_comes_twice_is_a_repeat_the_second_time():
    """
    Late or not, once is once.
    """
    events = fold(traded([(10, 1), (20, 4), (35, 2), (36, 2), (37, 3)], until=150))

    assert told(events, "trade_gap", "trade_late", "trade_repeat") == [
        ("trade_gap", 10, 20, "venue"),
        ("trade_late", 35, 37, "venue"),
        ("trade_repeat", 36, 36, "venue"),
    ]


def test_some_of_the_missing_may_come():
    """
    What is left of the gap is told as two, under two ids.
    """
    events = fold(traded([(10, 1), (20, 6), (22, 3), (23, 4)]))

    gaps = [e for e in events if e.kind == "trade_gap"]
    assert [(e.missing, e.evidence.partition(" of")[0]) for e in gaps] == [
        (1, "fill id 2"),
        (1, "fill id 5"),
    ]
    assert len({e.event_id for e in gaps}) == 2


def test_repeats_are_flagged_and_one_event():
    """
    A restarted publisher sends its last transaction again.
    """
    tape = traded([(10, 1), (10.1, 2), (11, 1), (11.1, 2), (12, 3)])
    judge = monitor()

    verdicts = feed(judge, tape.entries())
    judge.finish(at(60), closed=False)

    trades = [v.flags & Flag.REPEAT for v in verdicts if v is not None and v.resolution.stream == SOL_TRADES]
    assert trades == [0, 0, Flag.REPEAT, Flag.REPEAT, 0]
    assert unusual(judge.events) == [("trade_repeat", 11, 11.1, "venue")]
    assert judge.fills()["perp:0"].hour_repeated == 2


def test_what_another_connection_brought_is_no_repeat():
    """
    It was paired before it came here.
    """
    judge = monitor()
    entries = traded([(10, 1)]).entries()
    feed(judge, entries)
    again = Entry(EntryKind.FRAME, 1, 1, entries[-1].seq + 1, at(60), trade_frame(1), "a")

    verdict = judge.step(again, peek(again.payload), duplicate=True)

    assert verdict is not None
    assert not verdict.flags & Flag.REPEAT
    assert judge.fills()["perp:0"].hour_repeated == 0


def test_absent_ids_prove_nothing():
    """
    Before 2024 there were none: no counter, no gap, no claim.
    """
    tape = traded([(10, None), (11, None)])
    judge = monitor()
    feed(judge, tape.entries())
    judge.finish(at(60), closed=False)

    assert judge.fills() == {}
    assert unusual(judge.events) == []


def test_fills_missing_before_our_first_are_told_without_blame():
    """
    They may have been sent before we listened: the newest transaction of a slot comes first.
    """
    events = fold(traded([(10, 100), (10.1, 96), (10.2, 97)]))

    gap = one(events, "trade_gap")
    assert (gap.missing, gap.cause) == (2, "unknown")
    assert "fill ids 98 to 99" in gap.evidence
    assert (since(gap.start), since(gap.end)) == (0, 10.1)  # whenever since the run began
    assert told(events, "trade_repeat") == []


def test_fills_missing_before_a_counter_that_began_anew_came_after_the_old_one():
    """
    The last of the old counter's bounds them: it was heard.
    """
    events = fold(traded([(10, 100), (20, 9_000_100), (20.1, 9_000_101), (20.2, 9_000_097)]))

    gap = one(events, "trade_gap")
    assert (since(gap.start), since(gap.end), gap.missing) == (10, 20.2, 2)


def test_a_gap_over_an_outage_has_its_cause():
    """
    Whoever was down lost them.
    """
    tape = Tape()
    tape.run(0, 80, [SOL, SOL_TRADES])
    tape.connection(0.1, 20, [SOL, SOL_TRADES])
    tape.trade(10, 1)
    tape.disconnected(20.5, cause="network", why="the connection broke")
    tape.connection(30, 80, [SOL, SOL_TRADES], attempt=2)
    tape.trade(40, 9, attempt=2)

    gap = one(fold(tape), "trade_gap")

    assert (gap.cause, since(gap.start), since(gap.end), gap.missing) == ("network", 10, 40, 7)
    assert gap.evidence.endswith("the connection broke, after 0.0 s")


def test_an_outage_of_another_connection_explains_nothing():
    """
    The one that carries the trades was up all the while.
    """
    tape = traded([(10, 1), (40, 9)])
    tape.connection(0.1, 20, [SOL], connection=1)
    tape.disconnected(20.5, connection=1)
    tape.connection(30, 60, [SOL], connection=1, attempt=2)

    assert one(fold(tape), "trade_gap").cause == "venue"


@pytest.mark.parametrize("how", ["down", "overflow", "damage", "stall"])
def test_a_gap_over_our_own_hole_is_ours(how):
    """
    A crash, a full queue, a damaged journal, a process that stood still: none of these is the venue's loss.
    """
    tape = Tape()
    tape.run(0, 20, [SOL, SOL_TRADES])
    tape.connection(0.1, 20, [SOL, SOL_TRADES])
    tape.trade(10, 1)
    lost = []
    run = "b" if how == "down" else "a"
    if how == "down":
        tape.run(30, 60, [SOL, SOL_TRADES], run="b")
        tape.connection(30.1, 60, [SOL, SOL_TRADES], run="b")
    else:
        tape.alive(30 if how == "stall" else 20, 60)
        tape.books(30.2 if how == "stall" else 20.2, 60, SOL)
    if how == "overflow":
        tape.fact(25, Overflowed(9, 9, 1, 9, at(22), at(25)))
    if how == "damage":
        lost = [(22, 25)]
    tape.trade(40, 5, run=run)
    judge = monitor()

    feed(judge, tape.entries(lost=lost))

    assert one(judge.events, "trade_gap").cause == "recorder"


def test_the_counter_goes_on_across_runs_and_hours():
    """
    Ids are the venue's: what was lost while the recorder was down is proved by the first fill after it.
    """
    tape = traded([(10, 1)], until=20)
    tape.stop(20.5)
    judge = monitor()
    feed(judge, tape.entries())
    judge.turn_hour(HOUR + HOUR_NS)
    following = monitor(carried(judge.state()))
    later = Tape()
    later.run(4000, 4060, [SOL_TRADES], run="b")
    later.connection(4000.1, 4060, [SOL_TRADES], run="b")
    later.trade(4010, 51, run="b")

    feed(following, later.entries())

    gap = one(following.events, "trade_gap")
    assert (gap.missing, since(gap.start), since(gap.end), gap.cause) == (49, 10, 4010, "recorder")
    fills = following.fills()["perp:0"]
    assert (fills.hour_first, fills.hour_last) == (51, 51)


@pytest.mark.parametrize(("late", "gaps"), [(3602.0, 0), (3612.0, 1)])
def test_a_gap_at_the_end_of_an_hour_waits_into_the_next(late, gaps):
    """
    The hour's seal looks a minute ahead, and the next hour's comes to the same answer.
    """
    tape = Tape()
    tape.run(3580, 3660, [SOL_TRADES])
    tape.connection(3580.1, 3660, [SOL_TRADES])
    for t, fill_id in ((3590.0, 1), (3598.0, 3), (late, 2)):
        tape.trade(t, fill_id)
    entries = tape.entries()
    judge = monitor()
    feed(judge, [e for e in entries if e.recv_ts < HOUR + HOUR_NS])
    judge.turn_hour(HOUR + HOUR_NS)
    probe, following = monitor(carried(judge.state())), monitor(carried(judge.state()))

    feed(probe, [e for e in entries if e.recv_ts >= HOUR + HOUR_NS])
    probe.finish(at(3660), closed=True)
    feed(following, [e for e in entries if e.recv_ts >= HOUR + HOUR_NS])

    ids = [e.event_id for e in probe.events if e.kind == "trade_gap"]
    assert len(ids) == gaps
    assert ids == [e.event_id for e in following.events if e.kind == "trade_gap"]


def test_a_nonsense_id_neither_makes_a_gap_nor_blinds_the_counter():
    """
    One absurd number must not cost the proof of every loss after it.
    """
    near = 1_000_000
    ids = [(10, near), (20, 10**15), (30, near + 1), (40, near + 3), (41, 0), (42, near + 4), (43, -5), (44, near + 5)]

    events = fold(traded(ids))

    assert told(events, "trade_gap", "trade_repeat") == [("trade_gap", 30, 40, "venue")]
    assert one(events, "trade_gap").missing == 1
    assert told(events, "schema_drift") == [("schema_drift", 20, 43, "venue")]


def test_a_counter_that_begins_anew_is_followed():
    """
    A program deployed again counts from one; two ids side by side show it.
    """
    tape = traded([(10, 5_000_000), (20, 1), (21, 2), (22, 3), (30, 6)])

    events = fold(tape)

    assert told(events, "schema_drift") == [("schema_drift", 20, 21, "venue")]
    assert [(e.missing, e.evidence.partition(" of")[0]) for e in events if e.kind == "trade_gap"] == [
        (2, "fill ids 4 to 5")
    ]
    assert (counter(tape).lowest, counter(tape).highest) == (1, 6)


def test_a_large_gap_over_a_long_time_is_counted_all_the_same():
    """
    A recorder that was off for an hour may have missed a million fills; the count is exact.
    """
    judge = monitor()
    feed(judge, traded([(10, 100)], until=20).entries())
    tape = Tape()
    tape.run(3000, 3030, [SOL_TRADES], run="b")
    tape.connection(3000.1, 3030, [SOL_TRADES], run="b")
    tape.trade(3010, 1_000_101, run="b")

    feed(judge, tape.entries())

    assert one(judge.events, "trade_gap").missing == 1_000_000


def test_counters_are_bounded_whatever_the_venue_sends():
    """
    Endless jumps, endless late fills, endless markets: the carry stays small.
    """
    judge = monitor()
    nameless = msgspec.structs.replace(SOL_TRADES, symbol="UNLISTED-PERP")
    tape = Tape()
    tape.run(0, 1, [SOL_TRADES, nameless])
    tape.connection(0.1, 1, [SOL_TRADES, nameless])
    entries = tape.entries()
    feed(judge, entries)
    seq, now = entries[-1].seq, entries[-1].recv_ts
    for i in range(6000):
        for payload in (trade_frame(4 * i), trade_frame(1, index=200 + i)):
            seq += 1
            judge.step(Entry(EntryKind.FRAME, 0, 1, seq, now + i, payload, "a"), peek(payload))
    for i in range(6000):
        seq += 1
        late = trade_frame(4 * i + 2)
        judge.step(Entry(EntryKind.FRAME, 0, 1, seq, now + 6000 + i, late, "a"), peek(late))

    fills = judge.fills()
    assert len(fills) <= MAX_MARKETS
    assert len(fills["perp:0"].pending) <= MAX_PENDING * 2
    assert len(fills["perp:0"].told) <= MAX_TOLD
    assert len(fills["perp:0"].late) <= MAX_TOLD


def test_what_would_be_waited_for_beyond_the_last_look_is_judged_there():
    """
    In the next hour's fold it would lie wholly before that hour, and be cut to nothing.
    """
    judge = monitor()
    feed(judge, traded([(5, 1), (6, 5)]).entries())
    for run in judge.state().runs:
        run.settings = QualitySettings(trade_wait_s=600)

    judge.finish(at(60), closed=True)

    event = one(judge.events, "trade_gap")
    assert (since(event.start), since(event.end), event.missing) == (5, 6, 3)


def test_fills_without_an_id_are_not_missing_and_nothing_is_proven_around_them():
    """
    They came, and the ids that the next one seems to jump over may be theirs; or those are lost, and nobody can tell.
    """
    tape = steady(60, [SOL_TRADES])
    for number, fill_id in enumerate([1, 2, None, None, 5, None, 8, 9, None, 10]):
        tape.trade(1 + number, fill_id)

    events = fold(tape)

    event = one(events, "trade_gap")
    assert (since(event.start), since(event.end), event.missing) == (5, 7, 1)
    assert "fill ids 6 to 7 of perp:0 never came, but 1 fills without an id did" in event.evidence
    # A run of like findings is one: from the id before the first to the id after the last.
    unnumbered = one(events, "trade_unnumbered")
    assert (since(unnumbered.start), since(unnumbered.end), unnumbered.missing) == (2, 10, None)
    assert unnumbered.evidence.endswith("(4 times)")


def test_an_id_that_is_late_is_no_repeat_where_fills_without_one_stood_for_it():
    """
    No gap was told, so nothing is taken back.
    """
    events = fold(traded([(10, 1), (11, None), (12, 3), (30, 2)]))

    assert [e.kind for e in events if e.kind.startswith("trade")] == ["trade_unnumbered"]


@given(
    order=st.permutations(range(4, 16)),
    lost=st.sets(st.integers(4, 15)),
    again=st.lists(st.integers(1, 15), max_size=6),
    gaps_s=st.lists(st.sampled_from([0.1, 3.0, 15.0]), min_size=18, max_size=18),
)
@settings(max_examples=60, deadline=None)
def test_what_the_hours_first_and_last_id_leave_out_is_what_is_missing_before_them(order, lost, again, gaps_s):
    """
    Whatever is late, lost, out of order or repeated: whoever holds the hour's first id against the last of the hour
    before finds a hole if there is one, and none if there is none. And the gaps add up to what never came.
    """
    judge = monitor()
    feed(judge, traded([(10, 1), (11, 2), (12, 3)], until=60).entries())
    judge.turn_hour(HOUR + HOUR_NS)
    following = monitor(carried(judge.state()))
    heard = [fill_id for fill_id in order if fill_id not in lost]
    put = [*heard, *(fill_id for fill_id in again if fill_id <= 3 or fill_id in heard)]
    tape, t = Tape(), 3620.0
    tape.run(3601, 4000, [SOL_TRADES], run="b")
    tape.connection(3601.1, 4000, [SOL_TRADES], run="b")
    for fill_id, gap_s in zip(put, gaps_s, strict=False):
        tape.trade(t, fill_id, run="b")
        t += gap_s
    feed(following, tape.entries())

    fills = following.fills()["perp:0"]
    assert fills.hour_last == (max(heard) if heard else None)
    before = [fill_id for fill_id in range(4, heard[0] if heard else 4) if fill_id in lost]
    assert fills.hour_first == (max(before, default=3) + 1 if heard else None)
    following.finish(at(4000), closed=True)
    left = sum(e.missing or 0 for e in following.events if e.kind in {"trade_gap", "trade_late"})
    assert left == sum(fill_id in lost for fill_id in range(4, max(heard, default=3)))
    assert sum(e.missing or 0 for e in settled(following.events) if e.kind == "trade_gap") == left


def test_gaps_beyond_a_limit_are_one_event_with_their_count():
    """
    A venue that counts by two would make a gap of each fill; the count is exact, and so is what comes late of it.
    """
    judge = monitor()
    tape = Tape()
    tape.run(0, 1, [SOL_TRADES])
    tape.connection(0.1, 1, [SOL_TRADES])
    entries = tape.entries()
    feed(judge, entries)
    seq, now = entries[-1].seq, entries[-1].recv_ts
    for i in range(20_000):
        seq, now = seq + 1, now + 100_000_000
        fill = trade_frame(2 * i)
        judge.step(Entry(EntryKind.FRAME, 0, 1, seq, now, fill, "a"), peek(fill))
        if i % 10 == 0:
            judge.clock(now)
    late = trade_frame(39_601)
    judge.step(Entry(EntryKind.FRAME, 0, 1, seq + 1, now + 1, late, "a"), peek(late))
    state = len(msgspec.json.encode(judge.state()))
    judge.finish(now + SECOND_NS, closed=True)

    gaps = [e for e in judge.events if e.kind == "trade_gap"]
    assert len(gaps) == MAX_GAPS + 1
    assert sum(e.missing or 0 for e in judge.events if e.kind in {"trade_gap", "trade_late"}) == 19_998
    many = gaps[-1]
    assert "fills in 19,799 gaps between fill ids 401 and 39997 never came" in many.evidence
    assert state < 100_000


FILLS = [(t, t + (t > 10) + 4 * (t > 30) + 2 * (t > 31) + (t > 50) + 7 * (t > 80)) for t in range(5, 91)]
"""One a second; what is missing is between 10 and 11, 30 and 32, 50 and 51, 80 and 81."""


def missing_of_fills() -> tuple[list[tuple[float, float]], list[int | None], list[str]]:
    """
    Where coverage calls `FILLS` missing; count and evidence of their gaps.
    """
    judge = monitor()
    entries = traded(FILLS, until=110).entries()
    feed(judge, entries[: len(entries) // 2])
    events, judge = judge.events, monitor(carried(judge.state()))
    feed(judge, entries[len(entries) // 2 :])
    fills = msgspec.structs.replace(judge.fills()["perp:0"])
    judge.turn_hour(HOUR + HOUR_NS)
    gaps = [e for e in events + judge.events if e.kind == "trade_gap"]
    judged = judge_trades(fills, [at(t) for t, _ in FILLS], Effects(counted=gaps), start=HOUR, until=HOUR + HOUR_NS)
    spans = [(since(j.start), since(j.end)) for j in judged if j.state == "missing"]
    assert {j.state for j in judged if at(5) <= j.start < at(90)} == {"missing", "complete"}
    return spans, [e.missing for e in gaps], [e.evidence for e in gaps]


def test_gaps_that_share_an_event_are_missing_where_they_lie(monkeypatch):
    """
    The fills between them came: coverage must not call that time missing, nor the count be less exact.
    """
    alone, counts, _ = missing_of_fills()
    monkeypatch.setattr(fills_module, "MAX_GAPS", 1)

    together, counted, words = missing_of_fills()

    assert together == alone == [(10, 11), (30, 32), (50, 51), (80, 81)]
    assert counts == [1, 4, 2, 1, 7]
    assert counted == [1, 14]
    assert words[1].startswith("14 fills in 4 gaps between fill ids 32 and 95 never came")


@pytest.mark.parametrize("alone", [200, 0])
def test_many_gaps_in_one_event_lie_within_its_bounds(monkeypatch, alone):
    """
    Also the one that began before the first that was counted, because the fill before it came late.
    """
    monkeypatch.setattr(fills_module, "MAX_GAPS", alone)
    tape = Tape()
    tape.run(0, 60, [SOL, SOL_TRADES])
    tape.connection(0.1, 60, [SOL, SOL_TRADES])
    for t, fill_id, ts in [
        (5, 1, 5),
        (6, 2, 6),
        (10, 3, 10),
        (10.5, 5, 10.5),
        (14, 6, 6),
        (14.2, 8, 14.2),
        (16, 9, 16),
    ]:
        tape.trade(t, fill_id, ts=ts)
    judge = monitor()
    feed(judge, tape.entries())
    judge.turn_hour(HOUR + HOUR_NS)
    gaps = [event for event in judge.events if event.kind == "trade_gap"]

    assert (min(since(e.start) for e in gaps), max(since(e.end) for e in gaps)) == (6, 14.2)
    assert sum(event.missing or 0 for event in gaps) == 2


def test_stretches_of_gaps_beyond_a_limit_are_joined_with_the_nearest(monkeypatch):
    """
    Of what is kept in the carry there is a limit, and more is called missing rather than less.
    """
    monkeypatch.setattr(fills_module, "MAX_GAPS", 0)
    monkeypatch.setattr(fills_module, "MAX_SPANS", 2)

    assert missing_of_fills()[:2] == ([(10, 51), (80, 81)], [15])


def test_gaps_that_an_older_version_has_counted_keep_the_bounds_they_had(monkeypatch):
    """
    It kept no stretches: all between its first and its last.
    """
    monkeypatch.setattr(fills_module, "MAX_GAPS", 0)
    judge = monitor()
    feed(judge, traded(FILLS, until=65).entries())
    state = carried(judge.state())
    state.fills["perp:0"].many[0].spans = []
    judge = monitor(state)
    feed(judge, [e for e in traded(FILLS, until=110).entries() if e.recv_ts > at(65)])

    assert [(since(a), since(b)) for a, b in judge.fills()["perp:0"].many[0].spans] == [(10, 51), (80, 81)]


def test_gaps_of_many_markets_share_a_limit():
    """
    However they spread over the markets.
    """
    judge = monitor()
    tape = Tape()
    streams = [
        msgspec.structs.replace(SOL_TRADES, symbol=market.symbol) for market in market_list("mainnet-beta").perps
    ]
    tape.run(0, 1, streams)
    tape.connection(0.1, 1, streams)
    entries = tape.entries()
    feed(judge, entries)
    seq, now = entries[-1].seq, entries[-1].recv_ts
    for i in range(MAX_GAPS):
        for index in range(80):
            seq, now = seq + 1, now + 1000
            fill = trade_frame(2 * i, index=index)
            judge.step(Entry(EntryKind.FRAME, 0, 1, seq, now, fill, "a"), peek(fill))
    judge.finish(now + SECOND_NS, closed=True)

    gaps = [e for e in judge.events if e.kind == "trade_gap"]
    assert MAX_ALL_GAPS < len(gaps) <= MAX_ALL_GAPS + 80
    assert sum(e.missing or 0 for e in gaps) == (MAX_GAPS - 1) * len({e.symbol for e in gaps})


def test_a_late_fill_leaves_those_without_an_id_where_there_is_room():
    """
    Of three ids, one comes late, and one fill had none: one is missing.
    """
    tape = steady(60, [SOL_TRADES])
    for number, fill_id in enumerate([1, None, 5, 3]):
        tape.trade(1 + number, fill_id)

    events = [e for e in fold(tape) if e.kind == "trade_gap"]

    assert sum(e.missing or 0 for e in events) == 1


def test_a_fill_that_came_late_bounds_a_gap_by_when_it_was_due():
    """
    What the outage lost may have been sent before the repeat of the fill before it.
    """
    tape = steady(60, [SOL_TRADES])
    for t, fill_id in [(10, 1), (11, 2), (12, 3)]:
        tape.trade(t, fill_id)
    tape.trade(23, 6, ts=14)
    tape.trade(24, 8)

    gaps = told(fold(tape), "trade_gap")

    assert gaps == [("trade_gap", 12, 23, "venue"), ("trade_gap", 14, 24, "venue")]


def test_fills_out_of_order_just_before_an_outage_may_be_lost_in_it():
    """
    The bounds reach into the outage, and the cause is the outage's.
    """
    tape = steady(21, [SOL, SOL_TRADES])
    for t, fill_id in [(10, 1), (19, 3), (19.6, 2), (20.5, 4), (20.6, 6)]:
        tape.trade(t, fill_id)
    tape.disconnected(21.4)
    tape.connection(24, 60, [SOL, SOL_TRADES], attempt=2)
    tape.alive(21, 60)
    tape.trade(30, 7, attempt=2)

    assert told(fold(tape), "trade_gap") == [("trade_gap", 20.5, 22.6, "network")]


def test_a_gap_among_fills_out_of_order_reaches_a_little_further():
    """
    What was overtaken would have come after those that overtook it.
    """
    events = fold(traded([(10, 1), (20, 3), (20.8, 2), (22, 4), (23, 6), (24, 7)]))

    assert told(events, "trade_gap") == [("trade_gap", 22, 25, "venue")]


def test_a_market_whose_first_fill_comes_late_is_compared_with_the_others():
    """
    Block time is one clock: fills that were due behind that one are missing from then on.
    """
    tape = steady(60, [SOL, SOL_TRADES, Stream("perp", "BTC-PERP", "trades")])
    for second in range(1, 20):
        tape.frame(second, trade_frame(second, 1, ts=at(second) // SECOND_NS), connection=0)
    tape.trade(30, 7, ts=20, connection=0)
    tape.trade(40, 9, ts=40, connection=0)

    (gap,) = [e for e in fold(tape) if e.kind == "trade_gap"]

    assert (since(gap.start), since(gap.end), gap.missing) == (20, 40, 1)


@pytest.mark.parametrize(("late", "begins"), [(1, 1200), (3, 2002)])
def test_a_fill_that_comes_very_late_is_late_and_three_in_a_row_are_another_clock(late, begins):
    """
    What is missing behind it was due from its block time on.
    """
    tape = Tape()
    tape.run(0, 1, [SOL_TRADES])
    tape.connection(0.1, 1, [SOL_TRADES])
    tape.alive(1, 2030)
    for second in range(1, 10):
        tape.trade(second, second, connection=0)
    for number in range(late):
        tape.trade(2000 + number, 10 + number, ts=1200 + number, connection=0)
    tape.trade(2010, 11 + late, ts=2010 if late == 1 else 1210, connection=0)

    (gap,) = [e for e in fold(tape) if e.kind == "trade_gap"]

    assert (since(gap.start), since(gap.end), gap.missing) == (begins, 2010, 1)


def test_a_gap_does_not_begin_before_anybody_listened():
    """
    The first fill of a market was a quarter of an hour late; what follows it is missing since the run began.
    """
    tape = steady(60, [SOL, SOL_TRADES, Stream("perp", "BTC-PERP", "trades")])
    tape.frame(1, trade_frame(1, index=1, ts=at(1) // SECOND_NS), connection=0)
    tape.trade(30, 7, ts=-900, connection=0)
    tape.trade(40, 9, ts=40, connection=0)

    (gap,) = [e for e in fold(tape) if e.kind == "trade_gap"]

    assert (since(gap.start), since(gap.end), gap.missing) == (0, 40, 1)


@pytest.mark.parametrize("nonsense", [0, 1_795_367_000_000, 2**63 - 1])
@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_block_time_that_is_none_moves_no_hole(nonsense, which):
    """
    A venue that forgets it, or goes over to milliseconds, is no fill that was late for fifty years.
    """
    tape = Tape()
    tape.run(0, 60, [SOL_TRADES])
    tape.connection(0.1, 60, [SOL_TRADES])
    for number in (1, 2, 3):
        block_time = nonsense if number == which else at(10 + number) // SECOND_NS
        tape.frame(10 + number, trade_frame(number, ts=block_time))
    tape.trade(20, 5)

    (gap,) = [e for e in fold(tape) if e.kind == "trade_gap"]

    assert (since(gap.start), since(gap.end), gap.missing) == (13, 20, 1)
