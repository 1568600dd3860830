"""
Streams as connections hear them: which are asked for, which are silent, which row comes first after a hole. Pure.

A book comes each tick, changed or not, so one that does not come is silent whatever the heartbeats say. Silence in
`trades` proves nothing. Each connection is judged by itself, also where several carry the same stream.
"""

from collections.abc import Iterable, Iterator

import msgspec

from recorder.quality import cadence, lateness
from recorder.quality.connections import DEAD_AFTER_NS, Connections
from recorder.quality.events import build, channel_of
from recorder.quality.findings import Findings
from recorder.quality.state import UNKNOWN_CONNECTION, FlowState, RunState
from recorder.quality.track import Track
from recorder.records import SECOND_NS, Cause, Event, Flag, Stream
from recorder.venue.protocol import BOOK_CHANNELS, ack_text

_Key = tuple[str, int, Stream]
# Plain integers: members of an IntFlag are slow to combine.
FIRST_AFTER_GAP, MAYBE_INITIAL = Flag.FIRST_AFTER_GAP.value, Flag.MAYBE_INITIAL.value


class Flows:
    """
    All streams of all connections and runs.
    """

    def __init__(
        self, flows: list[FlowState], runs: dict[str, RunState], connections: Connections, findings: Findings
    ) -> None:
        self._flows: dict[_Key, FlowState] = {}
        self._places: dict[tuple[str, int], dict[Stream, FlowState]] = {}
        """The same by connection: it has many, and is asked for often."""
        for flow in flows:
            self._put(flow)
        self._runs = runs
        self._connections = connections
        self._findings = findings

    def snapshot(self) -> list[FlowState]:
        """
        For the carry; the order does not depend on how often one was taken.
        """
        return in_order(self._flows.values())

    def carriers(self) -> dict[Stream, set[tuple[str, int]]]:
        """
        The connections that carry each stream now, as (run, connection).
        """
        carriers: dict[Stream, set[tuple[str, int]]] = {}
        for flow in self._flows.values():
            carriers.setdefault(flow.stream, set()).add((flow.run, flow.connection))
        return carriers

    def of_connection(self, run: str, connection: int) -> list[FlowState]:
        """
        What a connection carries.
        """
        return list(self._places.get((run, connection), {}).values())

    def carried(self, run: str, stream: Stream) -> bool:
        """
        Whether any connection of the run carries the stream.
        """
        return any(stream in there for (of, _), there in self._places.items() if of == run)

    def of_run(self, run: str) -> list[FlowState]:
        """
        What all connections of a run carry.
        """
        return [f for f in self._flows.values() if f.run == run]

    def all(self) -> list[FlowState]:
        """
        Every one; the order does not depend on how often a carry was taken.
        """
        return self.snapshot()

    def recorded_for(self, run: str, now: int) -> int:
        """
        How long a run has recorded, ns.
        """
        return now - self._runs[run].started

    def usual_pace(self, flow: FlowState) -> int | None:
        """
        The fastest cadence of the run's other streams, ms; None while none is known.
        """
        tracks = (other.track for other in self.of_run(flow.run) if other is not flow)
        return min((t.cadence for t in tracks if t is not None and t.cadence), default=None)

    def heard_by_another(self, flow: FlowState, ts: int) -> bool:
        """
        Whether another connection or run has the stream's books up to about `ts`, ms, with no hole just before.
        """
        return any(
            not other.silent
            and not other.fresh & FIRST_AFTER_GAP
            and other.track is not None
            and other.track.ts >= ts
            and not other.track.holes
            for other in self._elsewhere(flow)
        )

    def carried_on(self, flow: FlowState) -> bool:
        """
        Whether another connection or run has heard the stream since.
        """
        return any(other.last > flow.last and not other.silent for other in self._elsewhere(flow))

    def last_of(self, run: str, stream: Stream) -> int:
        """
        When any connection of a run last brought a stream, or was asked for it; 0 if none carries it.
        """
        return max(
            (max(f.last, f.since) for f in self._flows.values() if f.run == run and f.stream == stream), default=0
        )

    # ---- what is asked for

    def find(self, run: RunState, connection: int, stream: Stream, now: int) -> FlowState | None:
        """
        The flow a frame belongs to; None for a late frame of what the run no longer asks for.
        """
        flow = self._flows.get((run.run, connection, stream)) or self._take_over(run.run, connection, stream)
        if flow is None and not run.known:
            # What the run asked for in entries we do not have.
            flow = self.expect(run.run, connection, stream, now)
        if flow is None:
            # Still under way when the stream moved: it was heard all the same.
            flow = next((f for f in self._flows.values() if f.run == run.run and f.stream == stream), None)
        return flow

    def expect(self, run: str, connection: int, stream: Stream, now: int) -> FlowState:
        """
        A stream is to come on a connection from now on.
        """
        up = self._connections.may_be_up(run, connection)
        flow = FlowState(run, connection, stream, now, up=up, track=Track(gap=2) if is_book(stream) else None)
        self._put(flow)
        return flow

    def request(self, run: str, connection: int, stream: Stream, now: int, *, again: bool, added: bool = False) -> None:
        """
        A subscribe went out; `again` on a connection that has asked for the stream before. `added`: nobody had.
        """
        flow = self._flows.get((run, connection, stream)) or self._take_over(run, connection, stream)
        if flow is None:
            # A copy of one that was added just before is as new.
            added = added or any(f.added for f in self.of_run(run) if f.stream == stream)
            flow = self.expect(run, connection, stream, now)
            flow.fresh = FIRST_AFTER_GAP
            flow.added = added and flow.up and is_book(stream) and not self._connections.in_outage(run, connection)
        elif not (again or flow.silent or flow.added or flow.moved) and self._connections.in_outage(run, connection):
            # Until now the outage tells of it. One that has moved here is expected since its move, and a silence that
            # came along goes on.
            flow.since = now
        flow.up = self._connections.may_be_up(run, connection)
        if is_book(stream):
            flow.fresh |= MAYBE_INITIAL
            flow.asked = now
            flow.awaited = flow.awaited or flow.last < flow.since

    def awaits(self, run: str, connection: int) -> bool:
        """
        Whether a connection owes a book that has not come since it was down, and is not silent by itself.
        """
        return any(f.awaited for f in self._places.get((run, connection), {}).values())

    def release(self, run: str, connection: int, stream: Stream, now: int, ended_by: str) -> None:
        """
        A connection no longer carries a stream.
        """
        flow = self._flows.get((run, connection, stream)) or self._take_over(run, connection, stream)
        if flow is not None:
            self._begun(flow, now)
            self._end_silence(flow, now, ended_by)
            self._end_refusal(flow, now)
            self._drop(flow)

    def left_by_move(self, run: str, connection: int, to_connection: int, stream: Stream) -> list[int]:
        """
        The connections that let go of a stream that changes its connection; `connection` says so.
        """
        if connection != to_connection:
            return [connection]
        # What had moved from there, if that was seen: others may carry copies.
        others = [f for f in self._flows.values() if f.run == run and f.stream == stream]
        moved = [f for f in others if to_connection in f.homes]
        return [f.connection for f in moved or others if f.connection != to_connection]

    def move(self, run: str, connection: int, to_connection: int, stream: Stream, now: int) -> list[int]:
        """
        A stream changes its connection: `connection` says so, the one it leaves or the one it has come to.

        Returns the connections that let go of it. One that has it already (it comes home only when it was heard there)
        goes on as before. A silence goes along: it ends with the next frame, wherever that comes.
        """
        left = self.left_by_move(run, connection, to_connection, stream)
        homes = [] if connection == to_connection else [connection]
        last, pace_ms = now, 0
        for other in left:
            flow = self._flows.get((run, other, stream))
            if flow is not None:
                last, pace_ms = max(flow.last, flow.since), flow.track.cadence if flow.track is not None else 0
            if flow is None or not flow.silent or (run, to_connection, stream) in self._flows:
                self.release(run, other, stream, now, f"its move to connection {to_connection}")
                continue
            self._drop(flow)
            flow.silent_on = flow.connection if flow.silent_on is None else flow.silent_on
            flow.connection = to_connection
            flow.up = self._connections.may_be_up(run, to_connection)
            flow.fresh, flow.homes = FIRST_AFTER_GAP, []
            self._put(flow)
        if (run, to_connection, stream) not in self._flows:
            self.expect(run, to_connection, stream, now).fresh = FIRST_AFTER_GAP
        there = self._flows[run, to_connection, stream]
        if is_book(stream) and not there.last and not there.silent and not self._elsewhere(there):
            # It still came where it has left, and its next book was due there.
            there.moved, there.since, there.pace = True, last, pace_ms
        there.homes = sorted({*there.homes, *homes})
        return left

    def refuse(self, run: str, connection: int, stream: Stream, event: Event) -> bool:
        """
        A request was not heeded. True if that goes on; False if the stream came all the same.
        """
        flow = self._flows.get((run, connection, stream))
        if flow is None or not (flow.silent or flow.fresh & FIRST_AFTER_GAP):
            return False
        if flow.refusal is None:
            flow.refusal = event
            self._findings.opening(event.evidence)
        flow.fresh |= FIRST_AFTER_GAP
        return True

    def acknowledged(self, run: str, connection: int, text: str, now: int) -> None:
        """
        The venue acknowledged a request.
        """
        for flow in self.of_connection(run, connection):
            if flow.refusal is not None and ack_text(flow.stream) == text:
                self._end_refusal(flow, now)

    def refusals(self, at: int) -> list[Event]:
        """
        The requests that go unheeded at `at`.
        """
        return [msgspec.structs.replace(f.refusal, end=at) for f in self._flows.values() if f.refusal is not None]

    def _end_refusal(self, flow: FlowState, now: int) -> None:
        if flow.refusal is not None:
            self._findings.events.append(msgspec.structs.replace(flow.refusal, end=max(now, flow.refusal.end)))
            flow.refusal = None

    def bury(self, run: str, at: int) -> None:
        """
        A run has ended.
        """
        for flow in [f for f in self._flows.values() if f.run == run]:
            self.release(flow.run, flow.connection, flow.stream, at, "the end of the run")

    def _take_over(self, run: str, connection: int, stream: Stream) -> FlowState | None:
        flow = self._flows.get((run, UNKNOWN_CONNECTION, stream))
        if flow is not None:
            self._drop(flow)
            flow.connection = connection
            self._put(flow)
        return flow

    def _put(self, flow: FlowState) -> None:
        self._flows[flow.run, flow.connection, flow.stream] = flow
        self._places.setdefault((flow.run, flow.connection), {})[flow.stream] = flow

    def _drop(self, flow: FlowState) -> None:
        """
        Take it out from where it is.
        """
        del self._flows[flow.run, flow.connection, flow.stream]
        there = self._places[flow.run, flow.connection]
        del there[flow.stream]
        if not there:
            del self._places[flow.run, flow.connection]

    # ---- holes

    def met(self, run: str, connection: int, now: int) -> None:
        """
        Frames come on a connection whose opening and requests were not seen.
        """
        for flow in self.of_connection(run, connection):
            flow.up = True
            flow.since = now

    def went_down(self, run: str, connection: int, now: int, ended_by: str, ended_as: Cause = "unknown") -> int | None:
        """
        A connection ended. Returns since when a book is missing that was due: the earliest of their last ones, by when
        those were due.
        """
        last = None
        for flow in self.of_connection(run, connection):
            self._begun(flow, now)
            flow.up = False
            self._end_refusal(flow, now)
            flow.fresh |= FIRST_AFTER_GAP
            if flow.silent:
                self._end_silence(flow, now, ended_by, ended_as=ended_as)
            elif is_book(flow.stream) and flow.last >= flow.since:
                # What came late ended when it was due: what should have followed was due from then on.
                due = max(flow.last - _late(flow.track), flow.since)
                last = due if last is None else min(last, due)
            flow.awaited = is_book(flow.stream)
        return last

    def interrupted(self, run: str) -> None:
        """
        Entries of a run are lost: what comes next comes after a hole.
        """
        for flow in self._flows.values():
            if flow.run == run:
                flow.fresh |= FIRST_AFTER_GAP

    def wake(self, flow: FlowState, now: int, slot: int | None, *, late: bool = False) -> int:
        """
        A frame came, and may be the first after a hole. Returns its flags; `flow.last` is still the frame before.

        `late`: it is the very next and was held back: there was no silence but a backlog.
        """
        flags, flow.fresh = flow.fresh, 0
        flow.awaited = False
        self._begun(flow, now)
        self._end_refusal(flow, now)
        if late:
            flow.silent = False
        elif self._is_silent(flow, now):
            flow.silent = True
            self._end_silence(flow, now, "the next frame", first_slot=flow.last_slot, last_slot=slot)
            flags |= FIRST_AFTER_GAP
        if flags & FIRST_AFTER_GAP and self._heard_elsewhere(flow):
            flags &= ~FIRST_AFTER_GAP
        return flags

    def clock(self, now: int) -> Iterator[FlowState]:
        """
        Find what is overdue by `now`: each flow that has just become silent.
        """
        for flow in self._flows.values():
            if now - flow.last > SECOND_NS and flow.track is not None and not flow.silent and self._overdue(flow, now):
                flow.silent, flow.awaited, flow.added, flow.moved = True, False, False, False
                limit_s = self._runs[flow.run].settings.silent_after_s
                self._findings.opening(f"{flow.stream.label()}: silent for {limit_s:g} s")
                yield flow

    def beginnings(self, at: int) -> list[Event]:
        """
        The streams that were added, or have moved, and have brought nothing yet, at `at`.
        """
        return [_beginning(flow, at) for flow in self._flows.values() if self._is_missing(flow, at)]

    def _begun(self, flow: FlowState, now: int) -> None:
        """
        A stream that was added has its first book, or will have none here. What has become a silence is told as that.
        """
        if self._is_missing(flow, now):
            self._findings.events.append(_beginning(flow, now))
        flow.added = flow.moved = False

    def _is_missing(self, flow: FlowState, at: int) -> bool:
        # One that has moved and comes in time left no book out.
        in_time = flow.moved and at - flow.since <= flow.pace * cadence.MS * 3 // 2
        return (flow.added or flow.moved) and not in_time and not self._overdue(flow, at)

    def silences(self, at: int) -> list[Event]:
        """
        The silences that go on at `at`.
        """
        return [
            self._silence(flow, at, "now")
            for flow in self._flows.values()
            if not flow.halted and self._is_silent(flow, at)
        ]

    def was_still(self, flow: FlowState, now: int) -> bool:
        """
        Whether its run stood still in part of the time since its last frame: not long enough to be told of by itself,
        nor was the stream silent for long without it.
        """
        longest = 2 * (round(self._runs[flow.run].settings.silent_after_s * SECOND_NS) + DEAD_AFTER_NS)
        return now - flow.last < longest and not self._is_silent(flow, now)

    def _is_silent(self, flow: FlowState, now: int) -> bool:
        return flow.silent or self._overdue(flow, now)

    def _overdue(self, flow: FlowState, now: int) -> bool:
        if not flow.up or flow.stream.channel not in BOOK_CHANNELS:
            return False
        run = self._runs[flow.run]
        return now - max(flow.last, flow.since, run.resumed) > run.settings.silent_after_s * SECOND_NS

    def _heard_elsewhere(self, flow: FlowState) -> bool:
        """
        Whether another connection or run went on hearing the stream, so that there was no hole in it.

        One that is down, or was, has the flag for its own next row.
        """
        return any(not other.silent and not other.fresh & FIRST_AFTER_GAP for other in self._elsewhere(flow))

    def _elsewhere(self, flow: FlowState) -> list[FlowState]:
        """
        The same stream on other connections and runs. Found by these, which are few: all streams may ask in one burst.
        """
        found = [there.get(flow.stream) for there in self._places.values()]
        return [other for other in found if other is not None and other is not flow]

    def _end_silence(
        self,
        flow: FlowState,
        now: int,
        ended_by: str,
        *,
        first_slot: int | None = None,
        last_slot: int | None = None,
        ended_as: Cause = "unknown",
    ) -> None:
        if flow.silent and not flow.halted:
            event = self._silence(flow, now, ended_by, first_slot=first_slot, last_slot=last_slot, ended_as=ended_as)
            self._findings.events.append(event)
        flow.silent = flow.halted = False
        if flow.silent_on is not None:
            # Only now is it sure to come here: until now the connection that the silence began on speaks for it.
            flow.since, flow.silent_on = now, None

    def _silence(
        self,
        flow: FlowState,
        now: int,
        ended_by: str,
        *,
        first_slot: int | None = None,
        last_slot: int | None = None,
        ended_as: Cause = "unknown",
    ) -> Event:
        start = max(flow.last, flow.since)
        heard_on = flow.connection if flow.silent_on is None else flow.silent_on
        cause, alive = self._connections.why_silent(flow.run, heard_on, start, now, ended_as)
        moved = f" on connection {flow.connection}, where it has moved" if flow.silent_on is not None else ""
        return build(
            "silent",
            cause=cause,
            start=start,
            end=max(now, start),
            run=flow.run,
            connection=heard_on,
            symbol=flow.stream.symbol,
            channel=channel_of(flow.stream),
            first_slot=first_slot,
            last_slot=last_slot,
            evidence=f"no book for {(now - start) / 1e9:.1f} s, until {ended_by}{moved}; {alive}",
        )


