"""
What a report holds: figures, tables and numbers of one range, asked of the lake.
"""

from functools import partial
from typing import Any

import msgspec
import polars as pl

from recorder.analysis import Lake
from recorder.analysis.events import with_gaps
from recorder.analysis.holes import since
from recorder.analysis.pictures import ASK, BID, MARKETS, edges, figure, graph_objects, iso, said, step_ns
from recorder.analysis.plot import STATES_OF_COVERAGE, stream_label
from recorder.records import SECOND_NS

TOP = 12
"""Markets with a picture of their own, by value traded, then by name."""
LISTED = 200
"""Events in the table, the longest."""
LEFT_OUT = " The time before the first run is left out: nobody had asked for anything."
DRAWN = 2000
"""Events on the timeline."""
CAUSES = {"venue": "#f59e0b", "network": "#3b82f6", "recorder": "#e0475b", "unknown": "#94a3b8"}


class Table(msgspec.Struct):
    """
    Rows of text, not escaped yet; `right` names the columns of numbers.
    """

    head: list[str]
    rows: list[list[str]]
    right: set[int]


class Section(msgspec.Struct):
    """
    A part of the page: words, a figure or several, a table.
    """

    name: str
    words: str = ""
    figures: list[Any] = []
    table: Table | None = None


class Contents(msgspec.Struct):
    """
    All of a report.
    """

    title: str
    facts: list[tuple[str, str]]
    """Of the whole range: what, how much."""
    sections: list[Section]


def gather(lake: Lake, first: int, last: int) -> Contents:
    """
    A report of `[first, last)` (ns).
    """
    begun = lake.begun(first)
    coverage = since(lake.coverage(None, first, last).collect(), begun)
    coverage = coverage.sort("symbol", "channel", "grouping", "start")
    told = with_gaps(lake.events(first, last).collect(), partial(lake.spans, None))
    told = told.with_columns(pl.col("start", "end").to_physical())
    sections = [
        Section(
            "What was recorded",
            "Every stream that was asked for, also one that never spoke. Nothing is called complete that cannot be "
            "proven; seconds that are unverifiable are counted apart." + (LEFT_OUT if begun > first else ""),
            table=_streams(coverage, begun),
        ),
        Section(
            "Coverage by hour",
            "Grey is an hour of which nothing is known; one so far counts as far as it goes."
            + (LEFT_OUT if begun > first else ""),
            [lake.plot.coverage(first, last)],
        ),
        Section(
            "Events",
            "What happened to the recording, and how long it lasted. Bounds are those of what is unknown. The table "
            "has the gaps: what one connection did not hear is none where nothing was missing, for another heard it.",
            [_timeline(told, first, last)] if told.height else [],
            _events(told),
        ),
        Section(
            "Latency",
            "Receive time minus the publisher's time, of books; a clock that is wrong shows here too.",
            [_latency(lake, first, last)],
        ),
        Section(
            "Volume",
            "Value of market trades that were recorded. Faded bars touch a hole: there may have been more.",
            [_volume(lake, first, last)],
        ),
        Section(
            "Top of book",
            f"Best bid and ask, holes shaded; the {TOP} markets with the most trading."
            + (LEFT_OUT if begun > first else ""),
            [lake.plot.price(symbol, begun, last, trades=False) for symbol in _busiest(lake, first, last)],
        ),
    ]
    return Contents(
        f"{said(lake.venue)} · {iso(first)[:16]} – {iso(last)[:16]} UTC",
        _facts(lake, coverage, told, (begun, first, last)),
        sections,
    )


