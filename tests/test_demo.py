"""
`drift-recorder demo`: what a stranger sees first has to be there, legible, and true.
"""

import io
import re
import shlex
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from loopback import within_an_hour
from recorder import demo
from recorder.analysis import Lake
from recorder.demo import fresh_root
from recorder.errors import RootError
from recorder.lake.root import bind

pytestmark = pytest.mark.timeout(240)  # the demo may wait for the hour's turn

PROJECT = Path(__file__).parents[1]
LONG_AGO = 10**18
MARKETS = ["1MBONK-PERP", "BTC-PERP", "ETH-PERP", "SOL-PERP", "SOL", "USDC"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """
    The shortest demo: its root, and what it printed.
    """
    root = tmp_path_factory.mktemp("demo") / "a [bold] root"
    within_an_hour(60)
    done = subprocess.run(
        [sys.executable, "-m", "recorder", "demo", "--for", "12", "--root", root],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return root, done.stdout


def part(text, head):
    """
    The lines below a headline, down to the next empty one.
    """
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(head))
    rest = lines[start + 1 :]
    return rest[: rest.index("")] if "" in rest else rest


def test_the_files_and_their_rows_are_those_in_the_lake(shown):
    """
    Each market has its books and trades, and the numbers are counted from the files.
    """
    root, text = shown
    table = {line.split()[0]: line.split() for line in part(text, "Files of this hour")[1:]}
    lake = Lake(root)

    assert list(table)[:6] == MARKETS
    for market in MARKETS:
        (books,) = (root / "lake" / "books" / f"market={market}").rglob("*.parquet")
        assert int(table[market][1]) == pl.read_parquet(books, glob=False).height
        trades = lake.trades(market).collect().height
        assert int(table[market][4]) == trades
    example = re.search(r"^e\.g\. (.+)$", text, re.MULTILINE)
    assert Path(example[1]).is_file()


def test_the_ladder_is_the_last_book(shown):
    """
    Best bid and ask in the first line, with their sizes.
    """
    root, text = shown
    book = Lake(root).books("SOL-PERP").sort("recv_ts").tail(1).collect().row(0, named=True)

    _, first, *_ = part(text, f"Last book of SOL-PERP, received {book['recv_ts']:%H:%M:%S}")
    numbers = re.findall(r"[\d,.]+\d", first)

    assert numbers == [
        f"{book['bid_size'][0]:,.3f}",
        f"{book['bid_price'][0]:,.4f}",
        f"{book['ask_price'][0]:,.4f}",
        f"{book['ask_size'][0]:,.3f}",
    ]


def test_the_trades_are_the_last_ones(shown):
    """
    By their fill ids.
    """
    root, text = shown
    last = Lake(root).trades().sort("recv_ts").tail(demo.TRADES).collect()

    printed = [line.split()[-1] for line in part(text, "Last trades")[1:]]

    assert printed == [str(number) for number in last["fill_record_id"]]


def test_the_hole_is_told_by_the_quality_table_and_by_the_venue(shown):
    """
    The silence that was injected, as the recorder found it, beside what the venue says it did.
    """
    root, text = shown
    quality = Lake(root).quality().collect()
    silent = quality.filter(pl.col("kind") == "silent").rows(named=True)

    assert [event["symbol"] for event in silent] == ["BTC-PERP"]
    # From one book to the next, however late that was: a machine may stand still as the silence ends.
    came = Lake(root).books("BTC-PERP").sort("recv_ts").collect()["recv_ts"].to_list()
    start, end = silent[0]["start"], silent[0]["end"]
    assert (start, end) in pairwise(came)
    lasted_s = (end - start).total_seconds()
    assert lasted_s >= 6
    told = "\n".join(part(text, "What the quality table says"))
    assert re.search(rf"^silent +{start:%H:%M:%S}\.\d{{3}}  {lasted_s:.1f} s  BTC-PERP orderbook", told, re.MULTILINE)
    kinds = Counter(quality["kind"])
    assert {kind: len(re.findall(rf"^{kind} ", told, re.MULTILINE)) for kind in kinds} == kinds

    kept = re.search(r"kept back (\d+) books and (\d+) trades of BTC-PERP", text)
    books = {m: Lake(root).books(m).collect().height for m in ("SOL-PERP", "BTC-PERP")}
    assert abs(books["SOL-PERP"] - books["BTC-PERP"] - int(kept[1])) <= 1
    assert int(kept[2]) > 0


def test_who_stops_before_the_hole_is_told_that_it_was_to_come(shown):
    """
    And not that the recorder cannot prove what nobody did.
    """
    root, _ = shown
    console = Console(file=io.StringIO(), width=80, markup=False, highlight=False, emoji=False)

    demo._print_holes(Lake(root), LONG_AGO, Counter(), console)

    said = " ".join(part(console.file.getvalue(), "And what really happened"))
    assert said == "The venue kept back nothing yet: that of BTC-PERP was still to come."


@pytest.mark.parametrize("width", [80, 100, 160])
def test_it_is_legible_at_any_width(shown, width):
    """
    No table is broken, no line longer than the terminal; paths and commands may be, so that they can be copied.
    """
    root, _ = shown
    lake, out = Lake(root), io.StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False, emoji=False)
    demo._print_files(root, console)
    demo._print_ladder(lake, LONG_AGO, console)
    demo._print_trades(lake, LONG_AGO, console)
    demo._print_spread(lake, LONG_AGO, console)
    demo._print_holes(lake, LONG_AGO, Counter(books=17, trades=14), console)
    demo._print_commands(Path("demo-lake-12"), console)

    lines = out.getvalue().splitlines()

    assert [line for line in lines if len(line) > width and not line.startswith("e.g. ")] == []
    # A broken table would leave continuation lines that begin with blanks.
    for head, rows in (("Last trades", demo.TRADES), ("Mid, median spread", len(MARKETS))):
        table = part(out.getvalue(), head)
        assert len(table) == rows + 1
        assert not any(line.startswith(" ") for line in table)


def test_the_commands_at_its_end_work(shown):
    """
    Whoever copies them gets somewhere.
    """
    root, text = shown
    commands = part(text, "Go on")

    for verb in ("inspect", "verify"):
        program, *arguments = shlex.split(next(line for line in commands if f"drift-recorder {verb} " in line))
        assert Path(program).name == "drift-recorder"
        assert arguments == [verb, str(root)]
    at = next(number for number, line in enumerate(commands) if "python -c" in line)
    _, _, code = shlex.split("\n".join(commands[at:]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    assert "fill_record_id" in done.stdout or "shape:" in done.stdout


def test_each_demo_has_a_root_of_its_own(tmp_path, monkeypatch):
    """
    The simulated venue begins anew each time: on the data of an earlier demo its fill ids would be repeats.
    """
    monkeypatch.chdir(tmp_path)

    assert fresh_root(None) == Path("demo-lake")
    Path("demo-lake").mkdir()
    assert fresh_root(None) == Path("demo-lake-2")
    assert fresh_root(Path("mine")) == Path("mine")
    bind(Path("mine"), venue="demo", network="mainnet-beta")
    with pytest.raises(RootError, match="holds an earlier recording"):
        fresh_root(Path("mine"))
