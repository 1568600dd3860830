"""
What a `kill -9` costs, and what a power cut at the same moment would have: the real thing, many times over.

`python tests/benchmarks/killing.py [--kills 60] [--seed N]`. Two children are killed at random moments, in turns:

* a *writer*: journal and live monitor as they are, without a socket, told a book of all of Drift each 4 ms. It notes in
  memory that it shares with us when each frame came, and up to which one the journal said *committed*. After the kill
  all of the journal is read. Lost is what came and cannot be read. What was not committed a power cut just then could
  have cost; a kill does not, for the kernel keeps what a process has written.
* the *program*: `run` beside `simulate`, over a socket. Lost is what the venue's ledger says was sent before the kill,
  and no journal has: what was in the process, in its sockets and on the way.

Each figure is the time from the first frame that was lost to the kill, 0 if none was.
"""

import argparse
import hashlib
import mmap
import os
import random
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from load import NETWORK, heard, wanted

from recorder.capture.tape import Tape, TapeSettings
from recorder.journal.reader import read_merged, segments
from recorder.journal.writer import JournalSettings
from recorder.lake.layout import JOURNAL
from recorder.records import SECOND_NS, Connected, Entry, EntryKind, QualitySettings, Requested
from recorder.simulator.ledger import read_ledger
from recorder.venue.markets import market_list

MARKETS = 96
EVERY_NS = 400_000_000 // MARKETS
"""A book of each market each 400 ms, evenly: a burst would make it chance what a kill meets."""
LIVES_S = (0.3, 1.5)
"""A child is killed so long after its first frame, at random."""
_COUNTS = struct.Struct("<qq")
_TIMES = struct.Struct("<q")
_MOST = 100_000
CONFIG = """
[venue]
name = "loopback"
url = "{url}"
network = "mainnet-beta"
[markets]
perp = ["SOL-PERP", "BTC-PERP"]
[storage]
root = "{root}"
[seal]
enabled = false
[metrics]
listen = ""
"""


def write(root: Path, shared: Path) -> None:
    """
    The writer: for ever.
    """
    with shared.open("r+b") as file:
        told = mmap.mmap(file.fileno(), 0)
    streams = wanted(MARKETS)
    settings = TapeSettings(root, "bench", NETWORK, ["ws://x/ws"], streams, QualitySettings(), JournalSettings())
    listed = market_list(NETWORK)
    tape = Tape(settings, listed=listed, pid=1, beside=[], on_event=lambda _: None, on_opening=lambda _: None)
    tape.fact(Connected("ws://x/ws", 1, 1.0, compressed=True), connection=0, attempt=1)
    for stream in streams:
        tape.fact(Requested(stream), connection=0, attempt=1)
    frames = [text for _, text in heard(MARKETS, books=2000)]
    begun = time.monotonic_ns()
    for number in range(_MOST):
        while (now := time.monotonic_ns()) < begun + number * EVERY_NS:
            _COUNTS.pack_into(told, 0, number, tape.journal.committed[0])
            time.sleep(0.0005)
        _TIMES.pack_into(told, _COUNTS.size + (tape.journal.appended + 1) * _TIMES.size, now)
        tape.frame(0, 1, frames[number % len(frames)])
        _COUNTS.pack_into(told, 0, number + 1, tape.journal.committed[0])
        if number % 240 == 0:
            tape.alive()


def entries(root: Path) -> list[Entry]:
    """
    All that a journal holds.
    """
    return list(read_merged(segments(root), start=0, end=1 << 62))


def killed(child: subprocess.Popen[bytes]) -> tuple[int, int]:
    """
    The instants (monotonic and wall, ns) just before it was.
    """
    at = time.monotonic_ns(), time.time_ns()
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    return at


