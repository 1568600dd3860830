"""
Holes as intervals, and rows that do not silently reach over them.

A *hole* of a market's table is a stretch in which what is stored is not all there was, or cannot be trusted: by default
what `coverage` calls missing or suspect, and always what no published hour covers (`unrecorded`). It is bounded by the
last instant that is known before it and the first that is known after: a row at either bound is good, one strictly
between them is not. What is `unverifiable` is no hole unless asked for (trades are, until a later fill proves them).

What the four modes mean for rows in order of time:

ignore   all rows, and nothing said.
split    without the rows inside holes; `segment` counts the holes before a row, so what is computed within a segment
         crosses none.
mask     without the rows inside holes, and with a row at each hole's start (1 ns after it) in which all but the time
         and the symbol is null and `gap` is true. What is carried forward, joined as of a time, or drawn stops there.
error    all rows; collecting raises `GapError` if there is a hole in the range.

What they mean for values derived from rows, each function says. In all of them no value of mode `mask` or `split` is
computed from rows on both sides of a hole, or speaks for an instant inside one.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import msgspec
import polars as pl

from recorder.analysis.units import NS_UTC, moment
from recorder.errors import RecorderError
from recorder.records import SECOND_NS

Gaps = Literal["mask", "split", "error", "ignore"]
State = Literal["complete", "suspect", "missing", "unverifiable", "unrecorded"]

HOLES: tuple[State, ...] = ("missing", "suspect", "unrecorded")
"""The states that are holes unless other ones are asked for."""
UNPROVEN: tuple[State, ...] = ("missing", "suspect", "unverifiable", "unrecorded")
"""Everything but what is proven complete."""

HOLE_SCHEMA = pl.Schema(
    {"symbol": pl.String(), "start": NS_UTC, "end": NS_UTC, "state": pl.String(), "why": pl.String()}
)
_WORST: tuple[State, ...] = ("unrecorded", "missing", "suspect", "unverifiable", "complete")
_SECONDS = ("complete_s", "suspect_s", "missing_s", "unverifiable_s")
_TOTAL = pl.sum_horizontal(_SECONDS)
_NS = pl.Duration("ns")
FEW = 100
"""Hours of coverage that are looked through for a hole before any is worked out."""
MARKER_NS = 1
"""How long after a hole's start its row stands: what is known at the start itself stays so."""


class Span(msgspec.Struct, frozen=True):
    """
    One market's holes in a range, and the range, ns.
    """

    symbol: str
    first: int
    last: int
    holes: pl.LazyFrame
    unproven: pl.LazyFrame
    """What is not proven complete, holes among it."""


class GapError(RecorderError):
    """
    There is a hole in what was asked for, and `gaps="error"` was said.
    """


def mode(gaps: str) -> Gaps:
    """
    A mode by its name.

    Raises:
        RecorderError: there is none of that name.
    """
    for known in get_args(Gaps):
        if gaps == known:
            return known  # type: ignore[no-any-return]
    raise RecorderError(f'gaps={gaps!r} is unknown; give "mask", "split", "error" or "ignore"')


def spans(coverage: pl.LazyFrame) -> pl.LazyFrame:
    """
    Hours of `coverage` as stretches of one state: its columns, with `start`, `end`, `state`, `why` of a stretch in each
    row and `over`, where the hour (so far) ends. An hour of format 1, which has no stretches, is one of its own.
    """
    over = (pl.col("start") + (_TOTAL * SECOND_NS).round().cast(pl.Int64).cast(_NS)).alias("over")
    told = pl.col("span_start").is_not_null()
    worse = (pl.col("missing_s") + pl.col("suspect_s")) > 0
    whole = pl.when(worse).then(pl.lit("suspect")).otherwise(pl.lit("unverifiable"))
    lists = {
        "start": pl.when(told).then("span_start").otherwise(pl.concat_list("start")),
        "end": pl.when(told)
        .then(pl.concat_list(pl.col("span_start").list.slice(1), "over"))
        .otherwise(pl.concat_list("over")),
        "state": pl.when(told).then("span_state").otherwise(pl.concat_list(whole)),
        "why": pl.when(told).then("span_why").otherwise(pl.concat_list(pl.lit("sealed as format 1"))),
    }
    return (
        coverage.with_columns(over)
        .filter(pl.col("over") > pl.col("start"))
        .filter(~told | (pl.col("span_start").list.len() > 0))
        .with_columns(**lists)
        .drop("span_start", "span_state", "span_why")
        .explode(*lists)
    )


