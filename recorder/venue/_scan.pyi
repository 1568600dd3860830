# The native way through book frames, in C: `_scan.c` says what it takes. Built if there is a compiler.

from typing import TypeAlias

# Packed integers in the machine's order, of a side: price, size, source, part.
_Side: TypeAlias = tuple[bytes, bytes, bytes, bytes]

# Name of the channel; marketName, marketType, marketIndex (NULL if absent); `Book.numbers`, packed; bids; asks.
_Scanned: TypeAlias = tuple[str, str | None, str | None, int, bytes, _Side, _Side]

# None for anything but a book of the usual shape.
def scan(payload: bytes, /) -> _Scanned | None: ...
