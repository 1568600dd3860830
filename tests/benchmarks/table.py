"""
The figures there are, their budgets, and the table of what was measured.

Each figure is one row; `part` is what `figures.py --only` measures it by. Absolute values belong to the machine,
ratios travel: they say how many times better than the plain recorder ours is in the same run.
"""

import statistics
from collections.abc import Iterable
from typing import Literal

import msgspec

COMMAND = "tests/benchmarks/figures.py"
BEGIN, END = "<!-- figures -->", "<!-- end -->"
GROWTH = (10, 100, 1000)
"""Markets."""


class Figure(msgspec.Struct, frozen=True):
    """
    One row.
    """

    name: str
    part: str
    unit: str
    better: Literal["more", "less"] = "less"
    budget: float | None = None
    """Met by this or better; None: a figure without a budget."""
    strict: bool = False
    """Only better than the budget will do."""
    digits: int = 0


FIGURES: tuple[Figure, ...] = (
    Figure("capture on one core", "capture", "frames/s", "more", 20_000),
    Figure("capture on one core, permessage-deflate", "capture", "frames/s", "more", 20_000),
    Figure("capture on one core, frames lost", "capture", "", budget=0),
    Figure("live load, CPU of one core", "live", "%", budget=5, digits=1),
    Figure("live load, memory", "live", "MB", budget=80),
    Figure("live load, growth of memory", "live", "MB/h", budget=1, strict=True, digits=1),
    Figure("live load, receipt to durable, p50", "live", "ms", digits=1),
    Figure("live load, receipt to durable, p99", "live", "ms", budget=250, digits=1),
    Figure("live load, event loop lag, p99", "live", "ms", digits=1),
    Figure("live load, event loop lag, max", "live", "ms", digits=1),
    Figure("live load, frames lost", "live", "", budget=0),
    Figure("5 × live load, event loop lag, p99", "live", "ms", budget=10, digits=1),
    Figure("5 × live load, frames lost", "live", "", budget=0),
    Figure("journal, a frame", "journal", "kB", budget=0.55, digits=2),
    Figure("journal, a day of all of Drift", "journal", "GB", digits=1),
    Figure("seal, 96 markets, one core", "seal", "frames/s", "more", 20_000),
    Figure("seal, 100 markets, one core", "seal", "frames/s", "more", 20_000),
    Figure("seal, 96 markets, peak memory", "seal", "MB", budget=300),
    Figure("seal, 100 markets, peak memory", "seal", "MB", budget=300),
    Figure("Parquet, a 20-level book of the study", "parquet", "bytes", budget=170),
    Figure("Parquet, a simulated book", "parquet", "bytes"),
    Figure("lake, a day of all of Drift", "parquet", "GB", digits=1),
    Figure("polars, mid series of a market-hour", "queries", "ms", budget=3, digits=1),
    Figure("polars, one book at a time", "queries", "ms", budget=7, digits=1),
    Figure("polars, depth within 10 bps of a market-hour", "queries", "ms", budget=16, digits=1),
    *(
        figure
        for name, budget, digits, others in (
            ("mid of a market-hour", 20, 1, ("csv", "jsonl")),
            ("1-minute bars of a market-day", 100, 0, ("csv", "jsonl")),
            ("time-weighted spread of all", 1500, 0, ()),
            ("time-weighted spread of one", None, 0, ("csv", "jsonl")),
            ("one book at a time", 15, 1, ("csv", "jsonl")),
        )
        for figure in (
            Figure(f"a day of 12 markets, {name}", "day", "ms", budget=budget, digits=digits),
            *(Figure(f"a day of 12 markets, {name}, {kind}.gz instead", "day", "ms", digits=digits) for kind in others),
            Figure(f"a day of 12 markets, {name}, CPU", "day", "ms", digits=digits),
        )
    ),
    Figure("a day of 12 markets, peak memory of these", "day", "MB", budget=500),
    Figure("live monitor, a frame", "monitor", "µs", budget=6, digits=1),
    Figure("reader after the socket, a frame", "monitor", "µs", digits=1),
    *(
        figure
        for count in GROWTH
        for figure in (
            Figure(f"{count} markets, reader after the socket, a frame", "growth", "µs", digits=1),
            Figure(f"{count} markets, live monitor, a frame", "growth", "µs", digits=1),
            Figure(f"{count} markets, seal", "growth", "frames/s", "more"),
            Figure(f"{count} markets, seal, peak memory", "growth", "MB"),
            Figure(f"{count} markets, files an hour", "growth", ""),
        )
    ),
    Figure("ready to record, empty root", "start", "s", budget=1, strict=True, digits=2),
    Figure("ready to record, a day of journal on disk", "start", "s", budget=1, strict=True, digits=2),
    Figure("ready to record, a day of damaged journal on disk", "start", "s", budget=1, strict=True, digits=2),
)
"""In the order of the table."""

