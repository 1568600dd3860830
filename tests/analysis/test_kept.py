"""
Coverage that is kept in memory: the same answers as from the files, also when an hour is replaced.
"""

from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from analysis_cases import Writer, blank
from recorder.analysis import Lake, kept
from recorder.lake import layout
from recorder.records import HOUR_NS, SECOND_NS

HOUR = layout.parse_hour("2026-11-22T16")
SYMBOLS = ("SOL-PERP", "BTC-PERP")
STATES = (*["complete"] * 12, "suspect", "missing", "unverifiable")
Stretches = list[tuple[int, str]]


def row(hour: int, stretches: Stretches, symbol: str = "SOL-PERP", length: int = 3600) -> dict[str, object]:
    """
    One of coverage of books: from which second of the hour, and the state.
    """
    ends = [*(second for second, _ in stretches[1:]), length]
    seconds = {f"{state}_s": 0.0 for state in ("complete", "suspect", "missing", "unverifiable")}
    for (begin, state), end in zip(stretches, ends, strict=True):
        seconds[f"{state}_s"] += end - begin
    lists = {
        "span_start": [hour + second * SECOND_NS for second, _ in stretches],
        "span_state": [state for _, state in stretches],
        "span_why": ["why" for _ in stretches],
    }
    of = {"start": hour, "symbol": symbol, "channel": "orderbook", "grouping": 1, "market_type": "perp"}
    return blank("coverage") | of | seconds | lists


def write(root: Path, hour: int, *rows: dict[str, object]) -> None:
    """
    Publish an hour.
    """
    Writer(root).hour(hour, {("coverage", None): list(rows)})


def states(frame: pl.LazyFrame) -> list[str]:
    """
    Of holes.
    """
    return frame.collect()["state"].to_list()


def test_a_replaced_hour_is_read_again(tmp_path):
    """
    By a frame that was made before as by one that is made after.
    """
    write(tmp_path, HOUR, row(HOUR, [(0, "complete"), (60, "missing")]))
    lake = Lake(tmp_path)
    frame = lake.gaps("SOL-PERP", HOUR, HOUR + HOUR_NS)
    assert states(frame) == ["missing"]

    write(tmp_path, HOUR, row(HOUR, [(0, "complete"), (60, "suspect")]))

    assert states(frame) == states(lake.gaps("SOL-PERP", HOUR, HOUR + HOUR_NS)) == ["suspect"]


def test_an_hour_that_is_withdrawn_while_it_is_replaced_is_not_kept(tmp_path):
    """
    Its manifest is not there: what is read then may be of neither.
    """
    write(tmp_path, HOUR, row(HOUR, [(0, "missing")]))
    lake = Lake(tmp_path)
    frame = lake.gaps("SOL-PERP", HOUR, HOUR + HOUR_NS)
    manifest = tmp_path / layout.manifest_path(HOUR)
    content = manifest.read_bytes()
    manifest.unlink()
    assert states(frame) == ["missing"]
    write(tmp_path, HOUR, row(HOUR, [(0, "suspect")]))
    manifest.write_bytes(content)

    assert states(frame) == ["suspect"]


def test_an_hour_is_read_once_as_long_as_there_is_room(tmp_path, monkeypatch):
    """
    Without room it is read each time, and the answers are the same.
    """
    read = []
    scanned = kept.scanned

    def counted(name, where, store):
        read.append(where)
        return scanned(name, where, store)

    for number in range(3):
        write(tmp_path, HOUR + number * HOUR_NS, row(HOUR + number * HOUR_NS, [(0, "complete"), (number, "missing")]))
    lake = Lake(tmp_path)
    monkeypatch.setattr(kept, "scanned", counted)
    first = lake.gaps("SOL-PERP", HOUR, HOUR + 3 * HOUR_NS).collect()
    assert_frame_equal(lake.gaps("SOL-PERP", HOUR, HOUR + 3 * HOUR_NS).collect(), first)
    assert len(read) == 3

    monkeypatch.setattr(kept, "BYTES", 1)
    lake = Lake(tmp_path)
    for _ in range(2):
        assert_frame_equal(lake.gaps("SOL-PERP", HOUR, HOUR + 3 * HOUR_NS).collect(), first)
    assert len(read) == 9
