"""
A month of hours, restarts, seals and retention, at the times the scheduler would run them, with a clock set by hand.
"""

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from lake_cases import Run, S, make_root
from recorder import clock
from recorder.analysis import Lake
from recorder.daemon.jobs import Jobs
from recorder.journal.reader import read_merged, segments
from recorder.lake import manifest as manifests
from recorder.lake.age import LEAPS
from recorder.lake.layout import JOURNAL, hour_of, parse_hour
from recorder.lake.retention import expire
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import HOUR_NS, SECOND_NS, EntryKind

START = parse_hour("2026-03-01T00")
DAY_NS = 24 * HOUR_NS


class Month:
    """
    A recorder that hears a little each hour, is stopped or killed now and then, and does what its scheduler says.
    """

    def __init__(self, root, monkeypatch, *, keep_days, seed):
        self.root, self.now, self._keep_days = make_root(root), START, keep_days
        self._chance = random.Random(seed)
        monkeypatch.setattr(
            clock,
            "time",
            SimpleNamespace(
                time_ns=lambda: self.now,
                monotonic_ns=lambda: self.now,
                process_time=lambda: 0.0,
                sleep=clock.time.sleep,
            ),
        )
        self.committed = {}
        """(run, seq) of every data frame, by hour."""
        self.kills = self.stops = self.removed = 0
        self.most_journal = 0
        self._names = 0
        self.heard_until = START
        self._seals = self._schedule()

    def _schedule(self):
        """
        When the daemon's own job runs: its trigger is asked.
        """

        async def nothing():
            pass

        jobs = Jobs(second=nothing, disk=nothing, seal=nothing, failed=lambda *_: None)
        jobs.set()
        trigger = next(job for job, _, _ in jobs.scheduler._pending_jobs if job.id == "seal").trigger
        at = datetime.fromtimestamp(START / SECOND_NS, UTC)
        while True:
            at = trigger.get_next_fire_time(at, at + timedelta(microseconds=1))
            yield int(at.timestamp()) * SECOND_NS

    def pass_to(self, end):
        """
        Let time pass.
        """
        due = next(self._seals)
        at = START
        while at < end:
            before = at
            at, how = self._run_until(at, end)
            if (at - START) // DAY_NS > (before - START) // DAY_NS:
                print(f"day {(at - START) // DAY_NS}: {self._names} lives", flush=True)
            # Whoever was killed comes back at once, whoever was stopped a while later.
            at += self._chance.choice((2, 20, 400, 5000)) * S if how == "stop" else 3 * S
            while due <= min(at, end):
                self.now = due
                self.work()
                due = next(self._seals)
            self.now = max(self.now, min(at, end))
        self.now = end + HOUR_NS
        self.work()

    def _run_until(self, start, end):
        """
        One life, of some hours: each ten minutes half a minute is heard. When it ended, and how.
        """
        self._names += 1
        run = Run(self.root, start, nonce=f"{self._names:06x}")
        run.connect(start)
        last = min(start + self._chance.choice((1, 2, 3)) * HOUR_NS + self._chance.randrange(600) * S, end)
        at = start + S
        while at < last:
            run.hear(at, min(at + 3 * S, last))
            for second in range(at + 3 * S, min(at + 600 * S, last), 50 * S):
                run.put(EntryKind.ALIVE, second, b"", -1, 0)
            at += 600 * S
        self.heard_until = last
        how = self._chance.choice(("kill", "stop"))
        if how == "kill":
            self.kills += 1
        else:
            self.stops += 1
        run.close(last if how == "stop" else None)
        for entry in read_merged(segments(self.root / JOURNAL), start=start, end=last + 1):
            if entry.run == run.name and entry.kind == EntryKind.FRAME and b'"data":' in entry.payload:
                self.committed.setdefault(hour_of(entry.recv_ts), set()).add((entry.run, entry.seq))
        return last, how

    def work(self):
        """
        What the child does: seal, then make room.
        """
        seal(self.root)
        gone = expire(self.root, now=self.now, keep_days=self._keep_days, keep_bytes=0)
        self.removed += len(gone)
        kept = segments(self.root / JOURNAL)
        self.most_journal = max(self.most_journal, len(kept))
        assert all(segment.start < self.now - self._keep_days * DAY_NS for segment in gone), "removed too early"


def lived(tmp_path, monkeypatch, *, days, keep_days, seed):
    """
    So many days, and all that must hold after them.
    """
    print(f"seed {seed}")
    month = Month(tmp_path / "root", monkeypatch, keep_days=keep_days, seed=seed)
    end = START + round(days * DAY_NS)

    month.pass_to(end)

    print(
        f"{month._names} lives, {month.kills} kills, {month.removed} segments removed, most kept {month.most_journal}"
    )
    hours = range(START, month.heard_until, HOUR_NS)  # nobody came back to tell of a stop at the very end
    sealed = {hour: manifests.read(month.root, hour) for hour in manifests.hours(month.root)}
    assert [hour for hour in hours if hour not in sealed or not sealed[hour].complete] == []
    lake = Lake(month.root)
    rows = [
        row
        for frame in (lake.books(units="raw"), lake.trades(units="raw"))
        for row in frame.select("run", "seq").collect().rows()
    ]
    committed = set().union(*month.committed.values())
    assert len(rows) == len(set(rows)), "a frame twice"
    assert set(rows) == committed, "what was committed is in the lake"
    kept = {hour_of(segment.start) for segment in segments(month.root / JOURNAL)}
    oldest = min(segment.start for segment in segments(month.root / JOURNAL))
    assert len(kept) <= keep_days * 24 + LEAPS + 2, "journal that nobody needs was kept"
    assert oldest <= end - (keep_days - 0.2) * DAY_NS, "journal that was to be kept is gone"
    assert month.removed > 0
    down = lake.quality().collect().filter(kind="recorder_down").unique("event_id")
    assert len(down) >= month._names - 2, "a time without a recorder has no event"
    assert verify(month.root).problems == []


@pytest.mark.timeout(300)
def test_eight_hours_of_restarts_and_retention(tmp_path, monkeypatch):
    """
    Every hour sealed whole, each committed frame in the lake once, journal kept as long as was asked and no longer.
    """
    lived(tmp_path, monkeypatch, days=0.34, keep_days=0.12, seed=4166204125)


@pytest.mark.slow
@pytest.mark.timeout(10800)
def test_a_month_of_hours_restarts_and_retention(tmp_path, monkeypatch):
    """
    The long form, with two days of journal, so that all of it goes fifteen times over.
    """
    lived(tmp_path, monkeypatch, days=30, keep_days=2, seed=random.randrange(1 << 32))
