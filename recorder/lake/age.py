"""
What is old enough to be removed by rule, by the clock and by what was recorded since. Pure.
"""

from collections.abc import Iterable

from recorder.records import HOUR_NS

LEAPS = 2
"""Hours more than were asked for: the present one is not over, and a clock that leaps begins one before its time."""


def old_before(recorded: Iterable[int], *, now: int, keep_days: float, by_hand: bool = False) -> int:
    """
    The instant (ns) before which everything has been kept for long enough.

    A clock that is wrong (a first boot in 2027, an hour ahead) must let nothing go before its time. So a day is kept
    until the clock says so *and* as many hours were recorded after it: a leap adds one hour at most, however far it is,
    and a time without a recorder adds none. No more is kept by that than of `keep_days` of recording.

    Args:
        recorded: hours (ns) in which something was recorded.
        now: by the wall clock, ns.
        keep_days: asked for.
        by_hand: somebody asked who vouches for the clock; it decides alone.
    """
    limit = now - int(keep_days * 24 * HOUR_NS)
    hours = int(keep_days * 24)
    if by_hand or not hours:
        return limit
    newest = sorted(set(recorded), reverse=True)
    return min(limit, newest[hours + LEAPS - 1]) if len(newest) >= hours + LEAPS else 0
