"""
Whatever comes from outside: decoding, journal reading and the session give an answer. The long form is
`python tests/faults/fuzz.py`, with ten million inputs.
"""

import json
import os
import random

import pytest
from fuzz import STREAMS, TARGETS, any_frame, fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.capture.session import Abort, Send, Session, SessionSettings
from recorder.records import SECOND_NS
from recorder.venue.normalize import decode
from recorder.venue.protocol import FrameKind, peek


def test_a_slice_of_the_long_form_raises_nothing():
    """
    Twenty thousand inputs, of a seed of their own outside the gate.
    """
    seed = 1 if os.environ.get("CI") else random.randrange(1 << 32)
    print(f"seed {seed}")

    done = fuzz(inputs=20_000, seed=seed)

    assert set(done) == set(TARGETS)
    assert sum(done.values()) == 20_000


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_million_inputs_raise_nothing():
    """
    The long form.
    """
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")

    done = fuzz(inputs=10_000_000, seed=seed, say=lambda words: print(words, flush=True))

    assert sum(done.values()) == 10_000_000


@given(st.binary(max_size=400))
def test_any_bytes_are_a_frame_of_some_kind(payload):
    """
    Whatever they are.
    """
    assert peek(payload).kind in FrameKind
    assert decode(payload, size_exponent=9) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = (
    "channel",
    "data",
    "error",
    "message",
    "bids",
    "asks",
    "marketName",
    "marketIndex",
    "marketType",
    "ts",
    "slot",
)


@given(
    st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=6), st.sampled_from(["orderbook_perp_0", "trades_spot_1"])
)
def test_any_json_is_a_frame_of_some_kind(members, channel):
    """
    Also where it looks like data of a channel there is.
    """
    for frame in (members, {"channel": channel, "data": json.dumps(members)}, {"channel": channel, "data": members}):
        payload = json.dumps(frame).encode()
        assert peek(payload).kind in FrameKind
        assert decode(payload, size_exponent=None) is not None


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 20_000)), max_size=80), st.integers())
def test_a_session_sends_only_while_it_is_open(steps, seed):
    """
    In whatever order things happen, after its word to cut the connection it says nothing more.
    """
    chance = random.Random(seed)
    session = Session(STREAMS, SessionSettings(), chance)
    now, is_open = SECOND_NS, False
    for kind, wait_ms in steps:
        now += wait_ms * 1_000_000
        actions = []
        if kind == 0 and not is_open:
            actions, is_open = session.opened(now), True
        elif kind == 1 and is_open:
            session.ended(now, opened=True)
            is_open = False
        elif kind < 5:
            actions = session.tick(now)
        elif is_open:
            actions = session.heard(now, any_frame(chance), chance.choice([None, *STREAMS]))
        cuts = [number for number, action in enumerate(actions) if isinstance(action, Abort)]
        assert not actions or is_open
        assert not cuts or not [action for action in actions[cuts[0] + 1 :] if isinstance(action, Send)]
        if cuts:
            session.ended(now, opened=True)
            is_open = False
