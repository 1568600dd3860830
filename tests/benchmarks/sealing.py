"""
The journal's bytes, the seal's speed and memory, and the bytes of a sealed book.

The seal runs in a process of its own, pinned to a core; its speed is frames by CPU second, without the start of Python.
The plain recorder's is the same way, from frames in memory to Parquet.

Run as a child of the suite: `sealing.py ROOT`.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as the verb `seal` does

from bench import Bench
from load import Frame, journal_bytes, wanted, write_journal
from processes import outcome, peak_mb
from table import Measured

from recorder.lake import manifest as manifests
from recorder.lake.layout import LAKE, MANIFEST
from recorder.lake.sealing import seal

SECONDS_A_DAY = 86_400


def journal(bench: Bench) -> list[Measured]:
    """
    Bytes on disk, committed as often as at live load.
    """
    markets = bench.sizes.markets
    frames = bench.frames(markets, bench.sizes.books)
    count, raw = len(frames), sum(len(payload) for _, payload in frames)
    with bench.room() as folder:
        bench.say("journal")
        write_journal(folder / "root", wanted(markets), frames, live=True)
        size = journal_bytes(folder / "root")
    return [
        Measured(
            "journal, a frame",
            [size / count / 1e3],
            note=f"{count:,} frames of {raw / count:,.0f} bytes: {raw / size:.1f} times smaller than they came",
        ),
        Measured(
            "journal, a day of all of Drift",
            [size * a_day(frames) / 1e9],
            note=f"{markets} markets, {count * a_day(frames) / SECONDS_A_DAY:.0f} frames/s; raw it would be "
            f"{raw * a_day(frames) / 1e9:.0f} GB",
        ),
    ]


def measure(bench: Bench) -> list[Measured]:
    """
    Speed and memory of the seal, and in turns with it the plain recorder's.
    """
    sizes = bench.sizes
    results: list[Measured] = []
    memory: list[Measured] = []
    for name, markets in ((96, sizes.markets), (100, sizes.large)):
        root = bench.sealable(markets, sizes.books)
        count = len(bench.frames(markets, sizes.books))
        speed = Measured(f"seal, {name} markets, one core")
        peak = Measured(f"seal, {name} markets, peak memory")
        for number in range(sizes.rounds):
            bench.say(f"seal, {name} markets: round {number + 1} of {sizes.rounds}")
            told = sealed(root)
            speed.ours.append(count / told["cpu_s"])
            peak.ours.append(told["peak_mb"])
            if markets == sizes.markets:
                told = plainly(bench, bench.frames_file(markets, sizes.books))
                speed.plain.append(count / told["cpu_s"])
                peak.plain.append(told["peak_mb"])
                speed.note = (
                    f"{count:,} frames; plain: decode and write, of which the write alone stands still for "
                    f"{told['write_s']:.1f} s"
                )
        results.append(speed)
        memory.append(peak)
    return results + memory


def a_day(frames: list[Frame]) -> float:
    """
    How many times a day is as long as these frames took.
    """
    return SECONDS_A_DAY / ((frames[-1][0] - frames[0][0]) / 1e9)


def sealed(root: Path) -> dict[str, Any]:
    """
    Seal a root anew in a child.
    """
    for folder in (root / MANIFEST, root / LAKE):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    return outcome("sealing.py", root)


def plainly(bench: Bench, frames: Path) -> dict[str, Any]:
    """
    The plain recorder's Parquet of the same frames.
    """
    with bench.room() as folder:
        return outcome("plain.py", "write", frames, folder)


def main() -> None:
    """
    Seal what is due, as a child of the suite.
    """
    root = Path(sys.argv[1])
    begun = time.process_time()
    hours = [sealed.hour for sealed in seal(root)]
    spent_s = time.process_time() - begun
    files = [file for hour in hours if (made := manifests.read(root, hour)) for file in made.files]
    books = [file for file in files if file.table == "books"]
    told = {
        "cpu_s": spent_s,
        "peak_mb": peak_mb(),
        "files": len(files),
        "bytes": sum(file.bytes for file in files),
        "books": sum(file.rows for file in books),
        "bytes_a_book": sum(file.bytes for file in books) / sum(file.rows for file in books),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
