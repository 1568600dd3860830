"""
Reading the journal back: all that is whole, a prefix of what is torn, and of what is damaged every loss is told.
"""

import threading
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from journal_cases import HEADER, HOUR, RUN, run_folder, write_journal
from recorder.errors import ForeignFile
from recorder.journal.entry import WINDOW_LOG, ZSTD_MAGIC, encode_entry, encode_header
from recorder.journal.names import run_name, segment_name
from recorder.journal.reader import (
    Damage,
    SegmentFile,
    in_window,
    read_header,
    read_merged,
    read_run,
    read_segment,
    segments,
)
from recorder.journal.writer import Journal, JournalSettings
from recorder.records import HOUR_NS, SECOND_NS, Entry, EntryKind, SegmentHeader

ENTRIES = [
    Entry(
        EntryKind.FRAME,
        0,
        1,
        number,
        HOUR + number * SECOND_NS // 4,
        b'{"number":%d,"x":"%d"}' % (number, 7**number),
        RUN,
    )
    for number in range(1, 25)
]
FRAME_ENTRIES = 8


def zstd_frame(entries: list[Entry], *, header: SegmentHeader | None = None, end: bool = True) -> bytes:
    """
    Entries as the writer has them: a block for each two, in one zstd frame.
    """
    params = zstandard.ZstdCompressionParameters.from_level(1, window_log=WINDOW_LOG)
    stream = zstandard.ZstdCompressor(compression_params=params).compressobj()
    data = b""
    if header is not None:
        data += stream.compress(encode_header(header, seq=entries[0].seq, recv_ts=entries[0].recv_ts))
    for at in range(0, len(entries), 2):
        for e in entries[at : at + 2]:
            data += stream.compress(encode_entry(e.kind, e.connection, e.attempt, e.seq, e.recv_ts, e.payload))
        data += stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return data + (stream.flush() if end else b"")


def segment_bytes(entries: list[Entry] = ENTRIES, *, header: SegmentHeader = HEADER, end: bool = True) -> bytes:
    """
    A segment of zstd frames of `FRAME_ENTRIES` entries.
    """
    groups = [entries[at : at + FRAME_ENTRIES] for at in range(0, len(entries), FRAME_ENTRIES)]
    return b"".join(
        zstd_frame(group, header=None if number else header, end=end or number + 1 < len(groups))
        for number, group in enumerate(groups)
    )


def place(tmp_path: Path, data: bytes, *, start: int = ENTRIES[0].recv_ts, again: int = 0, suffix: str = "") -> Path:
    """
    Bytes as a segment of the run.
    """
    path = run_folder(tmp_path / "journal") / (segment_name(start, again) + suffix)
    path.write_bytes(data)
    return path


def read(path: Path) -> tuple[list[Entry], list[Damage]]:
    """
    What comes out of a segment, and what is told of it.
    """
    damages: list[Damage] = []
    return list(read_segment(path, on_damage=damages.append)), damages


def listing(*starts: int, run: str = RUN) -> list[SegmentFile]:
    """
    Segments that begin at those instants.
    """
    return [
        SegmentFile(run, start, again, segment_name(start, again), Path(run) / segment_name(start, again))
        for number, start in enumerate(starts)
        for again in [starts[:number].count(start)]
    ]


# ---- one segment


def test_a_segment_is_read_whole(tmp_path):
    """
    All entries in order, under the run of the header, which is told before the first.
    """
    headers: list[SegmentHeader] = []
    entries = read_segment(place(tmp_path, segment_bytes()), on_header=headers.append)

    assert next(entries) == ENTRIES[0]
    assert headers == [HEADER]
    assert list(entries) == ENTRIES[1:]


def test_a_segment_cut_at_any_byte_gives_a_prefix(tmp_path):
    """
    The tail that a crash leaves is normal in an open segment; a finished one was whole once, so there it is damage.
    """
    whole = segment_bytes()
    path = place(tmp_path, b"", suffix=".open")
    finished = place(tmp_path, b"")
    lengths = []
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        entries, damages = read(path)
        assert entries == ENTRIES[: len(entries)]
        assert damages == []
        lengths.append(len(entries))
        finished.write_bytes(whole[:cut])
        same, told = read(finished)
        assert same == entries
        assert told or len(same) == len(ENTRIES) or cut == 0 or _at_frames_end(whole, cut)
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(ENTRIES)


