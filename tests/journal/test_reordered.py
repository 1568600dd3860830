"""
What a power cut leaves where pages reached the disk out of order: later ones did, earlier ones did not.

A page that did not is zeros, or what the block held before. Swept over a segment: what was whole before the hole is
kept, what is lost is named, and nothing is read that was not written there.
"""

import random

import msgspec
import pytest
import zstandard

from journal_cases import HEADER, HOUR, RUN, run_folder
from recorder.journal.entry import encode_entry, encode_header
from recorder.journal.names import OPEN_SUFFIX, SEGMENT_SUFFIX, run_name, segment_name
from recorder.journal.reader import read_header, read_run, read_segment, run_segments
from recorder.journal.tail import Tail
from recorder.journal.writer import Journal, JournalSettings
from recorder.records import HOUR_NS, SECOND_NS, EntryKind

SECTOR = 512
PAGE = 4096
ENTRIES = 90


def written(folder, *, start, seed, run=RUN):
    """
    The bytes of one segment of many zstd frames: payloads that do not compress, a commit for each few of them.
    """
    chance = random.Random(seed)
    settings = JournalSettings(commit_interval_s=0.0005, commit_bytes=600, frame_s=1)
    header = msgspec.structs.replace(HEADER, run=run)
    journal = Journal(folder, header=lambda: header, settings=settings)
    journal.start()
    for number in range(ENTRIES):
        at = start + number * SECOND_NS // 8
        journal.append(EntryKind.FRAME, connection=0, attempt=1, recv_ts=at, payload=chance.randbytes(300))
    assert journal.close(20)
    (segment,) = run_segments(folder)
    return segment.path.read_bytes()


@pytest.fixture(scope="module")
def bytes_of(tmp_path_factory):
    """
    Of a segment, and of two of other runs, a day before and at the same time, whose blocks the disk gave to the first.
    """
    folder = tmp_path_factory.mktemp("reordered")
    mine = written(run_folder(folder / "mine"), start=HOUR, seed=1)
    day_before = HOUR - 24 * HOUR_NS
    others = {}
    for content, start in (("another segment", day_before), ("a run beside", HOUR)):
        run = run_name(start, "ffffff")
        others[content] = written(run_folder(folder / content, run), start=start, seed=2, run=run)
    return mine, others


def read(folder, data, suffix=OPEN_SUFFIX):
    """
    Entries, and what was said of damage.
    """
    for old in folder.glob("2*"):
        old.unlink()
    path = folder / segment_name(HOUR).replace(SEGMENT_SUFFIX, suffix)
    path.write_bytes(data)
    damages = []
    entries = list(read_run(run_segments(folder), on_damage=damages.append))
    return [(e.seq, e.recv_ts, e.payload) for e in entries], damages


def holed(whole, others, at, size, content):
    """
    With a stretch that never reached the disk.
    """
    end = min(at + size, len(whole))
    match content:
        case "zeros":
            old = bytes(end - at)
        case "another segment" | "a run beside":
            old = (others[content] * 2)[at:end]
        case _:
            # Of this very segment: blocks that a rewrite left.
            old = (whole * 2)[(at + 5 * SECTOR) % len(whole) :][: end - at]
    return whole[:at] + old + whole[end:]


@pytest.mark.parametrize("content", ["zeros", "another segment", "a run beside", "itself"])
@pytest.mark.parametrize("size", [SECTOR, PAGE, 3 * PAGE])
def test_what_did_not_reach_the_disk_is_named_and_all_else_is_true(tmp_path, bytes_of, content, size):
    """
    At each sector: entries before the hole are all there, none is false, and those missing are named or, at the very
    end, look like the torn tail of a run that was cut, which its `recorder_down` covers.
    """
    whole, others = bytes_of
    folder = run_folder(tmp_path / "journal")
    good, damages = read(folder, whole)
    assert len(good) == ENTRIES
    assert damages == []
    lost_anything = 0
    for at in range(0, len(whole), SECTOR if size == SECTOR else PAGE):
        data = holed(whole, others, at, size, content)
        if data == whole:
            continue
        entries, damages = read(folder, data)
        before, _ = read(folder, whole[:at])

        assert set(entries) <= set(good), f"something false was read, hole at {at}"
        assert [e[0] for e in entries] == sorted({e[0] for e in entries})
        assert set(before) <= set(entries), f"lost what was whole before the hole at {at}"
        missing = sorted(set(good) - set(entries))
        lost_anything += bool(missing)
        tail = good[len(good) - len(missing) :]
        assert not missing or damages or missing == tail, f"a loss without a word, hole at {at}"
        if missing:
            # A finished segment has no torn tail: there every loss is told.
            _, told = read(folder, data, SEGMENT_SUFFIX)
            assert told, f"hole at {at}"
    assert lost_anything > 3


