"""
Hours that are not sealed yet: the rows that their seal will write, read without any effect on who records and seals.
"""

import threading
import time
from pathlib import Path

import polars as pl
import pytest

from lake_cases import HOUR, NEXT, Run, S, make_root, recorded, tree
from recorder import durable
from recorder.analysis import Lake, open_hours
from recorder.analysis.records import Book, Hole
from recorder.cli_export import export
from recorder.errors import DamagedFile, RecorderError
from recorder.history.frames import History
from recorder.lake.live import snapshot
from recorder.lake.root import seal_lock
from recorder.lake.sealing import seal
from recorder.records import HOUR_NS, EntryKind

TABLES = ("books", "trades")
ORDER = ["symbol", "recv_ts", "run", "seq"]


def committed(root: Path, ts: int) -> None:
    """
    Wait for the writer's thread.
    """
    for _ in range(1000):
        if snapshot(root).until > ts:
            return
        time.sleep(0.01)
    raise AssertionError("nothing was committed for 10 s")


def rows(lake: Lake, name: str, *, live: bool) -> pl.DataFrame:
    """
    All rows of a table as they are stored, in one order.
    """
    return getattr(lake, name)(units="raw", live=live).collect().sort(ORDER)


def test_live_rows_are_those_that_the_seal_will_write(tmp_path):
    """
    Every column of every row, flags included: over an hour's edge, an outage, and two runs at once.
    """
    root = make_root(tmp_path / "root")
    first = Run(root, NEXT - 120 * S)
    first.connect(NEXT - 120 * S)
    first.hear(NEXT - 119 * S, NEXT - 30 * S)
    first.hear(NEXT - 12 * S, NEXT + 40 * S)  # nothing for 18 s
    first.close(NEXT + 40 * S)
    recorded(root, NEXT - 60 * S, NEXT + 90 * S, nonce="bbbbbb")
    lake = Lake(root)
    live = {name: rows(lake, name, live=True) for name in TABLES}

    seal(root, open_hour=True)

    for name in TABLES:
        assert len(live[name]) > 50
        assert live[name].equals(rows(lake, name, live=False))
    assert live["books"]["flags"].n_unique() > 1
    last = live["books"].group_by("symbol").agg(pl.col("recv_ts").max()).sort("symbol")
    for told in (lake.latest(), lake.latest(live=True)):
        assert told.filter(pl.col("table") == "books").select("symbol", "recv_ts").collect().equals(last)


