"""
The hours that are not sealed yet, read from the journal of a recorder that may be running, without any effect on it.

Nothing is written and no lock is taken, not even to ask whether one is held. What comes out for an hour is what its
seal will write, as far as it is committed: the same survey, the same decoding, the same carry. Only what the seal alone
can know is not there yet: rows of a market that gets its name later are under the name they have so far, and coverage
speaks up to the snapshot.

A `Snapshot` fixes up to which instant entries are read. Until then all are committed, so reading again gives the same,
whatever the recorder does meanwhile: segments are renamed as they are finished, and removed only when their hour is
sealed; whoever finds them gone reads the sealed hour.
"""

from collections import deque
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa

from recorder.errors import DamagedFile, ForeignFile, RootError, SealFailed
from recorder.journal.reader import SegmentFile, read_header, read_run, segments
from recorder.lake import manifest as manifests
from recorder.lake.columns import rows_table
from recorder.lake.layout import JOURNAL, hour_of
from recorder.lake.manifest import LakeFile
from recorder.lake.partitions import PartitionWriter, Unplaced, Written
from recorder.lake.plan import LOOK_AHEAD_NS, RunEnd, window
from recorder.lake.root import Binding
from recorder.lake.schema import TABLES, table
from recorder.lake.sealing import hours_to_seal
from recorder.lake.summary import coverage_rows, hour_events, summary_rows
from recorder.lake.survey import HourJournal, Partition, Survey, survey_hour
from recorder.quality.state import MonitorState
from recorder.records import HOUR_NS, SECOND_NS, EntryKind, Event, RunStarted, RunStopped, decode_fact
from recorder.venue.markets import MarketList, market_list

SLOW_NS = 10 * SECOND_NS
"""A run notes each second that it is alive. One whose journal is this much behind another's is not waited for."""
_RECENT_NS = 300 * SECOND_NS
"""Runs whose last segment began this much before another's have ended; a segment is a minute at most."""


class Snapshot(msgspec.Struct, frozen=True):
    """
    What is committed at some instant.
    """

    found: tuple[SegmentFile, ...]
    hours: tuple[int, ...]
    """On record, oldest first, sealed or not: ns at which they begin."""
    until: int
    """Entries before this (ns) are all there, but for those that `upto` leaves out."""
    upto: dict[str, int] = {}
    """Of runs that may go on the number of the last entry: more may come at the same instant."""


def snapshot(root: Path) -> Snapshot:
    """
    What the journal of a root holds now.
    """
    found = segments(root / JOURNAL)
    if not found:
        return Snapshot((), (), 0)
    upto: dict[str, int] = {}
    ends = _ends(found, upto)
    return Snapshot(tuple(found), tuple(hours_to_seal(found, ends)), _until(ends), upto)


def symbols(at: Snapshot, hour: int) -> set[str]:
    """
    Markets that were asked for in an hour, by the headers of its segments.
    """
    names: set[str] = set()
    for segment in at.found:
        if hour_of(segment.start) != hour:
            continue
        for name in (segment.name, segment.name.removesuffix(".open")):
            with suppress(FileNotFoundError, ForeignFile):  # finished since; or of another version: its reading tells
                header = read_header(segment.path.with_name(name))
                names |= {stream.symbol for stream in header.streams} if header is not None else set()
                break
    return names


