"""
Beginnings, ends and crashes of runs, and entries that are lost.
"""

import msgspec
import pytest

from quality_cases import (
    BTC,
    ETH,
    SOL,
    SOL_TRADES,
    Tape,
    at,
    book_frame,
    carried,
    feed,
    fold,
    header,
    monitor,
    one,
    since,
    steady,
    told,
    unusual,
)
from recorder.quality.effects import effects
from recorder.records import (
    DiskFreed,
    DiskFull,
    Entry,
    EntryKind,
    Flag,
    Overflowed,
    Requested,
    RunStarted,
)
from recorder.venue.protocol import peek


def test_a_kill_is_a_hole_from_the_last_entry_to_the_next_start():
    """
    Nothing says that it stopped; the alive entries bound what is lost.
    """
    tape = Tape()
    tape.run(0, 30, [SOL])
    tape.connection(0.1, 30, [SOL])
    tape.run(100, 130, [SOL], run="b")
    tape.connection(100.1, 130, [SOL], run="b")

    events = fold(tape)

    assert unusual(events) == [("recorder_down", 29.9, 100, "recorder")]
    event = one(events, "recorder_down")
    assert (event.run, event.scope) == (None, "recorder")
    assert event.evidence == "no run was recording for 70.1 s, after a crash, a kill or a standstill"


def test_after_a_stop_its_reason_is_told():
    """
    A stop by hand and a crash are different mornings.
    """
    tape = steady(30, [SOL])
    tape.stop(30.5, reason="SIGTERM")
    tape.run(40, 50, [SOL], run="b")

    event = one(fold(tape), "recorder_down")

    assert (since(event.start), since(event.end)) == (30.5, 40)
    assert event.evidence == "no run was recording for 9.5 s, after: SIGTERM"


def test_the_reason_of_an_older_stop_is_not_told_of_a_later_crash():
    """
    One of two runs stopped; the other was killed.
    """
    tape = steady(30, [SOL])
    tape.run(10, 60, [SOL], run="b", beside=["a"])
    tape.stop(30.5)
    tape.run(100, 110, [SOL], run="c")

    events = fold(tape)

    assert told(events, "recorder_down") == [("recorder_down", 59.05, 100, "recorder")]
    assert one(events, "recorder_down").evidence.endswith("after a crash, a kill or a standstill")


def test_a_run_beside_another_leaves_no_hole_when_that_one_ends():
    """
    That is how one upgrades.
    """
    tape = steady(30, [SOL])
    tape.run(20, 60, [SOL], run="b", beside=["a"])
    tape.connection(20.1, 60, [SOL], run="b")
    tape.stop(30.5)

    assert unusual(fold(tape)) == []


def test_a_run_that_dies_beside_another_is_noticed_within_seconds():
    """
    Its silences must not go on for ever.
    """
    tape = steady(30, [SOL])
    tape.run(20, 60, [SOL], run="b", beside=["a"])
    tape.connection(20.1, 60, [SOL], run="b")
    entries = tape.entries()
    judge = monitor()
    feed(judge, entries)

    assert judge.carriers() == {SOL: {("b", 0)}}
    assert unusual(judge.events) == []


def test_a_run_that_stood_still_beside_another_goes_on():
    """
    It was taken for dead; its streams are known still, and what it brings is stored.
    """
    tape = Tape()
    tape.run(0, 20, [SOL])
    tape.connection(0.1, 20, [SOL])
    tape.alive(40, 60)
    tape.books(40.2, 60, SOL)
    tape.run(10, 60, [SOL], run="b", beside=["a"])
    tape.connection(10.1, 60, [SOL], run="b")
    entries = tape.entries()
    judge = monitor()

    verdicts = [v for v in feed(judge, entries) if v is not None]

    assert all(v.resolution.stream == SOL for v in verdicts)
    assert judge.carriers() == {SOL: {("a", 0), ("b", 0)}}
    assert unusual(judge.events) == []


@pytest.mark.parametrize("back", [22.7, 60])
@pytest.mark.parametrize("begins", [11.5, 14.0, 15.3, 20.0])
def test_a_run_that_begins_beside_one_that_stands_still_tells_that_nobody_recorded(begins, back):
    """
    Whoever starts takes the one that stands still for alive, as it holds its lock. Whether it goes on later or not.
    """
    tape = Tape()
    tape.run(0, 10, [SOL])
    tape.run(begins, 60, [SOL], run="b", beside=["a"])
    tape.alive(back, 60)

    events = fold(tape)

    assert told(events, "recorder_down") == [("recorder_down", 9.05, begins, "recorder")]


