"""
How regularly the publisher ticks: a timer of Node.js, and what keeps it from firing in time. Pure.

Source: 95 s of frames captured from the May 2026 server: 400.4 ms between ticks in the mean, a standard deviation of 7
(first market) to 20 ms (last one), each late book followed by a short interval (lag-1 correlation -0.5): the timer is
regular, and building the books takes more or less time. Node.js counts the next interval from when the timer really
fired: it drifts by the fractions it rounds up, and after a tick that was late all later ones are, by as much.
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
    """Lateness of the books of a tick, exponential with this mean; the next ones are none the later for it."""
    drift_ms: float = 0.0
    """Added to every interval."""
    slow_share: float = 0.0
    """Share of ticks at which the publisher stands still, as when it collects garbage."""
    slow_ms: float = 0.0
    """Evenly up to this long. The timer goes on from there."""

    def late_ns(self, rng: random.Random) -> tuple[int, int]:
        """
        How much later the timer fires for good, and on top of that how late the books of this tick are.
        """
        later_ms, late_ms = self.drift_ms, 0.0
        if self.jitter_ms:
            late_ms = min(rng.expovariate(1 / self.jitter_ms), _MAX_JITTERS * self.jitter_ms)
        if self.slow_share and rng.random() < self.slow_share:
            later_ms += rng.uniform(0, self.slow_ms)
        return round(later_ms * _MS), round(late_ms * _MS)


STEADY = Rhythm()
AS_CAPTURED = Rhythm(jitter_ms=8.0, drift_ms=0.4, slow_share=0.005, slow_ms=350.0)
"""Jitter and drift as captured. The slowest tick of those 95 s was 70 ms late; that one in 200 is up to five times as
late is an assumption."""
