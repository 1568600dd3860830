"""
Makes `fixtures/golden/lake-<format>/`: a small sealed root of the captured frames, and what is in it as plain JSON.

Run once for each format version, with the version that introduces it, and never again: what it made must read for ever.

    python tests/make_golden_lake.py
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import zstandard

from captures import CAPTURES, FIXTURES, capture
from lake_cases import HOUR, Run, S, make_root
from recorder.lake.schema import FORMAT_VERSION
from recorder.lake.sealing import seal
from recorder.records import Stream, Telemetry
from recorder.venue.protocol import peek

GOLDEN = FIXTURES / "golden" / f"lake-{FORMAT_VERSION}"
OF_EACH_CHANNEL = 3
MARKETS = (("perp", ("SOL-PERP", "ETH-PERP")), ("spot", ("USDC",)))
INDICES = {("perp", 0), ("perp", 2), ("spot", 0)}


def streams() -> tuple[Stream, ...]:
    """
    A few markets of the captures, on every channel.
    """
    books = [(channel, grouping) for channel in ("orderbook", "orderbook_indicative") for grouping in (1, 10, 100)]
    return tuple(
        Stream(market_type, symbol, channel, grouping)  # type: ignore[arg-type]
        for market_type, symbols in MARKETS
        for symbol in symbols
        for channel, grouping in [*books, ("trades", None), ("priorityfees", None)]
    )


def fill(root: Path) -> None:
    """
    Journal the first frames of each channel of each capture, and something for each other table.
    """
    run = Run(root, HOUR + S, streams=streams())
    run.connect(HOUR + S)
    at = HOUR + 2 * S
    for name in CAPTURES:
        counts: dict[str, int] = {}
        for captured in capture(name):
            seen = peek(captured.frame)
            if seen.channel is None or (seen.channel.market_type, seen.channel.market_index) not in INDICES:
                continue
            counts[seen.name] = counts.get(seen.name, 0) + 1
            if counts[seen.name] <= OF_EACH_CHANNEL:
                at += S // 10
                run.frame(at, captured.frame)
    fees = {"min": 0, "low": 10, "medium": 20, "high": 30, "veryHigh": 40, "unsafeMax": 50}
    run.frame(at + S, json.dumps({"channel": "priorityFees_perp_0", "data": json.dumps(fees)}).encode())
    run.frame(at + S, b"nonsense")
    run.fact(at + S, Telemetry(9, 9, 0.5, 9, 0.1, 0.2, 9, 9, 0.1, 0.2, 0.3, 9, 9, 9, [0], [1.5]))
    run.close(at + 2 * S)


def content(root: Path) -> dict[str, list[dict[str, Any]]]:
    """
    All rows of all tables, by polars: instants as integers, bytes as hex.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in sorted((root / "lake").iterdir()):
        for file in sorted(folder.rglob("*.parquet")):
            frame = pl.read_parquet(file, hive_partitioning=False)
            found.setdefault(folder.name, []).extend(plain(frame))
    return found


def plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """
    Rows that JSON can hold exactly.
    """
    for name, kind in frame.schema.items():
        if isinstance(kind, pl.Datetime):
            frame = frame.with_columns(pl.col(name).to_physical())
        elif kind == pl.List(pl.Datetime("ns", "UTC")):
            frame = frame.with_columns(pl.col(name).cast(pl.List(pl.Int64)))
        elif kind == pl.Binary:
            frame = frame.with_columns(pl.col(name).bin.encode("hex"))
    return frame.to_dicts()


def main() -> int:
    """
    Make it, unless it is there.
    """
    if GOLDEN.exists():
        print(f"{GOLDEN} is there and stays as it is")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder) / "root")
        fill(root)
        seal(root)
        shutil.rmtree(root / "journal")
        (root / "manifest" / "seal.lock").unlink()
        text = json.dumps(content(root), separators=(",", ":")).encode()
        (root / "content.json.zst").write_bytes(zstandard.ZstdCompressor(level=19).compress(text))
        shutil.copytree(root, GOLDEN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
