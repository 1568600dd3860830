"""
What several streams had at once is one event; floods are told as one; live and at seal the same.
"""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quality_cases import BTC, ETH, SOL, carried, monitor
from quality_runs import START, events_of, folded, hear, seconds_of, unusual_events
from recorder.quality.spells import clusters
from recorder.quality.state import Stretch
from recorder.records import HOUR_NS, SECOND_NS, Entry, EntryKind, Event, Stream
from recorder.simulator.drive import Link
from recorder.simulator.kinds import Freeze, SkipFrames
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.simulator.mixtures import random_faults
from recorder.simulator.rhythm import AS_CAPTURED
from recorder.venue.protocol import peek


def stretch(start: int, end: int, stream: Stream = SOL) -> Stretch:
    """
    Of a stream.
    """
    return Stretch("frozen", "r", 0, stream, start, end, end, "words")


@given(spans=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=12))
def test_a_cluster_has_an_instant_in_common_and_each_stretch_one_cluster(spans):
    """
    Else one event would cover what none of them had.
    """
    stretches = [stretch(start, start + length) for start, length in spans]

    found = clusters(stretches)

    assert sorted(id(s) for cluster in found for s in cluster) == sorted(map(id, stretches))
    for cluster in found:
        assert max(s.start for s in cluster) < min(s.end for s in cluster)


def test_holes_one_after_another_of_one_stream_are_two():
    """
    They touch in a book that did come.
    """
    assert [len(cluster) for cluster in clusters([stretch(1, 5), stretch(5, 9), stretch(1, 5, BTC)])] == [2, 1]


@pytest.mark.parametrize(("markets", "scopes"), [("SOL-PERP,BTC-PERP", 2), ("SOL-PERP,BTC-PERP,ETH-PERP", 3)])
def test_fewer_than_four_in_five_streams_have_their_own_events(markets, scopes):
    """
    The others had their books.
    """
    events = events_of(hear(SkipFrames(from_s=30.1, to_s=32.3, market=markets, every=5), markets=6))

    assert [e.scope for e in events] == ["stream"] * scopes


def test_most_streams_of_a_connection_are_the_connection():
    """
    Five of six: the publisher, or the way here, with an exception.
    """
    names = ",".join(f"{m.market_type}:{m.symbol}" for m in DEFAULT_MARKETS[:5])
    (event,) = events_of(hear(SkipFrames(from_s=30.1, to_s=32.3, market=names, every=5), markets=6))

    assert (event.scope, event.missing) == ("connection", 5)
    assert event.evidence.startswith("5 of 6 book streams of the connection at once")


def test_what_ended_waits_for_what_goes_on():
    """
    One market that thaws earlier does not make two events of one.
    """
    faults = [
        Freeze(from_s=30.1, to_s=60.1 + 3 * n, market=m.symbol, what="slot") for n, m in enumerate(DEFAULT_MARKETS[:3])
    ]
    (event,) = events_of(hear(*faults, seconds=90))

    assert (event.kind, event.scope, seconds_of(event)) == ("frozen", "connection", (30.0, 66.4))


def test_losses_that_never_pause_are_told_while_they_go_on():
    """
    Each market loses some books in its own rhythm, so that there is a hole every second: the live screens know of the
    first ones within half a minute, and a minute that is told as one ends.
    """
    losses = [SkipFrames(from_s=20, to_s=260, market=m.symbol, every=5 + n) for n, m in enumerate(DEFAULT_MARKETS[:4])]
    entries = hear(*losses, seconds=270, markets=4)
    judge, told = monitor(), []
    for entry in entries:
        known = len(judge.events)
        judge.step(entry, peek(entry.payload) if entry.kind == EntryKind.FRAME else None)
        told += [(entry.recv_ts, event) for event in judge.events[known:] if event.kind == "cadence_hole"]

    (first_ts, first), *_ = told
    assert first_ts - first.end < 30 * SECOND_NS
    assert max(event.end - event.start for _, event in told) < 65 * SECOND_NS
    assert max(at - event.start for at, event in told) < 100 * SECOND_NS
    frames = len([e for e in hear(seconds=270, markets=4) if e.kind == EntryKind.FRAME])
    lost = frames - len([e for e in entries if e.kind == EntryKind.FRAME])
    assert sum(event.missing or 0 for event in events_of(entries)) == lost


def test_streams_with_and_without_a_grouping_can_be_told_of_together():
    """
    They are put in order by name, whatever they have.
    """
    plain = msgspec.structs.replace(SOL, grouping=None)
    assert len(clusters([stretch(1, 5, s) for s in (SOL, plain, ETH)])[0]) == 3


def mixture(seed: int, start: int) -> list[Entry]:
    """
    A run through random faults.
    """
    faults = random_faults(seed, 100, DEFAULT_MARKETS[:4])
    links = {0: Link(latency_ms=20, jitter_ms=10), 1: Link(stalls_s=((40, 44),))}
    return hear(
        *faults,
        seconds=110,
        markets=4,
        connections=2,
        links=links,
        start=start,
        rhythm=AS_CAPTURED,
        two_feeds=seed % 3 == 0,
    )


def in_parts(entries: list[Entry], cuts: list[int]) -> tuple[list[Event], bytes]:
    """
    Events and end state of a fold whose state goes through JSON at each cut.
    """
    events: list[Event] = []
    state = monitor().state()
    bounds = sorted({0, len(entries), *(cut % (len(entries) + 1) for cut in cuts)})
    for a, b in pairwise(bounds):
        judge, _ = folded(entries[a:b], carried(state))
        events += judge.events
        state = judge.state()
    return events, msgspec.json.encode(state)


@settings(max_examples=12, deadline=None)
@example(seed=8172, cuts=[0], late=False)  # slots leap just before two feeds are told apart
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 5000), min_size=1, max_size=5), late=st.booleans())
def test_a_run_through_random_faults_comes_to_the_same_however_it_is_cut(seed, cuts, late):
    """
    Hours are sealed by different processes, the live monitor folds on: the same events, and the same carry.
    """
    entries = mixture(seed, START + (HOUR_NS - 50 * SECOND_NS if late else 0))

    whole, _ = folded(entries)
    events, state = in_parts(entries, cuts)

    assert state == msgspec.json.encode(whole.state())
    assert sorted(map(msgspec.json.encode, events)) == sorted(map(msgspec.json.encode, whole.events))
    ids = [e.event_id for e in events]
    assert len(ids) == len(set(ids)), [e for e in events if ids.count(e.event_id) > 1]
    assert all(e.start <= e.end and e.evidence for e in events)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_run_is_told_of_as_it_told_of_itself_also_among_others(seed):
    """
    The seal folds all runs at once; what the live monitor of each said of its own streams and connections stands.
    """
    mine = mixture(seed, START)
    other = [msgspec.structs.replace(e, run="s") for e in hear(seconds=112, markets=4, start=START)]
    begun = other[0].payload.replace(b'"run":"r"', b'"run":"s"').replace(b'"beside":[]', b'"beside":["r"]')
    other[0] = msgspec.structs.replace(other[0], payload=begun)
    live, _ = folded(mine)
    both, _ = folded(sorted([*mine, *other], key=lambda e: (e.recv_ts, e.run, e.seq)))

    def told(events: list[Event]) -> list[Event]:
        kinds = {"cadence_hole", "backlog", "frozen", "two_feeds", "slot_regression", "slot_jump", "clock_skew"}
        kinds |= {"silent", "halted", "disconnected", "heartbeat_gap"}
        return [e for e in unusual_events(events) if e.run == "r" and e.kind in kinds]

    assert told(both.events) == told(live.events)
