"""
What every run of the simulator must keep to.
"""

from collections import Counter

import pytest

from recorder.simulator.drive import Heard
from recorder.simulator.ledger import digest


def assert_accounted(events, lines):
    """
    Due = sent + dropped + withheld for every client, and what was heard is what was sent and not lost.
    """
    ends = {line.client: line.count for line in lines if line.what == "disconnected"}
    assert set(ends) == {line.client for line in lines if line.what == "connected"}
    for client, count in ends.items():
        due = [
            line.seq
            for line in lines
            if line.client == client and line.seq is not None and line.what in {"sent", "dropped", "withheld"}
        ]
        assert sorted(due) == list(range(1, count + 1))
    lost = Counter((line.client, line.seq) for line in lines if line.what == "lost")
    sent = {(line.client, line.seq): line.sha for line in lines if line.what == "sent"}
    assert set(lost) <= set(sent)
    expected = Counter(sha for key, sha in sent.items() if key not in lost)
    texts = (event.payload.decode("utf-8", "surrogatepass") for event in events if isinstance(event, Heard))
    heard = Counter(map(digest, texts))
    assert expected <= heard
    extra = Counter({sha: count for sha, count in (heard - expected).items() if sha in expected})
    assert not extra


@pytest.fixture
def accounted():
    """
    The check that a ledger explains all that was heard and all that was not.
    """
    return assert_accounted
