"""
An hour of the service in a booted container, from one seed: `python tests/service_hour.py --minutes 60 [--seed N]`.

Installed by its script, it records the simulated venue, which breaks at random. Blows come from outside every minute or
two: recorder and sealer are killed, stopped for a while and for ever, restarted, bridged, reloaded with other markets
and with a mistake, and upgraded in the midst. Page, metrics, health and status are asked every few seconds, and `top`
is looked at.

At the end all is sealed, verified, and held against the venue's ledger: what was published is in the lake once, or
inside an event that says so. What is left over is unexplained, and there must be none.
"""

import argparse
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "faults"))

from children import MARKETS, account, slope_mb_h

from machine import Machine, build_root, copy_sources, fetch_wheels, missing
from recorder.records import SECOND_NS

UNIT, DATA, CONFIG = "drift-recorder", "/var/lib/drift-recorder/data", "/etc/drift-recorder/config.toml"
LEDGER = "/var/lib/truth.jsonl"
COMING_AND_GOING = ('["SOL-PERP", "BTC-PERP", "ETH-PERP"]', json.dumps(MARKETS))
SAMPLE_S = 20
SCRAPED = {
    "metrics": ":9464/metrics",
    "healthz": ":9464/healthz",
    "readyz": ":9464/readyz",
    "status": ":9464/status",
    "page": ":8766/",
    "events": ":8766/events",
}
SCRAPER = """
import collections, json, time, urllib.error, urllib.request
told, slowest = collections.Counter(), collections.Counter()
while True:
    for name, where in %r.items():
        began = time.monotonic()
        try:
            with urllib.request.urlopen("http://127.0.0.1" + where, timeout=20) as answer:
                answer.read(60000) if name == "events" else answer.read()
                told[f"{name} {answer.status}"] += 1
        except urllib.error.HTTPError as error:
            told[f"{name} {error.code}"] += 1
        except OSError as error:
            told[f"{name} {type(error).__name__}"] += 1
        slowest[name] = max(slowest[name], round(time.monotonic() - began, 2))
    with open("/var/lib/scraped.json", "w") as file:
        json.dump({"answers": told, "slowest s": slowest}, file)
    time.sleep(3)
"""


