"""
Slots of a book stream: steps back, leaps ahead, standing still. Pure.

A slot lasts about 400 ms, so it may repeat or skip. One step back is a publisher on a node that is behind; where a
quarter of the steps go back, the server forwards two feeds (`feeds`), and every frame is to be kept.
"""

from recorder.quality.track import Track, Watch
from recorder.records import SECOND_NS

MAX_STEP = 40
"""Slots a book may be ahead of the one before, whatever the time between: 16 s of chain time."""
_SLOT_NS = 400_000_000
BLOCK = 20
"""Books after a step back that tell a single one from two feeds."""
FEEDS_SHARE = 4
"""One in so many steps back, and it is two feeds."""
FEWEST_BACKS = 3
FROZEN_NS = 10 * SECOND_NS
FROZEN_BOOKS = 10

Words = tuple[str, int, int, str, int | None, int | None]
"""Of a finding: kind, start, end, words, first slot, last slot."""


def follow(track: Track, slot: int, now: int, before: int) -> list[Words]:
    """
    Take the slot of a book; `before` is the receipt of the one before it. Returns what has ended with it.
    """
    found: list[Words] = []
    was = track.slot
    if slot != was:
        if track.frozen:
            found.append(_frozen(track, now, slot))
            track.frozen = 0
        if slot > was and slot - was > MAX_STEP + 2 * (now - track.moved) // _SLOT_NS:
            words = f"the slot leapt from {was} to {slot} within {(now - before) / 1e9:.1f} s"
            found.append(("slot_jump", before, now, words, was, slot))
        track.slot, track.moved = slot, now
    if slot < was:
        watch = track.watch
        if watch is None:
            watch = track.watch = Watch(before, now, was, slot)
        watch.last, watch.last_slot = now, slot
        watch.total += 1
        watch.backs += 1
        watch.deepest = max(watch.deepest, was - slot)
    if track.watch is not None:
        track.watch.frames += 1
        if track.watch.frames >= BLOCK:
            found += _judge(track, track.watch)
    return found


def end_watch(track: Track) -> list[Words]:
    """
    Nothing more comes: judge by what there is.
    """
    watch = track.watch
    if watch is None:
        return []
    track.watch = None
    return [_regression(watch)]


def are_feeds(watch: Watch) -> bool:
    """
    Whether steps back come so often that two feeds alternate.
    """
    return watch.feeds or (watch.backs >= FEWEST_BACKS and watch.backs * FEEDS_SHARE >= watch.frames)


def end_frozen(track: Track, now: int) -> list[Words]:
    """
    Nothing more comes.
    """
    if not track.frozen:
        return []
    found = _frozen(track, now, track.slot)
    track.frozen = 0
    return [found]


def is_frozen(track: Track, last: int) -> bool:
    """
    Whether books up to `last` came and the slot stood still, so long that it is no chance.
    """
    still = last - track.moved
    return bool(track.moved) and still > FROZEN_NS and still > FROZEN_BOOKS * track.cadence * 1_000_000


def _judge(track: Track, watch: Watch) -> list[Words]:
    if are_feeds(watch):
        watch.feeds = True
        return []
    track.watch = None
    return [_regression(watch)]


def _regression(watch: Watch) -> Words:
    often = f"{watch.total} steps" if watch.total > 1 else "a step"
    words = f"{often} back in slot, by up to {watch.deepest}, from {watch.first_slot}"
    return "slot_regression", watch.start, watch.last, words, watch.first_slot, watch.last_slot


def _frozen(track: Track, now: int, slot: int) -> Words:
    words = f"the slot stood at {track.slot} for {(now - track.frozen) / 1e9:.1f} s while books came"
    return "frozen", track.frozen, now, words, track.slot, slot
