"""
What goes from a root while nobody puts it on record is told once, by the next seal of a recorder.
"""

import json
import subprocess
import sys

import pytest

from lake_cases import HOUR, NEXT, Run, S, make_root, recorded
from recorder.journal.reader import segments
from recorder.lake import gone
from recorder.lake.expiry import expire_lake
from recorder.lake.gone import ON_RECORD, look, read_note, write_note
from recorder.lake.retention import expire
from recorder.lake.sealing import seal
from recorder.lake.verify import verify
from recorder.records import HOUR_NS

LATE = HOUR + 1000 * HOUR_NS
THIRD = NEXT + HOUR_NS


@pytest.fixture
def root(tmp_path):
    """
    Three sealed hours, and a later one; what there is was noted.
    """
    root = make_root(tmp_path / "root")
    run = Run(root, NEXT - 200 * S)
    run.connect(NEXT - 200 * S)
    run.hear(NEXT - 199 * S, NEXT + 200 * S)
    run.hear(THIRD - 200 * S, THIRD + 200 * S)
    run.close(THIRD + 200 * S)
    recorded(root, THIRD + 300 * S, THIRD + 310 * S, nonce="bbbbbb")
    seal(root)
    assert noted(root) == []
    return root


def noted(root, *, told=()):
    """
    What is told, and then on record.
    """
    found, note = look(root, told=list(told))
    write_note(root, note)
    return found


def test_nothing_is_told_where_nothing_has_gone(root):
    """
    Nor of a root that has no note yet: what an earlier version removed, it told.
    """
    assert noted(root) == []
    expire(root, now=LATE, keep_days=0, keep_bytes=0, by_hand=True)
    (root / "journal" / "gone.json").unlink()

    assert noted(root) == []
    assert noted(root) == []


def test_journal_that_was_removed_by_hand_is_told_once(root):
    """
    With its hours and bytes; what stays is told when it goes, too.
    """
    found = [segment for segment in segments(root / "journal") if segment.start < NEXT]
    size = sum(segment.path.stat().st_size for segment in found)
    for segment in found[1:]:
        segment.path.unlink()

    (told,) = noted(root)

    assert (told.what, told.by_rule, told.files) == ("journal", False, len(found) - 1)
    assert (told.first, told.last) == (found[1].start, found[-1].start)
    assert told.bytes < size
    assert noted(root) == []
    found[0].path.unlink()
    (told,) = noted(root)
    assert (told.files, told.first) == (1, found[0].start)
    assert noted(root) == []


def test_what_the_retention_verb_removed_is_told(root):
    """
    It runs while no recorder does, and has no journal to write to.
    """
    removed = []
    expire(root, now=LATE, keep_days=0, keep_bytes=0, by_hand=True, on_removed=removed.append)
    rows = expire_lake(root, now=LATE, keep_days=30, by_hand=True)

    journal, lake = noted(root)

    assert (journal.files, journal.bytes) == (removed[0].files, removed[0].bytes)
    assert (lake.what, lake.first, lake.last, lake.files, lake.bytes) == (
        *("lake", rows.first, rows.last),
        *(rows.files, rows.bytes),
    )
    assert noted(root) == []


def test_what_the_caller_removed_by_rule_is_not_told_again(root):
    """
    But what somebody else removed is, and a crash before it was on record has it told by whoever comes next.
    """
    removed = []
    expire(root, now=NEXT + 25 * HOUR_NS, keep_days=1, keep_bytes=0, by_hand=True, on_removed=removed.append)
    assert removed
    expire_lake(root, now=LATE, keep_days=30, by_hand=True)

    found, _ = look(root, told=removed)
    assert [removal.what for removal in found] == ["lake"]

    # It died before it wrote the note.
    assert [removal.what for removal in noted(root)] == ["journal", "lake"]
    assert noted(root) == []


def test_of_years_of_manifests_few_are_read(root, monkeypatch):
    """
    Those that nobody has replaced since, and whose journal is known to be gone, say nothing new.
    """
    expire(root, now=LATE, keep_days=0, keep_bytes=0, by_hand=True)
    assert len(noted(root)) == 1
    read = []
    real = gone.manifests.read
    monkeypatch.setattr(gone.manifests, "read", lambda root, hour: read.append(hour) or real(root, hour))
    monkeypatch.setattr(gone, "_written", lambda _: 1 << 62)

    assert look(root, told=[])[0] == []
    assert HOUR not in read


def test_a_note_that_cannot_be_read_is_begun_anew(root):
    """
    It is no copy of anything; and it has its place in the journal's folder.
    """
    (root / "journal" / "gone.json").write_text("{")

    assert read_note(root) is None
    assert noted(root) == []
    assert read_note(root) is not None
    assert verify(root).problems == []


def test_the_seal_of_a_recorder_tells_and_hands_over_the_note(root):
    """
    Each in a line of its own, so that the recorder can put them on record.
    """
    command = [sys.executable, "-m", "recorder", "seal", "--background", "--keep-days", "100000", "--", str(root)]
    expire(root, now=LATE, keep_days=0, keep_bytes=0, by_hand=True)

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    lines = done.stdout.splitlines()
    (removed,) = [json.loads(line.removeprefix("removed: ")) for line in lines if line.startswith("removed: ")]
    assert (removed["what"], removed["by_rule"]) == ("journal", False)
    (note,) = [line.removeprefix(ON_RECORD) for line in lines if line.startswith(ON_RECORD)]
    write_note(root, note.encode())
    assert "removed: " not in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_seal_that_fails_tells_what_it_had_removed(root):
    """
    It makes space first; the next one may fail as well, and would not know whose it was.
    """
    fail = (
        "import recorder.cli_seal as verb; from recorder.errors import SealFailed\n"
        "def seal_hours(*_, **__): raise SealFailed('no luck')\n"
        "verb.seal_hours = seal_hours; verb.seal(standalone_mode=False)"
    )
    command = [sys.executable, "-c", fail, "--background", "--want-free", str(1 << 60), "--", str(root)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode
    assert "no luck" in done.stderr
    (note,) = [line.removeprefix(ON_RECORD) for line in done.stdout.splitlines() if line.startswith(ON_RECORD)]
    assert "removed: " in done.stdout
    write_note(root, note.encode())
    assert noted(root) == []
