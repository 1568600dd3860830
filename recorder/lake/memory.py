"""
Keeping the seal's memory small.

Its buffers grow and go by the hundred. glibc would serve them from a heap that big blocks have made porous, and keep
what is free; from a threshold that does not move on, big blocks come from the system and go back to it.
"""

import ctypes
import sys
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
"""Of `mallopt`, in glibc's `malloc.h`."""
_BLOCK_BYTES = 64 << 10


def return_big_blocks() -> None:
    """
    Let every freed block of 64 KiB or more go back to the system at once. Of effect with glibc only.
    """
    _call("mallopt", _M_MMAP_THRESHOLD, _BLOCK_BYTES)


def return_what_is_free() -> None:
    """
    Give back the small blocks as well, where whole pages of them are free. Of effect with glibc only.
    """
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another libc has neither
            getattr(ctypes.CDLL(None), name)(*arguments)
