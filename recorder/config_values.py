"""
What one value of a configuration may be: forms, ranges and words, and how a mistake is said.

Each function takes a value as TOML gave it and returns what the program works with, or raises `Wrong`; `config.py` adds
the file's name. Pure.
"""

import ipaddress
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, cast, get_args
from urllib.parse import urlsplit

import msgspec

from recorder.records import MarketType
from recorder.venue.markets import market_list
from recorder.venue.protocol import CHANNELS, GROUPINGS, PATH, Channel

PLAINTEXT_WORDS = "I accept an unauthenticated feed"
"""What `venue.allow_plaintext` has to say before `ws://` to another machine is used."""

MAX_SYMBOL = 64
"""Characters; the longest name of a shipped list has 32."""


class Wrong(Exception):  # reads as `raise Wrong(…)`, and is caught in one place
    """
    A mistake, before the file's name is added and it becomes a `ConfigError`.
    """

    def __init__(self, key: str, problem: str, allowed: str) -> None:
        super().__init__(key)
        self.key, self.problem, self.allowed = key, problem, allowed


@contextmanager
def noted(mistakes: list[Wrong]) -> Iterator[None]:
    """
    A mistake is kept, and what comes after it is looked at as well.
    """
    try:
        yield
    except Wrong as wrong:
        mistakes.append(wrong)


def convert(key: str, value: object, kind: Any) -> Any:  # noqa: ANN401  # as the annotation says
    """
    A value as a struct field of this annotation takes it: type and range.
    """
    if kind is Path:
        kind = str
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        pass
    match msgspec.inspect.type_info(kind):
        case msgspec.inspect.BoolType():
            raise Wrong(key, f"{show(value)} is not a yes or no", "allowed: true or false")
        case msgspec.inspect.IntType(ge=low, le=high):
            whole = isinstance(value, int) and not isinstance(value, bool)
            problem = "is out of range" if whole else "is not a whole number"
            raise Wrong(key, f"{show(value)} {problem}", f"allowed: {low} to {high}")
        case msgspec.inspect.FloatType(ge=low, le=high):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            problem = "is out of range" if number else "is not a number"
            raise Wrong(key, f"{show(value)} {problem}", f"allowed: {low:g} to {high:g}")
        case msgspec.inspect.LiteralType():
            words = get_args(kind)
            raise Wrong(key, f"{show(value)} is unknown{did_you_mean(value, words)}", allowed_words(words))
        case msgspec.inspect.VarTupleType():
            strange = [each for each in value if not isinstance(each, str)] if isinstance(value, list) else []
            problem = f"{show(strange[0])} is not a string" if strange else f"{show(value)} is not a list"
            raise Wrong(key, problem, "allowed: a list of texts in quotes")
    raise Wrong(key, f"{show(value)} is not a string", "allowed: text in quotes")


def check_url(key: str, text: str, *, plaintext_allowed: bool) -> None:
    """
    Refuse what is no address of this venue, or would be heard from anybody on the way.
    """

    def wrong(problem: str, allowed: str = f"allowed: wss://HOST[:PORT]{PATH}[?QUERY]") -> NoReturn:
        raise Wrong(key, problem, allowed)

    if any(c.isspace() or not c.isprintable() for c in text):
        wrong("holds a blank or control character")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        wrong(one_line(str(error)))
    if "@" in url.netloc:
        wrong("holds a user name or password; every file would carry it, and the venue asks for none")
    # Messages end in logs, and a query may hold a key.
    shown = show(text.partition("?")[0])
    if url.scheme not in {"ws", "wss"}:
        wrong(f"{shown} is no websocket address")
    if not url.hostname or port == 0:
        wrong(f"{shown} has no {'port' if url.hostname else 'host'} to connect to")
    if url.path != PATH:
        wrong(f"path {show(url.path)} is answered with HTTP 400 by this venue")
    if "#" in text:
        wrong(f"{shown} has a #fragment, which no websocket address may have")
    if url.scheme == "ws" and not is_loopback(url.hostname) and not plaintext_allowed:
        wrong(
            f"{shown} is not encrypted, so what is recorded could be altered on its way",
            f'use wss://, or accept it with allow_plaintext = "{PLAINTEXT_WORDS}"',
        )


def check_pins(key: str, pins: tuple[str, ...]) -> None:
    """
    Refuse what cannot be the SHA-256 of a key: it would refuse every server there is.
    """
    for pin in pins:
        try:
            size = len(b64decode(pin, validate=True))
        except ValueError:
            size = -1
        if size != 32:
            raise Wrong(
                key, f"{show(pin)} is no key pin", "allowed: SHA-256 in base64, as `check --connect` shows them"
            )
        if pins.count(pin) > 1:
            raise Wrong(key, f"{show(pin)} stands twice", "allowed: each pin once")


