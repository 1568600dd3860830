"""
Rows of the lake that are old enough go if that is asked for; what tells of them stays, and nothing calls them missing.
"""

import json
import subprocess
import sys

import pytest

from lake_cases import HOUR, NEXT, Run, S, make_root, recorded
from recorder.analysis import Lake
from recorder.lake import expiry
from recorder.lake import manifest as manifests
from recorder.lake.expiry import STAYING, expirable_hours, expire_lake
from recorder.lake.retention import expire
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.page.past import calendar
from recorder.records import HOUR_NS

DAY_NS = 24 * HOUR_NS
LATE = HOUR + 100 * DAY_NS


@pytest.fixture
def root(tmp_path):
    """
    Three sealed hours.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, NEXT - 200 * S)
    run.connect(NEXT - 200 * S)
    run.hear(NEXT - 199 * S, NEXT + 200 * S)
    run.hear(NEXT + HOUR_NS - 200 * S, NEXT + HOUR_NS + 200 * S)
    run.close(NEXT + HOUR_NS + 200 * S)
    recorded(root, NEXT + HOUR_NS + 300 * S, NEXT + HOUR_NS + 310 * S, nonce="bbbbbb")
    seal(root)
    return root


def data_files(root):
    """
    Of the tables whose rows may go.
    """
    return sorted(p for p in (root / "lake").rglob("*.parquet") if p.relative_to(root).parts[1] not in STAYING)


def small_files(root):
    """
    Of those that stay.
    """
    return sorted(p for p in (root / "lake").rglob("*.parquet") if p.relative_to(root).parts[1] in STAYING)


def test_nothing_goes_unless_it_is_asked_for(root):
    """
    The lake is kept for ever by default.
    """
    before = data_files(root)

    assert expire_lake(root, now=LATE, keep_days=0) is None
    assert data_files(root) == before != []


def test_rows_of_old_hours_go_and_what_tells_of_them_stays(root):
    """
    Quality, coverage and the manifest, which lists what went; nothing is made again, and nothing is called damaged.
    """
    seen = Lake(root).coverage().collect()
    small = small_files(root)

    removal = expire_lake(root, now=LATE, keep_days=30, by_hand=True)

    assert removal.what == "lake"
    assert (removal.first, removal.last) == (HOUR, NEXT + HOUR_NS)
    assert removal.files > 0
    assert data_files(root) == []
    assert small_files(root) == small
    assert manifests.read(root, HOUR).expired
    assert [s.hour for s in seal(root)] == []
    assert [p.problem for p in verify(root).problems] == []
    assert Lake(root).coverage().collect().equals(seen)
    assert expire_lake(root, now=LATE, keep_days=30, by_hand=True) is None


def test_the_age_of_an_hour_is_told_from_its_end(root):
    """
    To the hour.
    """
    made = {hour: manifests.read(root, hour) for hour in manifests.hours(root)}

    assert expirable_hours(made, now=HOUR + HOUR_NS + DAY_NS - 1, keep_days=1, by_hand=True) == []
    assert expirable_hours(made, now=HOUR + HOUR_NS + DAY_NS, keep_days=1, by_hand=True) == [HOUR]
    assert expirable_hours(made, now=LATE, keep_days=1) == [], "three hours of recording are no day"
    assert expirable_hours(made, now=LATE, keep_days=0) == []


def test_an_hour_that_is_not_sealed_or_not_whole_stays(root):
    """
    A manifest so far, or with problems, is no leave to remove.
    """
    import msgspec  # noqa: PLC0415

    made = {hour: manifests.read(root, hour) for hour in manifests.hours(root)}
    first = made[HOUR]

    for change in ({"complete": False}, {"problems": ["books of SOL-PERP"]}):
        made[HOUR] = msgspec.structs.replace(first, **change)
        assert HOUR not in expirable_hours(made, now=LATE, keep_days=1, by_hand=True)


def test_a_damaged_file_keeps_its_hour(root):
    """
    Somebody must look at it first; the other hours go.
    """
    damaged = next(p for p in data_files(root) if "hour=10" in str(p))
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    notes = []

    removal = expire_lake(root, now=LATE, keep_days=1, by_hand=True, on_note=notes.append)

    assert damaged.exists()
    assert removal.first == NEXT
    assert "is not what its manifest says" in notes[0]


def test_killed_between_manifest_and_files_the_next_run_removes_them(root, monkeypatch):
    """
    No file stays that no manifest names.
    """
    before = data_files(root)

    def killed(_, files):
        # What earlier runs left is cleaned up first: of nothing, here.
        if files:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(expiry, "_remove", killed)
        with pytest.raises(KeyboardInterrupt):
            expire_lake(root, now=LATE, keep_days=30, by_hand=True)
    assert data_files(root) == before

    expire_lake(root, now=LATE, keep_days=30, by_hand=True)

    assert data_files(root) == []
    assert verify(root).problems == []


def test_a_dry_run_tells_and_changes_nothing(root):
    """
    Of lake and journal alike, in the words of the real thing.
    """
    before = sorted(p for p in root.rglob("*") if p.is_file())
    told = []

    dry = expire_lake(root, now=LATE, keep_days=30, by_hand=True, dry_run=True)
    expire(root, now=LATE, keep_days=0.1, keep_bytes=0, by_hand=True, dry_run=True, on_removed=told.append)

    assert sorted(p for p in root.rglob("*") if p.is_file()) == before
    assert dry == expire_lake(root, now=LATE, keep_days=30, by_hand=True)
    assert [(r.what, r.files > 0) for r in told] == [("journal", True)]


def test_a_day_that_was_removed_by_rule_is_expired_not_missing(root):
    """
    Whoever asks what there is must not be sent looking for a hole.
    """
    expire_lake(root, now=LATE, keep_days=30, by_hand=True)

    conditions = Lake(root).condition().collect()
    gaps = Lake(root).gaps(states=["missing"]).collect()

    assert set(conditions["condition"]) == {"expired"}
    assert "removed by rule (lake.keep_days)" in gaps["why"][0]
    assert set(gaps.filter(start=gaps["start"].min())["state"]) == {"unrecorded"}


def test_coverage_says_expired_whatever_was_proven(root):
    """
    The timeline, the sums and each row: nobody is to think that it can still be read, nor that it was a hole.
    """
    expire_lake(root, now=NEXT + 2 * HOUR_NS + 1, keep_days=1 / 24, by_hand=True)

    def said(*options):
        command = [sys.executable, "-m", "recorder", "coverage", str(root), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    shown = said()
    rows = [json.loads(line) for line in said("--json").splitlines()]
    spans = Lake(root).spans().collect()

    assert "x: rows that were removed by rule" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("SOL-PERP books ") and "x" in line]
    assert set(line.removeprefix("SOL-PERP books ").strip()) >= {"x"}
    assert "expired" in shown
    assert {row["expired"] for row in rows if row["start"] < "2025-03-01T12"} == {True}
    assert {row["expired"] for row in rows if row["start"] >= "2025-03-01T12"} == {False}
    assert spans.filter(state="unrecorded")["why"].unique().to_list() == ["removed by rule (lake.keep_days)"]
    days = calendar(root, now=NEXT + 3 * HOUR_NS)
    hours = [hour for hour in days["hours"][""] if hour is not None]
    assert [hour[5] for hour in hours] == [True, True, False]


def test_the_verb_tells_and_removes(root):
    """
    As an operator would; without a rule for the lake, only journal.
    """

    def said(*options):
        command = [sys.executable, "-m", "recorder", "retention", str(root), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = len(data_files(root))
    dry = said("--dry-run", "--keep-days", "0.1", "--lake-days", "1")
    assert dry.count("would remove") == 2
    assert len(data_files(root)) == before
    real = said("--keep-days", "0.1", "--lake-days", "1")
    assert real == dry.replace("would remove", "removed")
    assert "nothing is old enough" in said("--keep-days", "0.1", "--lake-days", "1")
    assert "no such" not in said("--dry-run")


def test_the_seal_tells_the_recorder_what_it_removed(root):
    """
    As JSON, which the recorder puts on record.
    """
    for number in (2, 3):
        at = NEXT + number * HOUR_NS
        recorded(root, at, at + 3 * S, nonce=f"{number:06x}")
    command = [sys.executable, "-m", "recorder", "seal", str(root), "--background", "--keep-days", "0.1"]
    done = subprocess.run([*command, "--lake-days", "0.04"], capture_output=True, text=True, timeout=60)
    told = [json.loads(line.removeprefix("removed: ")) for line in done.stdout.splitlines() if "removed: " in line]

    assert [removal["what"] for removal in told] == ["journal", "lake"]
