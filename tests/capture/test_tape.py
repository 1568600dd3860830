"""
Where everything heard goes: what the live monitor is told of copies.
"""

import time

import pytest

from lake_cases import SOL, SOL_TRADES, book, trade
from recorder.capture.tape import Tape, TapeSettings
from recorder.journal.writer import Journal, JournalSettings
from recorder.quality.monitor import Monitor
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
