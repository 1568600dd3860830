"""
Small data roots with a real journal in virtual time, for tests of seal, verify and retention.
"""

import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from recorder import durable
from recorder.journal.names import RUN_LOCK, run_name
from recorder.journal.writer import Journal, JournalSettings
from recorder.lake.layout import parse_hour
from recorder.lake.root import bind
from recorder.records import (
    HOUR_NS,
    SECOND_NS,
    Connected,
    EntryKind,
    Fact,
    Requested,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    encode_fact,
)

HOUR = parse_hour("2025-03-01T10")
NEXT = HOUR + HOUR_NS
NETWORK = "mainnet-beta"
S = SECOND_NS

SOL = Stream("perp", "SOL-PERP", "orderbook", 1)
SOL_TRADES = Stream("perp", "SOL-PERP", "trades")
BTC = Stream("perp", "BTC-PERP", "orderbook", 1)
BTC_TRADES = Stream("perp", "BTC-PERP", "trades")
STREAMS = (SOL, SOL_TRADES, BTC, BTC_TRADES)


def make_root(path: Path) -> Path:
    """
    An empty root.
    """
    bind(path, venue="test", network=NETWORK)
    return path


class Run:
    """
    One run's journal, written by the real writer at whatever times are given.
    """

    def __init__(
        self,
        root: Path,
        started: int,
        *,
        nonce: str = "aaaaaa",
        streams: tuple[Stream, ...] = STREAMS,
        beside: tuple["Run", ...] = (),
        alive: bool = False,
        network: str = NETWORK,
    ) -> None:
        """
        Args:
            root: bound.
            started: ns.
            nonce: tells runs that start at one instant apart.
            streams: asked for.
            beside: runs that go on.
            alive: hold the lock until `close`.
            network: that it says it records.
        """
        self.name = run_name(started, nonce)
        self.folder = root / "journal" / self.name
        durable.make_directories(self.folder, below=root)
        self._lock = durable.Lock(self.folder / RUN_LOCK, holder="a test") if alive else None
        self.header = SegmentHeader(1, self.name, "host", "0", "test", network, list(streams))
        self.journal = Journal(self.folder, header=lambda: self.header, settings=JournalSettings(queue_bytes=1 << 30))
        self.journal.start()
        self.streams = streams
        names = [other.name for other in beside]
        self.fact(started, RunStarted(self.name, "host", 1, "0", "test", network, ["ws://x/ws"], list(streams), names))

    def put(self, kind: int, recv_ts: int, payload: bytes, connection: int, attempt: int) -> None:
        """
        Append an entry.
        """
        self.journal.append(kind, connection=connection, attempt=attempt, recv_ts=recv_ts, payload=payload)

    def fact(self, recv_ts: int, fact: Fact, connection: int = -1) -> None:
        """
        Append a fact.
        """
        self.put(EntryKind.FACT, recv_ts, encode_fact(fact), connection, 1 if connection >= 0 else 0)

    def frame(self, recv_ts: int, payload: bytes, connection: int = 0, attempt: int = 1) -> None:
        """
        Append a websocket message.
        """
        self.put(EntryKind.FRAME, recv_ts, payload, connection, attempt)

    def wants(self, streams: tuple[Stream, ...]) -> None:
        """
        Record others from here on, as its next segments say; what was appended is in those before them.
        """
        while self.journal.committed[0] < self.journal.appended:
            time.sleep(0.001)
        self.header = msgspec.structs.replace(self.header, streams=list(streams))

    def connect(self, recv_ts: int, connection: int = 0) -> None:
        """
        Connect and ask for all streams.
        """
        self.fact(recv_ts, Connected("ws://x/ws", 1, 1.0, compressed=True), connection)
        for stream in self.streams:
            self.fact(recv_ts, Requested(stream), connection)

    def hear(self, start: int, end: int, *, step: int = S, connection: int = 0, late: int = 0) -> None:
        """
        A book of each market each `step`, a fill now and then, a heartbeat each 5 s, an `alive` each second.

        What is said depends on the time only, so that two runs hear the same.
        """
        for at in range(start, end, step):
            tick = at // step
            if any(stream.symbol == "SOL-PERP" for stream in self.streams):
                self.frame(at + late, book("SOL-PERP", 0, at, tick), connection)
            if any(stream.symbol == "BTC-PERP" for stream in self.streams):
                self.frame(at + late, book("BTC-PERP", 1, at, tick), connection)
            if tick % 3 == 0:
                self.frame(at + late, trade(0, at, tick // 3), connection)
            if tick % 5 == 0:
                self.frame(at + late, b'{"channel":"heartbeat"}', connection)
            self.put(EntryKind.ALIVE, at + late, b"", -1, 0)

    def close(self, stopped: int | None = None) -> None:
        """
        Commit; end the run in order if `stopped` is given, else as if it had been killed.
        """
        if stopped is not None:
            self.fact(stopped, RunStopped("told to"))
        assert self.journal.close(30)
        if self._lock is not None:
            self._lock.release()


def recorded(root: Path, start: int, end: int, **options: Any) -> Run:
    """
    A run that hears all the time and stops in order.
    """
    run = Run(root, start, **options)
    run.connect(start)
    run.hear(start + S, end)
    run.close(end)
    return run


def book(symbol: str, index: int, at: int, slot: int, *, channel: str | None = None, **members: Any) -> bytes:
    """
    A book frame of the present server, its prices moving with the slot.
    """
    mid = 100_000_000 + slot % 1000 * 100
    size = 1_000_000_000 + slot % 77 * 1000

    def levels(sign: int) -> list[dict[str, Any]]:
        return [
            {"size": size + n, "price": mid + sign * (n + 1) * 100, "sources": {"vamm": size + n}} for n in range(4)
        ]

    payload = {
        "bids": levels(-1),
        "asks": levels(1),
        "marketName": symbol,
        "marketType": "perp",
        "marketIndex": index,
        "ts": at // 1_000_000,
        "slot": slot,
        "markPrice": str(mid),
        "oracle": mid,
        "marketSlot": slot,
        **members,
    }
    return frame(channel or f"orderbook_perp_{index}_grouped_1", payload)


def trade(index: int, at: int, fill_id: int, *, market_type: str = "perp") -> bytes:
    """
    A fill of 0.25 for 25.
    """
    payload = {
        "ts": at // S,
        "marketIndex": index,
        "marketType": market_type,
        "baseAssetAmountFilled": 0.25,
        "quoteAssetAmountFilled": 25,
        "taker": "TakerAccount",
        "takerOrderDirection": "long",
        "action": "fill",
        "actionExplanation": "orderFilledWithAmm",
        "txSig": f"sig{fill_id}",
        "slot": fill_id,
        "fillRecordId": fill_id,
    }
    return frame(f"trades_{market_type}_{index}", payload)


def frame(channel: str, payload: dict[str, Any]) -> bytes:
    """
    A data frame as the servers write it: the payload is text.
    """
    text = json.dumps(payload, separators=(",", ":"))
    return json.dumps({"channel": channel, "data": text}, separators=(",", ":")).encode()


def tree(root: Path, *folders: str) -> dict[str, str]:
    """
    SHA-256 of every file below some folders of a root; of lake and manifest by default.
    """
    return {
        path.relative_to(root).as_posix(): sha256(path.read_bytes()).hexdigest()
        for folder in folders or ("lake", "manifest")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and path.name != "seal.lock"
    }
