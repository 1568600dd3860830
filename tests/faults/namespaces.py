"""
Two network namespaces with a cable between them: what passes on it is the kernel's doing, not a proxy's.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

VENUE_ADDRESS, CLIENT_ADDRESS = "10.213.77.1", "10.213.77.2"
IPTABLES = next((name for name in ("iptables-legacy", "iptables") if shutil.which(name)), "iptables")


class Cable:
    """
    The venue's end and the client's.
    """

    def __init__(self) -> None:
        number = os.getpid() % 100_000
        self.venue, self.client = f"drv{number}", f"drc{number}"

    @property
    def at_venue(self) -> list[str]:
        """
        Runs a command at the venue's end.
        """
        return ["ip", "netns", "exec", self.venue]

    @property
    def at_client(self) -> list[str]:
        """
        Runs a command at the client's end.
        """
        return ["ip", "netns", "exec", self.client]

    def rule(self, *words: str) -> None:
        """
        An iptables rule at the venue's end, for what arrives there and what leaves.
        """
        for chain in ("INPUT", "OUTPUT"):
            run(*self.at_venue, IPTABLES, "-A", chain, *words)

    def lose(self, share: float) -> None:
        """
        So many of the packets are lost, either way; 1: a black hole.
        """
        if share >= 1:
            self.rule("-j", "DROP")
        else:
            self.rule("-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}", "-j", "DROP")

    def throttle(self, rate: str) -> None:
        """
        A bottleneck from the venue, such as `256kbit`.
        """
        run(
            *self.at_venue,
            "tc",
            "qdisc",
            "add",
            "dev",
            "v",
            "root",
            "tbf",
            "rate",
            rate,
            "burst",
            "8kb",
            "latency",
            "2s",
        )

    def mend(self) -> None:
        """
        As new.
        """
        run(*self.at_venue, IPTABLES, "-F")
        subprocess.run([*self.at_venue, "tc", "qdisc", "del", "dev", "v", "root"], capture_output=True)


def run(*command: str) -> None:
    """
    Run it; its words are in the error if it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def cable() -> Iterator[Cable]:
    """
    Made, and removed at the end.
    """
    made = Cable()
    resolver = Path("/etc/netns") / made.client
    try:
        for name in (made.venue, made.client):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", made.venue, "link", "add", "v", "type", "veth", "peer", "name", "c", "netns", made.client)
        for name, device, address in ((made.venue, "v", VENUE_ADDRESS), (made.client, "c", CLIENT_ADDRESS)):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
            run("ip", "-n", name, "link", "set", device, "up")
        # A resolver that never answers: nobody is at that address of the cable.
        resolver.mkdir(parents=True)
        (resolver / "resolv.conf").write_text(f"nameserver {VENUE_ADDRESS}\noptions timeout:1 attempts:1\n")
        yield made
    finally:
        for name in (made.venue, made.client):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        shutil.rmtree(resolver, ignore_errors=True)
        with contextlib.suppress(OSError):
            resolver.parent.rmdir()
