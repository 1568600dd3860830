"""
What several streams of one connection had at once is one event of the connection; else each has its own. Pure.

A tick that all markets missed is the publisher's, or that of the way here; one that a single market missed is that
market's. So what is found of one stream waits until its neighbours have been judged, too: `GATHER_NS` after the last
of them, and while more is found, or others still have the same, for half a minute at most.
"""

from collections.abc import Iterable
from statistics import median_high, median_low

import msgspec

from recorder.quality.connections import Connections
from recorder.quality.events import build, channel_of
from recorder.quality.findings import Findings
from recorder.quality.flows import Flows, is_book, sortable
from recorder.quality.state import Often, Outage, Stretch
from recorder.records import SECOND_NS, Cause, Event

GATHER_NS = 2 * SECOND_NS
PATIENCE_NS = 20 * SECOND_NS
"""How long what has ended waits for neighbours that still have the same, and for a pause in what is found."""
SETTLED_NS = 10 * SECOND_NS
"""Where there is no pause, what has had no more neighbours for so long is told."""
FEWEST = 3
SHARE = 0.8
"""So many streams of a connection, and so much of all it carries, and the event is the connection's."""
MAX_GATHERED = 8192
DOUBTED = 2
"""`Stretch.late` of a hole that may be none."""
TARDY = 3
"""Likewise, of a tick that was late for good: none, if it was late for all."""
CUT_OFF = 4
"""Likewise, of books that may only have been late when the run ended."""
APART_NS = 100_000_000
"""Books of one tick come nearer to each other than this."""
MINUTE_NS = 60 * SECOND_NS
MAX_A_MINUTE = 8
"""Events of one kind and place in a minute; more are told as one, a minute long at most."""

_Key = tuple[str, int, str]


