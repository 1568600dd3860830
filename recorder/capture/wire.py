"""
One websocket: how it is opened, what a hostile peer may not do to us through it, and why it ended or never began.

The library bounds one message; what many small ones inflate to, and how many pings come, nobody bounds but us. Both
limits leak, so that what is only unusual (a frozen market compresses 80 times) passes at the speed of a normal feed.

Over TLS the certificate is always verified: nothing here, and no setting, turns that off.
"""

import asyncio
import os
import ssl
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, ProxyError
from websockets.frames import Frame
from websockets.protocol import Event

from recorder.capture.pins import PinMismatch, chain_of, check_pins
from recorder.quality.events import printable
from recorder.records import Cause
from recorder.venue.protocol import CLOSE_POLICY, CLOSE_UNSUPPORTED

CLOSE_TIMEOUT_S = 0.8
"""For the closing handshake, either way; then the transport is cut."""
INFLATION_LIMIT = 64
"""Books compress 6 to 16 times; what comes out beyond this multiple of what came in fills the bucket."""
INFLATION_BUCKET_BYTES = 1 << 20
INFLATION_LEAK_BYTES_S = 4 << 20
"""Four times all of Drift: slower than this, a bomb is only a feed."""
CONTROL_BUCKET = 1000
CONTROL_LEAK_S = 100
"""Pings and pongs; the venue sends no pings, and a pong for each of ours."""
SLICE_BYTES = 16 << 10
"""The library inflates all it is handed before it looks at its queue: 1000 times, at worst."""

