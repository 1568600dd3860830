"""
What the service manager is told: ready, status, reloading, stopping, and that we are alive.

The protocol is systemd's `sd_notify(3)`: datagrams of `NAME=value` lines to the socket in `NOTIFY_SOCKET`. Without that
variable nothing is sent.

* *Ready* means that some stream is acknowledged or brings data, and that something heard after that is committed. Until
  then the start's time limit is extended, second by second, for as long as the journal gets on: a venue that is out of
  reach is waited for, a start that hangs is not.
* *Alive* is told while commits succeed. A disk that says no (full, read-only) counts too: what was heard waits in
  memory for it, and a restart would lose that and mend nothing. A writer that neither commits nor fails is stuck.
"""

import logging
import socket
from collections.abc import Callable, Mapping

import msgspec

from recorder.clock import monotonic_ns
from recorder.quality.events import printable
from recorder.records import SECOND_NS

log = logging.getLogger("recorder")

PATIENCE_S = 30.0
"""Without a commit or a refusal of the disk for this long the writer is stuck. The watchdog's own time comes on top."""
STARTING_S = 30
"""How much longer a start may take, counted from each sign that the journal gets on."""
STATUS_S = 5.0
MAX_STATUS = 300
"""Characters: a status is one line on a screen."""


class Pulse(msgspec.Struct, frozen=True):
    """
    How the recorder is doing at one moment.
    """

    run: str
    committed: int
    """Number of the run's last entry that is on disk."""
    appended: int
    """Number of the last entry there is."""
    queued_bytes: int
    refused: str
    """What the disk has just said, in words; empty if it did not refuse."""
    streams: int
    """How many are configured."""
    recorded: int
    """How many of them are acknowledged, or bring data, on some connection."""
    connections: int
    """Open ones."""
    trouble: str
    """Why one is not open; empty if all are."""
    full: str = ""
    """How much is free on the disk, in words, if capture stopped for that; empty while it goes on."""


class Supervision:
    """
    The conversation with the service manager; it hears nothing back.
    """

    def __init__(
        self, environ: Mapping[str, str], *, send: Callable[[str], None] | None = None, now: int | None = None
    ) -> None:
        """
        Args:
            environ: of the process.
            send: in place of the socket that `environ` names, for tests.
            now: monotonic ns.
        """
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._send = send or self._to_socket
        self._told_failure = False
        self._ready = False
        self._stopping = False
        self._ready_from = 0
        now = monotonic_ns() if now is None else now
        self._progress = now
        self._committed = ("", 0)
        self._refused = ""
        self._status = ""
        self._status_at = 0
        self._entries_at = (now, 0)
        self._warning: tuple[int, str] | None = None

    @property
    def ready(self) -> bool:
        """
        Whether it was told that we record.
        """
        return self._ready

    def warn(self, words: str, now: int | None = None) -> None:
        """
        Keep what has just gone wrong for the status.
        """
        self._warning = (monotonic_ns() if now is None else now, printable(words))

    def second(self, pulse: Pulse, now: int | None = None) -> None:
        """
        To be called each second, from the event loop.
        """
        now = monotonic_ns() if now is None else now
        reached = (pulse.run, pulse.committed)
        got_on = reached != self._committed or bool(pulse.refused)
        if got_on:
            if pulse.run != self._committed[0]:
                # Another run counts its entries from 1.
                self._entries_at, self._ready_from = (now, 0), 0
            self._committed, self._refused, self._progress = reached, pulse.refused, now
        lines = []
        if now - self._progress <= PATIENCE_S * SECOND_NS:
            lines.append("WATCHDOG=1")
            if not self._ready and got_on:
                lines.append(f"EXTEND_TIMEOUT_USEC={STARTING_S * 1_000_000}")
        if not self._ready:
            if not pulse.recorded:
                self._ready_from = 0
            elif not self._ready_from:
                self._ready_from = pulse.appended + 1
            elif pulse.committed >= self._ready_from:
                self._ready = True
                self._status_at = 0
                lines.append("READY=1")
        status = self._due_status(pulse, now)
        if status:
            lines.append(f"STATUS={status}")
        if lines:
            self._send("\n".join(lines))

    def reloading(self) -> None:
        """
        The configuration is being read again; `reloaded` must follow.
        """
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns() // 1000}\nSTATUS=reading the configuration again")

    def reloaded(self) -> None:
        """
        Recording goes on, by the new configuration or the old one.
        """
        # Ready only if it was: a reload during the start is no sign that anything is recorded, nor one cut by the end.
        if self._ready and not self._stopping:
            self._send("READY=1")
        self._status_at = 0

    def stopping(self, reason: str) -> None:
        """
        From here on it ends.
        """
        self._stopping = True
        self._send(f"STOPPING=1\nSTATUS={printable(f'stopping: {reason}')[:MAX_STATUS]}")

    def _due_status(self, pulse: Pulse, now: int) -> str:
        """
        The status line if it is time for one, else nothing.
        """
        if now - self._status_at < STATUS_S * SECOND_NS and self._status_at:
            return ""
        since, before = self._entries_at
        rate = (pulse.committed - before) * SECOND_NS / max(now - since, 1)
        self._entries_at = (now, pulse.committed)
        self._status_at = now
        self._status = printable(self._words(pulse, rate, now))[:MAX_STATUS]
        return self._status

    def _words(self, pulse: Pulse, rate: float, now: int) -> str:
        if pulse.full:
            # Alone: what else is wrong follows from it.
            return f"THE DISK IS FULL, nothing is recorded until there is room: {pulse.full}"
        what = "recording" if self._ready else "nothing is recorded yet:"
        connections = f"{pulse.connections} connection{'' if pulse.connections == 1 else 's'}"
        words = f"{what} {pulse.recorded} of {pulse.streams} streams on {connections}, {rate:.0f} entries/s on disk"
        if now - self._progress > 2 * SECOND_NS or self._refused:
            said = self._refused or f"nothing for {(now - self._progress) // SECOND_NS} s"
            words += f"; the disk takes no more ({said}), {pulse.queued_bytes / 1e6:.1f} MB wait in memory"
        if pulse.trouble:
            words += f"; {pulse.trouble}"
        elif self._warning is not None:
            at, said = self._warning
            words += f"; last warning {_ago(now - at)} ago: {said}"
        return words

    def _to_socket(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                # The manager may be busy; the loop must not wait for it.
                to.setblocking(False)
                to.sendto(text.encode("utf-8", "replace"), address)
        except OSError as error:
            if not self._told_failure:
                self._told_failure = True
                log.warning("the service manager at %s cannot be told anything: %s", self._address, error)


def _ago(duration: int) -> str:
    seconds = duration // SECOND_NS
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
