"""
Turns an hour of journal into an hour of lake: a deterministic function of the journal around the hour and the carry.

    segments of all runs in [hour − 120 s, hour + 60 s)
      → merge by (recv_ts, run, seq), equal (run, seq) once
      → first reading: pair what several sources heard, fold the monitor, give each frame a destination and flags
      → further readings, a group of markets each: decode, buffer, write row groups   (memory is bounded by the group)
      → quality, coverage, telemetry, undecodable → read everything back → publish by rename → manifest, last

Killed anywhere, it is simply run again. Same journal, same versions: same bytes.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from recorder import __version__, durable
from recorder.errors import DamagedFile, SealFailed
from recorder.journal.reader import Damage, SegmentFile, read_merged
from recorder.lake import manifest as manifests
from recorder.lake.columns import BookColumns, FeeColumns, TradeColumns, rows_table
from recorder.lake.layout import LAKE, QUARANTINE, hour_label, partition, table_of
from recorder.lake.manifest import Input, LakeFile, Manifest, Versions
from recorder.lake.parquet import Draft, describe, first_line
from recorder.lake.plan import LOOK_AHEAD_NS, LOOK_BACK_NS, window
from recorder.lake.root import Binding
from recorder.lake.schema import FORMAT_VERSION, ROW_GROUP_BYTES, TABLES, table
from recorder.quality.coverage import CoverageRow, StreamCount
from recorder.quality.events import Tallies, build, cut, in_order, printable
from recorder.quality.identity import Resolution
from recorder.quality.monitor import Monitor
from recorder.quality.pairing import Pairing
from recorder.quality.state import FillState, HourBeats, MonitorState
from recorder.records import (
    HOUR_NS,
    Entry,
    EntryKind,
    Event,
    Flag,
    MarketType,
    SegmentHeader,
    Stream,
    Telemetry,
    decode_fact,
)
from recorder.venue.markets import MarketList, market_list, size_exponent
from recorder.venue.normalize import Book, Trade, Undecodable, decode
from recorder.venue.protocol import PERP_SIZE_EXPONENT, FrameKind, Peek, peek

GROUP_BYTES = 96 << 20
"""Column buffers of one reading; markets beyond it are read in the next."""
UNDECODABLE_ROWS = 10_000
UNDECODABLE_BYTES = 64 << 20
"""Of raw frames kept in `undecodable` an hour; the rest is counted and stays in the journal."""

_NOWHERE = 0
_UNDECODABLE = 1
_FIRST_LANE = 2
_DROPPED = 1 << 31

_Columns = BookColumns | TradeColumns | FeeColumns


class _Partition(msgspec.Struct):
    """
    One file of a market's table, while it is being made.
    """

    table: str
    symbol: str
    frames: int = 0
    bytes: int = 0


class _Lane(msgspec.Struct):
    """
    One channel name's way into a partition. Usually the only one; two indices of one name share a file.
    """

    partition: int
    market_type: MarketType
    market_index: int
    size_exponent: int | None
    count: StreamCount


class _Reading(msgspec.Struct):
    """
    What the first reading found.
    """

    lane: "array[int]"
    """Of each entry of the hour, in merged order: where it goes, `_UNDECODABLE` or `_NOWHERE`."""
    flags: "array[int]"
    """Likewise: bits of `Flag` that the stream tells, or `_DROPPED`."""
    lanes: list[_Lane]
    partitions: list[_Partition]
    counts: dict[Stream, StreamCount]
    telemetry: list[tuple[Entry, Telemetry]]
    entries: int = 0
    frames: int = 0
    until: int = 0
    """Up to when the hour is over, ns."""
    events: list[Event] = []
    streams: list[Stream] = []
    beats: dict[tuple[str, int], HourBeats] = {}
    fills: dict[str, FillState] = {}
    carry: MonitorState | None = None


def seal_hour(
    root: Path,
    binding: Binding,
    hour: int,
    found: list[SegmentFile],
    *,
    carry: MonitorState | None,
    closed: bool,
    until: int,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """
    Make and publish one hour.

    Args:
        root: of the data; the caller holds its seal lock.
        binding: what the root is bound to.
        hour: ns at which it begins.
        found: all segments of the journal.
        carry: state the hour before ended with; None if there was none.
        closed: no entry of the window can come any more. Else the hour so far is made, and its manifest says so.
        until: entries from here on (ns) are not read; the end of the window for a closed hour.
        progress: told the number of entries done, now and then.

    Returns:
        The manifest, published.

    Raises:
        SealFailed: a file that was written could not be read back.
        OSError: the disk.
    """
    seal = _Seal(root, binding, hour, window(found, hour), until=until, progress=progress)
    return seal.run(carry, closed=closed)


class _Seal:
    def __init__(
        self,
        root: Path,
        binding: Binding,
        hour: int,
        inputs: list[SegmentFile],
        *,
        until: int,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._root = root
        self._binding = binding
        self._hour = hour
        self._end = hour + HOUR_NS
        self._until = min(until, self._end + LOOK_AHEAD_NS)
        self._inputs = inputs
        self._progress = progress
        self._listed: MarketList = market_list(binding.network)
        self._deep = Tallies([])
        self._undecodable: list[tuple[int, Entry, str, str]] = []
        self._undecodable_bytes = 0
        self._drafts: list[tuple[Draft, LakeFile]] = []
        self._problems: list[str] = []
        self._damages: list[Damage] = []

    def run(self, carry: MonitorState | None, *, closed: bool) -> Manifest:
        digests = [_input(s) for s in self._inputs]
        reading = self._read_first(carry, closed=closed)
        try:
            for number, group in enumerate(_groups(reading.partitions)):
                self._write_group(reading, group, first=number == 0)
            events = self._events(reading)
            self._write_small(reading, events)
            files = self._publish()
        finally:
            for draft, _ in self._drafts:
                draft.discard()
        result = Manifest(
            format=manifests.FORMAT,
            hour=hour_label(self._hour),
            complete=closed and not self._problems,
            venue=self._binding.venue,
            network=self._binding.network,
            entries=reading.entries,
            frames=reading.frames,
            files=files,
            inputs=digests,
            carry_in=manifests.carry_digest(carry) if carry is not None else None,
            carry=reading.carry if reading.carry is not None else MonitorState(now=self._hour),
            versions=Versions(recorder=__version__, format=FORMAT_VERSION, pyarrow=pa.__version__),
            problems=self._problems,
        )
        manifests.publish(self._root, self._hour, result)
        return result

    # ---- first reading

    def _read_first(self, carry: MonitorState | None, *, closed: bool) -> _Reading:
        hour, end = self._hour, self._end
        state = _copy(carry) if carry is not None else MonitorState(now=hour)
        monitor = Monitor(self._listed, state)
        if state.now < hour:
            monitor.turn_hour(hour)
        headers: list[SegmentHeader] = []
        pairing = Pairing()
        streams = set(monitor.streams())
        reading = _Reading(array("H"), array("I"), [], [], {}, [])
        lane_of: dict[tuple[str, str, int], int] = {}
        ended = False
        last = hour
        for entry in self._entries(hour - LOOK_BACK_NS, self._until, check=True, on_header=headers.append):
            now = entry.recv_ts
            while headers:
                monitor.adopt(headers.pop())
            seen = peek(entry.payload) if entry.kind == EntryKind.FRAME else None
            duplicate = repeat = False
            if seen is not None and seen.kind == FrameKind.DATA:
                duplicate, repeat = pairing.hear(entry.run, entry.connection, now, entry.payload)
            if now < hour:
                continue
            last = now
            if now >= end:
                if not ended:
                    ended = True
                    monitor = self._end_hour(monitor, reading, streams, end)
                monitor.step(entry, seen, duplicate=duplicate)
                continue
            verdict = monitor.step(entry, seen, duplicate=duplicate)
            reading.entries += 1
            if self._progress is not None and reading.entries % 5000 == 0:
                self._progress(reading.entries)
            lane, flags = _NOWHERE, 0
            if seen is not None:
                reading.frames += 1
                if verdict is not None and verdict.resolution.stream is not None:
                    lane = self._lane(seen, verdict.resolution, lane_of, reading)
                    way = reading.lanes[lane - _FIRST_LANE]
                    flags = self._mark(entry, way, reading, verdict.flags, duplicate=duplicate, repeat=repeat)
                elif verdict is not None or seen.kind in {FrameKind.UNDECODABLE, FrameKind.UNKNOWN}:
                    lane = _UNDECODABLE
            elif entry.kind == EntryKind.FACT:
                streams.update(monitor.streams())
                self._keep_telemetry(entry, reading)
            reading.lane.append(lane)
            reading.flags.append(flags)
        if not ended:
            # What a recorder that goes on will bring is not there yet.
            monitor = self._end_hour(monitor, reading, streams, end if closed else last)
        monitor.finish(end + LOOK_AHEAD_NS if closed else last, closed=closed)
        reading.events += monitor.events
        return reading

    def _entries(
        self, start: int, end: int, *, check: bool, on_header: Callable[[SegmentHeader], None] | None = None
    ) -> Iterator[Entry]:
        return read_merged(
            self._inputs,
            start=start,
            end=end,
            check=check,
            on_damage=self._damages.append if on_header is not None else None,
            on_header=on_header,
        )

    def _lane(
        self,
        seen: Peek,
        resolution: Resolution,
        lane_of: dict[tuple[str, str, int], int],
        reading: _Reading,
    ) -> int:
        assert seen.channel is not None
        assert resolution.stream is not None
        channel = seen.channel
        key = (seen.name, resolution.symbol, channel.market_index)
        lane = lane_of.get(key)
        if lane is not None:
            return lane
        where = (table_of(channel), resolution.symbol)
        at = next((i for i, p in enumerate(reading.partitions) if (p.table, p.symbol) == where), None)
        if at is None:
            at = len(reading.partitions)
            reading.partitions.append(_Partition(*where))
        count = reading.counts.setdefault(resolution.stream, StreamCount())
        exponent = size_exponent_of(self._listed, channel.market_type, channel.market_index, resolution)
        reading.lanes.append(_Lane(at, channel.market_type, channel.market_index, exponent, count))
        lane = lane_of[key] = len(reading.lanes) - 1 + _FIRST_LANE
        if lane > 0xFFFF:
            raise SealFailed(f"{hour_label(self._hour)}: more than 65,000 channels; record fewer markets")
        return lane

    def _mark(self, entry: Entry, lane: _Lane, reading: _Reading, flags: int, *, duplicate: bool, repeat: bool) -> int:
        lane.count.carriers.add((entry.run, entry.connection))
        if duplicate:
            lane.count.duplicates += 1
            return _DROPPED
        part = reading.partitions[lane.partition]
        part.frames += 1
        part.bytes += len(entry.payload)
        return int(flags) | (int(Flag.REPEAT) if repeat else 0)

    def _keep_telemetry(self, entry: Entry, reading: _Reading) -> None:
        try:
            fact = decode_fact(entry.payload)
        except msgspec.DecodeError:
            return
        if isinstance(fact, Telemetry):
            reading.telemetry.append((entry, fact))

    def _end_hour(self, monitor: Monitor, reading: _Reading, streams: set[Stream], until: int) -> Monitor:
        """
        Note what stands at the hour's end, and go on with a copy: what follows only closes what was left open.
        """
        reading.until = until
        reading.beats = {key: msgspec.structs.replace(beats) for key, beats in monitor.hour_beats(until).items()}
        reading.fills = {key: msgspec.structs.replace(fills) for key, fills in monitor.fills().items()}
        reading.streams = sorted(streams | set(monitor.streams()))
        for stream, carriers in monitor.carriers().items():
            reading.counts.setdefault(stream, StreamCount()).carriers |= carriers
        if until == self._end:
            monitor.turn_hour(until)
        reading.events += monitor.events
        reading.carry = _copy(monitor.state())
        probe = Monitor(self._listed, _copy(reading.carry))
        probe.adopt_all(monitor)
        return probe

    # ---- further readings

    def _write_group(self, reading: _Reading, group: list[int], *, first: bool) -> None:
        """
        Decode and write the partitions of one group; with the first group also gather what is undecodable.
        """
        into: dict[int, _Columns] = {at: _columns_for(reading.partitions[at].table) for at in group}
        drafts: dict[int, Draft] = {}
        failed: set[int] = set()
        lanes, marks, known = reading.lane, reading.flags, len(reading.lane)
        # Bytes whose checksums held a moment ago are not summed again; damaged ones must be skipped again.
        entries = self._entries(self._hour, min(self._until, self._end), check=bool(self._damages))
        for ordinal, entry in enumerate(entries):
            if ordinal >= known:
                break  # an open hour has grown since
            lane = lanes[ordinal]
            if lane == _NOWHERE:
                continue
            if lane == _UNDECODABLE:
                if first:
                    self._keep_unplaced(ordinal, entry)
                continue
            way = reading.lanes[lane - _FIRST_LANE]
            columns = into.get(way.partition)
            if columns is None or marks[ordinal] & _DROPPED or way.partition in failed:
                continue
            part = reading.partitions[way.partition]
            self._add(ordinal, entry, marks[ordinal], part, way, columns)
            if columns.full:
                try:
                    self._flush(part, columns, drafts, way.partition)
                except (pa.ArrowException, OSError) as error:
                    self._fail(part, error)
                    failed.add(way.partition)
        for at, columns in into.items():
            part = reading.partitions[at]
            if at in failed:
                continue
            try:
                self._flush(part, columns, drafts, at)
                if at in drafts:
                    written = drafts[at].finish(part.symbol)
                    if written is not None:
                        self._drafts.append((drafts.pop(at), written))
            except (pa.ArrowException, OSError, SealFailed) as error:
                self._fail(part, error)
        for draft in drafts.values():
            draft.discard()

    def _add(self, ordinal: int, entry: Entry, flags: int, part: _Partition, way: _Lane, columns: _Columns) -> None:
        decoded = decode(entry.payload, size_exponent=way.size_exponent)
        if isinstance(decoded, Undecodable):
            self._keep_raw(ordinal, entry, "undecodable", decoded.reason)
            self._find("undecodable", entry, decoded.reason, part.symbol)
            return
        ts: int | None = None
        if isinstance(decoded, Book):
            assert isinstance(columns, BookColumns)
            columns.append(decoded, entry, symbol=part.symbol, size_exponent=way.size_exponent, flags=flags)
            ts = decoded.ts
        elif isinstance(decoded, Trade):
            assert isinstance(columns, TradeColumns)
            columns.append(decoded, entry, symbol=part.symbol, size_exponent=way.size_exponent, flags=flags)
            ts = decoded.ts
        else:
            assert isinstance(columns, FeeColumns)
            columns.append(decoded, entry, symbol=part.symbol, flags=flags)
        for name in decoded.drift:
            self._find("schema_drift", entry, f"{name} is not known to this version; kept in `extra`", part.symbol)
        way.count.add(recv_ts=entry.recv_ts, ts_ms=ts, size=len(entry.payload), flags=decoded.flags | flags)

    def _find(self, kind: str, entry: Entry, evidence: str, symbol: str) -> None:
        self._deep.add(
            kind,
            entry.recv_ts,
            cause="venue",
            evidence=evidence,
            run=entry.run,
            connection=entry.connection,
            symbol=symbol,
        )

    def _flush(self, part: _Partition, columns: _Columns, drafts: dict[int, Draft], at: int) -> None:
        if not columns.rows:
            return
        draft = drafts.get(at)
        if draft is None:
            metadata = {"venue": self._binding.venue, "network": self._binding.network, "symbol": part.symbol}
            draft = drafts[at] = Draft(
                self._root,
                partition(part.table, self._hour, part.symbol),
                table(part.table),
                hour=self._hour,
                metadata=metadata,
            )
        draft.write(columns.take())

    def _fail(self, part: _Partition, error: Exception) -> None:
        self._problems.append(f"{part.table} of {part.symbol}: {first_line(error)}")

    def _keep_unplaced(self, ordinal: int, entry: Entry) -> None:
        seen = peek(entry.payload)
        if seen.kind == FrameKind.DATA:
            self._keep_raw(ordinal, entry, "unrequested", f"nobody asked for {printable(seen.name)}")
        elif seen.kind == FrameKind.UNKNOWN:
            self._keep_raw(ordinal, entry, "unknown", printable(seen.text))
        else:
            self._keep_raw(ordinal, entry, "undecodable", printable(seen.text))

    def _keep_raw(self, ordinal: int, entry: Entry, kind: str, reason: str) -> None:
        if (
            len(self._undecodable) >= UNDECODABLE_ROWS
            or self._undecodable_bytes + len(entry.payload) > UNDECODABLE_BYTES
        ):
            return
        self._undecodable_bytes += len(entry.payload)
        self._undecodable.append((ordinal, entry, kind, reason))

    # ---- the small tables

    def _events(self, reading: _Reading) -> list[Event]:
        events = reading.events + self._deep.take_all()
        events += [
            build(
                "seal_failed",
                cause="recorder",
                start=self._hour,
                end=self._end,
                evidence=f"{problem}; the frames are in the journal",
            )
            for problem in self._problems
        ]
        return in_order([part for event in events if (part := cut(event, self._hour)) is not None])

    def _write_small(self, reading: _Reading, events: list[Event]) -> None:
        self._write_rows("quality", events)
        self._write_rows("coverage", self._coverage(reading, events))
        self._write_rows(
            "telemetry",
            [
                {
                    "recv_ts": entry.recv_ts,
                    "run": entry.run,
                    "seq": entry.seq,
                    **msgspec.structs.asdict(fact),
                }
                for entry, fact in reading.telemetry
            ],
        )
        self._undecodable.sort(key=lambda kept: kept[0])
        self._write_rows(
            "undecodable",
            [
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
                for _, entry, kind, reason in self._undecodable
            ],
        )

    def _coverage(self, reading: _Reading, events: list[Event]) -> list[CoverageRow]:
        rows: list[CoverageRow] = []
        index_of = {
            (key.partition(":")[0], name): int(key.partition(":")[2])
            for key, name in (reading.carry.identity if reading.carry is not None else {}).items()
        }
        for stream in reading.streams:
            listed = self._listed.by_symbol(stream.market_type, stream.symbol)
            index = index_of.get((stream.market_type, stream.symbol), listed.index if listed is not None else None)
            rows.append(
                reading.counts.get(stream, StreamCount()).row(
                    stream,
                    hour=self._hour,
                    until=reading.until,
                    market_index=index,
                    beats=reading.beats,
                    fills=reading.fills.get(f"{stream.market_type}:{index}"),
                    events=events,
                )
            )
        return rows

    def _write_rows(self, name: str, rows: Sequence[msgspec.Struct | dict[str, Any]]) -> None:
        if not rows:
            return
        metadata = {"venue": self._binding.venue, "network": self._binding.network}
        draft = Draft(self._root, partition(name, self._hour), TABLES[name], hour=self._hour, metadata=metadata)
        draft.write(rows_table(TABLES[name], rows))
        written = draft.finish(None)
        if written is not None:
            self._drafts.append((draft, written))

    # ---- publishing

    def _publish(self) -> list[LakeFile]:
        for damaged in {damage.path for damage in self._damages}:
            self._copy_aside(damaged)
        manifests.withdraw(self._root, self._hour)
        kept: set[Path] = set()
        for draft, written in self._drafts:
            target = self._root / draft.path
            if target.exists() and (rows := _rows_of(target)) is not None and rows > written.rows:
                # Never replace more by less: what was published had rows that the journal has no more.
                self._quarantine(target)
            draft.publish()
            kept.add(target)
        for stray in self._published():
            if stray not in kept:
                self._quarantine(stray)
        files = sorted((written for _, written in self._drafts), key=lambda file: file.path)
        self._drafts.clear()
        return files

    def _published(self) -> list[Path]:
        """
        The hour's files that are there now.
        """
        lake = self._root / LAKE
        found: list[Path] = []
        for folder in sorted(lake.iterdir()) if lake.is_dir() else []:
            name = folder.name
            plain = self._root / partition(name, self._hour)
            tail = plain.relative_to(folder)
            found += [path for path in (plain, *(m / tail for m in sorted(folder.glob("market=*")))) if path.exists()]
        return found

    def _quarantine(self, path: Path) -> None:
        target = _free(self._root / QUARANTINE / path.relative_to(self._root))
        durable.make_directories(target.parent)
        durable.rename(path, target)

    def _copy_aside(self, path: Path) -> None:
        target = self._root / QUARANTINE / path.relative_to(self._root)
        if not target.exists():
            durable.make_directories(target.parent)
            durable.publish_bytes(target, path.read_bytes())


def size_exponent_of(
    listed: MarketList, market_type: MarketType, market_index: int, resolution: Resolution
) -> int | None:
    """
    Power of ten of a market's sizes; the book's name outranks the list's index.
    """
    if resolution.renamed is None:
        return size_exponent(listed, market_type, market_index)
    named = listed.by_symbol(market_type, resolution.symbol)
    return PERP_SIZE_EXPONENT if market_type == "perp" else named.size_exponent if named is not None else None


def _copy(state: MonitorState) -> MonitorState:
    return msgspec.json.decode(msgspec.json.encode(state), type=MonitorState)


def _input(segment: SegmentFile) -> Input:
    data = segment.path.read_bytes()
    return Input(segment.run, segment.name.removesuffix(".open"), len(data), sha256(data).hexdigest())


def _groups(partitions: list[_Partition]) -> list[list[int]]:
    """
    Partitions to read together: as many as their buffers have memory for; at least one group.
    """
    groups: list[list[int]] = [[]]
    room = GROUP_BYTES
    for at, part in enumerate(partitions):
        need = min(part.bytes, ROW_GROUP_BYTES)
        if need > room and groups[-1]:
            groups.append([])
            room = GROUP_BYTES
        groups[-1].append(at)
        room -= need
    return groups


def _columns_for(name: str) -> _Columns:
    if name == "trades":
        return TradeColumns()
    return FeeColumns() if name == "priority_fees" else BookColumns()


def _rows_of(path: Path) -> int | None:
    try:
        return int(describe(path)["rows"])
    except DamagedFile:
        return None


def _free(path: Path) -> Path:
    """
    The path, or one like it that is not taken.
    """
    again = 0
    free = path
    while free.exists():
        again += 1
        free = path.with_name(f"{path.name}.{again}")
    return free
