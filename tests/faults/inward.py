"""
A recorder that tells what cannot be seen from outside: `python inward.py REPORT run CONFIG …`.

A thread appends a line each second to REPORT: seconds, asyncio tasks, and of half a minute ago at most, objects the
collector knows, blocks that Python has allocated, and bytes that libraries have (zlib, zstd, TLS). What grows in
neither is in use by nobody. The thread adds itself and one descriptor to the process, always.
"""

import asyncio
import ctypes
import gc
import sys
import threading
import time
from pathlib import Path

from recorder.cli import main
from recorder.daemon import Recorder

INTERVAL_S = 1.0


class _Malloc(ctypes.Structure):
    """
    What glibc's `mallinfo2` tells.
    """

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def used_by_libraries() -> int:
    """
    Bytes that `malloc` has handed out: what is too large for Python's own allocator, and what is not Python's.
    """
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _Malloc
    told = mallinfo2()
    return int(told.uordblks + told.hblkhd)


def tell(report: Path, loop: asyncio.AbstractEventLoop) -> None:
    """
    For ever.
    """
    with report.open("a", buffering=1, encoding="ascii") as lines:
        began, looked = time.monotonic(), 0.0
        objects = blocks = used = 0
        while True:
            now = time.monotonic() - began
            if now - looked >= 30 or not looked:
                # Dear: it holds the interpreter for some milliseconds.
                looked, objects = now, len(gc.get_objects())
                blocks, used = sys.getallocatedblocks(), used_by_libraries()
            lines.write(f"{now:.1f} {len(asyncio.all_tasks(loop))} {objects} {blocks} {used}\n")
            time.sleep(INTERVAL_S)


def watched() -> None:
    """
    Run the command line with the thread beside it.
    """
    report = Path(sys.argv.pop(1))
    run = Recorder.run

    async def telling(self: Recorder) -> None:
        threading.Thread(target=tell, args=(report, asyncio.get_running_loop()), daemon=True).start()
        await run(self)

    Recorder.run = telling  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    watched()
