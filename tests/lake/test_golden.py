"""
Files of every format version that was ever written must read for ever, to the same values.
"""

import json
from pathlib import Path

import polars as pl
import pytest
import zstandard

import reference
from captures import CAPTURES, FIXTURES, capture
from make_golden_lake import plain
from recorder.analysis import Lake
from recorder.lake import manifest as manifests
from recorder.lake.parquet import describe
from recorder.lake.verify import verify

GOLDEN = sorted((FIXTURES / "golden").glob("lake-*"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request, tmp_path) -> Path:
    """
    A copy, so that nothing can be written into the fixture.
    """
    root = tmp_path / "root"
    for file in request.param.rglob("*"):
        if file.is_file():
            target = root / file.relative_to(request.param)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return root


def content(root: Path) -> dict[str, list[dict[str, object]]]:
    """
    What was written, as it was read by the version that wrote it.
    """
    return json.loads(zstandard.ZstdDecompressor().decompress((root / "content.json.zst").read_bytes()))


def test_there_is_a_golden_lake_of_each_format():
    """
    Without one the tests below would pass for nothing.
    """
    assert [path.name for path in GOLDEN] == ["lake-1", "lake-2"]


def test_a_golden_lake_reads_to_the_same_values(golden):
    """
    Through Lake, every column there was then; later versions may add some.
    """
    lake = Lake(golden)
    for table, expected in content(golden).items():
        if table.startswith("books"):
            frame = lake.books(table=table, units="raw")
        elif table in {"trades", "priority_fees"}:
            frame = getattr(lake, table)(units="raw")
        else:
            frame = getattr(lake, table)()
        rows = plain(frame.collect())
        assert len(rows) == len(expected) > 0, table
        for row, wanted in zip(rows, expected, strict=True):
            assert {name: row[name] for name in wanted} == wanted, table


def test_a_golden_lake_holds_what_the_captures_say(golden):
    """
    The values were right when they were written: the second decoder finds each book and fill among the captures'.
    """
    exponents = {"perp": 9, "spot": 6}
    known = {}
    for name in CAPTURES:
        for captured in capture(name):
            market_type = "spot" if b"_spot_" in captured.frame[:60] else "perp"
            decoded = reference.decode(captured.frame, size_exponent=exponents[market_type])
            if decoded is not None:
                columns = {k: v for k, v in decoded.columns.items() if k not in {"flags", "extra"}}
                known.setdefault((decoded.table, decoded.columns["slot"]), []).append(columns)
    found = 0
    for table, rows in content(golden).items():
        for row in rows if table == "trades" or table.startswith("books") else []:
            stored = {name: value for name, value in row.items() if name not in reference.ORIGIN | {"flags", "extra"}}
            assert stored in known[table, row["slot"]], table
            found += 1
    assert found >= 30


def test_a_golden_lake_is_whole_and_says_what_it_is(golden):
    """
    Manifest, digests and metadata of old versions are still understood.
    """
    (hour,) = manifests.hours(golden)
    manifest = manifests.read(golden, hour)
    assert verify(golden).problems == []
    assert manifest.complete
    for file in manifest.files:
        about = describe(golden / file.path)
        assert (about["rows"], about["metadata"]["table"]) == (file.rows, file.table)
        assert pl.read_parquet(golden / file.path, hive_partitioning=False).height == file.rows
