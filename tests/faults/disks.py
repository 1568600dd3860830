"""
Small file systems that a test may fill, break, and throw away. As root.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def tmpfs(point: Path, *, size: str, inodes: int = 0) -> Iterator[Path]:
    """
    One in memory, of a size, with so many inodes.
    """
    point.mkdir()
    options = f"size={size}" + (f",nr_inodes={inodes}" if inodes else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)
