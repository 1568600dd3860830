"""
From one configuration to another while recording: what changes, and what cannot. Pure.
"""

import msgspec

from recorder.config import TABLES, Config
from recorder.config_streams import streams
from recorder.records import Stream

LIVE_TABLE = "markets"
"""Of the configuration: what a running recorder takes over. All else is read at the start alone."""
NAMED = 10
"""Streams of a change; the log need not name a hundred."""


class Change(msgspec.Struct, frozen=True):
    """
    What another configuration asks of a recorder that runs.
    """

    fixed: list[str]
    """Dotted names of keys that differ and cannot change; if there are any, nothing is changed."""
    added: list[Stream]
    removed: list[Stream]

    @property
    def refusal(self) -> str:
        """
        Why nothing is changed; empty if it can be.
        """
        if not self.fixed:
            return ""
        it = "it takes" if len(self.fixed) == 1 else "they take"
        return f"{', '.join(self.fixed)}: cannot change while recording; {it} a restart"

    @property
    def words(self) -> str:
        """
        What changes, for the log.
        """
        if not self.added and not self.removed:
            return "nothing to change"
        return f"added {_named(self.added)}; removed {_named(self.removed)}"


def change(before: Config, after: Config) -> Change:
    """
    What `after` asks of a recorder that runs by `before`.
    """
    fixed = [
        f"{table}.{key}"
        for table, struct in TABLES.items()
        for key in struct.__struct_fields__
        if table != LIVE_TABLE and getattr(getattr(before, table), key) != getattr(getattr(after, table), key)
    ]
    old, new = streams(before), streams(after)
    return Change(fixed, [s for s in new if s not in old], [s for s in old if s not in new])


def _named(changed: list[Stream]) -> str:
    if not changed:
        return "nothing"
    words = ", ".join(stream.label() for stream in changed[:NAMED])
    more = len(changed) - NAMED
    return words + (f" and {more} more" if more > 0 else "")
