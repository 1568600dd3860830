"""
How a recorder is doing: the value that `/status` sends and that `status` and `top` show. Pure.

Instants are `*_ts`, ns since the epoch; `*_s` are seconds, `*_ms` milliseconds; null is "not known", never zero. Prices
are natural units. New members go last.
"""

from typing import Any, Literal

import msgspec

from recorder.quality.counts import LATENCY_BOUNDS_NS, Counts, LineTally, Tally, quantile
from recorder.quality.events import channel_of
from recorder.quality.state import ConnectionState, FlowState
from recorder.records import SECOND_NS, Event, Stream
from recorder.venue.normalize import decode
from recorder.venue.payloads import NULL, Book

FORMAT = 1
COMMIT_LATE_S = 10.0
"""Without a commit for this long a recorder does not record: one comes each second at least."""

State = Literal["recording", "waiting", "silent", "halted", "down", "refused"]
_RANK: dict[State, int] = {"recording": 0, "halted": 1, "silent": 2, "refused": 3, "waiting": 4, "down": 5}
"""Of several connections that carry a stream the best one tells how it is doing."""
_PRICE = 1_000_000


LEFT: dict[str, Any] = {"state": "down", "why": "no recorder is at work", "rate": 0.0}
"""How a stream is doing whose run is over: how much came in its last seconds is no rate."""


class StreamStatus(msgspec.Struct, frozen=True):
    """
    One configured stream.
    """

    market: str
    market_type: str
    channel: str
    state: State
    why: str
    """Empty while it records."""
    connections: list[int]
    """That brought it, or are to."""
    frames: int
    bytes: int
    rate: float
    """Frames a second, over the last ten seconds."""
    last_ts: int | None
    age_s: float | None
    slot: int | None
    cadence_ms: int | None
    """Learned; of books."""
    latency_ms: float | None
    """Median of `recv_ts − ts` of the books since the start."""
    best_bid: float | None
    best_ask: float | None
    holes: int
    hole_s: float
    """All of them together."""
    missing: int
    """Frames or fills that are known to be missing."""


class ConnectionStatus(msgspec.Struct, frozen=True):
    """
    One connection.
    """

    connection: int
    url: str
    up: bool
    why: str
    """Why it is down."""
    since_ts: int | None
    """When it opened."""
    connects: int
    failures: int
    streams: int
    frames: int
    bytes: int
    heartbeat_age_s: float | None


class JournalStatus(msgspec.Struct, frozen=True):
    """
    The journal.
    """

    committed_ts: int | None
    commit_age_s: float | None
    queued_bytes: int | None
    """None where it cannot be seen from outside."""
    commit_p99_ms: float | None
    """Of the last minute."""
    durable_p99_ms: float | None
    written_bytes: int | None
    """Since the run began."""
    bytes: int
    """On disk, all runs."""
    segments: int
    dropped: int
    """Entries the queue could not take."""
    write_failures: int


class DiskStatus(msgspec.Struct, frozen=True):
    """
    Where it all goes.
    """

    free_bytes: int
    total_bytes: int
    bytes_a_day: float | None
    """By which the root grows now: journal and lake."""
    days_left: float | None
    """Until the disk is full; null if it does not grow, or nobody knows yet."""
    free_inodes: int | None = None
    """Null where the file system does not count them."""


class SealStatus(msgspec.Struct, frozen=True):
    """
    The lake.
    """

    last_hour: str | None
    """The newest hour that is sealed."""
    oldest_unsealed: str | None
    unsealed_hours: int
    """That are over, and not sealed."""
    lag_h: float
    """From the end of the oldest of them until now; 0 if there is none."""
    rows: int | None
    """Of the newest hour."""
    bytes: int | None
    last_s: float | None
    """How long the last seal took, of the recorder that is asked."""
    running: bool | None
    failed: str
    """What the last seal ended with; empty if it was well."""


class ProcessStatus(msgspec.Struct, frozen=True):
    """
    The process.
    """

    pid: int | None
    started_ts: int | None
    rss_bytes: int | None
    cpu_s: float | None
    loop_lag_p99_ms: float | None
    """Of the last minute."""
    clock_offset_s: float | None


class Reloading(msgspec.Struct, frozen=True):
    """
    The last time the configuration was read again.
    """

    at_ts: int
    taken: bool
    words: str


class RunStatus(msgspec.Struct, frozen=True):
    """
    What another run had in the time that was looked at.
    """

    run: str
    alive: bool
    started_ts: int
    last_ts: int | None
    """Of its last entry."""
    stopped: str
    """Why, as it said itself; empty: it is alive, or died, or was killed."""
    down_s: float | None
    """After it nobody recorded for so long, until the next one began; null: another did, or none has begun."""
    problems: list[str]
    """What keeps it from recording all it is to, now; nothing of one that is over."""
    streams: list[StreamStatus]
    """Without prices."""


