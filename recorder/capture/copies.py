"""
Copies of the whole recording, and the connections of each: who carries which stream now, and what changes that.

Every configured stream has a home in each copy: one of its connections. A silent one moves to the copy's own probation
connection and back; another configuration adds and removes some. Nothing here touches a socket: changes go to the
sessions, which say to their venue what follows, and come back as facts to be journaled.
"""

import asyncio
import logging

import msgspec

from recorder.capture.session import PROMOTE_AFTER_S, PROMOTE_MAX_S, Action, Note, Session
from recorder.capture.wire import Wire
from recorder.records import Cause, Connected, Fact, Moved, Stream
from recorder.redaction import redacted

log = logging.getLogger("recorder.capture")

RELOADED = "the configuration was read again"


class Cut(msgspec.Struct):
    """
    Why we ended a connection ourselves.
    """

    cause: Cause
    why: str


class Line:
    """
    One connection of a configured index: its session, and its socket while there is one.
    """

    def __init__(self, index: int, url: str, session: Session, *, apart_s: float) -> None:
        """
        Args:
            index: `connection` of everything it brings.
            url: the venue's.
            session: its conversation.
            apart_s: to wait before its first connect, so that the copies do not come all at once.
        """
        self.index = index
        self.url = url
        self.shown = redacted(url)
        """For the journal, which keeps no secrets."""
        self.session = session
        self.apart_s = apart_s
        self.attempt = 0
        self.opening: asyncio.Task[Wire] | None = None
        self.socket: Wire | None = None
        self.cut: Cut | None = None
        self.connected: Connected | None = None
        self.trouble = ""
        """Why the last attempt got no connection, in words."""
        self.wanted = asyncio.Event()
        """It has, or will have, something to carry."""
        if session.streams:
            self.wanted.set()


Told = tuple[Line, Fact]
"""A fact to be journaled, and the connection it is about."""


class Copy:
    """
    One recording of everything.
    """

    def __init__(self, lines: list[Line], probation: Line) -> None:
        self.lines = lines
        self.probation = probation
        self._home = {stream: line for line in lines for stream in line.session.streams}
        self._promoting: dict[Stream, Line] = {}
        self._promote_after_s: dict[Stream, float] = {}
        """Of streams that were on probation before: each return makes them wait longer."""

    @property
    def trying(self) -> bool:
        """
        Some stream is on trial at home.
        """
        return bool(self._promoting)

    def everything(self) -> list[Line]:
        """
        All its connections.
        """
        return [*self.lines, self.probation]

    def to_probation(self, line: Line, stream: Stream, why: str) -> list[Told]:
        """
        A stream is silent on a connection where others speak.
        """
        # If it is on trial at home, that has failed; probation still carries it.
        self._promoting.pop(stream, None)
        log.warning("%s moves to the probation connection: %s", stream.label(), why)
        wait_s = self._promote_after_s.get(stream, PROMOTE_AFTER_S)
        self._promote_after_s[stream] = min(wait_s * 4, PROMOTE_MAX_S)
        self.probation.session.add(stream, why=why, promote_after_s=wait_s)
        self.probation.wanted.set()
        return [(line, Moved(stream, self.probation.index, why)), *_told(line, line.session.remove(stream))]

    def go_home(self, stream: Stream) -> None:
        """
        Subscribe at home as well; probation lets go only when home has brought a frame, so that nothing is missed.
        """
        home = self._home.get(stream)
        if home is not None:
            self._promoting[stream] = home
            home.session.add(stream, why="it speaks again")
            home.wanted.set()

    def settle(self, line: Line, stream: Stream) -> list[Told]:
        """
        A stream has brought a frame on a connection: if it was on trial there, it is back.
        """
        if self._promoting.get(stream) is not line:
            return []
        del self._promoting[stream]
        log.info("%s is back on connection %d", stream.label(), line.index)
        leaving = _told(self.probation, self.probation.session.remove(stream))
        return [(line, Moved(stream, line.index, "it speaks again")), *leaving]

    def carry(self, placement: list[list[Stream]]) -> list[Told]:
        """
        Carry these from now on: the streams of each of `lines`. What was and is carried stays where it is.
        """
        wanted = {stream: line for line, streams in zip(self.lines, placement, strict=True) for stream in streams}
        told = []
        for stream in [stream for stream in self._home if stream not in wanted]:
            home = self._home.pop(stream)
            self._promoting.pop(stream, None)
            self._promote_after_s.pop(stream, None)
            for line in (home, self.probation):
                told += _told(line, line.session.remove(stream, why=RELOADED))
        for stream, line in wanted.items():
            if stream not in self._home:
                self._home[stream] = line
                told += _told(line, line.session.add(stream, why=RELOADED, new=True))
                line.wanted.set()
        return told


def must_stay(line: Line, copies: list[Copy], now: int) -> bool:
    """
    Whether a connection is all that is left of its streams for the moment: its like in another copy is away.
    """
    away = (other for copy in copies for other in copy.everything() if other is not line and other.session.away(now))
    return any(not set(other.session.streams).isdisjoint(line.session.streams) for other in away)


def _told(line: Line, actions: list[Action]) -> list[Told]:
    return [(line, action.fact) for action in actions if isinstance(action, Note)]
