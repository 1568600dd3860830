"""
One process life: what begins, what goes on, and in which order it ends.

What must go on whatever the wall clock does (the second's entry, which rotates segments and clocks the monitor, and the
clock check) runs on the event loop's monotonic time *and* from the scheduler, through the same idempotent functions;
sealing and retention run as a child process.

SIGHUP reads the configuration again. Its markets are taken over; a file that is wrong, or that changes anything else,
changes nothing, and says so in the log and the journal.
"""

import asyncio
import gc
import logging
import os
import random
import signal
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from recorder.capture.client import IDLE, Capture
from recorder.capture.tape import Tape
from recorder.config import Config
from recorder.config_streams import connections, copies, streams
from recorder.daemon.child import SealChild
from recorder.daemon.claim import claim
from recorder.daemon.disk import DiskGuard, make_startable
from recorder.daemon.endpoint import Endpoint
from recorder.daemon.jobs import Jobs
from recorder.daemon.notify import Notifier, troubles, ways
from recorder.daemon.reload import change
from recorder.daemon.runs import Runs
from recorder.daemon.settings import client_settings, session_settings
from recorder.daemon.supervision import Pulse, Supervision
from recorder.daemon.vitals import Vitals
from recorder.daemon.watch import Watch
from recorder.errors import OutOfMemory, RecorderError
from recorder.lake.gone import write_note
from recorder.lake.removal import Removal
from recorder.lake.root import bind
from recorder.quality.events import printable
from recorder.records import SECOND_NS, Event, Expired, JobFailed, LoopStalled, Reloaded

log = logging.getLogger("recorder")

COMMIT_DEADLINE_S = 2.5
"""For the last commit at a stop: with the closing of sockets, and the child's end, it stays within 5 s."""
DRAIN_S = 0.7
FIRST_LOOK_S = 2.0
STALL_NS = SECOND_NS
ON_RECORD_S = 60
OUT_OF_MEMORY_S = 10
"""For an orderly end without memory."""
_NO_MEMORY = "out of memory"
REREAD_S = 20.0
"""For the configuration to be read again; on a disk that hangs it is refused."""
MAX_REFUSAL = 4000
"""Characters of what is wrong with it: as many mistakes as are named at once."""
TELEMETRY_S = 60.0

