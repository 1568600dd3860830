"""
The publisher's timer.
"""

import itertools
import json
import random
import statistics

from recorder.records import SECOND_NS
from recorder.simulator.core import Venue
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.simulator.messages import Log, Opened, Send, Text
from recorder.simulator.rhythm import AS_CAPTURED, STEADY, Rhythm

START = 1_795_367_000 * SECOND_NS
ASK = json.dumps({"type": "subscribe", "marketType": "perp", "channel": "orderbook", "market": "SOL-PERP"})


def run(rhythm, *, until_s):
    """
    (Times of a market's books in ms, ticks that were skipped).
    """
    venue = Venue(DEFAULT_MARKETS[:1], start=START, rhythm=rhythm)
    outputs = [(0.0, output) for output in venue.step(START, [Opened(1), Text(1, ASK)])]
    while (now := venue.next_due()) <= START + until_s * SECOND_NS:
        outputs += [((now - START) / 1e6, output) for output in venue.step(now)]
    times = [at for at, output in outputs if isinstance(output, Send) and output.frame.what == "sent"]
    missed = [o.line.count for _, o in outputs if isinstance(o, Log) and o.line.what == "ticks_missed"]
    return times, sum(missed)


def test_a_publisher_ticks_as_a_clock_unless_told_otherwise():
    """
    Tests count on it.
    """
    times, missed = run(STEADY, until_s=20)

    assert {round(after - before, 6) for before, after in itertools.pairwise(times)} == {400.0}
    assert missed == 0


def test_jitter_is_that_of_the_captured_frames():
    """
    In the mean 400.4 ms; deviations of some ms; a late tick is followed by a short interval, as on a grid.
    """
    calm = Rhythm(jitter_ms=AS_CAPTURED.jitter_ms, drift_ms=AS_CAPTURED.drift_ms)
    times, missed = run(calm, until_s=600)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean, deviation = statistics.mean(gaps), statistics.pstdev(gaps)
    products = [(a - mean) * (b - mean) for a, b in itertools.pairwise(gaps)]

    assert 400.2 < mean < 400.6
    assert 7 < deviation < 20
    assert -0.65 < statistics.mean(products) / deviation**2 < -0.3
    assert missed == 0


def test_after_a_slow_tick_the_timer_goes_on_from_there():
    """
    As that of Node.js: no tick is left out, and none follows sooner for it.
    """
    slow = Rhythm(slow_share=0.05, slow_ms=2000)
    times, missed = run(slow, until_s=600)
    gaps = [round(after - before, 3) for before, after in itertools.pairwise(times)]

    assert missed == 0
    assert min(gaps) == 400
    assert max(gaps) > 1200
    assert 0.02 < sum(gap > 400 for gap in gaps) / len(gaps) < 0.09


def test_lateness_is_bounded():
    """
    An exponential has no end; what it stands for has.
    """
    rng = random.Random(1)

    assert max(Rhythm(jitter_ms=5).late_ns(rng) for _ in range(100_000)) <= (0, 60_000_000)
