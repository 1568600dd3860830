"""
The hour's own tables, as the seal makes them of a journal.
"""

from pathlib import Path

import polars as pl
import pytest

from lake_cases import HOUR, NEXT, Run, S, make_root, recorded
from recorder.analysis import Lake
from recorder.lake.sealing import seal
from recorder.records import ConnectFailed, Disconnected, EntryKind, Rejected


@pytest.fixture
def root(tmp_path) -> Path:
    """
    A bound root.
    """
    return make_root(tmp_path / "root")


def test_an_hour_heard_twice_is_judged_by_the_better_of_both(root):
    """
    Two runs, each with a hole that the other has not: nothing is missing.
    """
    first = Run(root, HOUR, alive=True)
    first.connect(HOUR)
    second = Run(root, HOUR + S, nonce="bbbbbb", beside=(first,))
    second.connect(HOUR + S)
    first.hear(HOUR + S, HOUR + 600 * S)
    second.hear(HOUR + 2 * S, HOUR + 1200 * S, late=1000)
    first.hear(HOUR + 700 * S, NEXT)
    second.hear(HOUR + 1300 * S, NEXT, late=1000)
    first.close(NEXT)
    second.close(NEXT + S)

    seal(root, open_hour=True)

    books = Lake(root).coverage("SOL-PERP").filter(channel="orderbook").collect().row(0, named=True)
    assert books["carriers"] == 2
    assert books["ticks_missing"] == 0
    assert books["missing_s"] <= 1
    assert books["complete_s"] >= 3598
    assert "2 connections" in books["evidence"]


def test_the_hour_of_the_first_run_is_missing_before_it(root):
    """
    No event tells of a time before the first one.
    """
    recorded(root, HOUR + 600 * S, NEXT)

    seal(root, open_hour=True)

    coverage = Lake(root).coverage(end=NEXT).collect()
    assert set(coverage["span_why"].list.first()) == {"not running"}
    assert set(coverage.select(pl.col("span_start").list.get(1).cast(pl.Int64) - HOUR).to_series()) == {600 * S}
    total = pl.sum_horizontal("complete_s", "suspect_s", "missing_s", "unverifiable_s")
    assert coverage.select(total.round(6).alias("total"))["total"].to_list() == [3600] * 4


def test_the_hour_of_a_later_run_is_a_hole_before_it(root):
    """
    Also where nobody recorded since the hour began: there was a run before.
    """
    earlier = Run(root, HOUR + 600 * S, nonce="999999")
    earlier.connect(HOUR + 600 * S)
    earlier.hear(HOUR + 601 * S, HOUR + 1200 * S)
    earlier.close(HOUR + 1200 * S)
    recorded(root, NEXT + 600 * S, NEXT + 1200 * S)

    seal(root, open_hour=True)

    whys = Lake(root).spans(start=NEXT).filter(channel="orderbook", start=pl.lit(NEXT).cast(pl.Datetime("ns", "UTC")))
    assert whys.collect()["why"].to_list() == ["recorder_down"] * 2


def _alive(run: Run, start: int, end: int) -> None:
    for at in range(start, end + 1, S):
        run.put(EntryKind.ALIVE, at, b"", -1, 0)


def _refused(run: Run, at: int) -> None:
    run.fact(at, ConnectFailed("ws://x/ws", 1, "refused", "network", 1.0), 0)


def _rejected(run: Run, at: int) -> None:
    run.connect(at)
    for stream in run.streams:
        run.fact(at, Rejected(stream, "no such market"), 0)


@pytest.mark.parametrize("before_s", [None, 60], ids=["first ever", "after one of the hour before"])
@pytest.mark.parametrize(
    ("does", "lives_s", "why"),
    [
        (lambda *_: None, 4, {"disconnected"}),
        (lambda *_: None, 20, {"disconnected"}),
        (_refused, 20, {"disconnected"}),
        (_rejected, 20, {"connected", "rejected", "silent"}),
        (Run.connect, 4, {"connected"}),
    ],
    ids=["waits", "waits for long", "is refused", "is rejected", "hears nothing"],
)
def test_the_time_of_a_run_that_heard_nothing_before_it_was_killed_is_missing(root, does, lives_s, why, before_s):
    """
    The run after it carries the same streams, and says nothing of that time.
    """
    end = HOUR + lives_s * S
    if before_s is not None:
        earlier = Run(root, HOUR - before_s * S, nonce="999999")
        earlier.connect(HOUR - before_s * S)
        earlier.hear(HOUR - before_s * S + S, HOUR - 5 * S)
        earlier.close(HOUR - 5 * S)
    dead = Run(root, HOUR)
    does(dead, HOUR + S)
    _alive(dead, HOUR + S, end)
    dead.close()
    after = Run(root, HOUR + 30 * S, nonce="bbbbbb")
    after.connect(HOUR + 30 * S)
    after.hear(HOUR + 31 * S, HOUR + 120 * S)
    after.close(HOUR + 120 * S)

    seal(root, open_hour=True)

    for row in Lake(root).coverage(start=HOUR, end=NEXT).filter(symbol="SOL-PERP").collect().rows(named=True):
        starts = [round(at.timestamp()) - HOUR // S for at in row["span_start"]]
        spans = [*zip(starts, row["span_state"], row["span_why"], strict=True)]
        if row["channel"] == "trades" and before_s is not None:
            continue  # the fills of the runs around it prove their own gap
        before = [span for span in spans if span[0] < lives_s]
        near = {(1, "suspect", "near connected")} if row["channel"] == "trades" else set()
        assert {state for _, state, _ in {*before} - near} == {"missing"}
        assert {of for *_, of in {*before} - near} <= why
        assert (lives_s, "missing", "recorder_down") in spans


def test_a_connection_has_its_row(root):
    """
    Up, down, connects and heartbeats.
    """
    run = Run(root, HOUR)
    run.connect(HOUR)
    run.hear(HOUR + S, HOUR + 1000 * S)
    run.fact(HOUR + 1000 * S, Disconnected("ws://x/ws", 1, "network", "gone"), 0)
    run.connect(HOUR + 1010 * S)
    run.hear(HOUR + 1011 * S, NEXT)
    run.close(NEXT)

    seal(root, open_hour=True)

    (row,) = Lake(root).connections(end=NEXT).collect().rows(named=True)
    assert (row["connects"], row["disconnects"], row["connect_failures"], row["streams"]) == (2, 1, 0, 4)
    assert (row["up_s"], row["down_s"]) == (3590, 12)
    assert (row["heartbeats"], row["heartbeats_expected"]) == (716, 718)
    assert (row["longest_heartbeat_s"], row["share"]) == (5, 1)
