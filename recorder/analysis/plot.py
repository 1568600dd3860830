"""
`lake.plot`: pictures of what was recorded, with the holes in them. Each is a plotly `Figure`; times are UTC.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from recorder.analysis import book
from recorder.analysis.holes import since
from recorder.analysis.pictures import (
    ASK,
    BID,
    MARKETS,
    edges,
    figure,
    graph_objects,
    iso,
    matrix,
    said,
    shade,
    step_ns,
)
from recorder.analysis.units import NS_UTC, Instant
from recorder.errors import RecorderError
from recorder.records import HOUR_NS, SECOND_NS, Source

if TYPE_CHECKING:
    from recorder.analysis.lake import Lake

POINTS = 2500
"""Of a line; what is finer is the last book of each of so many bins."""
MARKERS = 2500
"""Trades that are drawn, the largest."""
COLUMNS, ROWS = 300, 48
"""Of the heat map of depth."""
BINS = 100
"""Of spreads, between the percentiles 0.5 and 99.5 of all markets."""

STATES_OF_COVERAGE = ("complete", "suspect", "missing", "unverifiable")
_SOURCE_NAMES = {source.value: (source.name or "").lower() for source in Source}


class Plots:
    """
    Pictures of one lake. Ranges and names as for its tables.
    """

    def __init__(self, lake: "Lake") -> None:
        self._lake = lake

    def price(
        self, market: str, start: Instant | None = None, end: Instant | None = None, *, trades: bool = True
    ) -> Any:  # noqa: ANN401  # a plotly Figure
        """
        Best bid and ask as steps, trades on them (as large as the square root of their value), holes of the books
        shaded. Lines do not cross a hole.
        """
        go = graph_objects()
        first, last = self._lake.heard(start, end)
        columns = ["recv_ts", "best_bid_price", "best_ask_price"]
        books = self._lake.books(market, first, last, columns=columns, gaps="mask").collect()
        step = step_ns(first, last, POINTS)
        if books.height > POINTS:
            of_bin = pl.col("recv_ts").to_physical() // step
            thin = books.filter(~pl.col("gap")).group_by(of_bin.alias("bin"), maintain_order=True).last().drop("bin")
            books = pl.concat([thin.select(books.columns), books.filter("gap")]).sort("recv_ts")
        # What stood before a hole stood up to its start: the row of the hole is 1 ns after that.
        held = books.with_columns(
            pl.col("recv_ts").dt.offset_by("-1ns"), pl.col("best_bid_price", "best_ask_price").shift(1)
        ).filter("gap")
        books = pl.concat([held, books]).sort("recv_ts", maintain_order=True)
        times = _times(books["recv_ts"])
        made = figure(f"{said(market, 60)}: best bid and ask" + (", trades" if trades else ""))
        for column, name, colour in (("best_bid_price", "bid", BID), ("best_ask_price", "ask", ASK)):
            line = {"color": colour, "width": 1.3, "shape": "hv"}
            made.add_trace(go.Scatter(x=times, y=books[column].to_list(), name=name, mode="lines", line=line))
        if trades:
            self._add_trades(made, market, first, last)
        shade(made, self._lake.holes(market, first, last, tables=["books"]))
        edges(made, first, last)
        made.update_yaxes(title_text="quote per token")
        return made

    def _add_trades(self, made: Any, market: str, first: int, last: int) -> None:  # noqa: ANN401
        go = graph_objects()
        fills = (
            self._lake.trades(market, first, last)
            .filter(pl.col("is_market_trade") & pl.col("price").is_not_null())
            .select("recv_ts", "price", "base_amount", "quote_amount", "aggressor")
            .top_k(MARKERS, by="quote_amount")
            .sort("recv_ts")
            .collect()
        )
        top = max(fills["quote_amount"].drop_nulls().to_list(), default=1.0) or 1.0
        for side, symbol, colour in (("buy", "triangle-up", BID), ("sell", "triangle-down", ASK)):
            of = fills.filter(pl.col("aggressor") == side)
            sizes = [4 + 12 * math.sqrt((value or 0) / top) for value in of["quote_amount"].to_list()]
            made.add_trace(
                go.Scatter(
                    x=_times(of["recv_ts"]),
                    y=of["price"].to_list(),
                    customdata=list(zip(of["base_amount"].to_list(), of["quote_amount"].to_list(), strict=True)),
                    hovertemplate=f"{side} %{{customdata[0]}} at %{{y}}<br>value %{{customdata[1]:.2f}}<extra></extra>",
                    name=f"{side}s",
                    mode="markers",
                    marker={"symbol": symbol, "size": sizes, "color": colour, "opacity": 0.65, "line": {"width": 0}},
                )
            )

    def depth(self, market: str, start: Instant | None = None, end: Instant | None = None) -> Any:  # noqa: ANN401
        """
        How much stood at each price through time, both sides, in tokens on a scale of logarithms; the mid over it.
        Empty where nothing is known.
        """
        go = graph_objects()
        first, last = self._lake.heard(start, end)
        step = step_ns(first, last, COLUMNS)
        columns = ["recv_ts", "best_bid_price", "best_ask_price", "bid_price", "bid_size", "ask_price", "ask_size"]
        at = ((pl.col("recv_ts").to_physical() - first) // step).alias("at")
        books = (
            self._lake.books(market, first, last, columns=columns, gaps="split")
            .group_by(at, maintain_order=True)
            .last()
            .with_columns(mid=book.mid())
            .collect()
        )
        levels = pl.concat(
            books.select("at", price=f"{side}_price", size=f"{side}_size").explode("price", "size")
            for side in ("bid", "ask")
        ).drop_nulls()
        made = figure(f"{said(market, 60)}: depth through time")
        if levels.height:
            low, high = (float(levels["price"].quantile(q) or 0) for q in (0.03, 0.97))
            height = max((high - low) / ROWS, 1e-12)
            cells = (
                levels.filter(pl.col("price").is_between(low, high))
                .with_columns(row=((pl.col("price") - low) / height).cast(pl.Int64).clip(0, ROWS - 1))
                .group_by("at", "row")
                .agg(pl.col("size").sum().log10())
            )
            width = (last - first - 1) // step + 1
            times = [iso(first + number * step + step // 2) for number in range(width)]
            made.add_trace(
                go.Heatmap(
                    x=times,
                    y=[low + (row + 0.5) * height for row in range(ROWS)],
                    z=matrix(cells.rows(), width, ROWS),
                    colorscale="Viridis",
                    colorbar={"title": {"text": "tokens"}, "thickness": 10, **_powers(cells["size"])},
                    hovertemplate="%{x}<br>%{y:.6~g}: 10^%{z:.2f} tokens<extra></extra>",
                    name="depth",
                )
            )
            mids: list[float | None] = [None] * width
            for column, mid in books.select("at", "mid").iter_rows():
                mids[column] = mid
            line = {"color": "#fb3b5e", "width": 1.5}
            made.add_trace(go.Scatter(x=times, y=mids, name="mid", mode="lines", line=line, showlegend=False))
            made.update_yaxes(range=[low, high])
        shade(made, self._lake.holes(market, first, last, tables=["books"]))
        edges(made, first, last)
        made.update_yaxes(title_text="quote per token", showgrid=False)
        return made

    def ladder(self, market: str, at: Instant | None = None, *, levels: int = 15) -> Any:  # noqa: ANN401
        """
        The last book that had arrived at an instant (None: the last of all): size of each level, by source.

        Raises:
            RecorderError: nothing is known of that instant: it lies in a hole, or nothing came in the minute before.
        """
        go = graph_objects()
        instant = self._lake.bounds(None, at)[1]
        if at is None:
            newest = self._lake.books(market, columns=["recv_ts"]).select(pl.col("recv_ts").max().to_physical())
            instant = newest.collect().item() or instant
        found = self._lake.book(market, instant).collect()
        if not found.height:
            raise RecorderError(
                f"{market}: no book is known at {iso(instant)}; "
                "`drift-recorder coverage` (Lake.gaps()) tells what is missing there"
            )
        row = found.with_columns(pl.col("recv_ts").to_physical()).row(0, named=True)
        bid, ask = row["best_bid_price"], row["best_ask_price"]
        spread = f", spread {(ask - bid) / ((ask + bid) / 2) * 1e4:.2f} bps" if bid and ask else ""
        made = figure(f"{said(market, 60)} at {iso(row['recv_ts'])[:-3]}{spread}", height=120 + 2 * levels * 15)
        prices: list[str] = []
        kinds = sorted({bits for side in ("bid", "ask") for bits in row[f"{side}_source"][:levels]})
        for side, colour in (("ask", ASK), ("bid", BID)):
            shown = list(zip(row[f"{side}_price"], row[f"{side}_size"], row[f"{side}_source"], strict=True))[:levels]
            labels = [f"{price:.10g}" for price, _, _ in shown]
            prices += reversed(labels) if side == "ask" else labels
            for number, source in enumerate(kinds):
                of = [(label, size) for label, (_, size, bits) in zip(labels, shown, strict=True) if bits == source]
                names = "+".join(name for bit, name in _SOURCE_NAMES.items() if source & bit) or "unknown"
                made.add_trace(
                    go.Bar(
                        x=[size for _, size in of],
                        y=[label for label, _ in of],
                        orientation="h",
                        name=f"{side} {names}",
                        # Eight digits: of an opacity the legend knows nothing, and would show all sources alike.
                        marker={"color": f"{colour}{round(255 * max(1.0 - 0.3 * number, 0.25)):02x}"},
                        hovertemplate="%{x} at %{y}<extra>" + f"{side} {names}</extra>",
                    )
                )
        made.update_layout(barmode="stack", bargap=0.15)
        made.update_xaxes(title_text="tokens")
        made.update_yaxes(type="category", categoryorder="array", categoryarray=prices[::-1])
        return made

    def spread(
        self, market: str | Sequence[str] | None = None, start: Instant | None = None, end: Instant | None = None
    ) -> Any:  # noqa: ANN401
        """
        Share of time by spread, in basis points of the mid: each book counts as long as it stood, up to the next one
        or a hole. Median and 99th percentile in the legend.
        """
        go = graph_objects()
        first, last = self._lake.bounds(start, end)
        names = [market] if isinstance(market, str) else market
        if names is None:
            names = self._lake.markets().filter(table="books").collect()["symbol"].to_list()
        found = {symbol: of for symbol in names if (of := self._spreads(symbol, first, last)).height}
        made = figure("Spread, share of time")
        # The same bins for all: their shares are compared.
        low = min((_quantile(of, 0.005) for of in found.values()), default=0.0)
        width = max(max((_quantile(of, 0.995) for of in found.values()), default=0.0) - low, 1e-7) / BINS
        edges_of = [low + number * width for number in range(BINS + 1)]
        for number, (symbol, of) in enumerate(found.items()):
            shares = [100 * share for share in _shares(of, low, width)]
            made.add_trace(
                go.Scatter(
                    x=[edges_of[0], *edges_of],
                    y=[0.0, *shares, 0.0],
                    name=f"{said(symbol)}: median {_quantile(of, 0.5):.2f}, p99 {_quantile(of, 0.99):.2f} bps",
                    mode="lines",
                    line={"shape": "hv", "width": 1.5, "color": MARKETS[number % len(MARKETS)]},
                    fill="tozeroy" if len(names) == 1 else None,
                    hovertemplate="from %{x:.2f} bps: %{y:.2f} % of time<extra></extra>",
                )
            )
        if len(found) > 3:
            made.update_layout(legend={"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top"})
        made.update_xaxes(title_text="basis points", range=[low - 2 * width, edges_of[-1] + 2 * width])
        made.update_yaxes(title_text=f"% of time, by {width:.2g} bps", rangemode="tozero")
        return made

    def _spreads(self, market: str, first: int, last: int) -> pl.DataFrame:
        """
        `bps` of each book and `for_s`, how long it stood.
        """
        columns = ["recv_ts", "best_bid_price", "best_ask_price"]
        stood = (pl.col("recv_ts").shift(-1) - pl.col("recv_ts")).over("segment").dt.total_nanoseconds() / SECOND_NS
        return (
            self._lake.books(market, first, last, columns=columns, gaps="split")
            .select(bps=book.spread_bps(), for_s=stood)
            .filter(pl.col("bps").is_not_null() & (pl.col("for_s") > 0))
            .collect()
        )

    def coverage(self, start: Instant | None = None, end: Instant | None = None) -> Any:  # noqa: ANN401
        """
        A calendar: each stream by hour, how much of it is proven complete. Grey is one of which nothing is known; of
        the hour in which the recording began, what was before is left out, and of an hour so far what comes after.
        """
        go = graph_objects()
        first, last = self._lake.bounds(start, end)
        first -= first % HOUR_NS
        rows = (
            since(self._lake.coverage(None, first, last).collect(), self._lake.begun(first))
            .sort("symbol", "channel", "grouping", "start")
            .with_columns(pl.col("start").to_physical())
        )
        width = max(-(-(last - first) // HOUR_NS), 1)
        labels: dict[str, int] = {}
        shares: list[list[float | None]] = []
        words: list[list[str]] = []
        for row in rows.iter_rows(named=True):
            label = said(stream_label(row), 60)
            if label not in labels:
                labels[label] = len(labels)
                shares.append([None] * width)
                words.append(["never recorded"] * width)
            at = (row["start"] - first) // HOUR_NS
            before_s = row["start"] % HOUR_NS / SECOND_NS
            judged_s = sum(row[f"{state}_s"] for state in STATES_OF_COVERAGE)
            shares[labels[label]][at] = row["complete_s"] / judged_s * 100 if judged_s else None
            told = ", ".join(f"{state} {row[f'{state}_s']:.0f} s" for state in STATES_OF_COVERAGE)
            left_out = f", {before_s:.0f} s before the first run" if before_s else ""
            later_s = HOUR_NS / SECOND_NS - before_s - judged_s
            left_out += f", {later_s:.0f} s not sealed yet" if later_s >= 1 else ""
            words[labels[label]][at] = f"{told}{left_out}<br>{row['rows']:,} rows"
        made = figure("Coverage: proven complete, % of each hour", height=110 + 22 * max(len(labels), 2))
        made.add_trace(
            go.Heatmap(
                # The edges: by its middle alone plotly cannot tell how wide a single hour is, and draws none.
                x=[iso(first + number * HOUR_NS) for number in range(width + 1)],
                y=list(labels),
                z=shares,
                text=words,
                zmin=0,
                zmax=100,
                xgap=1,
                ygap=2,
                colorscale=[[0, "#e0475b"], [0.5, "#f59e0b"], [0.97, "#a3d977"], [1, "#16a34a"]],
                colorbar={"thickness": 10, "ticksuffix": " %"},
                hovertemplate="%{y}<br>%{x|%Y-%m-%d %H} h<br>%{z:.2f} % complete<br>%{text}<extra></extra>",
            )
        )
        made.update_layout(plot_bgcolor="rgba(128,140,160,0.16)")
        made.update_yaxes(autorange="reversed", showgrid=False, type="category")
        made.update_xaxes(showgrid=False)
        edges(made, first, first + width * HOUR_NS)
        return made


def stream_label(row: dict[str, Any]) -> str:
    """
    `SOL-PERP books`, `SOL-PERP books/100 indicative`, `SOL-PERP trades`, of a row of coverage. Not escaped.
    """
    symbol = row["symbol"]
    if not row["channel"].startswith("orderbook"):
        return f"{symbol} {row['channel']}"
    grouping = f"/{row['grouping']}" if row["grouping"] not in {None, 1} else ""
    return f"{symbol} books{grouping}{' indicative' if row['channel'].endswith('indicative') else ''}"


def _times(column: pl.Series) -> list[str]:
    return column.cast(NS_UTC).dt.strftime("%Y-%m-%d %H:%M:%S%.6f").to_list()


def _powers(logs: pl.Series) -> dict[str, Any]:
    """
    Ticks of a colour bar of logarithms, in plain numbers.
    """
    finite = logs.filter(logs.is_finite())
    low, high = (float(value) if value is not None else 0.0 for value in (finite.min(), finite.max()))  # type: ignore[arg-type]
    powers = list(range(math.floor(low), math.ceil(high) + 1))
    return {"tickvals": powers, "ticktext": [f"{10.0**power:,g}" for power in powers]}


def _quantile(of: pl.DataFrame, share: float) -> float:
    """
    The spread that was not exceeded for so much of the time.
    """
    by_size = of.sort("bps").with_columns(share=pl.col("for_s").cum_sum() / pl.col("for_s").sum())
    return float(by_size.filter(pl.col("share") >= share)["bps"][0])


def _shares(of: pl.DataFrame, low: float, width: float) -> list[float]:
    """
    Share of the time in each bin; what is beyond is in the first and last.
    """
    binned = (
        of.group_by(((pl.col("bps") - low) / width).floor().cast(pl.Int64).clip(0, BINS - 1).alias("bin"))
        .agg(pl.col("for_s").sum())
        .rows()
    )
    shares, total = dict(binned), float(of["for_s"].sum())
    return [shares.get(number, 0.0) / total for number in range(BINS)]
