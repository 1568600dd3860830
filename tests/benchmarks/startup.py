"""
From the start of the process to the first committed entry, with nothing on disk, with a day of journal, and with a day
of journal that is damaged everywhere.

The day is real journal under real names: a segment a minute, 1,440 of them, each with some frames. A start reads names
only, so their size should not matter; `--start-frames 16000` makes it the ten gigabytes of all of Drift, and takes
minutes to write. Its hours are sealed by a child while the recorder already records.
"""

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from random import Random
from shutil import copytree

from bench import Bench
from load import HOUR, WIRE_NS, Frame, journal_bytes, recorder_config, wanted, write_journal
from processes import CLIENT_CORE, HERE, child
from table import Measured

from recorder.lake.layout import JOURNAL
from recorder.records import SECOND_NS

NOBODY = "ws://127.0.0.1:9/ws"
"""The discard port, where nothing listens: being ready does not wait for the venue."""
READY_TIMEOUT_S = 60.0


def measure(bench: Bench) -> list[Measured]:
    """
    Both in turns; the plain recorder, which keeps no journal, needs its imports.
    """
    sizes = bench.sizes
    empty = Measured("ready to record, empty root")
    full = Measured("ready to record, a day of journal on disk")
    broken = Measured("ready to record, a day of damaged journal on disk")
    with bench.room() as folder:
        day = folder / "day"
        bench.say("a day of journal")
        frames = _day(bench.frames(sizes.markets, sizes.books), sizes.start_minutes, sizes.start_frames)
        write_journal(day, wanted(sizes.markets), frames)
        segments = sum(1 for _ in (day / JOURNAL).rglob("*.zst"))
        full.note = f"{segments:,} segments with {journal_bytes(day) / 1e6:,.1f} MB in all, none of it sealed"
        damaged = folder / "damaged"
        copytree(day, damaged)
        broken.note = f"{_damage(damaged):,} segments, each of them damaged: noise, zeros, cut off, or nothing at all"
        # Not measured: in a fresh checkout the first ones compile what they import, which an installation has done.
        _ready_s(folder, folder / "first", sizes.markets)
        with child(HERE / "plain.py", "ready", core=CLIENT_CORE) as plain:
            plain.line("")
        for number in range(sizes.rounds):
            bench.say(f"start: round {number + 1} of {sizes.rounds}")
            fresh = folder / f"empty-{number}"
            empty.ours.append(_ready_s(folder, fresh, sizes.markets))
            full.ours.append(_ready_s(folder, day, sizes.markets))
            broken.ours.append(_ready_s(folder, damaged, sizes.markets))
            with child(HERE / "plain.py", "ready", core=CLIENT_CORE) as plain:
                told = json.loads(plain.line(""))
                empty.plain.append((told["ready_ns"] - plain.started_ns) / 1e9)
    return [empty, full, broken]


def _day(frames: list[Frame], minutes: int, a_minute: int) -> Iterator[Frame]:
    """
    The time up to the hour, so many frames each minute.
    """
    payloads = cycle(payload for _, payload in frames)
    for minute in range(minutes):
        begin = HOUR - (minutes - minute) * 60 * SECOND_NS
        for number in range(a_minute):
            # From the first moment on, so that each segment begins with its minute.
            yield begin + WIRE_NS + number * (59 * SECOND_NS // a_minute), next(payloads)


def _damage(root: Path) -> int:
    """
    Every segment, each in one of four ways; how many.
    """
    chance = Random(11)
    found = sorted((root / JOURNAL).rglob("*.zst"))
    for number, path in enumerate(found):
        whole = path.read_bytes()
        noise = bytes(byte ^ chance.randrange(1, 256) if chance.random() < 0.01 else byte for byte in whole[:20_000])
        path.write_bytes((noise, bytes(len(whole)), whole[: len(whole) // 2], b"")[number % 4])
    return len(found)


def _ready_s(folder: Path, root: Path, markets: int) -> float:
    config, report = folder / "config.toml", folder / "report"
    config.write_text(recorder_config(root, NOBODY, markets=markets, seal=True), encoding="utf-8")
    with child(HERE / "probe.py", report, "run", config, core=CLIENT_CORE) as recorder:
        first_ns = int(recorder.line("first commit", READY_TIMEOUT_S).split()[-1])
        recorder.stop()
        return (first_ns - recorder.started_ns) / 1e9
