"""
What becomes of a recorder whose disk fills up: it warns, lets go of journal early, stops to listen, and goes on.

    free < expire_free_bytes    sealed journal is removed before its time, once its hours were read back
    free < stop_free_bytes      or the journal could not be written for want of space: capture stops, `disk_full` begins
    half as much again free     capture goes on; `disk_full` ends

The same for inodes. What is published is never touched. A file of `reserve_bytes` (`journal/reserve`) takes space that
nobody needs until then: it is removed when the journal finds no other, so that what is in memory and the fact itself
can be written; recording begins again only when it could be made again.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from recorder import durable
from recorder.capture.tape import Tape
from recorder.clock import monotonic_ns
from recorder.config import Storage
from recorder.lake.layout import JOURNAL
from recorder.records import SECOND_NS, DiskFreed, DiskFull

log = logging.getLogger("recorder")

RESERVE = "reserve"
UNLIMITED = 1 << 62
"""Inodes of a file system that does not count them (btrfs)."""
LOOK_S = 1.0
PRESS_NS = 60 * SECOND_NS
"""Between two tries to remove journal."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
EXPIRE_TIMES = 4
"""Journal goes early below this many times the inodes at which capture stops."""
_LAST_BYTES, _LAST_INODES = 1 << 18, 4
"""With less than this a recorder cannot even start."""

SEALED_GOES = "sealed journal goes before its time, where there is any"
NOTHING_GOES = "no journal is removed here, for nothing is sealed ([seal] enabled)"

Stage = Literal["fine", "expire", "stop"]
T = TypeVar("T")


class Space(msgspec.Struct, frozen=True):
    """
    Of the file system a root is on, for those who are not root.
    """

    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int

    @property
    def words(self) -> str:
        """
        For people: `1.2 GB of 40.0 GB free, 31337 inodes`.
        """
        inodes = "" if self.free_inodes >= UNLIMITED else f", {self.free_inodes} inodes"
        return f"{durable.size(self.free_bytes)} of {durable.size(self.total_bytes)} free{inodes}"


def space(root: Path) -> Space:
    """
    What is free now. May take long on a file system that hangs: not for the event loop.

    Raises:
        OSError: it cannot be asked.
    """
    found = os.statvfs(root)
    counted = found.f_files > 0
    return Space(
        free_bytes=found.f_bavail * found.f_frsize,
        total_bytes=found.f_blocks * found.f_frsize,
        free_inodes=found.f_favail if counted else UNLIMITED,
        total_inodes=found.f_files if counted else UNLIMITED,
    )


def stage(now: Space, limits: Storage, *, stopped: bool) -> Stage:
    """
    What has to be done. Once stopped, it takes half as much again to go on, so that it does not flap. Pure.
    """
    more = 3 if stopped else 2
    if now.free_bytes * 2 < limits.stop_free_bytes * more or now.free_inodes * 2 < limits.stop_free_inodes * more:
        return "stop"
    if now.free_bytes < limits.expire_free_bytes or now.free_inodes < limits.stop_free_inodes * EXPIRE_TIMES:
        return "expire"
    return "fine"


def make_startable(root: Path) -> None:
    """
    Give up the reserve that an earlier process left, where there is not even space to begin.
    """
    try:
        now = space(root)
        if now.free_bytes < _LAST_BYTES or now.free_inodes < _LAST_INODES:
            durable.remove(root / JOURNAL / RESERVE)
    except OSError:
        return  # a root that is not there yet, or cannot be used: whoever binds it says so


