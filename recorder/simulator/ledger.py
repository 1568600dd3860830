"""
The ground truth of a simulated venue: what it sent to whom, what it kept back, and which faults were on.

A file of JSON lines, appended to. For every client, the data frames due to it are counted from 1 (`seq`) and each has
exactly one line: `sent`, `dropped` (the client had too much waiting) or `withheld` (a fault, or the server's own memory
of slots), and `disconnected` tells how many there were. So whatever a recorder does not have is explained by this file,
or is the recorder's fault. Over a simulated network (`drive`) a frame that was sent can be `lost` on the way: it then
has that line as well.

What nobody was there to hear is told too: each `tick` of the publisher, at which every market is published, and each
fill that no client had subscribed to (`unheard`).

Each fault has a line when it begins and one when it ends, with its true bounds and its definition.
"""

import hashlib
import os
from pathlib import Path
from typing import Literal

import msgspec

from recorder.errors import ForeignFile
from recorder.records import SECOND_NS

What = Literal[
    "started",
    "stopped",
    "connected",
    "disconnected",
    "sent",
    "dropped",
    "withheld",
    "ack",
    "error",
    "heartbeat",
    "heartbeat_withheld",
    "garbage",
    "unsubscribed",
    "fault",
    "fault_end",
    "tick",
    "ticks_missed",
    "unheard",
    "feed_changed",
    "lost",
]
DATA_LINES = frozenset({"sent", "dropped", "withheld"})

_FLUSH_BYTES = 1 << 18


class Line(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """
    One thing that happened. Members that do not apply are left out.
    """

    t_ns: int
    what: What
    client: int | None = None
    """Counts connections from 1."""
    channel: str | None = None
    """Channel name of a data frame, or what was acknowledged."""
    seq: int | None = None
    length: int | None = None
    """Of the frame's text, in bytes."""
    sha: str | None = None
    """First 16 digits of the SHA-256 of the frame's text."""
    fill_id: int | None = None
    fault: str | None = None
    market: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    code: int | None = None
    count: int | None = None
    text: str | None = None
    why: str | None = None
    """Of a frame: why it was kept back, or what is odd about it (kind of a fault, `slot_memory`, `backlog`, …)."""
    due_ns: int | None = None
    """When it was due, if that was before `t_ns`."""


def digest(text: str) -> str:
    """
    How the ledger names a frame's text.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


class Ledger:
    """
    Appends lines to a file, at least each second of the lines' own time.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._buffer = bytearray()
        self._flushed_ns = 0

    def append(self, line: Line) -> None:
        """
        Add a line.
        """
        self._buffer += _encoder.encode(line)
        self._buffer += b"\n"
        if line.t_ns - self._flushed_ns >= SECOND_NS or len(self._buffer) >= _FLUSH_BYTES:
            self._flushed_ns = line.t_ns
            self.flush()

    def flush(self) -> None:
        """
        Hand what is buffered to the operating system.
        """
        if not self._buffer:
            return
        view = memoryview(bytes(self._buffer))
        self._buffer.clear()
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        """
        Flush and close.
        """
        self.flush()
        os.close(self._fd)


def read_ledger(path: Path) -> list[Line]:
    """
    All lines of a ledger, in order. A torn last line, left by a kill, is dropped.

    Raises:
        ForeignFile: a line is no ledger line.
    """
    *whole, _ = path.read_bytes().split(b"\n")
    lines: list[Line] = []
    for number, text in enumerate(whole, 1):
        try:
            lines.append(_decoder.decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ForeignFile(
                path, f"line {number} is no ledger line: {error}", "give a ledger of `simulate`"
            ) from None
    return lines
