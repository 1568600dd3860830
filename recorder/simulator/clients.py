"""
What the server knows of one connection: its numbers, and whether anything gets through to it at present.
"""

import msgspec

from recorder.simulator.ledger import Line
from recorder.simulator.messages import Close, Frame, Log, Output, Send
from recorder.venue.protocol import BACKLOG_LIMIT_BYTES, CLOSE_POLICY

CLOSE_REASON = "Buffer overflow"


class Client:
    """
    One connection.

    It is open, or deaf (half-open: nothing arrives, and nobody knows), or held (what is sent waits and comes in one
    burst). `seq` counts the data frames due to it.
    """

    def __init__(self, number: int, *, heartbeat_due: int) -> None:
        self.number = number
        self.heartbeat_due = heartbeat_due
        self.seq = 0
        self.deaf = False
        self.closing_since: int | None = None
        """A close frame waits behind a backlog since then."""
        self._held: list[tuple[int, Send]] | None = None
        self._held_bytes = 0
        self._buffer_bytes = 0

    @property
    def open(self) -> bool:
        """
        Whether what is sent arrives.
        """
        return self._held is None and not self.deaf

    @property
    def waiting(self) -> int:
        """
        Bytes that wait in the server, beyond what the kernels took, while held.
        """
        return max(0, self._held_bytes - self._buffer_bytes)

    def put(
        self, now: int, frame: Frame, outputs: list[Output], *, counted: bool = True, due_ns: int | None = None
    ) -> None:
        """
        Send a frame, hold it, drop it, or note that it is withheld.

        Args:
            now: when.
            frame: what.
            outputs: what to do about it is added here.
            counted: a data frame; gets a number, and a ledger line whatever happens to it.
            due_ns: when it was due, if before now.
        """
        seq: int | None = None
        if counted:
            seq = self.seq = self.seq + 1
        if self._held is None and not self.deaf:
            outputs.append(Send(self.number, frame, seq, due_ns))
            return
        send = Send(self.number, frame, seq, due_ns)
        if self.deaf:
            if counted:
                self.withhold(now, frame, "half_open", outputs, seq=seq)
            elif frame.what == "heartbeat":
                outputs.append(Log(Line(now, "heartbeat_withheld", self.number, why="half_open")))
        elif self.closing_since is not None or (send.limited and self.waiting >= BACKLOG_LIMIT_BYTES):
            self._drop(now, send, outputs)
        elif self._held is not None:
            self._held.append((now, send))
            self._held_bytes += len(frame.text)

    def withhold(self, now: int, frame: Frame, why: str, outputs: list[Output], *, seq: int | None = None) -> None:
        """
        Note a data frame that is due and does not come; without `seq`, count it.
        """
        if seq is None:
            self.seq += 1
            seq = self.seq
        line = Line(now, "withheld", self.number, frame.channel, seq, fill_id=frame.fill_id, why=why)
        outputs.append(Log(line))

    def hold(self, buffer_bytes: int) -> None:
        """
        Let what is sent wait from now on.
        """
        if self._held is None:
            self._held, self._held_bytes, self._buffer_bytes = [], 0, buffer_bytes

    def release(self, outputs: list[Output]) -> None:
        """
        Send all that waited, in one burst; then the close frame, if one waits behind it.
        """
        held, self._held = self._held or [], None
        outputs.extend(msgspec.structs.replace(send, due_ns=send.due_ns or at) for at, send in held)
        if self.closing_since is not None:
            outputs.append(Close(self.number, CLOSE_POLICY, CLOSE_REASON))

    def give_up(self, now: int, outputs: list[Output]) -> None:
        """
        The connection ends: what waits is lost.
        """
        held, self._held = self._held or [], None
        for at, send in held:
            self._drop(now, msgspec.structs.replace(send, due_ns=send.due_ns or at), outputs)

    def _drop(self, now: int, send: Send, outputs: list[Output]) -> None:
        if send.seq is not None:
            frame = send.frame
            outputs.append(
                Log(
                    Line(
                        now,
                        "dropped",
                        self.number,
                        frame.channel,
                        send.seq,
                        len(frame.payload),
                        frame.sha,
                        frame.fill_id,
                        why="backlog",
                        due_ns=send.due_ns,
                    )
                )
            )
