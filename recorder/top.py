"""
`drift-recorder top`: a live screen of a recorder, from its journal. It is not asked, and does not notice.

Reading and folding happen on a thread of this process; the screen is drawn from one `Status` a second.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Resize
from textual.widgets import DataTable, Footer, Input, Static

from recorder.durable import size
from recorder.errors import RecorderError
from recorder.quality.events import printable
from recorder.show import clock
from recorder.show_status import STATE_STYLES, another, headline, is_wanted, place, whose
from recorder.status.follow import Follower
from recorder.status.markets import MarketLine, by_market, price
from recorder.status.report import Status
from recorder.terminal import lasting, many

EVERY_S = 1.0
TREND = 40
"""Seconds of middle prices that the trend shows."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_MARKS = {"recording": "●", "waiting": "◌", "halted": "◑", "silent": "○", "refused": "✗", "down": "✗"}
_TIGHT, _WIDE = 100, 150
"""Widths at which columns come in."""
_EVENTS_FROM = 30
"""Lines a screen must have to show events."""

SORTS: dict[str, Callable[[MarketLine], tuple[object, ...]]] = {
    "market": lambda line: (line.market_type, line.market),
    "state": lambda line: (line.state == "recording", line.state, line.market),
    "spread": lambda line: (-(line.spread_bp if line.spread_bp is not None else -1.0), line.market),
    "books/s": lambda line: (-line.books_s, line.market),
    "trades/s": lambda line: (-line.trades_s, line.market),
    "age": lambda line: (-(line.age_s if line.age_s is not None else 1e12), line.market),
    "late": lambda line: (-(line.latency_ms if line.latency_ms is not None else -1e12), line.market),
    "holes": lambda line: (-line.holes, -line.hole_s, line.market),
}


