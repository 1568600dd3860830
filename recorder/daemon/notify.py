"""
Tells somebody: runs a command or calls a webhook on events that were asked for.

It can cost no frame: the loop only notes what happened; whatever takes longer happens in a task of its own, with a time
limit, and what cannot be delivered is tried again later, never waited for. What has begun and lasts is told once, and
once more when it is over; what was over before it was told is told in one line. Beyond the rate that was set, notices
are gathered into one message; of more than can be held the oldest are counted. Command and webhook are two ways, each
with what it has still to tell: one that fails neither holds up the other nor has it told twice.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from recorder.clock import monotonic_ns
from recorder.config_ops import Notify
from recorder.quality.events import channel_of, printable
from recorder.quality.state import FlowState
from recorder.records import SECOND_NS, Event

log = logging.getLogger("recorder")

LASTING = frozenset({"disconnected", "silent", "halted", "not_acknowledged", "rejected", "disk_full"})
"""Kinds that are told when they begin, if they last; the others when they have happened."""
MOST_PENDING = 200
LAUNCHER = ("/bin/sh", "-c", 'exec "$@"', "sh")
"""Before the command: whoever starts a program waits until its file was opened, on a dead disk for ever. So this one
waits in our place, and then becomes the command, word for word."""
LAUNCH_FAILED = {126: " (cannot be executed)", 127: " (not found)"}
SHOWN = 10
"""Notices a message spells out; the others are in its list."""
RETRY_S, RETRY_MAX_S = 15.0, 900.0
KILLED_S = 2.0
"""For a killed command to be gone; one that waits for a dead disk stays, and ends when the disk is back."""
GATHER_S = 2.0
"""After the first notice, for those that come with it."""

Key = tuple[str, int | None, str | None, str | None]
"""(kind, connection, symbol, channel); of a stream without its connection, which may change meanwhile."""


class Notice(msgspec.Struct, frozen=True):
    """
    One thing to tell. `began` and `over` come in pairs; `happened` stands alone.
    """

    state: Literal["began", "over", "happened"]
    kind: str
    connection: int | None
    symbol: str | None
    channel: str | None
    ts: int
    """When it began, or happened; ns."""
    lasted_s: float | None
    words: str

    def line(self) -> str:
        """
        For people.
        """
        place = " ".join(str(part) for part in (self.symbol, self.channel) if part)
        if not place and self.connection is not None:
            place = f"connection {self.connection}"
        what = f"{place}: {self.kind}" if place else self.kind
        if self.state == "over":
            return f"✓ {what} is over, after {self.lasted_s:.0f} s"
        return f"{'✗' if self.state == 'began' else '•'} {what}: {self.words}"


class Message(msgspec.Struct, frozen=True):
    """
    What a webhook or command is given, as JSON. `text` alone is enough for a chat.
    """

    text: str
    venue: str
    host: str
    run: str
    notices: list[Notice]
    left_out: int
    """Notices that could not be held until they could be told."""


class Trouble(msgspec.Struct):
    """
    Something that lasts.
    """

    since: int
    seen: int
    """Monotonic, when it was first seen."""
    words: str
    told: bool = False


class Notifier:
    """
    One process.
    """

    def __init__(
        self, settings: Notify, *, venue: str, host: str, run: Callable[[], str], credentials: str | None
    ) -> None:
        """
        Args:
            settings: of one way; if it has a command, that is it.
            venue: its label.
            host: ours.
            run: the present one's name.
            credentials: folder of secrets (`$CREDENTIALS_DIRECTORY`).
        """
        self._settings = settings
        self._venue, self._host, self._run = venue, host, run
        self._credentials = credentials
        self._troubles: dict[Key, Trouble] = {}
        self._pending: list[Notice] = []
        self._left_out = 0
        self._wake = asyncio.Event()
        self._tokens = float(settings.per_hour)
        self._tokens_at = monotonic_ns()
        self._failures = 0
        self._tls: ssl.SSLContext | None = None

    # ---- from the loop; nothing here waits

    def happened(self, event: Event) -> None:
        """
        An event of the live monitor has ended.
        """
        if not self._wanted(event.kind, event.scope) or event.kind in LASTING:
            return
        lasted_s = round((event.end - event.start) / SECOND_NS, 3)
        self._add(
            Notice(
                *("happened", event.kind, event.connection, event.symbol, event.channel),
                event.start,
                lasted_s,
                printable(event.evidence),
            )
        )

    def look(self, going_on: Iterable[tuple[Key, int, str]], now: int) -> None:
        """
        What lasts now.

        Args:
            going_on: key, since when (ns), and words.
            now: ns, of the same clock.
        """
        seen = {}
        for key, since, words in going_on:
            if self._wanted(key[0], scope_of(key)):
                seen[key] = (since, words)
        moment = monotonic_ns()
        for key in [key for key in self._troubles if key not in seen]:
            trouble = self._troubles.pop(key)
            if trouble.told:
                lasted_s = round((now - trouble.since) / SECOND_NS, 3)
                self._add(Notice("over", *key, trouble.since, lasted_s, trouble.words))
        for key, (since, words) in seen.items():
            trouble = self._troubles.setdefault(key, Trouble(since, moment, printable(words)))
            if not trouble.told and moment - trouble.seen >= self._settings.after_s * SECOND_NS:
                trouble.told = True
                self._add(Notice("began", *key, trouble.since, None, trouble.words))

    def _wanted(self, kind: str, scope: str) -> bool:
        return kind in self._settings.kinds and scope in self._settings.scopes

    def _add(self, notice: Notice) -> None:
        if notice.state == "over":
            # It began and ended before anybody was told.
            for number, before in enumerate(self._pending):
                if before.state == "began" and _place(before) == _place(notice):
                    words = f"for {notice.lasted_s:.0f} s, and is over: {before.words}"
                    self._pending[number] = msgspec.structs.replace(
                        before, state="happened", lasted_s=notice.lasted_s, words=words
                    )
                    return
        self._pending.append(notice)
        self._bound()
        self._wake.set()

    def _bound(self) -> None:
        excess = len(self._pending) - MOST_PENDING
        if excess > 0:
            del self._pending[:excess]
            self._left_out += excess

    # ---- the task

    async def run(self) -> None:
        """
        For ever; a fault in here is said, and ends nothing but this.
        """
        while True:
            try:
                await self._tell_all()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("our own fault, in notifying; recording goes on")
                await asyncio.sleep(RETRY_S)

    async def _tell_all(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            while (wait_s := self._until_allowed()) > 0:  # noqa: ASYNC110  # by the rate, not for an event
                await asyncio.sleep(wait_s)
            self._wake.clear()
            notices, self._pending = self._pending, []
            left_out, self._left_out = self._left_out, 0
            if not notices:
                continue
            self._tokens -= 1
            problem = "our own fault"
            try:
                problem = await self._deliver(self._message(notices, left_out))
            finally:
                if problem:
                    self._pending[:0] = notices
                    self._left_out += left_out
                    self._bound()
                    self._wake.set()
            if not problem:
                if self._failures:
                    log.info("notified again")
                self._failures = 0
                continue
            wait_s = min(RETRY_S * 2**self._failures, RETRY_MAX_S)
            self._failures = min(self._failures + 1, 10)
            log.warning("not notified: %s; %d notices wait, again in %.0f s", problem, len(notices), wait_s)
            await asyncio.sleep(wait_s)

    def _until_allowed(self) -> float:
        """
        Seconds until another message may go.
        """
        now = monotonic_ns()
        rate = self._settings.per_hour / 3600
        self._tokens = min(self._tokens + (now - self._tokens_at) / SECOND_NS * rate, float(self._settings.per_hour))
        self._tokens_at = now
        return max((1 - self._tokens) / rate, 0.0)

    def _message(self, notices: list[Notice], left_out: int) -> Message:
        lines = [notice.line() for notice in notices[:SHOWN]]
        more = len(notices) - SHOWN + left_out if len(notices) > SHOWN else left_out
        if more:
            lines.append(f"and {more} more")
        text = "\n".join([f"drift-recorder {self._venue} on {self._host}", *lines])
        return Message(text, self._venue, self._host, self._run(), notices, left_out)

    async def _deliver(self, message: Message) -> str:
        """
        What went wrong, without an address: that is a secret. Empty if nothing did.
        """
        body = msgspec.json.encode(message)
        return await (self._command(body) if self._settings.command else self._post(body))

    async def _command(self, body: bytes) -> str:
        name = printable(self._settings.command[0])
        try:
            process = await asyncio.create_subprocess_exec(
                *(*LAUNCHER, *self._settings.command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return f"{name}: {error.strerror or error}"
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await process.communicate(body)
        except TimeoutError:
            return f"{name}: did not end within {self._settings.timeout_s:g} s, and was killed"
        finally:
            if process.returncode is None:
                # With all it started.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, 9)
                with suppress(TimeoutError):
                    async with asyncio.timeout(KILLED_S):
                        await process.wait()
        code = process.returncode
        return f"{name}: ended with {code}{LAUNCH_FAILED.get(code, '')}" if code else ""

    async def _post(self, body: bytes) -> str:
        try:
            url = await asyncio.to_thread(self._address)
        except (OSError, UnicodeDecodeError) as error:
            words = getattr(error, "strerror", None) or "it is no text"
            return f"the credential {self._settings.url_credential!r} cannot be read: {words}"
        aiohttp = await asyncio.to_thread(_library)
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=self._tls, force_close=True), trust_env=False
                ) as session,
                session.post(
                    url, data=body, headers={"Content-Type": "application/json"}, allow_redirects=False
                ) as answer,
            ):
                return "" if 200 <= answer.status < 300 else f"the webhook answered {answer.status}"
        except TimeoutError:
            return f"the webhook did not answer within {self._settings.timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Its text may hold the address.
            return f"the webhook cannot be reached ({type(error).__name__})"

    def _address(self) -> str:
        """
        Read anew each time, so that a changed secret is taken.
        """
        if self._settings.url:
            return self._settings.url
        name = self._settings.url_credential
        if not self._credentials:
            raise FileNotFoundError(2, "there is no $CREDENTIALS_DIRECTORY", name)
        folder = Path(self._credentials)
        # Where systemd was given a folder of them it puts the folder's name before.
        found = next((path for path in (folder / name, *sorted(folder.glob(f"*_{name}"))) if path.is_file()), None)
        if found is None:
            raise FileNotFoundError(2, "it is not in $CREDENTIALS_DIRECTORY", name)
        return found.read_text(encoding="utf-8").strip()


def ways(settings: Notify) -> list[Notify]:
    """
    Those that are configured, each for a notifier of its own; none where nobody is told of anything.
    """
    if not settings.kinds:
        return []
    webhook = msgspec.structs.replace(settings, command=())
    command = msgspec.structs.replace(settings, url="", url_credential="")
    return [way for way in (webhook, command) if way.command or way.url or way.url_credential]


def _place(notice: Notice) -> Key:
    return notice.kind, notice.connection, notice.symbol, notice.channel


def scope_of(key: Key) -> str:
    """
    What a trouble concerns.
    """
    _, connection, symbol, _ = key
    return "stream" if symbol is not None else "connection" if connection is not None else "recorder"


def troubles(
    flows: Iterable[FlowState], lines: Iterable[tuple[int, int, str]], *, disk_full: int
) -> list[tuple[Key, int, str]]:
    """
    What lasts now, as far as the live monitor knows.

    Args:
        flows: of the present run.
        lines: of each connection that is down and needed: index, since when, why.
        disk_full: since when capture is stopped for want of space; 0: it is not.
    """
    found: list[tuple[Key, int, str]] = []
    if disk_full:
        found.append((("disk_full", None, None, None), disk_full, "the disk is full: nothing is recorded"))
    down = set()
    for connection, since, why in lines:
        down.add(connection)
        found.append((("disconnected", connection, None, None), since, why))
    halted: dict[int, int] = {}
    for flow in flows:
        if flow.connection in down:
            continue
        # Without its connection: a silence that moves to probation is one.
        place = (None, flow.stream.symbol, channel_of(flow.stream))
        if flow.refusal is not None:
            found.append(((flow.refusal.kind, *place), flow.refusal.start, flow.refusal.evidence))
        elif flow.halted:
            halted[flow.connection] = min(halted.get(flow.connection, flow.last), flow.last)
        elif flow.silent:
            found.append((("silent", *place), flow.last or flow.since, "brings no book"))
    words = "no market brings a book, though heartbeats come"
    found += [(("halted", connection, None, None), since, words) for connection, since in halted.items()]
    return found


def _library() -> Any:  # noqa: ANN401  # a module
    import aiohttp  # noqa: PLC0415

    return aiohttp
