"""
What JavaScript prints.
"""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.simulator.js import js_decimal, js_number, js_object, js_string


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1, "1"),
        (1.0, "1"),
        (9.86, "9.86"),
        (1e-9, "1e-9"),
        (5e-7, "5e-7"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1.2345678e-6, "0.0000012345678"),
        (0.000123, "0.000123"),
        (-2.5e-8, "-2.5e-8"),
        (-0.013134, "-0.013134"),
        (3.7199999999999998, "3.7199999999999998"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e16, "10000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e21, "1.5e+21"),
        (2**53 + 1, "9007199254740992"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (math.inf, "null"),
        (math.nan, "null"),
    ],
)
def test_numbers_are_printed_as_javascript_prints_them(value, printed):
    """
    The right column was printed by a JavaScript engine (`JSON.stringify` for what is not finite).
    """
    assert printed == js_number(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_reads_back_equal_and_has_the_shortest_form(value):
    """
    No digit is lost, and nothing is printed that JavaScript would not print: `1.0`, `1e+16`, `1E5`, `.5`, `+1`.
    """
    printed = js_number(value)

    assert float(printed) == value
    assert float(json.loads(printed)) == value
    mantissa, _, exponent = printed.partition("e")
    assert not mantissa.endswith(".0")
    assert not mantissa.startswith((".", "-.", "+"))
    if value and not exponent:
        assert 1e-6 <= abs(value) < 1e21
    if exponent:
        assert abs(value) < 1e-6 or abs(value) >= 1e21
        assert exponent[0] in "+-"
        assert len(mantissa.lstrip("-").partition(".")[0]) == 1


@given(st.integers(min_value=-(2**53), max_value=2**53))
def test_safe_integers_are_printed_in_full(value):
    """
    Whether held as an integer or as a float.
    """
    assert str(value) == js_number(value) == js_number(float(value))


@pytest.mark.parametrize(
    ("amount", "exponent", "printed"),
    [
        (3_720_000_000, 9, "3.7199999999999998"),
        (525_353_999, 6, "525.353999"),
        (44_120_000, 9, "0.04412"),
        (-13_134, 6, "-0.013134"),
        (1_345_000_000_000, 9, "1345"),
        (1, 9, "1e-9"),
        (0, 6, "0"),
    ],
)
def test_amounts_become_decimals_by_the_venues_own_sum(amount, exponent, printed):
    """
    Whole part plus remainder, as captured: the nearest float of 3.72 would be printed 3.72, the venue sent otherwise.
    """
    assert printed == js_number(js_decimal(amount, exponent))


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_printed_string_reads_back_equal(text):
    """
    Whatever a client spelled comes back in its acknowledgement.
    """
    assert text == json.loads(js_string(text))


def test_lone_surrogates_are_escaped_and_other_text_is_not():
    """
    Well-formed `JSON.stringify`: a lone surrogate could not be sent as UTF-8; everything else is sent as it is.
    """
    assert js_string('\ud800é☃\n\x01"\\') == '"\\ud800é☃\\n\\u0001\\"\\\\"'


def test_an_object_keeps_the_order_of_its_members():
    """
    The order is part of the wire format.
    """
    assert js_object({"b": 1.0, "a": None, "c": True, "d": {"e": "f"}}) == '{"b":1,"a":null,"c":true,"d":{"e":"f"}}'
