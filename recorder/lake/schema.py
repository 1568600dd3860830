"""
Every table and column of the lake, defined once: name, type, unit, source, encoding.

Rules that hold for all tables
------------------------------
* Integers are exact, as the venue sent them; nothing passes through a float. Prices and quote amounts are ×10^6, sizes
  ×10^`size_exponent`. The one float among the market data is `trades.price`, which is derived.
* Null means "not sent" or "not known"; it is never written as zero, nor zero as null.
* `recv_ts` is the recorder's clock, `ts` the venue's. Rows are sorted by (`recv_ts`, `run`, `seq`).
* No column is named like a partition key (`market`, `date`, `hour`): two readers refuse repeated keys, each in its own
  way. Files identify themselves by `symbol` and by the metadata of the file.
* `flags` bits mean the same in every table and are numbered once, in `records.Flag`, those of the source columns in
  `records.Source`.

Encodings were measured: a level is an unchanged 8-byte word in the next snapshot, so lists are PLAIN, without a
dictionary, and zstd finds the match; packed integers destroy that. Scalars are DELTA_BINARY_PACKED.
"""

from collections.abc import Mapping

import msgspec
import pyarrow as pa

FORMAT_VERSION = 2
"""Of tables, manifest and layout together; in the metadata of every file.

2: `coverage` judges every second, with stretches and evidence; the table `connections`. Files of format 1 are read as
they are, with null in the columns they do not have."""

ROW_GROUP_ROWS = 1500
ROW_GROUP_BYTES = 2 << 20
"""A row group ends at whichever comes first; bytes as buffered, before encoding."""

COMPRESSION = "zstd"
COMPRESSION_LEVEL = 6


class Column(msgspec.Struct, frozen=True):
    """
    One column: what it is called, holds, and means.
    """

    name: str
    type: pa.DataType
    doc: str
    unit: str = ""
    nullable: bool = False


