"""
Journals of runs that hear a simulated venue in virtual time, for tests of the monitor.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from quality_cases import URL, monitor
from recorder.quality.monitor import Monitor, Verdict
from recorder.quality.state import MonitorState
from recorder.records import (
    HOUR_NS,
    NO_CONNECTION,
    SECOND_NS,
    Connected,
    ConnectFailed,
    Disconnected,
    Entry,
    EntryKind,
    Event,
    Fact,
    Requested,
    RunStarted,
    Stream,
    encode_fact,
)
from recorder.simulator.core import Venue
from recorder.simulator.drive import Drive, Heard, Joined, Link, Lost, listen
from recorder.simulator.kinds import AnyFault
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.venue.protocol import peek, request

START = 1_795_366_800 * SECOND_NS
assert START % HOUR_NS == 0
DURING = {"from_s": 30.1, "to_s": 45.1}
"""A span of a fault: long after the cadence is learned."""


def hear(
    *faults: AnyFault,
    seconds: float = 70.0,
    markets: int = 3,
    connections: int = 1,
    links: Mapping[int, Link] | None = None,
    start: int = START,
    run: str = "r",
    **venue: Any,
) -> list[Entry]:
    """
    What a run that subscribes and reconnects writes into its journal; it is cut off at the end.
    """
    listed = DEFAULT_MARKETS[:markets]
    streams = [
        Stream(market.market_type, market.symbol, channel, grouping)
        for market in listed
        for channel, grouping in (("orderbook", 1), ("trades", None))
    ]
    drive = Drive(Venue(listed, start=start, faults=faults, **venue), start=start, links=links)
    put: list[tuple[int, int, int, int, bytes]] = []

    def fact(when: int, about: Fact, connection: int = NO_CONNECTION, attempt: int = 0) -> None:
        put.append((when, EntryKind.FACT, connection, attempt, encode_fact(about)))

    fact(start, RunStarted(run, "host", 1, "0", "venue", "mainnet-beta", [URL], streams))
    alive, end = start, start + round(seconds * SECOND_NS)
    requests = {connection: [request(stream) for stream in streams] for connection in range(connections)}
    for event in listen(drive, requests, until=end + SECOND_NS):
        if event.recv_ts >= end:
            break
        while alive + SECOND_NS <= event.recv_ts:
            alive += SECOND_NS
            put.append((alive, EntryKind.ALIVE, NO_CONNECTION, 0, b""))
        where = event.connection, event.attempt
        match event:
            case Heard():
                put.append((event.recv_ts, EntryKind.FRAME, *where, event.payload))
            case Joined():
                fact(event.recv_ts, Connected(URL, event.attempt, 1.0, compressed=True), *where)
                for stream in streams:
                    fact(event.recv_ts, Requested(stream), *where)
            case Lost():
                fact(event.recv_ts, Disconnected(URL, event.attempt, "network", "gone", event.code), *where)
            case _:
                fact(event.recv_ts, ConnectFailed(URL, event.attempt, "refused", "network", 1.0), *where)
    return [
        Entry(kind, connection, attempt, seq, when, payload, run)
        for seq, (when, kind, connection, attempt, payload) in enumerate(put, 1)
    ]


def numbered(entries: Iterable[Entry]) -> list[Entry]:
    """
    Entries of a run in this order, as if none had ever been lost.
    """
    return [msgspec.structs.replace(entry, seq=seq) for seq, entry in enumerate(entries, 1)]


def folded(entries: Sequence[Entry], state: MonitorState | None = None) -> tuple[Monitor, list[tuple[float, Verdict]]]:
    """
    A monitor that has seen them, not finished, and its verdicts on data frames with their second.
    """
    judge = monitor(state)
    verdicts = []
    for entry in entries:
        verdict = judge.step(entry, peek(entry.payload) if entry.kind == EntryKind.FRAME else None)
        if verdict is not None:
            verdicts.append(((entry.recv_ts - START) / SECOND_NS, verdict))
    return judge, verdicts


def events_of(entries: Sequence[Entry]) -> list[Event]:
    """
    All events but what every run has.
    """
    judge, _ = folded(entries)
    judge.finish(entries[-1].recv_ts, closed=False)
    return unusual_events(judge.events)


def unusual_events(events: Iterable[Event]) -> list[Event]:
    """
    All but starts, stops and connects, in order.
    """
    kept = [e for e in events if e.kind not in {"recorder_started", "recorder_stopped", "connected"}]
    return sorted(kept, key=lambda e: (e.start, e.end, e.kind, e.symbol or ""))


def seconds_of(event: Event) -> tuple[float, float]:
    """
    Start and end, in seconds from the start of the venue, to the tenth.
    """
    return round((event.start - START) / SECOND_NS, 1), round((event.end - START) / SECOND_NS, 1)
