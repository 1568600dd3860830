"""
Buffers between decoded records and Arrow: rows go in one by one, a table in the exact schema comes out.

Books are many and wide: their numbers go into flat `array` buffers, which Arrow then takes over without a copy. They
come flat, with NULL for null, and are appended array by array, no number looked at. The scalars of a book make a row,
those of its entry another, and a column is every n-th number of either; text that repeats (run, symbol) is a number.

Trades, fees and the small tables are few: lists of values, converted when taken.

Rows come out in the order they went in, and the same rows always give the same table.
"""

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from recorder.lake.schema import BOOKS, PRIORITY_FEES, ROW_GROUP_BYTES, ROW_GROUP_ROWS, TRADES, Table
from recorder.records import Entry
from recorder.venue.payloads import BOOK_NUMBERS, NULL, Book, Fees, Side, Trade

__all__ = ["NULL", "BookColumns", "FeeColumns", "TradeColumns", "rows_table"]

_PACK_ROWS = 100

_BOOK_ORIGIN = (
    *("recv_ts", "run", "seq", "connection", "attempt", "symbol", "market_type", "market_index", "size_exponent"),
    "flags",
)
"""In the order in which `BookColumns.append` lays them out."""

# In Arrow: the scalars, the best levels and four ends of lists; price, size and source.
_ROW_BYTES = 8 * (len(_BOOK_ORIGIN) + len(BOOK_NUMBERS) + 4) + 4 * 4
_LEVEL_BYTES = 8 + 8 + 2


class _Words:
    """
    Text that repeats, as small numbers.
    """

    def __init__(self) -> None:
        self._code_of: dict[str, int] = {}

    def code(self, word: str) -> int:
        """
        The word's number; the same word always has the same.
        """
        return self._code_of.setdefault(word, len(self._code_of))

    def column(self, codes: pa.Array) -> pa.Array:
        """
        The words behind a column of codes.
        """
        return pa.array(self._code_of, pa.string()).take(codes)


class _SideBuffers:
    """
    The levels of one side of all rows, flat, and where each row ends.
    """

    def __init__(self) -> None:
        self.price, self.size, self.part = array("q"), array("q"), array("q")
        self.source = array("H")
        self.levels, self.parts = array("i", [0]), array("i", [0])

    def append(self, side: Side) -> None:
        """
        Add one row's levels.
        """
        self.price.extend(side.price)
        self.size.extend(side.size)
        self.source.extend(side.source)
        self.levels.append(len(self.price))
        self.part.extend(side.part)
        self.parts.append(len(self.part))

    def columns(self, name: str) -> dict[str, pa.Array]:
        """
        The four list columns of a side, and its best level. The buffers belong to Arrow from here on.
        """
        price, size = _numbers(self.price), _numbers(self.size)
        ends = _flat(pa.int32(), self.levels)
        starts, ends = ends[:-1], ends[1:]
        best = pc.if_else(pc.less(starts, ends), starts, None)
        return {
            f"best_{name}_price": price.take(best),
            f"best_{name}_size": size.take(best),
            f"{name}_price": _list_column(self.levels, price),
            f"{name}_size": _list_column(self.levels, size),
            f"{name}_source": _list_column(self.levels, _flat(pa.uint16(), self.source)),
            f"{name}_part": _list_column(self.parts, _numbers(self.part)),
        }


