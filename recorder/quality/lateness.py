"""
How late the books of a stream come, against the least that is usual: backlogs. Pure.

A book can be later than the one before it only by as much as nothing came: what was held back comes in a burst, and
catches up. A lateness that stays as it is for a minute is another route, or another clock, and the new usual.
"""

from recorder.quality.slots import Words
from recorder.quality.track import Track
from recorder.records import SECOND_NS

LATE_NS = SECOND_NS
"""Books later than usual by more than this are a backlog …"""
CAUGHT_UP_NS = 300_000_000
"""… until one is no later than this."""
STEADY_NS = 60 * SECOND_NS
"""A lateness that stays as it is for so long is the new usual."""


def follow(track: Track, late: int, now: int) -> list[Words]:
    """
    A book came late by `late` ns, or the one before it did. Returns what has ended with it; `late_since` tells whether
    this one is late.
    """
    if not track.late_since:
        track.late_since, track.late_first, track.late_worst = track.recv, now, 0
        track.late_ref, track.late_mark = late, now
    elif late <= CAUGHT_UP_NS:
        return _end(track, now, "until they were in time again")
    track.late_worst = max(track.late_worst, late)
    if abs(late - track.late_ref) > CAUGHT_UP_NS:
        track.late_ref, track.late_mark = late, now
    elif now - track.late_mark > STEADY_NS:
        track.base = (track.base or 0) + late
        return _end(track, now, "and stay so: they are judged by that from here on")
    return []


def end(track: Track, at: int) -> list[Words]:
    """
    Nothing more comes.
    """
    return _end(track, max(at, track.late_since), "and then none came") if track.late_since else []


def backlog(track: Track, until: int, how: str) -> Words:
    """
    The books that are late, up to `until`.
    """
    return "backlog", track.late_since, until, f"books late by up to {track.late_worst / 1e9:.1f} s, {how}", None, None


def _end(track: Track, at: int, how: str) -> list[Words]:
    found = [backlog(track, at, how)]
    track.late_since = 0
    return found