class Table(msgspec.Struct, frozen=True):
    """
    One table. `by_market` tables have a `market=` level in their path.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    by_market: bool

    @property
    def schema(self) -> pa.Schema:
        """
        The Arrow schema, without file metadata.
        """
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])


_NS = pa.timestamp("ns", tz="UTC")
_MS = pa.timestamp("ms", tz="UTC")
_I64 = pa.int64()
_STR = pa.string()
_F64 = pa.float64()
_LIST64 = pa.list_(pa.int64())
_LIST16 = pa.list_(pa.uint16())
_LIST_NS = pa.list_(_NS)
_LIST_STR = pa.list_(_STR)

_HEAD = (
    Column("recv_ts", _NS, "Arrival at the recorder, its clock; never steps back within a run."),
    Column("ts", _MS, "The venue's clock: when the publisher built the book.", nullable=True),
    Column("slot", _I64, "Solana slot of the publisher's order state.", nullable=True),
)
_ORIGIN = (
    Column("run", _STR, "The recorder's process life that heard it."),
    Column("seq", _I64, "Journal number within the run; (run, seq) finds the raw frame in the journal."),
    Column("connection", pa.int16(), "Index of the configured connection."),
    Column("attempt", pa.int32(), "Counts that connection's connects within the run."),
)
_MARKET = (
    Column("symbol", _STR, "Market name: as the books say, else as the shipped list, else `perp-59`."),
    Column("market_type", _STR, "`perp` or `spot`."),
    Column("market_index", pa.int32(), "The venue's index; means another market on another network."),
    Column("size_exponent", pa.int8(), "Sizes are ×10^this; null when the token is unknown.", nullable=True),
)
_FLAGS = Column("flags", pa.uint32(), "Quality bits, see `Flag`.")
_EXTRA = Column("extra", _STR, "JSON of members and sources this version does not know; null if none.", nullable=True)


def _side(side: str) -> tuple[Column, ...]:
    return (
        Column(f"{side}_price", _LIST64, f"Prices of the {side} levels, best first.", "×10^6"),
        Column(f"{side}_size", _LIST64, "Sizes of the same levels.", "×10^size_exponent"),
        Column(f"{side}_source", _LIST16, "Where each level's size comes from: bits of `Source`."),
        Column(
            f"{side}_part",
            _LIST64,
            "For each level with several source bits, or one that differs from its size: its parts, in bit order.",
            "×10^size_exponent",
        ),
    )


def _oracle(prefix: str, member: str) -> tuple[Column, ...]:
    return (
        Column(f"{prefix}_price", _I64, f"`{member}.price`.", "×10^6", nullable=True),
        Column(f"{prefix}_slot", _I64, f"`{member}.slot`.", nullable=True),
        Column(f"{prefix}_confidence", _I64, f"`{member}.confidence`.", "×10^6", nullable=True),
        Column(f"{prefix}_sufficient", pa.bool_(), f"`{member}.hasSufficientNumberOfDataPoints`.", nullable=True),
        Column(f"{prefix}_twap", _I64, f"`{member}.twap`.", "×10^6", nullable=True),
        Column(f"{prefix}_twap_confidence", _I64, f"`{member}.twapConfidence`.", "×10^6", nullable=True),
        Column(f"{prefix}_max_price", _I64, f"`{member}.maxPrice` (prelaunch markets).", "×10^6", nullable=True),
    )


BOOKS = Table(
    "books",
    "Full books of the firm order book at grouping 1, one row a frame. Other book channels are tables of the same "
    "columns: `books_ungrouped`, `books_indicative`, `books_grouped_100`, …",
    (
        *_HEAD,
        Column("market_slot", _I64, "Slot at which the publisher last read the market account.", nullable=True),
        *_ORIGIN,
        *_MARKET,
        Column("best_bid_price", _I64, "Of the levels stored here; null when that side is empty.", "×10^6", True),
        Column("best_bid_size", _I64, "Size at `best_bid_price`.", "×10^size_exponent", True),
        Column("best_ask_price", _I64, "Of the levels stored here; null when that side is empty.", "×10^6", True),
        Column("best_ask_size", _I64, "Size at `best_ask_price`.", "×10^size_exponent", True),
        Column(
            "mark_price", _I64, "The venue's: middle of the book; the oracle's when a side is empty.", "×10^6", True
        ),
        Column(
            "venue_best_bid_price", _I64, "`bestBidPrice`, of the ungrouped book: may differ by a tick.", "×10^6", True
        ),
        Column("venue_best_ask_price", _I64, "`bestAskPrice`, likewise.", "×10^6", True),
        Column("spread_pct", _I64, "As sent: percent; but see flag SPREAD_UNIT.", "×10^6", True),
        Column("spread_quote", _I64, "`spreadQuote`.", "×10^6", True),
        Column("oracle_price", _I64, "`oracle`.", "×10^6", True),
        *_oracle("oracle_data", "oracleData"),
        *_oracle("mm_oracle", "mmOracleData"),
        *_side("bid"),
        *_side("ask"),
        _FLAGS,
        _EXTRA,
    ),
    by_market=True,
)


def _order(side: str) -> tuple[Column, ...]:
    return (
        Column(f"{side}_order_base_amount", _I64, f"The {side} order's size.", "×10^size_exponent", True),
        Column(f"{side}_order_base_filled", _I64, "Filled of it after this fill.", "×10^size_exponent", True),
        Column(f"{side}_order_quote_filled", _I64, "Quote filled of it after this fill.", "×10^6", True),
    )


TRADES = Table(
    "trades",
    "Fills, one row a frame. `fill_record_id` counts per market: a jump proves a loss.",
    (
        _HEAD[0],
        Column("ts", _MS, "Block time of the chain: whole seconds.", nullable=True),
        Column("slot", _I64, "Solana slot of the fill.", nullable=True),
        *_ORIGIN,
        *_MARKET,
        Column("fill_record_id", _I64, "The venue's counter per market.", nullable=True),
        Column("base_amount", _I64, "Size.", "×10^size_exponent, ×10^9 where that is null", True),
        Column("quote_amount", _I64, "Value.", "×10^6", True),
        Column("price", _F64, "quote / base, derived; null when base is 0 or absent.", "natural", True),
        Column(
            "aggressor", _STR, "`buy` or `sell`: the taker's direction, else the opposite of the maker's.", "", True
        ),
        Column("is_market_trade", pa.bool_(), "False for position transfers: not a trade, exclude from volume."),
        Column("action", _STR, "Always `fill` so far.", "", True),
        Column("action_explanation", _STR, "How it was filled, as sent.", "", True),
        Column("oracle_price", _I64, "Oracle price at the fill.", "×10^6", True),
        Column("taker", _STR, "Account; null if the pool took a resting order.", "", True),
        Column("maker", _STR, "Account; null if the pool or an external book was the maker.", "", True),
        Column("filler", _STR, "Account of the keeper.", "", True),
        Column("taker_order_id", _I64, "", "", True),
        Column("maker_order_id", _I64, "", "", True),
        Column("taker_direction", _STR, "`long` or `short`.", "", True),
        Column("maker_direction", _STR, "`long` or `short`.", "", True),
        Column("taker_fee", _I64, "0 may stand for none.", "×10^6", True),
        Column("maker_fee", _I64, "Negative: a rebate.", "×10^6", True),
        Column("quote_surplus", _I64, "The pool's gain; may be negative.", "×10^6", True),
        Column("referrer_reward", _I64, "", "×10^6", True),
        *_order("taker"),
        *_order("maker"),
        Column("tx_sig", _STR, "Transaction signature; several fills can share it.", "", True),
        Column(
            "bit_flags",
            _I64,
            "1 signed message, 2 oracle trigger, 4 safe trigger, 8 reduce-only trigger, "
            "16 builder, 32 isolated position.",
            "",
            True,
        ),
        Column("maker_indicative_key", _STR, "Known market makers only.", "", True),
        _FLAGS,
        _EXTRA,
    ),
    by_market=True,
)

PRIORITY_FEES = Table(
    "priority_fees",
    "Solana priority fees as the venue relays them; only some servers send them.",
    (
        _HEAD[0],
        *_ORIGIN,
        *_MARKET[:3],
        *(
            Column(name, _I64, f"`{member}`, micro-lamports a compute unit.", "×10^6", True)
            for name, member in (
                ("min", "min"),
                ("low", "low"),
                ("medium", "medium"),
                ("high", "high"),
                ("very_high", "veryHigh"),
                ("unsafe_max", "unsafeMax"),
            )
        ),
        _FLAGS,
        _EXTRA,
    ),
    by_market=True,
)

QUALITY = Table(
    "quality",
    "Events: every hole and its cause, and what happened to the recorder. `start`..`end` bound what is unknown, cut to "
    "this hour.",
    (
        Column("event_id", _STR, "Same for the parts of one event in several hours."),
        Column("kind", _STR, "See the table of kinds in the README."),
        Column("cause", _STR, "`venue`, `network`, `recorder` or `unknown`."),
        Column("scope", _STR, "`recorder`, `connection` or `stream`: what it concerns."),
        Column("run", _STR, "", "", True),
        Column("connection", pa.int16(), "", "", True),
        Column("symbol", _STR, "", "", True),
        Column("channel", _STR, "", "", True),
        Column("start", _NS, "Last that is known before; cut to this hour."),
        Column("end", _NS, "First that is known after; cut to this hour."),
        Column("true_start", _NS, "Where the event really began."),
        Column("continues", pa.bool_(), "Goes on in the next hour."),
        Column(
            "missing",
            _I64,
            "Frames or trades lost in this hour; null: cannot be known; negative: fills of an earlier gap that came.",
            "",
            True,
        ),
        Column("first_slot", _I64, "", "", True),
        Column("last_slot", _I64, "", "", True),
        Column("evidence", _STR, "What was seen, in words."),
    ),
    by_market=False,
)

COVERAGE = Table(
    "coverage",
    "What the hour can prove: a row per configured stream, also for one that never spoke.",
    (
        Column("start", _NS, "Of the hour."),
        Column("symbol", _STR, ""),
        Column("market_type", _STR, ""),
        Column("market_index", pa.int32(), "Null until a frame or the shipped list tells it.", "", True),
        Column("channel", _STR, "As subscribed."),
        Column("grouping", pa.int32(), "Ticks; null for channels without.", "", True),
        Column("rows", _I64, "Stored in the lake."),
        Column("bytes", _I64, "Of the frames behind those rows."),
        Column("duplicates_removed", _I64, "Heard again on another connection or run."),
        Column("repeats", _I64, "Rows flagged REPEAT."),
        Column("first_recv_ts", _NS, "", "", True),
        Column("last_recv_ts", _NS, "", "", True),
        Column("heartbeats", _I64, "On the connections that carried the stream."),
        Column("heartbeats_expected", _I64, "At one each 5 s while connected."),
        Column(
            "longest_heartbeat_s",
            _F64,
            "Longest interval between two, or from the connect to the first; null without one.",
            "s",
            True,
        ),
        Column("cadence_ms", _F64, "Median interval between books; null with fewer than two.", "ms", True),
        Column("cadence_spread_ms", _F64, "Median absolute deviation of it.", "ms", True),
        Column("complete_s", _F64, "Seconds proven complete; the four are the hour, or the hour so far.", "s"),
        Column("suspect_s", _F64, "Seconds with some sign of loss, or of receive times that are not true.", "s"),
        Column("missing_s", _F64, "Seconds known to be missing.", "s"),
        Column("unverifiable_s", _F64, "Seconds about which nothing can be proven.", "s"),
        Column("longest_hole_s", _F64, "Longest stretch of this hour that is missing; 0 if there was none.", "s"),
        Column("first_fill_id", _I64, "Lowest above all before the hour; none is left out from it on.", "", True),
        Column("last_fill_id", _I64, "Highest; late and repeated ids of earlier hours count as neither.", "", True),
        Column("fills_missing", _I64, "Proven by the counter; null for books, and where no id was sent.", "", True),
        Column("fills_repeated", _I64, "", "", True),
        Column("latency_p50_ms", _F64, "recv_ts − ts; trades: ts is whole seconds.", "ms", True),
        Column("latency_p99_ms", _F64, "", "ms", True),
        Column("latency_max_ms", _F64, "", "ms", True),
        Column("crossed", _I64, "Books flagged CROSSED; null for trades.", "", True),
        Column("one_sided", _I64, "Books flagged ONE_SIDED; null for trades.", "", True),
        Column("carriers", pa.int16(), "Connections that carried it, or should have; each run counts its own."),
        Column(
            "ticks_missing",
            _I64,
            "Books: ticks of the learned pace that are not there, between the first book and the last.",
            "",
            True,
        ),
        Column("longest_interval_s", _F64, "Books: longest interval between two.", "s", True),
        Column("proven_until", _NS, "Trades: up to when the hour's own fill ids prove anything.", "", True),
        Column("span_start", _LIST_NS, "The hour as stretches of one state: where each begins, the first with it."),
        Column("span_state", _LIST_STR, "State of each: `complete`, `suspect`, `missing` or `unverifiable`."),
        Column("span_why", _LIST_STR, "What proves it (`ticks`, `fill ids`), or what speaks against it."),
        Column("evidence", _STR, "All this in words."),
    ),
    by_market=False,
)

CONNECTIONS = Table(
    "connections",
    "How each connection did in the hour: a row a run and connection. What it was first to bring is in the rows "
    "themselves, and `Lake.connections` adds it.",
    (
        Column("start", _NS, "Of the hour."),
        Column("run", _STR, ""),
        Column("connection", pa.int16(), "Index of the configured connection."),
        Column("up_s", _F64, "Seconds with an open websocket.", "s"),
        Column("down_s", _F64, "Seconds inside a `disconnected`: until all its books were back.", "s"),
        Column("connects", _I64, "Websockets that opened."),
        Column("disconnects", _I64, "Times it was down; one that goes over the hour counts in both."),
        Column("connect_failures", _I64, "Runs of connects that failed."),
        Column("heartbeats", _I64, ""),
        Column("heartbeats_expected", _I64, "At one each 5 s while connected."),
        Column("longest_heartbeat_s", _F64, "Longest interval between two; null without one.", "s", True),
        Column("streams", _I64, "That it carried, or should have."),
    ),
    by_market=False,
)

TELEMETRY = Table(
    "telemetry",
    "The recorder about itself, a row a minute and run.",
    (
        Column("recv_ts", _NS, "End of the minute."),
        Column("run", _STR, ""),
        Column("seq", _I64, ""),
        Column("frames", _I64, "Received in the minute."),
        Column("bytes", _I64, "Of those frames."),
        Column("cpu_s", _F64, "CPU seconds used in the minute.", "s"),
        Column("rss_bytes", _I64, "Resident memory."),
        Column("loop_lag_p99_ms", _F64, "How late the event loop ran its timers.", "ms"),
        Column("loop_lag_max_ms", _F64, "", "ms"),
        Column("queue_max_bytes", _I64, "Largest journal queue."),
        Column("commits", _I64, "Journal commits."),
        Column("commit_p50_ms", _F64, "Write and sync of one commit.", "ms"),
        Column("commit_p99_ms", _F64, "", "ms"),
        Column("commit_max_ms", _F64, "", "ms"),
        Column(
            "durable_p50_ms",
            _F64,
            "Receipt to disk, of the oldest entry of each commit; null where the journal does not tell.",
            "ms",
            nullable=True,
        ),
        Column("durable_p99_ms", _F64, "", "ms", nullable=True),
        Column("durable_max_ms", _F64, "", "ms", nullable=True),
        Column("journal_bytes", _I64, "Written to the journal in the minute, compressed."),
        Column("disk_free_bytes", _I64, "At the last look, which is each minute; -1 if it could not be asked."),
        Column(
            "disk_free_inodes",
            _I64,
            "Likewise; null where the file system does not count them, or the journal does not tell.",
            nullable=True,
        ),
        Column(
            "paused",
            pa.bool_(),
            "Capture was stopped, for the disk was full; null where the journal does not tell.",
            nullable=True,
        ),
        Column("clock_offset_ns", _I64, "Wall clock minus the run's clock."),
        Column("connections", pa.list_(pa.int16()), ""),
        Column("latency_p50_ms", pa.list_(_F64), "Per connection: recv_ts − ts of its books."),
    ),
    by_market=False,
)

UNDECODABLE = Table(
    "undecodable",
    "Frames with no place in the other tables, raw: nothing that reached us is lost. Bounded per hour; the rest is "
    "counted in `quality` and stays in the journal.",
    (
        _HEAD[0],
        *_ORIGIN,
        Column("kind", _STR, "`undecodable`, `unknown` or `unrequested`."),
        Column("reason", _STR, "Why it is here, in words."),
        Column("payload", pa.binary(), "The frame as received."),
    ),
    by_market=False,
)

TABLES: Mapping[str, Table] = {
    t.name: t for t in (BOOKS, TRADES, PRIORITY_FEES, QUALITY, COVERAGE, CONNECTIONS, TELEMETRY, UNDECODABLE)
}


def table(name: str) -> Table:
    """
    The table of that name; any `books_…` has the columns of `books`.

    Raises:
        KeyError: no such table.
    """
    return TABLES["books"] if name.startswith("books_") else TABLES[name]


# Values that hardly repeat: a dictionary of them costs more than it saves.
_NO_DICTIONARY = frozenset({"tx_sig", "payload", "evidence", "event_id", "extra"})


def dictionary_columns(of: Table) -> list[str]:
    """
    Columns written with a dictionary: strings that repeat, and the source bits of levels.
    """
    return [
        f"{c.name}.list.element" if pa.types.is_list(c.type) else c.name
        for c in of.columns
        if (c.type == _STR and c.name not in _NO_DICTIONARY) or c.type == _LIST16
    ]


def column_encodings(of: Table) -> dict[str, str]:
    """
    Encodings of the columns without a dictionary, by Parquet column path.
    """
    encodings: dict[str, str] = {}
    for c in of.columns:
        if c.type == _LIST64:
            encodings[f"{c.name}.list.element"] = "PLAIN"
        elif pa.types.is_integer(c.type) or pa.types.is_timestamp(c.type):
            encodings[c.name] = "DELTA_BINARY_PACKED"
    return encodings