class Spells:
    """
    Gathers stretches of streams into events.
    """

    def __init__(
        self, stretches: list[Stretch], often: list[Often], flows: Flows, connections: Connections, findings: Findings
    ) -> None:
        self._gathered: dict[_Key, list[Stretch]] = {}
        for stretch in stretches:
            self._gathered.setdefault(_key(stretch), []).append(stretch)
        self._often = {(o.kind, o.run, o.connection, o.stream): o for o in often}
        self._flows = flows
        self._connections = connections
        self._findings = findings

    def snapshot(self) -> tuple[list[Stretch], list[Often]]:
        """
        For the carry; the order does not depend on how often one was taken.
        """
        gathered = [stretch for key in sorted(self._gathered) for stretch in sorted(self._gathered[key], key=_order)]
        return gathered, sorted(self._often.values(), key=_place)

    def add(self, stretch: Stretch) -> None:
        """
        Something was found of one stream.
        """
        gathered = self._gathered.setdefault(_key(stretch), [])
        gathered.append(stretch)
        if len(gathered) >= MAX_GATHERED:
            self._tell(_key(stretch), [])

    def clock(self, run: str, now: int, going_on: Iterable[Stretch]) -> None:
        """
        Time has come to `now`, as an entry of the run says; `going_on` is looked at only if something waits.
        """
        if self._gathered:
            others: set[_Key] | None = None
            for key in [key for key in sorted(self._gathered) if key[0] == run]:
                added = [stretch.added for stretch in self._gathered[key]]
                waited = now - min(added) >= PATIENCE_NS
                if now - max(added) >= GATHER_NS:
                    if not waited and others is None:
                        others = {_key(stretch) for stretch in going_on}
                    if waited or key not in (others or ()):
                        self._tell(key, [])
                elif waited:
                    self._tell_settled(key, now - SETTLED_NS)
        if self._often:
            for place in [k for k, o in self._often.items() if o.run == run and now - max(o.since, o.last) > MINUTE_NS]:
                self._end_often(self._often.pop(place))

    def close(self, run: str, connection: int | None = None) -> None:
        """
        A connection, or all of a run, has come to an end.
        """
        for key in [k for k in sorted(self._gathered) if k[0] == run and connection in {None, k[1]}]:
            self._tell(key, [])
        if connection is None:
            for place in [k for k, o in self._often.items() if o.run == run]:
                self._end_often(self._often.pop(place))

    def turn_hour(self) -> None:
        """
        What is told as one ends with the hour.
        """
        for often in self._often.values():
            self._end_often(often)
        self._often.clear()

    def finish(self, going_on: Iterable[Stretch]) -> list[Event]:
        """
        Tell all that waits. Returns what goes on: it may have neighbours among what has ended.
        """
        still: dict[_Key, list[Stretch]] = {}
        for stretch in going_on:
            still.setdefault(_key(stretch), []).append(stretch)
        events: list[Event] = []
        for key in sorted(self._gathered.keys() | still.keys()):
            events += self._tell(key, still.get(key, []))
        self.turn_hour()
        return events

    # ---- events

    def _tell_settled(self, key: _Key, before: int) -> None:
        """
        Tell what had the last of its neighbours before a time.
        """
        settled: list[Stretch] = []
        waiting: list[Stretch] = []
        for cluster in clusters(self._gathered[key]):
            (settled if max(stretch.added for stretch in cluster) <= before else waiting).extend(cluster)
        if settled:
            self._gathered[key] = settled
            self._tell(key, [])
        if waiting:
            self._gathered[key] = waiting

    def _tell(self, key: _Key, still: list[Stretch]) -> list[Event]:
        """
        Put what was gathered into events, and return those of what goes on.
        """
        run, connection, _ = key
        ended = self._gathered.pop(key, [])
        if not ended and not still:
            return []
        books = [f.stream for f in self._flows.of_connection(run, connection) if is_book(f.stream) and not f.silent]
        open_ids = {id(stretch) for stretch in still}
        going_on: list[Event] = []
        for cluster in clusters(ended + still):
            streams = {stretch.stream for stretch in cluster}
            carried = len(streams.union(books))
            goes_on = any(id(stretch) in open_ids for stretch in cluster)
            if len(streams) >= SHARE * carried and sum(s.late == TARDY for s in cluster) * 2 > len(cluster):
                # The publisher's timer stood still: it left no book out. A stream that missed more did miss one.
                cluster = _beyond(cluster)  # noqa: PLW2901
                streams = {stretch.stream for stretch in cluster}
            if len(streams) >= FEWEST and len(streams) >= SHARE * carried:
                event = self._of_connection(cluster, len(streams), carried)
                if goes_on:
                    going_on.append(event)
                else:
                    self._emit(cluster[0], event, None)
                continue
            for stretch in cluster:
                event = self._of_stream(stretch, len(streams), carried)
                if id(stretch) in open_ids:
                    going_on.append(event)
                else:
                    self._emit(stretch, event, stretch)
        return going_on

    def _of_connection(self, cluster: list[Stretch], streams: int, carried: int) -> Event:
        worst = max(cluster, key=lambda s: (s.end - s.start, s.words))
        start, end = min(s.start for s in cluster), max(s.end for s in cluster)
        counts = [s.missing for s in cluster if s.missing is not None]
        cause, why = self._cause(cluster, start, end, alone=False)
        all_of = f"all {carried}" if streams == carried else f"{streams} of {carried}"
        return build(
            worst.kind,
            cause=cause,
            start=start,
            end=end,
            run=worst.run,
            connection=worst.connection,
            scope="connection",
            missing=sum(counts) if counts else None,
            evidence=f"{all_of} book streams of the connection at once: {worst.words}; {why}",
        )

    def _of_stream(self, stretch: Stretch, streams: int, carried: int) -> Event:
        cause, why = self._cause([stretch], stretch.start, stretch.end, alone=streams < carried)
        if streams < carried:
            compared = f"{carried - streams} of {carried} book streams of the connection did not have it"
        elif carried > 1:
            compared = f"so had all {carried} book streams of the connection"
        else:
            compared = "no other book stream of the connection to compare it with"
        return build(
            stretch.kind,
            cause=cause,
            start=stretch.start,
            end=stretch.end,
            run=stretch.run,
            connection=stretch.connection,
            scope="stream",
            symbol=stretch.stream.symbol,
            channel=channel_of(stretch.stream),
            missing=stretch.missing,
            first_slot=stretch.first_slot,
            last_slot=stretch.last_slot,
            evidence=f"{stretch.words}; {compared}; {why}",
        )

    def _cause(self, cluster: list[Stretch], start: int, end: int, *, alone: bool) -> tuple[Cause, str]:
        first = cluster[0]
        ours = self._findings.ours_between(start, end, run=first.run)
        if ours is not None and first.kind in {"cadence_hole", "backlog"}:
            return "recorder", ours
        if first.kind == "backlog":
            if alone:
                return "venue", "others were in time on the same connection"
            burst = min(s.late for s in cluster)
            return self._connections.held_by(first.run, first.connection, start, burst, end)
        if first.kind == "cadence_hole":
            if any(s.late == DOUBTED for s in cluster):
                return "unknown", "a slower publisher and a lost book look the same"
            if any(s.late for s in cluster):
                return (
                    "unknown",
                    "the books around it were late: a server drops books for a slow client",
                )
            return "venue", "later books came in order on the same connection, so these were not sent"
        if first.kind == "clock_skew":
            return "venue", "our own clock did not step meanwhile"
        return "venue", "frames came all the while"

    # ---- floods

    def _emit(self, found: Stretch, event: Event, stretch: Stretch | None) -> None:
        if event.kind == "backlog":
            # A server drops trades, too, for who is slow.
            why = f"books were late meanwhile: {event.evidence}"
            cause: Cause = "unknown" if event.cause == "network" else event.cause
            self._findings.outage(Outage(event.start, event.end, cause, why, event.run, event.connection))
        stream = stretch.stream if stretch is not None else None
        place = (found.kind, found.run, found.connection, stream)
        often = self._often.get(place)
        if often is None:
            often = self._often[place] = Often(*place, since=found.added)
        if often.first is None and found.added - often.since > MINUTE_NS:
            often.since, often.told = found.added, 0
        if often.told < MAX_A_MINUTE:
            often.told += 1
            self._findings.events.append(event)
            return
        if often.first is not None and (
            event.start - often.first.end > MINUTE_NS // MAX_A_MINUTE or event.start - often.first.start > MINUTE_NS
        ):
            # What lies between is no hole; or it has gone on for long enough to be told.
            self._end_often(often)
            often.first, often.count, often.missing = None, 0, 0
        often.last = found.added
        often.count += 1
        often.missing += event.missing or 0
        if often.first is None:
            often.first = event
        else:
            start, end = min(often.first.start, event.start), max(often.first.end, event.end)
            often.first = msgspec.structs.replace(often.first, end=end, start=start, true_start=start)

    def _end_often(self, often: Often) -> None:
        if often.first is None:
            return
        event = often.first
        again = build(
            event.kind,
            cause=event.cause,
            start=event.start,
            end=event.end,
            run=event.run,
            connection=event.connection,
            scope=event.scope,
            symbol=event.symbol,
            channel=event.channel,
            missing=often.missing or None,
            evidence=f"{often.count} of them within this time; the first: {event.evidence}"
            if often.count > 1
            else event.evidence,
        )
        self._findings.events.append(again)