_QUIET = frozenset({"added", "connected", "recorder_started", "recorder_stopped", "reloaded", "expired"})


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
        reread: Callable[[], Config] | None = None,
        supervision: Supervision | None = None,
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
            reread: gives the configuration as it is now, or raises ConfigError; for SIGHUP. None: it never changes.
            supervision: tells a service manager how we do; None: nobody.
        """
        self._config = config
        self._beside = beside
        self._for_s = for_s
        self._on_event = on_event
        self._telemetry_ns = int(telemetry_s * SECOND_NS)
        self._ssl = ssl_context
        self._root = config.storage.root
        self._stop = asyncio.Event()
        self._in_time = False
        self._out_of_memory = False
        self._reason = ""
        self._last_second = 0
        self._last_minute = 0
        self._reread = reread
        self._reload_asked = asyncio.Event()
        # Of its own: one that hangs must not take the threads that look up names. The end does not wait for it either.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="asyncio_reload")
        self._runs = Runs(self._root, on_event=self._tell, on_opening=self._warn)
        self._vitals = Vitals(self._root)
        self._supervision = supervision or Supervision({})
        self._refused = ""
        """What the disk said since the last second, if it refused."""
        self._seal = SealChild(
            self._root,
            config.journal,
            lake_days=config.lake.keep_days,
            on_removed=self._removed,
            on_record=self._on_record,
        )
        self._told_removed: list[tuple[str, int]] = []
        """Run and number of each entry that tells of what the last seal removed; 0: the journal's queue was full."""
        self._watch = Watch(config, lambda: self.tape, self._vitals, self._seal)
        self.endpoint = Endpoint(config.metrics.listen, self._watch) if config.metrics.listen else None
        self._sealing = config.seal.enabled if seal is None else seal
        self._notifiers = [
            Notifier(
                way,
                venue=config.venue.name,
                host=socket.gethostname(),
                run=lambda: self.tape.run,
                credentials=os.environ.get("CREDENTIALS_DIRECTORY"),
            )
            for way in ways(config.notify)
        ]
        self._jobs = Jobs(
            second=self._second_job,
            disk=self._vitals.watch_disk,
            seal=self._seal.run if self._sealing else None,
            failed=self._job_failed,
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
        return self._runs.tape

    def stop(self, reason: str) -> None:
        """
        Ask for an orderly end.
        """
        if not self._stop.is_set():
            self._reason = reason
            self._seal.forget()
            self._stop.set()

    def reload(self) -> None:
        """
        Ask for the configuration to be read again; asked twice at once, it is read once.
        """
        self._reload_asked.set()

    async def run(self) -> None:
        """
        Record until stopped.

        Raises:
            RootError: the root cannot be used.
            RootBusy: somebody else records into it.
            RecorderError: the disk did not take the last entries, or a fault of our own ended it.
        """
        # First: a signal that came before would end us by default.
        self._handle_signals()
        make_startable(self._root)
        bind(self._root, venue=self._config.venue.name, network=self._config.venue.network)
        lock, alive = claim(self._root, beside=self._beside)
        try:
            self._runs.begin(self._config, beside=alive)
        finally:
            lock.release()
        self._last_minute = self._watch.started_ts = self.tape.clock.now()
        log.info("recording %d streams into %s as run %s", len(self.tape.streams), self._root, self.tape.run)
        if alive:
            others = ", ".join(alive)
            self._warn(f"others record into {self._root} as well: {others}; meant for an upgrade, not to stay")
        self._capture = Capture(
            lambda: self.tape,
            urls=copies(self._config),
            connections=connections(self._config),
            markets_per_connection=self._config.capture.markets_per_connection,
            session=session_settings(self._config),
            client=client_settings(self._config),
            random=random.Random(),
            ssl_context=self._ssl,
        )
        self._disk = DiskGuard(
            self._root,
            self._config.storage,
            tape=lambda: self.tape,
            pause=self._capture.pause,
            resume=self._capture.resume,
            press=self._press if self._sealing else None,
        )
        self._watch.stopped_since = lambda: self._disk.stopped_since or None
        with suppress(TimeoutError):
            # First: on a disk that is full nothing must be heard that could not be kept. One that hangs shows later.
            async with asyncio.timeout(FIRST_LOOK_S):
                await self._disk.look()
        self._jobs.start()
        failure: BaseException | None = None
        tasks = [
            asyncio.create_task(self._capture.run(), name="capture"),
            asyncio.create_task(self._beat(), name="beat"),
            asyncio.create_task(self._disk.run(), name="disk"),
            asyncio.create_task(self._vitals.measure_lag(), name="lag"),
            asyncio.create_task(self._reload_when_asked(), name="reload"),
        ]
        tasks += [asyncio.create_task(notifier.run(), name="notify") for notifier in self._notifiers]
        if self.endpoint is not None:
            tasks.append(asyncio.create_task(self.endpoint.run(), name="endpoint"))
        waiting = asyncio.create_task(self._stop.wait(), name="stop")
        committed = False
        try:
            done, _ = await asyncio.wait([waiting, *tasks], timeout=self._for_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self._in_time = True
                self.stop(f"the {self._for_s:g} s asked for are over")
            for task in done - {waiting}:
                failure = task.exception() or RuntimeError("it ended by itself")
                if _without_memory(failure):
                    self._exhausted()
                log.critical("%s failed", task.get_name(), exc_info=failure)
                self.stop(f"our own fault: {task.get_name()}: {failure}")
        finally:
            waiting.cancel()
            committed = await self._end(tasks)
            # Threads that wait for work would look like ones that hang, and the process would not end as others do.
            self._disk.close()
            self._watch.close()
            self._reader.shutdown(wait=False)
        if self._out_of_memory:
            raise OutOfMemory(
                f"{_NO_MEMORY}; raise its limit, or see `journal.queue_bytes` and what else runs on this machine"
            )
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
        self._supervision.stopping(self._reason or "stopped")
        self._jobs.end_all()
        await self._capture.stop()
        await asyncio.wait(tasks[:1], timeout=DRAIN_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._seal.end()
        self._jobs.shut_down()
        self._minute()
        self.tape.stop(self._reason or "stopped")
        committed = await self._committed(COMMIT_DEADLINE_S)
        if committed:
            log.info("stopped: %s; everything is committed", self._reason)
        return committed

    async def _committed(self, within_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not self._runs.closed():
            if loop.time() > deadline:
                return False
            # Not one long wait: a second signal must still be heard.
            await asyncio.sleep(0.01)
        return True

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
            self._supervise()

    def _supervise(self) -> None:
        recorded, connections, trouble = self._capture.now_recorded()
        journal = self.tape.journal
        refused, self._refused = self._refused, ""
        self._supervision.second(
            Pulse(
                run=self.tape.run,
                committed=journal.committed[0],
                appended=journal.appended,
                queued_bytes=journal.queued_bytes,
                refused=refused,
                streams=len(self.tape.streams),
                recorded=len(recorded.intersection(self.tape.streams)),
                connections=connections,
                trouble=trouble,
                full=self._disk.words if self._disk.stopped_since else "",
            )
        )

    def _second(self) -> None:
        """
        Idempotent: does what is due by the run's clock.
        """
        before = self.tape
        if self._runs.check_clock(self._config, self._capture.standing):
            self._jobs.set()
        now = self.tape.clock.now()
        if self.tape is not before:
            # Another run, at another time.
            self._last_second, self._last_minute = 0, now
        if now - self._last_second < SECOND_NS * 9 // 10:
            return
        self._last_second = now
        for failure in self.tape.journal.take_failures():
            log.error("journal: %s of %s failed: %s", failure.operation, failure.segment, failure.error)
            self._refused = f"{failure.operation}: {failure.error}"
            self.tape.fact(failure)
            if failure.error.startswith(MemoryError.__name__):
                self._exhausted()
        self.tape.alive()
        self._runs.counts.second()
        self._vitals.sample(self.tape)
        self._look_for_troubles(now)
        self._runs.let_go()
        if now - self._last_minute >= self._telemetry_ns:
            self._minute()

    def _look_for_troubles(self, now: int) -> None:
        if not self._notifiers or self._stop.is_set():
            return
        flows = self.tape.flows()
        carrying = {flow.connection for flow in flows}
        down = [
            (line.connection, line.down_since, line.why)
            for line in self.tape.counts.lines.values()
            # One that let go of all its streams is not wanted any more.
            if line.down_since and (line.connection in carrying or not line.connects)
        ]
        going_on = troubles(flows, down, disk_full=self._disk.stopped_since)
        for notifier in self._notifiers:
            notifier.look(going_on, now)

    async def _second_job(self) -> None:
        self._second()

    def _minute(self) -> None:
        """
        A row about ourselves; and what nobody can reach goes.

        A connection that has ended holds on to itself. Python's collector comes by when many objects have been made,
        and a recorder makes hardly any: it would be twenty minutes, with a megabyte of buffers waiting.
        """
        gc.collect()
        self._last_minute = self.tape.clock.now()
        self.tape.fact(self._vitals.row(self.tape, paused=bool(self._disk.stopped_since)))

    async def _press(self, want_free: int) -> None:
        """
        Make space, of journal that is sealed; after a seal that is at work.
        """
        await self._seal.run(want_free)

    def _removed(self, removal: Removal) -> None:
        """
        Sealed journal or rows of the lake went by rule; on record, so that nobody takes it for a hole.
        """
        of = removal.first, removal.last, removal.files, removal.bytes
        fact = Expired(removal.what, *of, removal.words, removal.by_rule)
        self._told_removed.append((self.tape.run, self.tape.numbered(fact)))

    async def _on_record(self, note: bytes) -> None:
        """
        What was told of removals is on disk: whoever comes next need not tell it again. If it is not within a minute,
        or was dropped, they have to.
        """
        run, journal = self.tape.run, self.tape.journal
        told, self._told_removed = self._told_removed, []
        if any(of != run or not number for of, number in told):
            log.warning("what the seal removed may not be on record: the next one tells of it again")
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(ON_RECORD_S):
                while told and journal.committed[0] < told[-1][1]:  # noqa: ASYNC110  # its writer is a thread
                    await asyncio.sleep(0.1)
                if self.tape.run == run:
                    await asyncio.to_thread(write_note, self._root, note)

    def _job_failed(self, job: str, words: str) -> None:
        if self._stop.is_set():
            return
        log.error("job %s failed: %s", job, words)
        self._watch.job_failed(job)
        self.tape.fact(JobFailed(job, words))

    # ---- another configuration

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            if self._reread is None:
                continue
            self._supervision.reloading()
            try:
                # On a thread: the file may be on a disk that hangs.
                async with asyncio.timeout(REREAD_S):
                    fresh = await asyncio.get_running_loop().run_in_executor(self._reader, self._reread)
                self._take_over(fresh)
            except TimeoutError:
                self._refuse(f"it could not be read within {REREAD_S:g} s; does its disk hang?")
            except RecorderError as error:
                self._refuse(str(error).replace("\n", " | "))
            except Exception as error:
                log.exception("our own fault, in taking over another configuration")
                self._refuse(f"our own fault: {type(error).__name__}: {error}")
            finally:
                self._supervision.reloaded()

    def _take_over(self, fresh: Config) -> None:
        wanted = change(self._config, fresh)
        if wanted.refusal:
            self._refuse(wanted.refusal)
            return
        log.info("the configuration was read again: %s", wanted.words)
        if (wanted.added or wanted.removed) and not self._stop.is_set():
            before = self.tape.streams
            # First: a segment that begins from now on lists what is asked for from now on.
            self.tape.streams = streams(fresh)
            try:
                self._capture.carry(self.tape.streams)
            except BaseException:
                self.tape.streams = before
                raise
            # What was not taken over is still a change when it is asked for again.
            self._config = fresh
        self._watch.reloaded(wanted.words, taken=True)
        # Last: what is done is on record before it is said that it is done.
        self.tape.fact(Reloaded(wanted.added, wanted.removed, printable(wanted.words)))

    def _refuse(self, words: str) -> None:
        """
        Recording goes on by the old one. On record as well: whoever misses a market later looks there.
        """
        words = printable(words, MAX_REFUSAL)
        log.error("the new configuration is refused, recording goes on by the old one: %s", words)
        self._supervision.warn(f"the new configuration is refused: {words}")
        self._watch.reloaded(words, taken=False)
        self.tape.fact(JobFailed("reload", words))

    # ---- the world

    def _exhausted(self) -> None:
        """
        There is no memory: end, so that a service manager begins anew with all there is. What is queued may still be
        committed; if not even that works, an alarm ends it, which needs no memory.
        """
        if not self._out_of_memory:
            self._out_of_memory = True
            signal.alarm(OUT_OF_MEMORY_S)
            log.critical(_NO_MEMORY)
            self.stop(_NO_MEMORY)

    def _unforeseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """
        What nobody caught, in a callback of the loop: the sockets' own, for one.
        """
        if isinstance(context.get("exception"), MemoryError):
            self._exhausted()
        loop.default_exception_handler(context)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unforeseen)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        if self._reread is not None:
            loop.add_signal_handler(signal.SIGHUP, self.reload)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            log.error("%s again: exit without waiting", number.name)
            os._exit(1)
        self.stop(number.name)

    def _warn(self, opening: str) -> None:
        # What a stop brings about is no news: the events say it, without alarm.
        if not self._stop.is_set():
            log.warning("%s", opening)
            self._supervision.warn(opening)

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        for notifier in self._notifiers:
            notifier.happened(event)
        quiet = event.kind in _QUIET or event.evidence.startswith(IDLE) or self._stop.is_set()
        place = " ".join(str(part) for part in (event.symbol, event.channel) if part)
        line = "" if event.connection is None else f"connection {event.connection}: "
        fields = {
            "event": event.kind,
            "cause": event.cause,
            "symbol": event.symbol,
            "channel": event.channel,
            "connection": event.connection,
            "lasted_s": round((event.end - event.start) / SECOND_NS, 3),
            "missing": event.missing,
        }
        # Counted together: what many markets of a connection had at once.
        extra = {"fields": fields, "kind_of_line": f"{event.kind} {event.connection}"}
        level = logging.INFO if quiet else logging.WARNING
        log.log(level, "%s%s%s: %s", line, event.kind, f" {place}" if place else "", event.evidence, extra=extra)


def _without_memory(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_without_memory(each) for each in error.exceptions)
    return isinstance(error, MemoryError)


def record(recorder: Recorder) -> None:
    """
    Run to the end, on an event loop of its own.

    Not `asyncio.run`: that waits without limit for threads, and one may hang in a name lookup or a dead file system.

    Raises:
        RecorderError: as `Recorder.run`.
    """
    # All that is loaded stays: each minute only what came after it is looked through (see `Recorder._minute`).
    gc.collect()
    gc.freeze()
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