def _facts(
    lake: Lake, coverage: pl.DataFrame, told: pl.DataFrame, times: tuple[int, int, int]
) -> list[tuple[str, str]]:
    begun, first, last = times
    files = lake.hours(first, last).select(pl.col("bytes", "complete").sum(), pl.len()).collect().row(0, named=True)
    hours = -(-(last - first) // (3600 * SECOND_NS))
    books = coverage.filter(pl.col("channel").str.starts_with("orderbook"))["rows"].sum()
    streams = coverage.select("symbol", "channel", "grouping").n_unique()
    return [
        ("network", lake.network),
        ("markets", f"{coverage['symbol'].n_unique():,}"),
        ("books", f"{books:,}"),
        ("trades", f"{coverage.filter(pl.col('channel') == 'trades')['rows'].sum():,}"),
        ("proven complete", _share(coverage, streams * _judged_s(coverage, begun))),
        ("gaps", f"{told['gap'].sum():,}"),
        ("fills missing", f"{coverage['fills_missing'].sum():,}"),
        ("hours", f"{files['len']} of {hours}, {files['complete']} sealed"),
        ("size", f"{files['bytes'] / 1e6:,.1f} MB"),
    ]


def _judged_s(coverage: pl.DataFrame, begun: int) -> float:
    """
    From the start of the report, or of the first run, to where the last hour is judged, that of the hour so far to its
    last entry. An hour without a row counts: what was not recorded is not complete.
    """
    seconds = pl.sum_horizontal(f"{state}_s" for state in STATES_OF_COVERAGE)
    end = coverage.select((pl.col("start").to_physical() - begun) / SECOND_NS + seconds).max().item()
    return float(end or 0.0)


def _share(coverage: pl.DataFrame, whole_s: float) -> str:
    """
    Per cent, rounded down: what is less than all is never 100.
    """
    # Seconds are sums of floats: a microsecond is no hole.
    share = min((float(coverage["complete_s"].sum()) + 1e-6) / whole_s, 1.0) if whole_s else 0.0
    return f"{int(share * 10_000) / 100:.2f} %" if whole_s else "–"


def _streams(coverage: pl.DataFrame, begun: int) -> Table:
    rows = []
    whole = _judged_s(coverage, begun)
    for (symbol, channel, grouping), of in coverage.group_by("symbol", "channel", "grouping", maintain_order=True):
        seconds = {state: float(of[f"{state}_s"].sum()) for state in STATES_OF_COVERAGE}
        cadence: Any = of["cadence_ms"].drop_nulls().median()
        # Nothing is lost, or nobody could count.
        lost = of["fills_missing" if channel == "trades" else "ticks_missing"].drop_nulls()
        rows.append(
            [
                stream_label({"symbol": symbol, "channel": channel, "grouping": grouping}),
                f"{of['rows'].sum():,}",
                _share(of, whole),
                *(_lasting(seconds[state]) for state in STATES_OF_COVERAGE[1:]),
                _lasting(of["longest_hole_s"].max() or 0.0),  # type: ignore[arg-type]
                f"{lost.sum():,}" if lost.len() else "–",
                "–" if cadence is None else f"{cadence:.0f} ms",
            ]
        )
    head = ["stream", "rows", "complete", "suspect", "missing", "unverifiable", "longest hole", "lost", "cadence"]
    return Table(head, rows, set(range(1, len(head))))


def _events(told: pl.DataFrame) -> Table:
    longest = told.filter("gap").sort(pl.col("end") - pl.col("start"), descending=True).head(LISTED).sort("start")
    rows = [
        [
            iso(row["start"])[:19],
            _lasting((row["end"] - row["start"]) / SECOND_NS),
            row["kind"],
            " ".join(part for part in (row["symbol"], row["channel"]) if part) or row["scope"],
            row["cause"],
            "–" if row["missing"] is None else f"{row['missing']:,}",
            row["evidence"],
        ]
        for row in longest.iter_rows(named=True)
    ]
    return Table(["start (UTC)", "lasted", "kind", "of", "cause", "missing", "evidence"], rows, {1, 5})


def _timeline(told: pl.DataFrame, first: int, last: int) -> Any:  # noqa: ANN401  # a plotly Figure
    go = graph_objects()
    shown = told.sort(pl.col("end") - pl.col("start"), descending=True).head(DRAWN)
    kinds = sorted(set(shown["kind"]))
    made = figure("Events by kind", height=130 + 24 * len(kinds))
    for cause, colour in CAUSES.items():
        of = shown.filter(pl.col("cause") == cause)
        if not of.height:
            continue
        x: list[str | None] = []
        y: list[str | None] = []
        words: list[str | None] = []
        for row in of.iter_rows(named=True):
            where = " ".join(said(part, 40) for part in (row["symbol"], row["channel"]) if part)
            lasted = _lasting((row["end"] - row["start"]) / SECOND_NS)
            text = f"<b>{row['kind']}</b> {where}<br>{lasted}<br>{said(row['evidence'], 90)}"
            # A line of its own for each; None ends it.
            x += [iso(max(row["start"], first)), iso(min(row["end"], last)), None]
            y += [row["kind"], row["kind"], None]
            words += [text, text, None]
        made.add_trace(
            go.Scatter(
                x=x,
                y=y,
                text=words,
                name=cause,
                mode="lines+markers",
                line={"color": colour, "width": 7},
                marker={"size": 7, "symbol": "line-ns", "line": {"width": 2, "color": colour}},
                opacity=0.75,
                hovertemplate="%{text}<br>%{x}<extra></extra>",
            )
        )
    made.update_yaxes(type="category", categoryorder="array", categoryarray=kinds[::-1])
    edges(made, first, last)
    return made


def _latency(lake: Lake, first: int, last: int) -> Any:  # noqa: ANN401
    go = graph_objects()
    step = step_ns(first, last, 400)
    late = (pl.col("recv_ts") - pl.col("ts")).dt.total_nanoseconds() / 1e6
    by_step = (
        lake.books(None, first, last, columns=["recv_ts", "ts"])
        .group_by(at=(pl.col("recv_ts").to_physical() - first) // step)
        .agg(late.quantile(0.5).alias("median"), late.quantile(0.99).alias("p99"), late.max().alias("max"))
        .sort("at")
        .collect()
    )
    made = figure("Latency of books, ms", height=300)
    # A step without books is a break, not a bridge.
    spread = pl.DataFrame({"at": range((last - first - 1) // step + 1)}, schema={"at": pl.Int64})
    by_step = spread.join(by_step, on="at", how="left", maintain_order="left")
    times = [iso(first + at * step) for at in by_step["at"]]
    for name, colour in (("median", BID), ("p99", "#f59e0b"), ("max", ASK)):
        line = {"color": colour, "width": 1.4}
        made.add_trace(go.Scatter(x=times, y=by_step[name].to_list(), name=name, mode="lines", line=line))
    made.update_yaxes(title_text="ms", type="log")
    edges(made, first, last)
    return made


def _volume(lake: Lake, first: int, last: int) -> Any:  # noqa: ANN401
    go = graph_objects()
    step = max(step_ns(first, last, 96), SECOND_NS)
    made = figure("Value traded", height=320)
    names = [symbol for symbol in _busiest(lake, first, last, count=len(MARKETS)) if _has(lake, "trades", symbol)]
    for number, symbol in enumerate(names):
        bars = lake.bars(symbol, first, last, every=f"{step // SECOND_NS}s", gaps="ignore").collect()
        made.add_trace(
            go.Bar(
                x=[iso(at + step // 2) for at in bars["start"].to_physical()],
                y=bars["quote_volume"].to_list(),
                name=said(symbol, 40),
                marker={
                    "color": MARKETS[number % len(MARKETS)],
                    "opacity": [1.0 if covered >= 1 else 0.4 for covered in bars["covered"]],
                },
                hovertemplate="%{x}<br>%{y:,.0f}<extra>" + said(symbol, 40) + "</extra>",
            )
        )
    made.update_layout(barmode="stack", bargap=0.1)
    made.update_yaxes(title_text="quote tokens")
    edges(made, first, last)
    return made


def _has(lake: Lake, table: str, symbol: str) -> bool:
    rows = lake.markets().filter((pl.col("table") == table) & (pl.col("symbol") == symbol))
    return rows.collect().height > 0


def _busiest(lake: Lake, first: int, last: int, *, count: int = TOP) -> list[str]:
    recorded = lake.markets().filter(pl.col("table") == "books").select("symbol").collect()["symbol"]
    by_value = (
        lake.trades(None, first, last)
        .filter("is_market_trade")
        .group_by("symbol")
        .agg(pl.col("quote_amount").sum())
        .collect()
    )
    value = dict(by_value.iter_rows())
    return sorted(recorded, key=lambda symbol: (-(value.get(symbol) or 0), symbol))[:count]


def _lasting(seconds: float) -> str:
    if seconds < 0.05:
        return "–" if not seconds else "<0.1 s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