def without_rows(coverage: pl.LazyFrame, hours: Sequence[int]) -> pl.LazyFrame:
    """
    Coverage in which some hours, ns, are one stretch each that is not recorded: their rows were removed by rule.
    """
    gone = pl.col("start").dt.epoch("ns").is_in(list(hours))
    lists = {
        "span_start": pl.concat_list("start"),
        "span_state": pl.concat_list(pl.lit("unrecorded")),
        "span_why": pl.concat_list(pl.lit("removed by rule (lake.keep_days)")),
    }
    return coverage.with_columns(pl.when(gone).then(value).otherwise(name).alias(name) for name, value in lists.items())


def holes(
    coverage: pl.LazyFrame,
    symbols: Sequence[str] | None,
    *,
    first: int | None,
    last: int | None,
    states: Sequence[State] = HOLES,
    until: int | None = None,
) -> pl.LazyFrame:
    """
    Holes in the range as intervals `[start, end)`, by symbol and time; those that touch are one.

    Args:
        coverage: of the streams in question, and of every hour that touches the range.
        symbols: whose; one that `coverage` does not name is unrecorded throughout. None: those it names.
        first: ns at which the range begins; None: with the first hour.
        last: ns at which it ends; None: with the last hour, of whichever market.
        states: of the stretches that are holes. What no hour covers always is.
        until: ns from which on nothing counts as covered, whatever `coverage` has come to say.

    Returns:
        `symbol`, `start`, `end`, `state` (the worst of what was joined), `why` (all reasons, in order).
    """
    names = None if symbols is None else list(symbols)

    def found(hours: pl.DataFrame) -> pl.DataFrame:
        if (
            names is not None
            and first is not None
            and last is not None
            and "complete" not in states
            and _clear(hours, names, first, last, until)
        ):
            return pl.DataFrame(schema=HOLE_SCHEMA)
        return _holes(hours.lazy(), names, first, last, states, until).collect(engine="in-memory")

    return _step(coverage, names, last, found, HOLE_SCHEMA)


def holes_and_unproven(
    coverage: pl.LazyFrame, symbols: Sequence[str], *, first: int, last: int, until: int | None = None
) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """
    `holes` of the states that are holes by default, and of all that is not proven; looked for in one step.
    """
    names = list(symbols)

    def found(hours: pl.DataFrame) -> pl.DataFrame:
        unproven, known = (_holes(hours.lazy(), names, first, last, states, until) for states in (UNPROVEN, HOLES))
        states = hours["span_state"]
        told = not states.has_nulls() and not (states.explode() == "unverifiable").any()
        # Where nothing is unverifiable the two are the same.
        both = [unproven.collect(engine="in-memory")] * 2 if told else pl.collect_all([unproven, known])
        return pl.concat(frame.with_columns(pl.lit(value=at == 0).alias("unproven")) for at, frame in enumerate(both))

    both = _step(coverage, names, last, found, pl.Schema({**HOLE_SCHEMA, "unproven": pl.Boolean()}))
    return both.filter(~pl.col("unproven")).drop("unproven"), both.filter("unproven").drop("unproven")


def _step(
    coverage: pl.LazyFrame,
    names: list[str] | None,
    last: int | None,
    found: Callable[[pl.DataFrame], pl.DataFrame],
    schema: pl.Schema,
) -> pl.LazyFrame:
    """
    What is found in coverage, as one step of a plan, and done once however often a query refers to it.
    """
    if names is not None and last is not None:
        # Where the range ends is known: the hours of other markets tell nothing.
        coverage = coverage.filter(pl.col("symbol").is_in(names))
    return (
        coverage.select("symbol", "start", *_SECONDS, "span_start", "span_state", "span_why")
        .map_batches(found, predicate_pushdown=False, projection_pushdown=False, slice_pushdown=False, schema=schema)
        .cache()
    )