def writer(folder: Path, chance: random.Random) -> tuple[int, int]:
    """
    Kill one; ns from the first frame to the kill of those that were lost, and of those not committed.
    """
    root, shared = folder / JOURNAL, folder / "shared"
    root.mkdir(parents=True)
    shared.write_bytes(bytes(_COUNTS.size + (_MOST + 1000) * _TIMES.size))
    child = subprocess.Popen([sys.executable, __file__, "--write", str(root), "--shared", str(shared)])
    while _COUNTS.unpack_from(shared.read_bytes())[0] == 0:
        assert child.poll() is None, "the writer ended"
        time.sleep(0.01)
    time.sleep(chance.uniform(*LIVES_S))
    kill, _ = killed(child)

    told = shared.read_bytes()
    _, committed = _COUNTS.unpack_from(told)
    came = {
        seq: at
        for seq, (at,) in enumerate(_TIMES.iter_unpack(told[_COUNTS.size :]))
        if at  # facts have no time
    }
    there = {entry.seq for entry in entries(root)}
    assert all(seq in there for seq in range(1, committed + 1)), "committed, and lost"
    lost = min((at for seq, at in came.items() if seq not in there), default=kill)
    unsafe = min((at for seq, at in came.items() if seq > committed), default=kill)
    return kill - lost, kill - unsafe


class Program:
    """
    `run` beside `simulate`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.root, self._ledger, self._config = folder / "root", folder / "ledger", folder / "config.toml"
        self._log = (folder / "log").open("wb")
        self._venue = subprocess.Popen(
            [sys.executable, "-m", "recorder", "simulate", "--port", "0", "--tick-ms", "20", "--ledger", self._ledger],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._venue.stdout is not None
        url = self._venue.stdout.readline().split()[-1]
        self._config.write_text(CONFIG.format(url=url, root=self.root), encoding="utf-8")
        self._lives: list[tuple[int, int]] = []
        """Wall times, ns: what the venue sent between them was sent to that one."""

    def kill_one(self, chance: random.Random) -> None:
        """
        Start a recorder, and kill it.
        """
        before = {segment.run for segment in segments(self.root / JOURNAL)}
        command = [sys.executable, "-m", "recorder", "run", str(self._config)]
        born = time.time_ns()
        child = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        while not any(segment.run not in before for segment in segments(self.root / JOURNAL)):
            assert child.poll() is None, self._log.name
            time.sleep(0.01)
        time.sleep(chance.uniform(*LIVES_S))
        self._lives.append((born, killed(child)[1]))

    def costs(self) -> list[int]:
        """
        Of each kill: ns from when the first frame was sent that is lost.
        """
        self._venue.send_signal(signal.SIGTERM)
        self._venue.wait(30)
        self._log.close()
        there = Counter(
            hashlib.sha256(entry.payload).hexdigest()[:16]
            for entry in entries(self.root / JOURNAL)
            if entry.kind == EntryKind.FRAME
        )
        lost = []
        for line in read_ledger(self._ledger):
            if line.what == "sent" and line.sha is not None:
                if not there[line.sha]:
                    lost.append(line.t_ns)
                there[line.sha] -= bool(there[line.sha])
        return [kill - min((at for at in lost if born < at < kill), default=kill) for born, kill in self._lives]


def told(what: str, costs: list[int]) -> str:
    """
    A line of it.
    """
    ms = sorted(cost / 1e6 for cost in costs)
    return (
        f"{what:<44} median {statistics.median(ms):6.1f} ms   nine of ten {ms[int(len(ms) * 0.9)]:6.1f} ms   "
        f"worst {ms[-1]:6.1f} ms   of {len(ms)}"
    )


def main() -> None:
    """
    Measure, or be the writer that is killed.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--shared", type=Path)
    options = parser.parse_args()
    if options.write is not None:
        write(options.write, options.shared)
        return
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = Program(folder / "program")
        pairs = []
        for number in range(options.kills):
            pairs.append(writer(folder / str(number), chance))
            program.kill_one(chance)
        costs = program.costs()
    load = os.getloadavg()[0]
    print(f"seed {options.seed}; one frame each {EVERY_NS / SECOND_NS * 1e3:.1f} ms; load of the machine {load:.1f}")
    print(told("killed, the writer: from receipt", [lost for lost, _ in pairs]))
    print(told("not committed, at the same moments", [unsafe for _, unsafe in pairs]))
    print(told("killed, the program: from the venue's send", costs))


if __name__ == "__main__":
    main()