def test_rows_of_unsealed_hours_come_hour_by_hour_and_each_market_by_time(tmp_path):
    """
    Behind those that are sealed; put market by market, they are in the order they will be read in once sealed.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, NEXT - 30 * S)
    run.connect(NEXT - 30 * S)
    for begin in (NEXT, NEXT + HOUR_NS):
        run.hear(begin - 20 * S, begin + 20 * S)
    run.close(NEXT + HOUR_NS + 20 * S)
    seal(root, hour=HOUR)
    live = Lake(root, live=True).books(columns=["symbol", "recv_ts"]).collect()
    masked = Lake(root, live=True).books(columns=["symbol", "recv_ts"], gaps="mask").collect()

    seal(root, open_hour=True)

    sealed = Lake(root).books(columns=["symbol", "recv_ts"]).collect()
    markets = ["BTC-PERP", "SOL-PERP"]
    assert live["symbol"].rle().struct.field("value").to_list() == 3 * markets
    for each in (sealed, masked):
        assert each["symbol"].rle().struct.field("value").to_list() == markets
    assert live.sort("symbol", maintain_order=True).equals(sealed)


def test_what_is_not_sealed_is_refused_or_read_but_never_cut_off(tmp_path):
    """
    A range that reaches into it is told where; live the replay, the exports and the venue's replay have what the seal
    will write.
    """
    root = make_root(tmp_path / "root")
    recorded(root, NEXT - 20 * S, NEXT + 30 * S)
    lake = Lake(root)
    live = list(lake.replay(live=True))
    sent = [due for batch in History(root, None, None, None, live=True).batches() for due in batch]
    table = exported(root, tmp_path / "live.csv", "--live")

    for refused in (lambda: lake.reaching(None, None, live=False), lambda: History(root, None, None, None)):
        with pytest.raises(RecorderError, match=r"from 2025-03-01 10:59:4. UTC on is not sealed yet; `--live`"):
            refused()
    with pytest.raises(RecorderError, match="not sealed yet"):
        exported(root, tmp_path / "sealed.csv")
    assert not (tmp_path / "sealed.csv").exists()
    with pytest.raises(RecorderError, match=r"no hour is sealed yet; `drift-recorder seal .* --open`"):
        lake.replay()
    seal(root, open_hour=True)

    # The last instant may not be over: `seal --open` leaves it out.
    last = max(record.recv_ts for record in live if isinstance(record, Book))
    told = [(type(r), r.recv_ts, r.run, r.seq) for r in live if not isinstance(r, Hole) and r.recv_ts < last]
    assert lake.unsealed(None, last) is None
    assert len(told) > 100
    assert told == [(type(r), r.recv_ts, r.run, r.seq) for r in lake.replay(None, None, last, holes=False)]
    assert len(sent) >= len(told)
    assert exported(root, tmp_path / "sealed.csv", "--to", "2025-03-01T11:00:20") == [
        line for line in table if line.startswith("exchange") or int(line.split(",")[3]) < (NEXT + 20 * S) // 1000
    ]


def exported(root: Path, path: Path, *options: str) -> list[str]:
    """
    Lines of exported books.
    """
    export.main([str(root), "book_snapshot_1", "-o", str(path), *options], standalone_mode=False)
    return path.read_text().splitlines()


def test_a_pinned_lake_stays_at_its_moment(tmp_path):
    """
    However much is committed meanwhile, and also once it is sealed: several questions have one answer.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, HOUR + 10 * S, alive=True)
    run.connect(HOUR + 10 * S)
    run.hear(HOUR + 11 * S, HOUR + 60 * S)
    committed(root, HOUR + 59 * S)
    pinned = Lake(root).pinned()
    first = rows(pinned, "books", live=True)

    run.hear(HOUR + 60 * S, HOUR + 90 * S)
    run.close()
    more = rows(Lake(root), "books", live=True)
    again = rows(pinned, "books", live=True)
    seal(root, open_hour=True)

    assert len(more) > len(first)
    assert again.equals(first)
    assert rows(pinned.pinned(), "books", live=True).equals(first)


def test_a_lake_that_is_live_reads_what_is_not_sealed_whatever_is_asked(tmp_path):
    """
    As if each question said `live=True`; what tells of published hours goes on to do so.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR + 10 * S, HOUR + 60 * S)
    sealed, live = Lake(root), Lake(root, live=True)

    assert rows(sealed, "books", live=False).is_empty()
    assert rows(live, "books", live=False).equals(rows(sealed, "books", live=True))
    assert live.bars("SOL-PERP", *live.heard(), every="10s").collect()["close"].count() >= 4
    assert len(list(live.replay())) == len(list(sealed.replay(live=True))) > 100
    assert live.coverage().collect().equals(sealed.coverage(live=True).collect())
    assert live.telemetry().collect().equals(sealed.telemetry(live=True).collect())
    assert live.gaps("SOL-PERP").collect().equals(sealed.gaps("SOL-PERP", live=True).collect())
    assert live.reaching(None, None, live=False).bounds() == live.bounds() == sealed.bounds(live=True)
    assert live.hours().collect().is_empty()
    with pytest.raises(RecorderError, match=r"no hour is sealed yet.*live=True"):
        sealed.heard()


def test_a_day_that_is_not_sealed_is_pending_with_the_seconds_that_are_committed(tmp_path):
    """
    Without `live` nothing is known of it; once the hour is sealed both say the same.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR + 10 * S, HOUR + 60 * S)
    lake = Lake(root)

    told = lake.condition(live=True).filter(symbol="SOL-PERP").collect()
    before = lake.condition().collect()
    seal(root)

    assert before.is_empty()
    assert told.select("condition", "hours", "hours_pending").rows() == [("pending", 1, 14)]
    assert 45 < told["complete_s"].item() < 50
    assert lake.condition().collect()["hours_pending"].unique().to_list() == [13]
    assert lake.condition(live=True).collect().equals(lake.condition().collect())