class Status(msgspec.Struct, frozen=True):
    """
    All of it.
    """

    format: int
    version: str
    at_ts: int
    root: str
    venue: str
    network: str
    run: str | None
    host: str
    recording: bool
    """A recorder is at work."""
    ready: bool
    """It records all that is configured."""
    problems: list[str]
    """What is wrong, in words, the worst first."""
    streams: list[StreamStatus]
    connections: list[ConnectionStatus]
    journal: JournalStatus
    disk: DiskStatus | None
    seal: SealStatus | None
    process: ProcessStatus
    recent: list[Event]
    """Of the live monitor, the newest first; seen from outside, of each run that was followed."""
    reload: Reloading | None = None
    beside: list[str] = []
    """Other runs that record into the same root."""
    paused_since: int | None = None
    """Capture is stopped, for the disk is full; since when, ns. Null while it goes on."""
    others: list[RunStatus] = []
    """Seen from outside: the runs beside this one, and those that ended within the time that is looked at, the newest
    first. All else but `recent` is of `run` alone."""


def stream_statuses(
    streams: list[Stream], flows: list[FlowState], counts: Counts, *, now: int, with_prices: bool = True
) -> list[StreamStatus]:
    """
    Each configured stream, in their order.

    Args:
        streams: that are configured.
        flows: of the monitor, of one run.
        counts: what was heard.
        now: ns.
        with_prices: also read the last book of each; takes some 20 µs a stream.
    """
    by_stream: dict[Stream, list[FlowState]] = {}
    for flow in flows:
        by_stream.setdefault(flow.stream, []).append(flow)
    tallies: dict[Stream, list[Tally]] = {}
    # A copy: this may run beside the loop that counts.
    for (_, stream), tally in list(counts.streams.items()):
        tallies.setdefault(stream, []).append(tally)
    return [
        _stream_status(stream, by_stream.get(stream, []), tallies.get(stream, []), counts, now, with_prices=with_prices)
        for stream in streams
    ]


def _stream_status(
    stream: Stream, flows: list[FlowState], heard: list[Tally], counts: Counts, now: int, *, with_prices: bool
) -> StreamStatus:
    state, why = min(
        (_flow_state(flow, counts) for flow in flows), key=lambda told: _RANK[told[0]], default=_unasked(counts)
    )
    newest = max(heard, key=lambda tally: tally.last, default=None)
    last = max((flow.last for flow in flows), default=0)
    last = max(last, newest.last if newest is not None else 0)
    tracks = [flow.track for flow in flows if flow.track is not None and flow.track.cadence]
    latency = [sum(both) for both in zip(*(tally.latency for tally in heard if tally.latency), strict=True)]
    middle = quantile(latency, LATENCY_BOUNDS_NS, 0.5)
    holes = counts.holes.get((stream.symbol, channel_of(stream)))
    bid, ask = top_of_book(newest.payload) if with_prices and newest is not None else (None, None)
    return StreamStatus(
        market=stream.symbol,
        market_type=stream.market_type,
        channel=channel_of(stream),
        state=state,
        why=why,
        connections=sorted({flow.connection for flow in flows if flow.connection >= 0}),
        frames=sum(tally.frames for tally in heard),
        bytes=sum(tally.bytes for tally in heard),
        rate=round(sum(tally.rate for tally in heard), 2),
        last_ts=last or None,
        age_s=round(max(now - last, 0) / SECOND_NS, 3) if last else None,
        slot=newest.slot if newest is not None else None,
        cadence_ms=min((track.cadence for track in tracks), default=None),
        latency_ms=round(middle / 1e6, 1) if middle is not None else None,
        best_bid=bid,
        best_ask=ask,
        holes=holes.count if holes is not None else 0,
        hole_s=round(holes.lasted_ns / SECOND_NS, 3) if holes is not None else 0.0,
        missing=holes.missing if holes is not None else 0,
    )


def _unasked(counts: Counts) -> tuple[State, str]:
    """
    How a stream is doing that no connection has asked for yet.
    """
    shut = next((line for line in list(counts.lines.values()) if not line.up and line.why), None)
    if shut is not None:
        return "down", f"connection {shut.connection} is down: {shut.why}"
    return "waiting", "was not asked for yet"


