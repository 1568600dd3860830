"""
What `drift-recorder status` prints: one screen.
"""

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from recorder.durable import size
from recorder.quality.events import printable
from recorder.records import Event
from recorder.show import clock, plain
from recorder.status.markets import MarketLine, by_market, price
from recorder.status.report import NAMED, ConnectionStatus, RunStatus, Status
from recorder.terminal import lasting, many

FEW = 12
"""Markets that are listed although nothing is the matter with them."""
RECENT = 5
"""Events of a run that are told."""
MOST_RUNS = 4
MOST_PROBLEMS = 8
LEFT_OUT_FIRST = ("cadence", "late", "trades/s", "spread", "ask", "bid", "books/s", "age", "holes")
"""Where the terminal is too narrow for all."""
BETWEEN = 2
"""Blanks between two columns."""
STATE_STYLES = {
    "recording": "green",
    "waiting": "yellow",
    "halted": "yellow",
    "silent": "red",
    "refused": "red",
    "down": "red",
}


def print_status(console: Console, status: Status, *, everything: bool, looked_back_s: float) -> None:
    """
    The whole of it, what is wrong first.

    Args:
        console: to print to.
        status: to show.
        everything: list all markets.
        looked_back_s: how much of the journal was read: events and holes are of that time.
    """
    console.print(headline(status))
    for problem in status.problems[:MOST_PROBLEMS]:
        console.print(Text(f"  ! {printable(problem)}", style="yellow"))
    if len(status.problems) > MOST_PROBLEMS:
        console.print(Text(f"  ! and {len(status.problems) - MOST_PROBLEMS} more: --json has them all", style="yellow"))
    console.print()
    table = plain("", "", "")
    for name, words in rows(status):
        table.add_row(Text(name, style="dim"), Text(words))
    console.print(table)
    console.print()
    print_markets(console, status, everything=everything)
    console.print(f"holes are of the last {lasting(looked_back_s)} of the journal", style="dim")
    if status.others:
        console.print(f"of run {status.run} alone; above is what others had", style="dim")
    if status.recent:
        console.print()
        console.print(f"in the last {lasting(looked_back_s)} of the journal:")
        for event in status.recent[: RECENT * min(1 + len(status.others), 3)]:
            words = (
                f"{clock(event.end, date=False)[:8]} {whose(event, status)}{event.kind}{place(event)}: {event.evidence}"
            )
            console.print(Text(f"  {printable(words)}"), overflow="ellipsis", no_wrap=True)


def place(event: Event) -> str:
    """
    What an event is about, with a blank before it: a stream, else a connection; empty if it is about the recorder.
    """
    if event.symbol or event.channel:
        return " " + " ".join(part for part in (event.symbol, event.channel) if part)
    return f" connection {event.connection}" if event.connection is not None and event.connection >= 0 else ""


def headline(status: Status) -> Text:
    """
    The answer, in one line.
    """
    if not status.recording:
        mark, style, words = "●", "red", "not recording"
    elif not status.ready:
        mark, style, words = "●", "yellow", "recording, but not everything"
    else:
        mark, style, words = "●", "green", "recording everything"
    good = sum(stream.state == "recording" for stream in status.streams)
    text = Text.assemble((f"{mark} {words}", f"bold {style}"))
    text.append(f"  {status.venue}  {good} of {many(len(status.streams), 'stream')}", "bold")
    text.append(f"  {printable(status.root)}", "dim")
    return text


def rows(status: Status) -> list[tuple[str, str]]:
    """
    What is beside the markets: (name, words).
    """
    journal, disk, seal, process = status.journal, status.disk, status.seal, status.process
    told = []
    if status.run is not None:
        ago_s = 0.0 if status.recording else journal.commit_age_s or 0.0
        since = f", for {lasting((status.at_ts - process.started_ts) / 1e9 - ago_s)}" if process.started_ts else ""
        pid = f" as process {process.pid} on {printable(status.host)}" if process.pid is not None else ""
        told.append(("run", f"{status.run}{pid}{since}, version {status.version}"))
    told += [("beside" if other.alive else "before", another(other)) for other in status.others[:MOST_RUNS]]
    if len(status.others) > MOST_RUNS:
        told.append(("before", f"{len(status.others) - MOST_RUNS} more: --json has them all"))
    for line in status.connections:
        beat = f", heartbeat {line.heartbeat_age_s:.1f} s ago" if line.heartbeat_age_s is not None else ""
        url = f" {printable(line.url)}" if line.url else ""
        words = (
            f"up, {many(line.streams, 'stream')}{beat}" if line.up else f"down: {printable(line.why) or 'not yet up'}"
        )
        if is_wanted(line):
            told.append((f"connection {line.connection}", f"{words}{url}"))
    parts = [f"{size(journal.bytes)} in {many(journal.segments, 'file')}"]
    if journal.commit_age_s is not None:
        parts.append(f"committed {lasting(journal.commit_age_s)} ago")
    if journal.commit_p99_ms is not None:
        parts.append(f"commit p99 {journal.commit_p99_ms:.1f} ms")
    if journal.queued_bytes:
        parts.append(f"{size(journal.queued_bytes)} wait")
    if journal.dropped:
        parts.append(f"{journal.dropped:,} entries dropped")
    told.append(("journal", ", ".join(parts)))
    if seal is not None:
        last = f"up to {seal.last_hour}" if seal.last_hour is not None else "no whole hour yet"
        late = (
            f", {many(seal.unsealed_hours, 'hour')} behind (since {seal.oldest_unsealed})"
            if seal.unsealed_hours
            else ""
        )
        wrong = f", the last seal failed: {printable(seal.failed)}" if seal.failed else ""
        told.append(("lake", f"{last}{late}{wrong}"))
    if disk is not None:
        left = f", full in {disk.days_left:,.0f} days at this pace" if disk.days_left is not None else ""
        inodes = f", room for {disk.free_inodes:,} files" if disk.free_inodes is not None else ""
        told.append(("disk", f"{size(disk.free_bytes)} free of {size(disk.total_bytes)}{inodes}{left}"))
    if process.rss_bytes:
        lag = f", loop lag p99 {process.loop_lag_p99_ms:.1f} ms" if process.loop_lag_p99_ms is not None else ""
        told.append(("memory", f"{size(process.rss_bytes)}{lag}"))
    if status.reload is not None:
        how = "taken over" if status.reload.taken else "REFUSED"
        told.append(("reload", f"{clock(status.reload.at_ts, date=False)[:8]} {how}: {printable(status.reload.words)}"))
    return told