_OLD_TLS = frozenset({"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "WRONG_SSL_VERSION"})


_UNSAID = "the other side hung up during the handshake, without a word"
"""Of asyncio's own resets: they have neither a number nor a text."""


class ClientSettings(msgspec.Struct, frozen=True):
    """
    Limits of the sockets; see `config.py` for what they mean.
    """

    open_timeout_s: float = 10.0
    max_frame_bytes: int = 4 << 20
    max_queue: int = 1024
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    compression: bool = True
    pins: tuple[str, ...] = ()
    """SHA-256 of public keys, base64; the venue's certificate chain must hold one of them. None: any that is valid."""
    proxy: str = ""
    """`http://host:port` to tunnel through; empty: none, whatever the environment says."""


class Wire(ClientConnection):
    """
    A connection that cuts itself off from a peer that floods us.
    """

    fault: str = ""
    """Why it cut itself off; empty if it did not."""
    _excess = 0.0
    _controls = 0.0
    _wire_bytes = 0
    """Of messages that are not whole yet."""
    _inflated = 0
    _checked: float | None = None

    def data_received(self, data: bytes) -> None:
        """
        Hand a chunk on in slices, as long as what comes out of them is in proportion.
        """
        for at in range(0, len(data), SLICE_BYTES):
            if self.fault:
                return
            part = data[at : at + SLICE_BYTES]
            self._wire_bytes += len(part)
            super().data_received(part)
            if self._inflated or self._controls:
                self._weigh()

    def process_event(self, event: Event) -> None:
        """
        Count what came out.
        """
        if isinstance(event, Frame):
            if event.opcode < 8:
                self._inflated += len(event.data)
            else:
                self._controls += 1
        super().process_event(event)

    def _weigh(self) -> None:
        now = self.loop.time()
        passed_s = now - self._checked if self._checked is not None else 0.0
        self._checked = now
        self._controls = max(self._controls - CONTROL_LEAK_S * passed_s, 0)
        if self._inflated:
            out, came = self._inflated, self._wire_bytes
            self._inflated = self._wire_bytes = 0
            self._excess = max(self._excess + out - INFLATION_LIMIT * came - INFLATION_LEAK_BYTES_S * passed_s, 0)
            if self._excess > INFLATION_BUCKET_BYTES:
                self._cut(f"a compression bomb: {out} bytes out of {came}")
        if self._controls > CONTROL_BUCKET:
            self._cut(f"a flood of pings: {self._controls:.0f} at once")

    def _cut(self, why: str) -> None:
        self.fault = why
        self.transport.abort()


class _Connect(connect):
    """
    The library would follow redirects, to any host: what the configuration names is what we record, and nothing else.
    """

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def verifying() -> ssl.SSLContext:
    """
    TLS as it is used: the chain and the host's name are verified, and nothing older than 1.2 is spoken.
    """
    context = ssl.create_default_context()
    # As the default is, said here because a distribution's settings could lower it.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def open_wire(url: str, settings: ClientSettings, ssl_context: ssl.SSLContext | None = None) -> Wire:
    """
    Connect and shake hands.

    Args:
        url: `wss://…`, or `ws://…` where the configuration allows it.
        settings: limits, key pins, proxy.
        ssl_context: for tests with a CA of their own; by default `verifying`.

    Raises:
        Exception: many kinds, of the system, TLS and the library; `explain` puts them into words.
    """
    secure = url.startswith("wss:")
    arguments: dict[str, Any] = {"ssl": ssl_context or verifying()} if secure else {}
    socket = await _Connect(
        url,
        compression="deflate" if settings.compression else None,
        # Never True, its default: the library would read proxy variables of whatever environment it runs in.
        proxy=settings.proxy or None,
        open_timeout=settings.open_timeout_s,
        ping_interval=settings.ping_interval_s,
        ping_timeout=settings.ping_timeout_s,
        close_timeout=CLOSE_TIMEOUT_S,
        max_size=settings.max_frame_bytes,
        max_queue=settings.max_queue,
        create_connection=Wire,
        **arguments,
    )
    assert isinstance(socket, Wire)
    if settings.pins:
        # Nothing has been asked for yet, and nothing that came has been looked at.
        try:
            check_pins(settings.pins, chain_of(socket.transport))
        except PinMismatch:
            socket.transport.abort()
            raise
    return socket


def compressed(socket: ClientConnection) -> bool:
    """
    Whether the venue agreed to compression.
    """
    return bool(socket.protocol.extensions)


def blame(code: int | None, socket: ClientConnection) -> tuple[Cause, str]:
    """
    Cause and words for a connection that the other side, or the network, ended.
    """
    if code == CLOSE_UNSUPPORTED:
        return "recorder", "the venue refused a request as malformed"
    if code == CLOSE_POLICY:
        return "recorder", "the venue says we read too slowly"
    if code is not None:
        return "venue", "the venue closed the connection"
    ours = socket.protocol.close_sent
    if ours is not None and ours.code not in {1000, 1001}:
        # The library failed the connection: a ping without pong, a frame too large, a broken frame.
        return ("network" if ours.code == 1011 else "venue"), printable(f"we gave up on it: {ours.code} {ours.reason}")
    return "network", "the connection broke without a close frame"


def explain(error: BaseException, open_timeout_s: float) -> tuple[Cause, str]:
    """
    Cause and one line of words for a connect that failed.
    """
    match error:
        case ConnectionRefusedError():
            return "network", "connection refused: nothing listens there"
        case TimeoutError():
            return "network", f"no websocket within {open_timeout_s:g} s"
        case ssl.SSLCertVerificationError():
            return "venue", f"the certificate does not hold: {printable(error.verify_message)}"
        case PinMismatch():
            return "venue", str(error)
        case ssl.SSLError() if error.reason in _OLD_TLS:
            return "venue", f"the server speaks no TLS of 1.2 or later: {printable(error.reason)}"
        case ssl.SSLError():
            return "network", f"TLS failed: {printable(error.reason or str(error))}"
        case ProxyError():
            return "network", f"the proxy of venue.proxy did not let us through: {printable(str(error))}"
        case InvalidStatus():
            target = error.response.headers.get("Location")
            moved = f", which points to {printable(target)}; redirects are not followed" if target else ""
            return "venue", f"HTTP {error.response.status_code} instead of a websocket{moved}"
        case InvalidMessage():
            return "venue", "no valid HTTP answer; the other side may not be a web server, or hung up"
        case InvalidHandshake():
            return "venue", f"not a websocket handshake: {printable(str(error))}"
        case asyncio.IncompleteReadError() | EOFError():
            return "network", "the connection ended during the handshake"
        case OSError():
            # asyncio's own texts name every address it tried.
            words = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror
            return "network", printable(words or str(error) or _UNSAID)
    return "recorder", printable(f"our own fault: {type(error).__name__}: {error}")
