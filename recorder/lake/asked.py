"""
What each run asked for at each moment of the two minutes before an hour. Pure.

Frames of that time are heard once more when the hour is sealed, for what another run brings of them later. Only one
that made a row in its own hour is the first of such a pair; whether it did hangs on what its run asked for as it came.
What the hour before handed over tells what was asked for at its end; facts tell what had changed until then, from the
header of the segment on in which the two minutes begin.
"""

from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from recorder.quality.runs import IN_FLIGHT_NS
from recorder.records import Entry, EntryKind, Moved, Requested, SegmentHeader, Stream, decode_fact

_Place = tuple[int, str, int]
"""Of an entry in the merged order: (`recv_ts`, run, seq)."""


class _Change(msgspec.Struct, frozen=True):
    """
    From this place on a stream was asked for, or not any more.
    """

    at: _Place
    stream: Stream
    asked: bool


class _Run:
    """
    What one run asked for.
    """

    def __init__(self, streams: list[Stream]) -> None:
        self.streams = streams
        """At the end of the hour before."""
        self.began: list[Stream] | None = None
        """What its first segment of the time was to record; None if that cannot be read."""
        self.before: dict[Stream, bool] = {}
        """Of those that any request was about: whether it was asked for until the first one."""
        self.now: dict[Stream, bool] = {}
        self.carriers: dict[Stream, set[int]] = {}
        """Connections that asked for it, or were to, as far as was seen."""
        self.leaving: dict[Stream, int] = {}
        """Since when no connection is known to carry it, ns."""
        self.changes: list[_Change] = []
        self._last: tuple[int, list[Stream]] = (-1, [])

    def change(self, at: _Place, stream: Stream, *, asked: bool) -> None:
        self.now[stream] = asked
        self.changes.append(_Change(at, stream, asked))

    def stay(self, stream: Stream) -> None:
        """
        Another connection carried it, of which nothing was seen: it was not let go of.
        """
        self.now[stream] = True
        last = max(n for n, change in enumerate(self.changes) if change.stream == stream)
        del self.changes[last]

    def after(self, count: int) -> list[Stream]:
        """
        What was asked for after so many changes. The last answer is kept: it is asked for frame by frame.
        """
        if self._last[0] != count:
            asked = self.before | {change.stream: change.asked for change in self.changes[:count]}
            others = [stream for stream in self.streams if stream not in asked]
            self._last = count, [*others, *(stream for stream, is_asked in asked.items() if is_asked)]
        return self._last[1]


class Asked:
    """
    Told of all entries from each run's first header up to the hour, in order; then asked about some of them.

    A stream let go of before that header, of which a frame came after it and within `IN_FLIGHT_NS`, counts as one that
    nobody asked for.
    """

    def __init__(self, runs: Mapping[str, list[Stream]]) -> None:
        """
        Args:
            runs: what each asked for as the hour before ended.
        """
        self._runs = {run: _Run(streams) for run, streams in runs.items()}

    def header(self, header: SegmentHeader) -> None:
        """
        Take a segment's header, before its entries.
        """
        run = self._runs.get(header.run)
        if run is not None and run.began is None:
            run.began = list(header.streams)

    def take(self, entry: Entry) -> None:
        """
        Take one entry.
        """
        if entry.kind == EntryKind.FRAME:
            return  # frames move no clock of the monitor's either
        at = entry.recv_ts, entry.run, entry.seq
        for known in self._runs.values():
            for stream, since in list(known.leaving.items()):
                if entry.recv_ts - since > IN_FLIGHT_NS:
                    del known.leaving[stream]
                    known.change(at, stream, asked=False)
        run = self._runs.get(entry.run)
        if run is None or entry.kind != EntryKind.FACT:
            return
        with suppress(msgspec.DecodeError):  # of a newer version
            fact = decode_fact(entry.payload)
            if isinstance(fact, Requested):
                self._requested(run, fact, entry.connection, at)
            elif isinstance(fact, Moved):
                run.carriers.setdefault(fact.stream, set()).add(fact.to_connection)

    def _requested(self, run: _Run, fact: Requested, connection: int, at: _Place) -> None:
        stream, subscribe = fact.stream, fact.op == "subscribe"
        if stream not in run.before:
            run.now[stream] = run.before[stream] = not subscribe or run.began is None or stream in run.began
        carriers = run.carriers.setdefault(stream, set())
        if subscribe:
            carriers.add(connection)
            run.leaving.pop(stream, None)
            if not run.now[stream]:
                run.change(at, stream, asked=True)
            return
        if not run.now[stream]:
            run.stay(stream)
        carriers.discard(connection)
        if not carriers:
            run.leaving[stream] = at[0]

    def end(self) -> None:
        """
        All entries have been told.
        """
        for run in self._runs.values():
            for stream, asked in run.now.items():
                if not asked and stream in run.streams:
                    run.stay(stream)

    def at(self, entry: Entry) -> tuple[list[Stream], int] | None:
        """
        What a run asked for when one of its entries came, and the number of changes until then; None if the hour
        before did not know of that run.
        """
        run = self._runs.get(entry.run)
        if run is None:
            return None
        count = bisect_right(run.changes, (entry.recv_ts, entry.run, entry.seq), key=lambda change: change.at)
        return run.after(count), count
