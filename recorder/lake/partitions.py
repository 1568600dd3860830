"""
The further readings of an hour: frames are decoded in full and become the files of the markets' tables.

Markets are done in groups, a reading each, so that memory is bounded by the group whatever the hour holds. How they
are grouped changes no byte of any file. A partition that fails does not stop the others: it is read once more, on its
own, and then given up until the next seal.
"""

from array import array
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol
from zlib import crc32

import msgspec
import pyarrow as pa

from recorder.errors import SealFailed
from recorder.lake.columns import NULL, BookColumns, FeeColumns, TradeColumns
from recorder.lake.layout import partition
from recorder.lake.manifest import LakeFile
from recorder.lake.memory import return_what_is_free
from recorder.lake.parquet import Draft, first_line
from recorder.lake.root import Binding
from recorder.lake.schema import ROW_GROUP_BYTES, ROW_GROUP_ROWS, table
from recorder.lake.survey import DROPPED, FIRST_LANE, NOWHERE, UNPLACED, HourJournal, Lane, Partition, Survey
from recorder.quality.events import channel_of, printable
from recorder.quality.tallies import Tallies
from recorder.records import Entry, Event, Stream
from recorder.venue.normalize import Book, Fees, Trade, Undecodable, decode
from recorder.venue.protocol import FrameKind, peek

GROUP_BYTES = 128 << 20
"""Memory for the partitions of one reading; those beyond it are made in the next."""
FOOTER_BYTES = 2 << 10
"""What a Parquet writer remembers of each column of each row group until the end, as measured."""
SHORTEST_ROW_GROUP = 150
UNDECODABLE_ROWS = 10_000
UNDECODABLE_BYTES = 32 << 20
"""Of raw frames of one kind kept in `undecodable` an hour, the first that came; the rest is only counted."""

Columns = BookColumns | TradeColumns | FeeColumns


class RowLog:
    """
    What coverage has to know of each row of one lane, in the order of receipt.
    """

    def __init__(self) -> None:
        self.recv_ts, self.ts = array("q"), array("q")
        self.sizes, self.flags = array("I"), array("I")

    def add(self, recv_ts: int, ts: int | None, size: int, flags: int) -> None:
        """
        Note one row; `ts` in ms.
        """
        self.recv_ts.append(recv_ts)
        self.ts.append(NULL if ts is None else ts)
        self.sizes.append(size)
        self.flags.append(flags)


class Unplaced:
    """
    Raw frames for `undecodable`, each kind with limits of its own: what nobody asked for must not push out a book.
    """

    def __init__(self) -> None:
        self._of_kind: dict[str, _FirstFrames] = {}

    def keep(self, ordinal: int, entry: Entry, kind: str, reason: str) -> None:
        """
        Take a frame; `ordinal` is its place in the hour.
        """
        self._of_kind.setdefault(kind, _FirstFrames()).keep(ordinal, entry, kind, reason)

    def rows(self) -> list[tuple[Entry, str, str]]:
        """
        What is kept, as (entry, kind, reason), by place.
        """
        kept = sorted((each for of in self._of_kind.values() for each in of.cut()), key=lambda each: each[0])
        return [(entry, kind, reason) for _, entry, kind, reason in kept]