def another(run: RunStatus, *, short: bool = False) -> str:
    """
    What a run had beside the one a status is of, or before it; `short`: for a narrow place.
    """
    last = run.last_ts or run.started_ts
    if run.alive:
        good = sum(stream.state == "recording" for stream in run.streams)
        how = f"for {lasting((last - run.started_ts) / 1e9)}, {good} of {many(len(run.streams), 'stream')}"
    else:
        how = f"stopped ({printable(run.stopped)})" if run.stopped else "died, or was killed,"
        how += f" at {clock(last, date=False)[:8]}"
        if run.down_s is not None:
            how += f", and nobody recorded for {lasting(run.down_s)}"
    if short:
        return f"{tail(run.run)} {_holes(run)}; {how}"
    return f"{run.run} {how}; {_holes(run)}" + "".join(f"; {printable(words)}" for words in run.problems[:2])


def _holes(run: RunStatus) -> str:
    """
    By market, the most first.
    """
    lines = sorted((line for line in by_market(run) if line.holes), key=lambda line: -line.holes)
    named = ", ".join(f"{line.market} {cells(line)['holes']}" for line in lines[:NAMED])
    return f"holes: {named}" + (f" and {len(lines) - NAMED} more" * (len(lines) > NAMED)) if lines else "no holes"


def tail(run: str) -> str:
    """
    The end of a run's name, which is by chance and tells it from others.
    """
    return run.rpartition("-")[2]


def whose(event: Event, status: Status) -> str:
    """
    The end of the name of an event's run, with a blank after it, where there is more than one run.
    """
    return f"{tail(event.run)} " if status.others and event.run else ""


def is_wanted(line: ConnectionStatus) -> bool:
    """
    Whether a connection is open, or ought to be: one that let go of all its streams is closed, and missed by nobody.
    """
    return line.up or bool(line.why and (line.streams or not line.connects))


def print_markets(console: Console, status: Status, *, everything: bool) -> None:
    """
    Those with something wrong, then others while there is room.
    """
    lines = by_market(status)
    wrong = [line for line in lines if line.state != "recording" or line.holes]
    well = [line for line in lines if line not in wrong]
    shown = lines if everything else wrong[: 2 * FEW] + well[: max(FEW - len(wrong), 0)]
    if not shown:
        return
    names = _fitting(shown, console.width)
    table = plain("", "market", "state", *names, right=names)
    for line in shown:
        numbers = cells(line)
        state = Text(line.state, style=STATE_STYLES[line.state])
        table.add_row(line.market, state, *(numbers[name] for name in names))
    console.print(table)
    if len(shown) < len(lines):
        console.print(f"and {many(len(lines) - len(shown), 'market')} more: --all lists them", style="dim")


def cells(line: MarketLine) -> dict[str, str]:
    """
    The numbers of a market, as text, by what is above them.
    """
    return {
        "bid": price(line.best_bid),
        "ask": price(line.best_ask),
        "spread": f"{line.spread_bp:.1f} bp" if line.spread_bp is not None else "–",
        "books/s": "–" if line.state == "down" else f"{line.books_s:.1f}",
        "trades/s": "–" if line.state == "down" else f"{line.trades_s:.1f}",
        "age": lasting(line.age_s) if line.age_s is not None else "–",
        "cadence": f"{line.cadence_ms} ms" if line.cadence_ms is not None else "–",
        "late": f"{line.latency_ms:.0f} ms" if line.latency_ms is not None else "–",
        "holes": f"{line.holes}" + (f" ({lasting(line.hole_s)})" if line.hole_s else "") if line.holes else "–",
    }


def _fitting(lines: list[MarketLine], width: int) -> tuple[str, ...]:
    """
    The numbers that have room beside name and state: half a number is worse than none.
    """
    rows = [{"market": line.market, "state": line.state, **cells(line)} for line in lines]
    widths = {name: max(cell_len(each) for each in (name, *(row[name] for row in rows))) for name in rows[0]}
    for name in LEFT_OUT_FIRST:
        if sum(widths.values()) + BETWEEN * (len(widths) - 1) <= width:
            break
        del widths[name]
    return tuple(name for name in widths if name not in {"market", "state"})
