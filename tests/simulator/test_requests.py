"""
Requests as the real server understands and misunderstands them.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.simulator.requests import Crash, Hang, Refuse, Subscribe, Unsubscribe, answer

MARKETS = {("perp", "SOL-PERP"): 0, ("perp", "BTC-PERP"): 1, ("spot", "SOL"): 1, ("spot", "MSOL"): 2}


def ask(**members):
    """
    The answer to a request with these members, the ordinary ones unless given.
    """
    request = {"type": "subscribe", "marketType": "perp", "channel": "orderbook", "market": "SOL-PERP"} | members
    return answer(json.dumps({key: value for key, value in request.items() if value is not ...}), MARKETS)


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({}, "orderbook_perp_0_grouped_1"),
        ({"channel": "trades"}, "trades_perp_0"),
        ({"channel": "orderbook_indicative"}, "orderbook_perp_0_grouped_1_indicative"),
        ({"channel": "orderbook_indicative", "grouping": 10}, "orderbook_perp_0_grouped_10_indicative"),
        ({"channel": "priorityfees"}, "priorityFees_perp_0"),
        ({"market": "BTC-PERP", "grouping": 100}, "orderbook_perp_1_grouped_100"),
        ({"marketType": "spot", "market": "mSOL"}, "orderbook_spot_2_grouped_1"),
        ({"channel": "trades", "grouping": 10}, "trades_perp_0"),
        ({"type": "SUBSCRIBE", "marketType": "PERP", "channel": "OrderBook", "market": "sol-perp"}, None),
    ],
)
def test_a_subscribe_leads_to_a_channel_name(members, name):
    """
    Letter case does not count anywhere; the channel's name is not what was asked for.
    """
    given_answer = ask(**members)

    assert isinstance(given_answer, Subscribe)
    assert given_answer.name == (name or "orderbook_perp_0_grouped_1")


def test_the_acknowledgement_repeats_the_clients_spelling():
    """
    Captured: `orderbook` asked for as `Orderbook` is acknowledged as `Orderbook`; the grouping is not shown.
    """
    given_answer = ask(channel="Orderbook", market="sol-perp", marketType="PERP", grouping=10)

    assert isinstance(given_answer, Subscribe)
    message = "Subscribe received for channel: Orderbook, market: sol-perp, marketType: PERP"
    assert json.dumps({"message": message}, separators=(",", ":")) == given_answer.ack


@pytest.mark.parametrize(
    ("grouping", "used"),
    [
        (1, "1"),
        (10, "10"),
        (1000, "1000"),
        (10.0, "10"),
        ("10", "10"),
        ([10], "10"),
        (0, "1"),
        (None, "1"),
        (..., "1"),
        (False, "1"),
        (True, "1"),
        ("", "1"),
        (7, "1"),
        (-10, "1"),
        ("ten", "1"),
        ({}, "1"),
        ([], "1"),
        (1.5, "1.5"),
        ("10abc", "10abc"),
        ("100 ", "100 "),
        (" 10", " 10"),
        ([10, 2], "10,2"),
        ("0xa", "0xa"),
    ],
)
def test_a_grouping_is_checked_by_its_leading_integer_but_used_as_sent(grouping, used):
    """
    So some groupings are acknowledged for a channel nobody publishes: silent for ever.
    """
    given_answer = ask(grouping=grouping)

    assert isinstance(given_answer, Subscribe)
    assert f"orderbook_perp_0_grouped_{used}" == given_answer.name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "{",
        "null",
        "[]",
        "1",
        '"subscribe"',
        "{}",
        '{"type":null}',
        '{"type":1}',
        '{"type":"ping"}',
        "NaN",
        '{"type":"subscribe","channel":NaN}',
        "[" * 100_000,
    ],
)
def test_what_is_no_request_is_silently_ignored(text):
    """
    No reply, no close.
    """
    assert answer(text, MARKETS) is None


@pytest.mark.parametrize(
    "members",
    [
        {"market": "DOGE-PERP"},
        {"market": "SOL"},
        {"market": " SOL-PERP"},
        {"market": 0},
        {"market": None},
        {"market": ...},
        {"marketType": "future"},
        {"marketType": ...},
        {"marketType": 1},
        {"channel": "candles"},
        {"channel": "orderbook "},
    ],
)
@pytest.mark.parametrize(("op", "word"), [("subscribe", "subscribing to"), ("unsubscribe", "unsubscribing from")])
def test_a_refusal_names_the_channel_and_never_the_market(members, op, word):
    """
    So that several requests in flight cannot be told apart by their errors.
    """
    channel = members.get("channel", "Orderbook")

    refusal = ask(type=op, **(members | {"channel": channel}))

    assert Refuse(f'{{"channel":"{channel}","error":"Error {word} channel"}}') == refusal


@pytest.mark.parametrize("channel", ["", None, ..., "dlob:"])
def test_a_missing_or_empty_channel_closes_with_1003(channel):
    """
    The reason is the error as JSON. A bus prefix is taken off before it is seen that nothing is left.
    """
    assert ask(channel=channel) == Hang(1003, '{"error":"Error subscribing to channel"}')
    assert ask(channel=channel, type="unsubscribe") == Hang(1003, '{"error":"Error unsubscribing from channel"}')


@pytest.mark.parametrize("channel", [1, 0, True, False, [], ["orderbook"], {}])
def test_a_channel_that_is_no_string_kills_the_server(channel):
    """
    A bug of the real one that cuts every client.
    """
    assert Crash() == ask(channel=channel)


def test_unsubscribe_means_the_same_channel_as_subscribe():
    """
    It has no acknowledgement, so there is nothing but the name.
    """
    assert Unsubscribe("orderbook_perp_0_grouped_10") == ask(type="Unsubscribe", grouping=10)


@given(st.text() | st.from_regex(r'\{"type":"subscribe","channel":.{0,20}\}'))
def test_no_text_upsets_the_parser(text):
    """
    A client may send anything.
    """
    answer(text, MARKETS)
