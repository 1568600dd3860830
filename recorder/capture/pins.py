"""
Key pins: which public keys a venue's certificate chain may have, beside what the certificate authorities say.

A pin is the SHA-256 of a certificate's SubjectPublicKeyInfo, base64, as HPKP (RFC 7469) and `curl --pinnedpubkey` have
it. It may be of the server's own key or of an authority's above it: one of the verified chain is enough. Pins only ever
refuse: what the authorities do not vouch for is refused before a pin is looked at.
"""

import asyncio
import ssl
from base64 import b64encode
from hashlib import sha256
from typing import Any

_SEQUENCE, _VERSION = 0x30, 0xA0
_BEFORE_KEY = 5
"""Serial number, algorithm, issuer, validity, subject (RFC 5280 §4.1)."""


class PinMismatch(Exception):
    """
    A valid certificate, but none of the pinned keys is in its chain.
    """

    def __init__(self, found: list[str]) -> None:
        keys = ", ".join(found) or "no TLS at all"
        super().__init__(
            f"none of the keys in venue.pins is in the venue's certificate chain, which has {keys}; "
            "if the venue has changed its key, add one of these"
        )
        self.found = found


def check_pins(pins: tuple[str, ...], chain: list[bytes]) -> None:
    """
    Refuse a chain without a pinned key.

    Args:
        pins: base64.
        chain: certificates in DER, the server's own first.

    Raises:
        PinMismatch: none of them is there.
    """
    found = [pin_of(certificate) for certificate in chain]
    if not set(pins) & set(found):
        raise PinMismatch(found)


def chain_of(transport: asyncio.BaseTransport) -> list[bytes]:
    """
    The verified certificates of an open connection in DER, the server's own first; none without TLS.
    """
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return []
    own = tls.getpeercert(binary_form=True)
    # Public since 3.13; before, the object below has it since 3.10, and gives certificates rather than bytes.
    inner: Any = tls if hasattr(tls, "get_verified_chain") else getattr(tls, "_sslobj", None)
    verified = inner.get_verified_chain() if hasattr(inner, "get_verified_chain") else []
    chain = [each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in verified]
    return chain or ([own] if own else [])


def pin_of(certificate: bytes) -> str:
    """
    The pin of a certificate's key.

    Args:
        certificate: in DER, as the TLS library has accepted it.

    Raises:
        ValueError: this is no certificate.
    """
    begin, end = _content(certificate, 0, _SEQUENCE)
    at, end = _content(certificate, begin, _SEQUENCE)
    if certificate[at] == _VERSION:
        at = _after(certificate, at)
    for _ in range(_BEFORE_KEY):
        at = _after(certificate, at)
    if at >= end or certificate[at] != _SEQUENCE:
        raise ValueError("no public key where RFC 5280 has it")
    return b64encode(sha256(certificate[at : _after(certificate, at)]).digest()).decode()


def _content(der: bytes, at: int, tag: int) -> tuple[int, int]:
    if der[at : at + 1] != bytes([tag]):
        raise ValueError(f"no DER element {tag:#x} at byte {at}")
    return _measured(der, at)


def _after(der: bytes, at: int) -> int:
    return _measured(der, at)[1]


def _measured(der: bytes, at: int) -> tuple[int, int]:
    """
    Where an element's content begins and ends.
    """
    if at + 2 > len(der):
        raise ValueError(f"the certificate ends at byte {len(der)}, inside an element")
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(der[at + 2 : begin])
    if begin + size > len(der):
        raise ValueError(f"the certificate ends at byte {len(der)}, inside an element")
    return begin, begin + size
