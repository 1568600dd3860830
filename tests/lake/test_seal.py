"""
Sealing journals that the real writer wrote, in virtual time: same bytes, each frame once, every hour on record.
"""

import json
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from lake_cases import (
    BTC,
    HOUR,
    NEXT,
    SOL,
    SOL_TRADES,
    STREAMS,
    Run,
    S,
    book,
    frame,
    make_root,
    recorded,
    trade,
    tree,
)
from recorder.analysis import Lake
from recorder.errors import SealFailed
from recorder.lake import manifest as manifests
from recorder.lake import partitions, sealing
from recorder.lake.layout import manifest_path
from recorder.lake.schema import FORMAT_VERSION, TABLES, table
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import HOUR_NS, EntryKind, Flag, Requested, Stream, Telemetry

FUTURE = HOUR + 24 * HOUR_NS


@pytest.fixture
def root(tmp_path) -> Path:
    """
    An empty root.
    """
    return make_root(tmp_path / "root")


def rows(root: Path, name: str) -> pl.DataFrame:
    """
    All rows of a table, raw.
    """
    lake = Lake(root)
    if name in {"quality", "coverage"}:
        return getattr(lake, name)().collect()
    if name == "trades":
        return lake.trades(units="raw").collect()
    if name == "undecodable":
        return lake.undecodable().collect()
    return lake.books(table=name, units="raw").collect()


def kinds(root: Path) -> Counter[str]:
    """
    How many events of each kind.
    """
    return Counter(rows(root, "quality")["kind"])


# ---- same input, same bytes


def test_sealing_twice_gives_the_same_bytes_of_every_file(root):
    """
    Lake, quality, coverage and manifest: the second seal is made from the journal alone, and nobody can tell.
    """
    recorded(root, HOUR + 10 * S, NEXT + 200 * S)

    seal(root)
    first = tree(root)
    for hour in (HOUR, NEXT):
        seal(root, hour=hour)
    again = tree(root)
    for path in [*(root / "manifest").glob("*.json"), *(root / "lake").rglob("*.parquet")]:
        path.unlink()
    seal(root)

    assert len(first) >= 10
    assert again == first
    assert tree(root) == first


def test_a_fresh_process_with_other_hashes_gives_the_same_bytes(root):
    """
    Nothing may follow the order of a set or the value of a hash.
    """
    one = Run(root, HOUR + 10 * S, streams=STREAMS)
    one.connect(HOUR + 10 * S)
    two = Run(root, HOUR + 20 * S, nonce="bbbbbb", beside=(one,))
    two.connect(HOUR + 20 * S)
    one.hear(HOUR + 30 * S, HOUR + 90 * S)
    two.hear(HOUR + 30 * S, HOUR + 120 * S, late=1000)
    for number in range(30):
        two.frame(HOUR + 121 * S, frame(f"trades_perp_{number + 20}", {"fillRecordId": number}))
    one.close()
    two.close(HOUR + 122 * S)
    found = set()
    for seed in ("0", "1", "4711"):
        for path in [*(root / "manifest").glob("*.json"), *(root / "lake").rglob("*.parquet")]:
            path.unlink()
        code = "import sys; from pathlib import Path; from recorder.lake.sealing import seal; seal(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(root)], check=True, env={"PYTHONHASHSEED": seed})
        found.add(tuple(sorted(tree(root).items())))

    assert len(found) == 1


def test_markets_in_several_groups_give_the_same_files_as_in_one(root, monkeypatch):
    """
    How many readings an hour needs is a matter of memory, not of content; also for findings, and beyond the cap.
    """
    run = recorded(root, HOUR + 10 * S, HOUR + 100 * S)
    more = Run(root, HOUR + 101 * S, nonce="bbbbbb")
    more.connect(HOUR + 101 * S)
    for number in range(40):
        at = HOUR + (110 + number) * S
        more.frame(at, frame("orderbook_perp_0_grouped_1", {"bids": 1, "marketName": "SOL-PERP", "n": number}))
        more.frame(at, frame("trades_perp_1", {"fillRecordId": number, "newMember": number}))
        more.frame(at, b"not JSON")
        more.frame(at, book("SOL-PERP", 0, at, number, channel="orderbook_perp_0"))
        more.frame(at, book("SOL-PERP", 0, at, number))
    more.close(HOUR + 160 * S)
    monkeypatch.setattr(partitions, "UNDECODABLE_ROWS", 31)

    seal(root)
    whole = tree(root)
    monkeypatch.setattr(partitions, "GROUP_BYTES", 1)
    seal(root, hour=HOUR)

    assert run.name
    assert tree(root) == whole
    assert len(rows(root, "undecodable")) == 31
    coverage = rows(root, "coverage").filter(pl.col("symbol") == "SOL-PERP", pl.col("channel") == "orderbook")
    assert coverage["rows"].item() == 89 + 40 + 40, "two tables of one stream are counted together"
    assert coverage["last_recv_ts"].dt.epoch("ns").item() == HOUR + 149 * S