def _clear(hours: pl.DataFrame, names: list[str], first: int, last: int, until: int | None) -> bool:
    """
    Whether a few hours plainly prove all of a range complete: then there is no hole of any other state.
    """
    if len(hours) > FEW or (until is not None and until < last):
        return False
    rows = hours.select(
        "symbol", pl.col("start").to_physical(), pl.col("span_start").cast(pl.List(pl.Int64)), "span_state", *_SECONDS
    ).sort("symbol", "start")
    reached = dict.fromkeys(names, first)
    for symbol, start, starts, states, *seconds in rows.iter_rows():
        if symbol not in reached or not starts:
            continue
        over = start + round(sum(seconds) * SECOND_NS)
        for begin, end, state in zip(starts, [*starts[1:], over], states, strict=True):
            if begin < last and end > first and state != "complete":
                return False
            if begin <= reached[symbol]:
                reached[symbol] = max(reached[symbol], end)
    return all(to >= last for to in reached.values())


def _holes(
    coverage: pl.LazyFrame,
    symbols: list[str] | None,
    first: int | None,
    last: int | None,
    states: Sequence[State],
    until: int | None,
) -> pl.LazyFrame:
    hours = spans(coverage).select("symbol", "start", "end", "state", "why", "over")
    if until is not None:
        hours = hours.with_columns(pl.min_horizontal(name, moment(until)) for name in ("end", "over"))
        hours = hours.filter(pl.col("start") < pl.col("end"))
    wanted = None if symbols is None else pl.LazyFrame({"symbol": symbols}, schema={"symbol": pl.String()})
    known = hours if wanted is None else hours.join(wanted, on="symbol", how="semi")
    known = known.sort("symbol", "start")
    told = known.filter(pl.col("state").is_in([*states, "unrecorded"])).select("symbol", "start", "end", "state", "why")
    before = pl.col("end").cum_max().shift(1).over("symbol")
    opening = before if first is None else before.fill_null(moment(first))
    between = known.select("symbol", start=opening, end="start").filter(pl.col("start") < pl.col("end"))
    ends = known.group_by("symbol").agg(pl.col("over").max())
    # All hours, not only those of the wanted markets, tell where a range without an end ends.
    bound = pl.LazyFrame({"last": [last]}, schema={"last": pl.Int64()}).select(pl.col("last").cast(NS_UTC))
    if last is None:
        bound = hours.select(last=pl.col("over").max())
    if wanted is not None:
        ends = wanted.join(ends, on="symbol", how="left")
    if first is not None:
        ends = ends.with_columns(pl.col("over").fill_null(moment(first)))
    after = ends.join(bound, how="cross").select("symbol", start="over", end="last")
    bare = pl.concat([between, after]).filter(pl.col("start") < pl.col("end"))
    bare = bare.with_columns(state=pl.lit("unrecorded"), why=pl.lit("no published hour has it"))
    return _islands(pl.concat([told, bare.select(told.collect_schema().names())]), first, last)


def _islands(pieces: pl.LazyFrame, first: int | None, last: int | None) -> pl.LazyFrame:
    """
    Pieces that touch or overlap as one, cut to the range.
    """
    if first is not None:
        pieces = pieces.with_columns(start=pl.max_horizontal("start", moment(first)))
    if last is not None:
        pieces = pieces.with_columns(end=pl.min_horizontal("end", moment(last)))
    apart = pl.col("start") > pl.col("end").cum_max().shift(1).over("symbol")
    badness = pl.col("state").replace_strict({state: at for at, state in enumerate(_WORST)}, return_dtype=pl.Int8)
    return (
        pieces.filter(pl.col("start") < pl.col("end"))
        .sort("symbol", "start", "end")
        .with_columns(island=apart.fill_null(value=True).cum_sum())  # polars' own
        .group_by("symbol", "island", maintain_order=True)
        .agg(
            pl.col("start").min(),
            pl.col("end").max(),
            pl.col("state").sort_by(badness).first(),
            pl.col("why").unique(maintain_order=True).str.join(", "),
        )
        .drop("island")
        .sort("symbol", "start")
        .cast(HOLE_SCHEMA)
    )


