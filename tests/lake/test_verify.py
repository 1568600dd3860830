"""
Verify: damage to any file is found and named, and nothing else is.
"""

import random
import shutil

import msgspec
import pytest

from lake_cases import HOUR, NEXT, Run, S, make_root, recorded, tree
from recorder.analysis import Lake
from recorder.errors import RootBusy, RootError
from recorder.journal.reader import segments
from recorder.lake import manifest as manifests
from recorder.lake import sealing
from recorder.lake import verify as verify_module
from recorder.lake.layout import manifest_path
from recorder.lake.repair import repair
from recorder.lake.root import seal_lock
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import HOUR_NS, Overflowed
from recorder.status.presence import announce


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """
    A root of two sealed hours.
    """
    root = make_root(tmp_path_factory.mktemp("verify") / "root")
    recorded(root, NEXT - 70 * S, NEXT + 40 * S)
    seal(root)
    return root


@pytest.fixture
def root(sealed, tmp_path):
    """
    A copy to break.
    """
    return shutil.copytree(sealed, tmp_path / "root")


def problems(root):
    """
    Path and problem of each.
    """
    return {problem.path: problem.problem for problem in verify(root).problems}


def test_an_undamaged_root_has_no_problems_and_is_not_changed(root):
    """
    All of it was read: rows, entries and bytes are counted.
    """
    before = tree(root, ".")
    steps = []

    report = verify(root, progress=lambda *step: steps.append(step))

    assert (report.problems, report.notes) == ([], [])
    files = [file for hour in (HOUR, NEXT) for file in manifests.read(root, hour).files]
    assert (report.hours, report.incomplete_hours, report.files) == (2, 0, len(files))
    assert report.rows == sum(file.rows for file in files)
    assert report.entries == sum(manifests.read(root, hour).entries for hour in (HOUR, NEXT))
    assert ("lake", len(files), len(files)) in steps
    assert tree(root, ".") == before


def test_a_flipped_bit_in_any_file_is_found_and_named(root):
    """
    Any bit of journal, lake, manifest: what is not found by reading is found by digest. The seed is in the message.
    """
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    files = [path for folder in ("journal", "lake", "manifest") for path in (root / folder).rglob("*")]
    files = [path for path in files if path.is_file() and path.suffix in {".zst", ".parquet", ".json"}]
    assert {path.suffix for path in files} == {".zst", ".parquet", ".json"}
    for path in files:
        data = path.read_bytes()
        for _ in range(2):
            damaged = bytearray(data)
            offset = chance.randrange(len(data))
            damaged[offset] ^= 1 << chance.randrange(8)
            path.write_bytes(bytes(damaged))
            relative = path.relative_to(root).as_posix()
            assert relative in problems(root), f"byte {offset} of {relative}, seed {seed}"
        path.write_bytes(data)
    assert problems(root) == {}


def test_missing_and_shortened_files_are_named(root):
    """
    Each by its own path.
    """
    files = [file.path for file in manifests.read(root, HOUR).files]
    (root / files[0]).unlink()
    (root / files[1]).write_bytes(b"")

    found = problems(root)

    assert found[files[0]] == "is missing"
    assert "SHA-256" in found[files[1]]
    assert len(found) == 2


def test_files_in_no_manifest_are_named_and_left_overs_only_noted(root):
    """
    A foreign file would be read by a glob; a temporary one means nothing.
    """
    folder = root / "lake" / "books"
    (folder / "extra.parquet").write_bytes(b"x")
    (folder / ".books.parquet.tmp").write_bytes(b"x")

    report = verify(root)

    assert [(p.path, p.problem) for p in report.problems] == [("lake/books/extra.parquet", "is in no manifest")]
    assert report.notes == ["lake/books/.books.parquet.tmp: left by a seal that was killed; means nothing"]


def test_a_withdrawn_manifest_leaves_files_that_are_named(root):
    """
    A seal was killed between withdrawing and publishing: the next one mends it.
    """
    manifests.withdraw(root, HOUR)

    found = problems(root)
    assert found.pop("manifest/2025-03-01T10.json") == "is missing: the hour is over, and was not sealed"
    assert set(found.values()) == {"is in no manifest"}
    seal(root)
    assert problems(root) == {}


def test_a_manifest_under_another_name_is_named(root):
    """
    It would publish an hour's files as another's.
    """
    (root / "manifest" / "2025-03-01T10.json").rename(root / "manifest" / "2025-03-01T09.json")

    assert problems(root)["manifest/2025-03-01T09.json"] == "says it is of 2025-03-01T10"


def test_a_root_bound_to_another_venue_than_its_hours_is_named(root):
    """
    A flipped bit in root.json, or a manifest from elsewhere.
    """
    (root / "root.json").write_text('{"format":1,"venue":"tesu","network":"mainnet-beta"}')

    assert "is of test on mainnet-beta, the root of tesu" in problems(root)["manifest/2025-03-01T10.json"]


