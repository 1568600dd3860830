"""
What people see in a terminal: tables of segments, files and roots, ladders and events. Reads only.
"""

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from recorder.errors import ForeignFile
from recorder.journal.names import parse_segment_name
from recorder.journal.reader import Damage, read_segment, segments
from recorder.lake.layout import JOURNAL, LAKE, ROOT_FILE, hour_label
from recorder.quality.events import printable
from recorder.records import (
    SECOND_NS,
    Entry,
    EntryKind,
    SegmentHeader,
    Stream,
    decode_fact,
)
from recorder.venue.protocol import FrameKind, peek

FIRST_LINES = 20
"""Entries `inspect` shows of a segment."""


def clock(ns: int, *, date: bool = True) -> str:
    """
    `2026-11-22 16:00:00.123` of ns since the epoch, UTC.
    """
    moment = datetime.fromtimestamp(ns // SECOND_NS, UTC)
    whole = f"{moment:%Y-%m-%d %H:%M:%S}" if date else f"{moment:%H:%M:%S}"
    return f"{whole}.{ns % SECOND_NS // 1_000_000:03d}"


def size(number: float) -> str:
    """
    Bytes for people: `12.3 MB`.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def plain(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """
    A table in the one style of this program.
    """
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def inspect(path: Path, console: Console, *, lines: int = FIRST_LINES) -> None:
    """
    Print what a journal segment, a Parquet file, a manifest or a root holds.

    Raises:
        ForeignFile: it is none of these.
        DamagedFile: it is one, and cannot be read.
        OSError: it cannot be opened.
    """
    if path.is_dir():
        if not (path / ROOT_FILE).exists():
            raise ForeignFile(path, f"is a folder without {ROOT_FILE}", "give a data root, a segment or a Parquet file")
        console.print(_root(path))
    elif parse_segment_name(path.name) is not None:
        console.print(_segment(path, lines))
    elif path.suffix == ".parquet":
        console.print(_parquet(path, lines))
    elif path.suffix == ".json" and path.parent.name == "manifest":
        console.print(_manifest(path))
    else:
        with path.open("rb") as file:
            head = file.read(4)
        if head == b"PAR1":
            console.print(_parquet(path, lines))
        else:
            console.print(_segment(path, lines))


# ---- a segment


def _segment(path: Path, lines: int) -> RenderableType:
    headers: list[SegmentHeader] = []
    damages: list[Damage] = []
    kinds: Counter[str] = Counter()
    shown: list[Entry] = []
    first: Entry | None = None
    last: Entry | None = None
    payload_bytes = 0
    for entry in read_segment(path, on_damage=damages.append, on_header=headers.append):
        first = first or entry
        last = entry
        payload_bytes += len(entry.payload)
        kinds[_kind(entry)] += 1
        if len(shown) < lines:
            shown.append(entry)
    summary = plain(f"journal segment {path.name}", "", "")
    if headers:
        header = headers[0]
        summary.add_row("run", f"{header.run} on {header.host}, drift-recorder {header.recorder_version}")
        summary.add_row("venue", f"{header.venue} ({header.network}), {len(header.streams)} streams")
    if first is not None and last is not None:
        summary.add_row("entries", f"{kinds.total()}, numbers {first.seq} to {last.seq}")
        summary.add_row("time", f"{clock(first.recv_ts)} to {clock(last.recv_ts, date=False)} UTC")
    on_disk = path.stat().st_size
    ratio = f", {payload_bytes / on_disk:.1f}× smaller than its {size(payload_bytes)}" if on_disk else ""
    summary.add_row("bytes", f"{size(on_disk)}{ratio}")
    for damage in damages:
        summary.add_row(
            Text("damaged", style="bold red"), f"in the zstd frame at byte {damage.offset}: {damage.reason}"
        )
    counts = plain("what is in it", "count", "kind", right=("count",))
    for kind, count in kinds.most_common():
        counts.add_row(str(count), kind)
    table = plain(
        f"first {len(shown)} entries", "number", "received", "conn", "kind", "content", right=("number", "conn")
    )
    for entry in shown:
        connection = "" if entry.connection < 0 else f"{entry.connection}.{entry.attempt}"
        table.add_row(str(entry.seq), clock(entry.recv_ts, date=False), connection, _kind(entry), _content(entry))
    return Group(summary, "", counts, "", table)


def _kind(entry: Entry) -> str:
    if entry.kind == EntryKind.FRAME:
        seen = peek(entry.payload)
        return printable(seen.name) if seen.kind == FrameKind.DATA else seen.kind.name.lower()
    if entry.kind == EntryKind.FACT:
        try:
            return f"fact {decode_fact(entry.payload).__struct_config__.tag}"
        except msgspec.DecodeError:
            return "fact of a newer version"
    return EntryKind(entry.kind).name.lower() if entry.kind in set(EntryKind) else f"kind {entry.kind}"


def _content(entry: Entry) -> Text:
    text = entry.payload[:400].decode("utf-8", "backslashreplace")
    shown = printable(text.replace('\\"', '"'))
    return Text(shown if len(shown) <= 90 else f"{shown[:90]}…")


# ---- a Parquet file


def _parquet(path: Path, lines: int) -> RenderableType:
    import polars as pl  # noqa: PLC0415  # heavy: only for those who look

    from recorder.lake.parquet import describe  # noqa: PLC0415

    about = describe(path)
    summary = plain(f"Parquet file {path.name}", "", "")
    for key, value in about["metadata"].items():
        summary.add_row(key.replace("_", " "), printable(value))
    summary.add_row("rows", f"{about['rows']} in {about['row_groups']} row groups")
    per_row = f", {about['bytes'] / about['rows']:.0f} a row" if about["rows"] else ""
    summary.add_row("bytes", f"{size(about['bytes'])}{per_row}")
    columns = plain("columns", "name", "type")
    for name, kind in about["columns"]:
        columns.add_row(name, kind)
    frame = pl.read_parquet(path, n_rows=lines)
    rows = plain(f"first {frame.height} rows (lists cut to 3)", "row")
    wanted = [c for c in ("recv_ts", "symbol", "kind", "start", "best_bid_price", "best_ask_price", "bid_price",
                          "bid_size", "price", "base_amount", "aggressor", "rows", "cause", "evidence", "reason",
                          "flags") if c in frame.columns]  # fmt: skip
    for name in wanted:
        rows.add_column(name, justify="right" if frame.schema[name].is_numeric() else "left", overflow="fold")
    for number, row in enumerate(frame.select(wanted).iter_rows(), 1):
        rows.add_row(str(number), *(_cell(value) for value in row))
    return Group(summary, "", columns, "", rows)


def _cell(value: object) -> str:
    match value:
        case None:
            return "–"
        case list():
            return ", ".join(str(v) for v in value[:3]) + (" …" if len(value) > 3 else "")
        case datetime():
            return f"{value:%H:%M:%S.%f}"[:-3]
    return printable(str(value))


# ---- a manifest


def _manifest(path: Path) -> RenderableType:
    from recorder.lake.manifest import read_file  # noqa: PLC0415

    manifest = read_file(path)
    if manifest is None:
        raise ForeignFile(path, "is not there")
    summary = plain(f"hour {manifest.hour}", "", "")
    summary.add_row("venue", f"{manifest.venue} ({manifest.network})")
    summary.add_row(
        "state", "complete" if manifest.complete else "so far: the hour is not over, or not all of it could be written"
    )
    summary.add_row(
        "journal", f"{manifest.entries} entries, {manifest.frames} of them frames, from {len(manifest.inputs)} segments"
    )
    for problem in manifest.problems:
        summary.add_row(Text("problem", style="bold red"), printable(problem))
    files = plain("files", "rows", "bytes", "file", right=("rows", "bytes"))
    for file in manifest.files:
        files.add_row(str(file.rows), size(file.bytes), printable(file.path))
    return Group(summary, "", files)


# ---- a root


def _root(root: Path) -> RenderableType:
    from recorder.lake import manifest as manifests  # noqa: PLC0415
    from recorder.lake.root import read_binding  # noqa: PLC0415

    binding = read_binding(root)
    found = segments(root / JOURNAL)
    journal_bytes = sum(_bytes(s.path) for s in found)
    summary = plain(f"data root {root}", "", "")
    summary.add_row("venue", f"{binding.venue} ({binding.network})")
    summary.add_row("journal", f"{len(found)} segments of {len({s.run for s in found})} runs, {size(journal_bytes)}")
    hours = plain("hours", "hour (UTC)", "state", "rows", "markets", "bytes", right=("rows", "markets", "bytes"))
    for hour in manifests.hours(root):
        manifest = manifests.read(root, hour)
        if manifest is None:
            continue
        hours.add_row(
            hour_label(hour),
            "complete" if manifest.complete else "so far",
            str(sum(file.rows for file in manifest.files)),
            str(len({file.symbol for file in manifest.files if file.symbol is not None})),
            size(sum(file.bytes for file in manifest.files)),
        )
    quarantined = [path for path in (root / "quarantine").rglob("*") if path.is_file()]
    if quarantined:
        summary.add_row(Text("quarantine", style="bold yellow"), f"{len(quarantined)} files")
    tables: Counter[str] = Counter()
    for folder, _, names in os.walk(root / LAKE):
        for name in names:
            if name.endswith(".parquet"):
                tables[name.removesuffix(".parquet")] += _bytes(Path(folder) / name)
    sizes = plain("tables", "bytes", "table", right=("bytes",))
    for table, number in sorted(tables.items()):
        sizes.add_row(size(number), table)
    return Group(summary, "", hours, "", sizes)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def streams_table(streams: list[Stream], title: str) -> Table:
    """
    What is configured: a row a market.
    """
    table = plain(title, "market", "type", "channels")
    by_market: dict[tuple[str, str], list[str]] = {}
    for stream in streams:
        label = stream.channel if stream.grouping in {None, 1} else f"{stream.channel}/{stream.grouping}"
        by_market.setdefault((stream.market_type, stream.symbol), []).append(label)
    for (market_type, symbol), labels in sorted(by_market.items()):
        table.add_row(symbol, market_type, ", ".join(labels))
    return table
