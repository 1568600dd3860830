"""
Random faults on random venues, with random ways there and restarts: sent = stored + inside events, whatever happens.
"""

import pytest
from honesty import mixture

LIMITS: dict[int, str] = {}
"""Seeds that are not as they should be yet, with the reason. The slow suite tells which are right by now."""


@pytest.mark.parametrize("seed", range(20))
def test_what_the_venue_meant_to_send_is_stored_or_inside_an_event(seed):
    """
    Nothing is unexplained, no fill miscounted, and where an event says that something is missing, something is.
    """
    told = mixture(seed)

    assert told.meant == told.stored + told.covered + told.suspect + told.unverifiable + told.unexplained
    if seed in LIMITS and not told.right:
        pytest.xfail(f"{told.words()}: {LIMITS[seed]}")
    assert told.words() == ""


@pytest.mark.slow
@pytest.mark.parametrize("seed", sorted(LIMITS))
def test_a_limit_is_still_one(seed):
    """
    What is right by now leaves the table, so that it cannot go wrong again unseen.
    """
    assert not mixture(seed).right


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_mixtures():
    """
    The long form.
    """
    wrong = {seed: told.words() for seed in range(1000) if not (told := mixture(seed)).right}

    assert wrong == {}