def test_missing_journal_entries_are_named_unless_we_dropped_them_by_name(tmp_path):
    """
    An overflow is on record; a hole in the numbers is not.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, HOUR)
    run.journal._next_seq += 5
    run.fact(HOUR + S, Overflowed(5, 500, 2, 6, HOUR, HOUR))
    run.journal._next_seq += 3
    run.frame(HOUR + 2 * S, b"{}")
    run.close(HOUR + 3 * S)
    seal(root)

    (problem,) = verify(root).problems

    assert problem.problem == "3 entries before number 11 are missing"


def test_a_segment_that_changed_after_its_hour_was_sealed_is_named(root):
    """
    Even if every entry in it can be read.
    """
    first, second = sorted((root / "journal").rglob("*.zst"))[:2]
    first.write_bytes(second.read_bytes())

    of_first = [p.problem for p in verify(root).problems if p.path == first.relative_to(root).as_posix()]
    assert "is not what its hour was sealed from" in of_first


def test_a_run_whose_beginning_was_damaged_after_its_hour_was_sealed_was_sealed_from_its_beginning(tmp_path):
    """
    What is missing before its first entry is in the sealed files; damaged before the seal, it is in none.
    """
    for sealed_first in (True, False):
        root = make_root(tmp_path / f"sealed {sealed_first}")
        recorded(root, HOUR + 10 * S, HOUR + 200 * S)
        first = journal(root)[0]
        if sealed_first:
            seal(root)
        first.write_bytes(b"\xff" * 40 + first.read_bytes()[40:])
        if not sealed_first:
            seal(root)

        found = [p.problem for p in verify(root).problems if p.path == first.relative_to(root).as_posix()]

        assert any(words.startswith("damaged in the zstd frame at byte 0") for words in found)
        assert ("is not what its hour was sealed from" in found) == sealed_first
        assert any("was not sealed" in words for words in found) != sealed_first


def test_what_is_no_root_or_in_use_is_a_clear_error(root, tmp_path):
    """
    Nothing is read then.
    """
    with pytest.raises(RootError, match="is not a folder"):
        verify(tmp_path / "nothing")
    lock = seal_lock(root)
    try:
        with pytest.raises(RootBusy):
            verify(root)
    finally:
        lock.release()


def test_a_run_that_says_which_process_it_is_has_no_problem(root):
    """
    A recorder writes that into its own lock; anything else there, or anything in another lock, is no doing of ours.
    """
    run = next(path for path in (root / "journal").iterdir() if path.is_dir()).name
    (root / "journal" / run / "lock").touch()
    announce(root, run)
    assert verify(root).problems == []

    for name in (f"journal/{run}/lock", "manifest/seal.lock"):
        lock = root / name
        before = lock.read_bytes() if lock.exists() else b""
        lock.write_bytes(b"what?" if run in name else b'{"pid":1}')
        assert [(problem.path, problem.hint) for problem in verify(root).problems] == [(name, "empty it")]
        lock.write_bytes(before)


# ---- what should be there


def journal(root):
    """
    The segments, in order.
    """
    return sorted((root / "journal").rglob("*.zst"))


def test_a_lake_that_is_gone_is_named_while_its_journal_is_there(root):
    """
    Whole, or an hour in the middle of it; the hint is a command that mends it.
    """
    for folder in ("lake", "manifest"):
        shutil.rmtree(root / folder)
        (root / folder).mkdir()

    found = verify(root).problems

    assert [p.path for p in found] == ["manifest/2025-03-01T10.json", "manifest/2025-03-01T11.json"]
    assert {p.problem for p in found} == {"is missing: the hour is over, and was not sealed"}
    assert {p.hint for p in found} == {f"run `drift-recorder seal {root}`"}
    seal(root)
    assert problems(root) == {}


def test_an_hour_that_is_just_over_is_no_problem_yet(tmp_path, monkeypatch):
    """
    The recorder seals it some minutes later.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR + 10 * S, HOUR + 60 * S)

    monkeypatch.setattr(verify_module, "wall_ns", lambda: NEXT + 600 * S)
    assert problems(root) == {}
    monkeypatch.setattr(verify_module, "wall_ns", lambda: NEXT + 1200 * S)
    assert list(problems(root)) == ["manifest/2025-03-01T10.json"]


def test_hints_are_commands_for_the_very_root(root):
    """
    One that has to be completed by hand is not tried; and what it says is what mends it, be it one file or several.
    """
    file = manifests.read(root, NEXT).files[0]
    (root / file.path).unlink()
    manifest = root / manifest_path(HOUR)
    manifest.write_bytes(manifest.read_bytes()[:-7])

    hints = {problem.path: problem.hint for problem in verify(root).problems}

    run = f"run `drift-recorder verify --repair {root}`"
    assert hints[file.path] == f"{run}: it is made again while its journal is kept"
    of_manifest = hints[manifest_path(HOUR).as_posix()]
    assert of_manifest == f"{run}: it is set aside, and made again from the journal or from its files"
    assert all(done.well for done in repair(root))
    assert problems(root) == {}


def test_an_hour_made_from_another_carry_than_there_is_is_named(root):
    """
    Its hour before was made again, and it was not.
    """
    manifest = manifests.read(root, NEXT)
    manifests.publish(root, NEXT, msgspec.structs.replace(manifest, carry_in="0" * 64))

    assert problems(root) == {"manifest/2025-03-01T11.json": "does not begin with what the hour before it ended with"}


