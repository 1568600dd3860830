"""
The carry: a fold that is cut anywhere, written to JSON and read back, comes to the same.
"""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from quality_cases import BTC, ETH, HOUR, SOL, SOL_TRADES, Tape, at, carried, feed, header, monitor, steady, trade_frame
from recorder.quality.monitor import Monitor
from recorder.quality.state import MonitorState
from recorder.quality.tracks import Tracks
from recorder.records import HOUR_NS, SECOND_NS, Entry, EntryKind, Moved, NotAcknowledged, Requested, RunStarted

STREAMS = [SOL, BTC, SOL_TRADES]
STEP_S = (0.0, 0.3, 0.9, 1.1, 3.0, 6.0, 15.0, 70.0, 4000.0)


@st.composite
def journals(draw: st.DrawFn) -> list[Entry]:
    """
    Two runs, two connections each, and everything that can happen to them, in any order.
    """
    tape = Tape()
    t = 3480.0
    tape.fact(t, RunStarted("a", "h", 1, "0", "v", "n", ["u"], STREAMS), run="a")
    actions = draw(
        st.lists(
            st.tuples(
                st.sampled_from(STEP_S),
                st.sampled_from(
                    ["alive"] * 4
                    + ["book"] * 4
                    + ["beat", "trade", "trade", "up", "down", "fail", "ask", "again", "leave", "move", "home"]
                    + ["start", "start beside", "stop", "junk", "stranger", "unacknowledged", "lost"]
                ),
                st.sampled_from("ab"),
                st.integers(0, 1),
                st.sampled_from(STREAMS),
                st.integers(1, 12),
            ),
            max_size=60,
        )
    )
    spans: list[tuple[float, float]] = []
    for step_s, action, run, connection, stream, number in actions:
        t = round(t + step_s + 0.001, 3)
        where = {"run": run, "connection": connection, "attempt": 1 + number // 6}
        match action:
            case "alive":
                tape.alive(t - 0.05, t, run=run)
            case "book":
                tape.book(t, BTC if stream == BTC else SOL, slot=number, **where)
            case "beat":
                tape.heartbeat(t, **where)
            case "trade":
                tape.trade(t, number, **where)
            case "up":
                tape.connection(t, t, STREAMS, **where)
            case "down":
                tape.disconnected(t, **where)
            case "fail":
                tape.connect_failed(t, run=run, connection=connection, attempt=where["attempt"])
            case "ask" | "again":
                tape.fact(t, Requested(stream, why="silent" if action == "again" else ""), **where)
            case "leave":
                tape.fact(t, Requested(stream, op="unsubscribe"), **where)
            case "move" | "home":
                tape.fact(t, Moved(stream, 1 - connection if action == "move" else connection, "why"), **where)
            case "start" | "start beside":
                beside = ["a", "b"] if action == "start beside" else []
                tape.fact(t, RunStarted(run, "h", 1, "0", "v", "n", ["u"], STREAMS, beside), run=run)
            case "stop":
                tape.stop(t, run=run)
            case "junk":
                tape.frame(t, b"junk", **where)
            case "stranger":
                tape.book(t, ETH, **where)
            case "unacknowledged":
                tape.fact(t, NotAcknowledged(stream, at(t - 10), 10.0), **where)
            case "lost":
                spans.append((t - number, t))
    return tape.entries(lost=spans)


def adopted(judge: Monitor) -> Monitor:
    """
    A monitor that was told of both runs, as a seal is by their segments.
    """
    judge.adopt(header("a", STREAMS))
    judge.adopt(header("b", STREAMS))
    return judge


@settings(max_examples=150, deadline=None)
@given(entries=journals(), cuts=st.lists(st.integers(0, 80), max_size=4))
def test_a_fold_that_is_cut_comes_to_the_same_events_and_the_same_state(entries, cuts):
    """
    Hours are sealed one by one, days apart, by different processes; their events must be those of one long fold.
    """
    whole = adopted(monitor())
    feed(whole, entries)

    judge = adopted(monitor())
    events = []
    for a, b in pairwise(sorted({0, len(entries), *(cut % (len(entries) + 1) for cut in cuts)})):
        events += judge.events
        judge = adopted(monitor(carried(judge.state())))
        feed(judge, entries[a:b])
    events += judge.events

    assert msgspec.json.encode(judge.state()) == msgspec.json.encode(whole.state())
    assert sorted(map(msgspec.json.encode, events)) == sorted(map(msgspec.json.encode, whole.events))


def overdue() -> list[Entry]:
    """
    A fill came after it had been told as missing.
    """
    tape = Tape()
    tape.run(3480, 3481, STREAMS)
    tape.connection(3480.1, 3481, STREAMS)
    tape.alive(3481, 3510)
    for t, fill_id in [(3482, 1), (3483, 3), (3499, 2)]:
        tape.trade(t, fill_id)
    return tape.entries()


@settings(max_examples=100, deadline=None)
@given(entries=journals())
@example(entries=overdue())
def test_events_keep_their_promises_whatever_happened(entries):
    """
    Bounds are in order, lie in what was folded, and no two events share an id, but the parts of a `trade_gap`: fills
    that came after all bear its id, and begin with it, and are taken away from it.
    """
    assume(entries)
    judge = adopted(monitor())
    feed(judge, entries)
    end = entries[-1].recv_ts + 61 * 10**9
    judge.finish(end, closed=True)

    first = min(entries[0].recv_ts, HOUR)
    for event in judge.events:
        assert first <= event.start <= event.end <= end
        assert event.evidence
        if event.kind != "trade_late":
            assert event.true_start == event.start
            assert event.missing is None or event.missing > 0
    whole = [e for e in judge.events if e.kind != "trade_late"]
    gaps = {e.event_id: e for e in whole if e.kind == "trade_gap"}
    for gap, late in [(gaps[e.event_id], e) for e in judge.events if e.kind == "trade_late"]:
        assert gap.start == late.true_start <= gap.end <= late.start
        assert -(gap.missing or 0) <= (late.missing or 0) < 0
    ids = [e.event_id for e in whole]
    assert len(ids) == len(set(ids)), [e for e in whole if ids.count(e.event_id) > 1]


def idle(state: MonitorState, hour: int, *, noisy: bool) -> tuple[MonitorState, int]:
    """
    One more hour of a run on the carry of the hour before it: its carry, and the number of events.

    Of the entries of each second only the last few are folded: those before change nothing but when and with what
    number the run was last heard, which is put into the carry.
    """
    entries = []
    for run in state.runs:
        end = hour + HOUR_NS
        run.last_ts, run.last_seq = hour - SECOND_NS, run.last_seq + 1000
        for n in range(8):
            # An hour is as quiet at its begin as at its end; in between the entries of each second are left out.
            at_ = hour + n * SECOND_NS
            entries.append(Entry(EntryKind.ALIVE, -1, 0, run.last_seq + 1 + n, at_, b"", run.run))
        if noisy:
            fills = state.fills["perp:0"].highest
            for n, fill_id in enumerate((fills + 2, fills + 3, fills + 3)):
                payload = trade_frame(fill_id, slot=1, ts=(end - SECOND_NS) // SECOND_NS)
                where = (run.last_seq + 9 + n, hour + 8 * SECOND_NS + n)
                entries.append(Entry(EntryKind.FRAME, 0, 1, *where, payload, run.run))
            entries.append(Entry(EntryKind.ALIVE, -1, 0, run.last_seq + 12, hour + 9 * SECOND_NS, b"", run.run))
    judge = monitor(state)
    feed(judge, entries)
    judge.turn_hour(hour + HOUR_NS)
    return carried(judge.state()), len(judge.events)


@pytest.mark.parametrize("noisy", [False, True])
def test_years_of_quiet_leave_the_carry_as_it_is(noisy):
    """
    Three years in which no book comes, or one fill in a gap and one repeat an hour: neither the state, nor what the
    manifest carries, nor the events of an hour grow.
    """
    tape = steady(3590, STREAMS)
    tape.trade(3580, 7)
    judge = monitor()
    feed(judge, tape.entries())
    judge.turn_hour(HOUR + HOUR_NS)
    state = carried(judge.state())
    sizes, counts = [], []
    for hour in range(1, 3 * 365 * 24, 12):
        state, events = idle(state, HOUR + hour * HOUR_NS, noisy=noisy)
        sizes.append(len(msgspec.json.encode(state)))
        counts.append(events)

    month = 30 * 2
    settled = max(sizes[month : 2 * month])
    # Numbers get longer, nothing else does.
    assert max(sizes[month:]) <= settled * 1.02 + 200
    assert max(counts[month:]) <= max(counts[1 : 2 * month])
    assert sizes[-1] < 60_000


@pytest.mark.parametrize("cut", [False, True])
def test_streams_that_end_together_end_in_one_order(cut, monkeypatch):
    """
    What is found of one may hang on what was said of another: not on which was asked for first, nor on a carry.
    """
    ended = []
    real = Tracks.end
    monkeypatch.setattr(
        Tracks, "end", lambda self, flow, *at: (ended.append(flow.stream.symbol), real(self, flow, *at))[1]
    )
    tape = steady(20, [SOL, ETH, BTC])
    tape.disconnected(20)
    entries = tape.entries()
    judge = monitor()
    feed(judge, entries[:-1])

    feed(monitor(carried(judge.state())) if cut else judge, entries[-1:])

    assert ended == ["BTC-PERP", "ETH-PERP", "SOL-PERP"]
