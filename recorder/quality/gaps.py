"""
Gaps of fill ids as events, and what is left of them when fills come that had been told as missing. Pure.

A gap is told ten seconds after the fill behind it. What comes later is a part of its event with a negative count
(`trade_late`), so that `missing` of all its parts is what is missing still. The hour that has the gap itself is not
sealed yet when they come in the same hour, so there the gap is told as what is left of it.
"""

from collections.abc import Iterable

import msgspec

from recorder.quality.counter import LateFills, ManyGaps, MissingFills
from recorder.quality.events import build
from recorder.records import Cause, Event

GAP, LATE = "trade_gap", "trade_late"


def gap_event(key: str, symbol: str, missing: MissingFills, count: int, cause: Cause, why: str) -> Event:
    """
    Ids that never came, between two fills that did.
    """
    without = f", but {missing.nameless} fills without an id did" if missing.nameless else ""
    ids = f"fill id {missing.first}" if missing.first == missing.last else f"fill ids {missing.first} to {missing.last}"
    return build(
        "trade_gap",
        cause=cause,
        start=missing.left_ts,
        end=missing.right_ts,
        run=missing.run,
        connection=missing.connection,
        symbol=symbol,
        channel="trades",
        missing=count,
        first_slot=missing.left_slot,
        last_slot=missing.right_slot,
        evidence=f"{ids} of {key} never came{without}; {why}",
        apart=str(missing.first),
    )


def many_event(many: ManyGaps) -> Event:
    """
    The gaps of an hour beyond those that are told one by one: from the first to the last, with what came between them.
    The first that was counted names it, also where a later one began before that.
    """
    event = build(
        "trade_gap",
        cause=many.cause,
        start=many.left_ts,
        end=many.right_ts,
        run=many.run,
        connection=many.connection,
        symbol=many.symbol,
        channel="trades",
        missing=many.missing,
        first_slot=many.left_slot,
        last_slot=many.right_slot,
        evidence=f"{many.missing:,} fills in {many.gaps:,} gaps between fill ids {many.first} and {many.last} never "
        f"came, beside those told one by one; what came between them is there; {many.why}",
        apart="many",
    )
    return msgspec.structs.replace(event, event_id=many.event_id or event.event_id)


def late_event(symbol: str, late: LateFills) -> Event:
    """
    Part of the gap's own event, with a negative count: what is missing of it is the sum of its parts.
    """
    which = (
        f"fill id {late.first_id}"
        if late.count == 1
        else f"{late.count:,} fills, ids {late.first_id} to {late.last_id},"
    )
    event = build(
        "trade_late",
        cause="venue",
        start=late.first_ts,
        end=late.last_ts,
        symbol=symbol,
        channel="trades",
        missing=-late.count,
        evidence=f"{which} came after all, up to {late.waited_ns / 1e9:.1f} s after the fill that followed",
    )
    return msgspec.structs.replace(event, event_id=late.event_id, true_start=late.left_ts)


def settled(parts: Iterable[Event]) -> list[Event]:
    """
    The events of an hour, cut to it, where fills that came late have made the gaps smaller which end in the same hour.
    """
    events = list(parts)
    came: dict[str, list[Event]] = {}
    for event in events:
        if event.kind == LATE:
            came.setdefault(event.event_id, []).append(event)
    ends_here = {event.event_id for event in events if event.kind == GAP and event.missing is not None}
    return [
        _left(event, came[event.event_id]) if event.kind == GAP and event.event_id in came else event
        for event in events
        if event.kind != LATE or event.event_id not in ends_here
    ]


def _left(gap: Event, late: list[Event]) -> Event:
    if gap.missing is None:
        return gap
    missing = gap.missing + sum(each.missing or 0 for each in late)
    words = "; ".join(each.evidence for each in late)
    if missing > 0:
        return msgspec.structs.replace(gap, missing=missing, evidence=f"{gap.evidence}; but {words}")
    evidence = f"{words}; nothing is missing any more"
    return msgspec.structs.replace(gap, kind=LATE, cause="venue", missing=0, evidence=evidence)
