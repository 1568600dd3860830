"""
Runs of the recorder: which are recording, which entries of theirs are lost, and when nobody was recording. Pure.
"""

from recorder.quality.connections import DEAD_AFTER_NS
from recorder.quality.events import build, channel_of
from recorder.quality.findings import Findings
from recorder.quality.flows import sortable
from recorder.quality.state import Leaving, MonitorState, Orphan, Outage, Removed, RunState
from recorder.records import (
    HOUR_NS,
    SECOND_NS,
    AnyFact,
    Entry,
    Event,
    Overflowed,
    QualitySettings,
    RunStarted,
    SegmentHeader,
    Stream,
)
from recorder.venue.protocol import BOOK_CHANNELS

STALL_NS = 2 * SECOND_NS
"""Between two entries of a run, which writes one each second: it stood still, and cannot vouch for the time between."""
MAX_REMOVED = 1024
"""Streams remembered that were taken out; whoever takes out more at one time has no market left."""
IN_FLIGHT_NS = 10 * SECOND_NS
"""A frame may come this long after its unsubscribe: the venue has not read that yet."""


class Runs:
    """
    All runs whose entries are folded, by name.
    """

    def __init__(self, state: MonitorState, findings: Findings) -> None:
        self._state = state
        self._findings = findings
        self.by_name = {r.run: r for r in state.runs}
        self.headers: dict[str, SegmentHeader] = {}

    def snapshot(self) -> list[RunState]:
        """
        For the carry.
        """
        return [self.by_name[key] for key in sorted(self.by_name)]

    def live(self) -> list[RunState]:
        """
        The runs that are recording, the one that was heard last at the end: of several that died, each in its turn.
        """
        return sorted((r for r in self.by_name.values() if not r.gone), key=lambda r: (r.last_ts, r.run))

    def streams(self) -> list[Stream]:
        """
        What the live runs ask for, or the last one did; sorted.
        """
        live = self.live()
        if not live:
            return self._state.configured
        orphans = {orphan.stream for orphan in self._state.orphans}
        return sorted(orphans.union(*(asked_for(run) for run in live)), key=sortable)

    # ---- beginnings and ends

    def replaced_by(self, fact: RunStarted) -> list[RunState]:
        """
        The runs that a start shows to be dead: it names those that live beside it.
        """
        beside = {fact.run, fact.continues, *fact.beside}
        return [run for run in self.live() if run.run not in beside]

    def meet(self, entry: Entry) -> RunState:
        """
        A run that was not recording has an entry: it begins, is met in the middle, or goes on after all.
        """
        now = entry.recv_ts
        self._end_down(now)
        run = self.by_name.get(entry.run)
        if run is None:
            header = self.headers.get(entry.run)
            run = self.by_name[entry.run] = RunState(
                run=entry.run,
                streams=list(header.streams) if header is not None else [],
                settings=header.quality if header is not None else QualitySettings(),
                started=now,
                last_ts=now,
                last_seq=entry.seq - 1,
            )
        run.gone = False
        run.started = now
        run.known = entry.seq == 1
        self._take_in(run.streams, now)
        return run

    def started(self, run: RunState, fact: RunStarted) -> None:
        """
        A run says what it will do.
        """
        self._take_in(fact.streams, run.started)
        self._ask_for_removed(fact.streams, run.started)
        run.streams, run.settings = list(fact.streams), fact.quality
        # A new start is a new reason to look whether `network` is right.
        self._state.conflicts.clear()

    def ended(self, run: RunState, stopped_by: str | None) -> None:
        """
        A run stopped, died or stands still; `stopped_by` is why, if it said so.
        """
        run.gone = True
        if run.full_since:
            self.disk_freed(run, run.last_ts)
        live = self.live()
        if all(other.started > run.last_ts for other in live):
            # No other seems to have recorded from here on: where one did not stand still, that is so.
            self._tell_unrecorded(run.last_ts, until_live=True)
        if not live:
            down_since = max(other.last_ts for other in self.by_name.values())
            orphans = [orphan.stream for orphan in self._state.orphans]
            self._state.down_since, self._state.stopped_by = down_since, stopped_by
            self._state.configured = sorted(asked_for(run).union(orphans), key=sortable)
            # From here on nobody records anything.
            self._take_in(orphans, down_since)
        elif stopped_by is None:
            carried = {stream for other in live for stream in other.streams}
            carried.update(orphan.stream for orphan in self._state.orphans)
            left = sorted(asked_for(run) - carried, key=sortable)
            self._state.orphans += [Orphan(stream, run.run, run.last_ts) for stream in left]

    def _tell_unrecorded(self, since: int, *, until_live: bool) -> int:
        """
        Tell where, from `since` on, one run began only after the last entry of all before it. Returns the last entry of
        those. `until_live`: up to the first that is not over, as what comes after that its own end will tell.
        """
        for run in sorted(self.by_name.values(), key=lambda run: (run.started, run.run)):
            if run.started > since:
                self._findings.outage(Outage(since, run.started, "recorder", "the recorder was down"))
                self._findings.events.append(_down(since, run.started, None))
            if until_live and not run.gone:
                break
            since = max(since, run.last_ts)
        return since

    def disk_full(self, run: RunState, at: int) -> list[Event]:
        """
        That a run does not listen for want of space, up to `at`; nothing if it does.
        """
        if not run.full_since or run.full_since > at:
            return []
        words = f"for {(at - run.full_since) / SECOND_NS:.1f} s: {run.full_why}"
        return [build("disk_full", cause="recorder", start=run.full_since, end=at, run=run.run, evidence=words)]

    def disk_filled(self, run: RunState, now: int, why: str) -> None:
        """
        A run stops to listen for want of space.
        """
        if not run.full_since:
            run.full_since, run.full_why = now, why
            self._findings.openings.append(f"capture stopped: the disk is full: {why}")

    def disk_freed(self, run: RunState, now: int) -> None:
        """
        It listens again, or is over.
        """
        self._findings.events.extend(self.disk_full(run, now))
        if run.full_since:
            self._findings.outage(Outage(run.full_since, now, "recorder", "the disk was full", run.run))
            run.freed = now
        run.full_since, run.full_why = 0, ""

    def orphaned(self, at: int) -> list[Event]:
        """
        The streams that nobody asks for, at `at`, because the run that did is dead.
        """
        return [_orphaned(orphan, at) for orphan in self._state.orphans]

    def _take_in(self, streams: list[Stream], now: int) -> None:
        """
        Streams are asked for again.
        """
        if not self._state.orphans:
            return
        kept = []
        for orphan in self._state.orphans:
            if orphan.stream in streams:
                self._findings.events.append(_orphaned(orphan, max(now, orphan.since)))
            else:
                kept.append(orphan)
        self._state.orphans = kept

    def forget(self, hour: int) -> None:
        """
        Let go of runs that ended more than an hour before `hour`.
        """
        for run in [r for r in self.by_name.values() if r.gone and r.last_ts < hour - HOUR_NS]:
            del self.by_name[run.run]

    def down(self, at: int) -> list[Event]:
        """
        That nobody has been recording, at `at`; nothing if somebody is.
        """
        since = self._state.down_since
        if since is None or since >= at:
            return []
        return [_down(since, at, self._state.stopped_by)]

    def _end_down(self, now: int) -> None:
        since = self._state.down_since
        if since is not None:
            self._findings.outage(Outage(since, now, "recorder", "the recorder was down"))
            self._findings.events.extend(self.down(now))
            self._state.down_since = self._state.stopped_by = None

    # ---- entries that are missing

    def interrupted(self, run: RunState, entry: Entry, fact: AnyFact | None) -> bool:
        """
        An entry does not follow the one before it. True if entries are lost between them.
        """
        now = entry.recv_ts
        if now - run.last_ts > STALL_NS:
            run.resumed = now
            self._findings.outage(Outage(run.last_ts, now, "recorder", "the recorder stood still", run.run))
        first, last = run.last_seq + 1, entry.seq - 1
        if last < first:
            return False
        run.resumed = now
        if isinstance(fact, Overflowed):
            # What we dropped by name, the next entry names.
            last = min(last, fact.first_seq - 1)
        if last >= first:
            run.known = False
            self._findings.outage(Outage(run.last_ts, now, "recorder", "journal entries are lost", run.run))
            self._findings.emit(
                "journal_damaged",
                cause="recorder",
                start=run.last_ts,
                end=now,
                run=run.run,
                missing=last - first + 1,
                evidence=f"{last - first + 1} journal entries, {first} to {last}, are missing or unreadable",
            )
        return True

    def goes_on(self, run: RunState, now: int) -> None:
        """
        A run that nothing says was dead has an entry: if it stood still, it may have been the only one.

        The hour in which that began may have been sealed in between, and has called it so: this is the same event.
        """
        if now - run.last_ts > DEAD_AFTER_NS:
            since = self._tell_unrecorded(run.last_ts, until_live=False)
            if now - since > DEAD_AFTER_NS:
                self._findings.events.append(_down(since, now, None))

    # ---- streams

    def asks_for(self, run: RunState, stream: Stream, now: int) -> bool:
        """
        A run subscribes to a stream; True if it had not been known to, nor had taken it out.
        """
        removed = any(each.stream == stream for each in self._state.removed)
        self._ask_for_removed([stream], now)
        run.leaving = [leaving for leaving in run.leaving if leaving.stream != stream]
        self._take_in([stream], run.last_ts)
        if stream in run.streams:
            return False
        run.streams.append(stream)
        return not removed

    def leaves(self, run: RunState, stream: Stream, now: int, last: int) -> None:
        """
        No connection of a run carries a stream any more, which it heard `last`.
        """
        run.leaving.append(Leaving(stream, now))
        # Of one that never came, or long ago, the time until now is told by what kept it away.
        since = last if stream.channel in BOOK_CHANNELS and now - last < DEAD_AFTER_NS else now
        self._state.removed = [each for each in self._state.removed if each.stream != stream]
        self._state.removed.append(Removed(stream, run.run, since))
        del self._state.removed[:-MAX_REMOVED]

    def removed(self, at: int, *, closed: bool) -> list[Event]:
        """
        The streams that were taken out in the hour, or are asked for again and not back, at `at`.

        `closed`: `at` lies in the hour after it.
        """
        hour = at - at % HOUR_NS - (HOUR_NS if closed else 0)
        return [_removed(each, at) for each in self._state.removed if each.asked or each.since >= hour]

    def _ask_for_removed(self, streams: list[Stream], now: int) -> None:
        for each in self._state.removed:
            if each.stream in streams and not each.asked:
                each.asked = now
        for stream in streams:
            # Any other may stay away for long, and nothing be amiss.
            if stream.channel not in BOOK_CHANNELS:
                self.came_back(stream, now)

    def came_back(self, stream: Stream, now: int) -> None:
        """
        A stream that had been taken out, and is asked for again, has brought a frame, or is silent by itself.
        """
        for each in [each for each in self._state.removed if each.stream == stream and each.asked]:
            self._state.removed.remove(each)
            words = "it had been taken out of the configuration"
            self._findings.outage(Outage(each.since, now, "recorder", words, each.run, symbol=stream.symbol))
            self._findings.events.append(_removed(each, max(now, each.since)))

    def drop_left(self, run: RunState, now: int) -> bool:
        """
        Forget what was left long enough ago; True if that was anything.
        """
        left = [leaving.stream for leaving in run.leaving if now - leaving.since > IN_FLIGHT_NS]
        if not left:
            return False
        run.leaving = [leaving for leaving in run.leaving if leaving.stream not in left]
        run.streams = [stream for stream in run.streams if stream not in left]
        return True


def asked_for(run: RunState) -> set[Stream]:
    """
    What a run still wants: what it has let go of is kept for frames on their way only.
    """
    return {*run.streams}.difference(leaving.stream for leaving in run.leaving)


def _down(since: int, at: int, stopped_by: str | None) -> Event:
    after = f"after: {stopped_by}" if stopped_by else "after a crash, a kill or a standstill"
    words = f"no run was recording for {(at - since) / 1e9:.1f} s, {after}"
    return build("recorder_down", cause="recorder", start=since, end=at, evidence=words)


def _removed(each: Removed, at: int) -> Event:
    return build(
        "unsubscribed",
        cause="recorder",
        start=each.since,
        end=max(at, each.since),
        run=each.run,
        symbol=each.stream.symbol,
        channel=channel_of(each.stream),
        evidence="it was taken out of the configuration while recording",
    )


def _orphaned(orphan: Orphan, at: int) -> Event:
    return build(
        "recorder_down",
        cause="recorder",
        start=orphan.since,
        end=at,
        run=orphan.run,
        symbol=orphan.stream.symbol,
        channel=channel_of(orphan.stream),
        evidence="the run that recorded it died, and none beside it asked for it",
    )
