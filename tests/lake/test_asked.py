"""
What a run asked for before an hour is told from facts alone, and is what the monitor knew at each moment.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from quality_cases import BTC, ETH, SOL, Tape, at, book_frame, header, monitor
from recorder.lake.asked import Asked
from recorder.lake.plan import LOOK_BACK_NS
from recorder.quality.runs import IN_FLIGHT_NS
from recorder.records import Disconnected, EntryKind, Moved, Requested
from recorder.venue.protocol import peek

END = 200
"""Seconds at which the hour before is said to end: long enough for whatever lies before the two minutes."""
PROBATION = 2
HOMES = (0, 1)
"""Everything is recorded twice."""


class Recorder:
    """
    Writes the facts of a recorder whose markets are changed, moved and asked for again.
    """

    def __init__(self) -> None:
        self.tape = Tape()
        self.tape.run(0, END, [SOL, BTC])
        self.carried = {connection: {SOL, BTC} for connection in HOMES} | {PROBATION: set()}
        self.wanted: list[tuple[float, list]] = []
        for connection in HOMES:
            self.ask(0.1, connection, SOL)
            self.ask(0.1, connection, BTC)

    def ask(self, t, connection, stream, why=""):
        """
        A connection asks for a stream.
        """
        self.carried[connection].add(stream)
        self.tape.fact(t, Requested(stream, why=why), connection=connection, attempt=1)

    def leave(self, t, connection, stream):
        """
        It lets go of one, if it carries that.
        """
        if stream in self.carried[connection]:
            self.carried[connection].discard(stream)
            self.tape.fact(t, Requested(stream, op="unsubscribe"), connection=connection, attempt=1)

    def do(self, t, what, stream):
        """
        What a recorder does, where it can.
        """
        carried = any(stream in of for of in self.carried.values())
        if what == "remove" and carried:
            for connection in (*HOMES, PROBATION):
                self.leave(t + connection * 0.3, connection, stream)
        elif what == "add" and not carried:
            for connection in HOMES:
                self.ask(t + connection * 0.3, connection, stream)
        elif what == "to probation" and stream in self.carried[0]:
            self.tape.fact(t, Moved(stream, PROBATION, "silent"), connection=0, attempt=1)
            self.leave(t + 0.01, 0, stream)
            self.ask(t + 0.7, PROBATION, stream)
        elif what == "home" and stream in self.carried[PROBATION]:
            self.ask(t, 0, stream)
            self.tape.fact(t + 0.5, Moved(stream, 0, "it speaks again"), connection=0, attempt=1)
            self.leave(t + 0.51, PROBATION, stream)
        elif what == "again" and carried:
            connection = next(c for c, of in self.carried.items() if stream in of)
            self.ask(t, connection, stream, why="silent")
        elif what == "reconnect":
            self.tape.fact(t, Disconnected("ws://x", 1, "network", "gone"), connection=1, attempt=1)
            for each in sorted(self.carried[1], key=lambda s: s.symbol):
                self.ask(t + 0.5, 1, each)
        self.wanted.append((t, sorted(set().union(*self.carried.values()), key=lambda s: s.symbol)))


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(2, 30),
            st.sampled_from(["remove", "add", "to probation", "home", "again", "reconnect"]),
            st.sampled_from([SOL, BTC, ETH]),
        ),
        min_size=4,
        max_size=40,
    )
)
def test_what_was_asked_for_is_what_the_monitor_knew_whatever_changed(steps):
    """
    At each frame later than what is on its way for ten seconds as the two minutes begin.
    """
    recorder, t = Recorder(), 5.0
    for pause, what, stream in steps:
        t += pause
        if t > END - 2:
            break
        recorder.do(t, what, stream)
    for second in range(END - 120, END, 2):
        recorder.tape.book(second + 0.9, SOL)
    judge, seen = monitor(), peek(book_frame("SOL-PERP", 0, slot=1, ts=1))
    began = at(END) - LOOK_BACK_NS
    known = []
    window = []
    for entry in recorder.tape.entries():
        judge.step(entry, seen if entry.kind == EntryKind.FRAME else None)
        if entry.recv_ts >= began:
            window.append(entry)
            known.append(set(judge.asked()["a"]))

    asked = Asked(judge.asked())
    streams = next((of for t, of in reversed(recorder.wanted) if at(t) < began), [SOL, BTC])
    asked.header(header("a", streams))
    for entry in window:
        asked.take(entry)
    asked.end()

    for entry, expected in zip(window, known, strict=True):
        if entry.kind == EntryKind.FRAME and entry.recv_ts > began + IN_FLIGHT_NS + 1_000_000_000:
            found = asked.at(entry)
            assert found is not None
            assert set(found[0]) == expected


def test_of_a_run_that_the_hour_before_did_not_know_nothing_is_said():
    """
    Its frames count as what made rows.
    """
    tape = Tape()
    tape.book(1, SOL, run="b")
    asked = Asked({"a": [SOL]})
    (entry,) = tape.entries()
    asked.take(entry)
    asked.end()

    assert asked.at(entry) is None


def test_without_a_header_what_is_asked_for_had_been_before():
    """
    A segment whose beginning is damaged: no frame is taken for one that made no row.
    """
    tape = Tape()
    tape.book(1, SOL)
    tape.fact(2, Requested(SOL), connection=0, attempt=1)
    entries = tape.entries()
    asked = Asked({"a": [SOL]})
    for entry in entries:
        asked.take(entry)
    asked.end()

    assert asked.at(entries[0]) == ([SOL], 0)
