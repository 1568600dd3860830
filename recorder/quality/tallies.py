"""
Findings about single frames, counted: a run of like ones is one event. Pure.
"""

import msgspec

from recorder.quality.events import build, printable
from recorder.records import Cause, Event


class Tally(msgspec.Struct):
    """
    A run of like findings that will be one event.
    """

    kind: str
    cause: Cause
    run: str | None
    connection: int | None
    symbol: str | None
    channel: str | None
    start: int
    end: int
    count: int
    evidence: str
    """Of the first."""
    whole: bool = False
    """Each is a frame that is in no table of its own."""

    def event(self) -> Event:
        """
        The event, with the count in `missing` for frames that are in no table of theirs.
        """
        many = f" ({self.count} times)" if self.count > 1 else ""
        return build(
            self.kind,
            cause=self.cause,
            start=self.start,
            end=self.end,
            evidence=self.evidence + many,
            run=self.run,
            connection=self.connection,
            symbol=self.symbol,
            channel=self.channel,
            missing=self.count if self.whole or self.kind in {"undecodable", "unrequested"} else None,
            apart=self.evidence,
        )


MAX_TALLIES = 256
"""Findings told apart at one time; a hostile venue could invent millions, so the rest of a place share one …"""


MAX_PLACES = 512
"""… and beyond this many, all of them do."""


TALLY_IDLE_NS = 60_000_000_000
"""A run of like findings ends when none came for this long."""


class Tallies:
    """
    Gathers like findings into few events, whatever the venue sends.
    """

    def __init__(self, open_tallies: list[Tally]) -> None:
        self._open = {(t.kind, t.run, t.connection, t.symbol, t.channel, t.evidence): t for t in open_tallies}

    def add(
        self,
        kind: str,
        now: int,
        *,
        cause: Cause,
        evidence: str,
        run: str | None,
        connection: int | None,
        symbol: str | None = None,
        channel: str | None = None,
        whole: bool = False,
        since: int | None = None,
        count: int = 1,
    ) -> bool:
        """
        Count one finding; True if it is the first of its run.

        `whole`: it is a frame that is in no table of its own. `since`: it reaches back to then, ns.
        `count`: 0 for what only shows how far the run reaches.
        """
        evidence = printable(evidence)
        symbol = printable(symbol) if symbol is not None else None
        channel = printable(channel) if channel is not None else None
        tally = self._open.get((kind, run, connection, symbol, channel, evidence))
        if tally is None and len(self._open) >= MAX_TALLIES:
            # Whose they are matters more than what: a place that is not named has no doubt cast on it.
            evidence = "many different findings"
            tally = self._open.get((kind, run, connection, symbol, channel, evidence))
            if tally is None and len(self._open) >= MAX_PLACES:
                symbol, channel = None, None
                tally = self._open.get((kind, run, connection, symbol, channel, evidence))
        if tally is None:
            key = (kind, run, connection, symbol, channel, evidence)
            begin = now if since is None else since
            self._open[key] = Tally(kind, cause, run, connection, symbol, channel, begin, now, count, evidence, whole)
            return True
        tally.count += count
        tally.end = now
        return False

    def take_idle(self, now: int) -> list[Event]:
        """
        Events of runs that have ended by `now`.
        """
        ended = [key for key, tally in self._open.items() if now - tally.end >= TALLY_IDLE_NS]
        return [self._open.pop(key).event() for key in ended]

    def take_all(self) -> list[Event]:
        """
        Events of all runs, which end here.
        """
        events = [tally.event() for tally in self._open.values()]
        self._open.clear()
        return events

    def snapshot(self) -> list[Tally]:
        """
        The open runs, for the carry.
        """
        return list(self._open.values())
