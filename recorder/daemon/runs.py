"""
The runs of one process: a single one, unless the wall clock is set back; then one more begins, at true time.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from recorder.capture.tape import Tape
from recorder.clock import STEP_TOLERANCE_NS
from recorder.config import Config
from recorder.daemon.settings import tape_settings
from recorder.errors import RecorderError
from recorder.quality.counts import Counts
from recorder.records import ClockStepped, Event, Fact
from recorder.status.presence import announce, live_runs
from recorder.venue.markets import market_list

log = logging.getLogger("recorder")

Standing = list[tuple[int, int, list[Fact]]]
"""What the connections that are open have to tell a new run: (connection, attempt, facts)."""


class Runs:
    """
    The present run's tape, and those before it whose last commits may still be under way.
    """

    def __init__(self, root: Path, *, on_event: Callable[[Event], None], on_opening: Callable[[str], None]) -> None:
        """
        Args:
            root: of the data.
            on_event: told of each event of the live monitor as it ends.
            on_opening: told in words of what has just gone wrong.
        """
        self._root = root
        self._on_event = on_event
        self._on_opening = on_opening
        self._tape: Tape | None = None
        self._ended: list[Tape] = []
        self.counts = Counts()
        """Of all runs: a counter that begins anew looks like a restart."""

    @property
    def tape(self) -> Tape:
        """
        The present run's.
        """
        assert self._tape is not None
        return self._tape

    def begin(self, config: Config, *, beside: list[str]) -> None:
        """
        Begin the first one; `beside` names runs of others that are recording.

        Raises:
            OSError: its folder cannot be written.
        """
        self._tape = self._made(config, beside=beside)

    def check_clock(self, config: Config, standing: Callable[[], Standing]) -> bool:
        """
        Whether the wall clock has stepped. If so the run's clock has followed it, or another run has begun.
        """
        offset = self.tape.clock.offset()
        if offset > STEP_TOLERANCE_NS:
            before = self.tape.clock.now()
            step = self.tape.clock.advance_to_wall()
            self.tape.fact(ClockStepped(step, before, before + step))
            return True
        return offset < -STEP_TOLERANCE_NS and self._begin_again(config, offset, standing)

    def _begin_again(self, config: Config, offset: int, standing: Callable[[], Standing]) -> bool:
        """
        The wall clock was set back: a new run begins at true time, on the connections that are open.
        """
        old = self.tape
        try:
            # The old run is among the living until it has committed its last; so is a recorder beside this one.
            fresh = self._made(config, beside=live_runs(self._root), continues=old.run)
        except (OSError, RecorderError) as error:
            # Asked again in a second; until then the old run goes on, on its own time.
            log.warning("the wall clock was set back, and no new run can begin: %s", error)
            return False
        before = old.clock.now()
        old.fact(ClockStepped(offset, before, before + offset))
        self._tape = fresh
        for connection, attempt, facts in standing():
            for fact in facts:
                fresh.fact(fact, connection=connection, attempt=attempt)
        old.stop(f"the wall clock was set back by {-offset / 1e9:.1f} s; run {fresh.run} goes on")
        self._ended.append(old)
        return True

    def _made(self, config: Config, *, beside: list[str], continues: str | None = None) -> Tape:
        tape = Tape(
            tape_settings(config),
            listed=market_list(config.venue.network),
            pid=os.getpid(),
            beside=beside,
            on_event=self._on_event,
            on_opening=self._on_opening,
            continues=continues,
            counts=self.counts,
        )
        try:
            announce(self._root, tape.run)
        except OSError as error:
            # A convenience for `reload` and `status`; the run is locked, and records.
            log.warning("%s: the run's process could not be noted: %s", tape.run, error.strerror or error)
        return tape

    def let_go(self) -> None:
        """
        Of those before that have committed everything: their hours may be sealed.
        """
        self._ended = [tape for tape in self._ended if not tape.closed()]

    def closed(self) -> bool:
        """
        Whether all have committed everything, once the present one was stopped.
        """
        self.let_go()
        return not self._ended and self.tape.closed()
