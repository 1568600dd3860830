"""
What `drift-recorder quality` and `coverage` print: events, and what the hours of the streams can prove.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from recorder import timeline
from recorder.analysis.events import UNHEARD
from recorder.quality.events import printable
from recorder.quality.intervals import length, union
from recorder.quality.proof import STATES
from recorder.records import HOUR_NS, SECOND_NS
from recorder.show import clock, plain
from recorder.terminal import lasting, many

Row = dict[str, Any]

_LABEL_MOST = 24
_NARROWEST = 20
_CHANNELS = {"orderbook": "books", "orderbook_indicative": "indicative", "priorityfees": "fees"}
_DAY_NS = 24 * HOUR_NS
_FEW_MARKETS = 8


def stamp(ns: int) -> str:
    """
    ISO, UTC, to the nanosecond.
    """
    return f"{datetime.fromtimestamp(ns // SECOND_NS, UTC):%Y-%m-%dT%H:%M:%S}.{ns % SECOND_NS:09d}Z"


def minute(ns: int) -> str:
    """
    `2026-11-22 16:00`, with seconds where it has some.
    """
    moment = datetime.fromtimestamp(ns // SECOND_NS, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment.second else f"{moment:%Y-%m-%d %H:%M}"


# ---- events


def print_events(console: Console, events: Sequence[Row], *, left_out: int) -> None:
    """
    A table by kind, then each event in order of time: a line of what, where and when, and one of the evidence.

    What lasted together is the time that any of them covers: of several streams, or kinds, at once it counts once.

    Args:
        console: to print to.
        events: in order; instants in ns, `gap` says whether it is one.
        left_out: how many earlier ones are not listed.
    """
    kinds = plain(
        "",
        "kind",
        "cause",
        "events",
        "together",
        "longest",
        "missing",
        right=("events", "together", "longest", "missing"),
    )
    by_kind: dict[tuple[str, str], list[Row]] = {}
    for event in events:
        by_kind.setdefault((event["kind"], event["cause"]), []).append(event)
    for (kind, cause), of in sorted(by_kind.items(), key=lambda each: (not any(e["gap"] for e in each[1]), each[0])):
        lasted = [(e["end"] - e["start"]) / SECOND_NS for e in of]
        known = [e["missing"] for e in of if e["missing"] is not None]
        kinds.add_row(
            Text(kind, style=_style(of[0] if not any(e["gap"] for e in of) else {"gap": True})),
            cause,
            f"{len(of):,}",
            lasting(_covered(of)) if any(lasted) else "–",
            lasting(max(lasted)) if any(lasted) else "–",
            f"{sum(known):,}" if known else "–",
        )
    gaps = [event for event in events if event["gap"]]
    if len({event["kind"] for event in gaps}) > 1:
        longest = max((event["end"] - event["start"]) / SECOND_NS for event in gaps)
        # Ids that are missing are told by one kind alone; of frames, several tell the same.
        kinds.add_row("every gap", "", f"{len(gaps):,}", lasting(_covered(gaps)), lasting(longest), "", style="bold")
    console.print(kinds)
    console.print()
    listed = events[left_out:]
    if left_out:
        console.print(f"The last {len(listed):,} of {len(events):,} (--limit 0 lists all):")
    lines = [("start", "lasted", "kind", "where", "cause"), *(_cells(event) for event in listed)]
    widths = [max((len(line[column]) for line in lines), default=0) for column in range(4)]
    console.print(_line(lines[0], widths, ["bold"] * len(lines[0])))
    day = None
    for event, line in zip(listed, lines[1:], strict=True):
        date = clock(event["start"])[:10]
        if date != day:
            day = date
            console.print(Text(f"{date} UTC", style="bold"))
        console.print(_line(line, widths, ["", "", _style(event), "", ""]))
        console.print(
            Padding(Text(printable(event["evidence"]), style="dim", overflow="fold"), (0, 0, 0, 4), expand=False)
        )


def _covered(events: Sequence[Row]) -> float:
    """
    Seconds that any of them covers.
    """
    return length(union((event["start"], event["end"]) for event in events)) / SECOND_NS


def _line(cells: Sequence[str], widths: Sequence[int], styles: Sequence[str]) -> Text:
    """
    Cells below each other, the second to the right, the last as long as it is.
    """
    text = Text(overflow="fold")
    for column, (cell, width, style) in enumerate(zip(cells, [*widths, 0], styles, strict=True)):
        text.append(cell.rjust(width) if column == 1 else cell.ljust(width), style)
        text.append("  ")
    text.rstrip()
    return text


def _cells(event: Row) -> tuple[str, str, str, str, str]:
    """
    When, how long, what, where, and the rest.
    """
    seconds = (event["end"] - event["start"]) / SECOND_NS
    rest = [event["cause"]]
    if event["missing"] is not None:
        rest.append(f"{event['missing']:,} missing")
    if event["continues"]:
        rest.append("goes on")
    if not event["gap"] and event["kind"] in UNHEARD:
        rest.append("no gap")
    channel, *grouping = (event["channel"] or "").split("/")  # `orderbook/100`
    place = " ".join(part for part in (event["symbol"], "/".join([_CHANNELS.get(channel, channel), *grouping])) if part)
    if not place:
        place = "recorder" if event["connection"] is None else f"connection {event['connection']}"
    return (
        clock(event["start"], date=False),
        lasting(seconds) if seconds else "",
        printable(event["kind"]),
        printable(place),
        ", ".join(rest),
    )


def _style(event: Row) -> str:
    return "bold yellow" if event["gap"] else "bold"


# ---- coverage


def print_timeline(console: Console, spans: Sequence[Row], start: int, end: int) -> None:
    """
    A line a stream: the range in cells, each with a letter and colour for the worst that is in it.
    """
    by_stream: dict[str, list[timeline.Stretch]] = {}
    for span in spans:
        by_stream.setdefault(label(span), []).append((span["start"], span["end"], span["state"]))
    margin = min(max((len(name) for name in by_stream), default=0), _LABEL_MOST) + 2
    width = max(console.width - margin, _NARROWEST)
    seconds = timeline.cell_s(start, end, width)
    lasts = seconds * SECOND_NS
    first = start - start % lasts
    count = min(-(-(end - first) // lasts), width)
    console.print(f"Cells of {lasting_whole(seconds)}, {timeline.LEGEND}")
    expired = any(span["state"] == "expired" for span in spans)
    console.print(timeline.CAPITALS + (f"; {timeline.EXPIRED}" if expired else ""), style="dim")
    console.print(Text(" " * margin + timeline.scale(first, count, seconds), style="bold"), no_wrap=True, crop=True)
    for name in sorted(by_stream):
        stretches = sorted(by_stream[name])
        letters = timeline.cells(stretches, first, count, seconds)
        shown = name if len(name) <= margin - 2 else f"{name[: margin - 3]}…"
        console.print(Text(shown.ljust(margin)) + timeline.coloured(letters), no_wrap=True, crop=True)


def lasting_whole(seconds: int) -> str:
    """
    Of a cell: `1 minute`, `6 hours`.
    """
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % unit == 0:
            return many(seconds // unit, name)
    return many(seconds, "second")


def label(row: Row) -> str:
    """
    `SOL-PERP books`, `SOL-PERP books/100`.
    """
    suffix = f"/{row['grouping']}" if row["grouping"] not in {None, 1} else ""
    return printable(f"{row['symbol']} {_CHANNELS.get(row['channel'], row['channel'])}{suffix}")


def print_streams(console: Console, rows: Sequence[Row], spans: Sequence[Row]) -> None:
    """
    A table of streams: what their hours in the range prove, added up.

    Args:
        console: to print to.
        rows: of coverage, of every hour that the range touches.
        spans: those hours' stretches, cut to the range.
    """
    gone = any(span["state"] == "expired" for span in spans)
    right = ("hours", "rows", "complete", "suspect", "missing", "unproven", *(("expired",) if gone else ()), "lost")
    table = plain("", "stream", *right, right=right)
    lasted: dict[str, dict[str, float]] = {}
    for span in spans:
        of_stream = lasted.setdefault(label(span), dict.fromkeys((*STATES, "expired"), 0.0))
        of_stream[span["state"]] += (span["end"] - span["start"]) / SECOND_NS
    by_stream: dict[str, list[Row]] = {}
    for row in rows:
        by_stream.setdefault(label(row), []).append(row)
    for name, of in sorted(by_stream.items()):
        seconds = lasted.get(name, dict.fromkeys((*STATES, "expired"), 0.0))
        lost = [row["fills_missing"] if row["channel"] == "trades" else row["ticks_missing"] for row in of]
        known = [count for count in lost if count is not None]
        table.add_row(
            name,
            f"{len(of):,}",
            f"{sum(row['rows'] for row in of):,}",
            _share(seconds["complete"], sum(seconds[state] for state in STATES)),
            _quiet(seconds["suspect"], "yellow"),
            _quiet(seconds["missing"], "red"),
            _quiet(seconds["unverifiable"], "dim"),
            *((_quiet(seconds["expired"], "dim"),) if gone else ()),
            f"{sum(known):,}" if known else "–",
        )
    console.print(table)
    console.print("rows and lost (ticks of books, fills of trades) are of whole hours;", style="dim")
    console.print("the time before the first run is left out of all others", style="dim")


def _share(part: float, total: float) -> Text:
    """
    Per cent, and never 100 of what is less.
    """
    if not total:
        return Text("–")
    share = min(part / total, 1.0) * 100
    # To the second decimal downwards: 99.996 is not all.
    words = "100 %" if part >= total - 1e-6 else f"{int(share * 100) / 100:.2f} %"
    return Text(words, style="green" if words == "100 %" else "")


def _quiet(seconds: float, style: str) -> Text:
    return Text(lasting(seconds), style=style) if seconds else Text("–", style="dim")


def print_conditions(console: Console, rows: Sequence[Row], *, begins: bool) -> None:
    """
    A line a day and condition, with the markets of it; `begins`: in the first of the days, so did the recording.
    """
    styles = {"available": "green", "degraded": "yellow", "missing": "red", "expired": "dim", "pending": "dim"}
    table = plain("", "day", "condition", "markets")
    by_day: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        by_day.setdefault((str(row["day"]), row["condition"]), []).append(printable(row["symbol"]))
    order = list(styles)
    for (day, condition), markets in sorted(by_day.items(), key=lambda each: (each[0][0], order.index(each[0][1]))):
        names = ", ".join(markets[:_FEW_MARKETS])
        more = f" and {len(markets) - _FEW_MARKETS} more" if len(markets) > _FEW_MARKETS else ""
        table.add_row(day, Text(condition, style=styles[condition]), f"{names}{more}")
    console.print(table)
    if begins:
        console.print("a condition is of 24 hours: for it, the time before the first run is missing", style="dim")


def print_evidence(console: Console, rows: Sequence[Row]) -> None:
    """
    A line a stream and hour, and below it why it says so.
    """
    for row in sorted(rows, key=lambda row: (label(row), row["start"])):
        console.print(Text(f"{label(row)}, {minute(row['start'])}", style="bold"))
        words = row["evidence"] or "sealed by a version that gave no evidence"
        console.print(Padding(Text(printable(words, 600), overflow="fold"), (0, 0, 0, 4), expand=False))