def clusters(stretches: list[Stretch]) -> list[list[Stretch]]:
    """
    Stretches that have an instant in common, in order of time.
    """
    found: list[list[Stretch]] = []
    common_end = 0
    for stretch in sorted(stretches, key=_order):
        # Sorted by their start, so the last one's start is where the common part begins.
        if found and stretch.start < common_end:
            found[-1].append(stretch)
            common_end = min(common_end, stretch.end)
        else:
            found.append([stretch])
            common_end = stretch.end
    return found


def _beyond(cluster: list[Stretch]) -> list[Stretch]:
    """
    The holes that begin before, or end after, those of most streams.
    """
    start, end = median_high(s.start for s in cluster), median_low(s.end for s in cluster)
    missed = median_low(s.missing or 0 for s in cluster)
    return [
        msgspec.structs.replace(s, missing=max((s.missing or 0) - missed, 1))
        for s in cluster
        if s.start < start - APART_NS or s.end > end + APART_NS
    ]


def _key(stretch: Stretch) -> _Key:
    return stretch.run, stretch.connection, stretch.kind


def _order(stretch: Stretch) -> tuple[object, ...]:
    return stretch.start, stretch.end, sortable(stretch.stream), stretch.words


def _place(often: Often) -> tuple[object, ...]:
    stream = sortable(often.stream) if often.stream is not None else ()
    return often.run, often.connection, often.kind, stream
