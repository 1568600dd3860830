"""
Composition: one process that records. Root, run, connections, scheduler, signals.

What must go on whatever the wall clock does (the second's entry, which rotates segments and clocks the monitor, and the
clock check) runs on the event loop's monotonic time *and* from the scheduler, through the same idempotent functions;
sealing and retention run as a child process, so that Parquet never lives in this one.
"""

import asyncio
import logging
import os
import random
import shutil
import signal
import ssl
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from recorder import durable
from recorder.capture.client import Capture
from recorder.capture.session import SessionSettings
from recorder.capture.tape import Tape, TapeSettings
from recorder.capture.wire import ClientSettings
from recorder.clock import STEP_TOLERANCE_NS, process_cpu_s, wall_ns
from recorder.config import Config, connections, quality_settings, streams
from recorder.errors import RecorderError, RootBusy
from recorder.journal.names import RUN_LOCK, START_LOCK, is_run_name
from recorder.journal.writer import JournalSettings
from recorder.lake.layout import JOURNAL
from recorder.lake.root import bind
from recorder.quality.events import printable
from recorder.records import SECOND_NS, ClockStepped, Event, JobFailed, LoopStalled, Telemetry
from recorder.venue.markets import market_list

log = logging.getLogger("recorder")

COMMIT_DEADLINE_S = 2.5
"""For the last commit at a stop: with the closing of sockets, and the child's end, it stays within 5 s."""
DRAIN_S = 0.7
CHILD_END_S = 0.3
STALL_NS = SECOND_NS
LAG_INTERVAL_S = 0.1
DISK_WARNING = 0.05
"""Share of the disk that is free when we begin to warn."""
BUSY_EXIT = RootBusy.exit_code
TELEMETRY_S = 60.0
UNKNOWN_BYTES = -1
"""In telemetry, of a disk that could not be asked: null is not zero."""

SEAL_COMMAND = (sys.executable, "-m", "recorder", "seal")

_S = TypeVar("_S", bound=msgspec.Struct)
_QUIET = frozenset({"connected", "recorder_started", "recorder_stopped"})


def session_settings(config: Config) -> SessionSettings:
    """
    The conversation's limits, out of the configuration.
    """
    return _pick(SessionSettings, config.capture)


def client_settings(config: Config) -> ClientSettings:
    """
    The sockets' limits, out of the configuration.
    """
    return _pick(ClientSettings, config.capture)


def journal_settings(config: Config) -> JournalSettings:
    """
    The journal's, out of the configuration.
    """
    journal = config.journal
    return JournalSettings(
        commit_interval_s=journal.commit_interval_ms / 1000,
        commit_bytes=journal.commit_bytes,
        segment_s=journal.segment_s,
        segment_bytes=journal.segment_bytes,
        frame_s=journal.frame_s,
        level=journal.level,
        queue_bytes=journal.queue_bytes,
    )


def _pick(kind: type[_S], source: msgspec.Struct) -> _S:
    return kind(**{name: getattr(source, name) for name in kind.__struct_fields__})


def claim(root: Path, *, beside: bool) -> tuple[durable.Lock, list[str]]:
    """
    Make sure that this process may record into a root; hold the lock until the run's own is taken.

    Args:
        root: a bound data root.
        beside: others may be recording; the seal takes the union.

    Returns:
        The lock, and the runs that are recording now.

    Raises:
        RootBusy: somebody records into it, and `beside` was not asked for.
    """
    journal = root / JOURNAL
    lock = durable.Lock(journal / START_LOCK, holder="another recorder is starting on this root; try again")
    alive = live_runs(root)
    if alive and not beside:
        lock.release()
        raise RootBusy(root, f"run {alive[-1]} is recording into it", "stop it, or start with --beside to record both")
    return lock, alive


def live_runs(root: Path) -> list[str]:
    """
    The runs that are recording into a root now, by name.
    """
    return sorted(
        folder.name
        for folder in (root / JOURNAL).iterdir()
        if is_run_name(folder.name) and durable.is_locked(folder / RUN_LOCK)
    )


