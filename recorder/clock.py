"""
The only module that asks the time.

Wall time is read once, when a run starts, and advanced by the monotonic clock, so that `recv_ts` never steps back in a
run. `SystemClock.offset` tells how far the wall clock has moved since: a forward step re-anchors, a backward one ends
the run (see `daemon.py`).
"""

import time
from typing import Protocol

from recorder.records import SECOND_NS

STEP_TOLERANCE_NS = SECOND_NS
"""Differences up to this are slewed away by time keepers; larger ones are steps."""
_AT_ONCE_NS = 1_000_000
_LOOKS = 5


class Clock(Protocol):
    """
    What the capture needs of time: now in ns since the epoch, never stepping back.
    """

    def now(self) -> int:
        """
        Integer ns since the Unix epoch, UTC; at least the value of the call before.
        """
        ...


class SystemClock:
    """
    Wall time anchored at construction and advanced by the monotonic clock.
    """

    def __init__(self) -> None:
        self._anchor = _wall_ahead()

    def now(self) -> int:
        """
        Time of this run, ns since the Unix epoch.
        """
        return self._anchor + time.monotonic_ns()

    def offset(self) -> int:
        """
        Wall clock minus this clock, in ns: negative after the wall clock was set back.
        """
        return _wall_ahead() - self._anchor

    def advance_to_wall(self) -> int:
        """
        Re-anchor after a forward step; returns the step in ns. A backward step is never taken: the run ends instead.
        """
        step = self.offset()
        if step <= 0:
            raise ValueError(f"the wall clock is behind by {-step} ns; begin a new run instead of stepping back")
        self._anchor += step
        return step


def _wall_ahead() -> int:
    """
    How far the wall clock is ahead of the monotonic one, ns. A process may be stopped between looking at the one and at
    the other: then it looks again.
    """
    looks = []
    for _ in range(_LOOKS):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        looks.append((after - before, wall - (before + after) // 2))
        if after - before <= _AT_ONCE_NS:
            break
    return min(looks)[1]


class ManualClock:
    """
    Time as an argument, for tests and the simulator.
    """

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        """
        The instant last set.
        """
        return self._now

    def set(self, now: int) -> None:
        """
        Move to `now`, which must not lie before the present instant.
        """
        if now < self._now:
            raise ValueError(f"clock would step back from {self._now} to {now}")
        self._now = now


def wall_ns() -> int:
    """
    The wall clock, ns since the Unix epoch; may step either way.
    """
    return time.time_ns()


def monotonic_ns() -> int:
    """
    For durations only; no relation to the epoch, not comparable across boots.
    """
    return time.monotonic_ns()


def pause(seconds: float) -> None:
    """
    Block this thread. Never call it on the event loop's.
    """
    time.sleep(seconds)


def process_cpu_s() -> float:
    """
    CPU seconds this process has used.
    """
    return time.process_time()
