"""
The verbs that show what is known about the data: `quality` (events) and `coverage` (what each hour can prove).
"""

import json
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from recorder.errors import RecorderError
from recorder.records import HOUR_NS
from recorder.terminal import console as make_console
from recorder.terminal import lasting, many

if TYPE_CHECKING:
    import polars as pl

    from recorder.analysis import Lake

GAPS_FOUND = 10
"""Exit status of --fail-on-gaps."""
_LAST_NS = 24 * HOUR_NS
"""Shown unless told otherwise: a day up to the end of the newest published hour."""

_Verb = TypeVar("_Verb", bound=Callable[..., None])


def instant_of(_: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """
    The callback of an option that takes an instant: in ns.
    """
    from recorder.analysis.units import instant  # noqa: PLC0415

    if value is None:
        return None
    try:
        return instant(value, parameter.opts[0])
    except RecorderError as error:
        raise click.BadParameter(str(error).partition(": ")[2]) from None


def _kinds(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    from recorder.quality.events import printable  # noqa: PLC0415
    from recorder.quality.kinds import KINDS  # noqa: PLC0415

    for value in values:
        if value not in KINDS:
            near = get_close_matches(value, KINDS, n=3)
            hint = f"; near: {', '.join(near)}" if near else f"; there are: {', '.join(KINDS)}"
            raise click.BadParameter(f"no kind {printable(value)!r}{hint}")
    return values


def _shared(verb: _Verb) -> _Verb:
    """
    The argument and options that both verbs have.
    """
    options = (
        click.argument("root", type=click.Path(path_type=Path)),
        click.option("--market", "markets", multiple=True, metavar="SYMBOL", help="Only this market; may be repeated."),
        click.option(
            "--from",
            "start",
            callback=instant_of,
            metavar="TIME",
            help="2026-11-22, 2026-11-22T16 or 2026-11-22T16:30:00Z (UTC).  [default: a day before --to]",
        ),
        click.option(
            "--to", "end", callback=instant_of, metavar="TIME", help="Up to here.  [default: what was sealed last]"
        ),
        click.option("--json", "as_json", is_flag=True, help="JSON, a line each, for programs."),
        click.option("--fail-on-gaps", is_flag=True, help=f"Exit with {GAPS_FOUND} if what is shown has a gap."),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


@click.command()
@_shared
@click.option(
    "--kind", "kinds", multiple=True, callback=_kinds, metavar="KIND", help="Only this kind; may be repeated."
)
@click.option(
    "--cause", "causes", multiple=True, type=click.Choice(["venue", "network", "recorder", "unknown"]), help="Likewise."
)
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="Events listed, the last; 0: all."
)
def quality(
    *,
    root: Path,
    markets: tuple[str, ...],
    start: int | None,
    end: int | None,
    kinds: tuple[str, ...],
    causes: tuple[str, ...],
    limit: int,
    as_json: bool,
    fail_on_gaps: bool,
) -> None:
    """Show what went wrong in ROOT's sealed hours, and what happened to the recorder.

    Every hole is an event with bounds, cause and evidence; the README tells of the kinds. The parts of an event that
    reaches over several hours are shown as one. With --market: also those of the connections and the recorder, which
    concern every market.

    Gaps, for --fail-on-gaps (exit code 10), are events by which something is missing or not to be
    trusted, whoever caused them: also the time after an orderly stop. None are starts, stops, connects, what was put
    right (repeats, failed syncs, ...), and what one connection did not hear while another did: if coverage has nothing
    missing or suspect meanwhile. Any time between --from and --to that is not sealed, or before the first run, is one.
    """
    import polars as pl  # noqa: PLC0415

    from recorder.analysis.events import with_gaps  # noqa: PLC0415

    given = start, end
    lake, start, end = _open(root, start, end)
    unsaid_s = _unsaid_s(lake, start, end, given)
    wanted = list(markets) or None
    frame = with_gaps(lake.events(start, end, markets=wanted).collect(), partial(lake.spans, wanted)).lazy()
    if kinds:
        frame = frame.filter(pl.col("kind").is_in(list(kinds)))
    if causes:
        frame = frame.filter(pl.col("cause").is_in(list(causes)))
    events = _rows(frame)
    if as_json:
        for event in events:
            _print_json(event)
    else:
        from recorder.show_quality import print_events  # noqa: PLC0415

        console = make_console()
        _headline(console, lake, start, end, unsaid_s)
        gaps = sum(event["gap"] for event in events)
        told = "none of them tells of a gap" if not gaps else f"{gaps:,} of them tell{'s' * (gaps == 1)} of a gap"
        console.print(f"{many(len(events), 'event')}, {told}")
        if events:
            console.print()
            print_events(console, events, left_out=max(len(events) - limit, 0) if limit else 0)
    if fail_on_gaps and (unsaid_s or any(event["gap"] for event in events)):
        click.get_current_context().exit(GAPS_FOUND)


@click.command()
@_shared
@click.option("--channel", "channels", multiple=True, metavar="CHANNEL", help="Only orderbook, trades, …")
@click.option("--evidence", is_flag=True, help="Also a line a stream and hour: what proves it, and what does not.")
def coverage(
    *,
    root: Path,
    markets: tuple[str, ...],
    start: int | None,
    end: int | None,
    channels: tuple[str, ...],
    evidence: bool,
    as_json: bool,
    fail_on_gaps: bool,
) -> None:
    """Show what ROOT's sealed hours can prove: a timeline, the seconds of each stream, the condition of each day.

    complete: each tick of the books, or each id of the fills, is there. suspect:
    some sign of loss, or receive times that are not true. missing: known not to be there. unverifiable: nothing proves
    it, as after the last fill of an hour, until the next one comes. The time before the first run is left out; it is
    missing only in --json and `Lake.coverage`, where each hour is whole, and for the condition of a day, which is of 24
    hours.

    Gaps, for --fail-on-gaps (exit code 10): seconds that are missing or suspect, missing fills, a market or channel
    asked for of which there is nothing, and any time between --from and --to that is not sealed, or before the first
    run.
    """
    import polars as pl  # noqa: PLC0415

    given = start, end
    lake, start, end = _open(root, start, end)
    wanted = list(markets) or None
    of_channel = pl.col("channel").is_in(list(channels)) if channels else pl.lit(value=True)
    begun = lake.begun(start)
    # Every hour that the range touches, whole: its row is about all of it.
    hours = start // HOUR_NS * HOUR_NS, -(-end // HOUR_NS) * HOUR_NS
    rows = _rows(lake.coverage(wanted, *hours).filter(of_channel))
    spans = [_expired(span) for span in _cut(_rows(lake.spans(wanted, *hours).filter(of_channel)), begun, end)]
    expired = {row[0] for row in lake.hours(*hours).filter("expired").select(_integer("hour")).collect().rows()}
    named = {row["symbol"] for row in rows}, {row["channel"] for row in rows}
    nothing = not rows or not (named[0].issuperset(markets) and named[1].issuperset(channels))
    unsaid_s = _unsaid_s(lake, start, end, given)
    if as_json:
        for row in rows:
            _print_json(_with_spans(row) | {"expired": row["start"] in expired})
    else:
        from recorder.show_quality import (  # noqa: PLC0415
            print_conditions,
            print_evidence,
            print_streams,
            print_timeline,
        )

        console = make_console()
        _headline(console, lake, start, end, unsaid_s)
        if not rows:
            console.print("no such stream was recorded then")
            context = click.get_current_context()
            context.exit(GAPS_FOUND if fail_on_gaps else 0)
        # Unless asked for, nothing from before the recording began, and nothing after it ends.
        first = min((span["start"] for span in spans), default=start) if given[0] is None else start
        last = max((span["end"] for span in spans), default=end) if given[1] is None else end
        print_timeline(console, spans, first, last)
        console.print()
        print_streams(console, rows, spans)
        console.print()
        midnight = start // _LAST_NS * _LAST_NS
        begins = lake.begun(midnight) > midnight
        print_conditions(console, lake.condition(wanted, start, end).collect().rows(named=True), begins=begins)
        if evidence:
            console.print()
            print_evidence(console, rows)
    lost = any(row["fills_missing"] for row in rows)
    if fail_on_gaps and (nothing or unsaid_s or lost or any(span["state"] in {"missing", "suspect"} for span in spans)):
        click.get_current_context().exit(GAPS_FOUND)


def _unsaid_s(lake: "Lake", start: int, end: int, given: tuple[int | None, int | None]) -> float:
    """
    Seconds of which nothing is known: of those asked for, or between two of which something is.

    No hour that is published has them, or the hour so far does not reach as far, or no recorder had been started yet.
    """
    from recorder.quality.intervals import difference, length, union  # noqa: PLC0415
    from recorder.records import SECOND_NS  # noqa: PLC0415

    begun = lake.begun(start)
    spans = _cut(_rows(lake.spans(None, start // HOUR_NS * HOUR_NS, -(-end // HOUR_NS) * HOUR_NS)), begun, end)
    known = union((span["start"], span["end"]) for span in spans)
    first = start if given[0] is not None else max(begun, known[0][0] if known else begun)
    last = end if given[1] is not None else min(end, known[-1][1] if known else end)
    return length(difference(union([(first, last)]), known)) / SECOND_NS


def _expired(span: dict[str, Any]) -> dict[str, Any]:
    """
    A stretch whose rows were removed by rule has a state of its own: neither a hole nor anything that is there.
    """
    from recorder.analysis.holes import REMOVED  # noqa: PLC0415

    return span | {"state": "expired"} if span["why"] == REMOVED else span


def _cut(spans: list[dict[str, Any]], start: int, end: int) -> list[dict[str, Any]]:
    """
    Stretches cut to a range.
    """
    return [
        span | {"start": max(span["start"], start), "end": min(span["end"], end)}
        for span in spans
        if max(span["start"], start) < min(span["end"], end)
    ]


def _open(root: Path, start: int | None, end: int | None) -> "tuple[Lake, int, int]":
    """
    The lake, and the range to show.

    Raises:
        RootError: not a data root.
        RecorderError: nothing is sealed, or nothing in the range.
    """
    from recorder.analysis import Lake  # noqa: PLC0415
    from recorder.show_quality import minute  # noqa: PLC0415

    lake = Lake(root)
    hours = [row[0] for row in lake.hours().select(hour=_integer("hour")).collect().rows()]
    if not hours:
        raise RecorderError(
            f"{root}: no hour is sealed yet; `drift-recorder seal {root} --open` publishes the hour so far"
        )
    newest = hours[-1] + HOUR_NS
    until = newest if end is None else end
    since = max(until - _LAST_NS, hours[0]) if start is None else start
    if until < since and end is None:
        hint = f"the last hour ends {minute(newest)}"
        raise RecorderError(f"{root}: nothing from {minute(since)} on is sealed yet, {hint}")
    if until < since:
        raise RecorderError(f"--to ({minute(until)}) lies before --from ({minute(since)})")
    if not any(since < hour + HOUR_NS and hour < until for hour in hours):
        raise RecorderError(
            f"{root}: no hour between {minute(since)} and {minute(until)} is sealed; sealed are those from "
            f"{minute(hours[0])} to {minute(newest)}"
        )
    return lake, since, until


def _headline(console: Any, lake: "Lake", start: int, end: int, unsaid_s: float) -> None:  # noqa: ANN401  # rich's
    """
    What is shown, and what is not.
    """
    from recorder.quality.events import printable  # noqa: PLC0415
    from recorder.show_quality import minute  # noqa: PLC0415

    hours = lake.hours().select(_integer("hour"), "complete").collect().rows()
    inside = [(hour, complete) for hour, complete in hours if start < hour + HOUR_NS and hour < end]
    so_far = sum(not complete for _, complete in inside)
    words = [
        f"{minute(start)} to {minute(end)} UTC",
        many(len(inside), "hour") + (f" ({so_far} so far)" if so_far else ""),
    ]
    earlier = sum(hour + HOUR_NS <= start for hour, _ in hours)
    if earlier:
        words.append(f"{many(earlier, 'earlier hour')} not shown (--from)")
    console.print(f"{printable(lake.venue)} ({lake.network}): {', '.join(words)}", style="bold")
    if unsaid_s:
        console.print(
            f"nothing is known of {lasting(unsaid_s)} of this time: it is not sealed, or before the first run"
        )


def _integer(name: str) -> "pl.Expr":
    import polars as pl  # noqa: PLC0415

    return pl.col(name).to_physical()


def _rows(frame: "pl.LazyFrame") -> list[dict[str, Any]]:
    """
    Rows with every instant in ns: datetimes of Python have microseconds.
    """
    import polars as pl  # noqa: PLC0415

    collected = frame.collect()
    lists = [name for name, kind in collected.schema.items() if isinstance(kind, pl.List)]
    of_instants = [name for name in lists if isinstance(collected.schema[name].inner, pl.Datetime)]  # type: ignore[attr-defined]
    instants = [name for name, kind in collected.schema.items() if isinstance(kind, pl.Datetime)]
    return collected.with_columns(
        pl.col(instants).to_physical(), *(pl.col(name).cast(pl.List(pl.Int64)) for name in of_instants)
    ).rows(named=True)


_INSTANTS = frozenset({"start", "end", "first_recv_ts", "last_recv_ts", "proven_until"})


def _print_json(row: dict[str, Any]) -> None:
    from recorder.show_quality import stamp  # noqa: PLC0415

    shown = {name: stamp(value) if name in _INSTANTS and value is not None else value for name, value in row.items()}
    click.echo(json.dumps(shown, ensure_ascii=False, separators=(",", ":")))


def _with_spans(row: dict[str, Any]) -> dict[str, Any]:
    """
    The three lists of a row as one list of stretches.
    """
    from recorder.quality.proof import STATES  # noqa: PLC0415
    from recorder.records import SECOND_NS  # noqa: PLC0415
    from recorder.show_quality import stamp  # noqa: PLC0415

    starts, states, whys = (row.pop(name) or [] for name in ("span_start", "span_state", "span_why"))
    end = row["start"] + round(sum(row[f"{state}_s"] for state in STATES) * SECOND_NS)
    spans = zip(starts, [*starts[1:], end], states, whys, strict=True)
    return row | {
        "spans": [{"start": stamp(a), "end": stamp(b), "state": state, "why": why} for a, b, state, why in spans]
    }