class BookColumns:
    """
    Books on their way into one file.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._origin, self._content = array("q"), array("q")
        self._bid, self._ask = _SideBuffers(), _SideBuffers()
        self._extra: dict[int, str] = {}
        self._words = _Words()
        self.rows = 0
        """Appended since the last `take`."""
        self.bytes = 0
        """What the rows take in memory, before any encoding."""

    @property
    def full(self) -> bool:
        """
        Whether the rows make a row group.
        """
        return self.rows >= ROW_GROUP_ROWS or self.bytes >= ROW_GROUP_BYTES

    def append(self, book: Book, entry: Entry, *, symbol: str, size_exponent: int | None, flags: int = 0) -> None:
        """
        Add one row.

        Args:
            book: As decoded from the entry's payload.
            entry: Where the book came from; its `run` is set.
            symbol: Of the market, as it shall stand in the lake.
            size_exponent: Of the market's sizes; None if the token is unknown.
            flags: Bits of `Flag` that only the stream tells (FIRST_AFTER_GAP, REPEAT, …), added to the book's own.
        """
        code, channel = self._words.code, book.channel
        self._origin.fromlist(
            [
                entry.recv_ts,
                code(entry.run),
                entry.seq,
                entry.connection,
                entry.attempt,
                code(symbol),
                code(channel.market_type),
                channel.market_index,
                NULL if size_exponent is None else size_exponent,
                book.flags | flags,
            ]
        )
        self._content.extend(book.numbers)
        bid, ask = book.bid, book.ask
        self._bid.append(bid)
        self._ask.append(ask)
        levels, parts = len(bid.price) + len(ask.price), len(bid.part) + len(ask.part)
        self.bytes += _ROW_BYTES + _LEVEL_BYTES * levels + 8 * parts
        if book.extra is not None:
            self._extra[self.rows] = book.extra
            self.bytes += len(book.extra)
        self.rows += 1

    def take(self) -> pa.Table:
        """
        All rows as a table in the schema of `books`; the buffers are empty afterwards.
        """
        columns: dict[str, pa.Array] = {**self._bid.columns("bid"), **self._ask.columns("ask")}
        kinds = {c.name: c.type for c in BOOKS.columns}
        for names, rows in ((_BOOK_ORIGIN, self._origin), (BOOK_NUMBERS, self._content)):
            for at, name in enumerate(names):
                values = _numbers(rows[at :: len(names)])
                kind = kinds[name]
                columns[name] = self._words.column(values) if kind == pa.string() else values.cast(kind)
        columns["extra"] = pa.array([self._extra.get(at) for at in range(self.rows)], pa.string())
        self._clear()
        return _checked(BOOKS, columns)


class _RowColumns:
    """
    Rows of a table as tuples in the order of its columns.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows: list[tuple[Any, ...]] = []
        self._packed: list[pa.Table] = []
        """Rows before those, as Arrow: it takes a third of what Python's objects do."""
        self.rows = 0
        """Appended since the last `take`."""
        self.bytes = 0
        """About what the rows take as Arrow."""

    @property
    def full(self) -> bool:
        """
        Whether the rows make a row group.
        """
        return self.rows >= ROW_GROUP_ROWS or self.bytes >= ROW_GROUP_BYTES

    def _append(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        self.rows += 1
        self.bytes += 8 * len(row) + sum(len(v) for v in row if isinstance(v, str))
        if len(self._rows) >= _PACK_ROWS:
            self._pack()

    def _pack(self) -> None:
        rows, self._rows = self._rows, []
        self._packed.append(_table_of(self._table, rows))

    def take(self) -> pa.Table:
        """
        All rows as a table in its exact schema; the buffers are empty afterwards.
        """
        self._pack()
        packed, self._packed, self.rows, self.bytes = self._packed, [], 0, 0
        return pa.concat_tables(packed).combine_chunks()


class TradeColumns(_RowColumns):
    """
    Trades on their way into one file.
    """

    def __init__(self) -> None:
        super().__init__(TRADES)

    def append(self, trade: Trade, entry: Entry, *, symbol: str, size_exponent: int | None, flags: int = 0) -> None:
        """
        Add one row. Arguments as for `BookColumns.append`.
        """
        channel, ts, slot, *values, own_flags, extra, _ = msgspec.structs.astuple(trade)
        self._append(
            (
                entry.recv_ts,
                ts,
                slot,
                entry.run,
                entry.seq,
                entry.connection,
                entry.attempt,
                symbol,
                channel.market_type,
                channel.market_index,
                size_exponent,
                *values,
                own_flags | flags,
                extra,
            )
        )


class FeeColumns(_RowColumns):
    """
    Priority fees on their way into one file.
    """

    def __init__(self) -> None:
        super().__init__(PRIORITY_FEES)

    def append(self, fees: Fees, entry: Entry, *, symbol: str, flags: int = 0) -> None:
        """
        Add one row. Arguments as for `BookColumns.append`.
        """
        channel, *values, own_flags, extra, _ = msgspec.structs.astuple(fees)
        self._append(
            (
                entry.recv_ts,
                entry.run,
                entry.seq,
                entry.connection,
                entry.attempt,
                symbol,
                channel.market_type,
                channel.market_index,
                *values,
                own_flags | flags,
                extra,
            )
        )


def rows_table(table: Table, rows: Iterable[Mapping[str, Any] | msgspec.Struct]) -> pa.Table:
    """
    Rows given by column name as a table in its exact schema.

    A struct's fields, or a mapping's keys, are the columns; a nullable column may be left out.

    Raises:
        ValueError: a row has a name that is no column, or nothing for a column that is not nullable.
    """
    names = [c.name for c in table.columns]
    known = set(names)
    values = []
    for row in rows:
        given = row if isinstance(row, Mapping) else msgspec.structs.asdict(row)
        if not given.keys() <= known:
            raise ValueError(f"{table.name} has no column {min(given.keys() - known)!r}")
        values.append(tuple(given.get(name) for name in names))
    return _table_of(table, values)


def _table_of(table: Table, rows: list[tuple[Any, ...]]) -> pa.Table:
    by_column: Iterable[tuple[Any, ...]] = zip(*rows, strict=True) if rows else ((),) * len(table.columns)
    return _checked(
        table, {c.name: pa.array(values, c.type) for c, values in zip(table.columns, by_column, strict=True)}
    )


def _checked(table: Table, columns: dict[str, pa.Array]) -> pa.Table:
    """
    Arrow itself does not look for nulls where the schema has none.
    """
    for c in table.columns:
        if not c.nullable and columns[c.name].null_count:
            raise ValueError(f"{table.name}.{c.name} is not nullable, and a row has nothing for it")
    return pa.Table.from_arrays([columns[c.name] for c in table.columns], schema=table.schema)


def _flat(kind: pa.DataType, values: "array[int]") -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _numbers(values: "array[int]") -> pa.Array:
    """
    int64, null where the buffer says NULL: the bits of a comparison are those of a validity map.
    """
    column = _flat(pa.int64(), values)
    valid = pc.not_equal(column, pa.scalar(NULL, pa.int64()))
    if pc.all(valid, min_count=0).as_py():
        return column
    return pa.Array.from_buffers(pa.int64(), len(column), [valid.buffers()[1], column.buffers()[1]])


def _list_column(ends: "array[int]", values: pa.Array) -> pa.Array:
    return pa.ListArray.from_buffers(
        pa.list_(values.type), len(ends) - 1, [None, pa.py_buffer(ends)], children=[values]
    )
