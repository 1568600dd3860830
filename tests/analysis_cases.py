"""
Small published roots for tests of reading, written without a seal.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recorder.lake import layout
from recorder.lake.schema import table

EXPONENTS = {"SOL-PERP": 9, "USDC": 6, "spot-99": None}


def blank(name: str) -> dict[str, object]:
    """
    A row of a table with a value in every column that must have one.
    """
    empty = {"string": "x", "bool": False, "double": 0.0}
    row: dict[str, object] = {}
    for column in table(name).columns:
        kind = str(column.type)
        if column.nullable:
            row[column.name] = None
        elif pa.types.is_list(column.type):
            row[column.name] = []
        else:
            row[column.name] = b"" if kind == "binary" else empty.get(kind, 0)
    return row


def book(symbol: str, recv_ts: int) -> dict[str, object]:
    """
    Two bids and one ask at 150 and 151, sizes of 1.5 and 2 tokens at six decimals.
    """
    return blank("books") | {
        "recv_ts": recv_ts,
        "symbol": symbol,
        "size_exponent": EXPONENTS[symbol],
        "bid_price": [150_000_000, 149_500_000],
        "bid_size": [1_500_000, 2_000_000],
        "bid_source": [1, 2],
        "ask_price": [151_000_001],
        "ask_size": [2_000_000],
        "ask_source": [3],
        "ask_part": [500_000, 1_500_000],
        "best_bid_price": 150_000_000,
        "best_bid_size": 1_500_000,
        "best_ask_price": 151_000_001,
        "best_ask_size": 2_000_000,
        "oracle_price": 150_250_000,
        "spread_pct": 664_452,
        "slot": 7,
    }


def trade(symbol: str, recv_ts: int) -> dict[str, object]:
    """
    A fill of 0.25 tokens for 37.5.
    """
    scale = EXPONENTS[symbol] if EXPONENTS[symbol] is not None else 9
    return blank("trades") | {
        "recv_ts": recv_ts,
        "symbol": symbol,
        "size_exponent": EXPONENTS[symbol],
        "base_amount": 10**scale // 4,
        "quote_amount": 37_500_000,
        "price": 150.0,
        "taker_fee": 18_750,
        "maker_fee": -1_250,
        "taker_order_base_amount": 10**scale // 2,
        "fill_record_id": 12,
        "is_market_trade": True,
    }


def event(kind: str, start: int, end: int) -> dict[str, object]:
    """
    One row of `quality`.
    """
    return blank("quality") | {"kind": kind, "start": start, "end": end, "true_start": start}


class Writer:
    """
    Puts tables into a root as the seal lays them out.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        (root / "root.json").write_text('{"format":1,"venue":"demo","network":"mainnet-beta"}')
        (root / "manifest").mkdir(exist_ok=True)

    def hour(self, hour: int, tables: dict[tuple[str, str | None], list[dict[str, object]]], *, complete: bool = True):
        """
        Write the files of an hour, and its manifest last.
        """
        files = []
        for (name, symbol), rows in tables.items():
            path = layout.partition(name, hour, symbol)
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, schema=table(name).schema), self.root / path)
            files.append(
                {"path": str(path), "table": name, "symbol": symbol, "rows": len(rows), "sha256": "00",
                 "bytes": (self.root / path).stat().st_size, "first_recv_ts": None, "last_recv_ts": None}
            )  # fmt: skip
        manifest = {"format": 1, "hour": layout.hour_label(hour), "complete": complete, "files": files, "inputs": []}
        (self.root / layout.manifest_path(hour)).write_text(json.dumps(manifest))