class DiskGuard:
    """
    Watches the disk of one process.
    """

    def __init__(
        self,
        root: Path,
        limits: Storage,
        *,
        tape: Callable[[], Tape],
        pause: Callable[[str], None],
        resume: Callable[[], None],
        press: Callable[[int], Awaitable[None]] | None,
    ) -> None:
        """
        Args:
            root: bound.
            limits: as configured.
            tape: the present run's.
            pause: stops capture, for the reason given.
            resume: lets it go on.
            press: removes sealed journal until so many bytes are free; None: nobody seals here.
        """
        self._reserve = root / JOURNAL / RESERVE
        self._root, self._limits = root, limits
        self._tape, self._pause, self._resume, self._press = tape, pause, resume, press
        self._pressing: asyncio.Task[None] | None = None
        self._pressed = 0
        self._blind = False
        self._stage: Stage = "fine"
        self.stopped_since = 0
        """When capture was stopped, on the run's clock; 0: it goes on."""
        self.words = ""
        """What was free when it was last looked at."""
        self._told_run = ""
        # Of its own: the others may all wait for a name server that does not answer.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="asyncio_disk")

    async def run(self) -> None:
        """
        For ever.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    def close(self) -> None:
        """
        No more looks: its thread ends, unless a file system holds it.
        """
        self._thread.shutdown(wait=False)

    async def look(self) -> None:
        """
        Do what has to be done now.
        """
        try:
            now = await self._aside(partial(space, self._root))
        except OSError as error:
            if not self._blind:
                log.warning("%s: cannot tell how much is free: %s", self._root, error.strerror or error)
            self._blind = True
            return
        self._blind = False
        self.words = now.words
        stuck = self._tape().journal.stuck in NO_SPACE
        before, self._stage = self._stage, stage(now, self._limits, stopped=bool(self.stopped_since))
        if stuck:
            await self._aside(self._give_up_reserve)
        if stuck or self._stage == "stop":
            self._stop(now, stuck=stuck)
        elif await self._has_reserve():
            self._go_on(now)
        if self._stage != "fine" or stuck:
            if before == "fine":
                log.warning("%s: %s: %s", self._root, now.words, SEALED_GOES if self._press else NOTHING_GOES)
            self._free_some(now)

    async def _aside(self, do: Callable[[], T]) -> T:
        """
        On its thread: a file system that hangs must not hang the reader of the sockets.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, do)

    def _stop(self, now: Space, *, stuck: bool) -> None:
        tape = self._tape()
        if self.stopped_since and self._told_run == tape.run:
            return
        first = not self.stopped_since
        why = "the journal could not be written: no space" if stuck else f"{now.words}: too little to go on"
        self._told_run = tape.run
        self.stopped_since = tape.fact(DiskFull(now.free_bytes, now.free_inodes, why))
        if first:
            log.error("%s: %s; capture stops until there is more", self._root, why)
            self._pause("the disk is full")

    def _go_on(self, now: Space) -> None:
        if not self.stopped_since:
            return
        self._tape().fact(DiskFreed(now.free_bytes, now.free_inodes))
        self.stopped_since = 0
        log.warning("%s: %s: capture goes on", self._root, now.words)
        self._resume()

    async def _has_reserve(self) -> bool:
        """
        Whether it is there, or could be made.
        """
        if not self._limits.reserve_bytes:
            return True
        try:
            await self._aside(partial(durable.reserve, self._reserve, self._limits.reserve_bytes))
        except OSError as error:
            # While we record, that is for the next look; what stopped must not go on without.
            log.debug("no reserve: %s", error)
            return False
        return True

    def _give_up_reserve(self) -> None:
        try:
            durable.remove(self._reserve)
        except OSError as error:
            log.debug("the reserve stays: %s", error)

    def _free_some(self, now: Space) -> None:
        due = monotonic_ns() - self._pressed >= PRESS_NS or not self._pressed
        if self._press is None or not due or (self._pressing is not None and not self._pressing.done()):
            return
        self._pressed = monotonic_ns()
        # Files: each that goes is one; how many are needed, bytes do not tell.
        few = now.free_inodes < self._limits.stop_free_inodes * EXPIRE_TIMES
        self._pressing = asyncio.create_task(self._pressed_out(UNLIMITED if few else self._limits.expire_free_bytes))

    async def _pressed_out(self, want_free: int) -> None:
        assert self._press is not None
        try:
            await self._press(want_free)
        except Exception as error:  # noqa: BLE001  # a task's edge: it is tried again in a minute
            log.warning("sealed journal could not be removed: %s", error)