def marked(rows: pl.LazyFrame, of: pl.LazyFrame, gaps: Gaps, *, symbol: str, time: str = "recv_ts") -> pl.LazyFrame:
    """
    One market's rows in a mode, as the module says.

    Args:
        rows: of one market, sorted by `time`.
        of: its holes, sorted.
        gaps: the mode.
        symbol: the market, for the rows of mode `mask`.
        time: column of instants by which rows lie in holes.
    """
    if gaps == "ignore":
        return rows
    if gaps == "error":
        return pl.concat([refused(of, rows.collect_schema()), rows])
    kept = outside(rows, of, time=time)
    if gaps == "split":
        return kept
    schema = rows.collect_schema()
    marks = of.filter(pl.col("end") - pl.col("start") > pl.duration(nanoseconds=MARKER_NS)).select(
        *(
            (pl.col("start") + pl.duration(nanoseconds=MARKER_NS)).cast(kind).alias(name)
            if name == time
            else pl.lit(symbol).alias(name)
            if name == "symbol"
            else pl.lit(None, kind).alias(name)
            for name, kind in schema.items()
        ),
        gap=pl.lit(True),  # polars' own
    )
    kept = kept.select(*schema.names(), gap=pl.lit(False))  # polars' own
    return kept.merge_sorted(marks, key=time)


def last_known(rows: pl.LazyFrame, of: pl.LazyFrame, at: int) -> pl.LazyFrame:
    """
    The last of one market's rows, as long as it is known to have held until `at` (ns): no hole lies in between.

    The same row as the last of those that `marked` gives with mode `mask`, if that is none of its own; but only one row
    is read whole.

    Args:
        rows: sorted by `recv_ts`, none after `at`.
        of: its holes, of all that `rows` spans and up to `at`.
        at: when.
    """
    longer = pl.col("end") - pl.col("start") > pl.duration(nanoseconds=MARKER_NS)
    begun = of.filter(longer & (pl.col("start") < moment(at))).select(_hole=pl.col("end").max())
    held = pl.col("_hole").is_null() | (pl.col("_hole") <= pl.col("recv_ts"))
    return rows.tail(1).join(begun, how="cross").filter(held).drop("_hole")


def outside(rows: pl.LazyFrame, of: pl.LazyFrame, *, time: str = "recv_ts") -> pl.LazyFrame:
    """
    One market's rows that lie in none of its holes, and `segment`: how many of them end before, or at, each row.
    """
    index = of.select(_start="start", _end="end").with_row_index("_hole").set_sorted("_start")
    joined = rows.join_asof(
        index, left_on=time, right_on="_start", strategy="backward", allow_exact_matches=False, coalesce=False
    )
    return (
        joined.filter(pl.col("_end").is_null() | (pl.col(time) >= pl.col("_end")))
        .with_columns(segment=(pl.col("_hole") + 1).fill_null(0))
        .drop("_hole", "_start", "_end")
    )


def with_uncovered(intervals: pl.LazyFrame, of: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """
    One market's intervals `[start, end)`, sorted, with the duration of each that lies in its holes, as `name`.
    """
    length = pl.col("_end") - pl.col("_start")
    index = of.select(_start="start", _end="end").with_columns(_before=length.cum_sum() - length).set_sorted("_start")
    for edge in ("start", "end"):
        so_far = pl.col("_before") + pl.min_horizontal(edge, "_end") - pl.col("_start")
        intervals = (
            intervals.join_asof(index, left_on=edge, right_on="_start", strategy="backward", coalesce=False)
            .with_columns(so_far.fill_null(pl.duration()).alias(f"_{edge}_lost"))
            .drop("_start", "_end", "_before")
        )
    lost = (pl.col("_end_lost") - pl.col("_start_lost")).cast(_NS)
    return intervals.with_columns(lost.alias(name)).drop("_start_lost", "_end_lost")


def refused(of: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """
    No rows; raises `GapError` when collected if there is a hole.
    """

    def refuse(found: pl.DataFrame) -> pl.DataFrame:
        if len(found):
            row = found.row(0, named=True)
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise GapError(
                f"{row['symbol']}: from {row['start']} to {row['end']} is {row['state']} ({row['why']}){more}; "
                'Lake.gaps() lists them; gaps="mask" or "split" leaves them out'
            )
        return pl.DataFrame(schema=schema)

    return of.map_batches(
        refuse, predicate_pushdown=False, projection_pushdown=False, slice_pushdown=False, schema=schema
    )
