"""
Following a journal while it is written: everything committed comes, once, in order, whatever happens to the files.
"""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal_cases import HEADER, HOUR, SOL, TRADES, entries_of, golden_entries, run_folder, write_journal
from recorder.journal.tail import Tail
from recorder.journal.writer import Journal, JournalSettings
from recorder.records import SECOND_NS, EntryKind


def everything(tail):
    """
    All there is now.
    """
    found = []
    while fresh := tail.take():
        found += fresh
    return found


@pytest.fixture(autouse=True)
def closed(monkeypatch):
    """
    Whatever tails a test makes let go of their files at its end.
    """
    made, begin = [], Tail.__init__

    def noting(self, folder, *, since):
        begin(self, folder, since=since)
        made.append(self)

    monkeypatch.setattr(Tail, "__init__", noting)
    yield
    for tail in made:
        tail.close()


@pytest.fixture
def journal(tmp_path):
    """
    One that is being written, with small segments, and `commit` that waits until all is on disk.
    """
    folder = run_folder(tmp_path)
    written = Journal(
        folder, header=lambda: HEADER, settings=JournalSettings(commit_interval_s=0.005, segment_s=10, frame_s=1)
    )
    written.start()
    written.folder = folder
    yield written
    written.close(10)


def append(journal, seconds, payload=b"x" * 300):
    """
    One entry, committed when this returns.
    """
    seq = journal.append(
        EntryKind.FRAME, connection=0, attempt=1, recv_ts=HOUR + round(seconds * SECOND_NS), payload=payload
    )
    while journal.committed[0] < seq:
        os.sched_yield()
    return seq


def test_what_is_committed_comes_at_once_and_once(journal):
    """
    Over the ends of zstd frames and segments, while the writer goes on.
    """
    tail, heard = Tail(journal.folder, since=HOUR), []
    for number in range(60):
        seq = append(journal, number * 0.7, os.urandom(200))
        fresh = tail.take()
        assert [entry.seq for entry in fresh] == [seq]
        heard += fresh

    assert heard == entries_of(journal.folder)
    assert tail.take() == []
    assert tail.header.streams == [SOL, TRADES]
    assert len(list(journal.folder.iterdir())) > 3


def test_a_tail_that_comes_late_begins_where_it_is_told(journal):
    """
    Older segments are not read: whoever looks wants to know what is now.
    """
    for number in range(60):
        append(journal, number)

    late = everything(Tail(journal.folder, since=HOUR + 45 * SECOND_NS))

    assert late[0].seq > 30
    assert late[-1].seq == 60
    assert [entry.seq for entry in late] == list(range(late[0].seq, 61))


def test_a_run_that_has_not_begun_brings_nothing(tmp_path):
    """
    Its folder may be there before its first commit, or gone.
    """
    assert Tail(run_folder(tmp_path), since=0).take() == []
    assert Tail(tmp_path / "20261007T075900.000000Z-ffffff", since=0).take() == []


def test_entries_that_stand_in_two_segments_come_once(journal):
    """
    A failed sync ends a segment, and what it held is written again to the next.
    """
    for number in range(5):
        append(journal, number)
    journal._segment.abandon()
    again = entries_of(journal.folder)[-2:]
    tail = Tail(journal.folder, since=HOUR)
    first = everything(tail)
    journal._queue.extend((e.kind, e.connection, e.attempt, e.seq, e.recv_ts, e.payload) for e in again)
    append(journal, 6)

    assert [entry.seq for entry in first] == [1, 2, 3, 4, 5]
    assert [entry.seq for entry in everything(tail)] == [6]


def test_a_segment_removed_while_it_is_read_is_read_to_its_end(journal):
    """
    Retention may be at work; the tail goes on with the next.
    """
    for number in range(8):
        append(journal, number)
    tail = Tail(journal.folder, since=HOUR)
    first = tail.take()
    for path in journal.folder.iterdir():
        path.unlink()
    append(journal, 8.5)
    append(journal, 12)

    assert len(first) == 8
    assert [entry.seq for entry in everything(tail)][-1] == 10


def test_damage_costs_what_it_hit(tmp_path):
    """
    Reading goes on at the next zstd frame, as the reader of whole segments does.
    """
    folder = run_folder(tmp_path)
    entries = golden_entries()
    (segment,) = write_journal(folder, entries, JournalSettings(frame_s=0.3))
    data = bytearray(segment.path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = os.urandom(8)
    segment.path.write_bytes(data)

    heard = everything(Tail(folder, since=0))

    assert 0 < len(heard) < len(entries)
    assert heard[-1].seq == entries[-1].seq
    assert [entry for entry in entries if entry.seq in {h.seq for h in heard}] == heard


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 4000), min_size=1, max_size=12))
def test_any_pieces_give_the_same_entries(tmp_path_factory, cuts):
    """
    Whatever a look catches of what is being written, no entry is lost or comes in half.
    """
    folder = run_folder(tmp_path_factory.mktemp("whole"))
    (segment,) = write_journal(folder, golden_entries(), JournalSettings(frame_s=0.3))
    data = segment.path.read_bytes()
    growing = run_folder(tmp_path_factory.mktemp("growing"))
    path, heard, end = growing / f"{segment.name}.open", [], 0
    tail = Tail(growing, since=0)
    for cut in [*cuts, len(data)]:
        end = min(end + cut, len(data))
        path.write_bytes(data[:end])
        heard += everything(tail)
    tail.close()

    assert heard == entries_of(folder)


def test_a_file_without_end_is_taken_in_pieces(tmp_path, monkeypatch):
    """
    A long past takes several calls, each with something, and not the memory of the whole.
    """
    folder = run_folder(tmp_path)
    write_journal(folder, golden_entries())
    monkeypatch.setattr("recorder.journal.tail._MOST_BYTES", 2000)
    monkeypatch.setattr("recorder.journal.tail._CHUNK", 1000)
    tail = Tail(folder, since=0)

    first = tail.take()
    rest = everything(tail)

    assert first
    assert rest
    assert first + rest == entries_of(folder)
