"""
The first reading of an hour: what is in it, where each frame goes, and what the monitor makes of it.

Nothing is decoded in full here. Frames that several sources heard are paired, all entries are folded, and every frame
of the hour gets a lane (a way into a partition) and flags. Later readings follow these notes by the frame's place in
the merged order, so both must see the same entries: `HourJournal` fixes which.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256

import msgspec

from recorder import durable
from recorder.journal.reader import Damage, SegmentFile, read_header, read_merged, read_run
from recorder.lake.asked import Asked
from recorder.lake.layout import table_of
from recorder.lake.manifest import Input
from recorder.lake.plan import LOOK_AHEAD_NS, LOOK_BACK_NS
from recorder.lake.root import Binding
from recorder.quality.counter import FillState
from recorder.quality.events import build
from recorder.quality.flows import sortable
from recorder.quality.identity import Resolution
from recorder.quality.monitor import Monitor
from recorder.quality.pairing import Pairing
from recorder.quality.state import UNKNOWN_CONNECTION, HourBeats, MonitorState
from recorder.records import (
    HOUR_NS,
    Entry,
    EntryKind,
    Event,
    Flag,
    MarketType,
    Requested,
    SegmentHeader,
    Stream,
    Telemetry,
    decode_fact,
)
from recorder.venue.markets import MarketList
from recorder.venue.protocol import PERP_SIZE_EXPONENT, ChannelName, FrameKind, Peek, peek

NOWHERE = 0
"""Lane of what makes no row: facts, acknowledgements, heartbeats."""
UNPLACED = 1
"""Lane of frames that no partition takes; they go to `undecodable`."""
FIRST_LANE = 2
MAX_LANES = 0xFFFF
"""Channel names of an hour that are told apart; frames of any further one are unplaced."""
DROPPED = 1 << 31
"""In the flags of a frame that another source had brought before."""

# Plain integers: members of an IntFlag are slow to combine, and these are for every frame.
_REPEAT = Flag.REPEAT.value
_FRAME, _FACT, _DATA = EntryKind.FRAME.value, EntryKind.FACT.value, FrameKind.DATA
_BROKEN = frozenset({FrameKind.UNDECODABLE, FrameKind.UNKNOWN})


class HourJournal:
    """
    The entries an hour is made from: the same ones at each reading, though a segment may be growing meanwhile.
    """

    def __init__(
        self,
        inputs: list[SegmentFile],
        hour: int,
        *,
        until: int,
        binding: Binding,
        upto: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            inputs: segments of the window.
            hour: ns at which it begins.
            until: no entry before this instant (ns) can still come; later ones are not read.
            binding: of the root. Segments of another venue or network are not read.
            upto: the last entry (its number) of some runs that is read; the instant `until` alone does not tell it
                where more entries come at the same one.
        """
        self._upto = upto or {}
        self.inputs = inputs
        self.hour, self.end = hour, hour + HOUR_NS
        self.until = min(until, self.end + LOOK_AHEAD_NS)
        self.foreign = {s: words for s in inputs if (words := _foreign(s, binding)) is not None}
        self._readable = [s for s in inputs if s not in self.foreign]
        self.damages = [Damage(s.path, 0, words, foreign=True) for s, words in self.foreign.items()]

    def digests(self) -> list[Input]:
        """
        What the manifest says of the segments, as they are now.
        """
        summed = ((s, digest(s)) for s in self.inputs)
        return [Input(s.run, s.name.removesuffix(".open"), *of) for s, of in summed if of is not None]

    def around(self, on_header: Callable[[SegmentHeader], None]) -> Iterator[Entry]:
        """
        All entries of the window, those before and after the hour too. Fills `damages`.
        """
        return self._read(check=True, on_damage=self.damages.append, on_header=on_header)

    def before(self, on_header: Callable[[SegmentHeader], None]) -> Iterator[Entry]:
        """
        Those before the hour alone, from each run's first header on, which may be a segment older than the window.
        """
        return self._read(check=True, on_header=on_header, start=0, end=min(self.hour, self.until))

    def within(self) -> Iterator[Entry]:
        """
        The entries of the hour, once they have been read by `around`, and in the same places.
        """
        # Bytes whose checksums held a moment ago are not summed again; damaged ones must be skipped again.
        for entry in self._read(check=bool(self.damages)):
            if self.hour <= entry.recv_ts < self.end:
                yield entry

    def _read(
        self,
        *,
        check: bool,
        on_damage: Callable[[Damage], None] | None = None,
        on_header: Callable[[SegmentHeader], None] | None = None,
        start: int | None = None,
        end: int | None = None,
    ) -> Iterator[Entry]:
        # `around` and `within` with the same bounds: were a journal's time to step back, others could give others.
        merged = read_merged(
            self._readable,
            start=self.hour - LOOK_BACK_NS if start is None else start,
            end=self.until if end is None else end,
            check=check,
            on_damage=on_damage,
            on_header=on_header,
        )
        upto = self._upto
        return merged if not upto else (entry for entry in merged if entry.seq <= upto.get(entry.run, entry.seq))