def test_what_was_heard_begins_and_ends_with_its_rows(tmp_path):
    """
    Not with the hour, of which most was before the first run; with `live` as far as is committed.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR + 10 * S, HOUR + 60 * S)
    books = Lake(root).books(live=True, columns=["recv_ts"]).collect()["recv_ts"].to_physical()
    trades = Lake(root).trades(live=True, columns=["recv_ts"]).collect()["recv_ts"].to_physical()
    begun, over = min(*books, *trades), max(*books, *trades)

    first, last = Lake(root, live=True).heard()
    seal(root, open_hour=True)

    assert first == begun
    assert over < last <= HOUR + 60 * S + 1
    assert Lake(root).heard() == Lake(root, live=True).heard() == (begun, over + 1)
    assert Lake(root).heard(HOUR, NEXT) == (HOUR, NEXT)


def test_coverage_and_holes_of_the_open_hour_are_those_of_its_seal(tmp_path):
    """
    So that what is derived from it is as safe.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, HOUR + 10 * S, alive=True)
    run.connect(HOUR + 10 * S)
    run.hear(HOUR + 11 * S, HOUR + 100 * S)
    run.hear(HOUR + 130 * S, HOUR + 200 * S)
    until = HOUR + 199 * S + 1
    run.put(EntryKind.ALIVE, until, b"", -1, 0)
    committed(root, until)
    lake = Lake(root)
    coverage, holes = lake.coverage(live=True).collect(), lake.gaps("SOL-PERP", end=until, live=True).collect()

    run.put(EntryKind.ALIVE, until + 1, b"", -1, 0)  # `seal --open` leaves out the last instant
    committed(root, until + 1)
    seal(root, open_hour=True)
    run.close()

    assert coverage.sort("symbol", "channel").equals(lake.coverage().collect().sort("symbol", "channel"))
    assert holes.equals(lake.gaps("SOL-PERP", end=until).collect())
    assert holes["why"].str.contains("recorder_down").any()  # no entry at all for half a minute


def test_what_is_not_committed_yet_is_unrecorded(tmp_path):
    """
    A bar that is not over says nothing, and after the snapshot nothing is covered.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, HOUR + 10 * S)
    run.connect(HOUR + 10 * S)
    run.hear(HOUR + 11 * S, HOUR + 230 * S)
    run.close()
    lake = Lake(root)

    bars = lake.bars("SOL-PERP", HOUR, HOUR + 360 * S, live=True).collect()

    assert bars["covered"].to_list()[4:] == [0.0, 0.0]
    assert bars["trades"].to_list()[3:] == [None, None, None]
    assert bars["trades"][1] == 20
    whys = lake.gaps("SOL-PERP", HOUR, HOUR + 360 * S, live=True).collect()["why"].to_list()
    assert whys[-1].endswith("not committed yet")
    # To the end of what is committed, of a run that has ended, nothing is without its reason.
    told = lake.gaps("SOL-PERP", live=True).collect()
    assert set(told["state"]) == {"missing"}
    assert not told["why"].str.contains("published|committed").any()


def test_nothing_is_written_and_no_lock_is_taken_or_asked_for(tmp_path, monkeypatch):
    """
    A recorder that starts, or a seal that is due, never meets a reader.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, HOUR, alive=True)
    run.connect(HOUR)
    run.hear(HOUR + S, HOUR + 60 * S)
    committed(root, HOUR + 59 * S)
    held = seal_lock(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    def refuse(*_args, **_options):
        raise AssertionError("a reader touched a lock, or the disk")

    for name in ("Lock", "is_locked", "publish_bytes", "make_directories", "remove", "rename"):
        monkeypatch.setattr(durable, name, refuse)
    lake = Lake(root)

    assert len(rows(lake, "books", live=True)) == 118
    assert lake.coverage(live=True).collect()["rows"].sum() > 118
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    monkeypatch.undo()
    held.release()
    run.close()


def test_a_frame_reads_up_to_what_was_committed_when_it_was_made(tmp_path):
    """
    Collected twice it is the same, whatever was recorded and sealed in between.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR, HOUR + 60 * S)
    lake = Lake(root)
    frame = lake.books("SOL-PERP", live=True)
    holes = lake.gaps("SOL-PERP", end=HOUR + HOUR_NS, live=True)
    first, holes_then = frame.collect(), holes.collect()

    recorded(root, HOUR + 70 * S, HOUR + 120 * S, nonce="bbbbbb")
    assert frame.collect().equals(first)
    seal(root)
    assert frame.collect().equals(first)
    assert holes.collect()["end"].to_list()[-1] == holes_then["end"].to_list()[-1]
    assert len(lake.books("SOL-PERP").collect()) > len(first)


def test_an_hour_whose_journal_expired_after_its_seal_is_read_from_the_lake(tmp_path):
    """
    A frame may be kept for days.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR, HOUR + 60 * S)
    frame = Lake(root).books("SOL-PERP", live=True)
    expected = frame.collect()
    fresh = Lake(root).books("SOL-PERP", live=True)
    seal(root)
    for path in (root / "journal").rglob("*.zst*"):
        path.unlink()

    assert fresh.collect().equals(expected)