def _at_frames_end(whole: bytes, cut: int) -> bool:
    return whole[cut : cut + 4] == ZSTD_MAGIC


@pytest.mark.parametrize("flip", [0x01, 0x10, 0xFF])
def test_a_flipped_byte_anywhere_gives_only_right_entries_and_is_told(tmp_path, flip):
    """
    Of a finished segment, whatever is missing is told; frames other than the damaged one are whole.
    """
    whole = segment_bytes()
    path = place(tmp_path, b"")
    starts = [at for at in range(len(whole)) if whole.startswith(ZSTD_MAGIC, at)]
    assert len(starts) == 3
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= flip
        path.write_bytes(damaged)

        entries, damages = read(path)

        remaining = iter(ENTRIES)
        assert all(entry in remaining for entry in entries), position
        assert damages or entries == ENTRIES, position
        assert all(damage.path == path for damage in damages)
        hit = sum(start <= position for start in starts) - 1
        others = [e for at, e in enumerate(ENTRIES) if at // FRAME_ENTRIES != hit]
        assert [e for e in entries if e in others] == others, position


@pytest.mark.parametrize("flip", [0x01, 0x10, 0xFF])
def test_a_flipped_byte_in_an_open_segment_gives_only_right_entries(tmp_path, flip):
    """
    And of its earlier zstd frames everything missing is told; only the last may look like a torn tail.
    """
    whole = segment_bytes(end=False)
    path = place(tmp_path, b"", suffix=".open")
    last = whole.rfind(ZSTD_MAGIC)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= flip
        path.write_bytes(damaged)

        entries, damages = read(path)

        remaining = iter(ENTRIES)
        assert all(entry in remaining for entry in entries), position
        assert damages or entries == ENTRIES or position >= last, position


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_damage_of_any_kind_gives_a_wrong_entry(tmp_path_factory, data):
    """
    Stretches overwritten, zeroed, removed, or repeated: every entry that comes out was written, each once in a run.
    """
    whole = segment_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 300, len(whole))))
    put = data.draw(
        st.one_of(
            st.just(b""),
            st.just(bytes(end - start)),
            st.just(whole[start:end] * 2),
            st.binary(max_size=50),
        )
    )
    folder = tmp_path_factory.mktemp("damage")
    place(folder, whole[:start] + put + whole[end:])

    entries = list(read_run(segments(folder / "journal")))

    remaining = iter(ENTRIES)
    assert all(entry in remaining for entry in entries)


def frame_starts(whole: bytes) -> list[int]:
    """
    Where the zstd frames begin, and the end.
    """
    return [at for at in range(len(whole)) if whole.startswith(ZSTD_MAGIC, at)] + [len(whole)]


WHOLE = segment_bytes()
ONE, TWO, THREE, END = frame_starts(WHOLE)
FIRST, SECOND, THIRD = (ENTRIES[at : at + FRAME_ENTRIES] for at in range(0, len(ENTRIES), FRAME_ENTRIES))


