"""
Sealing when something fails: a kill at every step, a market that cannot be written, a journal that is damaged or gone.
"""

import gc
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from lake_cases import HOUR, NEXT, SOL, Run, S, book, frame, make_root, recorded, trade, tree
from recorder import durable
from recorder.analysis import Lake
from recorder.errors import ForeignFile, RootError
from recorder.lake import manifest as manifests
from recorder.lake import partitions, publishing, sealing
from recorder.lake.parquet import Draft
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import HOUR_NS, Stream


class Killed(BaseException):
    """
    Stands for SIGKILL: nothing may catch it.
    """


@pytest.fixture
def root(tmp_path) -> Path:
    """
    A root with an hour of three minutes and the beginning of the next.
    """
    root = make_root(tmp_path / "root")
    recorded(root, NEXT - 100 * S, NEXT + 80 * S)
    return root


def books(root: Path) -> pl.DataFrame:
    """
    All books that Lake shows.
    """
    return Lake(root).books(units="raw").collect()


def only_journal(source: Path, target: Path) -> Path:
    """
    A copy of a root as it was before any seal.
    """
    shutil.copytree(source, target)
    for folder in ("lake", "manifest", "quarantine"):
        shutil.rmtree(target / folder, ignore_errors=True)
    for folder in ("lake", "manifest"):
        (target / folder).mkdir()
    return target


# ---- kills


