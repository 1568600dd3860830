"""
What `Lake.replay` hands out: books, trades and holes, as frozen structs.

Prices are in quote tokens and sizes in base tokens, or the exact integers of the files with `units="raw"`; `recv_ts`,
`ts`, `start` and `end` are integer ns since the epoch, UTC. None is what the venue did not send.
"""

from collections.abc import Callable, Sequence

import msgspec
import polars as pl

from recorder.errors import RecorderError

Level = tuple[float, float]
"""Price and size; integers in raw units."""

BLOCK_ROWS = 1024
"""Books whose levels become Python objects together, when the first of them is asked for its own."""


class Window:
    """
    The levels of a stretch of books, which are read from the files when the first of them is asked for.
    """

    def __init__(self, read: Callable[[], pl.DataFrame], seqs: list[int]) -> None:
        """
        Args:
            read: rows with `seq` and the columns of lists.
            seqs: of the books as they were handed out.
        """
        self._read, self._seqs = read, seqs
        self._frame: pl.DataFrame | None = None

    def rows(self, first: int, count: int) -> pl.DataFrame:
        """
        Some of them.

        Raises:
            RecorderError: the files are not those that the books came from.
        """
        if self._frame is None:
            frame = self._read()
            if frame["seq"].to_list() != self._seqs:
                raise RecorderError("the hour was sealed anew while it was replayed; replay it again")
            self._frame = frame
        return self._frame.slice(first, count)


class Levels:
    """
    The levels of a block of books, as columns until somebody asks.
    """

    def __init__(self, window: Window, first: int) -> None:
        self._window, self._first = window, first
        self._rows: pl.DataFrame | None = None
        self._sides: dict[str, list[list[Level]]] = {}

    @property
    def _frame(self) -> pl.DataFrame:
        if self._rows is None:
            self._rows = self._window.rows(self._first, BLOCK_ROWS)
        return self._rows

    def of(self, side: str, row: int) -> list[Level]:
        """
        `bid` or `ask` of one row, best first.
        """
        made = self._sides.get(side)
        if made is None:
            prices, sizes = (self._frame[f"{side}_{name}"].to_list() for name in ("price", "size"))
            made = self._sides[side] = [
                list(zip(price, size, strict=True)) for price, size in zip(prices, sizes, strict=True)
            ]
        return made[row]

    def column(self, name: str, row: int) -> Sequence[int]:
        """
        One row of a column of lists.
        """
        values: list[int] = self._frame[name][row].to_list()
        return values


class Book(msgspec.Struct, frozen=True, gc=False, eq=False):
    """
    One full book. Its levels are read and made on demand, many books at a time; until then it costs a microsecond.
    """

    recv_ts: int
    """Arrival at the recorder."""
    ts: int | None
    """The publisher's clock."""
    symbol: str
    slot: int | None
    bid: float | None
    """Best price; None when the side is empty."""
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    mark: float | None
    oracle: float | None
    flags: int
    """Bits of `records.Flag`."""
    run: str
    seq: int
    """(run, seq) finds the raw frame in the journal."""
    _levels: Levels
    _row: int

    @property
    def bids(self) -> list[Level]:
        """
        (price, size) of each level, best first.
        """
        return self._levels.of("bid", self._row)

    @property
    def asks(self) -> list[Level]:
        """
        (price, size) of each level, best first.
        """
        return self._levels.of("ask", self._row)

    @property
    def bid_sources(self) -> Sequence[int]:
        """
        Bits of `records.Source` for each bid.
        """
        return self._levels.column("bid_source", self._row)

    @property
    def ask_sources(self) -> Sequence[int]:
        """
        Bits of `records.Source` for each ask.
        """
        return self._levels.column("ask_source", self._row)


class Trade(msgspec.Struct, frozen=True, gc=False):
    """
    One fill.
    """

    recv_ts: int
    ts: int | None
    """Block time: whole seconds."""
    symbol: str
    slot: int | None
    fill_record_id: int | None
    price: float | None
    """quote / base, in natural units whatever the units of the rest."""
    base_amount: float | None
    quote_amount: float | None
    aggressor: str | None
    """`buy` or `sell`."""
    is_market_trade: bool
    """False for position transfers."""
    action_explanation: str | None
    oracle: float | None
    taker: str | None
    maker: str | None
    taker_order_id: int | None
    maker_order_id: int | None
    taker_fee: float | None
    maker_fee: float | None
    tx_sig: str | None
    flags: int
    run: str
    seq: int


class Hole(msgspec.Struct, frozen=True):
    """
    From here to `end`, what one table holds of one market is not known to be all there was.

    Comes where it starts, before the records of that instant; records inside it are what was heard all the same.
    """

    start: int
    end: int
    symbol: str
    table: str
    """`books`, `trades`, …"""
    state: str
    """`missing`, `suspect` or `unverifiable`, as in `coverage`; `unrecorded` where no published hour has it."""
    why: str


Record = Book | Trade | Hole
