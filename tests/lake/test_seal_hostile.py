"""
Sealing frames that no server in its right mind sends: what one of them does must end with it.
"""

import json
import shutil
from pathlib import Path

import msgspec
import polars as pl
import pytest

from lake_cases import HOUR, NEXT, Run, S, book, make_root, recorded, trade, tree
from recorder.analysis import Lake
from recorder.errors import SealFailed
from recorder.lake import manifest as manifests
from recorder.lake import partitions, sealing
from recorder.lake import seal as seal_module
from recorder.lake.sealing import seal
from recorder.records import HOUR_NS, Stream


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


def hours_of_a_run(root: Path, count: int) -> None:
    """
    A run that is heard for some seconds around each of the next hours' beginnings.
    """
    run = Run(root, HOUR + 10 * S)
    run.connect(HOUR + 10 * S)
    for hour in range(HOUR, HOUR + count * HOUR_NS, HOUR_NS):
        run.hear(hour + 11 * S, hour + 30 * S)
    run.close(HOUR + (count - 1) * HOUR_NS + 100 * S)


def test_an_hour_that_fails_is_told_in_a_line_and_the_later_ones_are_sealed(root, tmp_path, monkeypatch):
    """
    Whatever the error. The next seal tries it again, and ends where an undisturbed one does; one that fails again
    makes no other hour again.
    """
    hours_of_a_run(root, 4)
    undisturbed = shutil.copytree(root, tmp_path / "undisturbed")
    seal(undisturbed)
    make = sealing.seal_hour

    def fails(where, binding, hour, *rest, **options):
        if hour == NEXT:
            raise KeyError("a shape\nof two lines")
        return make(where, binding, hour, *rest, **options)

    monkeypatch.setattr(sealing, "seal_hour", fails)
    with pytest.raises(SealFailed) as told:
        seal(root)
    assert str(told.value).startswith("2025-03-01T11: KeyError: ")
    assert "3 hours were sealed" in str(told.value)
    assert "\n" not in str(told.value)
    assert manifests.hours(root) == [HOUR, HOUR + 2 * HOUR_NS, HOUR + 3 * HOUR_NS]
    with pytest.raises(SealFailed, match="0 hours were sealed"):
        seal(root)

    monkeypatch.undo()
    seal(root)

    assert tree(root) == tree(undisturbed)


def test_numbers_that_fit_no_column_are_clamped(root, monkeypatch):
    """
    A fill id or slot is whatever the venue says; the hour is sealed all the same.
    """
    hour_with(root)
    build = seal_module.hour_events

    def absurd(*arguments, **options):
        return [
            msgspec.structs.replace(event, first_slot=2**70, missing=-(2**80)) for event in build(*arguments, **options)
        ]

    monkeypatch.setattr(seal_module, "hour_events", absurd)

    seal(root)

    events = Lake(root).quality().collect()
    assert set(events["first_slot"]) == {2**63 - 1}
    assert set(events["missing"]) == {1 - 2**63}


def test_a_run_that_was_days_ahead_does_not_publish_hours_to_come(root, monkeypatch):
    """
    `--open` is for the hour of now.
    """
    monkeypatch.setattr(sealing, "wall_ns", lambda: HOUR + 200 * S)
    recorded(root, HOUR + 10 * S, HOUR + 60 * S)
    recorded(root, HOUR + 40 * 24 * HOUR_NS, HOUR + 40 * 24 * HOUR_NS + 30 * S, nonce="bbbbbb")

    sealed = seal(root, open_hour=True)

    assert [each.hour for each in sealed] == [HOUR]


def test_books_and_trades_of_a_spot_market_have_one_scale_whatever_the_list_calls_its_index(root):
    """
    Where the network is another than configured, books give the names; trades follow them.
    """
    named = Stream("spot", "SOL", "orderbook", 1), Stream("spot", "SOL", "trades")
    run = Run(root, HOUR + 10 * S, streams=named)
    run.connect(HOUR + 10 * S)
    for at in range(HOUR + 11 * S, HOUR + 40 * S, S):
        payload = book("SOL", 0, at, at // S, channel="orderbook_spot_0_grouped_1", marketType="spot")
        run.frame(at, payload)
        run.frame(at, trade(0, at, at // S, market_type="spot"))
    run.close(HOUR + 40 * S)

    seal(root)

    exponents = {
        table: set(pl.scan_parquet(root / "lake" / table / "**" / "*.parquet").collect()["size_exponent"])
        for table in ("books", "trades")
    }
    assert exponents == {"books": {9}, "trades": {9}}


def test_frames_nobody_asked_for_do_not_push_out_a_broken_book(root, monkeypatch):
    """
    Each kind of what is kept raw has a limit of its own.
    """
    monkeypatch.setattr(partitions, "UNDECODABLE_ROWS", 10)
    stray = [book("FOO-PERP", 77, HOUR, number) for number in range(50)]
    hour_with(root, *stray, b'{"channel":"orderbook_perp_0_grouped_1","data":"{broken"}')

    seal(root)

    raw = pl.read_parquet(next((root / "lake" / "undecodable").rglob("*.parquet")), hive_partitioning=False)
    assert raw["kind"].to_list() == ["unrequested"] * 10 + ["undecodable"]
