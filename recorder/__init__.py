"""
Records Drift/Velocity market data: websocket → journal → seal → Parquet lake.

A frame's way is the order of the packages: `venue` says what the frames mean, `capture` hears them, `journal` keeps
them, `quality` judges what is missing, `lake` publishes market-hours as Parquet, `analysis` reads them.
"""

__version__ = "0.1.0"
