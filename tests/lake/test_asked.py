"""
What a run asked for before an hour is told from facts alone, and is what the monitor knew at each moment.
"""

import msgspec
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from journal_cases import RUN, run_folder
from quality_cases import BTC, ETH, SOL, Tape, at, book_frame, monitor
from recorder.journal.entry import encode_entry, encode_header
from recorder.journal.names import segment_name
from recorder.journal.reader import segments
from recorder.lake.asked import Asked
from recorder.lake.plan import LOOK_BACK_NS, window
from recorder.lake.root import Binding
from recorder.lake.survey import HourJournal
from recorder.quality.runs import IN_FLIGHT_NS
from recorder.records import SECOND_NS, Disconnected, EntryKind, Moved, Requested, SegmentHeader
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


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(2, 30),
            st.sampled_from(["remove", "add", "to probation", "home", "again", "reconnect"]),
            st.sampled_from([SOL, BTC, ETH]),
        ),
        min_size=4,
        max_size=40,
    ),
    segment_s=st.integers(1, 180),
)
def test_what_was_asked_for_is_what_the_monitor_knew_whatever_changed(tmp_path_factory, steps, segment_s):
    """
    At each frame of the two minutes, however long before them the segment began in which they do; but not within ten
    seconds of the first header, where frames of what was let go of before it may be on their way.
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
    entries = [msgspec.structs.replace(entry, run=RUN) for entry in recorder.tape.entries()]
    known = {}
    for entry in entries:
        judge.step(entry, seen if entry.kind == EntryKind.FRAME else None)
        known[entry.seq] = set(judge.asked()[RUN])

    root = tmp_path_factory.mktemp("root")
    first = in_segments(root, entries, segment_s, recorder.wanted)
    asked = Asked(judge.asked())
    journal = HourJournal(window(segments(root), at(END)), at(END), until=at(END), binding=Binding(1, "v", "n"))
    for entry in journal.before(asked.header):
        asked.take(entry)
    asked.end()

    settled = max(first + IN_FLIGHT_NS + SECOND_NS, at(END) - LOOK_BACK_NS)
    for entry in entries:
        if entry.kind == EntryKind.FRAME and entry.recv_ts > settled:
            found = asked.at(entry)
            assert found is not None
            assert set(found[0]) == known[entry.seq]


def in_segments(journal, entries, segment_s, wanted):
    """
    Write a run's segments; when the one begins in which the two minutes do, ns.
    """
    folder = run_folder(journal)
    begin, first = 0, entries[0].recv_ts
    for number, entry in enumerate([*entries, None]):
        start = entries[begin].recv_ts
        if entry is not None and entry.recv_ts - start < segment_s * SECOND_NS:
            continue
        streams = next((of for t, of in reversed(wanted) if at(t) <= start), [SOL, BTC])
        content = [encode_header(SegmentHeader(1, RUN, "h", "0", "v", "n", streams), seq=begin + 1, recv_ts=start)]
        content += [
            encode_entry(e.kind, e.connection, e.attempt, e.seq, e.recv_ts, e.payload) for e in entries[begin:number]
        ]
        (folder / segment_name(start)).write_bytes(zstandard.compress(b"".join(content), 1))
        begin, first = number, start if start <= at(END) - LOOK_BACK_NS else first
    return first


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
