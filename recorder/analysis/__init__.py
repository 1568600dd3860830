"""
Reading the lake with polars: `Lake(root)` gives lazy frames of every table, by market and time.
"""

from recorder.analysis.lake import Lake

__all__ = ["Lake"]
