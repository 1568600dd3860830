"""Reading the lake with polars."""
