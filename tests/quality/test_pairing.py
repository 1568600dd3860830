"""
Frames heard twice: one row each, repeats kept, memory bounded.
"""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.quality import pairing as module
from recorder.quality.pairing import PAIRING_WINDOW_NS, Pairing

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


@given(
    heard=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 50 * SECOND), st.sampled_from([b"x", b"y", b"z"])), max_size=80
    )
)
def test_as_many_rows_are_kept_as_the_source_that_heard_most_has_heard(heard):
    """
    The k-th pairs with the k-th, checked against a count of all within the window.
    """
    pairing = Pairing()
    now = 0
    occurrences: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    kept: dict[bytes, list[int]] = defaultdict(list)
    for source, step, payload in heard:
        now += step
        duplicate, repeat = pairing.hear("a", source, now, payload)
        if not duplicate:
            kept[payload].append(now)
        occurrences[payload].append((now, source))
        assert not (duplicate and repeat)
    if now <= PAIRING_WINDOW_NS:
        for payload, of in occurrences.items():
            assert len(kept[payload]) == max(Counter(source for _, source in of).values())
    while pairing._kept:
        pairing._forget(pairing._kept.popleft()[1])
    assert pairing._heard == {}
