"""
Parquet drafts and reading back: nothing damaged or foreign passes for a file of ours.
"""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake_cases import HOUR
from recorder.errors import DamagedFile, SealFailed
from recorder.lake import parquet
from recorder.lake.columns import rows_table
from recorder.lake.layout import partition
from recorder.lake.parquet import Draft, bounds, describe, first_line, read_back
from recorder.lake.schema import TABLES

TABLE = TABLES["undecodable"]


def rows(count: int, first: int = 0) -> pa.Table:
    """
    Rows of `undecodable`.
    """
    return rows_table(
        TABLE,
        [
            {"recv_ts": HOUR + n, "run": "r", "seq": n, "connection": 0, "attempt": 1, "kind": "unknown",
             "reason": "why", "payload": b"%d" % n * 50}
            for n in range(first, first + count)
        ],
    )  # fmt: skip


def draft(root) -> Draft:
    """
    A new one.
    """
    return Draft(root, partition("undecodable", HOUR), TABLE, hour=HOUR, metadata={"venue": "test"})


def written(root):
    """
    A finished and published file.
    """
    made = draft(root)
    made.write(rows(10))
    made.write(rows(5, first=10))
    file = made.finish(None)
    made.publish()
    return root / made.path, file


def test_a_draft_becomes_a_file_by_its_rename(tmp_path):
    """
    Nothing stands under the final name before; then it says what was written.
    """
    made = draft(tmp_path)
    made.write(rows(10))
    made.write(rows(0))
    made.write(rows(5, first=10))
    target = tmp_path / made.path
    file = made.finish(None)

    assert not target.exists()
    made.publish()
    made.discard()

    assert (file.rows, file.bytes) == (15, target.stat().st_size)
    assert (file.first_recv_ts, file.last_recv_ts) == (HOUR, HOUR + 14) == bounds(target)
    assert read_back(target, sha256=file.sha256) == (file.sha256, file.bytes, 15)
    assert [path.name for path in target.parent.iterdir()] == ["undecodable.parquet"]
    about = describe(target)
    assert (about["rows"], about["row_groups"]) == (15, 2)
    assert about["metadata"]["venue"] == "test"
    assert about["metadata"]["hour"] == "2025-03-01T10"


def test_no_rows_make_no_file(tmp_path):
    """
    And a draft that is given up leaves nothing.
    """
    empty, given_up = draft(tmp_path), draft(tmp_path)
    given_up.write(rows(3))

    assert empty.finish(None) is None
    given_up.discard()

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_every_flipped_bit_shows_when_the_digest_is_known(tmp_path):
    """
    The file is compared before the Parquet reader, which trusts it, gets to see it.
    """
    path, file = written(tmp_path)
    data = path.read_bytes()
    for offset in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << offset % 8
        path.write_bytes(bytes(damaged))
        with pytest.raises(DamagedFile, match="SHA-256"):
            read_back(path, sha256=file.sha256)


def test_damage_to_a_page_shows_without_a_digest(tmp_path):
    """
    By the checksum of the page.
    """
    path, _ = written(tmp_path)
    column = pq.ParquetFile(path).metadata.row_group(0).column(TABLE.schema.get_field_index("payload"))
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 5] ^= 1
    path.write_bytes(bytes(data))

    with pytest.raises(DamagedFile, match="cannot be read as Parquet"):
        read_back(path)


@pytest.mark.parametrize("keep", [0, 3, 4, 100, -1, -8, -9])
def test_a_cut_file_is_damaged(tmp_path, keep):
    """
    Wherever it was cut.
    """
    path, _ = written(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])

    for read in (read_back, describe, bounds):
        with pytest.raises(DamagedFile, match=r"undecodable\.parquet: .*as Parquet"):
            read(path)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1PAR1", b"a,b\n1,2\n", b"\x28\xb5\x2f\xfd" * 10, b"PAR1" + b"\xff" * 99]
)
def test_what_is_not_parquet_is_damaged(tmp_path, content):
    """
    Not a traceback of the library.
    """
    path = tmp_path / "books.parquet"
    path.write_bytes(content)

    for read in (read_back, describe, bounds):
        with pytest.raises(DamagedFile):
            read(path)


def test_a_parquet_file_of_somebody_else_is_described_as_far_as_it_goes(tmp_path):
    """
    It is readable, and says nothing of us.
    """
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1, 2]}), path)

    assert describe(path)["metadata"] == {}
    assert describe(path)["columns"] == [("a", "int64")]
    with pytest.raises(DamagedFile):
        bounds(path)


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    """
    Missing is another thing to do.
    """
    for read in (read_back, describe):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "books.parquet")


def test_a_disk_that_gives_back_other_rows_fails_the_draft(tmp_path, monkeypatch):
    """
    What is read back is compared with what was written, not trusted.
    """
    made = draft(tmp_path)
    made.write(rows(10))
    monkeypatch.setattr(parquet, "read_back", lambda path, sha256: (sha256, 1, 9))

    with pytest.raises(SealFailed, match="9 rows read back of 10 written"):
        made.finish(None)


def test_a_disk_that_gives_back_damage_fails_the_draft(tmp_path, monkeypatch):
    """
    Its bytes are summed on the way to the disk and on the way back.
    """
    made = draft(tmp_path)
    made.write(rows(10))
    drop = parquet.durable.drop_cache

    def rot(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1  # in no page: a checksum of pages would not show it
        path.write_bytes(bytes(data))
        drop(path)

    monkeypatch.setattr(parquet.durable, "drop_cache", rot)

    with pytest.raises(SealFailed):
        made.finish(None)


def test_only_the_first_line_of_a_librarys_error_is_kept():
    """
    Some have many, and none may be empty.
    """
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