def _beginning(flow: FlowState, at: int) -> Event:
    """
    That nothing came at first of a stream that was added, or has moved, up to `at`.
    """
    late_s, missing = (at - flow.since) / 1e9, None
    words = f"asked for while recording; no book came for the first {late_s:.1f} s"
    if flow.moved:
        missing = max(round((at - flow.since) / (flow.pace * cadence.MS)) - 1, 1) if flow.pace else None
        words = f"none for {late_s:.1f} s: we moved it to connection {flow.connection} while it still came elsewhere"
    return build(
        "cadence_hole" if flow.moved else "added",
        cause="recorder",
        start=flow.since,
        end=max(at, flow.since),
        run=flow.run,
        connection=flow.connection,
        symbol=flow.stream.symbol,
        channel=channel_of(flow.stream),
        missing=missing,
        evidence=words,
    )


def _late(track: Track | None) -> int:
    """
    How late the last book of a stream was, ns; 0 unless it surely was.
    """
    if track is None or track.base is None or track.deaf:
        return 0
    newest = track.ts
    if track.feeds is not None and track.feeds.second is not None:
        newest = max(newest, track.feeds.second.ts)
    late = cadence.lateness(track) if newest == track.ts else 0
    return late if late > lateness.LATE_NS else 0


def is_book(stream: Stream) -> bool:
    """
    Whether a stream brings a frame each tick.
    """
    return stream.channel in BOOK_CHANNELS


def in_order(flows: Iterable[FlowState]) -> list[FlowState]:
    """
    By run, connection and stream: what is found of one may hang on what has been said of another, and must not on
    which was asked for first, or on how often a carry was taken.
    """
    return sorted(flows, key=lambda f: (f.run, f.connection, *sortable(f.stream)))


def sortable(stream: Stream) -> tuple[str, str, str, int]:
    """
    Orders streams also where one has a grouping and another of its name has none.
    """
    return stream.market_type, stream.symbol, stream.channel, stream.grouping or 0
