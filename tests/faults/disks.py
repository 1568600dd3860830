"""
Small file systems that a test may fill, break, and throw away. As root.
"""

import subprocess
import time
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


@contextmanager
def ext4(folder: Path, *, size: int, inodes: int = 0) -> Iterator[Path]:
    """
    One in an image of a size in bytes, with at least so many inodes.
    """
    image, point = folder / "image", folder / "disk"
    with image.open("wb") as file:
        file.truncate(size)
    counted = ["-N", str(inodes)] if inodes else []
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", *counted, image], check=True)
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    try:
        yield point
    finally:
        # Whoever was killed may be on it for a moment.
        for _ in range(50):
            if subprocess.run(["umount", point], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", point], check=True)
