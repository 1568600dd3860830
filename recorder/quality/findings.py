"""
Where the parts of the monitor put what they found: events that have ended, openings in words, runs of like findings.

And what explains a hole: outages, which give missing fills their cause. Pure.
"""

from typing import Any

from recorder.quality.events import build, printable
from recorder.quality.state import MonitorState, Outage
from recorder.quality.tallies import Tallies
from recorder.records import Cause, Event

MAX_OUTAGES = 64


class Findings:
    """
    What was found and not yet taken away.
    """

    def __init__(self, state: MonitorState) -> None:
        self._outages = state.outages
        self.tallies = Tallies(state.tallies)
        self.events: list[Event] = []
        """What has ended."""
        self.openings: list[str] = []
        """What has just gone wrong, in words, for a live log."""

    def emit(self, kind: str, **fields: Any) -> None:  # noqa: ANN401  # the fields of `build`, which checks them
        """
        An event that has ended.
        """
        self.events.append(build(kind, **fields))

    def opening(self, words: str) -> None:
        """
        Something has just gone wrong; what it will have been, an event tells when it ends.
        """
        self.openings.append(printable(words))

    def end_tallies(self) -> None:
        """
        All runs of like findings end.
        """
        self.events += self.tallies.take_all()

    # ---- causes

    def outage(self, outage: Outage) -> None:
        """
        Remember a hole that may explain another.

        Kept in the order of their ends, whichever was found first: the order of entries alone decides what a hole is
        put down to, not the order in which a monitor happens to look at its connections.
        """
        self._outages.append(outage)
        self._outages.sort(key=lambda o: (o.end, o.start, o.run or "", -1 if o.connection is None else o.connection))
        del self._outages[:-MAX_OUTAGES]

    def ours_between(self, start: int, end: int, *, run: str) -> str | None:
        """
        What of our own explains that something was late or missing between two instants; None if nothing does.
        """
        for outage in reversed(self._outages):
            if (
                outage.cause == "recorder"
                and outage.connection is None
                and outage.symbol is None
                and outage.start <= end
                and outage.end >= start
                and outage.run in {None, run}
            ):
                return outage.why
        return None

    def cause_between(self, start: int, end: int, *, run: str, connection: int, symbol: str) -> tuple[Cause, str]:
        """
        What explains that something of a market is missing between two instants on a connection: the latest outage.
        """
        for outage in reversed(self._outages):
            if (
                outage.start <= end
                and outage.end >= start
                and outage.run in {None, run}
                and outage.connection in {None, connection}
                and outage.symbol in {None, symbol}
            ):
                return outage.cause, outage.why
        return "venue", "the connection was up all the while"