class Hour:
    """
    One run of it.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self._chance = folder, chance
        self.done: Counter[str] = Counter()
        self.strange: list[str] = []
        self.samples: dict[int, list[tuple[float, float, int]]] = {}
        """By process id of the recorder: s, MB, descriptors."""
        self.page_mb: list[float] = []
        source, wheels, root = folder / "source", folder / "wheels", folder / "machine"
        source.mkdir(parents=True)
        copy_sources(source)
        made = os.environ.get("DRIFT_RECORDER_TEST_WHEELS")
        if made:
            shutil.copytree(made, wheels)
        else:
            wheels.mkdir()
            fetch_wheels(wheels)
        build_root(root)
        self.machine = Machine(root, binds={source: "/srv/source", wheels: "/srv/wheels"})
        self.data, self.ledger = root / DATA.lstrip("/"), root / LEDGER.lstrip("/")
        self._versions = 0

    def say(self, *words: object) -> None:
        """
        Into the log of what was done.
        """
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            print(time.strftime("%H:%M:%S"), *words, file=log)

    def start(self, seconds: float, seed: int) -> None:
        """
        Install, and record.
        """
        self.machine.boot()
        self.say(self.machine.run("sh /srv/source/deploy/install.sh --wheels /srv/wheels", timeout_s=900))
        named = f"--markets {','.join(MARKETS)} --jitter --random-faults {seed % 10_000}"
        venue = f"drift-recorder simulate {named} --for {seconds + 600:.0f} --ledger {LEDGER}"
        self.machine.run(f"systemd-run --quiet --collect --unit=venue {venue}")
        self.machine.until("journalctl -b -u venue -o cat", "listening on", within_s=60)
        (self.machine.root / CONFIG.lstrip("/")).write_text(
            '[venue]\nname = "demo"\nurl = "ws://127.0.0.1:8765/ws"\nnetwork = "mainnet-beta"\n'
            f'[markets]\nperp = {COMING_AND_GOING[1]}\n[storage]\nroot = "{DATA}"\n',
            encoding="utf-8",
        )
        self.machine.run(f"systemctl enable -q --now {UNIT} {UNIT}-page", timeout_s=180)
        (self.machine.root / "srv" / "scraper.py").write_text(SCRAPER % SCRAPED, encoding="utf-8")
        self.machine.run("systemd-run --quiet --collect --unit=scraper python3 /srv/scraper.py")

    def run(self, seconds: float) -> None:
        """
        A blow every minute or two.
        """
        end = time.monotonic() + seconds
        upgrade_at = time.monotonic() + seconds / 2
        while (left := end - time.monotonic()) > 0:
            self._watch(min(self._chance.uniform(60, 130), left))
            if end - time.monotonic() < 30:
                continue
            name = self._chance.choice(BLOWS)
            if upgrade_at and time.monotonic() > upgrade_at:
                name, upgrade_at = "upgrade", 0
            self.done[name] += 1
            self.say(name, "|", self.machine.show(UNIT, "StatusText"))
            try:
                getattr(self, name)()
            except (AssertionError, OSError, subprocess.SubprocessError) as error:  # told, and the hour goes on
                self.strange.append(f"{name}: {str(error)[:600]}")
                self.say("STRANGE", self.strange[-1])

    def _watch(self, seconds: float) -> None:
        """
        Look at memory and descriptors meanwhile.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SAMPLE_S))
            with contextlib.suppress(AssertionError, ValueError, IndexError):
                pid = int(self.machine.show(UNIT, "MainPID"))
                fds, memory = self.machine.run(f"ls /proc/{pid}/fd | wc -l; grep VmRSS /proc/{pid}/status").splitlines()
                sample = time.monotonic(), int(memory.split()[1]) * 1024 / 1e6, int(fds)
                self.samples.setdefault(pid, []).append(sample)
                page = self.machine.show(f"{UNIT}-page", "MainPID")
                self.page_mb.append(int(self.machine.run(f"grep VmRSS /proc/{page}/status").split()[1]) * 1024 / 1e6)

    # ---- blows

    def _pid(self) -> str:
        return self.machine.show(UNIT, "MainPID")

    def kill(self) -> None:
        """
        SIGKILL to the recorder.
        """
        self.machine.run(f"kill -9 {self._pid()}")

    def hang(self) -> None:
        """
        Stopped for ever: the watchdog's business.
        """
        self.machine.run(f"kill -STOP {self._pid()}")

    def pause(self) -> None:
        """
        Stopped for some seconds, as a virtual machine may be.
        """
        pid = self._pid()
        self.machine.run(f"kill -STOP {pid}; sleep {self._chance.uniform(1, 12):.1f}; kill -CONT {pid}")

    def kill_sealer(self) -> None:
        """
        A seal, by hand as root, killed somewhere in it.
        """
        lives_s = self._chance.uniform(0.3, 4)
        self.machine.run(
            f"drift-recorder seal {DATA} --open >/tmp/seal.log 2>&1 & sleep {lives_s:.1f}; kill -9 $!", check=False
        )

    def restart(self) -> None:
        """
        An orderly one, with its small hole.
        """
        self.machine.run(f"systemctl restart {UNIT}", timeout_s=240)

    def bridge(self) -> None:
        """
        A restart that a second recorder bridges, as the runbook has it.
        """
        self.machine.run(
            f"systemctl start {UNIT}@config && systemctl restart {UNIT} && systemctl stop {UNIT}@config", timeout_s=400
        )

    def reload(self) -> None:
        """
        A market comes or goes.
        """
        named = self._chance.choice(COMING_AND_GOING)
        self.machine.run(f"sed -i 's/^perp = .*/perp = {named}/' {CONFIG}; drift-recorder reload {DATA}", timeout_s=60)

    def mistake(self) -> None:
        """
        A configuration that has to be refused.
        """
        said = self.machine.run(
            f"cp -p {CONFIG} /tmp/good; echo 'x = 1' >> {CONFIG}; drift-recorder reload {DATA} 2>&1; "
            f"cp -p /tmp/good {CONFIG}",
            timeout_s=60,
        )
        if "refused" not in said:
            raise AssertionError(f"a mistake was taken over: {said}")

    def page(self) -> None:
        """
        The page is killed; nobody else may notice.
        """
        self.machine.run(f"systemctl kill -s KILL {UNIT}-page")

    def top(self) -> None:
        """
        Looked at for some seconds, in a terminal of 80 by 24.
        """
        looked = f"stty cols 80 rows 24; timeout --foreground -s INT 6 drift-recorder top {DATA}"
        said = self.machine.run(f"script -qec '{looked}' /dev/null || true")
        (self.folder / "top").write_text(said, encoding="utf-8")
        if "SOL-PERP" not in said:
            raise AssertionError(f"top shows no market: {said[-500:]}")

    def upgrade(self) -> None:
        """
        To another version, built from source; without a hole.
        """
        self._versions += 1
        newer = self.machine.root / "srv" / f"newer{self._versions}"
        shutil.copytree(self.folder / "source", newer)
        init = newer / "recorder" / "__init__.py"
        init.write_text(re.sub('__version__ = "(.*)"', rf'__version__ = "\1.post{self._versions}"', init.read_text()))
        said = self.machine.run(f"sh /srv/{newer.name}/deploy/install.sh --wheels /srv/wheels --upgrade", timeout_s=900)
        self.say(said)
        if f".post{self._versions}-" not in said:
            raise AssertionError(f"no upgrade: {said}")