class Recorder:
    """
    One process life.
    """

    def __init__(
        self,
        config: Config,
        *,
        beside: bool = False,
        for_s: float | None = None,
        seal: bool | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_event: Callable[[Event], None] | None = None,
        telemetry_s: float = TELEMETRY_S,
    ) -> None:
        """
        Args:
            config: checked.
            beside: record though others record into the same root.
            for_s: stop by itself after this long.
            seal: run the seal as a child each hour; None: as configured.
            ssl_context: for tests with a CA of their own.
            on_event: told of each event, beside the log.
            telemetry_s: between two rows about ourselves.
        """
        self._config = config
        self._beside = beside
        self._for_s = for_s
        self._sealing = config.seal.enabled if seal is None else seal
        self._on_event = on_event
        self._telemetry_ns = int(telemetry_s * SECOND_NS)
        self._ssl = ssl_context
        self._root = config.storage.root
        self._stop = asyncio.Event()
        self._in_time = False
        self._reason = ""
        self._disk_free = UNKNOWN_BYTES
        self._lags_ms: list[float] = []
        self._last_cpu_s = process_cpu_s()
        self._last_second = 0
        self._last_minute = 0
        self._child: asyncio.subprocess.Process | None = None
        self._child_done = asyncio.Event()
        self._child_done.set()
        self._tape: Tape | None = None
        self._ended_runs: list[Tape] = []
        """Of this process, before a clock step: their last commits may still be under way."""
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )

    @property
    def interrupted(self) -> bool:
        """
        Whether somebody ended it before its time.
        """
        return self._stop.is_set() and not self._in_time

    @property
    def tape(self) -> Tape:
        """
        The present run's.
        """
        assert self._tape is not None
        return self._tape

    def stop(self, reason: str) -> None:
        """
        Ask for an orderly end.
        """
        if not self._stop.is_set():
            self._reason = reason
            self._stop.set()

    async def run(self) -> None:
        """
        Record until stopped.

        Raises:
            RootError: the root cannot be used.
            RootBusy: somebody else records into it.
            RecorderError: the disk did not take the last entries, or a fault of our own ended it.
        """
        bind(self._root, venue=self._config.venue.name, network=self._config.venue.network)
        lock, alive = claim(self._root, beside=self._beside)
        try:
            self._tape = self._begin(beside=alive)
        finally:
            lock.release()
        self._last_minute = self.tape.clock.now()
        log.info("recording %d streams into %s as run %s", len(self.tape.streams), self._root, self.tape.run)
        self._capture = Capture(
            lambda: self.tape,
            url=self._config.venue.url,
            connections=connections(self._config),
            session=session_settings(self._config),
            client=client_settings(self._config),
            random=random.Random(),
            ssl_context=self._ssl,
        )
        self._handle_signals()
        self._schedule()
        failure: BaseException | None = None
        tasks = [
            asyncio.create_task(self._capture.run(), name="capture"),
            asyncio.create_task(self._beat(), name="beat"),
            asyncio.create_task(self._measure_lag(), name="lag"),
        ]
        waiting = asyncio.create_task(self._stop.wait(), name="stop")
        committed = False
        try:
            done, _ = await asyncio.wait([waiting, *tasks], timeout=self._for_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self._in_time = True
                self.stop(f"the {self._for_s:g} s asked for are over")
            for task in done - {waiting}:
                failure = task.exception() or RuntimeError("it ended by itself")
                log.critical("%s failed", task.get_name(), exc_info=failure)
                self.stop(f"our own fault: {task.get_name()}: {failure}")
        finally:
            waiting.cancel()
            committed = await self._end(tasks)
        if failure is not None:
            raise RecorderError(f"{self._reason}; please report it, with the log") from failure
        if not committed:
            seq, _ = self.tape.journal.committed
            raise RecorderError(
                f"{self._root}: the disk did not take what came after entry {seq} of this run; check the disk"
            )

    async def _end(self, tasks: list[asyncio.Task[None]]) -> bool:
        """
        Close, drain, commit: the way of the data. True if everything is on disk.
        """
        self._scheduler.remove_all_jobs()
        await self._capture.stop()
        await asyncio.wait(tasks[:1], timeout=DRAIN_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end_child()
        self._scheduler.shutdown(wait=False)
        self._minute()
        self.tape.stop(self._reason or "stopped")
        committed = await self._committed(COMMIT_DEADLINE_S)
        if committed:
            log.info("stopped: %s; everything is committed", self._reason)
        return committed

    async def _committed(self, within_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not all(tape.closed() for tape in (*self._ended_runs, self.tape)):
            if loop.time() > deadline:
                return False
            # Not one long wait: a second signal must still be heard.
            await asyncio.sleep(0.01)
        return True

    async def _end_child(self) -> None:
        """
        A seal under way is run again at the next start; what it has published stays.
        """
        if self._child is None or self._child.returncode is not None:
            return
        for end in (self._child.terminate, self._child.kill):
            with suppress(ProcessLookupError):
                end()
            if await _within(CHILD_END_S, self._child_done.wait()):
                return

    # ---- runs

    def _begin(self, *, beside: list[str], continues: str | None = None) -> Tape:
        config = self._config
        return Tape(
            TapeSettings(
                journal_folder=self._root / JOURNAL,
                venue=config.venue.name,
                network=config.venue.network,
                urls=[config.venue.url],
                streams=streams(config),
                quality=quality_settings(config),
                journal=journal_settings(config),
            ),
            listed=market_list(config.venue.network),
            pid=os.getpid(),
            beside=beside,
            on_event=self._tell,
            on_opening=self._warn,
            continues=continues,
        )

    def _check_clock(self) -> None:
        offset = self.tape.clock.offset()
        if offset > STEP_TOLERANCE_NS:
            before = self.tape.clock.now()
            step = self.tape.clock.advance_to_wall()
            self.tape.fact(ClockStepped(step, before, before + step))
            self._set_jobs()
        elif offset < -STEP_TOLERANCE_NS:
            self._begin_again(offset)

    def _begin_again(self, offset: int) -> None:
        """
        The wall clock was set back: a new run begins at true time, on the connections that are open.
        """
        old = self.tape
        try:
            # The old run is among the living until it has committed its last; so is a recorder beside this one.
            fresh = self._begin(beside=live_runs(self._root), continues=old.run)
        except (OSError, RecorderError) as error:
            # Asked again in a second; until then the old run goes on, on its own time.
            log.warning("the wall clock was set back, and no new run can begin: %s", error)
            return
        before = old.clock.now()
        old.fact(ClockStepped(offset, before, before + offset))
        self._tape = fresh
        for connection, attempt, facts in self._capture.standing():
            for fact in facts:
                fresh.fact(fact, connection=connection, attempt=attempt)
        old.stop(f"the wall clock was set back by {-offset / 1e9:.1f} s; run {fresh.run} goes on")
        self._ended_runs.append(old)
        self._last_second, self._last_minute = 0, fresh.clock.now()
        self._set_jobs()

    # ---- what happens regularly

    async def _beat(self) -> None:
        """
        The same jobs on monotonic time: the scheduler sleeps by the wall clock, and stalls when that is set back.
        """
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += 1.0
            await asyncio.sleep(max(due - loop.time(), 0))
            late_ns = int((loop.time() - due) * 1e9)
            if late_ns > STALL_NS:
                self.tape.fact(LoopStalled(late_ns))
                due = loop.time()
            self._second()

    def _second(self) -> None:
        """
        Idempotent: does what is due by the run's clock.
        """
        self._check_clock()
        now = self.tape.clock.now()
        if now - self._last_second < SECOND_NS * 9 // 10:
            return
        self._last_second = now
        for failure in self.tape.journal.take_failures():
            log.error("journal: %s of %s failed: %s", failure.operation, failure.segment, failure.error)
            self.tape.fact(failure)
        self.tape.alive()
        self._ended_runs = [tape for tape in self._ended_runs if not tape.closed()]
        if now - self._last_minute >= self._telemetry_ns:
            self._minute()

    def _minute(self) -> None:
        """
        A row about ourselves.
        """
        self._last_minute = self.tape.clock.now()
        counters = self.tape.take_counters()
        stats = self.tape.journal.take_stats()
        cpu_s, self._last_cpu_s = process_cpu_s() - self._last_cpu_s, process_cpu_s()
        lags, self._lags_ms = sorted(self._lags_ms), []
        commits = sorted(1000 * s for s in stats.commit_s)
        carried = sorted(counters.latency_ms)
        self.tape.fact(
            Telemetry(
                frames=counters.frames,
                bytes=counters.bytes,
                cpu_s=round(cpu_s, 3),
                rss_bytes=_resident_bytes(),
                loop_lag_p99_ms=_quantile(lags, 0.99),
                loop_lag_max_ms=_quantile(lags, 1.0),
                queue_max_bytes=stats.queue_max_bytes,
                commits=len(commits),
                commit_p50_ms=_quantile(commits, 0.5),
                commit_p99_ms=_quantile(commits, 0.99),
                commit_max_ms=_quantile(commits, 1.0),
                journal_bytes=stats.written_bytes,
                disk_free_bytes=self._disk_free,
                clock_offset_ns=self.tape.clock.offset(),
                connections=carried,
                latency_p50_ms=[_quantile(sorted(counters.latency_ms[c]), 0.5) for c in carried],
            )
        )

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self._lags_ms.append(max(loop.time() - due, 0.0) * 1000)

    async def _second_job(self) -> None:
        # A coroutine, like all jobs: the scheduler would run a plain function on another thread.
        self._second()

    async def _watch_disk(self) -> None:
        self._disk_free = UNKNOWN_BYTES
        # On a thread: a file system that hangs must not hang the reader of the sockets.
        usage = await asyncio.to_thread(shutil.disk_usage, self._root)
        self._disk_free = usage.free
        if usage.free < DISK_WARNING * usage.total:
            log.warning("%s: %.1f GB free of %.1f", self._root, usage.free / 1e9, usage.total / 1e9)

    async def _seal(self) -> None:
        """
        Seal what is due and remove journal that is old enough, in a child process.
        """
        keep = self._config.journal
        arguments = ["--background", "--keep-days", str(keep.keep_days), "--keep-bytes", str(keep.keep_bytes)]
        self._child_done.clear()
        try:
            self._child = await asyncio.create_subprocess_exec(
                *SEAL_COMMAND,
                *arguments,
                "--",
                str(self._root),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is for us; we end it in our own time
            )
            said, errors = await self._child.communicate()
        finally:
            self._child_done.set()
        code = self._child.returncode
        if code and code != BUSY_EXIT and not self._stop.is_set():
            words = errors.decode("utf-8", "replace").strip().splitlines()
            raise RecorderError(f"seal ended with {code}: {words[-1] if words else 'no word'}")
        for line in said.decode("utf-8", "replace").splitlines():
            if not line.startswith("nothing to seal"):
                log.info("seal: %s", line)

    # ---- scheduler

    def _schedule(self) -> None:
        self._set_jobs()
        now = datetime.fromtimestamp(wall_ns() / SECOND_NS, UTC)
        self._scheduler.modify_job("disk", next_run_time=now)
        if self._sealing:
            # What was left unsealed is caught up with at once.
            self._scheduler.modify_job("seal", next_run_time=now)
        self._scheduler.add_listener(self._job_failed, EVENT_JOB_ERROR | EVENT_JOB_MISSED)
        self._scheduler.start()

    def _set_jobs(self) -> None:
        """
        Idempotent; after a clock step it sets each job's next run by the clock as it is.

        Rescheduling would not do: an interval trigger remembers when it was made, and waits until that time comes back.
        """
        self._set_job("second", self._second_job, "interval", seconds=1)
        self._set_job("disk", self._watch_disk, "interval", minutes=1)
        if self._sealing:
            # A minute and a bit past the hour: an hour is closed when a run has an entry 60 s past it.
            self._set_job("seal", self._seal, "cron", minute="1,6,16,31,46", second=10)

    def _set_job(
        self, name: str, job: Callable[[], Coroutine[Any, Any, None]], trigger: str, **when: int | str
    ) -> None:
        self._scheduler.add_job(job, trigger, id=name, replace_existing=True, **when)

    def _job_failed(self, event: JobExecutionEvent) -> None:
        if self._stop.is_set():
            return
        words = printable(str(event.exception) or repr(event.exception)) if event.exception is not None else "missed"
        log.error("job %s failed: %s", event.job_id, words)
        self.tape.fact(JobFailed(event.job_id, words))

    # ---- the world

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            log.error("%s again: exit without waiting", number.name)
            os._exit(1)
        self.stop(number.name)

    def _warn(self, opening: str) -> None:
        # What a stop brings about is no news: the events say it, without alarm.
        if not self._stop.is_set():
            log.warning("%s", opening)

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        level = logging.INFO if event.kind in _QUIET or self._stop.is_set() else logging.WARNING
        place = " ".join(str(part) for part in (event.symbol, event.channel) if part)
        line = "" if event.connection is None else f"connection {event.connection}: "
        log.log(level, "%s%s%s: %s", line, event.kind, f" {place}" if place else "", event.evidence)


async def _within(seconds: float, happening: Coroutine[Any, Any, Any]) -> bool:
    """
    Whether it came to its end in time.
    """
    try:
        async with asyncio.timeout(seconds):
            await happening
    except TimeoutError:
        return False
    return True


def record(recorder: Recorder) -> None:
    """
    Run to the end, on an event loop of its own.

    Not `asyncio.run`: that waits without limit for threads, and one may hang in a name lookup or a dead file system.

    Raises:
        RecorderError: as `Recorder.run`.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(recorder.run())
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()


def _quantile(ordered: list[float], q: float) -> float:
    """
    Nearest rank; 0 of nothing.
    """
    return round(ordered[min(int(q * len(ordered)), len(ordered) - 1)], 3) if ordered else 0.0


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
