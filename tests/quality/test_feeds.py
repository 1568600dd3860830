"""
Two feeds that alternate in one stream: told apart, each judged by its own cadence, and doubted where one is gone.
"""

import random

import pytest

from quality_cases import BTC, SOL, URL, Tape, at, feed, fold, monitor, since, steady
from quality_runs import START, events_of, hear, numbered, seconds_of
from recorder.quality import feeds
from recorder.quality.track import Feeds, Track
from recorder.records import NO_CONNECTION, SECOND_NS, Connected, Entry, EntryKind, Requested, RunStopped, encode_fact
from recorder.simulator.kinds import Cadence, Drop, Restart, Silence, SkipFrames, TwoFeeds

FEEDS = TwoFeeds(from_s=0, to_s=200)


def books(*, lag=150, behind=3, count=6, tick=400, lost=()):
    """
    (ts, recv_ts, slot) of two feeds, without those whose number is `lost`.
    """
    both = []
    for n in range(count):
        ts = 1_000_000 + n * tick
        slot = 5_000 + n * tick // 400
        both += [(ts, ts * 1_000_000, slot), (ts + lag, (ts + lag) * 1_000_000, slot - behind)]
    return [book for n, book in enumerate(both) if n not in lost]


@pytest.mark.parametrize("lag", [20, 63, 150, 200, 334, 390])
@pytest.mark.parametrize("behind", [1, 3, -2])
@pytest.mark.parametrize("lost", [(), (3,), (6,)])
def test_books_of_two_feeds_are_told_apart(lag, behind, lost):
    """
    Whatever lies between them, also where one is missing.
    """
    heard = books(lag=lag, behind=behind, lost=lost)

    second, tick, spread = feeds.split(heard, (400, 3))

    assert second == [bool(n & 1) for n in range(12) if n not in lost]
    assert (tick, spread) == (400, 3)


def test_the_cadence_of_two_feeds_is_learned_where_none_is_known():
    """
    At the start of a stream.
    """
    assert feeds.split(books(), (0, 0))[1] == 400
    assert feeds.split(books(tick=1000, lag=330), (400, 3))[1] == 1000


def test_a_cadence_known_roughly_is_learned_anew_from_each_feed():
    """
    What was learned from a few books of both is off by some ms, and ticks add up.
    """
    heard = books(lag=85)

    assert feeds.split(heard, (387, 13))[1] == 387
    assert feeds.split(heard, (387, 13), rough=True)[1:] == (400, 0)


def test_one_feed_is_not_two():
    """
    Also where a slot once steps back, or a tick is late.
    """
    one = [book for n, book in enumerate(books(count=12)) if not n & 1]

    assert feeds.step_back(one) is None
    late = [(ts + 300 * (n == 5), recv, slot - 9 * (n > 6)) for n, (ts, recv, slot) in enumerate(one)]
    assert feeds.split(late, (400, 3)) is None


def test_a_book_goes_to_the_feed_whose_slot_and_time_it_continues():
    """
    Also out of turn; and one that has gone must fit much better.
    """
    first = Track(ts=10_000, recv=10_000, slot=100, cadence=400)
    two = Feeds(0, second=Track(ts=10_150, recv=10_150, slot=97, cadence=400))

    assert not feeds.is_second(two, first, 10_400, 101)
    assert feeds.is_second(two, first, 10_550, 98)
    assert not feeds.is_second(two, first, 10_470, 101)  # late, but its slot is the first one's
    two.lone = 1
    first.ts, first.recv, first.slot = 14_000, 14_000, 110
    assert not feeds.is_second(two, first, 14_460, 111)
    assert feeds.is_second(two, first, 14_150, 107)


def test_a_slot_too_few_does_not_bring_back_a_feed_that_has_gone():
    """
    Slots are whole: by chance a book of the one that is left is of the same slot as the one before, or two ahead. Its
    time may then fit the grid of both.
    """
    left = Track(ts=20_000, recv=20_000, slot=100, cadence=400)
    gone = Track(ts=9_145, recv=9_145, slot=72, cadence=400)

    for ts, slot in ((20_361, 100), (20_361, 102)):
        assert not feeds.is_second(Feeds(0, second=gone, lone=9_145), left, ts, slot)
        assert feeds.is_second(Feeds(0, second=left, lone=9_145), gone, ts, slot)


