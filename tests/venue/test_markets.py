"""
The shipped market lists against what is known of them.
"""

import pytest

from recorder.venue import markets
from recorder.venue.markets import NETWORKS, market_list, size_exponent


@pytest.mark.parametrize(
    ("network", "perps", "spots", "delisted"),
    [
        ("mainnet-beta", 86, 63, 31),
        ("devnet", 30, 9, 0),
        ("devnet-sdk-2026-05", 1, 2, 0),
        ("velocity-mainnet-beta", 4, 2, 0),
        ("velocity-devnet", 3, 2, 0),
    ],
)
def test_each_list_is_whole(network, perps, spots, delisted):
    """
    A list that lost a market would give wrong names and null sizes for it.
    """
    shipped = market_list(network)

    assert (len(shipped.perps), len(shipped.spots)) == (perps, spots)
    assert sum(m.status == "delisted" for m in shipped.perps) == delisted
    assert shipped.about


def test_the_file_holds_exactly_the_networks_that_are_named():
    """
    A list in the file that no name reaches, or a name without a list, is a slip.
    """
    assert tuple(markets._lists()) == NETWORKS


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("market_type", ["perp", "spot"])
def test_every_market_is_found_by_its_index(network, market_type):
    """
    The index is the only identity a trade frame carries, so each leads to exactly its market.
    """
    shipped = market_list(network)
    listed = shipped.of_type(market_type)

    assert [shipped.by_index(market_type, m.index) for m in listed] == list(listed)
    assert {m.market_type for m in listed} == {market_type}


def test_drift_mainnet_perps_have_every_index_up_to_85():
    """
    Perps 0 to 85 without a hole, as the venue numbers them.
    """
    assert [m.index for m in market_list("mainnet-beta").perps] == list(range(86))


@pytest.mark.parametrize(("symbol", "index"), [("USDC", 0), ("usdc", 0), ("GLXY", 7), ("glxy", 7)])
def test_a_name_that_stands_twice_means_the_first(symbol, index):
    """
    Devnet has two USDC and two GLXY; the server resolves a name to the first, so must we.
    """
    shipped = market_list("devnet")

    found = shipped.by_symbol("spot", symbol)

    assert found is not None
    assert found.index == index
    assert [m.index for m in shipped.spots if m.symbol == found.symbol] == [index, {0: 6, 7: 8}[index]]


def test_names_match_in_any_letter_case_and_keep_the_lists_spelling():
    """
    Books say JITOSOL, the list jitoSOL: both are the same market.
    """
    shipped = market_list("mainnet-beta")

    assert [shipped.by_symbol("spot", name).symbol for name in ("JITOSOL", "jitosol", "jitoSOL")] == ["jitoSOL"] * 3


@pytest.mark.parametrize(
    ("market_type", "symbol"), [("perp", "SOL"), ("spot", "SOL-PERP"), ("perp", " SOL-PERP"), ("perp", "")]
)
def test_other_names_are_unknown(market_type, symbol):
    """
    As at the server: `SOL` is no perp, and blanks are part of a name.
    """
    assert market_list("mainnet-beta").by_symbol(market_type, symbol) is None


def test_indices_mean_other_markets_on_other_networks():
    """
    The trap of the relaunch: with the wrong list every name after the third is wrong.
    """
    names = {network: market_list(network).by_index("perp", 3) for network in ("mainnet-beta", "velocity-mainnet-beta")}

    assert {network: market.symbol for network, market in names.items()} == {
        "mainnet-beta": "APT-PERP",
        "velocity-mainnet-beta": "HYPE-PERP",
    }
    assert market_list("velocity-mainnet-beta").by_index("perp", 59) is None


@pytest.mark.parametrize(
    ("market_type", "symbol", "exponent"),
    [("perp", "BTC-PERP", 9), ("perp", "1MBONK-PERP", 9), ("spot", "USDC", 6), ("spot", "SOL", 9), ("spot", "BONK", 5)],
)
def test_sizes_are_scaled_by_the_tokens_decimals(market_type, symbol, exponent):
    """
    A wrong exponent is a wrong size by powers of ten. Perps have 9, BTC too.
    """
    shipped = market_list("mainnet-beta")
    index = shipped.by_symbol(market_type, symbol).index

    assert size_exponent(shipped, market_type, index) == exponent


def test_an_unknown_perp_has_nine_and_an_unknown_spot_market_none():
    """
    The scale of perps is a rule; that of a token unknown here is not known, and is not guessed.
    """
    shipped = market_list("mainnet-beta")

    assert size_exponent(shipped, "perp", 5000) == 9
    assert size_exponent(shipped, "spot", 5000) is None


def test_every_perp_of_every_list_has_nine():
    """
    The rule holds for all that is listed, or it would be no rule.
    """
    assert {m.size_exponent for network in NETWORKS for m in market_list(network).perps} == {9}


def test_tokens_without_a_book_are_marked():
    """
    Velocity has no spot books; subscribing to one is acknowledged and stays silent for ever.
    """
    assert {m.status for m in market_list("velocity-mainnet-beta").spots} == {"collateral"}


def test_an_unknown_network_is_refused_with_the_names_there_are():
    """
    The message has to be enough to correct the config.
    """
    with pytest.raises(ValueError, match=r"'mainnet'.*mainnet-beta, devnet.*velocity-devnet"):
        market_list("mainnet")