@pytest.mark.parametrize(
    ("data", "entries", "told"),
    [
        pytest.param(b"", [], False, id="empty file"),
        pytest.param(bytes(4096), [], True, id="only zeros, as after a power cut"),
        pytest.param(b"P", [], True, id="one byte of something"),
        pytest.param(b"not a journal at all", [], True, id="foreign bytes under a segment's name"),
        pytest.param(WHOLE[:TWO] + bytes(THREE - TWO) + WHOLE[THREE:], FIRST + THIRD, True, id="a zstd frame zeroed"),
        pytest.param(WHOLE[:THREE] + bytes(END - THREE), FIRST + SECOND, True, id="zeros to the end"),
        pytest.param(WHOLE + bytes(4096), ENTRIES, True, id="zeros after the end"),
        pytest.param(WHOLE[:TWO] + WHOLE[THREE:], FIRST + THIRD, False, id="a zstd frame gone: its numbers tell"),
        pytest.param(WHOLE[:TWO] + WHOLE[ONE:], FIRST + ENTRIES, False, id="a zstd frame twice: its numbers tell"),
        pytest.param(WHOLE[: TWO + 9] + WHOLE[THREE:], FIRST + THIRD, True, id="the middle missing"),
        pytest.param(b"\0" + WHOLE[1:], SECOND + THIRD, True, id="the first byte damaged"),
        pytest.param(b"\0" + WHOLE[1:TWO], [], True, id="the first byte of the only zstd frame damaged"),
        pytest.param(WHOLE[TWO:], SECOND + THIRD, True, id="no header"),
        pytest.param(b"rubbish" + WHOLE, ENTRIES, True, id="rubbish before it"),
        pytest.param(zstandard.compress(b"something else"), [], True, id="zstd of something else"),
        pytest.param(zstandard.compress(b""), [], False, id="zstd of nothing"),
    ],
)
def test_kinds_of_damage(tmp_path, data, entries, told):
    """
    What is left is read, under the run that the folder names, and what is damaged is told.
    """
    found, damages = read(place(tmp_path, data))

    assert found == entries
    assert bool(damages) == told


def test_a_block_that_swallows_later_zstd_frames_is_not_a_torn_tail(tmp_path):
    """
    A damaged block length can ask for more than the file holds: what stands after it is found, and the damage told.
    """
    block = TWO + WHOLE[TWO:].index(zstd_frame(SECOND)[6:12])
    swallowing = bytearray(WHOLE)
    swallowing[block : block + 3] = (((128 << 10) << 3) | (2 << 1)).to_bytes(3, "little")

    for suffix in ("", ".open"):
        entries, damages = read(place(tmp_path, bytes(swallowing), suffix=suffix))
        assert entries[:8] == FIRST
        assert entries[-8:] == THIRD
        assert len(damages) >= 1


def test_blocks_before_the_damage_are_not_lost_with_it(tmp_path):
    """
    A zstd frame is read up to the very block that is damaged.
    """
    big = [
        msgspec.structs.replace(e, payload=bytes([e.seq]) * 50 + str(3 ** (e.seq + 900)).encode()) for e in ENTRIES[:8]
    ]
    frame = zstd_frame(big, header=HEADER)
    assert len(frame) < 4096
    tail = len(frame) - len(zstd_frame(big[:6], header=HEADER, end=False))
    damaged = bytearray(frame)
    damaged[-tail : -tail + 3] = b"\xff\xff\xff"

    entries, damages = read(place(tmp_path, bytes(damaged)))

    assert entries == big[:6]
    assert damages


def test_a_damaged_header_costs_nothing_but_the_header(tmp_path):
    """
    Its folder names the run; the entries after it are read, and no header is told.
    """
    entry = bytearray(encode_header(HEADER, seq=1, recv_ts=HOUR))
    entry[40] ^= 0xFF
    body = b"".join(encode_entry(e.kind, e.connection, e.attempt, e.seq, e.recv_ts, e.payload) for e in ENTRIES)
    damages: list[Damage] = []
    headers: list[SegmentHeader] = []

    path = place(tmp_path, zstandard.compress(bytes(entry) + body))
    entries = list(read_segment(path, on_damage=damages.append, on_header=headers.append))

    assert (entries, headers) == (ENTRIES, [])
    assert "header" in damages[0].reason


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no zstd frame"),
        (b"PAR1" + bytes(100), "no zstd frame"),
        (zstandard.compress(b'{"recv_ts_ns":1,"frame":"{}"}\n' * 50), "does not begin with a segment header"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path, data, problem):
    """
    In one line, with what to do, when somebody names it.
    """
    path = tmp_path / "capture.jsonl.zst"
    path.write_bytes(data)

    with pytest.raises(ForeignFile, match=problem):
        list(read_segment(path))


def test_a_segment_under_another_name_is_read(tmp_path):
    """
    A copy that somebody sent.
    """
    path = tmp_path / "copy.zst"
    path.write_bytes(WHOLE)

    assert read(path) == (ENTRIES, [])


