"""
How regularly the publisher ticks: a timer of Node.js, and what keeps it from firing in time. Pure.

Source: 95 s of frames captured from the May 2026 server: 400.4 ms between ticks in the mean, a standard deviation of 7
(first market) to 20 ms (last one), each late tick followed by a short interval (lag-1 correlation -0.5): the timer
keeps its own grid, which drifts by the milliseconds it rounds up to.
"""

import random

import msgspec

_MS = 1_000_000
_MAX_JITTERS = 12.0


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    """
    What comes on top of the interval between two ticks.
    """

    jitter_ms: float = 0.0
    """Lateness of a tick, exponential with this mean; the next one is none the later for it."""
    drift_ms: float = 0.0
    """Added to every interval."""
    slow_share: float = 0.0
    """Share of ticks that are much later: the publisher collects garbage, or waits for its chain node."""
    slow_ms: float = 0.0
    """They are evenly up to this late. What falls due meanwhile is skipped."""

    def late_ns(self, rng: random.Random) -> int:
        """
        How late the next tick is.
        """
        late_ms = 0.0
        if self.jitter_ms:
            late_ms = min(rng.expovariate(1 / self.jitter_ms), _MAX_JITTERS * self.jitter_ms)
        if self.slow_share and rng.random() < self.slow_share:
            late_ms += rng.uniform(0, self.slow_ms)
        return round(late_ms * _MS)


STEADY = Rhythm()
AS_CAPTURED = Rhythm(jitter_ms=8.0, drift_ms=0.4, slow_share=0.002, slow_ms=1200.0)
"""Jitter and drift as captured. No slow tick was: their share is an assumption, about one in three minutes."""
