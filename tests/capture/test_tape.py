"""
Where everything heard goes: what the live monitor is told of copies.
"""

import functools
import gc
import time
import tracemalloc

import pytest

from lake_cases import SOL, SOL_TRADES, book, trade
from recorder.capture.tape import Tape, TapeSettings
from recorder.journal.writer import Journal, JournalSettings
from recorder.quality.monitor import Monitor
from recorder.quality.routes import MAX_ROUTES
from recorder.records import SECOND_NS, Connected, QualitySettings, Requested
from recorder.venue.markets import market_list


@pytest.fixture
def duplicates(monkeypatch):
    """
    What the live monitor was told of each data frame: its connection, and whether it was heard before.
    """
    told = []
    step = Monitor.step

    def noting(self, entry, seen=None, *, duplicate=False):
        if seen is not None:
            told.append((entry.connection, duplicate))
        return step(self, entry, seen, duplicate=duplicate)

    monkeypatch.setattr(Monitor, "step", noting)
    return told


def tape(folder, copies):
    """
    A run with two connections that have asked for everything.
    """
    settings = TapeSettings(
        journal_folder=folder,
        venue="test",
        network="mainnet-beta",
        urls=["ws://x/ws"],
        streams=[SOL, SOL_TRADES],
        quality=QualitySettings(),
        journal=JournalSettings(commit_interval_s=0.01),
        copies=copies,
    )
    listed = market_list("mainnet-beta")
    run = Tape(settings, listed=listed, pid=1, beside=[], on_event=lambda _: None, on_opening=lambda _: None)
    for connection in (0, 1):
        run.fact(Connected("ws://x/ws", 1, 1.0, compressed=True), connection=connection, attempt=1)
        for stream in (SOL, SOL_TRADES):
            run.fact(Requested(stream), connection=connection, attempt=1)
    return run


def forget():
    """
    All that the program remembers of what other tests asked: a table made before memory is counted, and made anew
    meanwhile, would pass for growth.
    """
    for each in gc.get_objects():
        if type(each) is functools._lru_cache_wrapper and each.__module__.startswith("recorder."):
            each.cache_clear()


def ended(run):
    """
    Stop it, and wait for its last commit.
    """
    run.stop("over")
    deadline = time.monotonic() + 5
    while not run.closed():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("copies", [1, 2])
def test_what_another_copy_has_brought_is_known_to_the_live_monitor(tmp_path, duplicates, copies):
    """
    Else each trade would be a repeat. Without copies nothing is looked up, and what comes twice is no duplicate.
    """
    run = tape(tmp_path, copies)
    now = run.clock.now()
    frames = [trade(0, now - now % SECOND_NS, 7), book("SOL-PERP", 0, now, 5), b'{"channel":"heartbeat"}']

    for frame in frames:
        for connection in (0, 1):
            run.frame(connection, 1, frame)
    run.frame(1, 1, frames[0])
    ended(run)

    again = copies == 2
    assert duplicates == [(0, False), (1, again), (0, False), (1, again), (0, False), (1, False), (1, False)]


def test_what_the_journal_did_not_take_was_not_heard(tmp_path, duplicates, monkeypatch):
    """
    The other copy's is then the only one there is, as it will be for the seal.
    """
    run = tape(tmp_path, 2)
    append = Journal.append
    frame = trade(0, run.clock.now(), 7)

    with monkeypatch.context() as full:
        full.setattr(Journal, "append", lambda *_, **__: 0)
        run.frame(0, 1, frame)
    assert Journal.append is append
    run.frame(1, 1, frame)
    ended(run)

    assert duplicates == [(1, False)]


def test_the_live_monitor_pairs_as_the_seal_does(tmp_path, duplicates):
    """
    An equal frame that bears a time is a copy, whenever its source asked for it.
    """
    run = tape(tmp_path, 2)
    frame = trade(0, run.clock.now(), 7)

    run.frame(0, 1, frame)
    run.fact(Requested(SOL_TRADES), connection=1, attempt=1)
    run.frame(1, 1, frame)
    ended(run)

    assert duplicates == [(0, False), (1, True)]


def test_what_nobody_asked_for_is_not_remembered_for_another_copy(tmp_path, duplicates):
    """
    It makes no row, as the seal has it, and a venue could send a hundred thousand such frames in two minutes.
    """
    run = tape(tmp_path, 2)
    now = run.clock.now()
    frames = [book("BTC-PERP", 1, now, slot) for slot in range(20)]
    for frame in frames:
        for connection in (0, 1):
            run.frame(connection, 1, frame)
    kept = len(run._pairing._heard), len(run._pairing._kept)
    ended(run)

    assert kept == (0, 0)
    assert not any(duplicate for _, duplicate in duplicates)


BOOK = book("SOL-PERP", 7, 1_740_823_200 * SECOND_NS, 5, channel="orderbook_perp_7_grouped_1")
FILL = trade(7, 1_740_823_200 * SECOND_NS, 5)
NAMES = {
    "indices of a market that was asked for": lambda n: BOOK.replace(b"_7_", b"_%d_" % n).replace(b":7,", b":%d," % n),
    "markets nobody asked for": lambda n: NAMES["indices of a market that was asked for"](n).replace(
        b"SOL", b"M%d" % n
    ),
    "fills of unknown markets": lambda n: FILL.replace(b"perp_7", b"perp_%d" % n),
}


@pytest.mark.parametrize("named", NAMES)
def test_ever_new_names_are_kept_no_longer_than_memory_is_small(tmp_path, named):
    """
    A venue that never uses a name twice, and floods nobody: what is kept is little once each bound is reached, and
    grows no more. Counted by the interpreter. With a second copy, what makes rows is remembered for it besides, two
    minutes long and up to a bound of its own.
    """
    run = tape(tmp_path, 1 if "was asked for" in named else 2)
    made = NAMES[named]
    sizes, since = [], 0

    def kept(first, last):
        for number in range(first, last):
            run.frame(0, 1, made(number))
        deadline = time.monotonic() + 20
        while run.journal.queued_bytes:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # As each minute does it: what is counted of commits is as much as there were of them.
        run.take_counters()
        run.journal.take_stats()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    forget()
    tracemalloc.start()
    try:
        # Routes are forgotten as a whole each time there are so many: so looked at when there are as many again.
        for number in (1, MAX_ROUTES + 100, 3 * MAX_ROUTES + 100):
            sizes.append(kept(since, number))
            since = number
    finally:
        tracemalloc.stop()
    ended(run)

    assert sizes[1] - sizes[0] < 4 << 20
    # Tables of full caches are made anew now and then, whatever their entries: 300 KiB. Eight thousand names are more.
    assert sizes[2] - sizes[1] < 512 << 10
