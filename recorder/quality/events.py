"""
The kinds of events, what each means, and how their rows are built. Pure.
"""

from collections.abc import Mapping
from hashlib import sha256

import msgspec

from recorder.records import HOUR_NS, Cause, Event, Scope, Stream


class Kind(msgspec.Struct, frozen=True):
    """
    One kind of event: what it concerns, when it is raised, and how its bounds are to be read.
    """

    scope: Scope
    raised: str
    bounds: str


KINDS: Mapping[str, Kind] = {
    "recorder_started": Kind("recorder", "A run began.", "the moment"),
    "recorder_stopped": Kind("recorder", "A run ended by itself.", "the moment"),
    "recorder_down": Kind(
        "recorder",
        "No run was recording: none was there, or the only one stood still. With a symbol: nobody recorded that "
        "stream, for the run that did died beside another.",
        "last committed entry of any run → next start, or the next entry",
    ),
    "connected": Kind(
        "connection",
        "The websocket opened.",
        "the moment; as a run starts: start of the run → first book of the last stream asked for, if that is not later "
        "than a silence begins (else `disconnected` reaches from start to book)",
    ),
    "disconnected": Kind(
        "connection",
        "A connection was down: it ended, or could not be made.",
        "earliest last book of those due on it (last frame, where none was; start of the run, before any) → first book "
        "after it of the last stream to bring one (the subscribe, where it stays silent and `silent` goes on; first "
        "frame, where no book is subscribed)",
    ),
    "connect_failed": Kind("connection", "Connects failed; a run of them is one event.", "first → last attempt"),
    "heartbeat_gap": Kind(
        "connection", "Two heartbeats stood too far apart.", "heartbeat before → heartbeat after, or the end"
    ),
    "not_acknowledged": Kind(
        "stream",
        "A subscription was not acknowledged in time.",
        "request → acknowledgement or first frame, or the end of the connection or subscription",
    ),
    "rejected": Kind(
        "stream",
        "The venue answered a request with an error.",
        "answer → as `not_acknowledged` (the moment, where the answer cannot be matched to a stream)",
    ),
    "silent": Kind(
        "stream",
        "A subscribed book brought no frame on a live connection.",
        "last frame (or the request) → next frame, or the end of the connection or subscription",
    ),
    "trade_gap": Kind(
        "stream",
        "Fill ids are missing: a proof, `missing` is exact.",
        "receipt of the fill before the missing ids → receipt of the fill after them",
    ),
    "trade_repeat": Kind("stream", "Fills came again; a run of them is one event.", "first → last repeat"),
    "undecodable": Kind("connection", "Frames that could not be decoded; raw in `undecodable`.", "first → last frame"),
    "unrequested": Kind("connection", "Data of streams nobody asked for; raw in `undecodable`.", "first → last frame"),
    "schema_drift": Kind(
        "connection",
        "Members, sources, channels or shapes this version does not know; kept in `extra` or `undecodable`.",
        "first → last frame",
    ),
    "identity_conflict": Kind(
        "stream", "A book calls its index by another name than the market list: wrong `network`?", "the moment"
    ),
    "overflow": Kind("recorder", "The journal's queue was full; we dropped frames, counted.", "first → last dropped"),
    "clock_step": Kind("recorder", "The wall clock moved against the monotonic clock.", "before → after"),
    "loop_stall": Kind("recorder", "Our event loop stood still; receive times inside are late.", "stall"),
    "sync_failed": Kind("recorder", "A journal write or sync failed; kept in memory and written again.", "the moment"),
    "journal_damaged": Kind(
        "recorder", "Journal entries are missing or unreadable; `missing` counts entries.", "entry before → entry after"
    ),
    "job_failed": Kind("recorder", "A scheduled job (seal, retention) ended with an error.", "the moment"),
    "seal_failed": Kind("stream", "A partition could not be written; its frames are in the journal.", "the hour"),
}


def build(
    kind: str,
    *,
    cause: Cause,
    start: int,
    end: int,
    evidence: str,
    run: str | None = None,
    connection: int | None = None,
    symbol: str | None = None,
    channel: str | None = None,
    continues: bool = False,
    missing: int | None = None,
    first_slot: int | None = None,
    last_slot: int | None = None,
    apart: str = "",
) -> Event:
    """
    An event, uncut. Its id is a digest of kind, place and true start: the same in each hour it reaches into.

    `apart` tells events of one kind that begin at one place and instant from each other; the same in each hour, too.
    """
    scope = KINDS[kind].scope
    place = "\x1f".join(str(part) for part in (kind, run, connection, symbol, channel, start, apart))
    return Event(
        event_id=sha256(place.encode("utf-8", "replace")).hexdigest()[:16],
        kind=kind,
        cause=cause,
        scope=scope,
        run=run,
        connection=connection,
        symbol=printable(symbol) if symbol is not None else None,
        channel=channel,
        start=start,
        end=end,
        true_start=start,
        continues=continues,
        missing=missing,
        first_slot=first_slot,
        last_slot=last_slot,
        evidence=printable(evidence, 2 * MAX_WORDS),
    )