def test_a_run_that_stands_still_for_moments_as_another_begins_is_still_recording():
    """
    What it had in its socket it reads.
    """
    tape = Tape()
    tape.run(0, 10, [SOL])
    tape.run(11.5, 60, [SOL], run="b", beside=["a"])
    tape.alive(13, 60)

    assert told(fold(tape), "recorder_down") == []


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("back", [None, 17])
def test_a_run_that_begins_beside_one_that_stands_still_and_ends_before_it_is_missed(back, stops):
    """
    Nobody recorded before it, nor after it; whether the one that stood still comes back, or a third begins.
    """
    tape = Tape()
    tape.run(0, 10, [SOL])
    tape.run(10.5, 11.8, [SOL], run="b", beside=["a"])
    if stops:
        tape.stop(11.6, run="b")
    if back:
        tape.alive(back, 60)
    else:
        tape.run(13, 60, [SOL], run="c", beside=["a"])

    events = fold(tape)

    ended, after = 11.6 if stops else 11.55, 17.05 if back else 13
    assert told(events, "recorder_down") == [
        ("recorder_down", 9.05, 10.5, "recorder"),
        ("recorder_down", ended, after, "recorder"),
    ]


def test_a_run_that_goes_on_after_another_was_stopped_was_missed_from_there():
    """
    Until it stopped, that one recorded.
    """
    tape = Tape()
    tape.run(0, 20, [SOL])
    tape.run(10, 23, [SOL], run="b", beside=["a"])
    tape.stop(23.5, run="b")
    tape.alive(40, 60)

    assert told(fold(tape), "recorder_down") == [("recorder_down", 23.5, 40.05, "recorder")]


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("books_s", [4.4, 4.8, 5.2])
def test_books_that_are_lost_while_a_run_stands_still_are_missing(books_s, beside):
    """
    Also where it stands still for less than what is taken for dead, and its books stay away for more than a silence.
    """
    tape = Tape()
    tape.run(0, 20, [SOL])
    tape.connection(0.1, 20, [SOL])
    tape.alive(19.1 + books_s, 60)
    tape.books(19.9 + books_s, 60, SOL)
    if beside:
        tape.run(5, 60, [SOL], run="b", beside=["a"])
        tape.connection(5.1, 60, [SOL], run="b")

    (hole,) = [e for e in fold(tape) if e.kind in {"cadence_hole", "silent"} and e.run == "a"]

    assert (hole.kind, since(hole.start), since(hole.end)) == ("cadence_hole", 19.9, round(19.9 + books_s, 1))
    assert hole.missing == round(books_s / 0.4) - 1


def test_a_run_that_continues_another_of_its_process_does_not_end_it():
    """
    After a backward step of the clock the entries of both lie side by side.
    """
    tape = steady(60, [SOL])
    fact = RunStarted("b", "h", 1, "0", "v", "n", ["u"], [SOL], continues="a")
    tape.fact(40, fact, run="b")
    tape.alive(40, 90, run="b")
    tape.connection(40.1, 90, [SOL], run="b")
    tape.stop(60.5, reason="clock step")

    assert unusual(fold(tape)) == []


def test_a_start_without_its_stop_bounds_what_was_open():
    """
    The outage of the dead run ends where that run does, and the hole goes on as `recorder_down`.
    """
    tape = Tape()
    tape.run(0, 30, [SOL])
    tape.connection(0.1, 20, [SOL])
    tape.disconnected(20.5)
    tape.run(100, 110, [SOL], run="b")

    assert unusual(fold(tape)) == [
        ("disconnected", 19.9, 29.05, "network"),
        ("disconnected", 100, 109.05, "unknown"),
        ("recorder_down", 29.05, 100, "recorder"),
    ]


@pytest.mark.parametrize(("until", "cause"), [(3, "recorder"), (20, "unknown")])
@pytest.mark.parametrize("stops", [False, True])
def test_a_run_that_ends_before_it_has_a_connection_has_heard_nothing(until, cause, stops):
    """
    It started, and was killed or stopped: that nobody was there is true of its time as well.
    """
    tape = Tape()
    tape.run(0, until, [SOL, BTC])
    if stops:
        tape.stop(until - 0.5)
    tape.run(40, 60, [SOL, BTC], run="b")
    tape.connection(40.1, 60, [SOL, BTC], run="b")
    end = until - 0.5 if stops else until - 0.95

    events = fold(tape)

    assert unusual(events) == [("disconnected", 0, end, cause), ("recorder_down", end, 40, "recorder")]
    event = one(events, "disconnected")
    assert (event.run, event.connection, event.continues) == ("a", -1, False)
    assert event.evidence.startswith("2 of its 2 streams waited for a connection")


