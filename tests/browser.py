"""
A real Chromium without a screen, led over its DevTools protocol, for tests of pages.
"""

import asyncio
import base64
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
START_S = 60.0


def missing() -> str:
    """
    Why there is no browser here; empty if there is one.
    """
    return "" if shutil.which("chromium") else "not installed: chromium"


class Tab:
    """
    One page in it.
    """

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []
        """Errors and warnings of its console, exceptions, and what it failed to load."""
        self.requests: list[str] = []
        """Addresses of everything it asked for."""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if told.get("id") in self._waiting:
                self._waiting.pop(told["id"]).set_result(told)
                continue
            about = told.get("params", {})
            match told.get("method"):
                case "Network.requestWillBeSent":
                    self.requests.append(about["request"]["url"])
                case "Runtime.exceptionThrown":
                    self.complaints.append(str(about["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if about["type"] in {"error", "warning", "assert"}:
                    self.complaints.append(str(about["args"]))
                case "Log.entryAdded" if about["entry"]["level"] in {"error", "warning"}:
                    self.complaints.append(str(about["entry"]))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """
        A command of the protocol; its result.
        """
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(START_S):
            told = await answer
        assert "error" not in told, (method, told)
        result: dict[str, Any] = told["result"]
        return result

    async def ask(self, expression: str) -> Any:
        """
        The value of an expression in the page.
        """
        told = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression: str, within_s: float = 30.0) -> None:
        """
        Wait until an expression is true.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not await self.ask(expression):
            if loop.time() > deadline:
                shown = await self.ask("document.body ? document.body.innerText : ''")
                raise AssertionError(f"not true within {within_s:g} s: {expression}; the page says:\n{shown}")
            await asyncio.sleep(0.1)

    async def look(self, *, width: int, height: int, scheme: str = "light", phone: bool = False) -> None:
        """
        Be a screen of this size and taste.
        """
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        await self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def picture(self, path: Path, *, whole: bool = False) -> None:
        """
        A PNG of what is seen, or of the whole page.
        """
        told = await self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(  # noqa: ASYNC240  # nobody else waits here
            base64.b64decode(told["data"])
        )

    async def close(self) -> None:
        """
        Stop listening to it.
        """
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


@asynccontextmanager
async def browser(url: str) -> AsyncIterator[Tab]:
    """
    A new browser that has opened a page, with everything the page says from its first line on.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *("chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [page for page in await answer.json() if page["type"] == "page"]
                async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=64 << 20) as socket:
                    tab = Tab(socket)
                    for domain in ("Runtime", "Log", "Page", "Network"):
                        await tab.send(f"{domain}.enable")
                    await tab.send("Page.navigate", url=url)
                    try:
                        yield tab
                    finally:
                        await tab.close()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()


async def _port(file: Path) -> int:
    async with asyncio.timeout(START_S):
        while True:
            with suppress(OSError, IndexError, ValueError):
                return int(file.read_text().splitlines()[0])  # noqa: ASYNC240  # a local file of two lines
            await asyncio.sleep(0.05)