def test_what_was_decoded_is_let_go_of_beyond_a_limit(tmp_path, monkeypatch):
    """
    And read again: the answers stay the same.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR, HOUR + 60 * S)
    monkeypatch.setattr(open_hours, "KEPT_BYTES", 0)
    lake = Lake(root)
    frame, coverage = lake.books(live=True), lake.coverage(live=True)

    assert frame.collect().equals(frame.collect())
    assert coverage.collect().equals(coverage.collect())
    assert [hour.held_bytes for hour in lake._reader._open._kept.values()] == [0]


def test_journal_that_is_gone_without_a_seal_is_told(tmp_path):
    """
    Never fewer rows without a word.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR, HOUR + 60 * S)
    frame = Lake(root).books("SOL-PERP", live=True)
    next(iter((root / "journal").rglob("*.zst*"))).unlink()

    with pytest.raises(DamagedFile, match="is gone"):
        frame.collect()


def test_of_two_runs_that_go_on_the_slower_one_bounds_what_is_read(tmp_path):
    """
    What it commits next stands between the rows of the other.
    """
    root = make_root(tmp_path / "root")
    one = recorded_so_far(root, HOUR, HOUR + 60 * S, nonce="aaaaaa")
    recorded_so_far(root, HOUR + S, HOUR + 64 * S, nonce="bbbbbb", beside=(one,))

    assert snapshot(root).until == HOUR + 59 * S
    recorded_so_far(root, HOUR + 2 * S, HOUR + 66 * S, nonce="cccccc")  # notes nobody beside it: both have ended

    assert snapshot(root).until == HOUR + 65 * S + 1


def recorded_so_far(root: Path, start: int, end: int, **options) -> Run:
    """
    A run that did not stop in order.
    """
    run = Run(root, start, **options)
    run.connect(start)
    run.hear(start + S, end)
    run.close()
    return run


def test_readers_are_right_while_a_recorder_writes_and_hours_are_sealed(tmp_path):
    """
    Under way from one hour into the next: each reading is a beginning of what is there in the end, and never shorter
    than the one before.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, NEXT - 90 * S, alive=True)
    run.connect(NEXT - 90 * S)
    was_read = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for at in range(NEXT - 89 * S, NEXT + 241 * S, 15 * S):
                run.hear(at, at + 15 * S)
                committed(root, at + 14 * S)
                was_read.wait(10)
                was_read.clear()
            run.close(NEXT + 241 * S)
        except BaseException as error:  # noqa: BLE001  # told below
            failures.append(error)

    def keep_sealing() -> None:
        try:
            while writer.is_alive():
                seal(root)
        except BaseException as error:  # noqa: BLE001  # told below
            failures.append(error)

    writer = threading.Thread(target=write)
    sealer = threading.Thread(target=keep_sealing)
    lake = Lake(root)
    readings: list[pl.DataFrame] = []
    writer.start()
    sealer.start()
    while writer.is_alive():
        found = lake.books("SOL-PERP", units="raw", live=True, columns=["recv_ts", "run", "seq", "flags"]).collect()
        readings.append(found)
        was_read.set()
    writer.join()
    sealer.join()
    readings.append(
        lake.books("SOL-PERP", units="raw", live=True, columns=["recv_ts", "run", "seq", "flags"]).collect()
    )

    assert failures == []
    whole = readings[-1]
    assert len(whole) == 330
    for reading in readings:
        assert reading.equals(whole.head(len(reading)))
    lengths = [len(reading) for reading in readings]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 5
    seal(root, open_hour=True)
    assert whole.equals(lake.books("SOL-PERP", units="raw", columns=["recv_ts", "run", "seq", "flags"]).collect())
    assert tree(root)