class OpenHour:
    """
    One hour of a snapshot. The journal is read when something of it is asked for, and what was decoded is kept.
    """

    def __init__(self, root: Path, binding: Binding, at: Snapshot, hour: int, carry: MonitorState | None) -> None:
        """
        Args:
            root: of the data.
            binding: of the root.
            at: what is committed.
            hour: one of its hours, ns.
            carry: state the hour before ended with; None if there was none.

        Raises:
            RootError: of a network this version has no market list of.
            JournalGone: a segment of the hour is not there any more.
            ForeignFile: a segment is of a later version.
        """
        try:
            self._listed: MarketList = market_list(binding.network)
        except ValueError as error:
            raise RootError(root, f"is of an unknown network ({error})", "upgrade drift-recorder") from None
        self.hour, self._root, self._binding = hour, root, binding
        self.closed = hour + HOUR_NS + LOOK_AHEAD_NS <= at.until
        until = hour + HOUR_NS + LOOK_AHEAD_NS if self.closed else at.until
        self._inputs = window(list(at.found), hour)
        self._journal = HourJournal(self._inputs, hour, until=until, binding=binding, upto=at.upto)
        self._survey: Survey = survey_hour(self._journal, self._listed, carry, closed=self.closed)
        self._refuse_gone()
        self._rows: dict[int, list[pa.Table]] = {}
        self._written = Written(Unplaced())

    @property
    def carry(self) -> MonitorState:
        """
        What the next hour begins with.
        """
        return self._survey.carry

    def rows(self, name: str, wanted: Collection[str] | None) -> pa.Table:
        """
        Rows of a table of markets, market by market; `wanted` in lower case, None: all.
        """
        chosen = sorted(
            (part.symbol, at)
            for at, part in enumerate(self._survey.partitions)
            if part.table == name and (wanted is None or part.symbol.lower() in wanted)
        )
        self._decode({at for _, at in chosen})
        tables = [piece for _, at in chosen for piece in self._rows.get(at, [])]
        return pa.concat_tables([table(name).schema.empty_table(), *tables])

    def own(self, name: str, wanted: Collection[str] | None) -> pa.Table:
        """
        Rows of one of the hour's own tables: `quality`, `coverage`, `connections`, `telemetry` or `undecodable`.

        `coverage` and `quality` have what a full decode of the wanted markets finds (None: of all).
        """
        parts = self._survey.partitions
        decoded = name in {"coverage", "quality", "undecodable"}
        everything = name == "undecodable"
        if decoded:
            self._decode(
                {at for at, p in enumerate(parts) if everything or wanted is None or p.symbol.lower() in wanted},
                unplaced=everything,
            )
        events: list[Event] = hour_events(self._survey, self._written, self.hour)
        coverage = []
        if name == "coverage":
            # Of the other markets nothing was decoded, so nothing can be said.
            of = [s for s in self._survey.streams if wanted is None or s.symbol.lower() in wanted]
            survey = msgspec.structs.replace(self._survey, streams=of)
            coverage = coverage_rows(survey, self._written, self.hour, listed=self._listed, events=events)
        made = summary_rows(self._survey, self._written, hour=self.hour, events=events, coverage=coverage)
        return rows_table(TABLES[name], made[name])

    @property
    def held_bytes(self) -> int:
        """
        Memory of the rows that were decoded so far.
        """
        return sum(piece.nbytes for pieces in self._rows.values() for piece in pieces)

    def forget(self) -> None:
        """
        Let go of what was decoded; it is read again when it is asked for.
        """
        self._rows.clear()
        self._written = Written(Unplaced())

    def _decode(self, wanted: set[int], *, unplaced: bool = False) -> None:
        missing = wanted - self._rows.keys()
        if not missing and not unplaced:
            return
        gathered: dict[int, _Kept] = {}

        def keep(part: Partition) -> _Kept:
            return gathered.setdefault(self._survey.partitions.index(part), _Kept())

        writer = PartitionWriter(
            self._root, self._binding, self._journal, self._survey, only=None if unplaced else missing, sink=keep
        )
        written = writer.write()
        self._refuse_gone()
        if written.failed:
            raise SealFailed(f"{next(iter(written.failed.values()))}; the frames are in the journal")
        for at in missing:
            self._rows[at] = gathered[at].tables if at in gathered else []
        if unplaced:
            self._written = written
            self._rows |= {at: kept.tables for at, kept in gathered.items()}
            return
        for stream, logs in written.rows.items():
            self._written.rows.setdefault(stream, []).extend(logs)
        self._written.events += written.events

    def _refuse_gone(self) -> None:
        """
        A segment that is gone is skipped by the readers: then what was read is not the hour.
        """
        for segment in self._inputs:
            names = (segment.name, segment.name.removesuffix(".open"))
            if not any(segment.path.with_name(name).exists() for name in names):
                raise JournalGone(
                    segment.path, "is gone", "`drift-recorder verify` tells whether its hour was sealed before"
                )


