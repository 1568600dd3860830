"""
Secrets a configuration may hold: which settings they are, and how an address is shown without them. Pure.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

SECRET_WORDS = ("webhook", "token", "password", "secret")
"""In the name of a key: what it holds is nobody else's business. So is a user, a password or a query in an address."""
SECRET_KEYS = frozenset({"notify.url"})
"""A webhook's address is its key, unless it is one of this machine."""
_HERE = ("http://127.", "http://localhost", "http://[::1]")


def secrets_in(document: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """
    Dotted names of the settings of a configuration that hold a secret.
    """
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from secrets_in(value, f"{name}.")
            continue
        texts = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str) and each]
        named = bool(texts) and any(word in key.lower() for word in SECRET_WORDS)
        named = named or (name in SECRET_KEYS and any(not text.startswith(_HERE) for text in texts))
        if named or any(redacted(text) != text for text in texts):
            yield name


def redacted(address: str) -> str:
    """
    An address for logs, errors and files: without user, password and query. Text that is no address as it is.
    """
    if "://" not in address:
        return address
    scheme, _, rest = address.partition("://")
    before_query, mark, _ = rest.partition("?")
    host, slash, path = before_query.partition("/")
    try:
        has_user = urlsplit(address).username is not None
    except ValueError:
        has_user = "@" in host
    if has_user:
        host = f"…@{host.rpartition('@')[2]}"
    return f"{scheme}://{host}{slash}{path}{'?…' if mark else ''}"
