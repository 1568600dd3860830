"""
What people see in a terminal: tables of segments, files and roots. Reads only.

Everything shown comes from files that anybody may have written: cells are never markup, and control characters in them
are escaped (`PlainTable`).
"""

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from recorder.durable import size
from recorder.errors import DamagedFile, ForeignFile
from recorder.journal.entry import ZSTD_MAGIC
from recorder.journal.names import parse_segment_name
from recorder.journal.reader import Damage, read_segment, segments
from recorder.lake.layout import JOURNAL, LAKE, MANIFEST, QUARANTINE, ROOT_FILE, hour_label
from recorder.quality.events import printable
from recorder.records import (
    SECOND_NS,
    Entry,
    EntryKind,
    SegmentHeader,
    Stream,
    decode_fact,
)
from recorder.terminal import many
from recorder.venue.protocol import FrameKind, peek

FIRST_LINES = 20
"""Entries `inspect` shows of a segment."""


def clock(ns: int, *, date: bool = True) -> str:
    """
    `2026-11-22 16:00:00.123` of ns since the epoch, UTC.
    """
    try:
        moment = datetime.fromtimestamp(ns // SECOND_NS, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"  # of a damaged or foreign file
    whole = f"{moment:%Y-%m-%d %H:%M:%S}" if date else f"{moment:%H:%M:%S}"
    return f"{whole}.{ns % SECOND_NS // 1_000_000:03d}"


class PlainTable(Table):
    """
    A table whose cells are text as it is, fit for a terminal.
    """

    headline = ""
    """Above the table; rich's own titles are broken to the table's width."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.headline:
            yield Text(printable(self.headline), style="bold")
        yield from super().__rich_console__(console, options)

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:  # noqa: ANN401  # rich's signature
        """
        Add a row; strings are escaped.
        """
        super().add_row(*(Text(printable(c)) if isinstance(c, str) else c for c in cells), **options)


def plain(title: str, *columns: str, right: tuple[str, ...] = ()) -> PlainTable:
    """
    A table in the one style of this program. Columns named in `right` hold numbers, which are never broken.
    """
    table = PlainTable(header_style="bold", box=None, pad_edge=False, show_header=any(columns))
    table.headline = title
    for column in columns:
        number = column in right
        table.add_column(Text(column), justify="right" if number else "left", overflow="fold", no_wrap=number)
    return table


def inspect(path: Path, console: Console, *, lines: int = FIRST_LINES, seq: int | None = None) -> None:
    """
    Print what a journal segment, a Parquet file, a manifest or a root holds; with `seq`, that entry of a segment.

    Raises:
        ForeignFile: it is none of these.
        DamagedFile: it is one, and cannot be read.
        OSError: it cannot be opened.
    """
    path = path.resolve()
    if path.is_dir():
        if not (path / ROOT_FILE).exists():
            raise ForeignFile(path, f"is a folder without {ROOT_FILE}", _GIVE)
        console.print(_root(path))
    elif not path.is_file():
        raise ForeignFile(path, "is no regular file", _GIVE)
    elif seq is not None:
        console.print(_entry(path, seq))
    elif path.suffix == ".json" and path.parent.name == MANIFEST:
        console.print(_manifest(path))
    else:
        with path.open("rb") as file:
            head = file.read(4)
        if path.suffix == ".parquet" or head == b"PAR1":
            console.print(_parquet(path, lines))
        elif parse_segment_name(path.name) is not None or head == ZSTD_MAGIC:
            console.print(_segment(path, lines))
        else:
            raise ForeignFile(path, "is no journal segment, Parquet file or manifest", _GIVE)


_GIVE = "give a data root, or a journal segment, Parquet file or manifest below one"


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
    ratio = f", {payload_bytes / on_disk:.1f}× smaller than its {size(payload_bytes)}" if payload_bytes else ""
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
    return Group(summary, "", counts, "", table) if kinds else summary


def _entry(path: Path, seq: int) -> RenderableType:
    """
    One entry, with all of its payload.
    """
    numbers: list[int] = []
    for entry in read_segment(path):
        if entry.seq == seq:
            about = plain(f"entry {seq} of {path.name}", "", "")
            about.add_row("run", entry.run)
            about.add_row("received", f"{clock(entry.recv_ts)} UTC, {entry.recv_ts} ns")
            about.add_row("kind", _kind(entry))
            if entry.connection >= 0:
                about.add_row("connection", f"{entry.connection}, attempt {entry.attempt}")
            text = entry.payload.decode("utf-8", "backslashreplace")
            whole = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
            return Group(about, "", Text(whole))
        numbers.append(entry.seq)
    span = f"{numbers[0]} to {numbers[-1]}" if numbers else "none"
    raise ForeignFile(path, f"has no entry {seq}; it has {span}", "another segment of the run may hold it")


def _kind(entry: Entry) -> str:
    if entry.kind == EntryKind.FRAME:
        seen = peek(entry.payload)
        return printable(seen.name) if seen.kind == FrameKind.DATA else seen.kind.name.lower()
    if entry.kind == EntryKind.FACT:
        try:
            return f"fact {decode_fact(entry.payload).__struct_config__.tag}"
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "fact of a newer version"
    return EntryKind(entry.kind).name.lower() if entry.kind in set(EntryKind) else f"kind {entry.kind}"


def _content(entry: Entry) -> Text:
    text = entry.payload[:400].decode("utf-8", "backslashreplace")
    shown = printable(text.replace('\\"', '"'))
    return Text(shown if len(shown) <= 90 else f"{shown[:90]}…")


# ---- a Parquet file


def _parquet(path: Path, lines: int) -> RenderableType:
    import polars as pl  # noqa: PLC0415  # heavy: only for those who look

    from recorder.lake.parquet import describe, first_line  # noqa: PLC0415

    about = describe(path)
    summary = plain(f"Parquet file {path.name}", "", "")
    for key, value in about["metadata"].items():
        summary.add_row(key.replace("_", " "), value)
    summary.add_row("rows", f"{about['rows']} in {many(about['row_groups'], 'row group')}")
    per_row = f", {about['bytes'] / about['rows']:.0f} a row" if about["rows"] else ""
    summary.add_row("bytes", f"{size(about['bytes'])}{per_row}")
    columns = plain("columns", "name", "type")
    for name, kind in about["columns"]:
        columns.add_row(name, kind)
    try:
        frame = pl.read_parquet(path, n_rows=lines, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DamagedFile(path, f"cannot be read as Parquet: {first_line(error)}") from None
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
            return ", ".join(_cell(v) for v in value[:3]) + (" …" if len(value) > 3 else "")
        case datetime():
            return f"{value:%H:%M:%S.%f}"[:-3]
    return str(value)


# ---- a manifest


def _manifest(path: Path) -> RenderableType:
    from recorder.lake.manifest import read_file  # noqa: PLC0415

    manifest = read_file(path)
    if manifest is None:
        raise ForeignFile(path, "is not there")
    summary = plain(f"hour {manifest.hour}", "", "")
    summary.add_row("venue", f"{manifest.venue} ({manifest.network})")
    summary.add_row(
        "state", "sealed" if manifest.complete else "so far: the hour is not over, or not all of it could be written"
    )
    summary.add_row(
        "journal", f"{manifest.entries} entries, {manifest.frames} of them frames, from {len(manifest.inputs)} segments"
    )
    for problem in manifest.problems:
        summary.add_row(Text("problem", style="bold red"), problem)
    files = plain("files", "rows", "bytes", "file", right=("rows", "bytes"))
    for file in manifest.files:
        files.add_row(str(file.rows), size(file.bytes), file.path)
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
    summary.add_row("journal", f"segments: {len(found)}, runs: {len({s.run for s in found})}, {size(journal_bytes)}")
    hours = plain("hours", "hour (UTC)", "state", "rows", "markets", "bytes", right=("rows", "markets", "bytes"))
    for hour in manifests.hours(root):
        try:
            manifest = manifests.read(root, hour)
        except DamagedFile as error:
            hours.add_row(hour_label(hour), Text(printable(error.problem), style="bold red"))
            continue
        if manifest is None:
            continue
        hours.add_row(
            hour_label(hour),
            "sealed" if manifest.complete else "so far",
            f"{sum(file.rows for file in manifest.files):,}",
            str(len({file.symbol for file in manifest.files if file.symbol is not None})),
            size(sum(file.bytes for file in manifest.files)),
        )
    quarantined = [path for path in (root / QUARANTINE).rglob("*") if path.is_file()]
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
    if not tables:
        hint = f"`drift-recorder seal {root} --open` publishes the hour so far"
        return Group(summary, "", f"no hour is published yet; {hint}")
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
