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
BLOCKS = 4
"""So many blocks of a stretch are kept as Python objects: those that were asked for last."""


class Levels:
    """
    The levels of a stretch of books, which are read from the files when somebody asks for the first of them, and are
    columns until somebody asks for theirs.
    """

    def __init__(self, read: Callable[[], pl.DataFrame], seqs: list[int]) -> None:
        """
        Args:
            read: rows with `seq` and the columns of lists, in the order of the books.
            seqs: of the books as they were handed out.
        """
        self._read, self._seqs = read, seqs
        self._rows: pl.DataFrame | None = None
        self._sides: dict[tuple[str, int], list[list[Level]]] = {}

    @property
    def _frame(self) -> pl.DataFrame:
        """
        Raises:
            RecorderError: the files are not those that the books came from.
        """
        if self._rows is None:
            frame = self._read()
            if frame["seq"].to_list() != self._seqs:
                raise RecorderError("the hour was sealed anew while it was replayed; replay it again")
            self._rows = frame
        return self._rows

    def of(self, side: str, row: int) -> list[Level]:
        """
        `bid` or `ask` of one row, best first.
        """
        block, within = divmod(row, BLOCK_ROWS)
        made = self._sides.get((side, block))
        if made is None:
            rows = self._frame.slice(block * BLOCK_ROWS, BLOCK_ROWS)
            prices, sizes = (rows[f"{side}_{name}"].to_list() for name in ("price", "size"))
            made = [list(zip(*pair, strict=True)) for pair in zip(prices, sizes, strict=True)]
            while len(self._sides) >= 2 * BLOCKS:
                del self._sides[next(iter(self._sides))]
            self._sides[side, block] = made
        return made[within]

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
    """`missing`, `suspect` or `unverifiable`, as in `coverage`; `unrecorded` where no published hour has it, or, with
    `live=True`, nothing is committed yet."""
    why: str


Record = Book | Trade | Hole
