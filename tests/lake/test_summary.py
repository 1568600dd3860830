"""
The hour's own tables, as the seal makes them of a journal.
"""

from pathlib import Path

import polars as pl
import pytest

from lake_cases import BTC, HOUR, NEXT, SOL, SOL_TRADES, Run, S, book, make_root, recorded
from recorder.analysis import Lake
from recorder.lake.sealing import seal
from recorder.records import Connected, ConnectFailed, Disconnected, EntryKind, Fact, Moved, Rejected, Requested


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


class _Moving(Run):
    """
    A run whose BTC book comes all the time, and whose SOL book comes where and when it is told.
    """

    def __init__(self, root: Path, start: int, end: int) -> None:
        super().__init__(root, start, streams=(SOL, BTC))
        self._told: list[tuple[int, int, Fact | bytes]] = []
        """(recv_ts, connection, what)."""
        self._start, self._end = start, end
        self._up = {0: (start, end)}
        """When each connection has heartbeats."""

    def speak(self, start: int, end: int, connection: int = 0) -> None:
        """
        SOL's books, one a second.
        """
        self._told += [(at, connection, book("SOL-PERP", 0, at, at // S)) for at in range(start, end, S)]

    def move(self, at: int, of: int, to: int) -> None:
        """
        SOL's book is asked for on another connection, which is made for it, and let go of on its own.
        """
        self._told += [(at, of, Moved(SOL, to, "silent")), (at, of, Requested(SOL, op="unsubscribe"))]
        self._told += [(at, to, Connected("ws://x/ws", 1, 1.0, compressed=True)), (at, to, Requested(SOL))]
        self._up[to] = at, self._end

    def cut(self, at: int, connection: int) -> None:
        """
        A connection ends.
        """
        self._told.append((at, connection, Disconnected("ws://x/ws", 1, "network", "gone")))
        self._up[connection] = self._up[connection][0], at

    def write(self) -> None:
        """
        All of it in order, and the run's end.
        """
        self.connect(self._start)
        for at in range(self._start + S, self._end, S):
            self._told.append((at, 2, book("BTC-PERP", 1, at, at // S)))
            self._told.append((at, -1, b""))
        for connection, (start, end) in {**self._up, 2: (self._start, self._end)}.items():
            self._told += [(at, connection, b'{"channel":"heartbeat"}') for at in range(start + S, end, S)]
        for at, connection, told in sorted(self._told, key=lambda each: each[0]):
            if not isinstance(told, bytes):
                self.fact(at, told, connection)
            else:
                self.put(EntryKind.FRAME if told else EntryKind.ALIVE, at, told, connection, int(connection >= 0))
        self.close(self._end)


def _told_of_sol(root: Path, until: int) -> list[tuple[float, str, str]]:
    """
    The spans of its book from `NEXT` on, as (seconds since, state, why): the same live and sealed.
    """
    spans = [Lake(root, live=True).spans("SOL-PERP", NEXT).collect()]
    seal(root, open_hour=True)
    spans.append(Lake(root).spans("SOL-PERP", NEXT).collect())
    live, sealed = (
        each.filter(pl.col("channel") == "orderbook", pl.col("start").cast(pl.Int64) < until)
        .select((pl.col("start").cast(pl.Int64) - NEXT) / S, "state", "why")
        .rows()
        for each in spans
    )
    assert live == sealed
    return live


@pytest.mark.parametrize("moved_s", [-3, 0.25], ids=["before the turn", "after it"])
@pytest.mark.parametrize("back_s", [1.25, 11.25], ids=["comes soon", "comes later"])
def test_a_silence_over_the_hours_turn_is_told_where_the_stream_has_moved(root, moved_s, back_s):
    """
    Its event is of the connection that it began on, which brings nothing of the stream in the new hour.
    """
    run = _Moving(root, NEXT - 60 * S, NEXT + 60 * S)
    run.speak(NEXT - 59 * S, NEXT - 19 * S)
    run.move(NEXT + int(moved_s * S), 0, 1)
    run.speak(NEXT + int(back_s * S), NEXT + 60 * S, connection=1)
    run.write()

    assert _told_of_sol(root, NEXT + 50 * S) == [(0, "missing", "silent"), (back_s, "complete", "ticks")]


def test_an_outage_over_the_hours_turn_is_told_where_the_stream_has_moved(root):
    """
    The connection that was down carried the stream as the hour began, though it brought nothing of it since.
    """
    run = _Moving(root, NEXT - 60 * S, NEXT + 60 * S)
    run.speak(NEXT - 59 * S, NEXT - 9 * S)
    run.cut(NEXT - 9 * S, 0)
    run.move(NEXT + S // 2, 0, 1)
    run.speak(NEXT + S, NEXT + 60 * S, connection=1)
    run.write()

    assert _told_of_sol(root, NEXT + 50 * S) == [(0, "missing", "disconnected"), (1, "complete", "ticks")]


def test_an_outage_of_a_connection_that_had_a_stream_for_a_while_is_told(root):
    """
    Fills were asked for there, and none came before they were asked for on another.
    """
    run = Run(root, NEXT)
    run.connect(NEXT)
    run.hear(NEXT + S, NEXT + 30 * S)
    for connection, since in ((1, 30), (3, 50)):
        at = NEXT + since * S
        run.fact(at, Connected("ws://x/ws", 1, 1.0, compressed=True), connection)
        run.fact(at, Moved(SOL_TRADES, connection, "no place"), 0 if connection == 1 else 1)
        run.fact(at, Requested(SOL_TRADES), connection)
        if connection == 1:
            run.fact(at + 2 * S, Disconnected("ws://x/ws", 1, "network", "gone"), connection)
    run.close(NEXT + 90 * S)
    seal(root, open_hour=True)

    spans = Lake(root).spans("SOL-PERP", NEXT, NEXT + 90 * S).filter(channel="trades").collect()
    assert ("missing", "disconnected") in spans.select("state", "why").rows()


def test_what_nobody_asked_for_at_the_hours_turn_is_told_so(root):
    """
    A stream that a run takes in while it records, ten seconds after the turn.
    """
    run = Run(root, NEXT - 60 * S, streams=(BTC,))
    run.connect(NEXT - 60 * S)
    for at in range(NEXT - 59 * S, NEXT + 60 * S, S):
        if at == NEXT + 10 * S:
            run.wants((SOL, BTC))
            run.fact(at, Requested(SOL), 0)
        run.frame(at, book("BTC-PERP", 1, at, at // S))
        if at > NEXT + 10 * S:
            run.frame(at, book("SOL-PERP", 0, at, at // S))
        run.put(EntryKind.ALIVE, at, b"", -1, 0)
    run.close(NEXT + 60 * S)

    assert _told_of_sol(root, NEXT + 50 * S)[0] == (0, "missing", "nobody asked")
