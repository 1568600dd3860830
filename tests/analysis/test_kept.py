"""
Coverage that is kept in memory: the same answers as from the files, also when an hour is replaced.
"""

import random
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analysis_cases import Writer, blank
from recorder.analysis import UNPROVEN, Lake, gaps, kept
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


def test_where_all_is_plainly_complete_no_hole_is_worked_out(tmp_path, monkeypatch):
    """
    The short way is taken, across hours; and not for the second beyond them.
    """

    def never(*_):
        raise AssertionError

    for number in range(2):
        write(tmp_path, HOUR + number * HOUR_NS, row(HOUR + number * HOUR_NS, [(0, "complete")]))
    lake = Lake(tmp_path)
    monkeypatch.setattr(gaps, "_holes", never)

    assert lake.gaps("SOL-PERP", HOUR, HOUR + 2 * HOUR_NS).collect().is_empty()
    with pytest.raises(AssertionError):
        lake.gaps("SOL-PERP", HOUR, HOUR + 2 * HOUR_NS + SECOND_NS).collect()


@pytest.mark.parametrize("seed", range(4))
def test_the_short_way_to_no_hole_tells_the_same_as_the_long_one(tmp_path, monkeypatch, seed):
    """
    For hours in any state, hours that are not there, ranges that begin and end anywhere, and either set of states.
    """
    dice = random.Random(seed)
    for hour in range(HOUR, HOUR + 4 * HOUR_NS, HOUR_NS):
        if dice.random() < 0.2:
            continue
        rows = []
        for symbol in SYMBOLS:
            length = dice.choice([3600, 3600, 2000])
            edges = [0, *sorted(dice.sample(range(1, length), dice.choice([0, 1, 2])))]
            rows.append(row(hour, [(edge, dice.choice(STATES)) for edge in edges], symbol, length))
        write(tmp_path, hour, *dice.sample(rows, dice.choice([1, 2, 2])))
    lake = Lake(tmp_path)
    for _ in range(8):
        first = HOUR + dice.randrange(-600, 4 * 3600) * SECOND_NS
        last = first + dice.choice([1, 60, 1800, 5400]) * SECOND_NS
        of = dice.choice([list(SYMBOLS), ["SOL-PERP"]])
        asked = dice.choice([UNPROVEN, gaps.HOLES, ("complete", "missing")])
        with monkeypatch.context() as patch:
            patch.setattr(gaps, "FEW", -1)
            long = lake.gaps(of, first, last, states=asked).collect()
        found = lake.gaps(of, first, last, states=asked).collect()
        assert_frame_equal(found, long)
        both = lake._reader.spans("books", of, first, last, view=None)
        for span in both:
            mine = pl.col("symbol") == span.symbol
            of_all = [lake.gaps(of, first, last, states=each).filter(mine) for each in (gaps.HOLES, UNPROVEN)]
            assert_frame_equal(span.holes.collect(), of_all[0].collect())
            assert_frame_equal(span.unproven.collect(), of_all[1].collect())
