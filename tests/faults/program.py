"""
A recorder and a sealer as they are started by hand, beside a simulated venue that keeps a ledger.
"""

import os
import subprocess
import sys
import time
from collections.abc import Set as AbstractSet
from pathlib import Path

from recorder.journal.reader import read_merged, segments
from recorder.lake.layout import JOURNAL
from recorder.records import Entry, EntryKind
from recorder.venue.protocol import FrameKind, peek

CONFIG = """
[venue]
name = "{venue}"
url = "{url}"
network = "mainnet-beta"
[markets]
perp = ["SOL-PERP", "BTC-PERP"]
[storage]
root = "{root}"
{storage}
[capture]
reconnect_first_s = 0.1
"""


class Bench:
    """
    A venue with a ledger, and a root that is recorded into.
    """

    def __init__(
        self,
        folder: Path,
        *,
        root: Path | None = None,
        settings: str = "",
        storage: str = "",
        tick_ms: int = 20,
        venue: str = "loopback",
    ) -> None:
        """
        Args:
            folder: for everything that is not the root.
            root: recorded into; below the folder, if not given.
            settings: more tables of the configuration.
            storage: more of its `[storage]`.
            tick_ms: between two books.
            venue: its name; that of the root, where there is one already.
        """
        self.root, self.ledger, self._config = root or folder / "root", folder / "ledger", folder / "config.toml"
        self.log = folder / "log"
        self._venue = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "recorder",
                "simulate",
                "--port",
                "0",
                "--tick-ms",
                str(tick_ms),
                "--ledger",
                self.ledger,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._venue.stdout is not None
        url = self._venue.stdout.readline().split()[-1]
        self._config.write_text(CONFIG.format(url=url, root=self.root, storage=storage, venue=venue) + settings)
        self.committed: set[tuple[str, int]] = set()
        """(run, seq) of every data frame that could be read after some kill."""

    def recorder(self) -> subprocess.Popen[bytes]:
        """
        A new one; what it says is appended to `log`.
        """
        return self.child("run", self._config)

    def sealer(self) -> subprocess.Popen[bytes]:
        """
        A seal of all hours, the open one too.
        """
        return self.child("seal", self.root, "--open")

    def child(self, *arguments: str | Path, under: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """
        Any verb, if need be under a tool such as strace.
        """
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*under, sys.executable, "-m", "recorder", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
            )

    def config(self) -> Path:
        """
        What recorders are started with.
        """
        return self._config

    def said(self) -> str:
        """
        What all children said so far.
        """
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_recording(self, *, than: int = 0, beside: AbstractSet[str] = frozenset()) -> int:
        """
        Until more than so many frames are committed; how many are. Runs `beside` do not count.
        """
        deadline = time.monotonic() + 60
        while (there := len(self.data_frames(beside))) <= than:
            assert time.monotonic() < deadline, "the recorder does not record"
            time.sleep(0.05)
        return there

    def runs(self) -> set[str]:
        """
        Those that have a segment.
        """
        return {segment.run for segment in segments(self.root / JOURNAL)}

    def data_frames(self, beside: AbstractSet[str] = frozenset()) -> dict[tuple[str, int], bytes]:
        """
        All that can be read now, but for runs `beside`.
        """
        return {
            (entry.run, entry.seq): entry.payload
            for entry in self.entries(beside)
            if entry.kind == EntryKind.FRAME and peek(entry.payload).kind == FrameKind.DATA
        }

    def entries(self, beside: AbstractSet[str] = frozenset()) -> list[Entry]:
        """
        Likewise, all of them.
        """
        found = [segment for segment in segments(self.root / JOURNAL) if segment.run not in beside]
        return list(read_merged(found, start=0, end=1 << 62))

    def close(self) -> None:
        """
        End the venue.
        """
        self._venue.terminate()
        self._venue.wait(10)
        assert self._venue.stdout is not None
        self._venue.stdout.close()
