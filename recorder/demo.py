"""
`drift-recorder demo`: the simulator on loopback, the recorder on it, a hole in the middle, and what comes of it.
"""

import asyncio
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from recorder.analysis import Lake
from recorder.clock import monotonic_ns, wall_ns
from recorder.config import Config, parse_config
from recorder.daemon import Recorder
from recorder.durable import size
from recorder.errors import ForeignFile, RecorderError, RootError
from recorder.lake import manifest as manifests
from recorder.lake.layout import ROOT_FILE
from recorder.lake.manifest import LakeFile
from recorder.quality.events import printable
from recorder.show import plain
from recorder.simulator.ledger import read_ledger

MARKET = "SOL-PERP"
HOLE_MARKET = "BTC-PERP"
HOLES = frozenset({"silent", "trade_gap"})
LADDER_LEVELS = 8
BAR = 20
TRADES = 6
BUSY_EVERY_S = 0.5
BRIEF_S = 0.05


def run_demo(root: Path, *, for_s: float, console: Console, seal: Callable[[], object]) -> None:
    """
    Record for `for_s` seconds into `root`, seal, and print what a user wants to see first.

    Raises:
        RecorderError: the simulator did not start, or the root cannot be used.
    """
    hole_from, hole_to = hole(for_s)
    started = wall_ns()
    with tempfile.TemporaryDirectory(prefix="drift-recorder-demo-") as folder:
        ledger = Path(folder) / "ledger.jsonl"
        _say(
            console,
            "1",
            f"A simulated venue starts on loopback. From its second {hole_from:g} to {hole_to:g} it keeps "
            f"back all books and trades of {HOLE_MARKET}; nobody tells the recorder.",
        )
        with _simulator(hole_from, hole_to, ledger) as url:
            _say(console, "2", f"The recorder listens to {url} for {for_s:g} s and writes to {printable(str(root))}/")
            asyncio.run(_record(configured(url, root), for_s, console))
        kept_back = _kept_back(ledger)
    _say(console, "3", "The hour so far becomes Parquet, a file for each table, market and hour:")
    seal()
    _print_files(root, console)
    lake = Lake(root)
    _print_ladder(lake, started, console)
    _print_trades(lake, started, console)
    _print_spread(lake, started, console)
    _print_holes(lake, started, kept_back, console)
    _print_commands(root, console)


