"""
Frames heard twice: one row each, repeats kept, memory bounded.
"""

from collections import Counter
from collections.abc import Iterator
from functools import reduce
from heapq import merge
from itertools import accumulate
from operator import or_
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.quality import pairing as module
from recorder.quality.pairing import Pairing
from recorder.records import HOUR_NS, Stream

SECOND, MS = 10**9, 10**6
LENGTH_S = 60
BOOK, TRADES = Stream("perp", "SOL-PERP", "orderbook", 1), Stream("perp", "SOL-PERP", "trades")
FEES = Stream("perp", "SOL-PERP", "priorityfees")
NEW, DUPLICATE, REPEAT = (False, False), (True, False), (False, True)


def hear(pairing: Pairing, *heard: tuple[int, int, bytes]) -> list[tuple[bool, bool]]:
    """
    Verdicts on (connection, second, payload).
    """
    return [pairing.hear("a", connection, second * SECOND, payload) for connection, second, payload in heard]


def test_the_earliest_is_kept_and_its_echo_dropped():
    """
    Whichever connection is faster.
    """
    assert hear(Pairing(), (0, 0, b"x"), (1, 1, b"x"), (1, 2, b"y"), (0, 3, b"y")) == [NEW, DUPLICATE, NEW, DUPLICATE]


def test_runs_are_sources_like_connections():
    """
    Two recorders beside each other.
    """
    pairing = Pairing()

    assert pairing.hear("a", 0, 0, b"x") == NEW
    assert pairing.hear("b", 0, 1, b"x") == DUPLICATE


def test_the_second_on_one_connection_is_a_repeat_and_pairs_with_the_second_on_another():
    """
    The venue sent it twice: two rows, whoever heard it.
    """
    assert hear(Pairing(), (0, 0, b"x"), (0, 1, b"x"), (1, 2, b"x"), (1, 3, b"x"), (1, 4, b"x"), (0, 5, b"x")) == [
        NEW,
        REPEAT,
        DUPLICATE,
        DUPLICATE,
        REPEAT,
        DUPLICATE,
    ]


@pytest.mark.parametrize(("second", "verdict"), [(120, DUPLICATE), (121, NEW)])
def test_pairs_stand_within_two_minutes(second, verdict):
    """
    Later it is another frame that happens to be equal.
    """
    assert hear(Pairing(), (0, 0, b"x"), (1, second, b"x"))[1] == verdict


def test_each_occurrence_has_its_own_two_minutes():
    """
    A repeat is remembered from when it came, not from when the first did.
    """
    heard = hear(Pairing(), (0, 0, b"x"), (1, 1, b"x"), (0, 110, b"x"), (1, 125, b"x"), (1, 126, b"x"))

    assert heard == [NEW, DUPLICATE, REPEAT, DUPLICATE, REPEAT]


@pytest.mark.parametrize("connection", [0, 1])
def test_what_came_before_a_source_was_connected_is_not_what_it_hears(connection):
    """
    A payload that comes again and again, fees say, and a recorder that is restarted: nothing of the new run is dropped.
    """
    pairing = Pairing()
    for i in range(30):
        pairing.hear("a", 0, i * 2 * SECOND, b"x")
    pairing.connected("b", connection, 62 * SECOND)

    verdicts = [pairing.hear("b", connection, (63 + 2 * i) * SECOND, b"x") for i in range(3)]
    assert verdicts == [NEW, REPEAT, REPEAT]


def test_a_stored_copy_of_what_another_has_just_heard_is_its_echo():
    """
    The first book after a connect may be the server's copy of the last.
    """
    pairing = Pairing()
    pairing.hear("a", 0, 0, b"x")
    pairing.connected("a", 1, SECOND)

    assert pairing.hear("a", 1, SECOND, b"x") == DUPLICATE


def test_memory_is_bounded():
    """
    However fast frames come; the oldest are forgotten first.
    """
    pairing = Pairing(100)
    for i in range(1000):
        pairing.hear("a", 0, i, b"%d" % i)

    assert len(pairing._heard) == 100
    assert pairing.hear("a", 1, 1000, b"999") == DUPLICATE
    assert pairing.hear("a", 1, 1001, b"5") == NEW