PARTS = tuple(dict.fromkeys(figure.part for figure in FIGURES))


class Measured(msgspec.Struct):
    """
    What came out for one figure, a value a round.
    """

    name: str
    ours: list[float] = []
    """Empty: it was not measured; `note` says why."""
    plain: list[float] = []
    """Empty: the plain recorder has nothing of the kind."""
    note: str = ""


def shown(figure: Figure, values: list[float]) -> str:
    """
    The median, with its unit.
    """
    if not values:
        return "–"
    return f"{statistics.median(values):,.{figure.digits}f} {figure.unit}".rstrip()


def ratio(figure: Figure, measured: Measured) -> str:
    """
    How many times better than the plain recorder.
    """
    if not measured.ours or not measured.plain:
        return "–"
    ours, plain = statistics.median(measured.ours), statistics.median(measured.plain)
    better, worse = (ours, plain) if figure.better == "more" else (plain, ours)
    return f"{better / worse:.1f} ×" if worse else "–"


def met(figure: Figure, measured: Measured) -> bool | None:
    """
    Whether the budget is kept; None where there is none, or nothing was measured.
    """
    if figure.budget is None or not measured.ours:
        return None
    value = statistics.median(measured.ours)
    if figure.strict and value == figure.budget:
        return False
    return value >= figure.budget if figure.better == "more" else value <= figure.budget


def budget(figure: Figure) -> str:
    """
    In words.
    """
    if figure.budget is None:
        return ""
    digits = 2 if figure.budget % 1 else 0
    sign = "≥" if figure.better == "more" else "<" if figure.strict else "≤"
    amount = f"{figure.budget:,.{digits}f} {figure.unit}".rstrip()
    return amount if not figure.budget else f"{sign} {amount}"


def lines(results: Iterable[Measured]) -> list[tuple[str, ...]]:
    """
    Cells of the table: figure, budget, measured, plain recorder, ratio, part. A missed budget is marked.
    """
    by_name = {measured.name: measured for measured in results}
    cells: list[tuple[str, ...]] = []
    for figure in FIGURES:
        measured = by_name.get(figure.name)
        if measured is not None:
            mark = " (missed)" if met(figure, measured) is False else ""
            ours, plain = shown(figure, measured.ours) + mark, shown(figure, measured.plain)
            cells.append((figure.name, budget(figure), ours, plain, ratio(figure, measured), figure.part))
    return cells


def plain_text(results: Iterable[Measured]) -> str:
    """
    The table for a terminal, with the notes below.
    """
    results = list(results)
    table = [("figure", "budget", "measured", "plain recorder", "ratio", "--only"), *lines(results)]
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    text = "\n".join(
        "  ".join(
            cell.rjust(width) if 0 < at < 5 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )
    notes = "\n".join(f"* {measured.name}: {measured.note}" for measured in results if measured.note)
    return f"{text}\n\n{notes}" if notes else text


def markdown(results: Iterable[Measured]) -> str:
    """
    The README's table, between its markers.
    """
    rows = [
        f"| {name} | {wanted} | {ours} | {plain} | {times} | `{COMMAND} --only {part}` |"
        for name, wanted, ours, plain, times, part in lines(results)
    ]
    head = "| figure | budget | measured | plain recorder | ratio | printed by |\n|---|---|---|---|---|---|"
    return "\n".join([BEGIN, "", head, *rows, "", END])


def replaced(readme: str, results: Iterable[Measured]) -> str:
    """
    A README with its table made anew.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"there is no table between {BEGIN} and {END}")
    return before + markdown(results) + after