def hole(for_s: float) -> tuple[float, float]:
    """
    Between which seconds the venue keeps back a market.

    Long enough to be noticed after 5 s, and to end before the market would move to a connection of its own after 10.
    """
    begin = for_s // 4
    return begin, begin + min(max(for_s // 3, 7), 9)


def fresh_root(asked: Path | None) -> Path:
    """
    A root without an earlier recording: the simulated venue begins anew each time, and a second demo on the first one's
    data would rightly be told that fill ids came again.

    Raises:
        RootError: the root asked for holds a recording.
    """
    if asked is not None:
        if (asked / ROOT_FILE).exists():
            raise RootError(asked, "holds an earlier recording", "give another --root, or remove it")
        return asked
    root, number = Path("demo-lake"), 1
    while root.exists():
        number += 1
        root = Path(f"demo-lake-{number}")
    return root


def _program(name: str) -> str:
    """
    How to type a program of this environment here: as it is, or with the path to it.
    """
    beside = Path(sys.executable).parent / name
    if not beside.exists() or shutil.which(name) == str(beside):
        return name
    with suppress(ValueError):
        return str(beside.relative_to(Path.cwd()))
    return str(beside)


def _print_commands(root: Path, console: Console) -> None:
    _head(console, "Go on")
    for command in (
        f"{_program('drift-recorder')} inspect {shlex.quote(str(root))}",
        f"{_program('drift-recorder')} verify {shlex.quote(str(root))}",
        f'{_program("python")} -c "from recorder.analysis import Lake; \\',
        f"    print(Lake('{root}').trades('{MARKET}').collect())\"",
    ):
        console.print(f"  {printable(command)}", soft_wrap=True)


def _say(console: Console, number: str, words: str) -> None:
    console.print(Text(f"{number}. ", style="bold") + Text(words))


def _head(console: Console, words: str) -> None:
    console.print()
    console.print(Text(words, style="bold"))


async def _record(config: Config, for_s: float, console: Console) -> None:
    recorder = Recorder(config, for_s=for_s, seal=False)
    running = asyncio.create_task(recorder.run())
    began = monotonic_ns()
    with console.status("recording") as status:
        while not running.done():
            left_s = max(for_s - (monotonic_ns() - began) / 1e9, 0)
            status.update(f"recording, {left_s:.0f} s to go (Ctrl-C: stop now, and show what is there)")
            await asyncio.wait([running], timeout=BUSY_EVERY_S)
    await running


@contextmanager
def _simulator(hole_from: float, hole_to: float, ledger: Path) -> Iterator[str]:
    span = f"{HOLE_MARKET}:{hole_from:g}-{hole_to:g}"
    faults = ["--silence", span, "--withhold-fills", span, "--ledger", str(ledger)]
    process = subprocess.Popen(  # noqa: S603  # this very program, with arguments made above
        [sys.executable, "-m", "recorder", "simulate", "--port", "0", *faults],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in a terminal is for the recorder
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ws://" not in line:
            _, errors = process.communicate(timeout=5)
            said = (errors.strip().splitlines() or ["it said nothing"])[-1]
            raise RecorderError(f"the simulator did not start: {said}; try `drift-recorder simulate --port 0`")
        yield line.split()[-1]
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _kept_back(ledger: Path) -> Counter[str]:
    """
    What the venue did not send, by its own account: `books` and `trades`.
    """
    kept: Counter[str] = Counter()
    with suppress(OSError, ForeignFile):
        for line in read_ledger(ledger):
            if line.what == "withheld":
                kept["trades" if line.fill_id is not None else "books"] += 1
    return kept


def configured(url: str, root: Path) -> Config:
    """
    What is recorded of the simulated venue.
    """
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
        [metrics]
        listen = ""
    """
    return parse_config(text, file="demo")


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _print_files(root: Path, console: Console) -> None:
    manifest = manifests.read(root, manifests.hours(root)[-1])
    files = manifest.files if manifest is not None else []
    by_market: dict[str, dict[str, LakeFile]] = {}
    for file in files:
        if file.symbol is not None:
            by_market.setdefault(file.symbol, {})[file.table] = file
    numbers = ("books", "bytes", "trades", "bytes ")
    _head(console, "Files of this hour")
    table = plain("", "market", *numbers, right=numbers)
    for symbol, tables in by_market.items():
        table.add_row(symbol, *_weights(tables.get("books")), *_weights(tables.get("trades")))
    console.print(table)
    example = next((f.path for f in files if f.symbol == MARKET and f.table == "books"), None)
    if example is not None:
        console.print(f"e.g. {printable(str(root / example))}", soft_wrap=True)
    others = ", ".join(f"{file.table} (rows: {file.rows})" for file in files if file.symbol is None)
    console.print(f"beside them, for all markets: {others}")


def _weights(file: LakeFile | None) -> tuple[str, str]:
    return ("0", "–") if file is None else (str(file.rows), size(file.bytes))


def _print_ladder(lake: Lake, started: int, console: Console) -> None:
    books = lake.books(MARKET, start=started).sort("recv_ts").tail(1).collect()
    if books.is_empty():
        console.print(f"No book of {MARKET} came.")
        return
    book = books.row(0, named=True)
    received = f"{book['recv_ts']:%H:%M:%S.%f}"[:-3]
    _head(console, f"Last book of {MARKET}, received {received} UTC, slot {book['slot']}")
    table = plain(
        "", "", "bid size", "bid", "ask", "ask size", "",
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
    return "–" if value is None else f"{value:,.{digits}f}"


def _print_trades(lake: Lake, started: int, console: Console) -> None:
    trades = lake.trades(start=started).sort("recv_ts").tail(TRADES).collect()
    _head(console, "Last trades")
    table = plain("", "time", "market", "side", "price", "size", "how", "fill id",
                  right=("price", "size", "fill id"))  # fmt: skip
    how = table.columns[5]
    how.no_wrap, how.overflow = True, "ellipsis"  # the one that gives way on a narrow terminal
    for trade in trades.iter_rows(named=True):
        side = trade["aggressor"] or "–"
        table.add_row(
            f"{trade['recv_ts']:%H:%M:%S.%f}"[:-3],
            trade["symbol"],
            Text(side, style="green" if side == "buy" else "red"),
            _number(trade["price"], 4),
            _number(trade["base_amount"], 4),
            (trade["action_explanation"] or "–").removeprefix("orderFilledWith"),
            "–" if trade["fill_record_id"] is None else str(trade["fill_record_id"]),
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
    columns = ("books", "first mid", "last mid", "spread, bps", "latency, ms")
    _head(console, "Mid, median spread and median latency of every market, by one polars query")
    table = plain("", "market", *columns, right=columns)
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


def _print_holes(lake: Lake, started: int, kept_back: Counter[str], console: Console) -> None:
    _head(console, "What the quality table says of this run")
    events = lake.quality(start=started).collect().rows(named=True)
    for event in events:
        console.print(_event_line(event))
        console.print(Padding(Text(printable(event["evidence"])), (0, 0, 0, 4), expand=False))
    _head(console, "And what really happened")
    if not kept_back.total():
        console.print(f"The venue kept back nothing yet: that of {HOLE_MARKET} was still to come.")
        return
    proved = sum(event["missing"] or 0 for event in events if event["kind"] == "trade_gap")
    proof = (
        f"proved that {proved} trades are missing, by the ids that were left out"
        if proved
        else "cannot yet prove that trades are missing: for 10 s after the next one, they may still come"
    )
    console.print(
        f"By its own ledger the venue kept back {kept_back['books']} books and {kept_back['trades']} trades of "
        f"{HOLE_MARKET}. The recorder, which was not told, {proof}."
    )


def _event_line(event: dict[str, Any]) -> Text:
    lasted_s = (event["end"] - event["start"]).total_seconds()
    place = " ".join(part for part in (event["symbol"], event["channel"]) if part)
    parts = [
        f"{event['start']:%H:%M:%S.%f}"[:-3],
        f"{lasted_s:.1f} s" if lasted_s >= BRIEF_S else "",
        place,
        "" if event["missing"] is None else f"{event['missing']} missing",
        f"({event['cause']})",
    ]
    line = Text(f"{event['kind']:<17}", style="bold yellow" if event["kind"] in HOLES else "bold")
    return line + Text("  ".join(part for part in parts if part), style="")