def test_a_stream_that_comes_to_a_connection_is_new_there():
    """
    It was connected long ago, and asked for this just now: what others brought before is not what it brings.
    """
    pairing = Pairing()
    for connection in (0, 1):
        pairing.connected("a", connection, 0)
    for i in range(30):
        pairing.hear("a", 0, (1 + 2 * i) * SECOND, b"fees", "priorityFees")
    pairing.requested("a", 1, FEES, 62 * SECOND)

    verdicts = [pairing.hear("a", 1, (63 + 2 * i) * SECOND, b"fees", "priorityFees") for i in range(3)]

    assert verdicts == [NEW, REPEAT, REPEAT]


class Sent(NamedTuple):
    """
    One frame of the venue, with what the pairing is told of it.
    """

    at: int
    stream: str
    payload: bytes
    ts: int | None
    family: str = "orderbook"


Told = tuple[int, str, Sent | Stream | None]
"""An entry: its stamp, its run, and the frame, the stream that is asked for, or None for a connection made."""


class Life:
    """
    What one recorder with one connection goes through, and what of it is in its journals.
    """

    def __init__(
        self,
        number: int,
        *,
        lasts: list[int],
        clocks_ms: list[int],
        way_ms: int,
        disorder_ms: int,
        dropped: list[tuple[int, int]],
        late: list[tuple[int, int]],
        again: list[int],
    ) -> None:
        """
        Args:
            number: of the recorder.
            lasts: seconds, in turn: it is down, connected, and so on; at the end it is connected. After each second
                connection the recorder is started anew.
            clocks_ms: by which the clock of each run is ahead; those of the last one go on.
            way_ms: to it.
            disorder_ms: by which its server sends a frame earlier or later than others do.
            dropped: seconds whose frames the server drops for it.
            late: seconds whose frames come at the end of them, at once.
            again: seconds at which it asks again for a book.
        """
        self.number, self.way, self.disorder, self.again = number, way_ms * MS, disorder_ms * MS, sorted(again)
        self.dropped, self.late = dropped, late
        edges = [*accumulate(lasts), LENGTH_S + 90]
        self.lives = [life for life in zip(edges[::2], edges[1::2], strict=False) if life[0] < LENGTH_S]
        self.clocks = [ms * MS for ms in clocks_ms]

    def _heard(self, start: int, end: int, sent: list[Sent]) -> Iterator[tuple[int, Sent]]:
        """
        Frames of one connect and when they come: first the server's copies of the newest books.
        """
        begun = start + 100 * MS
        order = Random(self.number)
        of_server = sorted((each.at + order.randint(0, self.disorder), each) for each in sent)
        stored = {each.stream: (begun, each) for at, each in of_server if at < begun and each.family == "orderbook"}
        live = [each for each in of_server if begun <= each[0] < end and not _within(self.dropped, each[0])]
        last = begun
        for at, each in [*stored.values(), *live]:
            last = max(last + 1, at + self.way, _within(self.late, at))
            if last < end:
                yield last, each

    def runs(self, sent: list[Sent]) -> Iterator[list[Told]]:
        """
        The entries of each run, in order.
        """
        for number in range(0, len(self.lives), 2):
            run, clock = f"{number}-{self.number}", self.clocks[min(number // 2, len(self.clocks) - 1)]
            told: list[Told] = []
            for start, end in self.lives[number : number + 2]:
                begun = start * SECOND
                asked = [at * SECOND for at in self.again if start < at < end]
                told.append((begun + clock, run, None))
                told += [(begun + (20 + 20 * n) * MS + clock, run, of) for n, of in enumerate((FEES, BOOK, TRADES))]
                told += [(at + clock, run, BOOK) for at in asked]
                told += [(at + clock, run, each) for at, each in self._heard(begun, end * SECOND, sent)]
            yield sorted(told, key=lambda entry: entry[:2])


def _within(spans: list[tuple[int, int]], at: int) -> int:
    """
    The end of the span of seconds an instant lies in, ns; 0 if it lies in none.
    """
    return max((b * SECOND for a, b in spans if a * SECOND <= at < b * SECOND), default=0)


def spans(longest: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """
    Up to two stretches, in seconds.
    """
    one = st.tuples(st.integers(0, LENGTH_S), st.integers(1, longest)).map(lambda span: (span[0], span[0] + span[1]))
    return st.lists(one, max_size=2)


LIVES = st.lists(
    st.fixed_dictionaries(
        {
            "lasts": st.lists(st.integers(1, 20), max_size=4).map(lambda lasts: [0, *lasts]),
            "clocks_ms": st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=3),
            "way_ms": st.integers(1, 400),
            "disorder_ms": st.integers(0, 200),
            "dropped": spans(9),
            "late": spans(20),
            "again": st.lists(st.integers(0, LENGTH_S), max_size=3),
        }
    ),
    min_size=2,
    max_size=3,
)


def published(fees: list[int], silences: list[tuple[int, int]]) -> list[Sent]:
    """
    A minute of a venue: books of two markets, of which one falls silent, trades, and the same fees over and over.
    """
    sent = [Sent(n * SECOND // 3 + 7, "one", b"one %d" % n, n * 333) for n in range(1, 3 * LENGTH_S)]
    sent += [
        Sent(n * SECOND // 3 + 9, "two", b"two %d" % n, n * 333)
        for n in range(1, 3 * LENGTH_S)
        if not any(a <= n // 3 < b for a, b in silences)
    ]
    sent += [Sent(n * SECOND + 11, "trades", b"fill %d" % n, n, "trades") for n in range(1, LENGTH_S)]
    sent += [Sent(at * SECOND + 13, "fees", b"fees", None, "priorityFees") for at in accumulate(fees) if at < LENGTH_S]
    return sorted(sent, key=lambda each: each.at)


def in_order(lives: list[Life], sent: list[Sent]) -> list[Told]:
    """
    The entries of all runs as the seal reads them.
    """
    return list(merge(*(run for life in lives for run in life.runs(sent)), key=lambda entry: entry[:2]))


def kept(entries: list[Told], *, since: int = -HOUR_NS) -> Counter[bytes]:
    """
    How many rows each payload has that came from an instant on.
    """
    pairing, rows = Pairing(), Counter[bytes]()
    for at, run, what in entries:
        if what is None:
            pairing.connected(run, 0, at)
        elif isinstance(what, Stream):
            pairing.requested(run, 0, what, at)
        else:
            duplicate, _ = pairing.hear(run, 0, at, what.payload, what.family, what.ts)
            rows[what.payload] += at >= since and not duplicate
    return +rows


def meant(entries: list[Told]) -> Counter[bytes]:
    """
    How many it should have: as often as it was sent to whoever it was sent to most often; fees, as often as it was sent
    and came to anyone.
    """
    of_run: dict[str, Counter[bytes]] = {}
    for _, run, what in entries:
        if isinstance(what, Sent):
            of_run.setdefault(run, Counter())[what.payload] += 1
    each = reduce(or_, of_run.values(), Counter[bytes]())
    each[b"fees"] = len({what.at for _, _, what in entries if isinstance(what, Sent) and what.payload == b"fees"})
    return +each


@given(lives=LIVES, fees=st.lists(st.integers(2, 9), min_size=1, max_size=12), silences=spans(20))
@settings(max_examples=60, deadline=None)
def test_whatever_sources_go_through_each_frame_that_any_heard_is_kept_once(lives, fees, silences):
    """
    Restarts, outages, drops, late and stored frames, requests made again, other orders, clocks seconds apart: a frame
    with a time is kept once. So are those that are all equal, unless a server left out what tells where they stand:
    then each stretch that it left out may cost one, or bring one too many.
    """
    entries = in_order([Life(number, **life) for number, life in enumerate(lives)], published(fees, silences))

    rows, each = kept(entries), meant(entries)

    doubled = rows.pop(b"fees", 0) - each.pop(b"fees", 0)
    assert rows == each
    assert abs(doubled) <= sum(len(life["dropped"]) for life in lives)


def pair(*heard: tuple[float, str, bytes, str, int | None] | tuple[float, str, Stream | None]) -> list[bool]:
    """
    Whether each frame, (second, run, payload, family, ts), is a duplicate; between them connects and requests.
    """
    pairing, verdicts = Pairing(), []
    for second, run, what, *of in heard:
        at = int(second * SECOND)
        if what is None:
            pairing.connected(run, 0, at)
        elif isinstance(what, Stream):
            pairing.requested(run, 0, what, at)
        else:
            verdicts.append(pairing.hear(run, 0, at, what, *of)[0])
    return verdicts


@pytest.mark.parametrize(
    ("payload", "family", "ts", "stream"),
    [
        (b"book", "orderbook", 1000, BOOK),
        (b"fill", "trades", 1, TRADES),
        (b"fees", "priorityFees", None, FEES),
    ],
)
def test_what_was_held_back_is_an_echo_though_its_stream_was_asked_for_again_meanwhile(payload, family, ts, stream):
    """
    A line that drips: its book was silent and is asked for again, then all comes that was sent before.
    """
    begun = [(0, "a", None), (0, "b", None), (0, "a", stream), (0, "b", stream)]

    assert pair(*begun, (1, "a", payload, family, ts), (7, "b", stream), (9, "b", payload, family, ts)) == [False, True]


def test_the_copy_the_server_kept_of_a_market_long_silent_is_an_echo():
    """
    However old it is: a book with this time was sent once.
    """
    assert pair((1, "a", b"book", "orderbook", 1000), (30, "b", None), (30, "b", b"book", "orderbook", 1000)) == [
        False,
        True,
    ]


@pytest.mark.parametrize(("family", "ts"), [("orderbook", 9000), ("trades", 9)])
@pytest.mark.parametrize("ahead_s", [-60, -2, 0.5, 2, 60])
def test_clocks_that_differ_double_nothing_when_one_connects_anew(family, ts, ahead_s):
    """
    Of two recorders, each with its own clock, one was away for a moment: what both heard after that is one row.
    """
    heard = [(9, "a", b"frame", family, ts), (8.9 + ahead_s, "b", None), (9.1 + ahead_s, "b", b"frame", family, ts)]

    assert sum(pair(*sorted(heard, key=lambda entry: entry[0]))) == 1


@pytest.mark.parametrize("ahead_s", [-20, -2, 2, 20])
def test_equal_frames_are_told_apart_by_what_comes_before_them_whatever_the_clocks_say(ahead_s):
    """
    One missed the first, the other the third, and both heard the second.
    """

    def heard(run: str, late: float, *fees: int) -> Iterator[tuple[float, str, bytes, str, int | None]]:
        for second in range(1, 30):
            yield second + late, run, b"%d" % second, "orderbook", second * 1000
            if second in fees:
                yield second + late + 0.1, run, b"fees", "priorityFees", None

    entries = [*heard("a", 0, 4, 8), *heard("b", ahead_s, 8, 12)]
    entries.sort(key=lambda entry: entry[0])

    rows = Counter(entry[2] for entry, echo in zip(entries, pair(*entries), strict=True) if not echo)

    assert rows[b"fees"] == 3


def test_one_that_dies_while_it_is_late_has_not_brought_what_the_other_heard_later():
    """
    What it did bring, equal to that, was sent when the other was away.
    """
    early = [(second, "b", b"%d" % second, "orderbook", second * 1000) for second in range(1, 9)]
    late = [(20.0, "a", b"5", "orderbook", 5000), (20.1, "a", b"fees", "priorityFees", None)]

    assert pair(*early, (8.1, "b", b"fees", "priorityFees", None), *late)[-3:] == [False, True, False]


@pytest.mark.parametrize("first", [1, 2])
def test_what_makes_no_row_is_nothing_that_another_could_echo(first):
    """
    A run was sent what it had not asked for, once or again; one beside it had.
    """
    pairing = Pairing()
    for second in range(first):
        assert pairing.hear("a", 0, second, b"x", "orderbook", 1) == NEW
        pairing.unplaced("a", 0, b"x")

    assert [pairing.hear(run, 0, 10, b"x", "orderbook", 1) for run in "bb"] == [NEW, REPEAT]
    assert pairing.hear("a", 0, 11, b"x", "orderbook", 1) == DUPLICATE
    assert pairing.hear("a", 0, 12, b"x", "orderbook", 1) == DUPLICATE
    assert pairing.hear("a", 0, 13, b"x", "orderbook", 1) == REPEAT
    pairing.unplaced("a", 0, b"x")
    assert pairing.hear("b", 0, 14, b"x", "orderbook", 1) == REPEAT


def behind_another(pairing: Pairing) -> None:
    """
    One has brought fees; another that is 4 s behind it brings equal ones now, which were sent before those.
    """
    for run, ms in (("a", 5000), ("b", 1000)):
        pairing.connected(run, 0, 0)
        assert pairing.hear(run, 0, 5 * SECOND, b"book %d" % ms, "orderbook", ms) == NEW
        assert pairing.hear(run, 0, 5 * SECOND + 1, b"fees", "priorityFees") == NEW


def test_what_makes_no_row_is_let_go_of_though_memory_was_full(monkeypatch):
    """
    To keep it, the oldest was forgotten: that of another source, which was sent later.
    """
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    pairing = Pairing()
    behind_another(pairing)

    pairing.unplaced("b", 0, b"fees")

    assert pairing._heard.keys() == {hash(b"book 1000")}
    assert len(pairing._kept) == 1


def test_what_came_first_is_forgotten_first_though_it_was_sent_last(monkeypatch):
    """
    Its own source has brought it, and will not again; what stays is new to that one, and an echo from the other.
    """
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    pairing = Pairing()
    behind_another(pairing)

    assert [each for each, *_ in pairing._heard[hash(b"fees")].kept] == [5 * SECOND + 1]
    assert pairing._heard[hash(b"fees")].kept[0][1:3] == (1, 1000)
    assert pairing._heard[hash(b"fees")].counts == {0: 1, 1: 1}


@given(
    heard=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from([b"one", b"two"]),
            st.sampled_from([None, 1, 2]),
            st.integers(0, 9),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_whatever_is_forgotten_and_let_go_of_what_is_remembered_stays_of_one_piece(heard):
    """
    Memory for four, places all over, and each second frame makes no row: nothing is raised, nothing is left over.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_REMEMBERED", 4)
        pairing = Pairing()
        for number, (connection, payload, ts, place, placed) in enumerate(heard):
            at = number * SECOND
            pairing.hear("a", connection, at, b"book %d %d" % (connection, number), "orderbook", place * 1000)
            duplicate, _ = pairing.hear(
                "a", connection, at + 1, payload, "priorityFees" if ts is None else "trades", ts
            )
            if not placed and not duplicate:
                pairing.unplaced("a", connection, payload)

            kept = [known if isinstance(known, tuple) else None for known in pairing._heard.values()]
            often = [known for known in pairing._heard.values() if not isinstance(known, tuple)]
            everything = [one for one in kept if one is not None] + [one for known in often for one in known.kept]
            assert sorted(everything) == sorted(pairing._kept)
            assert len(everything) <= 4
            assert all(0 <= count <= len(known.kept) for known in often for count in known.counts.values())


@given(lives=LIVES, border_s=st.integers(0, LENGTH_S + 30))
@settings(max_examples=30, deadline=None)
def test_folds_of_two_hours_keep_each_frame_in_one_of_them(lives, border_s):
    """
    The next hour's begins a window before it: what the one keeps just before its end, the other knows.
    """
    entries = in_order([Life(number, **life) for number, life in enumerate(lives)], published([LENGTH_S], []))
    border = border_s * SECOND
    with pytest.MonkeyPatch.context() as patch:
        # Late by 20 s, and clocks as much apart.
        patch.setattr(module, "PAIRING_WINDOW_NS", 45 * SECOND)
        first = kept([entry for entry in entries if entry[0] < border])
        second = kept([entry for entry in entries if entry[0] >= border - 45 * SECOND], since=border)

    assert first + second == meant(entries)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize(("family", "ts"), [("orderbook", 1), ("priorityFees", None)])
def test_a_payload_that_comes_without_end_costs_no_more_each_time(sources, family, ts):
    """
    A venue that sends one frame over and over must not stop the reader of all sockets.
    """
    pairing = Pairing()
    for connection in range(sources):
        pairing.connected("a", connection, 0)
    kept = 0
    for number in range(40_000):
        for connection in range(sources):
            kept += not pairing.hear("a", connection, (number + 1) * SECOND // 1000, b"x", family, ts)[0]
    assert kept == 40_000
