"""
A start among thousands of damaged segments: nothing of them is read before recording begins, nor after it.
"""

import random
import signal

from children import Bench

from lake_cases import make_root
from recorder.journal.names import run_name, segment_name
from recorder.records import HOUR_NS, SECOND_NS, RunStarted

RUNS, SEGMENTS = 30, 100

WATCHED = """
import sys

log = open(sys.argv.pop(1), "w", buffering=1)

def opened(event, arguments):
    if event == "open" and ".zst" in str(arguments[0]):
        log.write(f"{arguments[0]}\\n")

sys.addaudithook(opened)
from recorder.cli import main
main()
"""
"""A recorder that notes each journal file it opens."""


def damaged_journal(root):
    """
    Of thirty runs: noise, zeros, nothing, what looks like a zstd frame and is none; the last one of each left open.
    """
    chance = random.Random(11)
    for run in range(RUNS):
        start = 1_780_000_000 * SECOND_NS + run * 2 * HOUR_NS
        folder = root / "journal" / run_name(start, f"{run:06x}")
        folder.mkdir(parents=True)
        for number in range(SEGMENTS):
            name = segment_name(start + number * 30 * SECOND_NS) + (".open" if number == SEGMENTS - 1 else "")
            data = (chance.randbytes(200), bytes(200), b"", b"\x28\xb5\x2f\xfd" + chance.randbytes(100))[number % 4]
            (folder / name).write_bytes(data)


def test_a_start_opens_none_of_thousands_of_damaged_segments(tmp_path):
    """
    It looks at names and locks of runs alone, so that it takes as long as on an empty root (see the benchmark
    `start`); and it records.
    """
    bench = Bench(tmp_path)
    try:
        damaged_journal(make_root(bench.root))
        config = bench.config()
        config.write_text(config.read_text(encoding="utf-8").replace('"loopback"', '"test"'), encoding="utf-8")
        recorder = bench.recorder(config, program=["-c", WATCHED, tmp_path / "opened"])
        bench.recording(recorder, than=0)
        recorder.signal(signal.SIGTERM)
        assert recorder.wait(30) == 0, recorder.said
    finally:
        bench.close()

    opened = (tmp_path / "opened").read_text(encoding="utf-8").split()
    (started,) = bench.facts(RunStarted)
    assert {path.split("/")[-2] for path in opened} == {started.run}
