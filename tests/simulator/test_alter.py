"""
Frames bent into other shapes, as a recorder may meet them.
"""

import json
from typing import get_args

import pytest

from recorder.simulator.alter import GARBAGE, alter
from recorder.simulator.fills import Fills, make_accounts
from recorder.simulator.frames import book_frame, trade_frame
from recorder.simulator.kinds import Altered, Garbled
from recorder.simulator.market import MarketModel
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.venue.protocol import FrameKind, open_envelope

MODEL = MarketModel(DEFAULT_MARKETS[0], seed=1)
BOOK = book_frame(MODEL.book(slot=5, ts_ms=7), name="orderbook_perp_0_grouped_1")
FILLS = Fills(MODEL, make_accounts(1), seed=1)
TRADE = trade_frame(
    next(t[0] for slot in range(99) if (found := FILLS.in_slot(slot=slot, ts_s=1, slot_s=0.4)) for t in found),
    name="trades_perp_0",
)
UNDECODABLE = {"truncated", "bad_utf8", "html"}


def opened(text):
    """
    As a recorder sees it.
    """
    return open_envelope(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("what", get_args(Altered))
@pytest.mark.parametrize("text", [BOOK, TRADE], ids=["book", "trade"])
def test_an_altered_frame_is_data_still_unless_it_cannot_be_read(what, text):
    """
    So that a recorder stores the one and names the other.
    """
    kind = opened(alter(text, what)).kind

    assert kind == (FrameKind.UNDECODABLE if what in UNDECODABLE else FrameKind.DATA)


@pytest.mark.parametrize("what", get_args(Altered))
def test_every_alteration_changes_a_book_or_a_trade(what):
    """
    None is without effect.
    """
    assert alter(BOOK, what) != BOOK or alter(TRADE, what) != TRADE


@pytest.mark.parametrize("text", [BOOK, TRADE], ids=["book", "trade"])
def test_what_is_not_bent_stays_as_it_was(text):
    """
    Character by character, number formats included.
    """
    added = ',\\"sequence\\":{\\"epoch\\":7,\\"number\\":\\"12\\"}'

    assert alter(text, "payload_member").replace(added, "") == text
    assert alter(text, "envelope_member").replace(',"version":2', "") == text
    assert alter(text, "prefixed").replace("dlob:", "") == text


def test_alterations_do_what_their_names_say():
    """
    Those a reader of levels stumbles over.
    """

    def book(what):
        return json.loads(json.loads(alter(BOOK, what))["data"])

    plain = json.loads(json.loads(BOOK)["data"])
    assert book("unsorted")["bids"] == plain["bids"][::-1]
    assert book("strings")["asks"][0]["price"] == str(plain["asks"][0]["price"])
    assert book("null_level")["bids"][0]["price"] is None
    assert book("huge")["bids"][0]["size"] == 1.5e21
    assert '\\"size\\":1.5e+21' in alter(BOOK, "huge")
    assert set(book("source")["bids"][0]["sources"]) == {"moonbook"}
    assert "slot" not in book("no_slot")
    assert "ts" not in book("no_ts")
    assert list(book("sorted_members")) == sorted(plain)
    assert isinstance(json.loads(alter(BOOK, "object_data"))["data"], dict)


@pytest.mark.parametrize("what", get_args(Garbled))
def test_garbage_is_no_data_of_a_stream_that_was_asked_for(what):
    """
    Of whatever kind: never a book or trade of a simulated market.
    """
    envelope = opened(GARBAGE[what])

    assert envelope.kind != FrameKind.DATA or envelope.channel.market_index == 59
    assert set(GARBAGE) == set(get_args(Garbled))
