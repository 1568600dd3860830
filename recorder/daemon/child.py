"""
The seal as a child process, so that Parquet never lives in the one that records.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from recorder.clock import monotonic_ns
from recorder.config import Journal
from recorder.errors import RecorderError, RootBusy
from recorder.lake.gone import ON_RECORD
from recorder.lake.removal import Removal
from recorder.quality.counts import Histogram
from recorder.records import SECOND_NS

log = logging.getLogger("recorder")

SEAL_COMMAND = (sys.executable, "-m", "recorder", "seal")
BUSY_EXIT = RootBusy.exit_code
END_S = 0.3
DURATION_BOUNDS_S = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 3600.0)
_IDLE = "nothing to seal"
REMOVED = "removed: "
"""Before a `Removal` as JSON, in what a seal in the background says."""


class SealChild:
    """
    At most one at a time.
    """

    def __init__(
        self,
        root: Path,
        keep: Journal,
        *,
        lake_days: float = 0.0,
        on_removed: Callable[[Removal], None] = lambda _: None,
        on_record: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        """
        Args:
            root: of the data.
            keep: how much of the journal stays.
            lake_days: how long the lake's rows stay; 0: for ever.
            on_removed: told of what was removed.
            on_record: given the note that says that all of it is on record, to be written when it is.
        """
        self._root = root
        self._arguments = ["--background", "--keep-days", str(keep.keep_days), "--keep-bytes", str(keep.keep_bytes)]
        if lake_days:
            self._arguments += ["--lake-days", str(lake_days)]
        self._on_removed, self._on_record = on_removed, on_record
        self.process: asyncio.subprocess.Process | None = None
        """The last one there was."""
        self._done = asyncio.Event()
        self._done.set()
        self._ending = False
        self.failed = ""
        """What the last one ended with; empty if it was well, or none was."""
        self.last_s: float | None = None
        """How long the last one took that had something to do."""
        self.durations = Histogram(DURATION_BOUNDS_S)
        """Likewise, of all of them."""

    @property
    def running(self) -> bool:
        """
        Whether one is at work.
        """
        return not self._done.is_set()

    async def run(self, want_free: int = 0) -> None:
        """
        Seal what is due and remove journal that is old enough; or, until `want_free` bytes are free, all that may go.

        One that is at work is waited for: the scheduler and a disk that fills up may ask at once.

        Raises:
            RecorderError: it ended with an error.
        """
        while self.running:
            await self._done.wait()
        if self._ending:
            return
        self._done.clear()
        started = monotonic_ns()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *SEAL_COMMAND,
                *self._arguments,
                *(("--want-free", str(want_free)) if want_free else ()),
                "--",
                str(self._root),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is for us; we end it in our own time
            )
            said, errors = await self.process.communicate()
        finally:
            self._done.set()
        took_s = round((monotonic_ns() - started) / SECOND_NS, 3)
        code = self.process.returncode
        lines = said.decode("utf-8", "replace").splitlines()
        note = b""
        for line in lines:
            if line.startswith(REMOVED):
                with suppress(msgspec.DecodeError):
                    self._on_removed(msgspec.json.decode(line.removeprefix(REMOVED), type=Removal))
            elif line.startswith(ON_RECORD):
                note = line.removeprefix(ON_RECORD).encode()
            elif not line.startswith(_IDLE):
                log.info("seal: %s", line)
        if note and self._on_record is not None:
            await self._on_record(note)
        # Only now: one that fails may have made space before.
        if code and code != BUSY_EXIT and not self._ending:
            words = errors.decode("utf-8", "replace").strip().splitlines()
            self.failed = f"seal ended with {code}: {words[-1] if words else 'no word'}"
            raise RecorderError(self.failed)
        if code != BUSY_EXIT:
            self.failed = ""
        if code == 0 and not any(line.startswith(_IDLE) for line in lines):
            self.last_s = took_s
            self.durations.observe(self.last_s)

    def forget(self) -> None:
        """
        How it ends is no news from now on.
        """
        self._ending = True

    async def end(self) -> None:
        """
        A seal under way is run again at the next start; what it has published stays.
        """
        self.forget()
        if self.process is None or self.process.returncode is not None:
            return
        for end in (self.process.terminate, self.process.kill):
            with suppress(ProcessLookupError):
                end()
            if await _within(END_S, self._done.wait()):
                return


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