class _FirstFrames:
    """
    The first frames of one kind in the hour, as many as the limits admit, in whatever order they are found.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[int, Entry, str, str]] = []
        self._bytes = 0
        self._last: int | None = None
        """Beyond this place nothing is kept any more."""

    def keep(self, ordinal: int, entry: Entry, kind: str, reason: str) -> None:
        """
        Take a frame; `ordinal` is its place in the hour.
        """
        if self._last is not None and ordinal > self._last:
            return
        self._kept.append((ordinal, entry, kind, reason))
        self._bytes += len(entry.payload)
        if len(self._kept) >= 2 * UNDECODABLE_ROWS or self._bytes >= 2 * UNDECODABLE_BYTES:
            self.cut()

    def cut(self) -> list[tuple[int, Entry, str, str]]:
        """
        What is kept, by place, and no more.
        """
        self._kept.sort(key=lambda kept: kept[0])
        self._bytes = 0
        # A partition that was read twice has told of its frames twice.
        self._kept = [kept for at, kept in enumerate(self._kept) if not at or kept[0] != self._kept[at - 1][0]]
        for count, (ordinal, entry, *_) in enumerate(self._kept):
            if count >= UNDECODABLE_ROWS or self._bytes + len(entry.payload) > UNDECODABLE_BYTES:
                # Of this and all that follow: what comes later cannot be among the first.
                self._last = ordinal - 1
                del self._kept[count:]
                break
            self._bytes += len(entry.payload)
        return self._kept


class Written(msgspec.Struct):
    """
    What came of the markets' partitions.
    """

    unplaced: Unplaced
    drafts: list[tuple[Draft, LakeFile]] = []
    rows: dict[Stream, list[RowLog]] = {}
    events: list[Event] = []
    """What only a full decode finds; uncut."""
    failed: dict[int, str] = {}
    """Partitions (by their place in the survey) that could not be written, and why."""


class Sink(Protocol):
    """
    Takes the rows of one partition: a file in the making, or memory.
    """

    def write(self, rows: pa.Table) -> None:
        """
        Append rows.
        """

    def finish(self, symbol: str | None) -> LakeFile | None:
        """
        No more rows come. Returns what is to be published; None if nothing is.
        """

    def discard(self) -> None:
        """
        Forget them.
        """


class _Making:
    """
    One partition while it is being made.
    """

    def __init__(self, at: int, part: Partition) -> None:
        self.at, self.part = at, part
        self.columns = _columns_for(part.table)
        self.room = _first_row_group(part)
        """Rows of the row group that is being filled."""
        self.sink: Sink | None = None
        self.logs: dict[int, RowLog] = {}
        """By lane."""
        self.findings = Tallies([])
        self.events: list[Event] = []


class PartitionWriter:
    """
    Makes drafts of all partitions of a survey.
    """

    def __init__(
        self,
        root: Path,
        binding: Binding,
        journal: HourJournal,
        survey: Survey,
        *,
        only: Collection[int] | None = None,
        sink: Callable[[Partition], Sink] | None = None,
    ) -> None:
        """
        Args:
            root: of the data.
            binding: of the root.
            journal: of the hour.
            survey: what the first reading found.
            only: places in the survey of the partitions to make; None: all.
            sink: where the rows of one go; None: to a draft of its file.
        """
        self._root, self._binding, self._journal, self._survey = root, binding, journal, survey
        self._only, self._sink = only, sink or self._draft
        self._written = Written(Unplaced())
        self._making: dict[int, _Making] = {}
        self._failed_now: dict[int, str] = {}

    def write(self) -> Written:
        """
        Read and write everything.

        Raises:
            OSError: the journal cannot be read.
        """
        try:
            for number, group in enumerate(_groups(self._survey.partitions)):
                wanted = group if self._only is None else [at for at in group if at in self._only]
                if wanted or self._only is None:
                    self._read_group(wanted, first=number == 0)
            again, self._failed_now = list(self._failed_now), {}
            if again:
                self._read_group(again, first=False)
            self._written.failed = self._failed_now
        except BaseException:
            self.discard()
            raise
        return self._written

    def discard(self) -> None:
        """
        Remove all drafts.
        """
        for making in self._making.values():
            if making.sink is not None:
                making.sink.discard()
        for draft, _ in self._written.drafts:
            draft.discard()

    def _read_group(self, group: list[int], *, first: bool) -> None:
        """
        Decode and write some partitions; with the first group also gather what has no partition.
        """
        survey = self._survey
        self._making = {at: _Making(at, survey.partitions[at]) for at in group}
        # By lane: what its frames are for. Looked up for every frame of the hour.
        ways = [(self._making.get(lane.partition), lane) for lane in survey.lanes]
        lanes, marks, known = survey.lane, survey.flags, len(survey.lane)
        for ordinal, entry in enumerate(self._journal.within()):
            if ordinal >= known:
                break  # an open hour has grown since
            lane = lanes[ordinal]
            if lane == NOWHERE:
                continue
            if lane == UNPLACED:
                if first:
                    self._keep_unplaced(ordinal, entry)
                continue
            making, way = ways[lane - FIRST_LANE]
            if making is None or marks[ordinal] & DROPPED or way.partition not in self._making:
                continue
            try:
                self._add(ordinal, entry, marks[ordinal], way, lane, making)
                if making.columns.rows >= making.room or making.columns.full:
                    self._flush(making)
                    making.room = ROW_GROUP_ROWS
            except Exception as error:  # noqa: BLE001 - whatever a frame nobody foresaw makes: others go on without it
                self._fail(way.partition, error)
        for at in list(self._making):
            self._finish(at)
        return_what_is_free()

    def _add(self, ordinal: int, entry: Entry, flags: int, way: Lane, lane: int, making: _Making) -> None:
        decoded = decode(entry.payload, size_exponent=way.size_exponent)
        columns, symbol = making.columns, making.part.symbol
        ts: int | None = None
        if isinstance(decoded, Undecodable) or (decoded.channel is not way.channel and decoded.channel != way.channel):
            # A name may stand twice in an envelope: then the glance that gave the lane saw another channel.
            reason = decoded.reason if isinstance(decoded, Undecodable) else "its envelope names two channels"
            self._written.unplaced.keep(ordinal, entry, "undecodable", reason)
            self._find("undecodable", entry, reason, making, channel=channel_of(way.stream))
            return
        match decoded, columns:
            case Book() as row, BookColumns() as to:
                to.append(row, entry, symbol=symbol, size_exponent=way.size_exponent, flags=flags)
                ts = row.ts
            case Trade() as row, TradeColumns() as to:
                to.append(row, entry, symbol=symbol, size_exponent=way.size_exponent, flags=flags)
                ts = row.ts
            case Fees() as row, FeeColumns() as to:
                to.append(row, entry, symbol=symbol, flags=flags)
            case _:
                raise SealFailed(f"a {type(decoded).__name__} does not go into {making.part.table}")
        for name in decoded.drift:
            self._find("schema_drift", entry, f"{name} is not known to this version; kept in `extra`", making)
        log = making.logs.get(lane)
        if log is None:
            log = making.logs[lane] = RowLog()
        log.add(entry.recv_ts, ts, len(entry.payload), decoded.flags | flags)

    def _find(self, kind: str, entry: Entry, evidence: str, making: _Making, *, channel: str | None = None) -> None:
        making.events += making.findings.take_idle(entry.recv_ts)
        making.findings.add(
            kind,
            entry.recv_ts,
            cause="venue",
            evidence=evidence,
            run=entry.run,
            connection=entry.connection,
            symbol=making.part.symbol,
            channel=channel,
        )

    def _flush(self, making: _Making) -> None:
        if not making.columns.rows:
            return
        if making.sink is None:
            making.sink = self._sink(making.part)
        making.sink.write(making.columns.take())

    def _draft(self, part: Partition) -> Draft:
        return Draft(
            self._root,
            partition(part.table, self._journal.hour, part.symbol),
            table(part.table),
            hour=self._journal.hour,
            metadata=self._metadata(part),
        )

    def _metadata(self, part: Partition) -> dict[str, str]:
        """
        What the file says of itself, so that it can be read alone.
        """
        at = self._survey.partitions.index(part)
        ways = [lane for lane in self._survey.lanes if lane.partition == at]
        metadata = {"venue": self._binding.venue, "network": self._binding.network, "symbol": part.symbol}
        for name, values in (
            ("market_type", {lane.channel.market_type for lane in ways}),
            ("market_index", {lane.channel.market_index for lane in ways}),
            ("size_exponent", {lane.size_exponent for lane in ways}),
        ):
            if len(values) == 1 and (value := values.pop()) is not None:
                metadata[name] = str(value)
        return metadata

    def _finish(self, at: int) -> None:
        making = self._making[at]
        try:
            self._flush(making)
            written = making.sink.finish(making.part.symbol) if making.sink is not None else None
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(at, error)
            return
        if isinstance(making.sink, Draft) and written is not None:
            self._written.drafts.append((making.sink, written))
        for lane, log in making.logs.items():
            self._written.rows.setdefault(self._survey.lanes[lane - FIRST_LANE].stream, []).append(log)
        self._written.events += making.events + making.findings.take_all()
        del self._making[at]

    def _fail(self, at: int, error: Exception) -> None:
        making = self._making.pop(at)
        if making.sink is not None:
            making.sink.discard()
        self._failed_now[at] = f"{making.part.table} of {printable(making.part.symbol)}: {first_line(error)}"

    def _keep_unplaced(self, ordinal: int, entry: Entry) -> None:
        seen = peek(entry.payload)
        keep = self._written.unplaced.keep
        if seen.kind == FrameKind.DATA:
            keep(ordinal, entry, "unrequested", f"nobody asked for {printable(seen.name)}")
        elif seen.kind == FrameKind.UNKNOWN:
            keep(ordinal, entry, "unknown", printable(seen.text))
        else:
            keep(ordinal, entry, "undecodable", printable(seen.text))


def _first_row_group(part: Partition) -> int:
    """
    Rows of a file's first row group.

    Markets tick together: were all row groups alike, all buffers would be full at once. So the first is cut short, by
    a share that the market's name decides (no other market changes a file's bytes), and buffers are half full on
    average.
    """
    if part.rows <= ROW_GROUP_ROWS:
        return ROW_GROUP_ROWS
    share = crc32(f"{part.table}/{part.symbol}".encode()) / 2**32
    return SHORTEST_ROW_GROUP + int(share * (ROW_GROUP_ROWS - SHORTEST_ROW_GROUP))


def _need(part: Partition) -> int:
    """
    Bytes of memory a partition takes while it is made, on average over those that are made together: its buffers
    (numbers take less than half of their text) and the footer that its writer collects.
    """
    buffers = min(part.bytes // 2, ROW_GROUP_BYTES // 2 if part.rows > ROW_GROUP_ROWS else ROW_GROUP_BYTES)
    row_groups = part.rows // ROW_GROUP_ROWS + 2
    return buffers + row_groups * len(table(part.table).columns) * FOOTER_BYTES


def _groups(partitions: list[Partition]) -> list[list[int]]:
    """
    Partitions to make together: as few groups as their memory allows, of about equal need; at least one.
    """
    needs = [_need(part) for part in partitions]
    count = max(min(-(-sum(needs) // GROUP_BYTES), len(needs)), 1)
    share = sum(needs) / count
    groups: list[list[int]] = [[] for _ in range(count)]
    before = 0
    for at, need in enumerate(needs):
        groups[min(int((before + need / 2) / share), count - 1) if share else 0].append(at)
        before += need
    return groups


def _columns_for(name: str) -> Columns:
    if name == "trades":
        return TradeColumns()
    return FeeColumns() if name == "priority_fees" else BookColumns()
