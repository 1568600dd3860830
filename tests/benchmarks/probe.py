"""
The real `drift-recorder`, with a clock held to its journal: how long after its receipt each frame was durable.

`probe.py REPORT run CONFIG` is `drift-recorder run CONFIG`, except that when a commit's write and sync have returned,
the age of each entry in it is noted; at the end REPORT tells their distribution. When the first commit was is printed
as it happens. The recorder itself notes only how long a commit takes, which leaves out the wait for it.
"""

import array
import json
import sys
from pathlib import Path

from recorder import cli
from recorder.clock import wall_ns
from recorder.journal.writer import Journal
from recorder.records import EntryKind

STEP_NS = 100_000
STEPS = 100_000
"""Ten seconds; what is later counts as the last."""


class Probe:
    """
    Ages of frames as they became durable.
    """

    def __init__(self, report: Path) -> None:
        self._report = report
        # A fixed size: memory is measured as well.
        self._ages = array.array("Q", bytes(8 * STEPS))
        self._begun = False

    def attach(self) -> None:
        """
        Note the ages after each commit from now on.
        """
        commit, close = Journal._commit, Journal.close

        def timed(journal: Journal, rows: list[tuple[int, int, int, int, int, bytes]], begin: int) -> int:
            reached = commit(journal, rows, begin)
            now = wall_ns()
            if not self._begun:
                self._begun = True
                print(f"first commit {now}")
            for kind, _, _, _, recv_ts, _ in rows[begin:reached]:
                if kind == EntryKind.FRAME:
                    self._ages[min((now - recv_ts) // STEP_NS, STEPS - 1)] += 1
            return reached

        def closed(journal: Journal, timeout_s: float) -> bool:
            # Here and not at exit: a recorder does not wait for a thread that hangs, and ends without ceremony.
            well = close(journal, timeout_s)
            self.write()
            return well

        Journal._commit = timed  # type: ignore[method-assign]
        Journal.close = closed  # type: ignore[method-assign]

    def quantile_ms(self, q: float) -> float:
        """
        Upper edge of the step it falls into.
        """
        left = q * sum(self._ages)
        for step, count in enumerate(self._ages):
            left -= count
            if left <= 0:
                return (step + 1) * STEP_NS / 1e6
        return STEPS * STEP_NS / 1e6

    def write(self) -> None:
        """
        Tell what was noted.
        """
        told = {
            "frames": sum(self._ages),
            "p50_ms": self.quantile_ms(0.5),
            "p99_ms": self.quantile_ms(0.99),
        }
        self._report.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    probe = Probe(Path(sys.argv[1]))
    probe.attach()
    cli.main(sys.argv[2:])
