"""The lake: sealed market-hours of Parquet, how they are made from the journal, and how they are checked."""