def _foreign(segment: SegmentFile, binding: Binding) -> str | None:
    for name in (segment.name, segment.name.removesuffix(".open")):
        with suppress(FileNotFoundError):
            header = read_header(segment.path.with_name(name))
            return binding.foreign(header.venue, header.network) if header is not None else None
    return None


def digest(segment: SegmentFile, size: int | None = None) -> tuple[int, str] | None:
    """
    Bytes and SHA-256 of a segment, or of its first `size` bytes; None if it is gone.
    """
    for name in (segment.name, segment.name.removesuffix(".open")):  # finished (renamed) since the listing
        summed = sha256()
        length = 0
        try:
            with durable.open_to_read(segment.path.with_name(name)) as file:
                while chunk := file.read(1 << 20 if size is None else min(1 << 20, size - length)):
                    summed.update(chunk)
                    length += len(chunk)
        except FileNotFoundError:
            continue
        return length, summed.hexdigest()
    return None


class Partition(msgspec.Struct):
    """
    One file to be, of a market's table.
    """

    table: str
    symbol: str
    bytes: int = 0
    """Of the frames that will be its rows."""
    rows: int = 0


class Lane(msgspec.Struct):
    """
    One channel name's way into a partition. Usually the only one; two indices of one name share a file.
    """

    partition: int
    stream: Stream
    channel: ChannelName
    size_exponent: int | None


class Survey(msgspec.Struct):
    """
    What the first reading found.
    """

    lane: "array[int]"
    """Of each entry of the hour, in merged order: where it goes; `lanes` are counted from `FIRST_LANE`."""
    flags: "array[int]"
    """Likewise: bits of `Flag` that the stream tells, or `DROPPED`."""
    until: int
    """Up to when the hour is over, ns."""
    carry: MonitorState
    """What the next hour begins with."""
    lanes: list[Lane] = []
    partitions: list[Partition] = []
    entries: int = 0
    frames: int = 0
    events: list[Event] = []
    """Uncut, in no order."""
    streams: list[Stream] = []
    carriers: dict[Stream, set[tuple[str, int]]] = {}
    """(run, connection) that brought, or should have brought, each stream."""
    duplicates: dict[Stream, int] = {}
    beats: dict[tuple[str, int], HourBeats] = {}
    fills: dict[str, FillState] = {}
    telemetry: list[tuple[Entry, Telemetry]] = []


def survey_hour(
    journal: HourJournal,
    listed: MarketList,
    carry: MonitorState | None,
    *,
    closed: bool,
    progress: Callable[[int], None] | None = None,
) -> Survey:
    """
    Read an hour for the first time.

    Args:
        journal: of the hour.
        listed: market list of the network.
        carry: state the hour before ended with; None if there was none.
        closed: no entry of the window can come any more.
        progress: told the number of entries done, now and then.
    """
    state = _copy(carry) if carry is not None else MonitorState(now=journal.hour)
    monitor = Monitor(listed, state)
    if state.now < journal.hour:
        monitor.turn_hour(journal.hour)
    return _Surveyor(journal, listed, monitor).read(closed=closed, progress=progress)


