"""
The verb `export`: the lake, or the journal, in the forms of others.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recorder.cli_quality import instant_of
from recorder.errors import RecorderError
from recorder.lake.layout import hour_of
from recorder.terminal import many

if TYPE_CHECKING:
    from recorder.analysis import Lake

_SNAPSHOT = re.compile(r"book_snapshot_([1-9]\d{0,2})", re.ASCII)
_FORMATS = "trades, book_snapshot_5 (1 to 999 levels), hftbacktest or raw"
_STDOUT = Path("-")


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.argument("format_", metavar="FORMAT")
@click.option("--market", "markets", multiple=True, metavar="SYMBOL", help="Only this market; may be repeated.")
@click.option("--from", "start", callback=instant_of, metavar="TIME", help="2026-11-22T16 (UTC).  [default: all]")
@click.option("--to", "end", callback=instant_of, metavar="TIME", help="Up to here.  [default: all]")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write; .gz and .zst compress. - is standard output, without a file of holes.",
)
@click.option("--table", default="books", show_default=True, help="Which books, e.g. books_grouped_100.")
@click.option("--transfers", is_flag=True, help="Also fills that are position transfers and no trades.")
@click.option("--copies", is_flag=True, help="raw: also what further connections heard of the same frames.")
@click.option("--all-frames", is_flag=True, help="raw: also acknowledgements, heartbeats and what is no data.")
@click.option("--live", is_flag=True, help="Also what is not sealed yet, as far as it is committed now.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it is there.")
def export(
    *,
    root: Path,
    format_: str,
    markets: tuple[str, ...],
    start: int | None,
    end: int | None,
    output: Path,
    table: str,
    transfers: bool,
    copies: bool,
    all_frames: bool,
    live: bool,
    overwrite: bool,
) -> None:
    """Write ROOT's books or trades as FORMAT into a file that appears whole or not at all.

    \b
    trades            CSV of Tardis' trades: exchange, symbol, timestamp, local_timestamp (µs), id, side,
                      price, amount
    book_snapshot_N   CSV of Tardis' book_snapshot_5 and _25, with N levels a side
    hftbacktest       .npz of events for hftbacktest, books and trades of one market
    raw               lines `recv_ns frame` from the journal; refused where that is gone

    Beside OUTPUT stands OUTPUT.holes.csv: every stretch of the range in which a stream is not known to be complete,
    with its bounds in ns. Nothing is filled in or interpolated. A range that reaches into what is not sealed is refused
    without --live.
    """
    from recorder.analysis import Lake  # noqa: PLC0415
    from recorder.export import csv, target  # noqa: PLC0415

    snapshot = _SNAPSHOT.fullmatch(format_)
    if snapshot is None and format_ not in {"trades", "hftbacktest", "raw"}:
        raise click.BadParameter(f"{format_!r} is unknown; give {_FORMATS}", param_hint="FORMAT")
    lake = Lake(root).reaching(start, end, live=live)
    first, last = lake.bounds(start, end, live=live)
    wanted = list(markets) or lake.symbols(live=live)
    tables = ["trades"] if format_ == "trades" else [table] if snapshot else [table, "trades"]
    if format_ == "hftbacktest" and len(wanted) != 1:
        raise click.BadParameter(f"hftbacktest takes one market a file; give one of {', '.join(wanted[:12])}")
    holes = lake.holes(wanted, first, last, tables=tables, live=live)
    with target.written(output, overwrite=overwrite) as to:
        if snapshot:
            levels = int(snapshot[1])
            books = (
                csv.book_snapshots(lake, wanted, *part, levels=levels, table=table, live=live)
                for part in csv.parts(lake, table, wanted, first, last, live=live)
            )
            said = [many(csv.write(books, to), "book")]
        elif format_ == "trades":
            fills = (
                csv.trades(lake, wanted, *part, transfers=transfers, live=live)
                for part in csv.parts(lake, "trades", wanted, first, last, live=live)
            )
            said = [many(csv.write(fills, to), "trade")]
        elif format_ == "hftbacktest":
            from recorder.export import hft  # noqa: PLC0415

            told = hft.Told()
            records = lake.replay(wanted, first, last, tables=tables, live=live)
            hft.write(hft.in_both_orders(hft.events(records, told, transfers=transfers), told), to, told)
            said = [many(told.events, "event")]
            if told.ahead or told.late:
                words = f"{told.ahead:,} lay ahead of ours, {told.late:,} were more than a minute late"
                said.append(f"venue's time moved: {words}")
        else:
            from recorder.export import raw  # noqa: PLC0415

            indices = _indices(lake, wanted, first, last, live=live) if markets else None
            heard = raw.write(root, first, last, to, indices=indices, copies=copies, all_=all_frames)
            said = [many(heard.lines, "frame")]
            if heard.broken:
                said.append(f"{heard.broken:,} with line breaks as blanks")
            if heard.damaged:
                said.append(f"{many(len(heard.damaged), 'damaged place')} in the journal")
        if output != _STDOUT:
            # Before the data has its name: a file that is there has its holes beside it.
            with target.written(target.holes_path(output), overwrite=True) as beside:
                csv.write_holes(holes, beside)
    missing = sum(hole.state in {"missing", "unrecorded"} for hole in holes)
    suffix = "" if output == _STDOUT else f" in {target.holes_path(output).name}"
    told_of = f"{many(len(holes), 'stretch', 'stretches')} not proven complete, {missing:,} of them missing{suffix}"
    click.echo(f"{'; '.join(said)} -> {output}; {told_of}", err=output == _STDOUT)


def _indices(lake: "Lake", markets: list[str], first: int, last: int, *, live: bool) -> set[tuple[str, int]]:
    """
    Type and index of markets, as coverage tells them.
    """
    hours = hour_of(first), max(last, hour_of(first) + 1)
    rows = lake.coverage(markets, *hours, live=live).select("market_type", "market_index").collect()
    indices = {(market_type, index) for market_type, index in rows.iter_rows() if index is not None}
    if not indices:
        raise RecorderError(f"nothing of {', '.join(markets)} was recorded in that time; `coverage` tells when it was")
    return indices