def test_the_beginning_of_another_runs_segment_is_not_taken_for_ours(tmp_path):
    """
    Also where it is of the same hour: a segment begins with the name of its run.
    """

    def piece(run, first):
        header = msgspec.structs.replace(HEADER, run=run)
        entries = [encode_header(header, seq=first - 1, recv_ts=HOUR + first)]
        entries += [encode_entry(EntryKind.FRAME, 0, 1, first + n, HOUR + first + n, b"%d" % n) for n in range(3)]
        return zstandard.ZstdCompressor(level=1).compress(b"".join(entries))

    path = run_folder(tmp_path / "journal") / segment_name(HOUR + 2)
    path.write_bytes(piece(RUN, 2) + piece(run_name(HOUR, "ffffff"), 50) + piece(RUN, 60))
    damages = []

    entries = list(read_segment(path, on_damage=damages.append))

    assert [entry.seq for entry in entries] == [2, 3, 4, 60, 61, 62]
    assert [damage.reason.partition(":")[0] for damage in damages] == [f"entries of run {run_name(HOUR, 'ffffff')}"]


def test_a_whole_piece_of_another_segment_is_not_taken_for_ours(tmp_path):
    """
    Good bytes with good checksums, in a block that another segment had before: told by their time, and left out; what
    follows them is read.
    """

    def piece(first, at, *, header=False):
        entries = [encode_header(HEADER, seq=first - 1, recv_ts=at)] if header else []
        entries += [encode_entry(EntryKind.FRAME, 0, 1, first + n, at + n, b"%d" % (first + n)) for n in range(3)]
        return zstandard.ZstdCompressor(level=1).compress(b"".join(entries))

    folder = run_folder(tmp_path / "journal")
    path = folder / segment_name(HOUR)
    for strange in (HOUR - SECOND_NS, HOUR + HOUR_NS):
        path.write_bytes(piece(2, HOUR, header=True) + piece(50, strange) + piece(5, HOUR + 10))
        damages = []

        entries = list(read_segment(path, on_damage=damages.append))

        assert [entry.seq for entry in entries] == [2, 3, 4, 5, 6, 7]
        assert {entry.run for entry in entries} == {RUN}
        assert [damage.reason for damage in damages] == ["entries of another time: these bytes were not written here"]


def test_where_the_beginning_is_gone_a_piece_of_another_run_hides_nothing_of_ours(tmp_path):
    """
    Nor makes the whole segment one of that run: what is ours comes out, and the header of a later piece tells of it.
    """
    mine, beside = (msgspec.structs.replace(HEADER, run=run) for run in (RUN, run_name(HOUR, "ffffff")))

    path = run_folder(tmp_path / "journal") / segment_name(HOUR)
    path.write_bytes(bytes(SECTOR) + _piece(50, beside) + _piece(60, mine))
    damages, headers = [], []

    entries = list(read_segment(path, on_damage=damages.append, on_header=headers.append))

    assert [entry.seq for entry in entries] == [60, 61, 62]
    assert headers == [mine]
    assert [damage.foreign for damage in damages] == [False, False]
    assert damages[1].reason.startswith(f"entries of run {beside.run}")