@pytest.mark.parametrize("header", [msgspec.structs.replace(HEADER, format=2), None])
def test_a_newer_format_is_refused(tmp_path, header):
    """
    Reading it as ours would make wrong entries.
    """
    first = encode_header(header, seq=1, recv_ts=HOUR) if header else encode_entry(1, -1, 0, 1, HOUR, b'{"format":"b"}')

    with pytest.raises(ForeignFile, match="upgrade"):
        list(read_segment(place(tmp_path, zstandard.compress(first))))


def test_what_inflates_without_end_is_stopped(tmp_path):
    """
    A hostile file costs a bounded amount of memory.
    """
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(300 << 20))
    assert len(bomb) < 64 << 10

    entries, damages = read(place(tmp_path, bomb))

    assert entries == []
    assert "more content" in damages[0].reason


def test_a_window_larger_than_ours_is_damage(tmp_path):
    """
    It would make the reader reserve memory at the file's word.
    """
    params = zstandard.ZstdCompressionParameters(window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=params).compressobj()
    data = stream.compress(encode_header(HEADER, seq=1, recv_ts=HOUR)) + stream.flush()

    entries, damages = read(place(tmp_path, data))

    assert entries == []
    assert damages


# ---- a run


def test_a_listing_has_runs_and_segments_only(tmp_path):
    """
    Sorted by run, time and rewrites; locks, folders and files of other names are not segments.
    """
    journal = tmp_path / "journal"
    assert segments(journal) == []
    folder = run_folder(journal)
    other = run_folder(journal, run_name(HOUR - 1, "0a1b2c"))
    names = [
        segment_name(HOUR + 2),
        segment_name(HOUR + 1, 10),
        segment_name(HOUR + 1, 9),
        segment_name(HOUR + 3) + ".open",
    ]
    for name in [*names, "lock", "x.zst", segment_name(HOUR) + ".tmp"]:
        (folder / name).touch()
    (other / names[0]).touch()
    (journal / "start.lock").touch()
    (journal / "lost+found").mkdir()
    (journal / run_name(HOUR, "ffffff")).touch()

    found = segments(journal)

    assert [(s.run, s.name) for s in found] == [
        (other.name, names[0]),
        *((folder.name, name) for name in (names[2], names[1], names[0], names[3])),
    ]
    assert [s.open for s in found] == [False, False, False, False, True]


def test_a_segment_listed_under_both_names_is_one(tmp_path):
    """
    A listing made while it is renamed may show the old name and the new.
    """
    folder = run_folder(tmp_path)
    (folder / (segment_name(HOUR) + ".open")).touch()
    (folder / segment_name(HOUR)).touch()

    assert [s.name for s in segments(tmp_path)] == [segment_name(HOUR)]


def test_entries_of_two_segments_come_out_once(tmp_path):
    """
    Rewritten after a failed sync: the number tells that it is the same entry.
    """
    place(tmp_path, segment_bytes(ENTRIES[:10]), suffix=".open")
    place(tmp_path, segment_bytes(ENTRIES[6:]), start=ENTRIES[6].recv_ts)

    assert list(read_run(segments(tmp_path / "journal"))) == ENTRIES


def test_where_segments_overlap_the_whole_one_fills_the_damaged(tmp_path):
    """
    A failed sync can lose the middle of what it was given and keep the end: the rewritten copy has it.
    """
    kept = zstd_frame(ENTRIES[:8], header=HEADER) + zstd_frame(ENTRIES[16:20])
    place(tmp_path, kept, suffix=".open")
    place(tmp_path, segment_bytes(ENTRIES[8:]), start=ENTRIES[8].recv_ts)

    assert list(read_run(segments(tmp_path / "journal"))) == ENTRIES


