"""
Settings of what is around the recording: who may look at it, who is told, how long the lake is kept. Pure.

`config.py` puts the tables into the whole; the values are checked here.
"""

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from recorder import config_values as values
from recorder.config_values import Wrong
from recorder.quality.kinds import KINDS

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


SCOPES = ("recorder", "connection", "stream")


class Lake(msgspec.Struct, frozen=True):
    """
    `[lake]`: how long what is sealed is kept.
    """

    keep_days: Annotated[float, Meta(ge=0, le=36_500)] = 0.0
    """Days a sealed hour stays; 0: for ever. What was removed is on record."""


class Notify(msgspec.Struct, frozen=True):
    """
    `[notify]`: who is told of what.
    """

    kinds: tuple[str, ...] = ()
    """Of events, as in the table of kinds; none: nobody is told of anything."""
    scopes: tuple[str, ...] = SCOPES
    """Of these only what concerns the recorder, a connection, a stream."""
    command: tuple[str, ...] = ()
    """A program and its arguments, without a shell; the notices come as JSON on its standard input."""
    url: str = ""
    """A webhook, posted the same JSON; its member `text` alone is enough for a chat."""
    url_credential: str = ""
    """In place of `url`, where it is a secret: name of a file in `$CREDENTIALS_DIRECTORY` that holds it."""
    after_s: Annotated[float, Meta(ge=0, le=86_400)] = 10.0
    """What lasts (silent, disconnected, halted …) is told only after so long, and again when it is over."""
    per_hour: Annotated[int, Meta(ge=1, le=3600)] = 20
    """Messages an hour, at most, each way; notices beyond are gathered into one."""
    timeout_s: Annotated[float, Meta(ge=0.5, le=60)] = 10.0
    """For the command to end, or the webhook to answer."""


def check_notify(notify: Notify) -> Notify:
    """
    Refuse what could never be told, or to nobody.

    Raises:
        Wrong: a mistake.
    """
    for key, given, known in (("kinds", notify.kinds, tuple(KINDS)), ("scopes", notify.scopes, SCOPES)):
        for each in given:
            if each not in known:
                hint = values.did_you_mean(each, known)
                raise Wrong(f"notify.{key}", f"{values.show(each)} is unknown{hint}", values.allowed_words(known))
    if notify.command and (not notify.command[0] or any("\0" in word for word in notify.command)):
        raise Wrong("notify.command", "names no program", 'allowed: a list, such as ["/usr/local/bin/page", "me"]')
    if notify.url and notify.url_credential:
        raise Wrong("notify.url", "stands beside url_credential", "give one of them")
    name = notify.url_credential
    if name and (name.startswith(".") or not all(c.isalnum() or c in "._-" for c in name) or not name.isascii()):
        raise Wrong("notify.url_credential", f"{values.show(name)} names no file", "allowed: letters, digits, . _ -")
    if notify.url:
        _check_webhook(notify.url)
    if notify.kinds and not (notify.command or notify.url or notify.url_credential):
        raise Wrong("notify.kinds", "are told to nobody", "give command, url or url_credential")
    return notify


def _check_webhook(text: str) -> None:
    # Not shown: it may be a secret.
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0 or any(c.isspace() for c in text):
        raise Wrong("notify.url", "is no address of a webhook", "allowed: https://HOST[:PORT]/PATH")
    if url.scheme == "http" and not values.is_loopback(url.hostname):
        raise Wrong("notify.url", "is not encrypted, so anybody on the way can read it", "use https://")


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