# ---- hours


def test_hours_are_sealed_oldest_first_and_chained_by_their_carry(root):
    """
    Each begins with the state the one before ended with, so that an event across the turn is one event in two parts.
    """
    run = Run(root, HOUR + 3000 * S, streams=(SOL, BTC))
    run.connect(HOUR + 3000 * S)
    run.hear(HOUR + 3001 * S, NEXT - 20 * S)
    for at in range(NEXT - 20 * S, NEXT + 100 * S, S):  # BTC goes on, SOL is silent over the turn
        run.frame(at, book("BTC-PERP", 1, at, at // S))
        if at // S % 5 == 0:
            run.frame(at, b'{"channel":"heartbeat"}')
    run.hear(NEXT + 100 * S, NEXT + 2 * HOUR_NS + 100 * S, step=20 * S)
    run.close(NEXT + 2 * HOUR_NS + 100 * S)

    sealed = seal(root)

    assert [s.hour for s in sealed] == [HOUR, NEXT, NEXT + HOUR_NS, NEXT + 2 * HOUR_NS]
    for before, after in pairwise(sealed):
        assert after.manifest.carry_in == before.manifest.carry_out == manifests.carry_digest(before.manifest.carry)
    silent = rows(root, "quality").filter(kind="silent", symbol="SOL-PERP").head(2)
    assert silent["event_id"].n_unique() == 1
    assert silent["continues"].to_list() == [True, False]
    assert silent["end"].dt.epoch("ns").to_list() == [NEXT, NEXT + 100 * S]
    assert silent["true_start"].dt.epoch("ns").to_list() == [NEXT - 21 * S] * 2
    with pytest.raises(SealFailed, match="does not hold"):
        seal(root, hour=HOUR - HOUR_NS)


def test_an_hour_that_is_not_the_oldest_waits_for_those_before_it(root):
    """
    Its carry is not there yet.
    """
    recorded(root, HOUR, NEXT + 100 * S)

    with pytest.raises(SealFailed, match="has to be sealed before"):
        seal(root, hour=NEXT)

    assert tree(root) == {}


def test_a_later_hour_is_made_again_only_if_its_carry_changed(root, monkeypatch):
    """
    One hour that cannot be completed must not have all later ones made again at each attempt.
    """
    recorded(root, HOUR, NEXT + 100 * S)
    seal(root)
    manifest = manifests.read(root, HOUR)
    manifests.publish(root, HOUR, manifests.Manifest(**{**as_dict(manifest), "complete": False}))

    assert [s.hour for s in seal(root)] == [HOUR]


def as_dict(struct):
    """
    Fields of a struct by name.
    """
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def test_an_hour_sealed_open_is_replaced_when_it_is_over(root, monkeypatch):
    """
    The hour so far says that it is incomplete; closed, it has the bytes it would have had anyway.
    """
    now = [HOUR + 100 * S]
    monkeypatch.setattr(sealing, "wall_ns", lambda: now[0])
    run = Run(root, HOUR + 10 * S)
    run.connect(HOUR + 10 * S)
    run.hear(HOUR + 11 * S, HOUR + 90 * S)
    run.close()

    assert seal(root) == []
    (so_far,) = seal(root, open_hour=True)
    half = len(rows(root, "books"))
    recorded(root, HOUR + 200 * S, HOUR + 300 * S, nonce="bbbbbb")
    now[0] = NEXT + 61 * S
    (closed,) = seal(root)
    replaced = tree(root)
    for path in [*(root / "manifest").glob("*.json"), *(root / "lake").rglob("*.parquet")]:
        path.unlink()
    seal(root)

    assert (so_far.manifest.complete, closed.manifest.complete) == (False, True)
    assert half == 2 * 79
    assert len(rows(root, "books")) == 2 * 79 + 2 * 99
    assert tree(root) == replaced
    assert seal(root, open_hour=True) == []


def test_an_open_hour_of_two_live_runs_ends_where_both_have_committed(root, monkeypatch):
    """
    What the slower one commits while the seal reads would shift the places that the first reading noted.
    """
    monkeypatch.setattr(sealing, "wall_ns", lambda: HOUR + 100 * S)
    slow = Run(root, HOUR + 10 * S, alive=True, streams=(SOL,))
    fast = Run(root, HOUR + 10 * S, nonce="bbbbbb", alive=True, streams=(BTC,), beside=(slow,))
    slow.hear(HOUR + 11 * S, HOUR + 30 * S)
    fast.hear(HOUR + 11 * S, HOUR + 60 * S)
    for run in (slow, fast):
        wait_committed(run)
    survey = partitions.PartitionWriter.write

    def meanwhile(self):
        slow.hear(HOUR + 30 * S, HOUR + 60 * S)
        wait_committed(slow)
        return survey(self)

    monkeypatch.setattr(partitions.PartitionWriter, "write", meanwhile)

    seal(root, open_hour=True)
    books = rows(root, "books")
    for run in (slow, fast):
        run.close()

    assert books["recv_ts"].dt.epoch("ns").max() < HOUR + 29 * S
    for symbol, index in (("SOL-PERP", 0), ("BTC-PERP", 1)):
        of = books.filter(symbol=symbol)
        assert of["market_index"].to_list() == [index] * len(of)
        assert of["recv_ts"].dt.epoch("ns").to_list() == list(range(HOUR + 11 * S, HOUR + 29 * S, S))


def wait_committed(run: Run) -> None:
    """
    Until the writer has synced all.
    """
    while run.journal.queued_bytes:
        run.journal._thread.join(0.01)


def test_an_hour_in_which_no_recorder_ran_is_on_record(root):
    """
    After the restart it has its quality and coverage rows, and no books.
    """
    recorded(root, HOUR + 10 * S, HOUR + 100 * S)
    recorded(root, HOUR + 3 * HOUR_NS, HOUR + 3 * HOUR_NS + 100 * S, nonce="bbbbbb")

    sealed = seal(root)

    assert [s.hour for s in sealed] == [HOUR + n * HOUR_NS for n in range(4)]
    for hour in (NEXT, NEXT + HOUR_NS):
        coverage = Lake(root).coverage(start=hour, end=hour + HOUR_NS).collect()
        assert sorted(zip(coverage["symbol"], coverage["channel"], strict=True)) == sorted(
            (s.symbol, s.channel) for s in STREAMS
        )
        assert coverage["rows"].to_list() == [0] * 4
        assert coverage["longest_hole_s"].to_list() == [3600.0] * 4
        # Fill ids went on meanwhile: the trade gap spans the hour too.
        events = Lake(root).quality(start=hour, end=hour + HOUR_NS).filter(pl.col("kind") != "trade_gap").collect()
        assert events["kind"].to_list() == ["recorder_down"]
        assert events["start"].dt.epoch("ns").item() == hour
        assert events["true_start"].dt.epoch("ns").item() == HOUR + 100 * S
    down = rows(root, "quality").filter(kind="recorder_down")
    assert down["event_id"].n_unique() == 2, "one between the runs, one since the last"
    assert down["continues"].to_list() == [True, True, False, True], "the next run began at a full hour"


def test_a_clock_of_1970_does_not_make_half_a_million_hours(root, monkeypatch):
    """
    The time without a recorder is one event; only its first hours have rows of their own.
    """
    monkeypatch.setattr(sealing, "MAX_DOWN_HOURS", 20)
    recorded(root, 3600 * S, 3700 * S)
    recorded(root, HOUR, HOUR + 100 * S, nonce="bbbbbb")

    sealed = seal(root)

    assert len(sealed) == 20 + 2
    between = rows(root, "quality").filter(kind="recorder_down")[:-1]
    assert between["true_start"].dt.epoch("ns").unique().to_list() == [3700 * S]
    assert between["continues"][-2:].to_list() == [True, True]


# ---- several sources


def test_what_two_runs_and_two_connections_heard_is_stored_once(root):
    """
    The k-th occurrence of a payload on one source pairs with the k-th on another; the earliest stays. A second
    occurrence on one source is a repeat, kept and flagged.
    """
    one = Run(root, HOUR + 10 * S)
    one.connect(HOUR + 10 * S)
    one.connect(HOUR + 10 * S, connection=1)
    two = Run(root, HOUR + 11 * S, nonce="bbbbbb", beside=(one,))
    two.connect(HOUR + 11 * S)
    at = HOUR + 20 * S
    same, other, only = (book("SOL-PERP", 0, at, n) for n in (1, 2, 3))
    one.frame(at, same)
    two.frame(at + 1, same)
    one.frame(at + 2, same, connection=1)
    two.frame(at + 3, same)  # the second on this source: a repeat
    one.frame(at + 4, same)  # its pair
    two.frame(at + 5, other)
    one.frame(at + 6, other)
    one.frame(at + 7, only, connection=1)
    one.close()
    two.close(HOUR + 60 * S)

    seal(root)

    books = rows(root, "books").filter(symbol="SOL-PERP")
    found = [
        (row["recv_ts"], row["slot"], bool(row["flags"] & Flag.REPEAT.value))
        for row in books.with_columns(pl.col("recv_ts").dt.epoch("ns") - at).iter_rows(named=True)
    ]
    assert found == [(0, 1, False), (3, 1, True), (5, 2, False), (7, 3, False)]
    coverage = rows(root, "coverage").filter(symbol="SOL-PERP", channel="orderbook")
    assert (coverage["rows"].item(), coverage["duplicates_removed"].item(), coverage["repeats"].item()) == (4, 4, 1)


def test_what_a_run_had_not_asked_for_costs_one_beside_it_no_row(root):
    """
    Whoever heard it first: where nobody had asked, it is kept raw; where somebody had, it is a row.
    """
    one = Run(root, HOUR + 10 * S, streams=(BTC,))
    two = Run(root, HOUR + 11 * S, nonce="bbbbbb", streams=(SOL,), beside=(one,))
    one.connect(HOUR + 11 * S)
    two.connect(HOUR + 11 * S)
    for second in (20, 21, 22):
        payload = book("SOL-PERP", 0, HOUR + second * S, second)
        one.frame(HOUR + second * S, payload)
        two.frame(HOUR + second * S + 1, payload)
    one.close()
    two.close(HOUR + 60 * S)

    seal(root)

    assert rows(root, "books").select("run", "slot").rows() == [(two.name, slot) for slot in (20, 21, 22)]
    assert rows(root, "undecodable")["run"].to_list() == [one.name] * 3


def test_a_pair_across_the_turn_of_the_hour_is_stored_once(root):
    """
    The hour looks two minutes back.
    """
    one = Run(root, NEXT - 100 * S)
    two = Run(root, NEXT - 99 * S, nonce="bbbbbb", beside=(one,))
    payload = book("SOL-PERP", 0, NEXT, 1)
    one.frame(NEXT - 1, payload)
    two.frame(NEXT + 1, payload)
    one.frame(NEXT + 2 * S, book("SOL-PERP", 0, NEXT, 2))
    one.close()
    two.close()

    seal(root)

    assert rows(root, "books")["recv_ts"].dt.epoch("ns").to_list() == [NEXT - 1, NEXT + 2 * S]


def test_what_a_run_had_not_asked_for_costs_no_row_across_the_turn_of_the_hour(root):
    """
    What it heard before made no row in its own hour.
    """
    one = Run(root, NEXT - 100 * S, streams=(BTC,))
    two = Run(root, NEXT - 99 * S, nonce="bbbbbb", streams=(SOL,), beside=(one,))
    payload = book("SOL-PERP", 0, NEXT, 1)
    one.frame(NEXT - 1, payload)
    two.frame(NEXT + 1, payload)
    one.close()
    two.close()

    seal(root)

    assert rows(root, "books").select("run", "slot").rows() == [(two.name, 1)]


@pytest.mark.parametrize(
    ("changes", "heard", "row"),
    [
        # Let go of before the hour's turn, after it was heard, or while that was on its way still: a row it was.
        ([(25, "unsubscribe")], 30, True),
        ([(25, "unsubscribe")], 16, True),
        ([(115, "unsubscribe")], 117, True),
        ([(90, "unsubscribe"), (40, "subscribe"), (30, "unsubscribe")], 35, True),
        ([(60, "unsubscribe"), (52, "subscribe")], 55, True),
        # Nobody had asked for it yet, or any more: it was none.
        ([(20, "subscribe")], 30, False),
        ([(90, "unsubscribe"), (40, "subscribe")], 60, False),
        ([(90, "unsubscribe"), (40, "subscribe"), (30, "unsubscribe")], 60, False),
        ([(90, "unsubscribe"), (40, "subscribe"), (30, "unsubscribe")], 5, False),
    ],
)
def test_across_the_turn_of_the_hour_a_frame_counts_as_what_was_asked_for_when_it_came(root, changes, heard, row):
    """
    Whatever the run that heard it asked for as the hour turned: the other, whose line is late, brings it again.
    """
    began = NEXT - 300 * S
    first = (BTC, SOL) if changes[0][1] == "unsubscribe" else (BTC,)
    one = Run(root, began, streams=first)
    two = Run(root, began, nonce="bbbbbb", streams=(SOL,), beside=(one,))
    one.connect(began)
    two.connect(began)
    payload = book("SOL-PERP", 0, NEXT - heard * S, 1)
    at = {NEXT - before * S: Requested(SOL, op=op) for before, op in changes}
    for now in range(began + S, NEXT + 10 * S, S):
        one.put(EntryKind.ALIVE, now, b"", -1, 0)
        two.put(EntryKind.ALIVE, now, b"", -1, 0)
        if now in at:
            one.fact(now, at[now], 0)
        if now == NEXT - heard * S:
            one.frame(now, payload)
        if now == NEXT + S:
            two.frame(now, payload)
    one.close()
    two.close()

    seal(root)

    assert rows(root, "books")["run"].to_list() == [one.name if row else two.name]


@pytest.mark.parametrize(("first", "row"), [("subscribe", True), ("unsubscribe", False)])
def test_across_the_turn_of_the_hour_what_changed_before_the_two_minutes_counts_as_well(root, first, row):
    """
    Their first segment began half a minute before them and says what was recorded then; its own facts tell what changed
    until they begin, though the stream is asked for again just before the hour turns.
    """
    began, changed, heard = NEXT - 330 * S, NEXT - 140 * S, range(NEXT - 100 * S, NEXT - 2 * S, 10 * S)
    streams = {"subscribe": (BTC,), "unsubscribe": (BTC, SOL)}
    one = Run(root, began, streams=streams[first])
    two = Run(root, began, nonce="bbbbbb", streams=(SOL,), beside=(one,))
    one.connect(began)
    two.connect(began)
    for now in range(began + S, NEXT + 10 * S, S):
        one.put(EntryKind.ALIVE, now, b"", -1, 0)
        two.put(EntryKind.ALIVE, now, b"", -1, 0)
        if now == changed:
            one.fact(now, Requested(SOL, op=first), 0)
            one.wants(streams["unsubscribe" if first == "subscribe" else "subscribe"])
        if now == NEXT - S:
            one.fact(now, Requested(SOL, why="silent"), 0)
        if now in heard:
            one.frame(now, book("SOL-PERP", 0, now, now // S))
        if now == NEXT + S:
            for at in heard:
                two.frame(now, book("SOL-PERP", 0, at, at // S))
    one.close()
    two.close()

    seal(root)

    assert rows(root, "books").select("run", "slot").rows() == [((one if row else two).name, at // S) for at in heard]


def test_what_an_earlier_version_sealed_stays_as_it_is(root):
    """
    Its state knew less than this version's, and neither manifest nor rows say so; the next hour is made from it.
    """
    recorded(root, NEXT - 100 * S, NEXT + HOUR_NS + 100 * S, streams=(SOL,))
    sealed = seal(root)
    carry_in = None
    for each in sealed[:2]:
        carry_in = as_of_an_earlier_version(root / manifest_path(each.hour), carry_in)
    (root / manifest_path(sealed[2].hour)).unlink()
    before = tree(root)

    (again,) = seal(root)

    assert again.hour == sealed[2].hour
    assert again.manifest.carry_in == carry_in
    after = tree(root)
    assert after.pop(manifest_path(again.hour).as_posix())
    assert after == before
    assert verify(root).problems == []


def as_of_an_earlier_version(path, carry_in):
    """
    Rewrite a manifest as a version would have that knew neither of paces nor of the digest; that of its carry.
    """
    said = json.loads(path.read_bytes())
    del said["sha256"]
    said.pop("carry_out", None)
    for run in said["carry"]["runs"]:
        del run["freed"]
    del said["carry"]["paces"]
    said["carry_in"] = carry_in
    body = json.dumps(said, indent=1, ensure_ascii=False).removesuffix("\n}").encode()
    path.write_bytes(body + b',\n "sha256": "' + sha256(body).hexdigest().encode() + b'"\n}\n')
    return sha256(json.dumps(said["carry"], separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def test_a_run_that_turns_up_later_is_sealed_into_hours_already_sealed(root):
    """
    A manifest that does not list every input means unsealed.
    """
    recorded(root, HOUR + 10 * S, HOUR + 100 * S, streams=(SOL,))
    seal(root)
    recorded(root, HOUR + 200 * S, HOUR + 300 * S, nonce="bbbbbb", streams=(SOL,))

    assert [s.hour for s in seal(root)] == [HOUR]
    assert len(rows(root, "books")) == 89 + 99


# ---- frames without a place


def test_frames_without_a_place_are_kept_raw_and_counted(root):
    """
    Unrequested, unknown, undecodable at first sight, undecodable in full: each in its kind, with the count in quality.
    """
    run = Run(root, HOUR + 10 * S)
    run.connect(HOUR + 10 * S)
    strange = {
        "unrequested": [book("ETH-PERP", 2, HOUR, n) for n in range(3)],
        "unknown": [b'{"channel":"liquidations","data":"{}"}'] * 2,
        "undecodable": [b"\xff\xfe", b"[1]", frame("orderbook_perp_0_grouped_1", {"bids": "none"})],
    }
    at = HOUR + 20 * S
    for payloads in strange.values():
        for payload in payloads:
            at += S
            run.frame(at, payload)
    run.close(at + S)

    seal(root)

    kept = rows(root, "undecodable")
    assert {kind: kept.filter(kind=kind)["payload"].to_list() for kind in strange} == strange
    assert kept["recv_ts"].is_sorted()
    counted = rows(root, "quality").filter(pl.col("kind").is_in(["unrequested", "undecodable"]))
    assert dict(counted.group_by("kind").agg(pl.col("missing").sum()).iter_rows()) == {
        "unrequested": 3,
        "undecodable": 3,
    }
    assert "schema_drift" in kinds(root)
    assert rows(root, "books").is_empty()


def test_what_is_kept_raw_is_bounded_and_the_rest_counted(root, monkeypatch):
    """
    A hostile venue must not fill the disk twice.
    """
    monkeypatch.setattr(partitions, "UNDECODABLE_ROWS", 10)
    run = Run(root, HOUR + 10 * S)
    run.connect(HOUR + 10 * S)
    for n in range(50):
        run.frame(HOUR + 20 * S + n, b"nonsense")
    run.close(HOUR + 30 * S)

    seal(root)
    first = rows(root, "undecodable")
    monkeypatch.setattr(partitions, "UNDECODABLE_BYTES", 3 * len(b"nonsense") + 1)
    seal(root, hour=HOUR)

    assert first["recv_ts"].dt.epoch("ns").to_list() == [HOUR + 20 * S + n for n in range(10)]
    assert len(rows(root, "undecodable")) == 3
    assert rows(root, "quality").filter(kind="undecodable")["missing"].sum() == 50


# ---- names


def test_a_market_called_like_a_path_stays_inside_the_root(root):
    """
    Names come from the configuration and from the venue; neither may choose where a file goes.
    """
    evil = Stream("perp", "../../etc", "orderbook", 1)
    run = Run(root, HOUR + 10 * S, streams=(evil,))
    run.frame(HOUR + 20 * S, book("../../etc", 900, HOUR, 1))
    run.close(HOUR + 30 * S)
    outside = sorted(path for path in root.parent.rglob("*") if root not in path.parents)

    seal(root)

    assert sorted(path for path in root.parent.rglob("*") if root not in path.parents) == outside
    (path,) = (root / "lake" / "books").iterdir()
    assert path.name == "market=%2E%2E%2F%2E%2E%2Fetc"
    assert rows(root, "books")["symbol"].to_list() == ["../../etc"]


def test_a_market_nobody_names_is_called_by_its_index(root):
    """
    A trade has an index only; the list does not know this one, and no book told its name.
    """
    run = Run(root, HOUR + 10 * S, streams=(Stream("perp", "NEW-PERP", "trades"),))
    run.frame(HOUR + 20 * S, trade(959, HOUR, 1))
    run.close(HOUR + 30 * S)

    seal(root)

    trades = rows(root, "trades")
    assert trades["symbol"].to_list() == ["perp-959"]
    assert (root / "lake" / "trades" / "market=perp-959").is_dir()


def test_trades_before_the_first_book_go_to_the_market_it_names(root):
    """
    Of two markets the list does not have, neither gets the other's trades, in the lake or in coverage.
    """
    channels = (("orderbook", 1), ("trades", None))
    streams = tuple(Stream("perp", name, c, g) for name in ("NEWA-PERP", "NEWB-PERP") for c, g in channels)
    run = Run(root, HOUR + 10 * S, streams=streams)
    for number in range(5):
        run.frame(HOUR + (20 + number) * S, trade(901, HOUR, number + 1))
    run.frame(HOUR + 30 * S, book("NEWA-PERP", 900, HOUR, 1))
    run.frame(HOUR + 31 * S, book("NEWB-PERP", 901, HOUR, 1))
    run.frame(HOUR + 32 * S, trade(901, HOUR, 6))
    run.close(HOUR + 40 * S)

    seal(root)

    trades = rows(root, "trades")
    assert trades["symbol"].to_list() == ["NEWB-PERP"] * 6
    assert trades["fill_record_id"].to_list() == [1, 2, 3, 4, 5, 6]
    counted = rows(root, "coverage").filter(pl.col("channel") == "trades")
    assert dict(zip(counted["symbol"], counted["rows"], strict=True)) == {"NEWA-PERP": 0, "NEWB-PERP": 6}


def test_the_name_in_a_book_outranks_the_list_and_the_conflict_is_an_event(root):
    """
    Index 3 is another market on another network.
    """
    run = Run(root, HOUR + 10 * S, streams=(Stream("perp", "HYPE-PERP", "orderbook", 1),))
    run.frame(HOUR + 20 * S, book("HYPE-PERP", 3, HOUR, 1))
    run.close(HOUR + 30 * S)

    seal(root)

    assert rows(root, "books")["symbol"].to_list() == ["HYPE-PERP"]
    assert kinds(root)["identity_conflict"] == 1


def test_the_sizes_of_an_unknown_token_have_no_exponent(root):
    """
    Null is not nine: the trades are stored at nine, and flagged.
    """
    run = Run(root, HOUR + 10 * S, streams=(Stream("spot", "NEW", "trades"),))
    run.frame(HOUR + 20 * S, trade(950, HOUR, 1, market_type="spot"))
    run.close(HOUR + 30 * S)

    seal(root)

    row = rows(root, "trades").row(0, named=True)
    assert (row["symbol"], row["size_exponent"], row["base_amount"]) == ("spot-950", None, 250_000_000)
    assert row["flags"] & Flag.ASSUMED_SCALE.value


# ---- what others read


@pytest.fixture
def every_table(root) -> Path:
    """
    A root in which every table has rows, over two hours.
    """
    streams = (
        *STREAMS,
        Stream("perp", "SOL-PERP", "orderbook", 100),
        Stream("perp", "SOL-PERP", "orderbook_indicative", 1),
        Stream("perp", "SOL-PERP", "priorityfees"),
    )
    run = Run(root, HOUR + 3500 * S, streams=streams)
    run.connect(HOUR + 3500 * S)
    for hour in (HOUR + 3550 * S, NEXT + 50 * S):
        run.hear(hour - 40 * S, hour)
        fees = {"min": 0, "low": 1.5, "medium": 2, "high": 3, "veryHigh": 4, "unsafeMax": 5}
        run.frame(hour, book("SOL-PERP", 0, hour, 1, channel="orderbook_perp_0"))
        run.frame(hour, book("SOL-PERP", 0, hour, 1, channel="orderbook_perp_0_grouped_100"))
        run.frame(hour, book("SOL-PERP", 0, hour, 1, channel="orderbook_perp_0_grouped_1_indicative", newMember=1))
        run.frame(hour, frame("priorityFees_perp_0", fees))
        run.frame(hour, b"nonsense")
        run.fact(hour, Telemetry(1, 1, 0.1, 1, 0.1, 0.1, 1, 1, 0.1, 0.1, 0.1, 1, 1, 0, [0], [None]))
    run.close(NEXT + 100 * S)
    seal(root)
    return root


def test_every_file_is_read_by_polars_and_by_both_pyarrow_readers(every_table):
    """
    By file, by glob, by folder with partition keys: no reader may refuse the columns or the path.
    """
    tables = sorted(path.name for path in (every_table / "lake").iterdir())
    assert set(tables) == set(TABLES) | {"books_ungrouped", "books_grouped_100", "books_indicative"}
    for name in tables:
        folder = every_table / "lake" / name
        files = sorted(folder.rglob("*.parquet"))
        total = sum(len(pl.read_parquet(file, hive_partitioning=False)) for file in files)
        names = [column.name for column in table(name).columns]
        for file in files:
            assert pq.ParquetFile(file).schema_arrow.equals(table(name).schema), f"{file} lacks columns"
            assert pl.read_parquet(file, hive_partitioning=False).columns == names
            assert pq.read_table(file).num_rows == pl.read_parquet(file).height
        keys = {"market", "date", "hour"} if table(name).by_market else {"date", "hour"}
        for frame_ in (
            pl.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True),
            pl.scan_parquet(folder, hive_partitioning=True).collect(),
        ):
            assert len(frame_) == total
            assert set(frame_.columns) == {*names, *keys}
        assert pq.read_table(folder).num_rows == total
        assert ds.dataset(folder, partitioning="hive").to_table().num_rows == total


def test_a_file_says_what_it_is(every_table):
    """
    Alone, out of its folder, it tells venue, network, market, exponents, format and version.
    """
    path = next((every_table / "lake" / "books" / "market=SOL-PERP").rglob("*.parquet"))
    says = {
        key.decode().removeprefix("recorder."): value.decode()
        for key, value in pq.ParquetFile(path).schema_arrow.metadata.items()
        if key.startswith(b"recorder.")
    }

    assert says.pop("version")
    assert says == {
        "format": str(FORMAT_VERSION),
        "table": "books",
        "hour": "2025-03-01T10",
        "venue": "test",
        "network": "mainnet-beta",
        "symbol": "SOL-PERP",
        "market_type": "perp",
        "market_index": "0",
        "price_exponent": "6",
        "size_exponent": "9",
    }


def test_rows_come_in_the_order_of_receipt(every_table):
    """
    In every file, by (recv_ts, run, seq).
    """
    for path in (every_table / "lake").rglob("*.parquet"):
        if path.stem in {"quality", "coverage", "connections"}:
            continue
        read = pl.read_parquet(path)
        assert read.equals(read.sort("recv_ts", "run", "seq")), path


def test_a_journal_whose_time_steps_back_does_not_mix_up_markets(root):
    """
    It never does in a run of ours; were it to, no frame may get into the file of another market.
    """
    run = Run(root, HOUR + 3500 * S)
    run.hear(HOUR + 3501 * S, NEXT + 100 * S)
    run.hear(HOUR + 3510 * S, HOUR + 3520 * S)
    run.hear(NEXT + 100 * S, NEXT + 120 * S)
    run.close(NEXT + 120 * S)

    seal(root)

    for symbol, index in (("SOL-PERP", 0), ("BTC-PERP", 1)):
        books = rows(root, "books").filter(symbol=symbol)
        assert set(books["market_index"]) == {index}
        assert len(books) >= 89


def test_a_configured_market_that_never_spoke_has_a_row(root):
    """
    With zero rows, and what it should have brought unverifiable, never complete.
    """
    recorded(root, HOUR + 10 * S, HOUR + 100 * S, streams=(SOL, SOL_TRADES, Stream("perp", "APT-PERP", "orderbook", 1)))

    seal(root)

    row = rows(root, "coverage").filter(symbol="APT-PERP").row(0, named=True)
    assert (row["rows"], row["first_recv_ts"], row["cadence_ms"], row["market_index"]) == (0, None, None, 3)
    assert row["complete_s"] == 0
    assert "silent" in set(rows(root, "quality").filter(symbol="APT-PERP")["kind"])