class _Surveyor:
    def __init__(self, journal: HourJournal, listed: MarketList, monitor: Monitor) -> None:
        self._journal, self._listed, self._monitor = journal, listed, monitor
        self._pairing = Pairing()
        self._asked = Asked(monitor.asked())
        self._unasked: dict[tuple[str, int, str, str | None], bool] = {}
        """Of frames before the hour, by run, the number of changes until then, and names."""
        self._streams = set(monitor.streams())
        self._carried = monitor.carriers()
        """Where each stream was asked for as the hour began, and since: also where none of it came."""
        self._wanted: dict[str, set[Stream]] = {}
        """What each run of the window meant to record, as its segments say."""
        self._ran: set[str] = set()
        """Those that have an entry in the hour."""
        self._lane_of: dict[tuple[str, str, int], int] = {}
        self._partition_of: dict[tuple[str, str], int] = {}
        self._headers: list[SegmentHeader] = []
        self._survey = Survey(array("H"), array("I"), journal.hour, MonitorState(now=journal.hour))

    def read(self, *, closed: bool, progress: Callable[[int], None] | None) -> Survey:
        hour, end = self._journal.hour, self._journal.end
        survey = self._survey
        for segment, words in self._journal.foreign.items():
            if hour <= segment.start < end:
                evidence = f"segment {segment.name} {words}: its frames are not in this lake"
                survey.events.append(
                    build(
                        "journal_damaged",
                        cause="recorder",
                        start=segment.start,
                        end=max((entry.recv_ts for entry in read_run([segment])), default=segment.start),
                        run=segment.run,
                        evidence=evidence,
                    )
                )
        for entry in self._journal.before(self._asked.header):
            self._asked.take(entry)
        self._asked.end()
        ended = False
        last = hour
        for entry in self._journal.around(self._headers.append):
            now = entry.recv_ts
            if self._headers:
                self._adopt(now)
            seen = peek(entry.payload) if entry.kind == _FRAME else None
            duplicate = repeat = False
            if seen is not None and seen.kind is _DATA:
                duplicate, repeat = self._pairing.frame(entry, seen)
            elif entry.kind == _FACT:
                self._pairing.fact(entry)
            if now < hour:
                if seen is not None and seen.kind is _DATA and not duplicate and self._is_unasked(entry, seen):
                    # As in `_note`, for the hour before.
                    self._pairing.unplaced(entry.run, entry.connection, entry.payload)
                continue
            last = now
            if now >= end:
                if not ended:
                    ended = True
                    self._end_hour(end)
                self._monitor.step(entry, seen, duplicate=duplicate)
                continue
            self._note(entry, seen, duplicate=duplicate, repeat=repeat)
            if progress is not None and survey.entries % 5000 == 0:
                progress(survey.entries)
        if not ended:
            # What a recorder that goes on will bring is not there yet.
            self._end_hour(end if closed else last)
        self._monitor.finish(end + LOOK_AHEAD_NS if closed else last, closed=closed)
        survey.events += self._monitor.events
        return survey

    def _is_unasked(self, entry: Entry, seen: Peek) -> bool:
        """
        Whether a data frame before the hour was of a stream that its run did not ask for then.
        """
        asked = self._asked.at(entry)
        if asked is None:
            return False
        streams, changes = asked
        key = (entry.run, changes, seen.name, seen.market_name)
        unasked = self._unasked.get(key)
        if unasked is None:
            unasked = self._unasked[key] = self._monitor.is_unasked(seen, streams)
        return unasked

    def _adopt(self, now: int) -> None:
        for header in self._headers:
            self._monitor.adopt(header)
            # Headers come before the entries of their runs, those of all runs before the first entry of the window.
            self._wanted.setdefault(header.run, set()).update(header.streams)
            if self._journal.hour <= now < self._journal.end:
                self._streams.update(header.streams)
        self._headers.clear()

    def _note(self, entry: Entry, seen: Peek | None, *, duplicate: bool, repeat: bool) -> None:
        """
        Fold one entry of the hour, and write down where it goes.
        """
        survey = self._survey
        verdict = self._monitor.step(entry, seen, duplicate=duplicate)
        survey.entries += 1
        self._ran.add(entry.run)
        lane, flags = NOWHERE, 0
        if seen is not None:
            survey.frames += 1
            if verdict is not None:
                resolution = verdict.resolution
                lane = self._lane(seen, resolution) if resolution.stream is not None else UNPLACED
                if lane == UNPLACED and not duplicate:
                    # This run did not ask for it. One beside it that did must not lose it.
                    self._pairing.unplaced(entry.run, entry.connection, entry.payload)
                elif lane != UNPLACED:
                    flags = int(verdict.flags) | (_REPEAT if repeat else 0)
                    flags = self._count(entry, survey.lanes[lane - FIRST_LANE], flags, duplicate=duplicate)
            elif seen.kind in _BROKEN:
                lane = UNPLACED
        elif entry.kind == _FACT:
            self._streams.update(self._monitor.streams())
            self._keep_fact(entry)
        survey.lane.append(lane)
        survey.flags.append(flags)

    def _lane(self, seen: Peek, resolution: Resolution) -> int:
        channel, stream = seen.channel, resolution.stream
        assert channel is not None
        assert stream is not None
        key = (seen.name, resolution.symbol, channel.market_index)
        lane = self._lane_of.get(key)
        if lane is not None:
            return lane
        survey = self._survey
        if len(survey.lanes) > MAX_LANES - FIRST_LANE:
            return UNPLACED
        at = self._partition(table_of(channel), resolution.symbol)
        exponent = size_exponent_of(self._listed, channel.market_type, resolution.symbol)
        survey.lanes.append(Lane(at, stream, channel, exponent))
        lane = self._lane_of[key] = len(survey.lanes) - 1 + FIRST_LANE
        return lane

    def _partition(self, table: str, symbol: str) -> int:
        partitions = self._survey.partitions
        at = self._partition_of.get((table, symbol))
        if at is None:
            at = self._partition_of[table, symbol] = len(partitions)
            partitions.append(Partition(table, symbol))
        return at

    def _count(self, entry: Entry, lane: Lane, flags: int, *, duplicate: bool) -> int:
        survey = self._survey
        carriers = survey.carriers.get(lane.stream)
        if carriers is None:
            carriers = survey.carriers[lane.stream] = set()
        carriers.add((entry.run, entry.connection))
        if duplicate:
            survey.duplicates[lane.stream] = survey.duplicates.get(lane.stream, 0) + 1
            return DROPPED
        partition = survey.partitions[lane.partition]
        partition.bytes += len(entry.payload)
        partition.rows += 1
        return flags

    def _keep_fact(self, entry: Entry) -> None:
        try:
            fact = decode_fact(entry.payload)
        except msgspec.DecodeError:
            return
        if isinstance(fact, Telemetry):
            self._survey.telemetry.append((entry, fact))
        elif isinstance(fact, Requested) and fact.op == "subscribe":
            self._carried.setdefault(fact.stream, set()).add((entry.run, entry.connection))

    def _end_hour(self, until: int) -> None:
        """
        Note what stands at the hour's end, and go on with a copy: what follows only closes what was left open.
        """
        survey, monitor = self._survey, self._monitor
        survey.until = until
        survey.beats = {key: msgspec.structs.replace(beats) for key, beats in monitor.hour_beats(until).items()}
        survey.fills = {key: msgspec.structs.replace(fills) for key, fills in monitor.fills().items()}
        survey.streams = sorted(self._streams | set(monitor.streams()), key=sortable)
        for stream, carriers in monitor.carriers().items():
            survey.carriers.setdefault(stream, set()).update(carriers)
        for stream, carriers in self._carried.items():
            sure = {(run, of) for run, of in carriers if run in self._ran and of != UNKNOWN_CONNECTION}
            survey.carriers.setdefault(stream, set()).update(sure)
        for run in self._ran & self._wanted.keys():
            # One that ended before it came to ask for a stream, or in vain, speaks of that stream all the same.
            for stream in self._wanted[run]:
                carriers = survey.carriers.setdefault(stream, set())
                if all(of != run for of, _ in carriers):
                    carriers.add((run, UNKNOWN_CONNECTION))
        if until == self._journal.end:
            monitor.turn_hour(until)
        survey.events += monitor.events
        survey.carry = _copy(monitor.state())
        self._name_lanes()
        # Rows of a stream that was let go of just before the hour are in it, and so is the stream.
        late = {lane.stream for lane in survey.lanes if survey.partitions[lane.partition].symbol == lane.stream.symbol}
        survey.streams = sorted(late.union(survey.streams), key=sortable)
        self._monitor = Monitor(self._listed, _copy(survey.carry))
        self._monitor.adopt_all(monitor)

    def _name_lanes(self) -> None:
        """
        Give what came before its market had a name to the market it turned out to be.

        Trades of a market the list does not have come by an index; only a book says whose it is, and may come later.
        """
        survey = self._survey
        for lane in survey.lanes:
            channel, nameless = lane.channel, survey.partitions[lane.partition]
            name = survey.carry.identity.get(f"{channel.market_type}:{channel.market_index}")
            if name is None or nameless.symbol != f"{channel.market_type}-{channel.market_index}":
                continue
            lane.partition = self._partition(nameless.table, name)
            lane.size_exponent = size_exponent_of(self._listed, channel.market_type, name)
            named = survey.partitions[lane.partition]
            named.bytes += nameless.bytes
            named.rows += nameless.rows
            for stream in survey.streams:
                same_channel = (stream.channel, stream.grouping) == (lane.stream.channel, lane.stream.grouping)
                if same_channel and (stream.market_type, stream.symbol) == (channel.market_type, name):
                    lane.stream = stream


def size_exponent_of(listed: MarketList, market_type: MarketType, symbol: str) -> int | None:
    """
    Power of ten of a market's sizes, by the name its rows have: all its tables are of one scale, whatever the list
    calls the index.
    """
    if market_type == "perp":
        return PERP_SIZE_EXPONENT
    named = listed.by_symbol(market_type, symbol)
    return named.size_exponent if named is not None else None


def _copy(state: MonitorState) -> MonitorState:
    return msgspec.json.decode(msgspec.json.encode(state), type=MonitorState)
