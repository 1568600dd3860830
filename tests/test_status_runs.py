"""
`status` where more than one run has recorded lately: beside one another, killed, or one after the other.
"""

import io

import msgspec
import pytest

from recorder import top
from recorder.durable import Lock
from recorder.journal.names import RUN_LOCK, run_name
from recorder.lake.layout import JOURNAL, parse_hour
from recorder.records import SECOND_NS, Stream
from recorder.show_status import print_status
from recorder.simulator.core import Venue
from recorder.simulator.kinds import Silence
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.status import follow
from recorder.status.follow import Follower
from recorder.status.markets import by_market
from recorder.terminal import PlainConsole
from virtual_recorder import VirtualRecorder

START = parse_hour("2026-03-01T10") + 600 * SECOND_NS
NAMES = ("SOL-PERP", "BTC-PERP")
PERPS = [market for market in DEFAULT_MARKETS if market.symbol in NAMES]
STREAMS = [
    Stream("perp", name, channel, 1 if channel == "orderbook" else None)
    for name in NAMES
    for channel in ("orderbook", "trades")
]


def at(seconds):
    """
    So long after the start, ns.
    """
    return START + seconds * SECOND_NS


@pytest.fixture
def record(tmp_path):
    """
    Makes a recording, with its lock held if it is alive; gives its name.
    """
    locks = []

    def made(start_s, until_s, *faults, beside=(), alive=True):
        venue = Venue(PERPS, start=START, faults=list(faults))
        recorder = VirtualRecorder(tmp_path, venue, STREAMS, start=at(start_s), beside=beside)
        recorder.until(at(until_s))
        recorder.journal.close(10)
        name = run_name(at(start_s), "aaaaaa")
        if alive:
            locks.append(Lock(tmp_path / JOURNAL / name / RUN_LOCK, holder=""))
        return name

    yield made
    for lock in locks:
        lock.release()


@pytest.fixture
def look(tmp_path, monkeypatch):
    """
    Gives the status at an instant, and what is printed of it.
    """
    followers = {}

    def looked(now_s, **options):
        monkeypatch.setattr(follow, "wall_ns", lambda: at(now_s))
        follower = followers.setdefault(str(options), None) or Follower(tmp_path, **options)
        followers[str(options)] = follower
        follower.advance()
        while follower.behind:
            follower.advance()
        status, console = follower.status(), PlainConsole(file=io.StringIO(), width=200)
        print_status(console, status, everything=False, looked_back_s=90)
        return status, console.file.getvalue()

    yield looked
    for follower in followers.values():
        follower.close()


def holes(of):
    """
    How many of each market, where there are any.
    """
    return {line.market: line.holes for line in by_market(of) if line.holes}


def test_what_the_others_had_is_told_soon_after_a_run_began_beside_them(record, look):
    """
    The one that goes on had a hole, the one that was killed was in the middle of one; the newest had none.
    """
    killed = record(2, 30, Silence(from_s=10, to_s=500, market="BTC-PERP"), alive=False)
    older = record(0, 60, Silence(from_s=10, to_s=31, market="SOL-PERP"), beside=[killed])
    newest = record(45, 60, beside=[older])

    status, words = look(60)

    assert (status.run, status.ready, status.beside, holes(status)) == (newest, True, [older], {})
    assert [(other.run, other.alive, holes(other)) for other in status.others] == [
        (killed, False, {"BTC-PERP": 1}),
        (older, True, {"SOL-PERP": 1}),
    ]
    assert [other.down_s for other in status.others] == [None, None], "somebody recorded all the while"
    assert {(event.run, event.symbol) for event in status.recent if event.kind == "silent"} == {
        (killed, "BTC-PERP"),
        (older, "SOL-PERP"),
    }
    assert status.recent == sorted(status.recent, key=lambda event: -event.end)
    assert f"beside        {older} for 1 min 00 s, 4 of 4 streams; holes: SOL-PERP 1 (2" in words
    assert f"before        {killed} died, or was killed, at 10:10:30; holes: BTC-PERP 1 (2" in words
    assert f"of run {newest} alone" in words
    assert "aaaaaa silent SOL-PERP orderbook: no book for 2" in words
    lines = str(top._connections(status)).splitlines()
    assert [line.partition(";")[0] for line in lines[1:]] == [
        "before  aaaaaa holes: BTC-PERP 1 (20.4 s)",
        "beside  aaaaaa holes: SOL-PERP 1 (20.8 s)",
        f"conn 0  up, 4 streams, beat {status.connections[0].heartbeat_age_s:.0f} s ago",
    ]
    assert len(msgspec.json.decode(msgspec.json.encode(status))["others"]) == 2


def test_what_the_one_beside_has_now_is_told_though_the_newest_has_it_not(record, look):
    """
    Everything is recorded, by one of them; of the other it is said what it lacks.
    """
    older = record(0, 60, Silence(from_s=40, to_s=500, market="SOL-PERP"))
    record(30, 60, beside=[older])

    status, words = look(60)

    assert (status.ready, status.problems) == (True, [])
    assert status.others[0].problems == ["SOL-PERP orderbook: silent, brings no book"]
    assert "3 of 4 streams; no holes; SOL-PERP orderbook: silent, brings no book" in words


def test_after_a_restart_the_time_between_is_told_and_in_the_end_forgotten(record, look):
    """
    By one who has looked on since before: the run that was followed first is the one before, until that is long ago.
    """
    first = record(0, 20, alive=False)
    assert look(25)[0].run == first
    again = record(30, 60)

    status, words = look(60)

    assert (status.run, [other.run for other in status.others]) == (again, [first])
    assert 9.5 < status.others[0].down_s < 10.5
    assert f"before        {first} died, or was killed, at 10:10:20, and nobody recorded for 10" in words
    last = record(61, 120, alive=True)
    status, _ = look(120)
    assert (status.run, [other.run for other in status.others]) == (last, [again])


def test_a_run_that_ended_long_before_is_not_read(record, look):
    """
    Nor one whose files are newer than what is in them.
    """
    record(0, 20, alive=False)
    record(30, 140)

    status, words = look(140)

    assert status.others == []
    assert "alone" not in words
