"""
An exported file is whole or not there.
"""

import gzip
import io

import pytest
import zstandard

from recorder.errors import RecorderError
from recorder.export.target import written


def inflated(path):
    """
    What is in a file, by its suffix.
    """
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes())).read()
    return path.read_bytes()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst"])
def test_what_was_written_is_there_compressed_by_its_suffix(tmp_path, name):
    """
    The same bytes each time, and nothing beside them.
    """
    for other in ("1", "2"):
        (tmp_path / other).mkdir()
        with written(tmp_path / other / name) as to:
            to.write(b"x" * 3_000_000)
            assert not (tmp_path / other / name).exists()

    assert inflated(tmp_path / "1" / name) == b"x" * 3_000_000
    assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert [path.name for path in (tmp_path / "1").iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst"])
def test_after_an_error_there_is_nothing(tmp_path, name):
    """
    Not under its name, and no leftover; what was there before stays.
    """
    (tmp_path / name).write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), written(tmp_path / name, overwrite=True) as to:
        to.write(b"half" * (1 // 0))

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"before"


def test_nothing_is_replaced_unasked(tmp_path):
    """
    A day's export is not lost to a second one.
    """
    (tmp_path / "a").write_bytes(b"before")
    with pytest.raises(RecorderError, match="--overwrite"), written(tmp_path / "a"):
        pass
