"""
TLS that does not hold: refused, said clearly, tried again, never gone without. Real sockets, real certificates.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import os
import re
import ssl
import subprocess
import sys

import polars as pl
import pytest
import trustme
from children import PROJECT
from peers import frame, listening, relayed, shake_hands

from loopback import config_text, entries, facts, recording, until
from recorder.analysis import Lake
from recorder.capture.pins import pin_of
from recorder.lake.sealing import seal
from recorder.records import Connected, ConnectFailed, EntryKind

EXTRA = "[capture]\nreconnect_first_s = 0.2\n"
PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class Side:
    """
    A venue with a certificate, and what it saw.
    """

    def __init__(self, certificate: trustme.LeafCert) -> None:
        self.context: ssl.SSLContext | None = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self.context)
        self.requests: list[dict[str, str]] = []
        """Headers of the handshakes that got through."""

    async def behave(self, reader, writer):
        """
        A heartbeat, and then silence.
        """
        self.requests.append(await shake_hands(reader, writer))
        writer.write(frame(b'{"channel":"heartbeat"}'))
        await reader.read()


class OldSide(Side):
    """
    One that speaks nothing later than TLS 1.1. By hand, since asyncio's servers hang up without the alert.
    """

    def __init__(self, certificate: trustme.LeafCert) -> None:
        super().__init__(certificate)
        self._old, self.context = self.context, None
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            self._old.minimum_version = self._old.maximum_version = ssl.TLSVersion.TLSv1_1
        self._old.set_ciphers("ALL:@SECLEVEL=0")

    async def behave(self, reader, writer):
        """
        The handshake, as far as it goes.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._old.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            incoming.write(await reader.read(1 << 14))
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            finally:
                writer.write(outgoing.read())
                await writer.drain()
            break


@contextlib.asynccontextmanager
async def watched(port):
    """
    A relay before a server, which notes how each connection begins.
    """
    beginnings = []

    async def relay(reader, writer):
        first = await reader.read(5)
        beginnings.append(first)
        await relayed(reader, writer, port, first)

    async with listening(relay) as front:
        yield front, beginnings


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """
    An authority that this machine trusts, as OpenSSL is told of one.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


def refused(tmp_path, side, words, caplog, extra=EXTRA, *, venue=""):
    """
    Two attempts at a server that must not be recorded; everything that must hold of them.
    """
    root = tmp_path / "root"
    caplog.set_level(logging.WARNING)

    async def scenario():
        async with listening(side.behave, tls=side.context) as port, watched(port) as (front, beginnings):
            text = config_text(f"wss://127.0.0.1:{front}/ws", root, extra)
            text = text.replace("[markets]", f"{venue}\n[markets]")
            async with recording(root, text=text):
                await until(lambda: len(facts(root, ConnectFailed)) >= 2, 20)
            return beginnings

    beginnings = asyncio.run(scenario())

    first, second = facts(root, ConnectFailed)[:2]
    assert words in first.error
    assert first.error == second.error
    assert (first.cause, second.attempt) == ("venue", 2)
    assert facts(root, Connected) == []
    assert [e for e in entries(root) if e.kind == EntryKind.FRAME] == []
    # A TLS record of a handshake, each time: nothing was ever said in the clear. (The last may have been given up.)
    assert len(beginnings) >= 2
    assert {beginning[:2] for beginning in beginnings if beginning} == {b"\x16\x03"}
    assert any(words in record.getMessage() and "again in" in record.getMessage() for record in caplog.records)
    seal(root, open_hour=True)
    told = Lake(root).quality().filter(pl.col("kind") == "connect_failed").collect()
    assert told["cause"].unique().to_list() == ["venue"]
    assert all(words in evidence for evidence in told["evidence"])


def test_a_certificate_of_another_host_is_refused(tmp_path, trusted, caplog):
    """
    A trusted authority vouches for somebody, but not for whom we asked.
    """
    refused(
        tmp_path, Side(trusted.issue_cert("elsewhere.example")), "the certificate does not hold: IP address", caplog
    )


def test_an_expired_certificate_is_refused(tmp_path, trusted, caplog):
    """
    By the date of this machine.
    """
    certificate = trusted.issue_cert("127.0.0.1", not_before=PAST - dt.timedelta(days=90), not_after=PAST)

    refused(tmp_path, Side(certificate), "the certificate does not hold: certificate has expired", caplog)


def test_a_certificate_of_a_foreign_authority_is_refused(tmp_path, trusted, caplog):
    """
    Whatever it says of itself.
    """
    certificate = trustme.CA().issue_cert("127.0.0.1")

    refused(tmp_path, Side(certificate), "the certificate does not hold: ", caplog)


def test_an_old_version_of_tls_is_refused(tmp_path, trusted, caplog):
    """
    TLS 1.1 with a good certificate is no TLS.
    """
    side = OldSide(trusted.issue_cert("127.0.0.1"))

    refused(tmp_path, side, "the server speaks no TLS of 1.2 or later", caplog)


def test_a_valid_certificate_without_a_pinned_key_is_refused(tmp_path, trusted, caplog):
    """
    An authority that was deceived is not enough, and nothing is asked of such a server.
    """
    certificate = trusted.issue_cert("127.0.0.1")
    side = Side(certificate)
    pins = f'pins = ["{"A" * 43}=", "{"B" * 43}="]'

    refused(tmp_path, side, "none of the keys in venue.pins is in the venue's certificate chain", caplog, venue=pins)

    own = pin_of(ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode()))
    assert own in facts(tmp_path / "root", ConnectFailed)[0].error


@pytest.mark.parametrize("pinned", ["its own", "its authority's"])
def test_a_pinned_key_is_accepted(tmp_path, trusted, pinned):
    """
    Of the server, or of an authority above it; beside a backup that nobody has yet.
    """
    certificate = trusted.issue_cert("127.0.0.1")
    side = Side(certificate)
    pem = certificate.cert_chain_pems[0] if pinned == "its own" else trusted.cert_pem
    pin = pin_of(ssl.PEM_cert_to_DER_cert(pem.bytes().decode()))
    root = tmp_path / "root"

    async def scenario():
        async with listening(side.behave, tls=side.context) as port:
            text = config_text(f"wss://127.0.0.1:{port}/ws", root, EXTRA)
            text = text.replace("[markets]", f'pins = ["{"A" * 43}=", "{pin}"]\n[markets]')
            async with recording(root, text=text):
                await until(lambda: [e for e in entries(root) if e.kind == EntryKind.FRAME])

    asyncio.run(scenario())

    assert len(facts(root, Connected)) == len(side.requests) == 1
    assert facts(root, ConnectFailed) == []


ASKED = """
from recorder.capture.wire import verifying
context = verifying()
print(context.verify_mode.name, context.check_hostname, context.minimum_version.name)
"""
LOWERED = """openssl_conf = conf
[conf]
ssl_conf = ssl
[ssl]
system_default = lowered
[lowered]
MinProtocol = TLSv1
VerifyMode = None
"""


def test_neither_the_machine_nor_a_setting_takes_verification_off(tmp_path):
    """
    Whatever OpenSSL is told to be content with by the distribution; and nothing in the code could ask for less.
    """
    (tmp_path / "openssl.cnf").write_text(LOWERED)
    told = subprocess.run(
        [sys.executable, "-c", ASKED],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "OPENSSL_CONF": str(tmp_path / "openssl.cnf")},
        capture_output=True,
        text=True,
    )

    assert told.stdout.split() == ["CERT_REQUIRED", "True", "TLSv1_2"], told.stderr
    less = re.compile(r"CERT_NONE|CERT_OPTIONAL|check_hostname|_unverified|verify_mode|ssl\s*=\s*False|verify_ssl")
    assert [path.name for path in (PROJECT / "recorder").rglob("*.py") if less.search(path.read_text())] == []


# ---- proxies


class ConnectProxy:
    """
    An HTTP proxy that tunnels, and notes where to.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def behave(self, reader, writer):
        """
        CONNECT, and bytes.
        """
        request = await reader.readuntil(b"\r\n\r\n")
        target = request.split()[1].decode()
        self.asked.append(target)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await relayed(reader, writer, int(target.partition(":")[2]))