@pytest.mark.parametrize("until", [1.5, 2.4, 3.5, 20])
def test_a_stream_whose_connection_was_not_made_as_the_run_ended_was_not_heard(until):
    """
    Another connection of the run was well, or was just about to be called so.
    """
    tape = Tape()
    tape.run(0, until, [SOL, BTC])
    tape.connection(0.1, until, [SOL])
    tape.run(40, 60, [SOL, BTC], run="b")
    tape.connection(40.1, 60, [SOL, BTC], run="b")

    events = fold(tape)

    waited, down = one(events, "disconnected"), one(events, "recorder_down")
    assert (since(waited.start), waited.end, since(down.end)) == (0, down.start, 40)
    assert until - 1 < since(waited.end) <= until
    assert waited.cause == ("recorder" if until < 4 else "unknown")
    assert waited.evidence.startswith("1 of its 2 streams waited for a connection")


def test_a_connect_that_failed_tells_of_the_start_by_itself():
    """
    One event, not two.
    """
    tape = Tape()
    tape.run(0, 20, [SOL])
    tape.connect_failed(3, attempt=1)

    assert unusual(fold(tape)) == [("connect_failed", 3, 3, "network"), ("disconnected", 0, 19.05, "network")]


def test_a_run_that_waits_for_its_first_connection_waits_until_now():
    """
    Of an hour that is not over; what comes next is no second hole.
    """
    tape = Tape()
    tape.run(0, 4, [SOL])
    waits = one(fold(tape), "disconnected")
    tape.connection(3.5, 20, [SOL])
    tape.alive(4, 20)

    assert (since(waits.start), since(waits.end), waits.continues, waits.cause) == (0, 3.05, True, "recorder")
    assert unusual(fold(tape)) == []


def test_a_run_met_in_the_middle_is_known_from_its_header():
    """
    The hour before was never sealed, or its journal has expired: what was asked for must not be `unrequested`.
    """
    tape = steady(60)
    tape.without(20, 60, channel="orderbook_perp_1_grouped_1")
    entries = [e for e in tape.entries() if e.recv_ts > at(15)]
    judge = monitor()
    judge.adopt(header("a", [SOL, BTC, ETH]))

    verdicts = [v for v in feed(judge, entries) if v is not None]
    judge.finish(at(60), closed=False)

    assert all(v.resolution.stream in {SOL, BTC} for v in verdicts)
    assert {e.symbol: (since(e.start), e.connection) for e in judge.events if e.kind == "silent"} == {
        "BTC-PERP": (19.9, 0),
        "ETH-PERP": (15.05, -1),
    }
    assert judge.streams() == [BTC, ETH, SOL]


def test_what_one_monitor_was_told_of_runs_another_adopts():
    """
    The copy that looks beyond the hour meets runs that begin there.
    """
    first, second = monitor(), monitor()
    first.adopt(header("a", [SOL]))

    second.adopt_all(first)

    entry = Entry(EntryKind.FRAME, 0, 1, 9, at(1), book_frame("SOL-PERP", 0), "a")
    verdict = second.step(entry, peek(entry.payload))
    assert verdict is not None
    assert verdict.resolution.stream == SOL


def test_the_streams_of_the_last_run_are_on_record_while_nobody_records():
    """
    An hour without a recorder has coverage rows.
    """
    tape = steady(30)
    tape.stop(31)
    judge = monitor()
    feed(judge, tape.entries())

    assert judge.streams() == [BTC, SOL]
    assert judge.carriers() == {}


def test_lost_entries_are_counted_and_blamed_on_us():
    """
    Numbers without a hole make every lost entry visible; the books lost with them are not the venue's.
    """
    tape = steady(60, [SOL])
    entries = tape.entries(lost=[(20, 30)])
    lost = len(tape.entries()) - len(entries)
    judge = monitor()

    verdicts = [v for v in feed(judge, entries) if v is not None]
    judge.finish(entries[-1].recv_ts, closed=False)

    event = one(judge.events, "journal_damaged")
    assert (since(event.start), since(event.end), event.missing, event.cause) == (19.9, 30.05, lost, "recorder")
    assert told(judge.events, "silent") == []
    assert sum(bool(v.flags & Flag.FIRST_AFTER_GAP) for v in verdicts) == 2


