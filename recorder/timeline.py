"""
A line for each stream, a cell for each stretch of time, and in it the worst that is in the stretch. Pure.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.text import Text

from recorder.records import SECOND_NS

Stretch = tuple[int, int, str]
"""Start, end (ns) and state."""

_MINUTE, _DAY = 60, 86_400
_MOST_DAYS_BY_HOUR = 3
CELLS_S = (
    *(1, 2, 5, 10, 20, 30),
    *(_MINUTE * n for n in (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720)),
    *(_MINUTE * 60 * 24 * n for n in (1, 2, 7, 14, 28, 91, 364)),
)
"""Seconds a cell may stand for."""
NOTHING = " "
_LETTERS = {"missing": "m", "suspect": "s", "expired": "x", "unverifiable": "u", "complete": "c"}
"""Worst first. Small: some of the cell. Capital: all of it; but complete and unverifiable are calm."""
_STYLES = {"m": "red", "M": "bold white on red", "s": "yellow", "S": "bold black on yellow", "u": "dim", "c": "green"}
_STYLES["x"] = "dim"
LEGEND = "worst: c complete, u unverifiable, s suspect, m missing"
EXPIRED = "x: rows that were removed by rule"
CAPITALS = "S and M: there is nothing else in the cell"


def cell_s(start: int, end: int, width: int) -> int:
    """
    The shortest stretch, in seconds, of which `width` cells hold the range.
    """
    for seconds in CELLS_S:
        first = start // (seconds * SECOND_NS)
        if -(-end // (seconds * SECOND_NS)) - first <= width:
            return seconds
    return CELLS_S[-1]


def cells(stretches: Sequence[Stretch], start: int, count: int, seconds: int) -> str:
    """
    A letter for each cell.

    Args:
        stretches: in order, not overlapping.
        start: ns at which the first cell begins.
        count: of cells.
        seconds: that each stands for.
    """
    lasts = seconds * SECOND_NS
    held: list[dict[str, int]] = [{} for _ in range(count)]
    for begin, end, state in stretches:
        first, last = max((begin - start) // lasts, 0), min(-(-(end - start) // lasts), count)
        for number in range(first, last):
            at = start + number * lasts
            inside = min(end, at + lasts) - max(begin, at)
            held[number][state] = held[number].get(state, 0) + inside
    return "".join(_letter(of) for of in held)


def _letter(of: dict[str, int]) -> str:
    for state, letter in _LETTERS.items():
        if of.get(state):
            whole = of[state] == sum(of.values()) and state in {"missing", "suspect"}
            return letter.upper() if whole else letter
    return NOTHING


def coloured(letters: str) -> Text:
    """
    The same in colour.
    """
    text = Text()
    for letter in letters:
        text.append(letter, _STYLES.get(letter, ""))
    return text


def scale(start: int, count: int, seconds: int) -> str:
    """
    A line of times above the cells, as many as have room.

    Args:
        start: ns at which the first cell begins.
        count: of cells.
        seconds: that each stands for.
    """
    lasts = seconds * SECOND_NS
    by_day = seconds * count > _MOST_DAYS_BY_HOUR * _DAY
    shown = "%m-%d" if by_day else "%H:%M" if seconds % _MINUTE == 0 else "%H:%M:%S"
    room = len(_moment(start).strftime(shown)) + 2
    step = next((s for s in CELLS_S if s >= seconds * room and s % seconds == 0), CELLS_S[-1]) * SECOND_NS
    if by_day:
        step = -(-step // (_DAY * SECOND_NS)) * _DAY * SECOND_NS
    cells_of_marks = [n for n in range(count) if (start + n * lasts) % step < lasts]
    if not cells_of_marks or cells_of_marks[0] >= room - 1:
        cells_of_marks.insert(0, 0)
    line = ""
    for cell in cells_of_marks:
        if cell + room - 2 <= count or not cell:
            line = line.ljust(cell) + _moment(start + cell * lasts).strftime(shown)
    return line


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // SECOND_NS, UTC)