@pytest.mark.parametrize("configured", [False, True], ids=["by the environment", "by the configuration"])
def test_a_proxy_is_followed_only_if_configured(tmp_path, trusted, monkeypatch, configured):
    """
    Whoever sets a variable in some shell must not read along; through a proxy the certificate is verified as well.
    """
    side, proxy = Side(trusted.issue_cert("127.0.0.1")), ConnectProxy()
    root = tmp_path / "root"

    async def scenario():
        async with listening(proxy.behave) as way, listening(side.behave, tls=side.context) as port:
            for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY", "wss_proxy", "ws_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{way}")
            monkeypatch.delenv("no_proxy", raising=False)
            text = config_text(f"wss://127.0.0.1:{port}/ws", root, EXTRA)
            if configured:
                text = text.replace("[markets]", f'proxy = "http://127.0.0.1:{way}"\n[markets]')
            async with recording(root, text=text):
                await until(lambda: [e for e in entries(root) if e.kind == EntryKind.FRAME])
            return port

    port = asyncio.run(scenario())

    assert proxy.asked == ([f"127.0.0.1:{port}"] if configured else [])
    assert len(side.requests) == 1


@pytest.mark.parametrize("target", ["ws://127.0.0.1:{}/ws", "wss://localhost:{}/ws", "https://localhost:{}/ws"])
def test_a_redirect_is_not_followed(tmp_path, trusted, target):
    """
    To another host or without TLS: what the configuration names is what is recorded, or nothing.
    """
    elsewhere = Side(trusted.issue_cert("localhost", "127.0.0.1"))
    root = tmp_path / "root"
    context = Side(trusted.issue_cert("127.0.0.1")).context

    async def scenario():
        async with listening(elsewhere.behave) as other:

            async def redirect(reader, writer):
                await reader.readuntil(b"\r\n\r\n")
                place = target.format(other)
                writer.write(f"HTTP/1.1 301 Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()

            async with (
                listening(redirect, tls=context) as port,
                recording(root, text=config_text(f"wss://127.0.0.1:{port}/ws", root, EXTRA)),
            ):
                await until(lambda: len(facts(root, ConnectFailed)) >= 2)

    asyncio.run(scenario())

    assert elsewhere.requests == []
    assert "redirects are not followed" in facts(root, ConnectFailed)[0].error