def test_entries_we_dropped_by_name_are_an_overflow_and_no_damage():
    """
    The fact that follows explains the numbers.
    """
    tape = steady(60, [SOL])
    full = tape.entries()
    dropped = [e for e in full if at(20) < e.recv_ts < at(22)]
    named = Overflowed(len(dropped), 9000, dropped[0].seq, dropped[-1].seq, dropped[0].recv_ts, dropped[-1].recv_ts)
    fact = Entry(EntryKind.FACT, -1, 0, dropped[-1].seq + 1, at(22), msgspec.json.encode(named), "a")
    later = [msgspec.structs.replace(e, seq=e.seq + 1) for e in full if e.recv_ts >= at(22)]
    judge = monitor()

    feed(judge, [*(e for e in full if e.recv_ts < at(20)), *[e for e in full if e.recv_ts == at(20)], fact, *later])

    assert unusual(judge.events) == [("overflow", since(dropped[0].recv_ts), since(dropped[-1].recv_ts), "recorder")]
    assert one(judge.events, "overflow").missing == len(dropped)


def test_damage_beside_an_overflow_is_counted_apart():
    """
    Only what the fact names is explained by it.
    """
    tape = steady(10, [SOL])
    entries = [e for e in tape.entries() if e.recv_ts < at(5)]
    last = entries[-1]
    named = Overflowed(4, 100, last.seq + 3, last.seq + 6, at(5), at(6))
    fact = Entry(EntryKind.FACT, -1, 0, last.seq + 7, at(6), msgspec.json.encode(named), "a")
    judge = monitor()

    feed(judge, [*entries, fact])

    assert one(judge.events, "journal_damaged").missing == 2
    assert one(judge.events, "overflow").missing == 4


def test_a_fact_of_a_newer_version_is_passed_over():
    """
    An older seal reads a newer journal.
    """
    tape = steady(10, [SOL])
    tape.alive(10, 11)
    entries = tape.entries()
    newer = Entry(EntryKind.FACT, -1, 0, entries[-1].seq + 1, at(11.5), b'{"fact":"of tomorrow"}', "a")
    judge = monitor()

    feed(judge, [*entries, newer])

    assert unusual(judge.events) == []


def test_a_standstill_across_the_hour_is_one_event_in_both():
    """
    Sealed while it lasts, the first hour takes the run for dead; the second must not say that nothing was.
    """
    tape = Tape()
    tape.run(3500, 3590, [SOL])
    tape.connection(3500.1, 3590, [SOL])
    tape.alive(3900, 3910)
    entries = tape.entries()
    judge = monitor()
    feed(judge, [e for e in entries if e.recv_ts < at(3600)])
    judge.turn_hour(at(3600))
    probe = monitor(carried(judge.state()))
    probe.finish(at(3660), closed=True)

    feed(judge, [e for e in entries if e.recv_ts >= at(3600)])

    first, second = one(probe.events, "recorder_down"), one(judge.events, "recorder_down")
    assert first.continues
    assert (since(second.start), since(second.end), second.continues) == (3589.9, 3900.05, False)
    assert first.event_id == second.event_id


def test_a_standstill_beside_another_run_leaves_no_hole():
    """
    The other recorded all the while.
    """
    tape = Tape()
    tape.run(0, 20, [SOL])
    tape.connection(0.1, 20, [SOL])
    tape.alive(23, 30)
    tape.run(10, 30, [SOL], run="b", beside=["a"])

    assert told(fold(tape), "recorder_down") == []


def test_streams_of_a_run_that_dies_beside_another_are_missed_until_somebody_asks_for_them():
    """
    The other goes on with its own; what only the dead one recorded must not look like nobody's wish.
    """
    tape = steady(30, [SOL, BTC])
    tape.run(20, 60, [SOL], run="b", beside=["a"])
    tape.connection(20.1, 60, [SOL], run="b")
    judge = monitor()
    feed(judge, tape.entries())
    probe = monitor(carried(judge.state()))
    probe.finish(at(60), closed=False)

    assert judge.streams() == [BTC, SOL]
    event = one(probe.events, "recorder_down")
    assert (event.run, event.symbol, event.channel, event.continues) == ("a", "BTC-PERP", "orderbook", True)
    assert since(event.start) == 29.9

    tape.run(50, 60, [BTC], run="c", beside=["b"])
    tape.connection(50.1, 60, [BTC], run="c")

    assert unusual(fold(tape)) == [("recorder_down", 29.9, 50, "recorder")]


