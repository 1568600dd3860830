"""
Keeping the seal's memory small: its buffers grow and go by the hundred, and glibc keeps what was freed.
"""

import ctypes
import sys
from contextlib import suppress


def return_what_is_free() -> None:
    """
    Give free pages back to the system. Of effect with glibc only.
    """
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another libc has no such function
            ctypes.CDLL(None).malloc_trim(0)
