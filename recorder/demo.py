"""
`drift-recorder demo`: the simulator on loopback, the recorder on it, a hole in the middle, and what comes of it.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.text import Text

from recorder.analysis import Lake
from recorder.clock import wall_ns
from recorder.config import Config, parse_config
from recorder.daemon import Recorder
from recorder.errors import RecorderError
from recorder.lake import manifest as manifests
from recorder.show import plain, size

MARKET = "SOL-PERP"
HOLE_MARKET = "BTC-PERP"
LADDER_LEVELS = 8
BAR = 24


def run_demo(root: Path, *, for_s: float, console: Console, seal: Callable[[], object]) -> None:
    """
    Record for `for_s` seconds into `root`, seal, and print what a user wants to see first.

    Raises:
        RecorderError: the simulator did not start, or the root cannot be used.
    """
    hole_from, hole_to = for_s / 3, for_s / 3 + min(10.0, for_s / 3)
    started = wall_ns()
    console.print(
        f"[bold]1.[/] A simulated venue starts on loopback. From second {hole_from:.0f} to {hole_to:.0f} it will say "
        f"nothing about {HOLE_MARKET}, and nobody tells the recorder."
    )
    with _simulator(hole_from, hole_to) as url:
        config = _config(url, root)
        console.print(f"[bold]2.[/] The recorder listens to {url} for {for_s:g} s and writes to {root}/ …")
        asyncio.run(_record(config, for_s, console))
    console.print("[bold]3.[/] The hour so far becomes Parquet:")
    seal()
    _print_files(root, console)
    lake = Lake(root)
    _print_ladder(lake, started, console)
    _print_trades(lake, started, console)
    _print_spread(lake, started, console)
    _print_hole(lake, started, console)
    console.print(
        "\n[bold]Go on[/]\n"
        f"  python -c \"from recorder.analysis import Lake; print(Lake('{root}').trades('{MARKET}').collect())\"\n"
        f"  drift-recorder inspect {root}\n"
        f"  drift-recorder verify {root}"
    )


async def _record(config: Config, for_s: float, console: Console) -> None:
    recorder = Recorder(config, for_s=for_s, seal=False)
    running = asyncio.create_task(recorder.run())
    with console.status("recording") as status:
        began = time.monotonic()
        while not running.done():
            status.update(f"recording, {max(for_s - (time.monotonic() - began), 0):.0f} s to go")
            await asyncio.wait([running], timeout=0.5)
    await running


@contextmanager
def _simulator(hole_from: float, hole_to: float) -> Iterator[str]:
    span = f"{HOLE_MARKET}:{hole_from:g}-{hole_to:g}"
    process = subprocess.Popen(  # noqa: S603  # this very program, with arguments made above
        [sys.executable, "-m", "recorder", "simulate", "--port", "0", "--silence", span, "--withhold-fills", span],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ws://" not in line:
            raise RecorderError(
                f"the simulator did not start (it ended with {process.wait(5)}); try `drift-recorder simulate`"
            )
        yield line.split()[-1]
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _config(url: str, root: Path) -> Config:
    text = f"""
        [venue]
        name = "demo"
        url = "{url}"
        network = "mainnet-beta"
        [markets]
        perp = ["SOL-PERP", "BTC-PERP", "ETH-PERP", "1MBONK-PERP"]
        spot = ["SOL", "USDC"]
        [storage]
        root = {_toml(str(root))}
    """
    return parse_config(text, file="demo")


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _print_files(root: Path, console: Console) -> None:
    table = plain("\nFiles of this hour", "rows", "bytes", "a row", "file", right=("rows", "bytes", "a row"))
    manifest = manifests.read(root, manifests.hours(root)[-1])
    for file in manifest.files if manifest is not None else ():
        table.add_row(str(file.rows), size(file.bytes), f"{file.bytes / file.rows:.0f} B", file.path)
    console.print(table)


def _print_ladder(lake: Lake, started: int, console: Console) -> None:
    books = lake.books(MARKET, start=started).sort("recv_ts").tail(1).collect()
    if books.is_empty():
        console.print(f"No book of {MARKET} came.")
        return
    book = books.row(0, named=True)
    table = plain(
        f"\nLast book of {MARKET}, received {book['recv_ts']:%H:%M:%S.%f} UTC, slot {book['slot']}",
        "", "bid size", "bid", "ask", "ask size", "",
        right=("", "bid size", "bid"),
    )  # fmt: skip
    bids = list(zip(book["bid_price"], book["bid_size"], strict=True))[:LADDER_LEVELS]
    asks = list(zip(book["ask_price"], book["ask_size"], strict=True))[:LADDER_LEVELS]
    largest = max((s for _, s in bids + asks), default=1.0)
    for level in range(max(len(bids), len(asks))):
        bid_price, bid_size = bids[level] if level < len(bids) else (None, None)
        ask_price, ask_size = asks[level] if level < len(asks) else (None, None)
        table.add_row(
            Text("█" * _bar(bid_size, largest), style="green"),
            _number(bid_size, 3),
            Text(_number(bid_price, 4), style="green"),
            Text(_number(ask_price, 4), style="red"),
            _number(ask_size, 3),
            Text("█" * _bar(ask_size, largest), style="red"),
        )
    console.print(table)


def _bar(value: float | None, largest: float) -> int:
    return max(1, round(BAR * value / largest)) if value else 0


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _print_trades(lake: Lake, started: int, console: Console) -> None:
    trades = lake.trades(start=started).sort("recv_ts").tail(6).collect()
    table = plain("\nLast trades", "time", "market", "side", "price", "size", "how", "fill id",
                  right=("price", "size", "fill id"))  # fmt: skip
    for trade in trades.iter_rows(named=True):
        side = trade["aggressor"] or "–"
        table.add_row(
            f"{trade['recv_ts']:%H:%M:%S.%f}"[:-3],
            trade["symbol"],
            Text(side, style="green" if side == "buy" else "red"),
            _number(trade["price"], 4),
            _number(trade["base_amount"], 4),
            trade["action_explanation"] or "–",
            str(trade["fill_record_id"]),
        )
    console.print(table)


def _print_spread(lake: Lake, started: int, console: Console) -> None:
    mid = (pl.col("best_bid_price") + pl.col("best_ask_price")) / 2
    spread = (pl.col("best_ask_price") - pl.col("best_bid_price")) / mid * 10_000
    summary = (
        lake.books(start=started)
        .group_by("symbol")
        .agg(
            books=pl.len(),
            first_mid=mid.first(),
            last_mid=mid.last(),
            spread_bps=spread.median(),
            latency_ms=(pl.col("recv_ts") - pl.col("ts")).dt.total_microseconds().median() / 1000,
        )
        .sort("symbol")
        .collect()
    )
    table = plain("\nMid and spread of every market (one polars query)", "market", "books", "first mid", "last mid",
                  "median spread, bps", "median latency, ms",
                  right=("books", "first mid", "last mid", "median spread, bps", "median latency, ms"))  # fmt: skip
    for row in summary.iter_rows(named=True):
        table.add_row(
            row["symbol"],
            str(row["books"]),
            _number(row["first_mid"], 4),
            _number(row["last_mid"], 4),
            _number(row["spread_bps"], 2),
            _number(row["latency_ms"], 1),
        )
    console.print(table)


def _print_hole(lake: Lake, started: int, console: Console) -> None:
    events = lake.quality(start=started).collect()
    columns = ("kind", "cause", "market", "from", "to", "missing", "evidence")
    table = plain("\nWhat the quality table says of this run", *columns, right=("missing",))
    for event in events.iter_rows(named=True):
        hole = event["kind"] in {"silent", "trade_gap"}
        table.add_row(
            Text(event["kind"], style="bold yellow" if hole else ""),
            event["cause"],
            event["symbol"] or "",
            f"{event['start']:%H:%M:%S.%f}"[:-3],
            f"{event['end']:%H:%M:%S.%f}"[:-3],
            "" if event["missing"] is None else str(event["missing"]),
            event["evidence"],
        )
    console.print(table)
