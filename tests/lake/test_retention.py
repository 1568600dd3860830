"""
Retention: journal goes when nobody needs it any more, and never before.
"""

import pytest

from lake_cases import HOUR, NEXT, Run, S, make_root, recorded
from recorder.analysis import Lake
from recorder.errors import DamagedFile, RootBusy
from recorder.journal.reader import segments
from recorder.lake import manifest as manifests
from recorder.lake.retention import expirable, expire
from recorder.lake.root import seal_lock
from recorder.lake.sealing import seal
from recorder.records import HOUR_NS

LATE = HOUR + 1000 * HOUR_NS
THIRD = NEXT + HOUR_NS


@pytest.fixture
def root(tmp_path):
    """
    A run from the end of one hour into the third, unsealed.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, NEXT - 200 * S)
    run.connect(NEXT - 200 * S)
    run.hear(NEXT - 199 * S, NEXT + 200 * S)
    run.hear(THIRD - 200 * S, THIRD + 200 * S)
    run.close(THIRD + 200 * S)
    return root


def names(root):
    """
    Of the segments there are.
    """
    return [segment.name for segment in segments(root / "journal")]


def gone(root, *, keep_days=0.0, keep_bytes=0, now=LATE):
    """
    Names of what expires.
    """
    return [s.name for s in expire(root, now=now, keep_days=keep_days, keep_bytes=keep_bytes)]


def unseal(root, hour):
    """
    An hour without a manifest.
    """
    manifests.withdraw(root, hour)


def test_what_is_not_sealed_stays_whatever_its_age(root):
    """
    The journal is the only copy.
    """
    before = names(root)

    assert gone(root, keep_bytes=1) == []
    assert names(root) == before


def test_what_an_incomplete_hour_was_made_from_stays(root):
    """
    Published so far, or with a partition that failed: it will be made again.
    """
    seal(root)
    for hour in (HOUR, NEXT, THIRD):
        manifest = manifests.read(root, hour)
        fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
        manifests.publish(root, hour, manifests.Manifest(**{**fields, "complete": False}))

    assert gone(root) == []


def test_sealed_hours_go_and_the_last_one_stays(root):
    """
    The last hour on record anchors the next: hours without a recorder that may follow it are sealed from there.
    """
    seal(root)
    sealed = {path: path.read_bytes() for path in (root / "lake").rglob("*.parquet")}
    removed = gone(root)

    assert removed
    assert all(name < "20250301T12" for name in removed)
    assert all(name >= "20250301T12" for name in names(root))
    assert seal(root) == [], "nothing is unsealed by it"
    assert {path: path.read_bytes() for path in (root / "lake").rglob("*.parquet")} == sealed


def test_what_a_neighbour_hour_still_needs_stays(root):
    """
    The next hour looks two minutes back, the one before one minute ahead.
    """
    seal(root)
    unseal(root, NEXT)

    removed = gone(root)

    kept = [name for name in names(root) if name < "20250301T11"]
    assert kept, "segments of the two minutes before the unsealed hour"
    assert all(name < "20250301T1058" for name in removed)
    rows = Lake(root).books().collect().height
    seal(root)
    assert Lake(root).books().collect().height > rows


def test_the_first_minute_of_an_hour_stays_for_the_unsealed_one_before(root):
    """
    It judges what that one left open.
    """
    seal(root)
    unseal(root, HOUR)

    removed = gone(root)

    assert removed == []


def test_a_segment_its_hour_does_not_list_stays(root):
    """
    Another run turned up: the hour is to be made again from both.
    """
    seal(root)
    late = recorded(root, NEXT + 30 * S, NEXT + 40 * S, nonce="bbbbbb")

    removed = gone(root)

    assert (root / "journal" / late.name).is_dir()
    assert all(name < "20250301T1058" for name in removed)
    rows = Lake(root).books().collect().height
    seal(root)
    assert Lake(root).books().collect().height == rows, "it heard nothing that the other did not"
    coverage = Lake(root).coverage("SOL-PERP", start=NEXT, end=THIRD).collect()
    assert coverage["duplicates_removed"].max() == 9


def test_what_turned_up_too_late_stays_and_does_not_hold_up_the_rest(root):
    """
    Its hour cannot be made again, since part of that journal has expired: the segment is the only copy.
    """
    seal(root)
    assert gone(root)
    late = recorded(root, NEXT + 30 * S, NEXT + 40 * S, nonce="bbbbbb")
    recorded(root, THIRD + 3 * HOUR_NS, THIRD + 3 * HOUR_NS + 5 * S, nonce="cccccc")

    assert NEXT not in [s.hour for s in seal(root)]
    assert all(name.startswith("20250301T12") for name in gone(root))
    assert list((root / "journal" / late.name).glob("*.zst"))


def test_hours_without_a_recorder_are_sealed_though_the_journal_before_them_is_old(tmp_path):
    """
    Retention ran every day while nobody recorded; the restart must still find what to go on from.
    """
    root = make_root(tmp_path / "root")
    recorded(root, HOUR, HOUR + 30 * S)
    seal(root)
    assert gone(root, keep_bytes=1) == []
    recorded(root, HOUR + 5 * HOUR_NS, HOUR + 5 * HOUR_NS + 30 * S, nonce="bbbbbb")

    sealed = seal(root)

    assert [s.hour for s in sealed] == [HOUR + n * HOUR_NS for n in range(1, 6)]
    down = Lake(root).quality().filter(kind="recorder_down").collect()
    assert down["true_start"].dt.epoch("ns").min() == HOUR + 30 * S
    assert gone(root), "now it may go"


def test_age_and_size_decide_among_what_may_go(root):
    """
    Young segments stay, unless the journal is larger than it may be: then the oldest go first.
    """
    seal(root)
    found = segments(root / "journal")
    manifest = {hour: manifests.read(root, hour) for hour in manifests.hours(root)}
    sizes = {segment.path: 100 for segment in found}

    def expired(**options):
        return [s.name for s in expirable(found, sizes, manifest, **{"now": LATE, "keep_bytes": 0, **options})]

    everything = expired(keep_days=0)
    assert everything == sorted(everything)
    assert expired(keep_days=10_000) == []
    day = 24 * HOUR_NS
    first_hour = [name for name in everything if name < "20250301T11"]
    assert expired(keep_days=1, now=NEXT + day, by_hand=True) == first_hour
    assert expired(keep_days=1, now=NEXT + day) == [], "three hours of recording are no day"
    assert expired(keep_days=10_000, keep_bytes=100 * len(found) - 250) == everything[:3]
    assert expired(keep_days=10_000, keep_bytes=1) == everything
    assert expirable([], {}, manifest, now=LATE, keep_days=0, keep_bytes=1) == []


def test_the_folder_of_a_run_goes_with_its_last_segment(root):
    """
    Of one that is over; a living one keeps its folder and lock.
    """
    seal(root)
    recorded(root, THIRD + 300 * S, THIRD + 310 * S, nonce="bbbbbb")
    recorded(root, THIRD + 4 * HOUR_NS, THIRD + 4 * HOUR_NS + 5 * S, nonce="cccccc")
    seal(root)

    gone(root)

    assert len([path for path in (root / "journal").iterdir() if path.is_dir()]) == 1


def test_nothing_is_removed_beside_a_seal_or_with_a_damaged_manifest(root):
    """
    The one changes what is needed, the other hides it.
    """
    seal(root)
    lock = seal_lock(root)
    with pytest.raises(RootBusy):
        gone(root)
    lock.release()
    (root / "manifest" / "2025-03-01T10.json").write_bytes(b"{}")
    before = names(root)

    with pytest.raises(DamagedFile):
        gone(root)

    assert names(root) == before


@pytest.mark.parametrize("break_it", ["missing", "changed"])
def test_journal_whose_files_are_not_in_the_lake_any_more_stays(root, break_it):
    """
    It is the only copy then. What is kept is said, with the command that mends it, and that command does.
    """
    seal(root)
    before = names(root)
    file = root / next(file for file in manifests.read(root, HOUR).files if file.table == "books").path
    whole = file.read_bytes()
    if break_it == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] + b"x")
    notes = []

    removed = expire(root, now=LATE, keep_days=0.0, keep_bytes=0, on_note=notes.append)

    listed = {i.name for i in manifests.read(root, HOUR).inputs}
    assert listed
    assert listed <= set(names(root))
    assert listed.isdisjoint(segment.name for segment in removed)
    (note,) = notes
    assert file.relative_to(root).as_posix() in note
    assert f"`drift-recorder seal {root} --hour 2025-03-01T10`" in note
    seal(root, hour=HOUR)
    assert file.read_bytes() == whole
    assert set(gone(root)) | set(names(root)) == set(before) - {segment.name for segment in removed}
    assert not listed <= set(names(root))
