"""
The page's HTTP server: a few fixed paths, GET only, and one stream of events for each browser that looks.

* It listens on loopback. Elsewhere only when told so in words: there is neither password nor encryption.
* A request must name a host we are: a page from elsewhere cannot have a browser read ours by rebinding a name.
* Nothing is loaded from anywhere else; the content policy says so to the browser.
* The journal is read by one task for all who look, lake and disk are asked on threads, and nobody waits for them: on a
  disk that hangs the present goes on. Nobody looking, nothing is asked of the lake.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from recorder import __version__
from recorder.analysis.published import read_root
from recorder.clock import wall_ns
from recorder.errors import RecorderError
from recorder.lake.layout import JOURNAL
from recorder.page.follow import BEFORE_NS, Follower
from recorder.page.past import calendar, disk
from recorder.page.view import View
from recorder.records import SECOND_NS

log = logging.getLogger("recorder.page")

EXPOSE_WORDS = "I accept that anybody who reaches this port can look"
READ_S = 0.25
CATCHING_UP = 2000
"""Entries in one read: so many are of the past, and more may be waiting."""
PUSH_S = 0.5
SPARKS_S = 5.0
DISK_S = 15.0
CALENDAR_S = 60.0
SEND_S = 10.0
"""For a browser to take what it is sent; one that sleeps is let go and comes back by itself."""
LOOKERS = 32
"""Browsers at one time."""
LOCAL = ("localhost", "127.0.0.1", "::1")
ASSETS = {"/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css")}
ASSETS |= {f"/{name}.js": (f"{name}.js", "text/javascript") for name in ("page", "draw")}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Server": "drift-recorder",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refuse_exposure(host: str, words: str) -> None:
    """
    Make sure that a bind to other machines was meant.

    Raises:
        RecorderError: it is no loopback address, and the words were not said.
    """
    loopback = host == "localhost"
    with suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if not loopback and words != EXPOSE_WORDS:
        raise RecorderError(
            f"--host {host} would show the page to other machines, without password or encryption; leave it on "
            f'127.0.0.1 and use `ssh -L`, or add --expose "{EXPOSE_WORDS}"'
        )


class Page:
    """
    What is known at the moment, kept up for all who look.
    """

    def __init__(self, root: Path, *, hosts: tuple[str, ...] = ()) -> None:
        """
        Args:
            root: of the data.
            hosts: names and addresses that a request may be made to, beside loopback's.

        Raises:
            RootError: not a recorder's data root.
            RecorderError: it is of a network that this version does not know.
        """
        binding = read_root(root)
        try:
            self.view = View(binding.network)
        except ValueError as error:
            raise RecorderError(f"{root}: {error}; upgrade") from None
        self._about = {"venue": binding.venue, "network": binding.network, "root": str(root), "page": __version__}
        self._root = root
        self._hosts = {host.lower() for host in (*LOCAL, *hosts)}
        self._lookers = 0
        self._calendar: dict[str, Any] = {}
        self._calendar_at = 0
        self._disk: dict[str, Any] = {}
        self._disk_at = 0
        self._stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    def application(self) -> web.Application:
        """
        For aiohttp to run.
        """
        application = web.Application(middlewares=[self._guarded], client_max_size=1024)
        for path, (name, kind) in ASSETS.items():
            application.router.add_get(path, _asset(name, kind))
        application.router.add_get("/events", self._events)
        application.cleanup_ctx.append(self._following)
        application.on_shutdown.append(self._end)
        return application

    # ---- guard

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if _named_host(request.headers.get("Host", "")) not in self._hosts:
            response: web.StreamResponse = web.Response(
                status=421, text="This page answers to localhost only; others are named with --allow-host.\n"
            )
        elif request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"} and request.path != "/":
            response = web.Response(status=403, text="Not for other sites.\n")
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.Response(status=error.status, text=f"{error.reason}\n")
                if "Allow" in error.headers:
                    response.headers["Allow"] = error.headers["Allow"]
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    # ---- what is kept up

    async def _following(self, _: web.Application) -> Any:  # noqa: ANN401  # an async generator, as aiohttp wants it
        reading = asyncio.create_task(self._follow(), name="follow")
        yield
        tasks = [reading, *([self._asking] if self._asking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, _: web.Application) -> None:
        self._stopping.set()

    async def _follow(self) -> None:
        view = self.view
        while True:
            follower = Follower(self._root / JOURNAL, now=wall_ns())
            try:
                await self._read_on(follower, view)
                log.info("%s: the last minutes are read anew", view.overtaken)
                words = f"what is told here was judged anew, from {BEFORE_NS // SECOND_NS} s before this on"
                anew = View(self._about["network"])
                anew.note(wall_ns(), f"{view.overtaken}: {words}")
                view = anew
            except Exception:
                # What is shown is a convenience, but it must not stand still unnoticed for ever.
                log.exception("the journal could not be followed; begun anew")
                view = self.view = View(self._about["network"])
            finally:
                follower.close()
            await asyncio.sleep(SPARKS_S)

    async def _read_on(self, follower: Follower, view: View) -> None:
        """
        Keep a view up, and show it once it has all there is; until it is overtaken.
        """
        while not view.overtaken:
            batch = await asyncio.to_thread(follower.read)
            for header in batch.headers:
                view.adopt(header)
            for begin in range(0, len(batch.entries) or 1, 500):
                view.take(batch.entries[begin : begin + 500], batch.whole)
                await asyncio.sleep(0)
            if len(batch.entries) < CATCHING_UP:
                self.view = view
                self._ready.set()
                await asyncio.sleep(READ_S)

    def _refresh(self) -> None:
        """
        Have calendar and disk asked again if they are old, once for all who look.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="past")

    async def _ask(self) -> None:
        now = wall_ns()
        if now - self._disk_at > DISK_S * 1e9:
            with suppress(OSError):
                self._disk = await asyncio.to_thread(disk, self._root, now=now)
            self._disk_at = now
        if now - self._calendar_at > CALENDAR_S * 1e9:
            try:
                self._calendar = await asyncio.to_thread(calendar, self._root, now=now)
            except Exception:
                log.exception("the lake could not be looked at; it is tried again in a minute")
                return
            finally:
                self._calendar_at = now

    # ---- one browser

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._lookers >= LOOKERS:
            return web.Response(status=503, text=f"{LOOKERS} browsers look already.\n")
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        chosen = request.query.get("market")
        self._lookers += 1
        try:
            await self._tell(response, chosen)
        except (ConnectionError, TimeoutError):
            pass  # it is gone
        finally:
            self._lookers -= 1
        return response

    async def _tell(self, response: web.StreamResponse, chosen: str | None) -> None:
        loop = asyncio.get_running_loop()
        await self._ready.wait()
        await _send(response, "about", self._about)
        sparks_at, told = 0.0, (0, 0)
        while not self._stopping.is_set():
            await _send(response, "now", self.view.picture(wall_ns(), chosen))
            if loop.time() - sparks_at >= SPARKS_S:
                sparks_at = loop.time()
                await _send(response, "sparks", self.view.sparks())
            self._refresh()
            if told[0] != self._disk_at:
                await _send(response, "disk", self._disk)
            if told[1] != self._calendar_at and self._calendar:
                await _send(response, "calendar", self._calendar)
            told = self._disk_at, self._calendar_at
            with suppress(TimeoutError):
                async with asyncio.timeout(PUSH_S):
                    await self._stopping.wait()


async def _send(response: web.StreamResponse, event: str, value: dict[str, Any]) -> None:
    async with asyncio.timeout(SEND_S):
        await response.write(b"event: %b\ndata: %b\n\n" % (event.encode(), msgspec.json.encode(value)))


def _asset(name: str, kind: str) -> _Handler:
    body = resources.files("recorder.page").joinpath("assets", name).read_bytes()

    async def give(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return give


def _named_host(header: str) -> str:
    """
    The host of a Host header, without its port and brackets.
    """
    host = header.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


async def serve(page: Page, *, host: str, port: int, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """
    Show the page until `stop`.

    Args:
        page: what to show.
        host: address to listen on; see `refuse_exposure`.
        port: 0 for any free one.
        ready: told the page's address.
        stop: set to end it.

    Raises:
        OSError: the address cannot be had.
    """
    runner = web.AppRunner(page.application(), access_log=None, shutdown_timeout=2, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=64)
        await site.start()
        address = runner.addresses[0]
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        ready(f"http://{shown}:{address[1]}/")
        await stop.wait()
    finally:
        await runner.cleanup()
