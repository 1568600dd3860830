"""
Verify: damage to any file is found and named, and nothing else is.
"""

import random
import shutil

import pytest

from lake_cases import HOUR, NEXT, Run, S, make_root, recorded, tree
from recorder.errors import RootBusy, RootError
from recorder.lake import manifest as manifests
from recorder.lake.root import seal_lock
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import Overflowed


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

    assert set(problems(root).values()) == {"is in no manifest"}
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
    run.close()

    (problem,) = verify(root).problems

    assert problem.problem == "3 entries before number 11 are missing"


def test_a_segment_that_changed_after_its_hour_was_sealed_is_named(root):
    """
    Even if every entry in it can be read.
    """
    first, second = sorted((root / "journal").rglob("*.zst"))[:2]
    first.write_bytes(second.read_bytes())

    assert problems(root)[first.relative_to(root).as_posix()] == "is not what its hour was sealed from"


def test_what_is_no_root_or_in_use_is_a_clear_error(root, tmp_path):
    """
    Nothing is read then.
    """
    with pytest.raises(RootError, match="is no folder"):
        verify(tmp_path / "nothing")
    lock = seal_lock(root)
    try:
        with pytest.raises(RootBusy):
            verify(root)
    finally:
        lock.release()