@pytest.mark.parametrize("every", [3, 4, 5, 7])
def test_books_lost_of_two_feeds_are_counted_exactly(every):
    """
    Each feed by its own ticks: also where only one of them loses books.
    """
    events = events_of(hear(FEEDS, SkipFrames(from_s=40.1, to_s=48.1, market="*", every=every), seconds=90))

    holes = [e for e in events if e.kind == "cadence_hole"]
    assert sum(e.missing or 0 for e in holes) == 3 * (40 // every)
    assert {e.kind for e in events} == {"cadence_hole", "two_feeds"}
    assert all("of one of two feeds" in e.evidence for e in holes[:1])


def test_a_feed_that_comes_back_has_lost_what_lies_between():
    """
    Every second book of two feeds is one of them: the other tells nothing of it.
    """
    events = events_of(hear(FEEDS, SkipFrames(from_s=40.1, to_s=50.1, market="*", every=2), seconds=70))

    (hole,) = [e for e in events if e.kind == "cadence_hole"]
    assert (hole.scope, hole.missing) == ("connection", 3 * 25)
    begins, ends = seconds_of(hole)
    assert 39.5 < begins < 40.2
    assert 50.0 < ends < 50.7


def test_one_of_two_feeds_is_doubted_up_to_the_end_of_the_run():
    """
    Not up to the last book of the other: one of the feed that has gone may have been due after it.
    """
    heard = hear(FEEDS, SkipFrames(from_s=40.1, to_s=90, market="*", every=2), seconds=60.35)
    end = heard[-1].recv_ts + SECOND_NS // 10
    stop = Entry(EntryKind.FACT, NO_CONNECTION, 0, heard[-1].seq + 1, end, encode_fact(RunStopped("told to")), "r")

    events = events_of([*heard, stop])

    assert max(e.end for e in events if e.kind == "two_feeds") == end, [
        (e.kind, e.end - end, e.evidence) for e in events
    ]


def test_both_feeds_silent_for_two_seconds_miss_the_books_of_both():
    """
    A hole is one also where two feeds are.
    """
    events = events_of(hear(FEEDS, Silence(from_s=40.1, to_s=42.1), seconds=70))

    assert sum(e.missing or 0 for e in events if e.kind == "cadence_hole") == 3 * 2 * 5


@pytest.mark.parametrize("tick_ms", [200, 750, 1000, 2000])
def test_another_cadence_of_two_feeds_is_no_hole(tick_ms):
    """
    Both change at once.
    """
    events = events_of(hear(FEEDS, Cadence(from_s=40.1, to_s=60.1, tick_ms=tick_ms), seconds=90))

    assert [e for e in events if e.kind != "two_feeds"] == []


def test_books_after_the_last_step_back_are_of_one_feed():
    """
    From there on nothing speaks for two.
    """
    both = books(count=3)
    one = [book for n, book in enumerate(books(count=9)) if not n & 1]

    assert feeds.after_step_back([*both, *one[3:]]) == [both[-1], *one[3:]]
    assert feeds.after_step_back(one) == one


def test_books_lost_soon_after_one_of_two_feeds_has_gone_are_missing():
    """
    Two feeds are expected from before an outage; only a moment of both comes after it.
    """
    gone = TwoFeeds(from_s=0, to_s=31.4, lag_ms=238, slots_behind=-3)
    faults = (gone, Drop(30.2), SkipFrames(from_s=32, to_s=45, market="SOL-PERP", every=8))

    events = events_of(hear(*faults, seconds=80))

    holes = [e for e in events if e.kind == "cadence_hole"]
    assert [(e.symbol, e.missing) for e in holes] == [("SOL-PERP", 1)] * 4


def test_a_feed_whose_last_book_is_missing_is_doubted_up_to_the_end_of_the_other():
    """
    It was due before the last one of the other, and nothing comes after it that would tell.
    """
    heard = hear(TwoFeeds(from_s=0, to_s=200, lag_ms=150), Drop(40.05), seconds=44)
    sol = [e for e in heard if b'"orderbook_perp_0_grouped_1"' in e.payload[:60]]
    before, lost, last = [e for e in sol if e.recv_ts < START + 40 * SECOND_NS + SECOND_NS // 20][-3:]

    events = events_of(numbered([e for e in heard if e.seq != lost.seq]))

    doubted = [e for e in events if e.kind == "two_feeds" and e.start < lost.recv_ts]
    assert before.recv_ts < lost.recv_ts < max(e.end for e in doubted) == last.recv_ts


def of_two_feeds():
    """
    A run that hears both for eight seconds.
    """
    tape = Tape()
    tape.run(0, 60, [SOL])
    tape.fact(0.1, Connected(URL, 1, 1.0, compressed=True), connection=0, attempt=1)
    tape.fact(0.1, Requested(SOL), connection=0, attempt=1)
    for tick in range(1, 21):
        tape.book(tick * 0.4, SOL)
        tape.book(tick * 0.4 + 0.15, SOL, slot=max(1, tick - 3))
    return tape


def of_one_only(events):
    """
    Those that tell of a time in which only one of two feeds came.
    """
    return [event for event in events if event.kind == "two_feeds" and "only one" in event.evidence]


def test_a_book_from_long_ago_among_those_of_one_feed_does_not_end_the_doubt():
    """
    By its time the one feed has come alone for a quarter of an hour; by ours it has only just begun.
    """
    tape = of_two_feeds()
    for tick in range(41, 150):
        tape.book(tick * 0.4, SOL, **({"ts": tick * 0.4 - 900, "slot": 1} if tick == 43 else {}))

    doubted = of_one_only(fold(tape))

    assert [(since(e.start), since(e.end)) for e in doubted] == [(16.4, 46.8)]


def test_the_doubt_begins_when_books_that_were_held_back_were_due():
    """
    Not when they came: what the other feed would have brought meanwhile is doubted as well.
    """
    tape = of_two_feeds()
    for tick in range(41, 150):
        tape.book(max(tick * 0.4, 21.2 + tick * 1e-4), SOL, ts=tick * 0.4, **({"slot": 1} if tick == 43 else {}))

    doubted = of_one_only(fold(tape))

    assert doubted
    assert since(doubted[0].start) < 17.5


def test_nothing_of_a_stream_begins_before_its_run():
    """
    However old what came last was by a publisher's clock that leapt.
    """
    judge = monitor()
    feed(judge, steady(10).entries())
    (flow, *_) = judge.flows_of("a")

    stretch = judge._tracks._telling.stretch(flow, at(10), ("cadence_hole", -1, at(10), "", None, None))

    assert (stretch.start, stretch.end) == (at(0), at(10))


def test_a_feed_whose_timer_slips_is_not_the_other_one_that_is_back():
    """
    The feed that is left goes on where the other stood: nothing is missing of it, and the other stays away.
    """
    slips = Cadence(from_s=46.175, to_s=90, tick_ms=400)
    events = events_of(hear(TwoFeeds(from_s=20, to_s=40, lag_ms=158, slots_behind=0), slips, seconds=100))

    assert {e.kind for e in events} == {"two_feeds"}


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_repeats_each_book_some_ms_later_misses_none(seed):
    """
    It looks like two feeds that tick at the same time.
    """
    rng = random.Random(seed)
    tape = Tape()
    tape.run(0, 60, [SOL, BTC])
    tape.connection(0, 60, [])
    for stream in (SOL, BTC):
        tape.fact(0.1, Requested(stream), connection=0, attempt=1)
    for tick in range(1, 149):
        t = tick * 0.4 + rng.uniform(-0.012, 0.012)
        tape.book(t, SOL, slot=tick)
        tape.book(t, BTC, slot=tick)
        if tick > 50:
            later = rng.choice([0.001, 0.003, 0.005])
            tape.book(t + later + 0.0001, SOL, ts=t + later, slot=tick)

    events = fold(tape)

    assert {e.kind for e in events} - {"recorder_started", "connected"} == {"two_feeds"}


@pytest.mark.parametrize("lag_ms", [5, 20])
def test_of_two_feeds_at_the_same_time_slots_tell_which_has_lost_a_book(lag_ms):
    """
    The other feed's has another slot.
    """
    tape = Tape()
    tape.run(0, 80, [SOL])
    tape.connection(0, 80, [])
    tape.fact(0.1, Requested(SOL), connection=0, attempt=1)
    for tick in range(1, 199):
        if tick not in {120, 130, 141}:
            tape.book(tick * 0.4, SOL, slot=1000 + tick)
        tape.book(tick * 0.4 + lag_ms / 1000, SOL, slot=1000 + tick - 3)

    holes = [e for e in fold(tape) if e.kind == "cadence_hole"]

    assert [(e.missing, round(since(e.start), 1)) for e in holes] == [(1, 47.6), (1, 51.6), (1, 56.0)]


@pytest.mark.parametrize("lag_ms", [150, 180])
@pytest.mark.parametrize("market", ["SOL-PERP", "*"])
@pytest.mark.parametrize("lost_s", [3, 20])
def test_books_of_one_of_two_feeds_that_no_slot_tells_apart_are_missed(lag_ms, market, lost_s):
    """
    Of one market alone that is sure, as the others have theirs; of all, half of the books stay away, and that is said.
    """
    two = TwoFeeds(from_s=0, to_s=200, lag_ms=lag_ms, slots_behind=0)
    whole = hear(two, seconds=100)
    heard = hear(two, Silence(from_s=30, to_s=30 + lost_s, market=market, channels="books", feed=2), seconds=100)

    events = [e for e in events_of(heard) if e.kind != "two_feeds"]

    lost = sum(e.kind == EntryKind.FRAME for e in whole) - sum(e.kind == EntryKind.FRAME for e in heard)
    assert {e.kind for e in events} == {"cadence_hole"}
    assert sum(e.missing or 0 for e in events) == lost > 0
    assert min(e.start for e in events) > START + 29 * SECOND_NS
    assert max(e.end for e in events) < START + (31.5 + lost_s) * SECOND_NS


def test_a_feed_that_comes_back_after_it_was_given_up_was_lost_or_switched_off_meanwhile():
    """
    Half a minute after it went one feed is taken for all there is; as the other comes back, that is in doubt.
    """
    gone = Silence(from_s=30, to_s=90, market="SOL-PERP", channels="books", feed=2)

    doubted = [seconds_of(e) for e in events_of(hear(FEEDS, gone, seconds=120)) if "only one of two" in e.evidence]

    assert doubted[0][0] < 30.5
    assert doubted[1][0] <= doubted[0][1]
    assert 89.5 < doubted[1][1] < 91
    assert len(doubted) == 2


@pytest.mark.parametrize("market", ["SOL-PERP", "*"])
def test_a_feed_that_comes_back_only_after_an_outage_was_lost_or_switched_off_before_it(market):
    """
    Up to the outage, which tells of itself.
    """
    gone = Silence(from_s=30, to_s=90, market=market, channels="books", feed=2)
    heard = hear(FEEDS, gone, Drop(80.05), seconds=120)

    alone = [e for e in events_of(heard) if "only one of two" in e.evidence]

    assert {e.symbol for e in alone} == {None if market == "*" else market}
    (gone_at, given_up), (again, until) = (seconds_of(e) for e in alone)
    assert gone_at < 30.5
    assert again <= given_up
    assert until == pytest.approx(80, abs=0.4)


def test_of_two_feeds_that_were_there_before_an_outage_none_is_doubted_if_both_are_back():
    """
    However long nothing was heard.
    """
    restart = Restart(from_s=60, to_s=110, code=1012)

    assert not [e for e in events_of(hear(FEEDS, restart, seconds=150)) if "only one of two" in e.evidence]


def test_of_two_feeds_that_were_there_before_an_outage_one_that_has_gone_is_doubted():
    """
    Also where the run ends before there are enough books to tell them apart.
    """
    gone = Silence(from_s=42.5, to_s=90, market="SOL-PERP", channels="books", feed=2)
    heard = hear(FEEDS, Drop(40.05), gone, seconds=44.5)

    doubted = [seconds_of(e) for e in events_of(heard) if "only one of two" in e.evidence and e.symbol == "SOL-PERP"]

    assert [end for _, end in doubted[-1:]] == [pytest.approx(44.4, abs=0.4)]
    assert 41.9 < doubted[-1][0] < 42.9


@pytest.mark.parametrize(("lag_ms", "lost_s"), [(100, 10), (238, 3), (238, 25)])
@pytest.mark.parametrize("market", ["SOL-PERP", "*"])
def test_two_feeds_that_step_back_no_more_after_an_outage_are_judged_as_one(lag_ms, lost_s, market):
    """
    Two are expected, for there were two; what one of them loses is counted all the same. If that is so of all markets,
    it is no return to the pace that each of the two kept to.
    """
    both = [TwoFeeds(from_s=20, to_s=45), TwoFeeds(from_s=50, to_s=200, lag_ms=lag_ms, slots_behind=0)]
    gone = Silence(from_s=75, to_s=75 + lost_s, market=market, channels="books", feed=2)
    whole = hear(*both, Drop(60.05), seconds=115)
    heard = hear(*both, Drop(60.05), gone, seconds=115)

    events = [e for e in events_of(heard) if e.end > at(70)]

    lost = sum(e.kind == EntryKind.FRAME for e in whole) - sum(e.kind == EntryKind.FRAME for e in heard)
    assert {(e.kind, e.symbol) for e in events} == {("cadence_hole", market if market != "*" else None)}
    assert sum(e.missing or 0 for e in events) == lost > 0