class Fuse:
    """
    Raises at the n-th step that changes what is on disk under its final name.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for name in ("rename", "remove", "publish_bytes", "make_directories", "sync_file"):
            monkeypatch.setattr(durable, name, self._fused(getattr(durable, name)))

    def _fused(self, step):
        def run(*args, **options):
            if self.left is not None:
                if self.left == 0:
                    raise Killed
                self.left -= 1
            return step(*args, **options)

        return run


@pytest.mark.timeout(400)
@pytest.mark.parametrize("open_first", [False, True])
def test_killed_at_any_step_and_run_again_gives_the_undisturbed_tree(root, tmp_path, monkeypatch, open_first):
    """
    Also when an hour so far is replaced. And at no step is a half-published hour to be read: an hour's books are all
    there or not at all, and its manifest is withdrawn before the first of its files is replaced.
    """
    now = [NEXT + 10 * S if open_first else NEXT + 2 * HOUR_NS]
    monkeypatch.setattr(sealing, "wall_ns", lambda: now[0])
    if open_first:
        late = root / "late"
        for path in (root / "journal").glob("*/*.zst"):
            if path.name >= "20250301T105930":
                late.mkdir(exist_ok=True)
                path.rename(late / path.name)
    fuse = Fuse(monkeypatch)
    undisturbed = only_journal(root, tmp_path / "undisturbed")
    prepare(undisturbed, now, open_first=open_first)
    before = len(books(undisturbed))
    seal(undisturbed)
    expected, whole = tree(undisturbed), len(books(undisturbed))
    step = 0
    while True:
        now[0] = NEXT + 10 * S if open_first else NEXT + 2 * HOUR_NS
        victim = only_journal(root, tmp_path / f"victim-{step}")
        prepare(victim, now, open_first=open_first)
        fuse.left = step
        try:
            seal(victim)
        except Killed:
            fuse.left = None
        else:
            fuse.left = None
            break
        seen = len(books(victim))
        assert seen in {0, before} or seen in sums(undisturbed), f"half an hour was to be read after step {step}"
        for hour in manifests.hours(victim):
            manifest = manifests.read(victim, hour)
            for file in manifest.files:
                assert (victim / file.path).stat().st_size == file.bytes, f"{file.path} is not the manifest's: {step}"
        seal(victim)
        assert tree(victim) == expected, f"after a kill at step {step}"
        shutil.rmtree(victim)
        step += 1

    assert whole > before
    assert step > 40, "no step was tried"


def prepare(root: Path, now: list[int], *, open_first: bool) -> None:
    """
    Publish the hour so far, without its end; then the end comes.
    """
    if not open_first:
        return
    seal(root, open_hour=True)
    (run,) = (root / "journal").glob("2025*")
    for path in sorted((root / "late").glob("*.zst")):
        path.rename(run / path.name)
    (root / "late").rmdir()
    now[0] = NEXT + 2 * HOUR_NS


def sums(root: Path) -> set[int]:
    """
    Rows of books of the first hours, of all that are published.
    """
    counts = [
        sum(file.rows for file in manifests.read(root, hour).files if file.table == "books")
        for hour in manifests.hours(root)
    ]
    return {sum(counts[:n]) for n in range(len(counts) + 1)}


def test_left_overs_of_a_killed_seal_are_removed_by_the_next(root):
    """
    Even those of partitions that it does not make.
    """
    seal(root)
    folder = next((root / "lake" / "books").rglob("hour=10"))
    (folder / ".books.parquet.tmp").write_bytes(b"half")

    seal(root, hour=HOUR)

    assert not list((root / "lake").rglob("*.tmp"))
    assert verify(root).problems == []


# ---- a partition that cannot be written


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> None:
    """
    Books of SOL-PERP cannot be written this many times.
    """
    left = [times]
    write = Draft.write

    def fails(self, rows):
        if "market=SOL-PERP" in str(self.path) and self.path.stem == "books" and left[0]:
            left[0] -= 1
            raise error
        write(self, rows)

    monkeypatch.setattr(Draft, "write", fails)


ERRORS = [OSError(5, "Input/output error"), pa.ArrowInvalid("no"), ValueError("not nullable"), OverflowError("too big")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_partition_that_fails_does_not_stop_the_others_and_is_mended_by_the_next_seal(root, monkeypatch, error):
    """
    The manifest is incomplete and says why, an event names the market, and nothing of it is lost.
    """
    failing(monkeypatch, error, 2)

    (first, _) = seal(root)

    assert not first.manifest.complete
    assert first.manifest.problems == [f"books of SOL-PERP: {error}"]
    assert set(books(root).filter(pl.col("recv_ts").dt.epoch("ns") < NEXT)["symbol"]) == {"BTC-PERP"}
    event = Lake(root).quality().filter(kind="seal_failed").collect().row(0, named=True)
    assert (event["symbol"], event["cause"]) == ("SOL-PERP", "recorder")
    assert any("books of SOL-PERP" in problem.problem for problem in verify(root).problems)
    assert not list((root / "lake").rglob("*.tmp"))

    (again,) = seal(root)

    assert again.manifest.complete
    assert Lake(root).quality().filter(kind="seal_failed").collect().is_empty()
    clean = only_journal(root, root.parent / "clean")
    seal(clean)
    assert tree(root) == tree(clean)


def test_a_partition_that_fails_once_is_written_in_the_same_seal(root, tmp_path, monkeypatch):
    """
    With the same bytes, and the same counts in coverage, as if nothing had been.
    """
    clean = only_journal(root, tmp_path / "clean")
    seal(clean)
    failing(monkeypatch, OSError(5, "Input/output error"), 1)

    seal(root)

    assert tree(root) == tree(clean)


def test_a_partition_that_fails_keeps_its_published_file(root, monkeypatch):
    """
    An hour that is made again must not get worse because a disk is full for a while.
    """
    seal(root)
    published = len(books(root))
    recorded(root, NEXT - 99 * S, NEXT - 90 * S, nonce="bbbbbb", streams=(SOL,))
    failing(monkeypatch, OSError(28, "No space left on device"), 2)

    seal(root)

    assert len(books(root)) == published
    assert not manifests.read(root, HOUR).complete
    assert not (root / "quarantine").exists()


def test_a_disk_that_takes_nothing_leaves_what_is_published(root, monkeypatch):
    """
    Even the hour's own tables cannot be written: the seal ends, and nothing has changed.
    """
    seal(root)
    before = tree(root)

    def full(self, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Draft, "write", full)
    with pytest.raises(OSError, match="No space left"):
        seal(root, hour=HOUR)

    assert tree(root) == before


# ---- a journal that is damaged or gone


def segment(root: Path, number: int = 0) -> Path:
    """
    One of the segments.
    """
    return sorted((root / "journal").rglob("*.zst"))[number]


def flip(path: Path, offset: int) -> None:
    """
    Turn one bit over.
    """
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(bytes(data))


def test_a_damaged_segment_is_copied_to_quarantine_and_its_loss_is_an_event(root):
    """
    The rest of it is read, the segment stays where it is.
    """
    path = segment(root)
    flip(path, path.stat().st_size // 2)
    damaged = path.read_bytes()

    (first, _) = seal(root)

    copy = root / "quarantine" / path.relative_to(root)
    assert copy.read_bytes() == damaged
    assert path.read_bytes() == damaged
    assert first.manifest.complete
    events = Lake(root).quality().filter(kind="journal_damaged").collect()
    lost = events["missing"].sum()
    assert lost > 0
    manifest_entries = sum(s.manifest.entries for s in (first,))
    undamaged = make_root(root.parent / "undamaged")
    recorded(undamaged, NEXT - 100 * S, NEXT + 80 * S)
    assert manifest_entries + lost == seal(undamaged)[0].manifest.entries


def test_a_segment_of_noise_does_not_stop_the_seal(root):
    """
    It is set aside in copy; the hours are sealed from the others.
    """
    path = segment(root, 1)
    path.write_bytes(b"\x00" * 1000)

    seal(root)

    assert (root / "quarantine" / path.relative_to(root)).exists()
    assert "journal_damaged" in set(Lake(root).quality().collect()["kind"])


def test_a_damaged_journal_never_replaces_what_was_made_when_it_was_whole(root):
    """
    The published file has more rows than the journal can give: it stays, also when the hour is made again and again.
    """
    seal(root)
    published = {path: digest for path, digest in tree(root, "lake").items() if "market=" in path}
    path = segment(root)
    flip(path, path.stat().st_size // 2)

    for _ in range(3):
        seal(root, hour=HOUR)
        assert {path: digest for path, digest in tree(root, "lake").items() if "market=" in path} == published

    assert manifests.read(root, HOUR).complete
    words = Lake(root).quality().filter(pl.col("evidence").str.contains("that one stays")).collect()
    assert len(words) == 3, "books of two markets, trades of one"
    assert verify_but_journal(root) == ["manifest/2025-03-01T11.json"], "it was made from what this hour ended with"
    seal(root)
    assert verify_but_journal(root) == []


def test_rows_that_only_the_published_file_has_are_set_aside_where_a_damaged_journal_has_more_of_others(root):
    """
    A run turned up whose rows outnumber what was lost since: they are published, and nothing is deleted or unsaid.
    """
    seal(root)
    published = next((root / "lake/books/market=SOL-PERP").rglob("hour=10/books.parquet"))
    were, whole = published.read_bytes(), set(books(root).filter(symbol="SOL-PERP").select("run", "seq").rows())
    path = segment(root)
    flip(path, path.stat().st_size // 2)
    recorded(root, NEXT - 600 * S, NEXT - 300 * S, nonce="bbbbbb", streams=(SOL,))

    seal(root)

    lost = whole - set(books(root).select("run", "seq").rows())
    assert lost
    assert (root / "quarantine" / published.relative_to(root)).read_bytes() == were
    words = Lake(root).quality().filter(pl.col("evidence").str.contains("is in quarantine")).collect()
    assert words["evidence"].str.extract(r": (\d+) ").cast(int).to_list() == [len(lost)]


def test_what_an_hour_was_made_from_is_read_once_whatever_its_files(root, monkeypatch):
    """
    To see whether it is as it was: an hour has hundreds of files, and half a gigabyte of journal.
    """
    seal(root)
    asked, digest = [], publishing.digest

    def counted(segment, size=None):
        asked.append(segment)
        return digest(segment, size)

    monkeypatch.setattr(publishing, "digest", counted)

    seal(root, hour=HOUR)

    assert len(asked) == len(set(asked)) == len(manifests.read(root, HOUR).inputs)


def verify_but_journal(root: Path) -> list[str]:
    """
    What verify finds in lake and manifests.
    """
    return [problem.path for problem in verify(root).problems if not problem.path.startswith("journal/")]


def test_an_hour_whose_manifest_and_journal_are_gone_keeps_its_files(root):
    """
    A damaged manifest makes the hour unsealed; made from what is left, it would be nearly empty.
    """
    seal(root)
    before = books(root)
    for path in sorted((root / "journal").rglob("20250301T105*.zst")):
        path.unlink()
    left = Run(root, NEXT - 5 * S, nonce="bbbbbb")
    left.frame(NEXT - 2 * S, book("SOL-PERP", 0, NEXT, 99))
    left.close()
    manifest = root / "manifest" / "2025-03-01T10.json"
    flip(manifest, 100)

    seal(root)

    assert (root / "quarantine" / "manifest" / manifest.name).exists()
    assert books(root).equals(before)


def test_fewer_rows_from_a_whole_journal_are_right_and_the_old_file_goes_to_quarantine(root):
    """
    The file was not made from this journal: somebody put it there.
    """
    seal(root)
    expected = tree(root)
    path = next((root / "lake/books/market=SOL-PERP").rglob("hour=10/books.parquet"))
    other = make_root(root.parent / "other")
    recorded(other, NEXT - 200 * S, NEXT + 80 * S)
    seal(other)
    foreign = (other / path.relative_to(root)).read_bytes()
    path.write_bytes(foreign)

    seal(root, hour=HOUR)

    assert tree(root) == expected
    assert (root / "quarantine" / path.relative_to(root)).read_bytes() == foreign


def test_files_of_the_hour_that_are_not_of_it_go_to_quarantine(root):
    """
    Whoever reads `**/*.parquet` must not see a row twice.
    """
    seal(root)
    expected = tree(root)
    path = next((root / "lake/books/market=SOL-PERP").rglob("hour=10/books.parquet"))
    copy = path.with_name("copy.parquet")
    copy.write_bytes(path.read_bytes())
    market = root / "lake/books/market=NO-PERP" / path.parent.relative_to(path.parents[2]) / path.name
    market.parent.mkdir(parents=True)
    market.write_bytes(path.read_bytes())
    kept = path.read_bytes()

    seal(root, hour=HOUR)
    copy.write_bytes(b"again")
    seal(root, hour=HOUR)

    assert tree(root) == expected
    assert (root / "quarantine" / market.relative_to(root)).read_bytes() == kept
    assert (root / "quarantine" / copy.relative_to(root)).read_bytes() == kept
    assert (root / "quarantine" / f"{copy.relative_to(root)}.1").read_bytes() == b"again"


def test_a_manifest_of_a_later_version_stops_the_seal(root):
    """
    To set it aside and make the hour again would be a downgrade behind the user's back.
    """
    seal(root)
    manifest = manifests.read(root, HOUR)
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    manifests.publish(root, HOUR, manifests.Manifest(**{**fields, "format": 2}))
    before = tree(root)

    with pytest.raises(ForeignFile, match="later version"):
        seal(root)

    assert tree(root) == before


def test_a_root_of_an_unknown_network_is_a_clear_error(root):
    """
    Not a traceback.
    """
    (root / "root.json").write_text('{"format":1,"venue":"test","network":"mars"}')

    with pytest.raises(RootError, match="unknown network"):
        seal(root)


def test_more_channels_than_can_be_told_apart_are_kept_raw(root, monkeypatch):
    """
    A venue that invents indices must not stop the hour.
    """
    monkeypatch.setattr("recorder.lake.survey.MAX_LANES", 6)
    run = Run(root, HOUR + 10 * S)
    for number in range(12):
        prefix = "dlob:" if number % 2 else ""
        run.frame(HOUR + (20 + number) * S, book("SOL-PERP", 0, HOUR, number, channel=f"{prefix}orderbook_perp_0"))
        channel = ("orderbook_perp_0_grouped_1", "dlob:orderbook_perp_0_grouped_1", "dlob-helius:orderbook_perp_0")
        run.frame(HOUR + (20 + number) * S, book("SOL-PERP", 0, HOUR, number, channel=channel[number % 3]))
    run.frame(HOUR + 40 * S, frame("dlob-helius:orderbook_perp_0_grouped_1", {"bids": [], "asks": []}))
    run.close()

    (first, *_) = seal(root)

    placed = sum(file.rows for file in first.manifest.files if file.symbol is not None)
    raw = sum(file.rows for file in first.manifest.files if file.table == "undecodable")
    assert raw > 0
    data = 25 + 2 * 99 + 33
    assert placed + raw == data
    assert partitions.UNPLACED == 1


def test_rows_that_move_to_another_market_are_never_published_twice(root, monkeypatch):
    """
    An earlier run that turns up tells an unlisted market's name, and the trades move. A seal killed half-way through
    that has left both files: the next one must know which is of now.
    """
    new = (Stream("perp", "NEW-PERP", "orderbook", 1), Stream("perp", "NEW-PERP", "trades"))
    shutil.rmtree(root / "journal")
    (root / "journal").mkdir()
    run = Run(root, HOUR + 10 * S, streams=new)
    run.connect(HOUR + 10 * S)
    for at in range(HOUR + 11 * S, HOUR + 60 * S, S):
        run.frame(at, trade(100, at, at // S))
    run.close(HOUR + 60 * S)
    seal(root)
    early = Run(root, HOUR - 600 * S, streams=new, nonce="bbbbbb")
    early.connect(HOUR - 600 * S)
    early.hear(HOUR - 599 * S, HOUR - 590 * S)
    early.frame(HOUR - 580 * S, book("NEW-PERP", 100, HOUR - 580 * S, 1))
    early.close(HOUR - 570 * S)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "quarantine", killed)
        with pytest.raises(Killed):
            seal(root)
    gc.collect()
    seal(root)

    trades = Lake(root).trades(units="raw").collect().filter(pl.col("recv_ts").dt.epoch("ns") >= HOUR)
    assert set(trades["symbol"]) == {"NEW-PERP"}
    assert len(trades) == 49
    assert manifests.read(root, HOUR).richer == []
    assert not list((root / "manifest").glob("*.withdrawn"))
