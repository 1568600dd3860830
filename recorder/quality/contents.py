"""
The contents of a book stream: whether its best levels stand still while books come. Pure.

A quiet market stands still, too. So it is learned how often its levels are found unchanged, and only what chance
explains once in 10⁹ times is said to stand still.
"""

from math import log
from zlib import crc32

from recorder.quality.slots import FROZEN_NS, Words
from recorder.quality.track import Track

FEWEST_LOOKS = 20
"""Looks at a book's content before its standing still can mean anything."""
MEMORY_LOOKS = 128
CHANCE = 21.0
"""How unlikely, as a logarithm, a content stands still by chance that is said to stand still: one in 10⁹."""


def look(track: Track, payload: bytes, now: int) -> list[Words]:
    """
    Look at a book. Returns what has ended with it; `content_frozen` tells what has begun.
    """
    middle = len(payload) // 2
    # Parts of the best levels of both sides.
    content = crc32(payload[middle : middle + 256], crc32(payload[60:316]))
    if content == track.content:
        track.content_run += 1
        if not track.content_frozen and not track.frozen and _stands_still(track, now):
            track.content_frozen = track.content_since
        return []
    found: list[Words] = []
    if track.content_frozen:
        found.append(still(track, now))
        track.content_frozen = 0
    else:
        # What stands still is not taken for usual before it is over. The mean, of some last hundred looks.
        if track.content_run:
            for _ in range(min(track.content_run, MEMORY_LOOKS)):
                track.content_looks = looks = min(track.content_looks + 1, MEMORY_LOOKS)
                track.content_same += (1 - track.content_same) / looks
        if track.content_looks < MEMORY_LOOKS:
            track.content_looks += 1
        track.content_same -= track.content_same / track.content_looks
    track.content, track.content_since, track.content_run = content, now, 0
    return found


def still(track: Track, end: int) -> Words:
    """
    A content that stands still, up to `end`.
    """
    stood = (end - track.content_frozen) / 1e9
    words = f"the best levels stood still for {stood:.1f} s while books came and their slots went on"
    return "frozen", track.content_frozen, end, words, None, None


def end(track: Track, at: int) -> list[Words]:
    """
    Nothing more comes.
    """
    found = [still(track, max(at, track.content_frozen))] if track.content_frozen else []
    track.content = track.content_since = track.content_run = track.content_frozen = 0
    return found


def _stands_still(track: Track, now: int) -> bool:
    """
    Whether a content has not changed for longer than chance explains, and long enough to tell.
    """
    if track.content_looks < FEWEST_LOOKS or now - track.content_since <= FROZEN_NS:
        return False
    same = max(track.content_same, 1 / track.content_looks)
    return same < 1 and track.content_run * -log(same) > CHANCE