def test_a_run_that_stops_beside_another_leaves_nothing_to_miss():
    """
    Somebody wanted it so.
    """
    tape = steady(30, [SOL, BTC])
    tape.run(20, 60, [SOL], run="b", beside=["a"])
    tape.connection(20.1, 60, [SOL], run="b")
    tape.stop(30.2)

    assert unusual(fold(tape)) == []


def test_a_full_disk_is_an_event_until_there_is_space_or_the_run_ends():
    """
    Open at the end of the hour, it goes on in the next, under the same id; a run that is killed meanwhile ends it.
    """
    tape = Tape()
    tape.run(0, 60, [SOL])
    tape.fact(10, DiskFull(4096, 12, "no space"))
    tape.fact(30, DiskFreed(1 << 30, 1 << 20))
    tape.fact(40, DiskFull(4096, 12, "no space"))
    tape.run(100, 130, [SOL], run="b")
    tape.fact(110, DiskFull(4096, 12, "no space"), run="b")

    full = [event for event in fold(tape) if event.kind == "disk_full"]

    assert told(full, "disk_full") == [
        ("disk_full", 10, 30, "recorder"),
        ("disk_full", 40, 59.05, "recorder"),
        ("disk_full", 110, 129.05, "recorder"),
    ]
    assert [event.continues for event in sorted(full, key=lambda event: event.start)] == [False, False, True]
    first, later = monitor(), monitor()
    entries = tape.entries()
    feed(first, entries[:-3])
    (open_then,) = [e for e in _finished(first, entries[-3].recv_ts) if e.kind == "disk_full" and e.continues]
    feed(later, entries)
    (open_now,) = [e for e in _finished(later, entries[-1].recv_ts) if e.kind == "disk_full" and e.continues]
    assert open_then.event_id == open_now.event_id


def test_a_stream_that_was_taken_out_is_not_missed_when_its_run_dies_within_moments():
    """
    Frames of it may still have been on their way; nobody wanted it any more. Neither beside another run nor alone.
    """
    tape = Tape()
    tape.run(0, 30, [SOL, BTC])
    tape.connection(0.1, 30, [SOL, BTC])
    tape.without(25, 31, channel="orderbook_perp_1_grouped_1")
    tape.fact(25, Requested(BTC, "unsubscribe"), connection=0, attempt=1)
    alone = monitor()
    feed(alone, tape.entries())
    alone.clock(at(100))
    assert alone.state().configured == [SOL]

    tape.run(20, 60, [SOL], run="b", beside=["a"])
    tape.connection(20.1, 60, [SOL], run="b")
    assert told(fold(tape), "recorder_down") == []


def test_a_run_that_never_listened_for_want_of_space_is_missing_for_that():
    """
    No connection was made, so none has ended; what was before that is told by itself.
    """
    tape = Tape()
    tape.run(0, 60, [SOL_TRADES])
    tape.fact(0.5, DiskFull(4096, 12, "no space"))
    judge = monitor()
    feed(judge, tape.entries())
    events = _finished(judge, at(59))

    said = effects(SOL_TRADES, events, [], since={}, until=at(59), not_running=[])

    assert said.absent == {"disconnected": [(at(0), at(0.5))], "disk_full": [(at(0.5), at(59))]}


@pytest.mark.parametrize(
    ("made", "besides"),
    [
        ("none", [(0, 20, "unknown"), (50, 59.05, "unknown")]),
        ("one", [(0, 20, "unknown"), (19.9, 59.05, "recorder"), (50, 59.05, "unknown")]),
        ("late", [(0, 20, "unknown")]),
    ],
)
def test_a_run_that_waits_for_a_connection_and_for_space_tells_each_by_itself(made, besides):
    """
    Before, during and after the full disk, each with its own cause: whether another connection was there until then, or
    one is made in the end, or none is.
    """
    tape = Tape()
    tape.run(0, 60, [SOL, BTC])
    if made == "one":
        tape.connection(0.1, 20, [BTC], connection=1)
        tape.disconnected(20, cause="recorder", connection=1)
    tape.fact(20, DiskFull(4096, 12, "no space"))
    tape.fact(50, DiskFreed(1 << 30, 1 << 20))
    if made == "late":
        tape.connection(52, 60, [SOL, BTC])

    events = fold(tape)

    assert sorted(told(events, "disconnected", "disk_full")) == [
        *(("disconnected", *each) for each in besides),
        ("disk_full", 20, 50, "recorder"),
    ]


def _finished(judge, until):
    judge.finish(until, closed=False)
    return judge.events
