"""
What goes into the core and what comes out of it, as values.
"""

import msgspec

from recorder.simulator.ledger import Line, What, digest


class Opened(msgspec.Struct, frozen=True):
    """
    A client connected. Its number must be new.
    """

    client: int


class Text(msgspec.Struct, frozen=True):
    """
    A client sent a message.
    """

    client: int
    text: str


class Gone(msgspec.Struct, frozen=True):
    """
    A client's connection ended.
    """

    client: int
    code: int | None = None


Input = Opened | Text | Gone


class Frame(msgspec.Struct, frozen=True, gc=False):
    """
    A message, shared by all who get it.
    """

    what: What
    """Its ledger line; `sent` for data."""
    text: str
    channel: str | None = None
    fill_id: int | None = None
    why: str | None = None
    """What made it out of the ordinary: the kind of a fault, `initial`, `replay`."""
    binary: bool = False
    raw: bytes | None = None
    """Bytes to send in place of the text, which need not be UTF-8."""

    @property
    def sha(self) -> str | None:
        """
        How the ledger names it; None for what has no content of its own.
        """
        return digest(self.text) if self.what in {"sent", "garbage"} and self.text else None

    @property
    def payload(self) -> bytes:
        """
        As it goes over the wire: a lone surrogate becomes bytes that are not UTF-8.
        """
        return self.raw if self.raw is not None else self.text.encode("utf-8", "surrogatepass")


class Send(msgspec.Struct, frozen=True, gc=False):
    """
    Write a message to a client.
    """

    client: int
    frame: Frame
    seq: int | None = None
    """Counts the data frames due to this client, from 1; None for all others."""
    due_ns: int | None = None
    """When it was due, if it is sent later than that."""

    @property
    def limited(self) -> bool:
        """
        Whether it is dropped when the client has too much waiting: all data is but an initial book.
        """
        return self.seq is not None and self.frame.why not in {"initial", "replay"}


class Close(msgspec.Struct, frozen=True):
    """
    Close with a close frame.
    """

    client: int
    code: int
    reason: str


class Cut(msgspec.Struct, frozen=True):
    """
    End the transport, with no close frame.
    """

    client: int


class Check(msgspec.Struct, frozen=True):
    """
    See whether more than `BACKLOG_LIMIT_BYTES` wait for this client; if so, close it: `Venue.overflowed`.
    """

    client: int


class Pause(msgspec.Struct, frozen=True):
    """
    Read nothing more from this client, so that it gets no pongs either.
    """

    client: int


class Log(msgspec.Struct, frozen=True):
    """
    Append to the ledger.
    """

    line: Line


Output = Send | Close | Cut | Check | Pause | Log


def sent_line(send: Send, t_ns: int, *, dropped: bool = False) -> Line:
    """
    The ledger line of a frame that was written, or dropped for its client's backlog.
    """
    frame = send.frame
    return Line(
        t_ns,
        "dropped" if dropped else frame.what,
        send.client,
        frame.channel,
        send.seq,
        len(frame.payload),
        frame.sha,
        frame.fill_id,
        why=frame.why,
        due_ns=send.due_ns,
    )
