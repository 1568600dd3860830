"""
Hours without a fault, judged without a file.
"""

from collections.abc import Iterator

import msgspec
from virtual import URL, Scenario, Side, homes_of, markets_of

import lake_cases
from recorder.quality.monitor import Monitor
from recorder.quality.state import MonitorState
from recorder.records import (
    HOUR_NS,
    SECOND_NS,
    Connected,
    Entry,
    EntryKind,
    Event,
    Requested,
    RunStarted,
    encode_fact,
)
from recorder.simulator.core import Venue
from recorder.simulator.drive import Drive, Heard, Joined, Link
from recorder.venue.markets import market_list
from recorder.venue.protocol import peek, request


def clean_hours(scenario: Scenario, *, hours: int) -> Iterator[tuple[int, list[Event]]]:
    """
    A venue without a fault, heard for hours, and judged as a seal judges: hour by hour, with the carry between.

    No file is written: 20 million frames would fill a disk, and nothing here depends on one.

    Yields:
        Frames heard, and the events of the hour.
    """
    markets = markets_of(scenario)
    venue = Venue(markets, start=lake_cases.HOUR, seed=scenario.seed, rhythm=scenario.rhythm, server=scenario.server)
    links = {index: Link(latency_ms=5 + 20 * index, jitter_ms=10) for index in range(scenario.connections)}
    drive = Drive(venue, start=lake_cases.HOUR, links=links, seed=scenario.seed)
    side = Side()
    homes = homes_of(scenario, markets, side)
    streams = [stream for home in homes for stream in home]
    listed = market_list(scenario.network)
    judge = Monitor(listed, MonitorState(now=lake_cases.HOUR))
    run, seq = "clean", 0

    def fold(kind: EntryKind, at: int, payload: bytes, connection: int = -1) -> None:
        nonlocal seq
        seq += 1
        entry = Entry(kind, connection, 1 if connection >= 0 else 0, seq, at, payload, run)
        judge.step(entry, peek(payload) if kind == EntryKind.FRAME else None)

    started = RunStarted(run, "host", 1, "0", "test", scenario.network, [URL], streams)
    fold(EntryKind.FACT, lake_cases.HOUR, encode_fact(started))
    for index in range(scenario.connections):
        drive.connect(index)
    for hour in range(hours):
        frames = 0
        for second in range(3600):
            for event in drive.until(lake_cases.HOUR + (hour * 3600 + second) * SECOND_NS):
                if isinstance(event, Heard):
                    frames += 1
                    fold(EntryKind.FRAME, event.recv_ts, event.payload, event.connection)
                elif isinstance(event, Joined):
                    connected = Connected(URL, 1, 10.0, compressed=True)
                    fold(EntryKind.FACT, event.recv_ts, encode_fact(connected), event.connection)
                    for stream in homes[event.connection]:
                        fold(EntryKind.FACT, event.recv_ts, encode_fact(Requested(stream)), event.connection)
                        drive.send(event.connection, request(stream))
            fold(EntryKind.ALIVE, drive.now, b"")
        end = lake_cases.HOUR + (hour + 1) * HOUR_NS
        for event in drive.until(end - 1):
            if isinstance(event, Heard):
                frames += 1
                fold(EntryKind.FRAME, event.recv_ts, event.payload, event.connection)
        judge.turn_hour(end)
        carry = msgspec.json.decode(msgspec.json.encode(judge.state()), type=MonitorState)
        after = Monitor(listed, carry)
        after.adopt_all(judge)
        if hour == hours - 1:
            judge.finish(end, closed=False)
        yield frames, judge.events
        judge = after