def _flow_state(flow: FlowState, counts: Counts) -> tuple[State, str]:
    """
    How a stream is doing on one connection.
    """
    line = counts.lines.get(flow.connection)
    place = f"connection {flow.connection}" if flow.connection >= 0 else "its connection"
    if not flow.up or (line is not None and not line.up and line.why):
        return "down", f"{place} is down" + (f": {line.why}" if line is not None and line.why else "")
    if flow.refusal is not None:
        # The stream's name stands beside it.
        return "refused", flow.refusal.evidence.replace(f"{flow.stream.label()} was ", "").replace(
            f" of {flow.stream.label()}", ""
        )
    if flow.halted:
        return "halted", "no market brings a book, though heartbeats come"
    if flow.silent:
        return "silent", "brings no book"
    if flow.awaited:
        return "waiting", "brought no book yet"
    return "recording", ""


def top_of_book(payload: bytes) -> tuple[float | None, float | None]:
    """
    Best bid and ask of a book frame, natural units; None for an empty side, and of what is no book.
    """
    if b"orderbook" not in payload[:64]:
        return None, None
    book = decode(payload, size_exponent=None)
    if not isinstance(book, Book):
        return None, None
    bid, ask = (side.price[0] if len(side.price) else NULL for side in (book.bid, book.ask))
    return (None if bid == NULL else bid / _PRICE), (None if ask == NULL else ask / _PRICE)


def connection_statuses(
    states: list[ConnectionState], flows: list[FlowState], counts: Counts, *, now: int
) -> list[ConnectionStatus]:
    """
    Each connection that was ever needed, in order.
    """
    carried: dict[int, int] = {}
    for flow in flows:
        carried[flow.connection] = carried.get(flow.connection, 0) + 1
    known = {state.connection: state for state in states}
    rows = []
    for connection in sorted({*list(counts.lines), *known} - {-1}):
        line = counts.lines.get(connection) or LineTally(connection)
        state = known.get(connection)
        up = state.up if state is not None else line.up
        beat = max(line.last_heartbeat, state.last_heartbeat if state is not None else 0)
        rows.append(
            ConnectionStatus(
                connection=connection,
                url=line.url,
                up=up,
                why="" if up else line.why or (state.outage_why if state is not None else ""),
                since_ts=line.opened if up and line.opened else None,
                connects=line.connects,
                failures=line.failures,
                streams=carried.get(connection, 0),
                frames=line.frames,
                bytes=line.bytes,
                heartbeat_age_s=round(max(now - beat, 0) / SECOND_NS, 3) if up and beat else None,
            )
        )
    return rows


def problems(
    streams: list[StreamStatus],
    journal: JournalStatus,
    disk: DiskStatus | None,
    seal: SealStatus | None,
    *,
    paused: int | None,
) -> tuple[list[str], list[str]]:
    """
    What is wrong: first what keeps it from recording all that is configured, then what will if nobody looks.

    Args:
        streams: asked for.
        journal: of the present run.
        disk: None if it cannot be asked.
        seal: None if nobody seals here.
        paused: for how long (ns) capture has been stopped for want of space; None: it is not.
    """
    coming = []
    if disk is not None and disk.days_left is not None and disk.days_left < DAYS_WARNING:
        coming.append(f"the disk is full in {disk.days_left:.1f} days")
    if seal is not None and seal.failed:
        coming.append(f"the last seal failed: {seal.failed}")
    if seal is not None and seal.lag_h >= LAG_WARNING_H:
        hours = "1 hour is" if seal.unsealed_hours == 1 else f"{seal.unsealed_hours} hours are"
        coming.append(
            f"{hours} over and not sealed, the oldest is {seal.oldest_unsealed}: "
            "see the log, or run `drift-recorder seal`"
        )
    if journal.dropped:
        coming.append(f"{journal.dropped} entries were dropped since the start: the disk was too slow")
    return stopping(streams, paused=paused, commit_age_s=journal.commit_age_s), coming


def stopping(streams: list[StreamStatus], *, paused: int | None, commit_age_s: float | None) -> list[str]:
    """
    What keeps a run from recording all that is configured; see `problems`.
    """
    told = []
    if paused is not None:
        told.append(f"the disk is full: capture stopped {max(paused, 0) // SECOND_NS} s ago, until it is not")
    if commit_age_s is not None and commit_age_s > COMMIT_LATE_S:
        told.append(f"nothing was committed for {commit_age_s:.0f} s: the disk does not take it")
    by_why: dict[tuple[str, str], list[str]] = {}
    for stream in streams:
        if stream.state != "recording":
            by_why.setdefault((stream.state, stream.why), []).append(f"{stream.market} {stream.channel}")
    for (state, why), names in by_why.items():
        shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        told.append(f"{shown}: {state}, {why}" if why else f"{shown}: {state}")
    return told


NAMED = 6
"""Streams of one problem; the list of them all is beside it."""
DAYS_WARNING = 3.0
LAG_WARNING_H = 2.0
