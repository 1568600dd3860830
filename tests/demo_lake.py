"""
What `drift-recorder demo` records, in virtual time: what the examples of the README and the cookbook are tried on, for
whoever reads them has no other lake yet. A minute from the midst of an hour on: most of it is before the first run.

    python tests/demo_lake.py FOLDER
"""

import sys
from pathlib import Path

from recorder.config_streams import streams
from recorder.demo import HOLE_MARKET, configured, hole
from recorder.lake.layout import parse_hour
from recorder.lake.sealing import seal
from recorder.records import SECOND_NS
from recorder.simulator.core import Venue
from recorder.simulator.drive import Link
from recorder.simulator.kinds import Silence, WithholdFills
from recorder.simulator.markets import DEFAULT_MARKETS
from virtual_recorder import VirtualRecorder

LASTED_S = 60
START = parse_hour("2026-03-01T10") + 2147 * SECOND_NS
"""10:35:47."""


def record(root: Path) -> Path:
    """
    Record and seal.
    """
    begin, end = hole(LASTED_S)
    faults = [kind(from_s=begin, to_s=end, market=HOLE_MARKET) for kind in (Silence, WithholdFills)]
    venue = Venue(DEFAULT_MARKETS, start=START, faults=faults)
    asked = streams(configured("ws://127.0.0.1/ws", root))
    recorder = VirtualRecorder(root, venue, asked, start=START, links={0: Link(latency_ms=2, jitter_ms=1)})
    recorder.until(START + LASTED_S * SECOND_NS)
    recorder.stop()
    seal(root)
    return root


if __name__ == "__main__":
    print(record(Path(sys.argv[1])))
