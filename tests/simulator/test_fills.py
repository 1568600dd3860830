"""
Fills: every kind that was captured, counted per market, with amounts that add up.
"""

from collections import Counter

import pytest

from recorder.simulator.fills import Fills, base58, make_accounts
from recorder.simulator.market import MarketModel
from recorder.simulator.markets import DEFAULT_MARKETS

SLOTS = 1500


def transactions_of(market, *, seed=1):
    """
    Ten minutes of a market.
    """
    model = MarketModel(market, seed=seed)
    fills = Fills(model, make_accounts(seed), seed=seed)
    made = []
    for slot in range(SLOTS):
        model.advance()
        made.extend(fills.in_slot(slot=slot, ts_s=slot, slot_s=0.4))
    return made


@pytest.fixture(scope="module")
def perp():
    """
    Transactions of SOL-PERP.
    """
    return transactions_of(DEFAULT_MARKETS[0])


@pytest.fixture(scope="module")
def spot():
    """
    Transactions of SOL, spot.
    """
    return transactions_of(DEFAULT_MARKETS[4])


def test_fill_ids_count_per_market_without_a_hole(perp, spot):
    """
    A jump is how a recorder proves a loss, so there must be none of our own.
    """
    for made in (perp, spot):
        ids = [fill.fill_id for transaction in made for fill in transaction]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_every_kind_of_perp_fill_occurs(perp):
    """
    By explanation and by who is absent.
    """
    kinds = Counter(
        (fill.explanation, fill.taker is not None, fill.maker is not None, fill.filler is not None)
        for transaction in perp
        for fill in transaction
    )

    assert {
        ("orderFilledWithMatch", True, True, True),
        ("orderFilledWithMatch", False, True, True),
        ("orderFilledWithMatch", True, True, False),
        ("orderFilledWithMatchJit", True, True, True),
        ("orderFilledWithAmm", True, False, True),
        ("orderFilledWithAmm", False, True, True),
        ("orderFilledWithAmmJit", True, False, True),
        ("orderFilledWithAmmJitLpSplit", True, False, True),
        ("orderFilledWithLpJit", True, False, True),
        ("liquidation", True, True, False),
        ("transferPerpPosition", True, True, False),
    } == set(kinds)
    assert any(fill.maker_indicative_key for transaction in perp for fill in transaction)
    assert {0, 1, 16} <= {fill.bit_flags for transaction in perp for fill in transaction}


def test_every_kind_of_spot_fill_occurs(spot):
    """
    External books are makers without an account.
    """
    kinds = {(fill.explanation, fill.maker is not None) for transaction in spot for fill in transaction}

    assert kinds == {
        ("orderFilledWithMatch", True),
        ("orderFilledWithOpenbookV2", False),
        ("orderFillWithPhoenix", False),
    }


def test_several_fills_share_a_transaction_and_their_takers_totals_grow(perp):
    """
    `txSig` is no identity; the taker's cumulative amounts are those after each fill.
    """
    several = [transaction for transaction in perp if len(transaction) > 1]

    assert len(several) > 20
    assert len({transaction[0].tx_sig for transaction in perp}) == len(perp)
    for transaction in several:
        assert len({fill.tx_sig for fill in transaction}) == 1
        assert len({fill.taker.key for fill in transaction}) == 1
        filled = [fill.taker.base_filled for fill in transaction]
        assert filled == [sum(fill.base for fill in transaction[: number + 1]) for number in range(len(transaction))]


def test_amounts_are_in_steps_and_prices_near_the_oracle(perp, spot):
    """
    The price of a fill is quote over base; a transfer's is the oracle's.
    """
    for made, market in ((perp, DEFAULT_MARKETS[0]), (spot, DEFAULT_MARKETS[4])):
        for fill in (fill for transaction in made for fill in transaction):
            price = fill.quote / fill.base * 10**market.size_exponent
            assert fill.base > 0
            assert fill.base % market.step == 0
            assert price == pytest.approx(fill.oracle, rel=0.03)
            if fill.explanation == "transferPerpPosition":
                assert price == pytest.approx(fill.oracle, rel=1e-5)
                assert fill.taker_fee == fill.maker_fee == 0


def test_the_rate_is_the_markets(perp):
    """
    About `fills_per_s`, over ten minutes.
    """
    fills = sum(len(transaction) for transaction in perp)

    assert fills / (SLOTS * 0.4) == pytest.approx(DEFAULT_MARKETS[0].fills_per_s, rel=0.15)


def test_keys_and_signatures_look_like_solanas():
    """
    32 and 64 bytes in base 58, without the four letters that look alike.
    """
    accounts = make_accounts(1)

    assert base58(57) == "z"
    assert base58(58 * 58) == "211"
    for key in accounts.takers + accounts.makers:
        assert 42 <= len(key) <= 44
        assert not set(key) & set("0OIl")
