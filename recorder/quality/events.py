"""
How the rows of events are built, cut to their hours and put in order; `kinds` has what each means. Pure.
"""

from hashlib import sha256

import msgspec

from recorder.quality.kinds import KINDS
from recorder.records import HOUR_NS, Cause, Event, Scope, Stream


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
    scope: Scope | None = None,
) -> Event:
    """
    An event, uncut. Its id is a digest of kind, place and true start: the same in each hour it reaches into.

    `apart` tells events of one kind that begin at one place and instant from each other; the same in each hour, too.
    `scope` is that of the kind, if not given.
    """
    scope = scope or KINDS[kind].scope
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


MAX_WORDS = 300


def printable(text: str, limit: int = MAX_WORDS) -> str:
    """
    Text from outside, fit for a table or a log line: control characters escaped, cut to `limit` characters.
    """
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text[:limit])
    return shown if len(text) <= limit else f"{shown}… ({len(text)} characters)"