@given(st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23)), max_size=6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_however_segments_overlap_each_entry_comes_out_once_in_order(tmp_path_factory, spans, still):
    """
    Whatever is in any of them is read, also where all bear the same time.
    """
    entries = [msgspec.structs.replace(e, recv_ts=HOUR) for e in ENTRIES] if still else ENTRIES
    folder = tmp_path_factory.mktemp("overlap")
    held: set[int] = set()
    for again, (one, other) in enumerate(sorted(tuple(sorted(span)) for span in spans)):
        part = entries[one : other + 1]
        held.update(e.seq for e in part)
        place(folder, segment_bytes(part), start=part[0].recv_ts, again=again)

    assert list(read_run(segments(folder / "journal"))) == [e for e in entries if e.seq in held]


def test_a_segment_that_is_finished_meanwhile_is_found(tmp_path):
    """
    The listing has its old name.
    """
    path = place(tmp_path, WHOLE, suffix=".open")
    found = segments(tmp_path / "journal")
    path.rename(path.with_name(path.name.removesuffix(".open")))

    assert list(read_run(found)) == ENTRIES


def test_a_segment_that_is_removed_meanwhile_is_skipped(tmp_path):
    """
    What was read stays, and what follows is read.
    """
    gone = place(tmp_path, segment_bytes(FIRST))
    place(tmp_path, segment_bytes(SECOND), start=SECOND[0].recv_ts)
    removed = place(tmp_path, segment_bytes(THIRD), start=THIRD[0].recv_ts)
    found = segments(tmp_path / "journal")
    gone.unlink()

    entries = read_run(found)
    assert next(entries) == SECOND[0]
    removed.unlink()
    assert list(entries) == SECOND[1:]