class Top(App[None]):
    """
    The screen.
    """

    CSS = """
    Screen { background: $background; }
    #headline { height: 1; padding: 0 1; }
    #problems { height: auto; max-height: 3; padding: 0 1; color: $warning; }
    #facts { height: auto; max-height: 6; padding: 0 1; margin: 0 0 1 0; }
    #facts > Static { width: 1fr; height: auto; }
    #connections { margin: 0 0 0 2; }
    #markets { height: 1fr; scrollbar-size-vertical: 1; }
    #events, #problems, #connections { text-wrap: nowrap; text-overflow: ellipsis; }
    #events { height: auto; max-height: 8; padding: 0 1; border-top: solid $panel; }
    #filter { display: none; height: 1; border: none; padding: 0 1; }
    #filter.shown { display: block; }
    """
    TITLE = "drift-recorder"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("s", "sort", "sort"),
        Binding("r", "reverse", "reverse"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("p", "problems", "problems only"),
        Binding("e", "events", "events"),
        Binding("space", "pause", "pause"),
        Binding("escape", "clear", "clear", show=False),
    ]

    def __init__(self, root: Path, *, look_back_s: float, every_s: float = EVERY_S) -> None:
        """
        Raises:
            RootError: not a data root.
        """
        super().__init__()
        self._follower = Follower(root, look_back_s=look_back_s)
        self._every_s = every_s
        self._status: Status | None = None
        self._sort = "market"
        self._reversed = False
        self._filter = ""
        self._only_problems = False
        self._paused = False
        self._events_wanted: bool | None = None
        self._columns: list[str] = []
        self._shown: dict[str, list[Text]] = {}
        self._trends: dict[tuple[str, str], deque[float]] = {}
        self._following: asyncio.Task[None] | None = None
        self.failure: RecorderError | OSError | None = None
        """What ended it, for the caller to tell."""

    def compose(self) -> ComposeResult:
        """
        The parts, top down.
        """
        yield Static("reading the end of the journal …", id="headline")
        yield Static("", id="problems")
        with Horizontal(id="facts"):
            yield Static("", id="left")
            yield Static("", id="connections")
        yield DataTable(id="markets", cursor_type="row", zebra_stripes=True, cell_padding=1)
        yield Static("", id="events")
        yield Input(placeholder="part of a market's name; enter keeps it, escape clears it", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """
        Begin to follow.
        """
        self.query_one("#markets", DataTable).focus()
        self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            while True:
                if not self._paused:
                    status = await asyncio.to_thread(self._read)
                    self._remember(status)
                    self._status = status
                    self._draw()
                await asyncio.sleep(0.05 if self._follower.behind else self._every_s)
        except (RecorderError, OSError) as error:
            self.failure = error
            self.exit()

    def _read(self) -> Status:
        self._follower.advance()
        return self._follower.status()

    async def on_unmount(self) -> None:
        """
        Let go of the files.
        """
        if self._following is not None:
            self._following.cancel()
        self._follower.close()

    # ---- keys

    def action_sort(self) -> None:
        """
        By the next column.
        """
        names = list(SORTS)
        self._sort = names[(names.index(self._sort) + 1) % len(names)]
        self._draw(moved=True)

    def action_reverse(self) -> None:
        """
        The other way round.
        """
        self._reversed = not self._reversed
        self._draw(moved=True)

    def action_filter(self) -> None:
        """
        Ask for part of a name.
        """
        box = self.query_one("#filter", Input)
        box.add_class("shown")
        box.focus()

    def action_problems(self) -> None:
        """
        Only what is not well.
        """
        self._only_problems = not self._only_problems
        self._draw(moved=True)

    def action_events(self) -> None:
        """
        Show or hide them.
        """
        self._events_wanted = not self.query_one("#events").display
        self._draw()

    def action_pause(self) -> None:
        """
        Stand still, to read.
        """
        self._paused = not self._paused
        self._draw()

    def action_clear(self) -> None:
        """
        All markets again.
        """
        box = self.query_one("#filter", Input)
        box.value = self._filter = ""
        box.remove_class("shown")
        self._only_problems = False
        self.query_one("#markets", DataTable).focus()
        self._draw(moved=True)

    def on_input_changed(self, event: Input.Changed) -> None:
        """
        While it is typed.
        """
        self._filter = event.value.strip().casefold()
        self._draw(moved=True)

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """
        Keep it.
        """
        self.query_one("#filter", Input).remove_class("shown")
        self.query_one("#markets", DataTable).focus()

    def on_resize(self, _: Resize) -> None:
        """
        Other columns may fit.
        """
        self._draw()

    # ---- the screen

    def _remember(self, status: Status) -> None:
        for line in by_market(status):
            if line.best_bid is not None and line.best_ask is not None:
                trend = self._trends.setdefault((line.market_type, line.market), deque(maxlen=TREND))
                trend.append((line.best_bid + line.best_ask) / 2)

    def _draw(self, *, moved: bool = False) -> None:
        status = self._status
        if status is None:
            return
        top = headline(status)
        top.append(f"  {clock(status.at_ts, date=False)[:8]} UTC", "dim")
        if self._paused:
            top.append("  PAUSED", "bold reverse")
        self.query_one("#headline", Static).update(top)
        problems = self.query_one("#problems", Static)
        problems.display = bool(status.problems)
        shown = [Text(printable(words), no_wrap=True, overflow="ellipsis") for words in status.problems[:3]]
        problems.update(Text("\n", no_wrap=True, overflow="ellipsis").join(shown))
        self.query_one("#left", Static).update(_facts(status))
        self.query_one("#connections", Static).update(_connections(status))
        self._draw_markets(status, moved=moved)
        events = self.query_one("#events", Static)
        wanted = self._events_wanted if self._events_wanted is not None else self.size.height >= _EVENTS_FROM
        events.display = wanted
        if wanted:
            events.update(_events(status))

    def _draw_markets(self, status: Status, *, moved: bool) -> None:
        table = self.query_one("#markets", DataTable)
        columns = _columns(self.size.width, sort=self._sort, reverse=self._reversed)
        lines = [line for line in by_market(status) if self._filter in line.market.casefold()]
        if self._only_problems:
            lines = [line for line in lines if line.state != "recording" or line.holes]
        lines.sort(key=SORTS[self._sort], reverse=self._reversed)
        rows = {f"{line.market_type} {line.market}": self._cells(line, len(columns)) for line in lines}
        if columns != self._columns:
            table.clear(columns=True)
            for name in columns:
                bare = name.rstrip("▲▼")
                table.add_column(Text(name) if bare in _WORDS else _right(name), key=bare)
            self._columns, self._shown = columns, {}
        if list(rows) == list(self._shown):
            keys = list(table.columns)
            for name, cells in rows.items():
                for key, cell, before in zip(keys, cells, self._shown[name], strict=True):
                    if cell != before:
                        table.update_cell(name, key, cell, update_width=True)
        else:
            at, scrolled = table.cursor_row, table.scroll_y
            table.clear()
            for name, cells in rows.items():
                table.add_row(*cells, key=name)
            if not moved:
                table.move_cursor(row=at, scroll=False)
                table.scroll_to(y=scrolled, animate=False)
        self._shown = rows

    def _cells(self, line: MarketLine, count: int) -> list[Text]:
        style = STATE_STYLES[line.state]
        old = line.age_s is not None and line.cadence_ms is not None and line.age_s * 1000 > 3 * line.cadence_ms
        holes = f"{line.holes}" + (f" {lasting(line.hole_s)}" if line.hole_s else "") if line.holes else "–"
        cells = [
            Text(_MARKS[line.state], style=style)
            + Text(f" {line.market}", style="" if line.state == "recording" else style),
            _right(price(line.best_bid)),
            _right(price(line.best_ask)),
            _right(f"{line.spread_bp:.1f} bp" if line.spread_bp is not None else "–"),
            _right("–" if line.state == "down" else f"{line.books_s:.1f}"),
            _right("–" if line.state == "down" else f"{line.trades_s:.1f}"),
            _right(lasting(line.age_s) if line.age_s is not None else "–", "yellow" if old else ""),
            _right(holes, "yellow" if line.holes else "dim"),
            _right(f"{line.cadence_ms} ms" if line.cadence_ms is not None else "–"),
            _right(f"{line.latency_ms:.0f} ms" if line.latency_ms is not None else "–"),
            Text(sparkline(list(self._trends.get((line.market_type, line.market), ()))), style="cyan"),
            Text(", ".join(map(str, line.connections)), style="dim"),
            Text(line.state if not line.why else printable(line.why), style=style),
        ]
        return cells[:count]


_WORDS = {"market", "trend", "on", "state"}
"""Columns that are no numbers."""


def _columns(width: int, *, sort: str, reverse: bool) -> list[str]:
    """
    The columns a screen of that width has room for.
    """
    names = ["market", "bid", "ask", "spread", "books/s", "trades/s", "age", "holes"]
    if width >= _TIGHT:
        names += ["cadence", "late"]
    if width >= _WIDE:
        names += ["trend", "on", "state"]
    arrow = "▲" if reverse else "▼"
    return [f"{name}{arrow}" if name == sort else name for name in names]


def _right(words: str, style: str = "") -> Text:
    return Text(words, style=style, justify="right")


def sparkline(values: list[float]) -> str:
    """
    A line of blocks, from the least to the greatest; flat in the middle where nothing moves.
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    if high <= low:
        return _BLOCKS[3] * len(values)
    return "".join(_BLOCKS[min(int((value - low) / (high - low) * len(_BLOCKS)), len(_BLOCKS) - 1)] for value in values)


def _table(rows: list[tuple[str, str]]) -> Text:
    width = max((len(name) for name, _ in rows), default=0)
    lines = [Text.assemble((f"{name:<{width}}  ", "dim"), words) for name, words in rows]
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def _facts(status: Status) -> Text:
    """
    Journal, lake, disk, process.
    """
    journal, seal, disk, process = status.journal, status.seal, status.disk, status.process
    commit = f", committed {lasting(journal.commit_age_s)} ago" if journal.commit_age_s is not None else ""
    rows = [("journal", f"{size(journal.bytes)}{commit}")]
    if journal.commit_p99_ms is not None:
        rows.append(("commit", f"p99 {journal.commit_p99_ms:.1f} ms"))
    if seal is not None:
        behind = f", {many(seal.unsealed_hours, 'hour')} behind" if seal.unsealed_hours else ""
        rows.append(("lake", (f"sealed to {seal.last_hour}" if seal.last_hour else "no hour sealed yet") + behind))
    if disk is not None:
        left = f", {disk.days_left:,.0f} days left" if disk.days_left is not None else ""
        rows.append(("disk", f"{size(disk.free_bytes)} free{left}"))
    if process.rss_bytes:
        lag = f", loop lag p99 {process.loop_lag_p99_ms:.1f} ms" if process.loop_lag_p99_ms is not None else ""
        rows.append(("memory", f"{size(process.rss_bytes)}{lag}"))
    return _table(rows)


def _connections(status: Status) -> Text:
    """
    Those that carry something, the ones that are down first.
    """
    rows = []
    for line in sorted(status.connections, key=lambda line: (line.up, line.connection)):
        if line.up:
            beat = f", beat {line.heartbeat_age_s:.0f} s ago" if line.heartbeat_age_s is not None else ""
            rows.append((f"conn {line.connection}", f"up, {many(line.streams, 'stream')}{beat}"))
        elif is_wanted(line):
            rows.append((f"conn {line.connection}", f"down: {printable(line.why)}"))
    rate = sum(stream.rate for stream in status.streams)
    heard = f"{rate:,.0f} frames/s" if status.recording else "nothing: nobody records"
    others = [("beside" if other.alive else "before", another(other, short=True)) for other in status.others[:2]]
    return _table([("heard", heard), *others, *rows[: 4 - len(others)]])


def _events(status: Status) -> Text:
    """
    The newest first.
    """
    lines = [
        Text.assemble(
            (f"{clock(event.end, date=False)[:8]} {whose(event, status)}", "dim"),
            (event.kind, "bold"),
            f"{printable(place(event))}: {printable(event.evidence)}",
        )
        for event in status.recent[:7]
    ]
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines or [Text("no events yet", style="dim")])
