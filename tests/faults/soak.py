"""
Everything at once, from one seed: `python tests/faults/soak.py --minutes 30 [--seed N] [--keep FOLDER]`.

Two recorders share a root. One lives through all of it, and is watched: memory, descriptors, threads, tasks. The other
is killed, stopped, and replaced beside itself. Each has a proxy of its own to the venue, which
turns black hole, deaf, slow, dripping, resetting or silent; the venue itself restarts, drops everybody and keeps
markets silent; both are paused; both cores are hogged; seals are killed; the disk (a small tmpfs, if root) fills up.

At the end all is sealed and held against the venue's ledger: whatever was published is in the lake once, or inside an
event that says so. What is left over is unexplained, and there must be none.
"""

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from children import Bench, Child, descriptors, memory_kb, slope_mb_h, threads
from peers import Loop, Proxy, Toxic

from recorder.lake.verify import verify
from recorder.records import SECOND_NS

HERE = Path(__file__).resolve().parent
WARM_UP = 1 / 3
DISK_BYTES = 192 << 20
TOXICS: tuple[Toxic, ...] = ("hole", "deaf", "reset", "close", "drip", "slow", "accept")
CONFIG = "[capture]\nreconnect_max_s = 5\n"
"""The cap is lower than the default, so that a soak of minutes meets faults rather than waits."""


