"""
What `coverage` says of a table's streams, as intervals: stretches of one state, and holes.

What a hole is, `gaps.py` says. They are found in one pass over the hours of a range, in plain Python: hours are few
beside the rows of any table, and to plan the same as a query costs more than to do it.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import polars as pl
from polars.io.plugins import register_io_source

from recorder.analysis.units import NS_UTC
from recorder.quality.intervals import union
from recorder.records import SECOND_NS

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
_OLD = "sealed as format 1"
_BARE = "no published hour has it"
_NOT_YET = "not committed yet"


class Stretch(NamedTuple):
    """
    A part of an hour, ns.
    """

    start: int
    end: int
    state: str
    why: str


class Bounds(NamedTuple):
    """
    Of what is asked, ns: see `holes`.
    """

    first: int | None
    last: int | None
    until: int | None


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
        "why": pl.when(told).then("span_why").otherwise(pl.concat_list(pl.lit(_OLD))),
    }
    return (
        coverage.with_columns(over)
        .filter(pl.col("over") > pl.col("start"))
        .filter(~told | (pl.col("span_start").list.len() > 0))
        .with_columns(**lists)
        .drop("span_start", "span_state", "span_why")
        .explode(*lists)
    )


def since(coverage: pl.DataFrame, at: int) -> pl.DataFrame:
    """
    Hours of `coverage` without what lies before an instant, ns: the one it lies in begins there. Its seconds and its
    longest hole are of the rest; stretches and evidence stay.
    """
    earlier = coverage["start"].to_physical() < at
    hours = coverage.filter(earlier).select(
        *("symbol", pl.col("start").to_physical(), pl.col("span_start").cast(pl.List(pl.Int64))),
        *("span_state", "span_why", *_SECONDS),
    )
    told = []
    for row in hours.iter_rows():
        left = [(max(each.start, at), each.end, each.state) for each in _stretches(row, None) if each.end > at]
        seconds = (sum(end - start for start, end, state in left if f"{state}_s" == name) for name in _SECONDS)
        missing = union((start, end) for start, end, state in left if state == "missing")
        told.append([ns / SECOND_NS for ns in (*seconds, max((end - start for start, end in missing), default=0))])
    columns = zip(*told, strict=True) if told else [[]] * (len(_SECONDS) + 1)
    changed = [pl.Series(name, of, pl.Float64) for name, of in zip((*_SECONDS, "longest_hole_s"), columns, strict=True)]
    cut = coverage.filter(earlier).with_columns(*changed, start=pl.lit(at).cast(NS_UTC))
    return pl.concat([cut, coverage.filter(~earlier)])


REMOVED = "removed by rule (lake.keep_days)"
"""Why an hour is not recorded that once was."""


def without_rows(coverage: pl.LazyFrame, hours: Sequence[int]) -> pl.LazyFrame:
    """
    Coverage in which some hours, ns, are one stretch each that is not recorded: their rows were removed by rule.
    """
    gone = pl.col("start").dt.epoch("ns").is_in(list(hours))
    lists = {
        "span_start": pl.concat_list("start"),
        "span_state": pl.concat_list(pl.lit("unrecorded")),
        "span_why": pl.concat_list(pl.lit(REMOVED)),
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
    return _step(coverage, symbols, Bounds(first, last, until), [states], HOLE_SCHEMA)


def holes_and_unproven(
    coverage: pl.LazyFrame, symbols: Sequence[str], *, first: int, last: int, until: int | None = None
) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """
    `holes` of the states that are holes by default, and of all that is not proven; looked for in one step.
    """
    schema = pl.Schema({**HOLE_SCHEMA, "asked": pl.Int8()})
    both = _step(coverage, symbols, Bounds(first, last, until), [HOLES, UNPROVEN], schema)
    known, unproven = (both.filter(pl.col("asked") == at).drop("asked") for at in range(2))
    return known, unproven


def _step(
    coverage: pl.LazyFrame,
    symbols: Sequence[str] | None,
    bounds: Bounds,
    asked: Sequence[Sequence[State]],
    schema: pl.Schema,
) -> pl.LazyFrame:
    """
    Holes of each of some sets of states, `asked` telling of which, as one step of a plan that is done once however
    often a query refers to it.
    """
    if symbols is not None and bounds.last is not None:
        # Where the range ends is known: the hours of other markets tell nothing.
        coverage = coverage.filter(pl.col("symbol").is_in(list(symbols)))

    def found(hours: pl.DataFrame) -> pl.DataFrame:
        rows = [row[: len(schema)] for row in _holes(hours, symbols, bounds, asked)]
        columns = zip(*rows, strict=True) if rows else [()] * len(schema)
        return pl.DataFrame(
            pl.Series(name, values, pl.Int64() if kind == NS_UTC else kind).cast(kind)
            for (name, kind), values in zip(schema.items(), columns, strict=True)
        )

    hours = coverage.select("symbol", "start", *_SECONDS, "span_start", "span_state", "span_why")

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        # Small: as a part of the query itself, which is planned for many rows, it would take three times as long.
        assert with_columns is None
        assert predicate is None
        assert n_rows is None
        yield found(hours.collect(engine="in-memory"))

    return (
        register_io_source(source, schema=schema, is_pure=True, explain_name="holes")
        # Nothing is pushed beyond this: the plan is one wherever it stands, so that it is carried out once.
        .map_batches(lambda rows: rows, predicate_pushdown=False, projection_pushdown=False, slice_pushdown=False)
        .cache()
    )


def _holes(
    hours: pl.DataFrame, symbols: Sequence[str] | None, bounds: Bounds, asked: Sequence[Sequence[State]]
) -> Iterator[tuple[str, int, int, str, str, int]]:
    """
    Rows of `HOLE_SCHEMA`, and of which set of states; by that, symbol and time.
    """
    told: dict[str, list[_Sweep]] = {}
    for symbol in symbols or ():
        told[symbol] = [_Sweep(states, bounds) for states in asked]
    over = bounds.last
    for symbol, stretches in _by_market(hours, bounds.until):
        if bounds.last is None and stretches:
            over = max(over or 0, *(each.end for each in stretches))
        if symbols is None:
            told[symbol] = [_Sweep(states, bounds) for states in asked]
        for sweep in told.get(symbol, ()):
            for stretch in stretches:
                sweep.take(stretch)
    for at in range(len(asked)):
        for symbol in sorted(told):
            for start, end, state, why in told[symbol][at].holes(over):
                yield symbol, start, end, state, why, at


def _by_market(hours: pl.DataFrame, until: int | None) -> Iterator[tuple[str, list[Stretch]]]:
    """
    The stretches of each market, by time.
    """
    rows = hours.select(
        *("symbol", pl.col("start").to_physical()),
        *(pl.col("span_start").cast(pl.List(pl.Int64)), "span_state", "span_why", *_SECONDS),
    ).sort("symbol", "start", maintain_order=True)
    for symbol, of_market in groupby(rows.iter_rows(), key=itemgetter(0)):
        yield symbol, sorted(stretch for row in of_market for stretch in _stretches(row, until))


def _stretches(row: tuple[Any, ...], until: int | None) -> Iterator[Stretch]:
    """
    Those of one hour, as `spans` has them.
    """
    _, begin, starts, states, whys, *seconds = row
    over = begin + round(sum(seconds) * SECOND_NS)
    if over <= begin:
        return
    if until is not None and over + 1 == until:
        # An open hour is judged up to the instant of its last entry, and what comes from then on is not committed.
        over = until
    if starts is None:
        _, suspect, missing, _ = seconds
        starts, states, whys = [begin], ["suspect" if missing + suspect > 0 else "unverifiable"], [_OLD]
    for start, end, state, why in zip(starts, [*starts, over][1:], states, whys, strict=True):
        last = end if until is None else min(end, until)
        if start < last:
            yield Stretch(start, last, state, why)


class _Sweep:
    """
    One market's stretches, gone through in order of time.
    """

    def __init__(self, states: Sequence[State], bounds: Bounds) -> None:
        self._states = {*states, "unrecorded"}
        self._first, self._last, self._until = bounds.first, bounds.last, bounds.until
        self._reached = bounds.first
        self._found: list[tuple[int, int, int, dict[str, None]]] = []

    def take(self, stretch: Stretch) -> None:
        """
        The next one.
        """
        self._to(stretch.start)
        if stretch.state in self._states:
            self._add(stretch)
        self._reached = stretch.end if self._reached is None else max(self._reached, stretch.end)

    def holes(self, over: int | None) -> Iterator[tuple[int, int, str, str]]:
        """
        What was found, up to where the range ends.
        """
        if over is not None:
            self._to(over)
        for start, end, badness, whys in self._found:
            yield start, end, _WORST[badness], ", ".join(whys)

    def _to(self, start: int) -> None:
        """
        From where hours have told of to here none did.
        """
        if self._reached is not None and self._reached < start:
            is_to_come = self._until is not None and self._reached >= self._until
            self._add(Stretch(self._reached, start, "unrecorded", _NOT_YET if is_to_come else _BARE))

    def _add(self, hole: Stretch) -> None:
        start = hole.start if self._first is None else max(hole.start, self._first)
        end = hole.end if self._last is None else min(hole.end, self._last)
        if start >= end:
            return
        badness, whys = _WORST.index(hole.state), {hole.why: None}
        if self._found and start <= self._found[-1][1]:
            since, to, worst, reasons = self._found.pop()
            start, end, badness, whys = since, max(to, end), min(worst, badness), reasons | whys
        self._found.append((start, end, badness, whys))
