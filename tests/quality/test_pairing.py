"""
Frames heard twice: one row each, repeats kept, memory bounded.
"""

from collections import Counter

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from recorder.quality import pairing as module
from recorder.quality.pairing import Pairing

SECOND = 10**9
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


def test_memory_is_bounded(monkeypatch):
    """
    However fast frames come; the oldest are forgotten first.
    """
    monkeypatch.setattr(module, "MAX_REMEMBERED", 100)
    pairing = Pairing()
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
    pairing.requested("a", 1, "priorityfees", 62 * SECOND)

    verdicts = [pairing.hear("a", 1, (63 + 2 * i) * SECOND, b"fees", "priorityFees") for i in range(3)]

    assert verdicts == [NEW, REPEAT, REPEAT]


class Copy:
    """
    One connection's way: what it is sent, and when that comes, in order; late by as much as way and stall make it.
    """

    def __init__(self, number: int, way_ms: int, holes: list[tuple[int, int]], stalls: list[tuple[int, int]]) -> None:
        self.number, self.way, self.holes, self.stalls = number, way_ms * 10**6, holes, stalls
        self.last = 0

    def comes(self, sent: int) -> int | None:
        """
        When what is sent at an instant comes here; None if it does not.
        """
        if any(a * SECOND <= sent < b * SECOND for a, b in self.holes):
            return None
        held = max((b * SECOND for a, b in self.stalls if a * SECOND <= sent < b * SECOND), default=0)
        self.last = max(self.last + 1, sent + self.way, held)
        return self.last


def spans(longest: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """
    Some stretches of a minute, in seconds.
    """
    one = st.tuples(st.integers(0, 55), st.integers(1, longest)).map(lambda span: (span[0], span[0] + span[1]))
    return st.lists(one, max_size=1)


@given(
    ways=st.lists(st.tuples(st.integers(5, 300), spans(9), spans(9), spans(9)), min_size=2, max_size=3),
    fees=st.lists(st.integers(2, 9), min_size=1, max_size=12),
)
# Of three, one never is among the first two to bring a book.
@example(ways=[(5, [], [(6, 7)], []), (5, [], [(6, 7)], []), (5, [(0, 3)], [], [])], fees=[2, 2, 2])
@settings(max_examples=60, deadline=None)
def test_of_constant_payloads_none_is_lost_and_none_doubled(ways, fees):
    """
    As many rows as there were frames that any copy heard: whatever each of them lost, and however late it was.

    Copies lose frames while they stay connected (a server drops them for a slow client), or because they are down and
    are made again; and one takes over from another. Books, each of its own, come in between.
    """
    for number, (_, dropped, _, _) in enumerate(ways):
        of_others = [span for n, way in enumerate(ways) if n != number for of in way[1:] for span in of]
        # Another that hears on shows what this one missed.
        assume(all(b + 2 < c or d < a - 1 for a, b in dropped for c, d in of_others))
        # What is on its way when a connection breaks does not come any more.
        own = [span for of in ways[number][1:] for span in of]
        assume(all(b < c or d < a for n, (a, b) in enumerate(own) for c, d in own[:n]))
    copies = [Copy(n, way_ms, [*dropped, *down], late) for n, (way_ms, dropped, down, late) in enumerate(ways)]
    sent = [(n * SECOND // 3 + 7, b"book %d" % n) for n in range(1, 260)]
    at = 0
    for gap in fees:
        at += gap * SECOND
        sent.append((at, b"fees"))
    put: list[tuple[int, int, bytes | None]] = []
    meant: Counter[bytes] = Counter()
    for when, payload in sorted(sent):
        comes = [(copy.number, copy.comes(when)) for copy in copies]
        put += [(t, number, payload) for number, t in comes if t is not None]
        meant[payload] += any(t is not None for _, t in comes)
    put += [(end * SECOND - 1, n, None) for n, way in enumerate(ways) for _, end in way[2]]
    pairing = Pairing()
    rows: Counter[bytes] = Counter()
    for t, number, payload in sorted(put, key=lambda each: each[:2]):
        if payload is None:
            pairing.connected("a", number, t)
        else:
            family = "priorityFees" if payload == b"fees" else "orderbook"
            rows[payload] += not pairing.hear("a", number, t, payload, family, stamped=payload != b"fees")[0]

    assert rows == +meant


@pytest.mark.timeout(20)
@pytest.mark.parametrize("sources", [1, 2])
def test_a_payload_that_comes_without_end_costs_no_more_each_time(sources):
    """
    A venue that sends one frame over and over must not stop the reader of all sockets.
    """
    pairing = Pairing()
    for connection in range(sources):
        pairing.connected("a", connection, 0)
    kept = 0
    for number in range(40_000):
        for connection in range(sources):
            kept += not pairing.hear("a", connection, (number + 1) * SECOND // 1000, b"x", "orderbook", stamped=True)[0]
    assert kept == 40_000