def test_what_is_committed_can_be_read_at_every_moment(tmp_path):
    """
    Another thread writes, rotates and renames: each reading gives a prefix, at least what was committed before it.
    """
    folder = run_folder(tmp_path)
    journal = Journal(
        folder,
        header=lambda: HEADER,
        settings=JournalSettings(commit_interval_s=0.002, segment_s=0.5, frame_s=0.1, commit_bytes=4000),
    )
    journal.start()
    done, was_read = threading.Event(), threading.Event()

    def write() -> None:
        for number in range(3000):
            journal.append(2, connection=0, attempt=1, recv_ts=HOUR + number * 1_000_000, payload=b"{}" * (number % 50))
            if number % 100 == 0:
                done.wait(0.01)
            if number % 600 == 0:
                was_read.clear()
                was_read.wait(20)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    readings = 0
    while not done.is_set():
        committed, _ = journal.committed
        damages: list[Damage] = []
        numbers = [e.seq for e in read_run(segments(tmp_path), on_damage=damages.append)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= committed
        assert damages == []
        readings += 1
        was_read.set()
    writer.join()
    assert journal.close(10)
    assert len(list(read_run(segments(tmp_path)))) == 3000
    assert readings > 3


# ---- windows and runs


def test_the_window_is_chosen_by_names():
    """
    Before, within and after; a segment reaches to the next one's start, and never past its hour.
    """
    found = listing(HOUR, HOUR + 60, HOUR + 120, HOUR + 180)

    def starts(start: int, end: int) -> list[int]:
        return [s.start - HOUR for s in in_window(found, HOUR + start, HOUR + end)]

    assert starts(0, 1) == [0]
    assert starts(59, 61) == [0, 60]
    assert starts(60, 120) == [0, 60]  # the first may end with an entry of that very instant
    assert starts(61, 120) == [60]
    assert starts(500, 600) == [180]
    assert starts(HOUR_NS, HOUR_NS + 1) == []
    assert starts(-10, 0) == []


def test_each_run_has_its_own_last_segment():
    """
    The next run's first segment says nothing about how far this one reaches.
    """
    found = listing(HOUR + 10) + listing(HOUR + 20, run=run_name(HOUR + 20_000, "0a1b2c"))

    assert in_window(found, HOUR + 1000, HOUR + 2000) == found


STEPS = st.lists(st.integers(0, 40 * SECOND_NS), min_size=1, max_size=60)


@given(
    STEPS,
    st.integers(0, HOUR_NS),
    st.integers(0, 300 * SECOND_NS),
    st.integers(-HOUR_NS, 2 * HOUR_NS),
    st.integers(1, HOUR_NS),
)
def test_no_segment_with_an_entry_of_the_window_is_left_out(steps, begin, segment_ns, start, span):
    """
    Whatever the times of entries, where segments end as the writer ends them: by age and at the hour.
    """
    now = HOUR + begin
    held: list[list[int]] = []
    for step in steps:
        now += step
        if not held or now - held[-1][0] >= segment_ns or now // HOUR_NS != held[-1][0] // HOUR_NS:
            held.append([])
        held[-1].append(now)
    found = listing(*(times[0] for times in held))
    window = range(HOUR + start, HOUR + start + span)

    chosen = in_window(found, window.start, window.stop)

    needed = [s for s, times in zip(found, held, strict=True) if any(at in window for at in times)]
    assert [s for s in found if s in chosen] == chosen
    assert set(needed) <= set(chosen)


def test_runs_are_merged_by_time_run_and_number(tmp_path):
    """
    Each (run, number) once, cut to the window; segments outside it are not opened.
    """
    runs = [run_name(HOUR + number * 1000, "0a1b2c") for number in range(3)]
    expected = []
    for at, run in enumerate(runs):
        entries = [
            Entry(EntryKind.FRAME, at, 1, number, HOUR + number * SECOND_NS * (at + 1), b"%d" % number, run)
            for number in range(1, 200)
        ]
        folder = run_folder(tmp_path, run)
        path = folder / segment_name(entries[0].recv_ts)
        header = msgspec.structs.replace(HEADER, run=run)
        path.write_bytes(segment_bytes(entries[:120], header=header))
        (folder / segment_name(entries[100].recv_ts)).write_bytes(segment_bytes(entries[100:], header=header))
        expected += entries
    outside = run_folder(tmp_path, runs[0]) / segment_name(HOUR + HOUR_NS)
    outside.write_bytes(b"would be damage")
    start, end = HOUR + 10 * SECOND_NS, HOUR + 150 * SECOND_NS
    damages: list[Damage] = []
    headers: list[SegmentHeader] = []

    merged = list(
        read_merged(segments(tmp_path), start=start, end=end, on_damage=damages.append, on_header=headers.append)
    )

    inside = [e for e in expected if start <= e.recv_ts < end]
    assert merged == sorted(inside, key=lambda e: (e.recv_ts, e.run, e.seq))
    assert damages == []
    assert {header.run for header in headers} == set(runs)


def test_one_run_merges_like_several(tmp_path):
    """
    And none like one that has nothing.
    """
    write_journal(run_folder(tmp_path), ENTRIES)

    assert list(read_merged(segments(tmp_path), start=HOUR, end=HOUR + HOUR_NS)) == ENTRIES
    assert list(read_merged([], start=HOUR, end=HOUR + HOUR_NS)) == []


def test_a_run_copied_under_another_name_gives_no_entry_and_is_told(tmp_path):
    """
    Its entries would otherwise come twice: the header says whose they are, the folder where they lie.
    """
    original = place(tmp_path, segment_bytes())
    folder = tmp_path / "journal" / run_name(HOUR, "ffffff")
    folder.mkdir()
    copy = folder / original.name
    copy.write_bytes(original.read_bytes())
    headers: list[SegmentHeader] = []
    damages: list[Damage] = []

    found = segments(tmp_path / "journal")
    merged = read_merged(found, start=HOUR, end=HOUR + HOUR_NS, on_damage=damages.append, on_header=headers.append)

    assert list(merged) == ENTRIES
    assert headers == [HEADER]
    assert damages == [Damage(copy, 0, f"is of run {RUN}, in the folder of another", foreign=True)]


@pytest.mark.parametrize("suffix", ["", ".open"])
def test_a_header_is_read_alone(tmp_path, suffix):
    """
    Also of a segment that is being written; and where there is none to be had, that is not an error.
    """
    whole = segment_bytes()
    path = place(tmp_path, whole, suffix=suffix)

    assert read_header(path) == HEADER
    path.write_bytes(whole[: len(whole) // 3])
    assert read_header(path) == HEADER
    for data in (b"", whole[:6], b"noise" * 100):
        path.write_bytes(data)
        assert read_header(path) is None
