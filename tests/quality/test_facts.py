"""
Facts that are copied into events.
"""

import msgspec
import pytest

from quality_cases import (
    SOL,
    at,
    fold,
    one,
    since,
    steady,
)
from recorder.records import (
    ClockStepped,
    JobFailed,
    LoopStalled,
    NotAcknowledged,
    Rejected,
    WriteFailed,
)


@pytest.mark.parametrize(
    ("fact", "kind", "start", "end", "cause", "words"),
    [
        (NotAcknowledged(SOL, at(3), 10.2), "not_acknowledged", 3, 20, "venue", "SOL-PERP orderbook in 10.2 s"),
        (Rejected(SOL, "Error subscribing"), "rejected", 20, 20, "venue", "answered with: Error subscribing"),
        (Rejected(None, "odd\x1b[2J"), "rejected", 20, 20, "venue", "cannot be told from others was answered"),
        (ClockStepped(-(10**9), at(20), at(19)), "clock_step", 19, 20, "recorder", "stepped by -1.000 s"),
        (ClockStepped(10**9, at(19), at(20)), "clock_step", 19, 20, "recorder", "stepped by +1.000 s"),
        (WriteFailed("1.zst", "sync", 5, "EIO: broken"), "sync_failed", 20, 20, "recorder", "sync of 1.zst failed"),
        (LoopStalled(2 * 10**9), "loop_stall", 18, 20, "recorder", "stood still for 2.0 s"),
        (JobFailed("seal", "no space"), "job_failed", 20, 20, "recorder", "seal: no space"),
    ],
)
def test_a_fact_becomes_an_event_with_its_bounds(fact, kind, start, end, cause, words):
    """
    Facts about ourselves are copied, not judged again.
    """
    tape = steady(30, [SOL])
    tape.fact(20, fact, connection=0, attempt=1)

    event = one(fold(tape), kind)

    assert (since(event.start), since(event.end), event.cause, event.run) == (start, end, cause, "a")
    assert words in event.evidence
    assert event.evidence.isprintable()


def test_a_refusal_names_its_stream_and_its_grouping():
    """
    Two groupings of a market are two streams.
    """
    tape = steady(30, [SOL])
    tape.fact(20, Rejected(msgspec.structs.replace(SOL, grouping=100), "no"), connection=0, attempt=1)

    event = one(fold(tape), "rejected")

    assert (event.symbol, event.channel) == ("SOL-PERP", "orderbook/100")
