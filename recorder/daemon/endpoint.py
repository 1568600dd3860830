"""
A small HTTP server in the recorder: `/metrics`, `/healthz`, `/readyz`, `/status`. GET only, on loopback unless told.

It must never cost a frame: whatever happens to it, recording goes on. Its library is imported on a thread, after the
recording has begun; a port that is taken is said once and tried again; a client has a few seconds and one request, and
there are at most a few clients.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from recorder.config_ops import split_listen
from recorder.config_values import is_loopback
from recorder.daemon.watch import Watch
from recorder.quality.events import printable

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("recorder")

CLIENTS = 16
CLIENT_S = 10.0
"""From connect to the end; a client that drips its request, or does not read, is cut."""
ANSWER_S = 5.0
RETRY_S = 5.0
MAX_LINE = 4096

_json = msgspec.json.Encoder()


class Endpoint:
    """
    One address.
    """

    def __init__(self, listen: str, watch: Watch) -> None:
        """
        Args:
            listen: `HOST:PORT`, checked; port 0 for any.
            watch: what is told.
        """
        self._host, self._port = split_listen(listen)
        self._watch = watch
        self._open = 0
        self.address: tuple[str, int] | None = None
        """Where it listens, once it does."""

    async def run(self) -> None:
        """
        For ever; a fault in here is said, and ends nothing but this.
        """
        try:
            await self._serve()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("the endpoint for metrics and health failed; recording goes on without it")
        await asyncio.Event().wait()

    async def _serve(self) -> None:
        # Some hundred modules: in the loop's thread they would be a tenth of a second without a look at the sockets.
        web = await asyncio.to_thread(_library)
        # It logs what clients do wrong, with a traceback each time.
        logging.getLogger("aiohttp").setLevel(logging.CRITICAL + 1)
        app = web.Application()
        for path, handler in (
            ("/metrics", self._metrics),
            ("/healthz", self._healthz),
            ("/readyz", self._readyz),
            ("/status", self._status),
        ):
            app.router.add_get(path, self._guarded(web, handler), allow_head=False)
        app.on_response_prepare.append(_one_request_each)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, max_line_size=MAX_LINE, max_field_size=MAX_LINE
        )
        await runner.setup()
        server = None
        try:
            server = await self._listen(runner)
            sockets = server.sockets
            self.address = sockets[0].getsockname()[:2]
            log.info("metrics, health and status at http://%s:%d", *_shown(*self.address))
            await asyncio.Event().wait()
        finally:
            if server is not None:
                server.close()
            await runner.cleanup()

    async def _listen(self, runner: "web.AppRunner") -> asyncio.Server:
        """
        Take the address, however long somebody else has it: at an upgrade that is the recorder before this one.
        """
        loop = asyncio.get_running_loop()
        told = ""
        while True:
            try:
                return await loop.create_server(lambda: self._client(runner), self._host, self._port, backlog=CLIENTS)
            except OSError as error:
                words = os.strerror(error.errno) if error.errno is not None else str(error)
                if words != told:
                    told = words
                    hint = "; does another recorder have it?" if error.errno == errno.EADDRINUSE else ""
                    log.error(  # noqa: TRY400  # an expected outcome: no traceback
                        "no metrics, health and status: %s:%d: %s%s It is tried again each %g s; recording goes on. "
                        'Give `[metrics] listen` another port, or "" for none',
                        *_shown(self._host, self._port),
                        words,
                        hint,
                        RETRY_S,
                    )
                await asyncio.sleep(RETRY_S)

    def _client(self, runner: "web.AppRunner") -> asyncio.BaseProtocol:
        """
        One more, if there are not too many.
        """
        if self._open >= CLIENTS or runner.server is None:
            return _Refused()
        self._open += 1
        return _Limited(runner.server(), self._client_left)

    def _client_left(self) -> None:
        self._open -= 1

    def _guarded(
        self,
        web: Any,  # noqa: ANN401  # a module
        handler: Callable[[], Awaitable[tuple[int, str, bytes]]],
    ) -> Callable[["web.Request"], Awaitable["web.StreamResponse"]]:
        async def answer(request: "web.Request") -> "web.StreamResponse":
            if not self._is_ours(request.host):
                # A page in somebody's browser may have had its name pointed at us.
                return web.Response(status=403, text="this name is not the recorder's: ask by its address\n")
            try:
                async with asyncio.timeout(ANSWER_S):
                    status, kind, body = await handler()
            except Exception as error:
                if not isinstance(error, TimeoutError):
                    log.exception("our own fault, in answering %s; recording goes on", request.path)
                    return web.Response(status=500, text="our own fault: see the log\n")
                return web.Response(status=503, text=f"no answer within {ANSWER_S:g} s: is the disk stuck?\n")
            headers = {
                "Server": "drift-recorder",
                "Content-Type": kind,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
            }
            return web.Response(status=status, body=body, headers=headers)

        return answer

    def _is_ours(self, host: str) -> bool:
        if not is_loopback(self._host):
            return True
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        return name.casefold() == "localhost" or is_loopback(name.strip("[]"))

    # ---- answers

    async def _metrics(self) -> tuple[int, str, bytes]:
        from recorder.daemon.metrics import exposition  # noqa: PLC0415  # with the other library, on its thread

        look = await self._watch.look()
        return 200, "text/plain; version=0.0.4; charset=utf-8", await asyncio.to_thread(exposition, look)

    @staticmethod
    async def _healthz() -> tuple[int, str, bytes]:
        """
        The event loop runs: that is all it says.
        """
        return 200, "text/plain; charset=utf-8", b"alive\n"

    async def _readyz(self) -> tuple[int, str, bytes]:
        status = (await self._watch.look()).status
        if status.ready:
            return 200, "text/plain; charset=utf-8", f"ready: {len(status.streams)} streams are recorded\n".encode()
        lines = "".join(f"{printable(problem)}\n" for problem in status.problems)
        return 503, "text/plain; charset=utf-8", f"not ready:\n{lines}".encode()

    async def _status(self) -> tuple[int, str, bytes]:
        look = await self._watch.look()
        return 200, "application/json", await asyncio.to_thread(_json.encode, look.status)


class _Refused(asyncio.Protocol):
    """
    One client too many.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Goodbye.
        """
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class _Limited(asyncio.Protocol):
    """
    A client's protocol, with an end.
    """

    def __init__(self, inner: asyncio.Protocol, left: Callable[[], None]) -> None:
        self._inner = inner
        self._left = left
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        From here on it has so many seconds.
        """
        assert isinstance(transport, asyncio.Transport)
        self._limit = asyncio.get_running_loop().call_later(CLIENT_S, transport.abort)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Make room.
        """
        if self._limit is not None:
            self._limit.cancel()
        self._left()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """
        Hand on.
        """
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """
        Hand on.
        """
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """
        Hand on.
        """
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """
        Hand on.
        """
        self._inner.resume_writing()


async def _one_request_each(_: object, response: "web.StreamResponse") -> None:
    response.force_close()


def _library() -> Any:  # noqa: ANN401  # a module
    from aiohttp import web  # noqa: PLC0415

    import recorder.daemon.metrics  # noqa: F401, PLC0415  # its library as well

    return web


def _shown(host: str, port: int) -> tuple[str, int]:
    return (f"[{host}]" if ":" in host else host), port