def channel_of(stream: Stream) -> str:
    """
    The `channel` of events about a stream: `orderbook`, or `orderbook/100` for a coarser one beside it.
    """
    return stream.channel if stream.grouping in {None, 1} else f"{stream.channel}/{stream.grouping}"


def cut(event: Event, hour: int) -> Event | None:
    """
    The part of an event inside the hour that begins at `hour` ns; None if it has none.

    A count of missing things stands in the hour in which the event ends: how it spreads over the hours is not known.
    """
    hour_end = hour + HOUR_NS
    if event.start >= hour_end or event.end < hour or (event.end == hour and event.start < hour):
        return None
    ends_here = event.end <= hour_end and not event.continues
    return msgspec.structs.replace(
        event,
        start=max(event.start, hour),
        end=min(event.end, hour_end),
        continues=not ends_here,
        missing=event.missing if ends_here else None,
    )


def in_order(events: list[Event]) -> list[Event]:
    """
    The order of rows in `quality`: by time, then by everything else, so that equal input gives equal files.
    """
    return sorted(
        events, key=lambda e: (e.start, e.end, e.kind, e.run or "", e.connection or 0, e.symbol or "", e.event_id)
    )


class Tally(msgspec.Struct):
    """
    A run of like findings that will be one event.
    """

    kind: str
    cause: Cause
    run: str | None
    connection: int | None
    symbol: str | None
    channel: str | None
    start: int
    end: int
    count: int
    evidence: str
    """Of the first."""
    whole: bool = False
    """Each is a frame that is in no table of its own."""

    def event(self) -> Event:
        """
        The event, with the count in `missing` for frames that are in no table of theirs.
        """
        many = f" ({self.count} times)" if self.count > 1 else ""
        return build(
            self.kind,
            cause=self.cause,
            start=self.start,
            end=self.end,
            evidence=self.evidence + many,
            run=self.run,
            connection=self.connection,
            symbol=self.symbol,
            channel=self.channel,
            missing=self.count if self.whole or self.kind in {"undecodable", "unrequested"} else None,
            apart=self.evidence,
        )


MAX_TALLIES = 256
"""Findings told apart at one time; a hostile venue could invent millions, so the rest share one."""
TALLY_IDLE_NS = 60_000_000_000
"""A run of like findings ends when none came for this long."""


class Tallies:
    """
    Gathers like findings into few events, whatever the venue sends.
    """

    def __init__(self, open_tallies: list[Tally]) -> None:
        self._open = {(t.kind, t.run, t.connection, t.symbol, t.channel, t.evidence): t for t in open_tallies}

    def add(
        self,
        kind: str,
        now: int,
        *,
        cause: Cause,
        evidence: str,
        run: str | None,
        connection: int | None,
        symbol: str | None = None,
        channel: str | None = None,
        whole: bool = False,
    ) -> bool:
        """
        Count one finding; True if it is the first of its run. `whole`: it is a frame that is in no table of its own.
        """
        evidence = printable(evidence)
        symbol = printable(symbol) if symbol is not None else None
        channel = printable(channel) if channel is not None else None
        tally = self._open.get((kind, run, connection, symbol, channel, evidence))
        if tally is None and len(self._open) >= MAX_TALLIES:
            symbol, channel, evidence = None, None, "many different findings"
            tally = self._open.get((kind, run, connection, symbol, channel, evidence))
        if tally is None:
            key = (kind, run, connection, symbol, channel, evidence)
            self._open[key] = Tally(kind, cause, run, connection, symbol, channel, now, now, 1, evidence, whole)
            return True
        tally.count += 1
        tally.end = now
        return False

    def take_idle(self, now: int) -> list[Event]:
        """
        Events of runs that have ended by `now`.
        """
        ended = [key for key, tally in self._open.items() if now - tally.end >= TALLY_IDLE_NS]
        return [self._open.pop(key).event() for key in ended]

    def take_all(self) -> list[Event]:
        """
        Events of all runs, which end here.
        """
        events = [tally.event() for tally in self._open.values()]
        self._open.clear()
        return events

    def snapshot(self) -> list[Tally]:
        """
        The open runs, for the carry.
        """
        return list(self._open.values())


MAX_WORDS = 300


def printable(text: str, limit: int = MAX_WORDS) -> str:
    """
    Text from outside, fit for a table or a log line: control characters escaped, cut to `limit` characters.
    """
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text[:limit])
    return shown if len(text) <= limit else f"{shown}… ({len(text)} characters)"
