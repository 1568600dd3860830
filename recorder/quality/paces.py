"""
The pace each book stream last kept, remembered for a while after it ends, across runs and hours. Pure.

A run that starts learns a stream's cadence from its first books. If just every second one of them is lost, those teach
one that is twice as slow, and nothing would seem to be missing. So what the stream kept to before holds until it is
plain that it has changed: `slowing` waits as it does where half of the books stay away within a run.
"""

from recorder.quality.cadence import CRISP_NS, RETURNS_NS, is_near, is_uneven
from recorder.quality.state import Pace
from recorder.quality.track import Track
from recorder.records import Stream


class Paces:
    """
    Of all streams, by their labels.
    """

    def __init__(self, known: dict[str, Pace]) -> None:
        """
        Args:
            known: part of the carry; kept up to date here.
        """
        self._known = known

    def note(self, stream: Stream, track: Track, until: int) -> None:
        """
        A stream brings nothing more for now; its last book came at `until`. What it kept to for long is its pace; not
        what it has not kept to since it began. Where it was just twice the one before, that one is not forgotten.
        """
        if not track.cadence or track.deaf or track.anew or is_uneven(track):
            return
        until = track.doubt or until
        if track.guessed:
            pace = Pace(track.left, track.left, track.former, track.spread, 0)
        elif until - track.paced > CRISP_NS:
            pace = Pace(until, track.paced, track.cadence, track.spread, track.former, track.left)
        else:
            return
        label = stream.label()
        # Whichever connection is told of first.
        self._known[label] = max(self._known.get(label, pace), pace)

    def half(self, stream: Stream, cadence: int, now: int) -> Pace | None:
        """
        What a stream kept to before, if `cadence`, ms, is just twice that, and was not its pace before that.
        """
        pace = self._recent(stream, now)
        if pace is None or (is_near(cadence, pace.former) and now - pace.left <= RETURNS_NS):
            return None
        return pace if is_near(cadence, 2 * pace.cadence, pace.spread) else None

    def same(self, stream: Stream, cadence: int, now: int) -> Pace | None:
        """
        What a stream kept to before, if `cadence` is about that: known better than by its first books.
        """
        pace = self._recent(stream, now)
        return pace if pace is not None and is_near(cadence, pace.cadence, pace.spread) else None

    def former(self, stream: Stream, cadence: int, now: int) -> tuple[int, int]:
        """
        The pace that may come back, ms, where a stream begins with `cadence`, and when it was over: what it kept to
        before, or before that. 0 if none is known.
        """
        pace = self._recent(stream, now)
        if pace is None:
            return 0, 0
        same = is_near(cadence, pace.cadence, pace.spread)
        return (pace.former, pace.left) if same else (pace.cadence, pace.until)

    def _recent(self, stream: Stream, now: int) -> Pace | None:
        pace = self._known.get(stream.label())
        return pace if pace is not None and now - pace.until <= RETURNS_NS else None

    def sort(self, now: int) -> None:
        """
        Forget what is too old, and put the rest in an order that does not depend on which stream ended first.
        """
        kept = {label: pace for label, pace in sorted(self._known.items()) if now - pace.until <= RETURNS_NS}
        self._known.clear()
        self._known.update(kept)
