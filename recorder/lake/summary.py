"""
What an hour's own tables say: quality, coverage, connections, telemetry, undecodable.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from recorder.lake.columns import rows_table
from recorder.lake.layout import partition
from recorder.lake.manifest import LakeFile
from recorder.lake.parquet import Draft
from recorder.lake.partitions import Written
from recorder.lake.root import Binding
from recorder.lake.schema import TABLES
from recorder.lake.survey import Survey
from recorder.quality.coverage import CoverageRow, HourFacts, StreamCount, by_symbol
from recorder.quality.events import build, cut, in_order
from recorder.quality.gaps import settled
from recorder.quality.intervals import difference, length, union
from recorder.quality.state import HourBeats
from recorder.records import HOUR_NS, SECOND_NS, Event, QualitySettings, Stream
from recorder.venue.markets import MarketList
from recorder.venue.protocol import HEARTBEAT_INTERVAL_S

MAX_INT64 = 2**63 - 1
_OF_CONNECTIONS = frozenset({"connected", "disconnected", "connect_failed"})


def hour_events(survey: Survey, written: Written, hour: int, *, kept: Iterable[str] = ()) -> list[Event]:
    """
    All events of an hour, cut to it, in the order of `quality`.

    Args:
        survey: of the hour.
        written: what came of its partitions.
        hour: ns at which it begins.
        kept: in words, published files that the journal can no longer make.
    """
    failed = [
        build(
            "seal_failed",
            cause="recorder",
            start=hour,
            end=hour + HOUR_NS,
            symbol=survey.partitions[at].symbol,
            channel=survey.partitions[at].table,
            evidence=f"{problem}; the frames are in the journal",
        )
        for at, problem in sorted(written.failed.items())
    ]
    poorer = [
        build("journal_damaged", cause="recorder", start=hour, end=hour + HOUR_NS, evidence=words, symbol=None)
        for words in kept
    ]
    found = (_named(event, survey.carry.identity) for event in survey.events)
    events = [*found, *written.events, *failed, *poorer]
    return in_order(settled(part for event in events if (part := cut(event, hour)) is not None))


def _named(event: Event, names: dict[str, str]) -> Event:
    """
    An event of a market that had no name yet when it was told, under the name that a book gave it since: its rows are.
    """
    name = names.get(event.symbol.replace("-", ":", 1)) if event.symbol is not None else None
    return event if name is None else msgspec.structs.replace(event, symbol=name)


def coverage_rows(
    survey: Survey, written: Written, hour: int, *, listed: MarketList, events: list[Event]
) -> list[CoverageRow]:
    """
    A row for each stream that was configured in the hour, whether it spoke or not.
    """
    index_of = {
        (key.partition(":")[0], name): int(key.partition(":")[2]) for key, name in survey.carry.identity.items()
    }
    of = _hour_facts(survey, hour, events)
    rows: list[CoverageRow] = []
    for stream in survey.streams:
        count = StreamCount()
        count.carriers = survey.carriers.get(stream, set())
        count.duplicates = survey.duplicates.get(stream, 0)
        for log in written.rows.get(stream, []):
            count.take(recv_ts=log.recv_ts, ts_ms=log.ts, sizes=log.sizes, flags=log.flags)
        of_list = listed.by_symbol(stream.market_type, stream.symbol)
        index = index_of.get((stream.market_type, stream.symbol), of_list.index if of_list is not None else None)
        rows.append(count.row(stream, of, market_index=index, fills=survey.fills.get(f"{stream.market_type}:{index}")))
    return rows


def _hour_facts(survey: Survey, hour: int, events: list[Event]) -> HourFacts:
    """
    What all streams of the hour have in common.
    """
    since: dict[Stream, dict[tuple[str, int], int]] = {}
    for flow in survey.carry.flows:
        since.setdefault(flow.stream, {})[flow.run, flow.connection] = flow.since
    silences = [run.settings.silent_after_s for run in survey.carry.runs]
    return HourFacts(
        hour=hour,
        until=survey.until,
        beats=survey.beats,
        events=by_symbol(events),
        since=since,
        not_running=_not_running(survey, hour, events),
        silence_ns=int(max(silences, default=QualitySettings().silent_after_s) * SECOND_NS),
    )


def _not_running(survey: Survey, hour: int, events: list[Event]) -> list[tuple[int, int]]:
    """
    The hour up to the first run ever: of every later time without a run, an event tells.
    """
    first = min((run.started for run in survey.carry.runs), default=hour)
    started = any(event.kind == "recorder_started" and event.start == first for event in events)
    if not started:
        return []
    # A later run may be the first of its hour, too: the time before that one is a hole.
    down = union((event.start, event.end) for event in events if event.kind == "recorder_down")
    return difference(union([(hour, first)]), down)


def connection_rows(survey: Survey, hour: int, *, events: list[Event]) -> list[dict[str, Any]]:
    """
    A row for each connection of each run that was up or down in the hour.
    """
    told: dict[tuple[str, int], dict[str, list[Event]]] = {}
    for event in events:
        if event.run is not None and event.connection is not None and event.kind in _OF_CONNECTIONS:
            told.setdefault((event.run, event.connection), {}).setdefault(event.kind, []).append(event)
    streams = Counter(carrier for carriers in survey.carriers.values() for carrier in carriers)
    rows = []
    for key in sorted({*survey.beats, *told}):
        beats, of = survey.beats.get(key, HourBeats(*key)), told.get(key, {})
        down = union((event.start, event.end) for event in of.get("disconnected", []))
        rows.append(
            {
                "start": hour,
                "run": key[0],
                "connection": key[1],
                "up_s": beats.up_ns / SECOND_NS,
                "down_s": length(down) / SECOND_NS,
                "connects": len(of.get("connected", [])),
                "disconnects": len(of.get("disconnected", [])),
                "connect_failures": len(of.get("connect_failed", [])),
                "heartbeats": beats.heartbeats,
                "heartbeats_expected": beats.up_ns // (HEARTBEAT_INTERVAL_S * SECOND_NS),
                "longest_heartbeat_s": beats.longest_ns / SECOND_NS if beats.longest_ns is not None else None,
                "streams": streams[key],
            }
        )
    return rows


def summary_rows(
    survey: Survey, written: Written, *, hour: int, events: list[Event], coverage: list[CoverageRow]
) -> dict[str, Sequence[msgspec.Struct | dict[str, Any]]]:
    """
    Rows of the hour's own tables, by table; their integers fit the columns.
    """
    telemetry = [
        {"recv_ts": entry.recv_ts, "run": entry.run, "seq": entry.seq, **msgspec.structs.asdict(fact)}
        for entry, fact in survey.telemetry
    ]
    undecodable = [
        {
            "recv_ts": entry.recv_ts,
            "run": entry.run,
            "seq": entry.seq,
            "connection": entry.connection,
            "attempt": entry.attempt,
            "kind": kind,
            "reason": reason,
            "payload": entry.payload,
        }
        for entry, kind, reason in written.unplaced.rows()
    ]
    return {
        "quality": [_clamped(event) for event in events],
        "coverage": [_clamped(row) for row in coverage],
        "connections": connection_rows(survey, hour, events=events),
        "telemetry": telemetry,
        "undecodable": undecodable,
    }


def write_summary(
    root: Path,
    binding: Binding,
    survey: Survey,
    written: Written,
    *,
    hour: int,
    events: list[Event],
    coverage: list[CoverageRow],
) -> list[tuple[Draft, LakeFile]]:
    """
    Drafts of the hour's own tables; none for a table without rows.

    Raises:
        SealFailed: one could not be read back.
        OSError: the disk.
    """
    of_table = summary_rows(survey, written, hour=hour, events=events, coverage=coverage)
    metadata = {"venue": binding.venue, "network": binding.network}
    drafts: list[tuple[Draft, LakeFile]] = []
    draft: Draft | None = None
    try:
        for name, rows in of_table.items():
            if not rows:
                continue
            draft = Draft(root, partition(name, hour), TABLES[name], hour=hour, metadata=metadata)
            draft.write(rows_table(TABLES[name], rows))
            file = draft.finish(None)
            assert file is not None
            drafts.append((draft, file))
    except BaseException:
        for unfinished in (*(d for d, _ in drafts), *((draft,) if draft is not None else ())):
            unfinished.discard()
        raise
    return drafts


def _clamped(row: msgspec.Struct) -> dict[str, Any]:
    """
    A row whose integers fit their columns: slots and fill ids are the venue's, and it may send any number.
    """
    return {
        name: max(-MAX_INT64, min(MAX_INT64, value)) if isinstance(value, int) else value
        for name, value in msgspec.structs.asdict(row).items()
    }