def check_proxy(key: str, text: str) -> None:
    """
    Refuse what is no proxy that can be used.
    """
    allowed = 'allowed: "" or http://HOST:PORT'
    if not text:
        return
    if any(c.isspace() or not c.isprintable() for c in text):
        raise Wrong(key, "holds a blank or control character", allowed)
    try:
        url = urlsplit(text)
        complete = url.scheme in {"http", "https"} and url.hostname and url.port
    except ValueError:
        complete = None
    if "@" in text:
        raise Wrong(key, "holds a user name or password, which this program has no safe place for", allowed)
    if not complete or url.path not in {"", "/"} or url.query or url.fragment:
        raise Wrong(key, f"{show(text)} is no address of an HTTP proxy", allowed)


def is_loopback(host: str) -> bool:
    """
    Whether a host in a URL is this machine, told without asking the network.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def symbols(market_type: MarketType, value: object, network: str) -> tuple[str, ...]:
    """
    The markets of one type, each once; a listed one in the list's spelling, any other as written.
    """
    key, allowed = f"markets.{market_type}", 'allowed: a list of symbols, or "*" for all that are listed'
    shipped = market_list(network)
    if value == "*":
        # A name that stands twice is one subscription: the server knows the first only.
        return tuple(dict.fromkeys(m.symbol for m in shipped.of_type(market_type) if m.status == "listed"))
    if not isinstance(value, list):
        raise Wrong(key, f"{show(value)} is not a list", allowed)
    resolved: dict[str, str] = {}
    for name in value:
        if not isinstance(name, str):
            raise Wrong(key, f"{show(name)} is not a string", allowed)
        if name == "*":
            raise Wrong(key, "'*' stands in a list", f'allowed: {market_type} = "*" without brackets, or symbols')
        if not name or any(c.isspace() or not c.isprintable() for c in name):
            problem = f"{show(name)} is empty or holds a blank or control character"
            raise Wrong(key, problem, "allowed: the symbol alone; the server matches it exactly, in any letter case")
        if len(name) > MAX_SYMBOL:
            raise Wrong(key, f"{show(name)} is too long", f"allowed: up to {MAX_SYMBOL} characters")
        if name.lower() in resolved:
            raise Wrong(key, f"{show(name)} stands twice", "allowed: each market once, letter case does not matter")
        listed = shipped.by_symbol(market_type, name)
        resolved[name.lower()] = name if listed is None else listed.symbol
    return tuple(resolved.values())


def channels(value: object) -> tuple[Channel, ...]:
    """
    Channels as the protocol spells them, each once.
    """
    key, allowed = "markets.channels", allowed_words(CHANNELS)
    if not isinstance(value, list) or not value:
        problem = "is empty" if value == [] else f"{show(value)} is not a list"
        raise Wrong(key, problem, f"{allowed}, in a list")
    for name in value:
        if name not in CHANNELS:
            raise Wrong(key, f"{show(name)} is no channel{did_you_mean(name, CHANNELS)}", allowed)
        if value.count(name) > 1:
            raise Wrong(key, f"{show(name)} stands twice", "allowed: each channel once")
    return cast("tuple[Channel, ...]", tuple(value))


def groupings(value: object) -> tuple[int, ...]:
    """
    One grouping or several, as plain integers.
    """
    key, allowed = "markets.grouping", allowed_words(str(g) for g in GROUPINGS)
    numbers = value if isinstance(value, list) else [value]
    if not numbers:
        raise Wrong(key, "is empty", allowed)
    for number in numbers:
        # 1.0 and true equal 1, but the server would be sent what was written.
        if type(number) is not int or number not in GROUPINGS:
            raise Wrong(key, f"{show(number)} is no grouping", allowed)
        if numbers.count(number) > 1:
            raise Wrong(key, f"{number} stands twice", "allowed: each grouping once")
    return tuple(numbers)


def root_folder(value: str) -> Path:
    """
    The data root, with `~` expanded.
    """
    key, allowed = "storage.root", "allowed: the path of a folder, which need not exist yet"
    if not value.strip() or not value.isprintable():
        raise Wrong(key, f"{show(value)} is empty or holds a control character", allowed)
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise Wrong(key, f"the home folder in {show(value)} cannot be told", allowed) from None


def near(word: str, known: Iterable[str]) -> list[str]:
    """
    Known names like this one, best first; at most three.
    """
    by_lower = {name.lower(): name for name in known}
    return [by_lower[name] for name in get_close_matches(word.lower()[:200], by_lower, n=3)]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """
    The nearest known name as the end of a problem; empty if none is near.
    """
    names = near(word, known) if isinstance(word, str) else []
    return f", did you mean {names[0]}?" if names else ""


def allowed_words(words: Iterable[str]) -> str:
    """
    For a message: the words there are.
    """
    return f"allowed: {', '.join(words)}"


def show(value: object) -> str:
    """
    A value for a message: one short line, whatever the file holds.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        return "a huge number"
    return text if len(text) <= 80 else f"{text[:76]}…{text[-1]}"


def one_line(text: str) -> str:
    """
    For a message: text of unknown content, printable and of bounded length.
    """
    return "".join(c if c.isprintable() else "?" for c in text[:300])
