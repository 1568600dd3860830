"""
The plain recorder: what one writes in an afternoon, and what every figure of ours stands beside.

websockets, `json.loads` twice, a list of dicts, and at the end of the hour `pa.Table.from_pylist` and `pq.write_table`
with their defaults: one file of books and one of fills. It is a fair one: nothing in it is slow on purpose. Nothing is
on disk before the hour is over.

Run as a child of the suite: `plain.py listen …` records from a socket, `plain.py write …` makes Parquet of frames.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from load import read_frames, wanted
from processes import peak_mb
from websockets.asyncio.client import connect

from recorder.venue.protocol import request

LAG_INTERVAL_S = 0.1


class PlainRecorder:
    """
    Rows in memory.
    """

    def __init__(self) -> None:
        self.books: list[dict[str, Any]] = []
        self.trades: list[dict[str, Any]] = []

    def take(self, recv_ns: int, payload: str | bytes) -> bool:
        """
        Keep one message; False if it holds no data.
        """
        message = json.loads(payload)
        if "data" not in message:
            return False
        row = json.loads(message["data"])
        row["recv_ns"] = recv_ns
        if "markPrice" in row:
            # A number instead of a string where the venue has no mark price: one such book would cost the whole hour.
            row["markPrice"] = str(row["markPrice"])
        (self.trades if message["channel"].startswith("trades") else self.books).append(row)
        return True

    def write(self, folder: Path) -> None:
        """
        The end of the hour.
        """
        for name, rows in (("books", self.books), ("trades", self.trades)):
            if rows:
                pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


async def listen(url: str, *, markets: int, count: int | None, after_s: float, for_s: float) -> dict[str, Any]:
    """
    Record until `count` frames are there, or for `for_s` seconds after a warm-up of `after_s`.
    """
    recorder = PlainRecorder()
    lags: list[float] = []
    memory: list[tuple[float, float]] = []
    stamps: list[int] = []
    async with connect(url, max_size=None) as socket:
        measuring = asyncio.create_task(_measure(lags, memory))
        for stream in wanted(markets):
            await socket.send(request(stream))
        began = time.monotonic()
        cpu_s = time.process_time()
        warm = count is not None
        measured_from = began
        while count is None or len(stamps) < count:
            payload = await socket.recv()
            if recorder.take(time.time_ns(), payload):
                stamps.append(time.time_ns())
            now = time.monotonic()
            if not warm and now - began >= after_s:
                warm, measured_from, cpu_s = True, now, time.process_time()
                lags.clear()
                memory.clear()
            if count is None and now - began >= after_s + for_s:
                break
        spent_s = time.process_time() - cpu_s
        lasted_s = time.monotonic() - measured_from
        measuring.cancel()
        # Not a polite close: the library does not read on for the answer while its queue is full.
        socket.transport.abort()
    return {
        "frames": len(stamps),
        "lasted_s": (stamps[-1] - stamps[0]) / 1e9,
        "cpu_share": spent_s / lasted_s,
        "cpu_s": spent_s,
        "lags_ms": sorted(lags),
        "memory": memory,
        "peak_mb": peak_mb(),
    }


async def _measure(lags: list[float], memory: list[tuple[float, float]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        lags.append(max(loop.time() - due, 0.0) * 1000)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])  # noqa: ASYNC240  # /proc
        memory.append((loop.time(), pages * 4096 / 1e6))


def write(frames: Path, folder: Path) -> dict[str, Any]:
    """
    From frames to Parquet: CPU seconds of all of it, and of the end of the hour alone.
    """
    count = 0
    recorder = PlainRecorder()
    begun = time.process_time()
    for recv_ts, payload in read_frames(frames):
        count += 1
        recorder.take(recv_ts, payload)
    heard = time.process_time()
    recorder.write(folder)
    ended = time.process_time()
    size = (folder / "books.parquet").stat().st_size
    return {
        "frames": count,
        "cpu_s": ended - begun,
        "write_s": ended - heard,
        "peak_mb": peak_mb(),
        "bytes_a_book": size / len(recorder.books),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
    }


def main() -> None:
    """
    One of the two, as a child of the suite.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    listening = verbs.add_parser("listen")
    listening.add_argument("url")
    listening.add_argument("--markets", type=int, required=True)
    listening.add_argument("--count", type=int)
    listening.add_argument("--after", type=float, default=0.0)
    listening.add_argument("--for", dest="for_s", type=float, default=0.0)
    writing = verbs.add_parser("write")
    writing.add_argument("frames", type=Path)
    writing.add_argument("folder", type=Path)
    verbs.add_parser("ready")
    options = parser.parse_args()
    match options.verb:
        case "listen":
            told = asyncio.run(
                listen(
                    options.url,
                    markets=options.markets,
                    count=options.count,
                    after_s=options.after,
                    for_s=options.for_s,
                )
            )
        case "write":
            told = write(options.frames, options.folder)
        case _:
            told = {"ready_ns": time.time_ns()}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
