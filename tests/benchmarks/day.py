"""
A lake of a day and twelve markets, and the same in what people use instead: to ask both the same questions.

An hour of the simulated venue is recorded and sealed; the other hours are the same rows, moved by an hour each (fill
ids go on), written as the seal writes them. The alternatives hold a market's hour of them, a file a market and hour:

jsonl   raw frames' payloads as they came, a line each, with the receive time, gzip.
csv     the columns of vendors' `book_snapshot_20` and `trades`, gzip.
struct  Parquet with lists of structs, written by `pyarrow` with its defaults.

Made by `make`, asked by `asking.py`.
"""

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from load import HOUR, Frame, heard, wanted, write_journal

from recorder.lake import layout, manifest
from recorder.lake.manifest import LakeFile
from recorder.lake.parquet import Draft
from recorder.lake.schema import ROW_GROUP_ROWS, table
from recorder.lake.sealing import seal
from recorder.records import HOUR_NS

LEVELS = 20
MARKET = "SOL-PERP"
"""Whose hour the alternatives hold; index 0."""
_MOVED = ("recv_ts", "start", "end", "true_start", "first_recv_ts", "last_recv_ts", "proven_until")
_FILL_IDS = ("fill_record_id", "first_fill_id", "last_fill_id")


def make(root: Path, others: Path, *, markets: int, hours: int, books: int) -> None:
    """
    The lake, and beside it the alternatives.

    Args:
        root: where the lake goes.
        others: where the alternatives go: `<kind>/<number of a market>/<table>-<hour>.<suffix>`.
        markets: how many.
        hours: from `HOUR` on.
        books: of each market in an hour.
    """
    frames = heard(markets, books=books * markets, start=HOUR)
    frames = [frame for frame in frames if frame[0] < HOUR + HOUR_NS]
    write_journal(root, wanted(markets), frames)
    seal(root)
    _write_others(others, frames, hours, markets)
    first = manifest.read(root, HOUR)
    assert first is not None
    fills = {
        file.symbol: pl.read_parquet(root / file.path, columns=["fill_record_id"])["fill_record_id"].n_unique()
        for file in first.files
        if file.table == "trades"
    }
    for number in range(1, hours):
        hour = HOUR + number * HOUR_NS
        files = [_moved(root, file, number, hour, fills) for file in first.files]
        told = [file for file in files if file is not None]
        manifest.publish(root, hour, msgspec.structs.replace(first, hour=layout.hour_label(hour), files=told))


def _moved(root: Path, file: LakeFile, number: int, hour: int, fills: dict[str | None, int]) -> LakeFile | None:
    """
    A file of the first hour as one of another.
    """
    rows = pq.read_table(root / file.path, schema=table(file.table).schema)
    for name in rows.column_names:
        column = rows.column(name)
        at = rows.column_names.index(name)
        if name in _MOVED:
            moved = pc.add(column.cast(pa.int64()), number * HOUR_NS).cast(column.type)
        elif name == "ts":
            moved = pc.add(column.cast(pa.int64()), number * HOUR_NS // 1_000_000).cast(column.type)
        elif name == "span_start":
            moved = _lists_moved(column, number)
        elif name in _FILL_IDS and file.symbol is not None:
            moved = pc.add(column, number * fills[file.symbol])
        elif name in _FILL_IDS:
            steps = [number * fills.get(symbol, 0) for symbol in rows.column("symbol").to_pylist()]
            moved = pc.add(column, pa.array(steps, pa.int64()))
        else:
            continue
        rows = rows.set_column(at, rows.schema.field(at), moved)
    path = layout.partition(file.table, hour, file.symbol)
    draft = Draft(root, path, table(file.table), hour=hour, metadata={})
    for start in range(0, rows.num_rows, ROW_GROUP_ROWS):
        draft.write(rows.slice(start, ROW_GROUP_ROWS))
    written = draft.finish(file.symbol)
    draft.publish()
    return written


def _lists_moved(column: pa.ChunkedArray, number: int) -> pa.Array:
    moved = [[at + number * HOUR_NS for at in each] for each in column.cast(pa.list_(pa.int64())).to_pylist()]
    return pa.array(moved, pa.list_(pa.int64())).cast(column.type)


def _write_others(folder: Path, frames: list[Frame], hours: int, markets: int) -> None:
    """
    One hour of one market of each kind, and links to it for the others: to read they cost as much.
    """
    rows: dict[str, list[dict[str, Any]]] = {"books": [], "trades": []}
    for recv_ts, payload in frames:
        if b'"marketName\\":\\"' + MARKET.encode() + b'\\"' in payload:
            row = json.loads(json.loads(payload)["data"])
            rows["books"].append({"recv_ns": recv_ts, **row, "markPrice": str(row["markPrice"])})
        elif payload.startswith(b'{"channel":"trades_perp_0"'):
            rows["trades"].append({"recv_ns": recv_ts, **json.loads(json.loads(payload)["data"])})
    for name, of in rows.items():
        for kind, suffix, write in (
            ("jsonl", "jsonl.gz", _write_jsonl),
            ("csv", "csv.gz", _write_csv),
            ("struct", "parquet", _write_struct),
        ):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            first = folder / kind / f"{name}.{suffix}"
            write(first, name, of)
            for market in range(markets):
                home = folder / kind / str(market)
                home.mkdir(exist_ok=True)
                for number in range(hours):
                    (home / f"{name}-{number:02}.{suffix}").hardlink_to(first)


def _write_jsonl(path: Path, _: str, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.writelines(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def _write_csv(path: Path, name: str, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path, "wt", compresslevel=6, newline="") as file:
        writer = csv.writer(file)
        if name == "trades":
            writer.writerow(["local_timestamp", "timestamp", "id", "side", "price", "amount"])
            for row in rows:
                base, quote = row["baseAssetAmountFilled"], row["quoteAssetAmountFilled"]
                side = "buy" if row.get("takerOrderDirection") == "long" else "sell"
                writer.writerow([row["recv_ns"], row["ts"], row["fillRecordId"], side, quote / base, base])
            return
        levels = [
            f"{side}s[{n}].{what}" for side in ("ask", "bid") for n in range(LEVELS) for what in ("price", "amount")
        ]
        writer.writerow(["local_timestamp", "timestamp", *levels])
        for row in rows:
            writer.writerow([row["recv_ns"], row["ts"], *_flat(row["asks"]), *_flat(row["bids"])])


def _flat(levels: list[dict[str, Any]]) -> Iterator[float | str]:
    for n in range(LEVELS):
        if n < len(levels):
            yield levels[n]["price"] / 1e6
            yield levels[n]["size"] / 1e9
        else:
            yield ""
            yield ""


def _write_struct(path: Path, _: str, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)
