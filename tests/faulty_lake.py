"""
A lake recorded from the simulated venue in virtual time, with faults: what examples, pictures and the report are tried
on. Twenty-four minutes over an hour's end, four markets, and holes of several kinds.

    python tests/faulty_lake.py FOLDER
"""

import sys
from pathlib import Path

from recorder.lake.layout import parse_hour
from recorder.lake.sealing import seal
from recorder.records import HOUR_NS, SECOND_NS, Stream
from recorder.simulator.core import Venue
from recorder.simulator.drive import Link
from recorder.simulator.kinds import Drop, Garbage, Silence, WithholdFills
from recorder.simulator.markets import DEFAULT_MARKETS
from virtual_recorder import VirtualRecorder

HOUR = parse_hour("2026-03-01T10")
START = HOUR + HOUR_NS - 14 * 60 * SECOND_NS
"""10:46:00."""
END = HOUR + HOUR_NS + 10 * 60 * SECOND_NS
"""11:10:00."""
MARKETS = DEFAULT_MARKETS[:4]
STREAMS = [
    Stream(market.market_type, market.symbol, channel, 1 if channel == "orderbook" else None)
    for market in MARKETS
    for channel in ("orderbook", "trades")
]
FAULTS = (
    Silence(from_s=180, to_s=260, market="BTC-PERP"),  # 10:49:00–10:50:20
    Drop(at_s=420),  # 10:53:00
    WithholdFills(from_s=600, to_s=630, market="SOL-PERP", every=3),  # 10:56
    Silence(from_s=820, to_s=870, market="*"),  # 10:59:40–11:00:30, over the hour's end
    Garbage(at_s=1000, what="brace"),  # 11:02:40
    Silence(from_s=1200, to_s=1206, market="SOL-PERP"),  # 11:06:00
)


def record(root: Path, *, streams: list[Stream] = STREAMS, tick_ms: int = 1000) -> Path:
    """
    Record and seal; the second hour as far as it goes.
    """
    venue = Venue(MARKETS, start=START, seed=3, tick_ms=tick_ms, faults=FAULTS)
    links = {0: Link(latency_ms=25, jitter_ms=15)}
    recorder = VirtualRecorder(root, venue, streams, start=START, links=links)
    recorder.until(END)
    recorder.stop()
    seal(root)
    return root


if __name__ == "__main__":
    print(record(Path(sys.argv[1])))
