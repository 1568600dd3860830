"""
The seal as a child process, so that Parquet never lives in the one that records.
"""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from recorder.config import Journal
from recorder.errors import RecorderError, RootBusy

log = logging.getLogger("recorder")

SEAL_COMMAND = (sys.executable, "-m", "recorder", "seal")
BUSY_EXIT = RootBusy.exit_code
END_S = 0.3


class SealChild:
    """
    At most one at a time.
    """

    def __init__(self, root: Path, keep: Journal) -> None:
        self._root = root
        self._arguments = ["--background", "--keep-days", str(keep.keep_days), "--keep-bytes", str(keep.keep_bytes)]
        self.process: asyncio.subprocess.Process | None = None
        """The last one there was."""
        self._done = asyncio.Event()
        self._done.set()
        self._ending = False

    async def run(self) -> None:
        """
        Seal what is due and remove journal that is old enough.

        Raises:
            RecorderError: it ended with an error.
        """
        self._done.clear()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *SEAL_COMMAND,
                *self._arguments,
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
        code = self.process.returncode
        if code and code != BUSY_EXIT and not self._ending:
            words = errors.decode("utf-8", "replace").strip().splitlines()
            raise RecorderError(f"seal ended with {code}: {words[-1] if words else 'no word'}")
        for line in said.decode("utf-8", "replace").splitlines():
            if not line.startswith("nothing to seal"):
                log.info("seal: %s", line)

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
