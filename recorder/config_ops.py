"""
Settings of what is around the recording: who may look at it, who is told, how long the lake is kept. Pure.

`config.py` puts the tables into the whole; the values are checked here.
"""

import msgspec

from recorder import config_values as values
from recorder.config_values import Wrong

NETWORK_WORDS = "I accept that anybody on the network can read it"
"""What `metrics.allow_network` has to say before another address than loopback is used."""


class Metrics(msgspec.Struct, frozen=True):
    """
    `[metrics]`: the endpoint for metrics, health and status.
    """

    listen: str = "127.0.0.1:9464"
    """`HOST:PORT`; port 0 takes any free one, the log says which. Empty: no endpoint."""
    allow_network: str = ""
    """It has neither password nor encryption; another address than loopback takes `NETWORK_WORDS` here."""


def check_metrics(metrics: Metrics) -> Metrics:
    """
    Refuse what is no address, or is open to others unasked.

    Raises:
        Wrong: a mistake.
    """
    if metrics.allow_network not in {"", NETWORK_WORDS}:
        allowed = f'allowed: "" or exactly "{NETWORK_WORDS}"'
        raise Wrong("metrics.allow_network", f"{values.show(metrics.allow_network)} are not the words", allowed)
    if not metrics.listen:
        return metrics
    try:
        host, _ = split_listen(metrics.listen)
    except ValueError as error:
        allowed = 'allowed: an address and a port, such as "127.0.0.1:9464" or "[::1]:9464", or "" for none'
        raise Wrong("metrics.listen", f"{values.show(metrics.listen)} {error}", allowed) from None
    if not values.is_loopback(host) and not metrics.allow_network:
        raise Wrong(
            "metrics.listen",
            f"{values.show(metrics.listen)} can be reached by others, and asks for no password",
            f'use 127.0.0.1 behind a proxy of yours, or accept it with allow_network = "{NETWORK_WORDS}"',
        )
    return metrics


def split_listen(text: str) -> tuple[str, int]:
    """
    Host and port of `HOST:PORT`; an IPv6 address stands in brackets.

    Raises:
        ValueError: it is none; says what is wrong.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("has no port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("is an IPv6 address without brackets")
    if not host or any(c.isspace() or not c.isprintable() or c in "/@" for c in host):
        raise ValueError("has no host")
    return host, int(port)
