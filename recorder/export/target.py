"""
A file that is whole once it has its name: written beside it, compressed by its suffix, synced, renamed.
"""

import errno
import gzip
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from recorder import durable
from recorder.errors import RecorderError

STDOUT = Path("-")
_BROKEN_PIPE = f"(os error {errno.EPIPE})"
"""How polars says it, in an `OSError` without a number."""
HOLES_SUFFIX = ".holes.csv"


def holes_path(path: Path) -> Path:
    """
    Where the holes of an exported file are told: `sol.csv.gz` has `sol.csv.gz.holes.csv`.
    """
    return path.with_name(path.name + HOLES_SUFFIX)


@contextmanager
def written(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """
    A stream whose bytes are under `path` when the block ends well; after an error nothing is.

    Args:
        path: `.gz` and `.zst` compress; `-` is standard output, which is written as it comes.
        overwrite: replace what is there.

    Raises:
        BrokenPipeError: nobody reads standard output any more.
        RecorderError: there is something already, or no folder to write it to.
    """
    if path == STDOUT:
        try:
            yield sys.stdout.buffer
        except OSError as error:
            if error.errno is None and _BROKEN_PIPE in str(error):
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
            raise
        sys.stdout.buffer.flush()
        return
    if path.exists() and not overwrite:
        raise RecorderError(f"{path}: is there already; give --overwrite, or another --output")
    if not path.parent.is_dir():
        raise RecorderError(f"{path.parent}: is not a folder; make it, or give another --output")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            with _compressed(file, path.suffix) as stream:
                yield stream
            file.flush()
            durable.sync(file.fileno())
        durable.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _compressed(file: BinaryIO, suffix: str) -> Iterator[BinaryIO]:
    if suffix == ".gz":
        # Without name and time: the same rows give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as stream:
            yield cast("BinaryIO", stream)
    elif suffix == ".zst":
        packer = zstandard.ZstdCompressor(level=6, write_checksum=True)
        with (
            packer.stream_writer(file, closefd=False) as packed,
            io.BufferedWriter(cast("io.RawIOBase", packed), 1 << 20) as buffered,
        ):
            yield cast("BinaryIO", buffered)
    else:
        yield file
