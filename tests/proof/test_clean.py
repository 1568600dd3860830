"""
A run in which nothing is wrong: the recorder says nothing beyond that it ran.
"""

import pytest
from cases import SLOW_AND_CLEAN
from clean import clean_hours
from honesty import unusual
from judge import let_pass
from virtual import Scenario


def test_a_clean_run_raises_nothing():
    """
    20 minutes of 12 markets on two connections: jitter, bursts, a slow tick now and then.
    """
    account, side = let_pass(SLOW_AND_CLEAN)

    assert unusual(account, side) == []
    assert account.unexplained == []
    assert account.states["stored"] > 43_000
    assert sum(mark.kind == "connected" for mark in account.marks) == 2


@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_a_clean_day_of_96_markets_raises_nothing():
    """
    24 hours, judged hour by hour as a seal does, with the carry between.
    """
    scenario = Scenario(markets=96, calm=True, connections=3, seed=5)
    frames = 0
    for hour, (heard, events) in enumerate(clean_hours(scenario, hours=24)):
        frames += heard
        assert [event for event in events if event.kind not in {"recorder_started", "connected"}] == [], f"hour {hour}"

    assert frames > 20_000_000
