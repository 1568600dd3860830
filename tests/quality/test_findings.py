"""
What explains a hole.
"""

from itertools import permutations

from recorder.quality.findings import MAX_OUTAGES, Findings
from recorder.quality.state import MonitorState, Outage


def test_a_hole_is_put_down_to_the_latest_outage_in_whatever_order_they_were_found():
    """
    A fact about an overflow comes after it; the same journal must give the same cause.
    """
    outages = [
        Outage(10, 20, "network", "the socket"),
        Outage(12, 15, "recorder", "the queue", "a"),
        Outage(10, 20, "venue", "the venue", "a", 1),
    ]

    for order in permutations(outages):
        findings = Findings(MonitorState(now=0))
        for outage in order:
            findings.outage(outage)
        assert findings.cause_between(5, 14, run="a", connection=0, symbol="SOL-PERP") == ("network", "the socket")
        assert findings.cause_between(5, 14, run="a", connection=1, symbol="SOL-PERP") == ("venue", "the venue")


def test_an_outage_explains_what_it_touches_where_it_was():
    """
    Not what lies beside it, nor another run, nor another connection.
    """
    findings = Findings(MonitorState(now=0))
    findings.outage(Outage(10, 20, "network", "gone", "a", 0))

    assert findings.cause_between(20, 30, run="a", connection=0, symbol="SOL-PERP")[0] == "network"
    assert findings.cause_between(0, 10, run="a", connection=0, symbol="SOL-PERP")[0] == "network"
    assert findings.cause_between(21, 30, run="a", connection=0, symbol="SOL-PERP")[0] == "venue"
    assert findings.cause_between(0, 30, run="a", connection=1, symbol="SOL-PERP")[0] == "venue"
    assert findings.cause_between(0, 30, run="b", connection=0, symbol="SOL-PERP")[0] == "venue"


def test_outages_are_bounded_and_the_oldest_go_first():
    """
    A connection that flaps for a year leaves no trace in the carry.
    """
    state = MonitorState(now=0)
    findings = Findings(state)
    for i in range(1000):
        findings.outage(Outage(i, i, "network", "flap"))

    assert [o.end for o in state.outages] == list(range(1000 - MAX_OUTAGES, 1000))


def test_the_outage_of_one_market_explains_nothing_of_another():
    """
    One that was taken out of the configuration was recorded no more; the others were.
    """
    findings = Findings(MonitorState(now=0))
    findings.outage(Outage(10, 20, "recorder", "taken out", "a", symbol="SOL-PERP"))

    assert findings.cause_between(5, 14, run="a", connection=0, symbol="SOL-PERP")[0] == "recorder"
    assert findings.cause_between(5, 14, run="a", connection=0, symbol="BTC-PERP")[0] == "venue"