BLOWS = (
    *("kill", "kill", "hang", "pause", "pause", "kill_sealer", "kill_sealer", "restart", "bridge"),
    *("reload", "reload", "mistake", "page", "top"),
)


def hour(folder: Path, *, seconds: float, seed: int) -> dict[str, Any]:
    """
    Run it, and hold the lake against the ledger.

    Args:
        folder: for everything.
        seconds: of blows.
        seed: of the venue's faults, and of the blows.
    """
    running = Hour(folder, random.Random(seed))
    machine = running.machine
    try:
        running.start(seconds, seed)
        since = time.time_ns() + 3 * SECOND_NS
        running.run(seconds)
        until = time.time_ns()
        status = machine.run(f"drift-recorder status {DATA} || true")
        log = machine.run(f"journalctl -b -u {UNIT} -o cat --no-pager")
        (folder / "service.log").write_text(log, encoding="utf-8")
        machine.run("systemctl stop scraper", check=False)
        machine.run(f"systemctl stop {UNIT} {UNIT}-page {UNIT}@config; systemctl stop venue", timeout_s=120)
        machine.run(f"drift-recorder seal {DATA} --open", timeout_s=600)
        verified = machine.run(f"drift-recorder verify {DATA}", check=False, timeout_s=600)
        scraped = json.loads((machine.root / "var/lib/scraped.json").read_text())
    finally:
        machine.power_off()
    told = account(running.data, running.ledger, MARKETS, since=since, until=until, doubted=True)
    lives = [life for life in running.samples.values() if len(life) > 2]
    longest = max(lives, key=len, default=[])
    return {
        "seed": seed,
        "seconds": round(seconds),
        "blows": dict(sorted(running.done.items())),
        "strange": running.strange,
        "published": told.published,
        "stored": told.stored,
        "covered": told.covered,
        "suspect": told.suspect,
        "unverifiable": told.unverifiable,
        "twice": told.twice,
        "unexplained": len(told.unexplained),
        "first unexplained": told.unexplained[:10],
        "events": told.events,
        "verify": verified.strip().splitlines()[-3:],
        "scraped": scraped,
        "memory MB": [round(f([mb for life in lives for _, mb, _ in life]), 1) for f in (min, max)] if lives else [],
        "slope MB/h of the longest life": round(slope_mb_h([(at, mb) for at, mb, _ in longest]), 2),
        "page MB": [round(min(running.page_mb), 1), round(max(running.page_mb), 1)] if running.page_mb else [],
        "descriptors": [f([fds for life in lives for _, _, fds in life]) for f in (min, max)] if lives else [],
        "tracebacks": log.count("Traceback"),
        "status": status,
    }


def main() -> int:
    """
    Print what was found; 1 if anything is unexplained, twice, or strange.
    """
    parser = argparse.ArgumentParser(description="An hour of the service, with blows.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="Leave everything here.")
    options = parser.parse_args()
    if without := missing():
        print(without, file=sys.stderr)
        return 2
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        told = hour(folder, seconds=options.minutes * 60, seed=seed)
    print(json.dumps(told, indent=1))
    return 1 if told["unexplained"] or told["twice"] or told["strange"] or told["tracebacks"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
