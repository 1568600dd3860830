"""
Reading the lake with polars: `Lake(root)` gives lazy frames of every table, by market and time, and what follows from
them; `book` has what books say as expressions, and importing this package gives polars frames the namespace `.book`.
"""

from recorder.analysis import book
from recorder.analysis.books import Books
from recorder.analysis.gaps import GapError
from recorder.analysis.holes import HOLES, UNPROVEN
from recorder.analysis.lake import Lake

__all__ = ["HOLES", "UNPROVEN", "Books", "GapError", "Lake", "book"]
