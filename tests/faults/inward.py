"""
A recorder that tells what cannot be seen from outside: `python inward.py REPORT run CONFIG …`.

A thread appends a line each second to REPORT: seconds, asyncio tasks, objects the collector knows, entries of the
largest containers there are. It adds one thread and one descriptor to the process, always.
"""

import asyncio
import gc
import sys
import threading
import time
from pathlib import Path

from recorder.cli import main
from recorder.daemon import Recorder

INTERVAL_S = 1.0


def tell(report: Path, loop: asyncio.AbstractEventLoop) -> None:
    """
    For ever.
    """
    with report.open("a", buffering=1, encoding="ascii") as lines:
        began, looked = time.monotonic(), 0.0
        objects = 0
        while True:
            now = time.monotonic() - began
            if now - looked >= 30 or not looked:
                # Dear: it holds the interpreter for some milliseconds.
                looked, objects = now, len(gc.get_objects())
            lines.write(f"{now:.1f} {len(asyncio.all_tasks(loop))} {objects}\n")
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
