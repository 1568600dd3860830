"""
What a connection may bring that is of no use, before it is cut. Pure.

Everything that comes is journaled, also what nobody can read: a venue that renames its channels must not cost us a
frame. But a hostile or broken one can send more of it than any disk takes, and what the queue then drops are the frames
of the connections that are well. So what is of no use goes into two leaky buckets, of frames and of bytes, that no feed
of any size can fill, and neither can one that has become unreadable as a whole.
"""

JUNK_FRAMES = 20_000
JUNK_FRAMES_S = 1_000
"""All of Drift, 96 markets each 400 ms, is some 270 frames a second."""
JUNK_BYTES = 16 << 20
JUNK_BYTES_S = 8 << 20
"""All of Drift is 1 MB a second; 6 while its books were ungrouped."""
LARGE_FRAME = 256 << 10
"""The largest frame known has 24 kB. What a frame has beyond this is of no use, whatever it says."""


class Flood:
    """
    The buckets of one connection.
    """

    def __init__(self, now: int) -> None:
        """
        Args:
            now: ns of a clock that never steps back.
        """
        self._now = now
        self._frames = 0.0
        self._bytes = 0.0

    def weigh(self, now: int, size: int, *, useful: bool) -> str:
        """
        Another frame. Returns why the connection has to be cut, or nothing.

        Args:
            now: when it came, ns.
            size: bytes.
            useful: it is of a stream that was asked for. Heartbeats and answers are not, but they are few.
        """
        excess = size if not useful else size - LARGE_FRAME
        if excess <= 0 and useful:
            return ""
        passed_s = (now - self._now) / 1e9
        self._now = now
        self._frames = max(self._frames - JUNK_FRAMES_S * passed_s, 0.0) + (not useful)
        self._bytes = max(self._bytes - JUNK_BYTES_S * passed_s, 0.0) + excess
        if self._frames > JUNK_FRAMES:
            return f"a flood of frames that nobody asked for: {self._frames:.0f} at once"
        if self._bytes > JUNK_BYTES:
            return f"a flood of {self._bytes / 1e6:.0f} MB that is of no use at once"
        return ""
