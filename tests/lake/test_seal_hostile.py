"""
Sealing frames that no server in its right mind sends: what one of them does must end with it.
"""

import json
from pathlib import Path

import polars as pl
import pytest

from lake_cases import HOUR, Run, S, book, make_root
from recorder.analysis import Lake
from recorder.lake.sealing import seal


@pytest.fixture
def root(tmp_path) -> Path:
    """
    Without any journal.
    """
    return make_root(tmp_path / "root")


def hour_with(root: Path, *frames: bytes) -> None:
    """
    A minute of an hour, in which these frames come too.
    """
    run = Run(root, HOUR + 10 * S)
    run.connect(HOUR + 10 * S)
    run.hear(HOUR + 11 * S, HOUR + 40 * S)
    for number, payload in enumerate(frames):
        run.frame(HOUR + 40 * S + number, payload)
    run.hear(HOUR + 41 * S, HOUR + 70 * S)
    run.close(HOUR + 70 * S)


def test_a_frame_that_names_two_channels_is_kept_raw_and_stops_nothing(root):
    """
    A glance takes the first of two equal members and a decoder the last: the frame belongs in neither table.
    """
    inner = json.dumps(
        json.dumps(
            {"fillRecordId": 999, "marketName": "SOL-PERP", "marketType": "perp", "marketIndex": 0, "ts": 1, "slot": 5},
            separators=(",", ":"),
        )
    )
    twice = f'{{"channel":"orderbook_perp_0_grouped_1","data":"x","channel":"trades_perp_0","data":{inner}}}'.encode()
    hour_with(root, twice, book("SOL-PERP", 0, HOUR + 40 * S, 7))

    (only,) = seal(root)

    assert only.manifest.complete
    raw = pl.read_parquet(next((root / "lake" / "undecodable").rglob("*.parquet")), hive_partitioning=False)
    assert raw["payload"].to_list() == [twice]
    placed = Lake(root).trades(units="raw").collect()["fill_record_id"].to_list()
    assert 999 not in placed
    assert len(Lake(root).books(units="raw").collect()) == 2 * 58 + 1