def test_an_hour_of_which_nothing_is_left_is_named_by_the_one_after_it(tmp_path):
    """
    Rows, manifest and journal gone: else it would look as if nobody had recorded then.
    """
    root = make_root(tmp_path / "root")
    recorded(root, NEXT - 10 * S, NEXT + HOUR_NS + 10 * S, streams=())
    seal(root)
    for segment in segments(root / "journal"):
        if segment.start < NEXT + HOUR_NS:
            segment.path.unlink()
    assert problems(root) == {}
    manifest = manifests.read(root, NEXT)

    (root / "manifest" / "2025-03-01T11.json").unlink()
    for file in manifest.files:
        (root / file.path).unlink()

    assert problems(root) == {
        "manifest/2025-03-01T11.json": "is missing: 2025-03-01T12 was made from what 2025-03-01T11 came to"
    }


def test_journal_that_is_gone_before_it_was_sealed_is_named(tmp_path):
    """
    The first segment, the last, or the content of one: nothing else would tell.
    """
    whole = make_root(tmp_path / "whole")
    recorded(whole, NEXT - 100 * S, NEXT + 100 * S)
    cases = {
        "first": (0, "begins with number"),
        "last": (-1, "ends before its run does"),
        "emptied": (1, "is empty"),
    }
    for case, (at, problem) in cases.items():
        root = shutil.copytree(whole, tmp_path / case)
        path = journal(root)[at]
        if case == "emptied":
            path.write_bytes(b"")
        else:
            path.unlink()

        found = [p.problem for p in verify(root).problems if p.path.startswith("journal/")]

        assert any(words.startswith(problem) for words in found), case
    assert not [p for p in verify(whole).problems if p.path.startswith("journal/")]


def test_journal_of_an_hour_so_far_that_is_gone_is_named(tmp_path, monkeypatch):
    """
    The hour is not sealed: the segment was the only copy of what is still to be judged.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR + 10 * S, HOUR + 200 * S)
    for module in (sealing, verify_module):
        monkeypatch.setattr(module, "wall_ns", lambda: HOUR + 300 * S)
    seal(root, open_hour=True)
    gone = journal(root)[1]
    gone.unlink()

    found = [p for p in verify(root).problems if p.path == gone.relative_to(root).as_posix()]

    assert [p.problem for p in found] == ["is missing; 2025-03-01T10 is not sealed yet"]
    assert f"`drift-recorder seal {root} --hour 2025-03-01T10 --open`" in found[0].hint


def test_journal_that_can_never_be_sealed_is_named_by_verify_and_by_seal(root):
    """
    A run turned up after part of its hour's journal had expired.
    """
    journal(root)[0].unlink()
    late = recorded(root, NEXT - 60 * S, NEXT - 50 * S, nonce="bbbbbb")
    notes = []

    found = problems(root)
    seal(root, on_note=notes.append)

    (path,) = [path.relative_to(root).as_posix() for path in late.folder.glob("*.zst")]
    assert found[path].startswith("was never sealed")
    assert [note.partition(" ")[0] for note in notes] == [path]


def test_a_run_copied_under_another_name_is_named_and_brings_no_row_twice(root):
    """
    Its entries say whose they are.
    """
    folder = journal(root)[0].parent
    shutil.copytree(folder, folder.with_name(folder.name[:-6] + "ffffff"))

    seal(root)
    found = {p.path: p.problem for p in verify(root).problems}

    copies = sorted((root / "journal").glob("*ffffff/*.zst"))
    assert copies
    assert set(found) == {copy.relative_to(root).as_posix() for copy in copies}
    assert set(found.values()) == {f"is of run {folder.name}, in the folder of another"}
    trades = Lake(root).trades(units="raw").collect()
    assert not trades.select("run", "seq").is_duplicated().any()
    assert (root / "quarantine" / copies[0].relative_to(root)).exists()


def test_a_segment_of_another_venue_is_not_published_and_is_named(root):
    """
    Its frames under this root's label would be false.
    """
    before = len(Lake(root).books(units="raw").collect())
    foreign = make_root(root.parent / "foreign")
    run = recorded(foreign, NEXT - 60 * S, NEXT - 50 * S, nonce="bbbbbb", network="devnet")
    shutil.copytree(run.folder, root / "journal" / run.name)

    seal(root)

    assert len(Lake(root).books(units="raw").collect()) == before
    (path,) = [path.relative_to(root) for path in (root / "journal" / run.name).glob("*.zst")]
    assert problems(root) == {path.as_posix(): "is of test on devnet, the root of test on mainnet-beta"}
    assert (root / "quarantine" / path).exists()
    events = Lake(root).quality().filter(kind="journal_damaged").collect()
    assert [(e["run"], "is of test on devnet" in e["evidence"]) for e in events.to_dicts()] == [(run.name, True)]
    # From its first entry to its last.
    bounds = [events[name].to_physical().to_list() for name in ("start", "end")]
    assert bounds == [[NEXT - 60 * S], [NEXT - 50 * S]]
