"""
The journal as lines: each frame as it came, once.
"""

import shutil

import polars as pl
import pytest

from lake_cases import HOUR, SOL_TRADES, Run, S, book, frame, make_root, recorded, trade
from recorder.analysis import Lake
from recorder.errors import RecorderError
from recorder.export.raw import write
from recorder.lake.layout import JOURNAL, manifest_path
from recorder.lake.repair import repair
from recorder.lake.sealing import seal
from recorder.records import HOUR_NS, EntryKind, Requested, Stream


def lines(root, tmp_path, **options):
    """
    Lines of an hour.
    """
    chosen = {"indices": None, "copies": False, "all_": False} | options
    with (tmp_path / "raw").open("wb") as to:
        told = write(root, HOUR, HOUR + 3600 * S, to, **chosen)
    return told, (tmp_path / "raw").read_bytes().splitlines()


def test_each_row_of_the_lake_has_its_line_and_each_line_its_row(faulty, faulty_root, tmp_path):
    """
    What the seal keeps is what is written, with its nanoseconds.
    """
    first, last = faulty.bounds()
    with (tmp_path / "raw").open("wb") as to:
        write(faulty_root, first, last, to, indices=None, copies=False, all_=False)

    rows = pl.concat([t.select("recv_ts") for t in (faulty.books(), faulty.trades())]).collect()
    told = [int(line.partition(b" ")[0]) for line in (tmp_path / "raw").read_bytes().splitlines()]
    assert told == sorted(rows["recv_ts"].to_physical().to_list())


def test_an_hour_of_whose_journal_something_is_gone_is_refused(faulty, faulty_root, tmp_path):
    """
    Its holes tell what was not heard; what was, and is not there any more, would be missing unsaid.
    """
    shutil.copytree(faulty_root, tmp_path / "root")
    victim = min((tmp_path / "root" / JOURNAL).rglob("*.zst"))
    victim.unlink()
    first, last = faulty.bounds()

    with (tmp_path / "raw").open("wb") as to:
        with pytest.raises(RecorderError, match="the journal of 2026-03-01T10 is gone, or not all there"):
            write(tmp_path / "root", first, last, to, indices=None, copies=False, all_=False)
        assert not to.tell()
        told = write(tmp_path / "root", first + HOUR_NS, last, to, indices=None, copies=False, all_=False)

    assert told.lines


def test_an_hour_whose_manifest_was_made_again_from_its_files_is_refused(faulty, faulty_root, tmp_path):
    """
    Such a one lists no segments, as those were gone by then: that none of them is missing says nothing.
    """
    root = tmp_path / "root"
    shutil.copytree(faulty_root, root)
    shutil.rmtree(root / JOURNAL)
    _, last = faulty.bounds()
    hour = last - HOUR_NS
    path = root / manifest_path(hour)
    path.write_bytes(path.read_bytes()[:-100])
    assert [mended.well for mended in repair(root)] == [True]

    with (
        (tmp_path / "raw").open("wb") as to,
        pytest.raises(RecorderError, match="the journal of 2026-03-01T11 is gone"),
    ):
        write(root, hour, last, to, indices=None, copies=False, all_=False)


def test_a_frame_is_written_as_it_came_and_once(tmp_path):
    """
    Two runs hear the same; one line each, the earlier; both with --copies.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR + S, HOUR + 60 * S, nonce="aaaaaa")
    late = Run(root, HOUR + S, nonce="bbbbbb")
    late.connect(HOUR + S)
    late.hear(HOUR + 2 * S, HOUR + 60 * S, late=7)
    late.close(HOUR + 60 * S)
    seal(root)

    _, once = lines(root, tmp_path)
    _, twice = lines(root, tmp_path, copies=True)
    _, sol = lines(root, tmp_path, indices={("perp", 0)})

    assert len(twice) == 2 * len(once)
    at = HOUR + 30 * S
    assert b"%d %b" % (at, book("SOL-PERP", 0, at, at // S)) in once
    assert b"%d %b" % (at, trade(0, at, at // S // 3)) in once
    assert all(b"_perp_0" in line for line in sol)
    assert 0 < len(sol) < len(once)


def test_everything_else_comes_if_asked_for_and_breaks_no_line(tmp_path):
    """
    Heartbeats, and what is no frame at all.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, HOUR + S)
    run.connect(HOUR + S)
    run.frame(HOUR + 2 * S, b'{"channel":"heartbeat"}')
    run.frame(HOUR + 3 * S, b"{\n\r\xff")
    run.close(HOUR + 4 * S)

    _, none = lines(root, tmp_path)
    told, found = lines(root, tmp_path, all_=True)

    assert none == []
    assert found == [b'%d {"channel":"heartbeat"}' % (HOUR + 2 * S), b"%d {  \xff" % (HOUR + 3 * S)]
    assert (told.lines, told.broken) == (2, 1)


def test_what_the_seal_tells_apart_is_told_apart_here(tmp_path):
    """
    Fees that came before the other connection had asked for them are not those, equal to them, that this brings later.
    A fill that comes there is. And a fact of a later version ends nothing.
    """
    root = make_root(tmp_path / "root")
    fees = Stream("perp", "SOL-PERP", "priorityfees")
    run = Run(root, HOUR + S, streams=(SOL_TRADES, fees))
    for connection in (0, 1):
        run.connect(HOUR + S, connection)
    run.fact(HOUR + 2 * S, Requested(fees, op="unsubscribe"), 1)
    run.put(EntryKind.FACT, HOUR + 4 * S, b'{"type":"of_a_later_version"}', -1, 0)
    fill, same = trade(0, HOUR, 7), frame("priorityFees_perp_0", {"medium": 1.25})
    run.frame(HOUR + 5 * S, fill)
    run.frame(HOUR + 6 * S, same)
    run.fact(HOUR + 10 * S, Requested(SOL_TRADES), 1)
    run.fact(HOUR + 10 * S, Requested(fees), 1)
    run.frame(HOUR + 20 * S, fill, connection=1)
    run.frame(HOUR + 21 * S, same, connection=1)
    run.close(HOUR + 60 * S)
    seal(root)

    _, told = lines(root, tmp_path)

    tables = (Lake(root).trades(), Lake(root).priority_fees())
    kept = pl.concat([table.select(pl.col("recv_ts").to_physical()) for table in tables]).collect()["recv_ts"].to_list()
    assert [int(line.partition(b" ")[0]) for line in told] == kept == [HOUR + n * S for n in (5, 6, 21)]