@contextlib.contextmanager
def small_disk(folder: Path, *, keep: bool) -> Iterator[bool]:
    """
    A tmpfs for the root, if we may mount; whether it is one. What is to be kept lies in the folder afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "soak", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        copy = folder.with_name(f"{folder.name}.kept")
        if keep:
            shutil.copytree(folder, copy)
        subprocess.run(["umount", "-l", str(folder)], check=False)
        if keep:
            folder.rmdir()
            copy.rename(folder)


def venue_faults(chance: random.Random, seconds: float, path: Path) -> Path:
    """
    What the venue itself does, as a file of faults.
    """
    lines: list[str] = []
    at = 10.0
    while at < seconds - 20:
        kind = chance.choice(("drop", "restart", "silence", "stop_heartbeats"))
        if kind == "drop":
            lines += ["[[fault]]", 'kind = "drop"', f"at_s = {at:.1f}"]
        else:
            until = at + chance.uniform(2, 14)
            lines += ["[[fault]]", f'kind = "{kind}"', f"from_s = {at:.1f}", f"to_s = {until:.1f}"]
            if kind == "silence":
                lines.append('market = "BTC-PERP"')
        at += chance.uniform(25, 70)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class Soak:
    """
    One run of it.
    """

    def __init__(
        self, bench: Bench, loop: Loop, chance: random.Random, *, tmpfs: bool, pace_s: tuple[float, float]
    ) -> None:
        self._pace_s = pace_s
        self._bench, self._chance, self._tmpfs = bench, chance, tmpfs
        self.done: Counter[str] = Counter()
        self.slowest_stop_s = 0.0
        self.strange: list[str] = []
        """What should not have happened, beside what the account tells."""
        self.samples: list[tuple[float, float, int, int]] = []
        """(s, MB, descriptors, threads) of the steady one."""
        self._proxies = [Proxy(loop, bench.port), Proxy(loop, bench.port)]
        self._healing: list[tuple[float, Proxy]] = []
        self.report = bench.folder / "inward"
        configs = [bench.config(f"c{n}", url=proxy.url, extra=CONFIG) for n, proxy in enumerate(self._proxies)]
        self.steady = bench.recorder(configs[0], name="steady", program=[HERE / "inward.py", self.report])
        bench.recording(self.steady)
        self._config = configs[1]
        self.other = self._start()
        self.began = time.monotonic()

    def _start(self) -> Child:
        return self._bench.recorder(self._config, "--beside", name="other")

    def run(self, seconds: float) -> None:
        """
        A fault every few seconds.
        """
        next_fault = self.began + 5
        while (now := time.monotonic()) < self.began + seconds:
            if now >= next_fault:
                next_fault = now + self._chance.uniform(*self._pace_s)
                name = self._chance.choice(FAULTS)
                self.done[name] += 1
                getattr(self, name)()
            for due in [each for each in self._healing if each[0] <= now]:
                self._healing.remove(due)
                due[1].set("pass")
            assert self.steady.alive, f"the steady recorder died: {self.steady.said[-3000:]}"
            if not self.other.alive:
                # Started into a full disk it ends at once; a service manager would start it again, too.
                self.done["other ended by itself"] += 1
                self.other = self._start()
            self._sample()
            time.sleep(0.5)

    def _sample(self) -> None:
        at = time.monotonic() - self.began
        if not self.samples or at - self.samples[-1][0] >= 5:
            pid = self.steady.pid
            self.samples.append((at, memory_kb(pid) * 1024 / 1e6, descriptors(pid), threads(pid)))
            with (self._bench.folder / "samples").open("a", encoding="ascii") as file:
                file.write(" ".join(map(str, self.samples[-1])) + "\n")

    # ---- faults

    def network(self) -> None:
        """
        One way turns bad for a while, or both at once.
        """
        chosen = self._proxies if self._chance.random() < 0.3 else [self._chance.choice(self._proxies)]
        until = time.monotonic() + self._chance.uniform(1, 20)
        for proxy in chosen:
            toxic = self._chance.choice(TOXICS)
            self.done[toxic] += 1
            proxy.set(toxic)
            self._healing.append((until, proxy))

    def kill(self) -> None:
        """
        SIGKILL; started again at once or after a while.
        """
        self.other.kill()
        time.sleep(self._chance.uniform(0, 2))
        self.other = self._start()

    def _ended(self, child: Child) -> int:
        """
        Asked to end; how it did. How long that took is told: on a busy machine it may be more than five seconds.
        """
        began = time.monotonic()
        child.process.terminate()
        code = child.wait(60)
        took_s = time.monotonic() - began
        self.slowest_stop_s = max(self.slowest_stop_s, took_s)
        return code

    def stop(self) -> None:
        """
        An orderly end, and a start.
        """
        code = self._ended(self.other)
        # 1: the disk was full just then, and it says so. A signal: it had only just been started.
        if code not in {0, 1, -signal.SIGTERM}:
            self.strange.append(f"exit code {code}: {self.other.said[-500:]}")
        self.other = self._start()

    def upgrade(self) -> None:
        """
        A new one beside it, then the old one ends.
        """
        fresh = self._start()
        time.sleep(self._chance.uniform(2, 4))
        self._ended(self.other)
        self.other = fresh

    def pause(self) -> None:
        """
        A virtual machine that stands still.
        """
        child = self._chance.choice((self.steady, self.other))
        child.signal(signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.5, 6))
        child.signal(signal.SIGCONT)

    def hog(self) -> None:
        """
        Something else wants both cores.
        """
        hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        time.sleep(self._chance.uniform(1, 4))
        for each in hogs:
            each.kill()
            each.wait()

    def sealer(self) -> None:
        """
        A seal, killed somewhere.
        """
        sealer = self._bench.child("sealer", "seal", self._bench.root, "--open")
        time.sleep(self._chance.uniform(0.2, 2.5))
        sealer.kill()

    def full(self) -> None:
        """
        No space, for some seconds.
        """
        if not self._tmpfs:
            return
        ballast = self._bench.root / "ballast"
        free = shutil.disk_usage(self._bench.root).free
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(free - 4096, 1))
        time.sleep(self._chance.uniform(1, 6))
        ballast.unlink()


FAULTS = (
    "network",
    "network",
    "network",
    "network",
    "kill",
    "stop",
    "upgrade",
    "pause",
    "hog",
    "sealer",
    "full",
)


def soak(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    tick_ms: int = 100,
    pace_s: tuple[float, float] = (3.0, 10.0),
    keep: bool = False,
) -> dict[str, Any]:
    """
    Run it, and hold the lake against the ledger.

    Args:
        folder: for everything.
        seconds: of faults.
        seed: of their kinds and times.
        tick_ms: of the venue.
        pace_s: least and most between two faults.
        keep: leave the root, too, as it was at the end.
    """
    chance = random.Random(seed)
    faults = folder / "faults.toml"
    folder.mkdir(parents=True, exist_ok=True)
    venue_faults(chance, seconds, faults)
    with small_disk(folder / "root", keep=keep) as tmpfs, Loop() as loop:
        bench = Bench(folder, tick_ms=tick_ms, venue=("--faults", str(faults)))
        try:
            running = Soak(bench, loop, chance, tmpfs=tmpfs, pace_s=pace_s)
            since = time.time_ns() + 3 * SECOND_NS
            running.run(seconds)
            until = time.time_ns()
            exits = [running.other.stop(60), running.steady.stop(60)]
            bench.venue.stop()
            bench.seal()
            account = bench.account(since=since, until=until)
            problems = [f"{p.path}: {p.problem}" for p in verify(bench.root).problems]
        finally:
            bench.close()
    settled = [(at, mb) for at, mb, _, _ in running.samples if at >= seconds * WARM_UP]
    minutes = least_of_minutes(settled)
    lines = [line.split() for line in running.report.read_text(encoding="ascii").splitlines()]
    inward = [line for line in lines if len(line) == 5 and float(line[0]) >= seconds * WARM_UP]
    tasks = [int(line[1]) for line in inward]
    objects, blocks, used = ([int(line[column]) for line in inward] for column in (2, 3, 4))
    return {
        "seed": seed,
        "seconds": round(seconds),
        "faults": dict(sorted(running.done.items())),
        "published": account.published,
        "stored": account.stored,
        "covered": account.covered,
        "unverifiable": account.unverifiable,
        "twice": account.twice,
        "unexplained": len(account.unexplained),
        "first unexplained": account.unexplained[:10],
        "events": account.events,
        "verify": problems,
        "exits": exits,
        "strange": running.strange,
        "slowest stop s": round(running.slowest_stop_s, 1),
        "memory MB": [round(settled[0][1], 2), round(settled[-1][1], 2)],
        "memory peak MB": round(max(mb for _, mb, _, _ in running.samples), 2),
        "slope MB/h": round(slope_mb_h(minutes), 3),
        "descriptors": [min(s[2] for s in running.samples), max(s[2] for s in running.samples)],
        "threads": [min(s[3] for s in running.samples), max(s[3] for s in running.samples)],
        "tasks": [min(tasks, default=0), max(tasks, default=0)],
        "objects": _first_least_last(objects),
        "blocks of Python": _first_least_last(blocks),
        "bytes of libraries": _first_least_last(used),
        "memory by minute MB": [round(mb, 2) for _, mb in minutes],
    }


def least_of_minutes(samples: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """
    A fault makes memory grow and shrink; what stays is the least of each minute. Of (s, MB), those of whole minutes.

    The first and the last minute may hold a sample or two, whose least is none: they are left out.
    """
    minutes: dict[int, tuple[float, float]] = {}
    for at, mb in samples:
        kept = minutes.get(int(at // 60))
        minutes[int(at // 60)] = (at, mb) if kept is None or mb < kept[1] else kept
    return list(minutes.values())[1:-1]


def _first_least_last(values: list[int]) -> list[int]:
    return [values[0], min(values), values[-1]] if values else []


def main() -> int:
    """
    Print what was found; 1 if anything is unexplained.
    """
    parser = argparse.ArgumentParser(description="A chaos soak of the recorder.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="Leave everything here.")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    if options.keep is not None:
        told = soak(options.keep, seconds=options.minutes * 60, seed=seed, keep=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            told = soak(Path(folder), seconds=options.minutes * 60, seed=seed)
    print(json.dumps(told, indent=1))
    return 1 if told["unexplained"] or told["verify"] or told["twice"] or told["strange"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