def test_where_another_run_wrote_over_the_beginning_what_is_ours_still_comes_out(tmp_path):
    """
    The folder says whose segment it is, and a later header that it is no copy of the other's. Between the two, what
    names no run, as an earlier version wrote it, goes with the header before it.
    """
    mine, beside = (msgspec.structs.replace(HEADER, run=run) for run in (RUN, run_name(HOUR, "ffffff")))
    path = run_folder(tmp_path / "journal") / segment_name(HOUR)
    path.write_bytes(_piece(50, beside) + _piece(54) + _piece(60, mine) + _piece(64))
    damages, headers = [], []

    entries = list(read_segment(path, on_damage=damages.append, on_header=headers.append))

    assert [entry.seq for entry in entries] == [60, 61, 62, 64, 65, 66]
    assert headers == [mine]
    assert [(damage.offset, damage.foreign) for damage in damages] == [(0, False), (len(_piece(50, beside)), False)]
    assert all(beside.run in damage.reason for damage in damages)


def test_a_piece_that_a_later_version_wrote_hides_nothing_of_ours(tmp_path):
    """
    Its header is of a format that is not known here, which at the beginning says that the segment is not for us.
    """
    later = msgspec.structs.replace(HEADER, format=HEADER.format + 1, run=run_name(HOUR, "ffffff"))
    path = run_folder(tmp_path / "journal") / segment_name(HOUR + 1)
    path.write_bytes(_piece(1, HEADER) + _piece(50, later) + _piece(4, HEADER))
    damages = []

    assert [entry.seq for entry in read_segment(path, on_damage=damages.append)] == [1, 2, 3, 4, 5, 6]
    assert len(damages) == 1


def test_of_a_copy_that_bears_no_runs_name_all_is_read_though_its_first_header_is_damaged(tmp_path):
    """
    The next header that can be read says whose it is.
    """
    first = bytearray(_content(1, HEADER))
    first[40] ^= 1  # in the header's own payload
    path = tmp_path / "copied" / segment_name(HOUR)
    path.parent.mkdir()
    path.write_bytes(zstandard.ZstdCompressor(level=1).compress(first) + _piece(4, HEADER) + _piece(7, HEADER))
    damages, headers = [], []

    entries = list(read_segment(path, on_damage=damages.append, on_header=headers.append))

    assert [entry.seq for entry in entries] == [*range(1, 10)]
    assert {entry.run for entry in entries} == {RUN}
    assert headers == [HEADER]
    assert {damage.offset for damage in damages} == {0}


def test_a_header_is_found_behind_a_damaged_one(tmp_path):
    """
    So that a segment of another venue is known for one, whatever happened to its first bytes.
    """
    path = run_folder(tmp_path / "journal") / segment_name(HOUR)
    path.write_bytes(bytes(SECTOR) + _piece(1, HEADER))

    assert read_header(path) == HEADER


def test_whoever_follows_a_run_is_told_nothing_of_another(tmp_path):
    """
    Which a disk put into its segment: neither entries nor what was asked for.
    """
    beside = msgspec.structs.replace(HEADER, run=run_name(HOUR, "ffffff"), streams=[])
    pieces = []
    for header, first in ((HEADER, 1), (beside, 50), (HEADER, 4)):
        entries = [encode_header(header, seq=first, recv_ts=HOUR + first)]
        entries += [encode_entry(EntryKind.FRAME, 0, 1, first + n, HOUR + first + n, b"") for n in range(3)]
        pieces.append(zstandard.ZstdCompressor(level=1).compress(b"".join(entries)))
    folder = run_folder(tmp_path / "journal")
    (folder / segment_name(HOUR + 1)).write_bytes(b"".join(pieces))
    tail = Tail(folder, since=HOUR)

    assert [entry.seq for entry in tail.take()] == [1, 2, 3, 4, 5, 6]
    assert tail.header == HEADER
    tail.close()


def _content(first, header=None):
    entries = [encode_header(header, seq=first, recv_ts=HOUR + first)] if header is not None else []
    entries += [encode_entry(EntryKind.FRAME, 0, 1, first + n, HOUR + first + n, b"%d" % n) for n in range(3)]
    return b"".join(entries)


def _piece(first, header=None):
    return zstandard.ZstdCompressor(level=1).compress(_content(first, header))