class JournalGone(DamagedFile):
    """
    Journal of an hour was removed: the hour is sealed, or its journal is lost.
    """


class _Kept:
    """
    Rows of one partition, in memory.
    """

    def __init__(self) -> None:
        self.tables: list[pa.Table] = []

    def write(self, rows: pa.Table) -> None:
        self.tables.append(rows)

    def finish(self, symbol: str | None) -> LakeFile | None:  # noqa: ARG002  # a file's name for it
        return None

    def discard(self) -> None:
        self.tables.clear()


def carry_before(root: Path, at: Snapshot, hour: int) -> MonitorState | None:
    """
    What the last sealed hour before this one, on record, handed on; None if there was none.

    Raises:
        DamagedFile: its manifest is not what was written.
        ForeignFile: it is of a later version.
    """
    earlier = [each for each in at.hours if each < hour]
    for each in (*reversed(earlier), (earlier[0] if earlier else hour) - HOUR_NS):
        made = manifests.read(root, each)
        if made is not None:
            return made.carry
    return None


def _ends(found: list[SegmentFile], upto: dict[str, int]) -> list[RunEnd]:
    """
    How far each run reaches, and whether it goes on as far as its journal tells. Notes the last entries.
    """
    by_run: dict[str, list[SegmentFile]] = {}
    for segment in found:
        by_run.setdefault(segment.run, []).append(segment)
    newest = max(segment.start for segment in found)
    recent = [run for run, of in by_run.items() if newest - of[-1].start <= _RECENT_NS]
    beside = {run: _beside(by_run[run]) for run in recent}
    ends = []
    for run, of in by_run.items():
        last, going = of[-1].start, False
        if run in recent:
            last, going, upto[run] = _last_entry(of)
            # A run that starts notes which others go on beside it.
            going = going and all(told is None or run in told for later, told in beside.items() if later > run)
        ends.append(RunEnd(run, last, alive=going))
    latest = max(end.last_ts for end in ends)
    return [msgspec.structs.replace(end, alive=end.alive and latest - end.last_ts <= SLOW_NS) for end in ends]


def _beside(of: list[SegmentFile]) -> list[str] | None:
    """
    The runs that went on when this one started; None if it does not tell (its first segment has expired).
    """
    first = next(read_run(of[:1]), None)
    fact = _fact(first.payload) if first is not None and first.kind == EntryKind.FACT else None
    return fact.beside if isinstance(fact, RunStarted) else None


def _last_entry(of: list[SegmentFile]) -> tuple[int, bool, int]:
    """
    When the last committed entry of a run was made, whether the run may go on (the entry is not its end), its number.
    """
    for segment in reversed(of):
        for last in deque(read_run([segment]), maxlen=1):
            ended = last.kind == EntryKind.FACT and isinstance(_fact(last.payload), RunStopped)
            return last.recv_ts, not ended, last.seq
    return of[0].start, False, 0


def _fact(payload: bytes) -> object:
    try:
        return decode_fact(payload)
    except msgspec.DecodeError:
        return None  # of a later version


def _until(ends: list[RunEnd]) -> int:
    """
    Of one run that goes on, its last entry is in: what follows stands behind it even at the same instant. Of several,
    what the slowest commits next stands between the entries of the others.
    """
    alive = [end.last_ts for end in ends if end.alive]
    latest = max(end.last_ts for end in ends) + 1
    return latest if len(alive) < 2 else min(alive)
