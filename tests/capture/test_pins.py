"""
Pins of public keys, held against a library that shares no code with ours.
"""

import contextlib
import hashlib
from base64 import b64encode

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from recorder.capture.pins import PinMismatch, check_pins, pin_of

AUTHORITY = trustme.CA()
CERTIFICATE = x509.load_pem_x509_certificate(
    AUTHORITY.issue_cert("dlob.example", "*.dlob.example", "127.0.0.1").cert_chain_pems[0].bytes()
)
DER = CERTIFICATE.public_bytes(Encoding.DER)


def spki(certificate):
    """
    The pin, made by another library.
    """
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(hashlib.sha256(key).digest()).decode()


@pytest.mark.parametrize("key_type", list(trustme.KeyType), ids=lambda kind: kind.name)
def test_a_pin_is_that_of_the_public_key(key_type):
    """
    Of every kind of key a certificate may have.
    """
    pem = AUTHORITY.issue_cert("dlob.example", key_type=key_type).cert_chain_pems[0].bytes()
    certificate = x509.load_pem_x509_certificate(pem)

    assert pin_of(certificate.public_bytes(Encoding.DER)) == spki(certificate)


def test_any_pinned_key_of_the_chain_is_enough():
    """
    A backup key, or that of an authority above the server's own.
    """
    authority = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes())
    chain = [DER, authority.public_bytes(Encoding.DER)]

    check_pins((spki(CERTIFICATE),), chain)
    check_pins(("A" * 43 + "=", spki(authority)), chain)


@pytest.mark.parametrize(("chain", "shown"), [([DER], spki(CERTIFICATE)), ([], "no TLS at all")], ids=["TLS", "none"])
def test_a_chain_without_a_pinned_key_is_refused_and_shown(chain, shown):
    """
    With the keys it has, so that an operator who knows of the change can add one.
    """
    with pytest.raises(PinMismatch) as refused:
        check_pins(("A" * 43 + "=",), chain)

    assert shown in str(refused.value)


@given(st.integers(min_value=0, max_value=len(DER) - 1), st.binary(max_size=6))
def test_what_is_no_certificate_is_said_so(at, noise):
    """
    Whatever bytes: an answer or a ValueError, never another error and never an endless walk.
    """
    with contextlib.suppress(ValueError):
        assert len(pin_of(DER[:at] + noise)) == 44
