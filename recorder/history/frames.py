"""
What to send again, and when: frames of a recording in order of receipt, hour by hour from where they are best.

An hour comes from the journal as long as every segment that it was sealed from is there, or it is not sealed yet: then
each frame is the bytes that were heard. Otherwise its frames are rebuilt from the sealed files.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from recorder.analysis import Lake
from recorder.analysis.replay import windows
from recorder.errors import RecorderError
from recorder.history.rebuilt import book_frame, channel_of, fees_frame, trade_frame
from recorder.lake import layout, manifest
from recorder.lake.heard import frames as heard
from recorder.lake.heard import hour_of_segment, present, sources
from recorder.records import HOUR_NS
from recorder.simulator.markets import SimMarket, market_named
from recorder.simulator.replay import Due

From = Literal["auto", "journal", "lake"]
BATCH = 500
_LISTS = ("bid_price", "bid_size", "bid_source", "bid_part", "ask_price", "ask_size", "ask_source", "ask_part")


class Part(msgspec.Struct, frozen=True):
    """
    A stretch of time that comes from one place.
    """

    start: int
    end: int
    exact: bool
    """From the journal: the bytes that were heard."""


class History:
    """
    A range of a recording, to be sent again.
    """

    def __init__(
        self,
        root: Path,
        market: Sequence[str] | None,
        start: int | None,
        end: int | None,
        *,
        source: From = "auto",
        live: bool = False,
    ) -> None:
        """
        Args:
            root: a data root.
            market: None for all.
            start: ns; None: with the first row of the first published hour.
            end: ns; None: where what is published ends.
            source: `journal` or `lake` only; `auto` is the journal where it is whole.
            live: also what is not sealed yet, as far as it is committed at this call.

        Raises:
            RecorderError: nothing of this was recorded, the journal that is asked for is gone, or some of the range is
                not sealed and asked for neither live nor from the journal.
        """
        self._root, self._lake, self._market = root, Lake(root).reaching(start, end, live=live), market
        self.start, self.end = self._lake.bounds(start, end, live=live)
        if live and source == "lake" and self._lake.unsealed(self.start, self.end) is not None:
            raise RecorderError(f"{root}: what is not sealed yet is in the journal only; leave --source out, or --live")
        if start is None:
            # Not with the hour: nobody wants to wait for the minutes before the recording began.
            begun = manifest.read(root, layout.hour_of(self.start))
            if begun is None:
                rows = [next((entry.recv_ts for entry, _ in heard(root, self.start, self.end)), None)]
            else:
                rows = [file.first_recv_ts for file in begun.files if file.symbol]
            self.start = min((at for at in rows if at is not None), default=self.start)
        self.parts = self._plan(source)
        if not self.parts:
            raise RecorderError(
                f"{root}: nothing was recorded in that time; `drift-recorder coverage` tells when it was"
            )
        hours = layout.hour_of(self.start), max(self.end, layout.hour_of(self.start) + 1)
        told = (
            self._lake.coverage(market, *hours, live=live)
            .select("market_type", "symbol", "market_index")
            .unique()
            .collect()
        )
        self.markets = [market_named(*row) for row in sorted(told.drop_nulls().rows())]
        """That a client may ask for."""
        if not self.markets:
            raise RecorderError(
                f"{root}: no market was recorded in that time; `drift-recorder coverage` tells of others"
            )
        self._wanted = {(each.market_type, each.index) for each in self.markets}

    @property
    def ungrouped(self) -> bool:
        """
        Whether the recording is of an old server, whose books have no grouping unless asked for one.
        """
        return "books_ungrouped" in self._tables() and "books" not in self._tables()

    def _tables(self) -> set[str]:
        return set(self._lake.markets().collect()["table"])

    def _plan(self, source: From) -> list[Part]:
        """
        Parts in order; hours of which there is nothing are left out.
        """
        there = present(self._root)
        starts = {hour for _, name in there if (hour := hour_of_segment(name)) is not None}
        published = dict.fromkeys(manifest.hours(self._root))
        parts: list[Part] = []
        for hour in sorted(starts | published.keys()):
            begin, over = max(hour, self.start), min(hour + HOUR_NS, self.end)
            if begin >= over:
                continue
            whole = hour not in published or sources(self._root, hour) <= there
            if source == "journal" and not (whole and hour in starts):
                raise RecorderError(
                    f"{self._root}: the journal of {layout.hour_label(hour)} is gone; "
                    "leave --source out to have its frames rebuilt from the sealed files"
                )
            exact = source != "lake" and whole and hour in starts
            if exact or hour in published:
                parts.append(Part(begin, over, exact))
        return parts

    def batches(self) -> Iterator[list[Due]]:
        """
        Frames in order, some at a time; `offset_ns` counts from `start`. Blocks while it reads.
        """
        for part in self.parts:
            frames = self._heard(part) if part.exact else self._rebuilt(part)
            while batch := list(islice(frames, BATCH)):
                yield batch

    def _heard(self, part: Part) -> Iterator[Due]:
        for entry, seen in heard(self._root, part.start, part.end):
            offset = entry.recv_ts - self.start
            if seen.channel is not None:
                if (seen.channel.market_type, seen.channel.market_index) in self._wanted:
                    yield Due(offset, entry.payload, seen.name)
            elif seen.name != "heartbeat" and not seen.text.startswith(_OURS):
                yield Due(offset, entry.payload, None)

    def _rebuilt(self, part: Part) -> Iterator[Due]:
        tables = sorted(self._tables())
        for start, end in windows(
            self._lake.rows_by_hour([*tables, "undecodable"], None, part.start, part.end), part.start, part.end, 5_000
        ):
            found: list[tuple[tuple[int, str, int], bytes, str | None]] = []
            for table in tables:
                for row in self._rows(table, start, end):
                    name = channel_of(table, row["market_type"], row["market_index"])
                    make = {"trades": trade_frame, "priority_fees": fees_frame}.get(table, book_frame)
                    found.append((_key(row), make(row, name).encode("utf-8", "surrogatepass"), name))
            found += [
                (_key(row), row["payload"], None)
                for row in self._lake.undecodable(start, end)
                .filter(pl.col("kind") != "unrequested")
                .with_columns(pl.col("recv_ts").to_physical())
                .collect()
                .iter_rows(named=True)
            ]
            found.sort(key=lambda each: each[0])
            yield from (Due(key[0] - self.start, payload, name) for key, payload, name in found)

    def _rows(self, table: str, start: int, end: int) -> Iterator[dict[str, Any]]:
        market = None if self._market is None else list(self._market)
        if table == "trades":
            frame = self._lake.trades(market, start, end, units="raw")
        elif table == "priority_fees":
            frame = self._lake.priority_fees(market, start, end, units="raw")
        else:
            frame = self._lake.books(market, start, end, table=table, units="raw")
        times = [name for name in ("recv_ts", "ts") if name in frame.collect_schema().names()]
        return frame.with_columns(pl.col(times).to_physical()).collect().iter_rows(named=True)


_OURS = ("Subscribe received", "Error subscribing", "Error unsubscribing")
"""Answers to the recorder's own requests; a client gets those to its own."""


def _key(row: dict[str, Any]) -> tuple[int, str, int]:
    return row["recv_ts"], row["run"], row["seq"]


__all__ = ["BATCH", "From", "History", "Part", "SimMarket"]
