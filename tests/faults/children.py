"""
Venue and recorders as processes, looked at from outside, and where each frame of the venue's ledger is in the end.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "proof"))

from lakes import read_lake
from terms import BOOKS_MISSING, FILLS_MISSING, Mark

from recorder.journal.reader import read_merged, segments
from recorder.lake.layout import JOURNAL
from recorder.quality.events import channel_of
from recorder.records import HOUR_NS, SECOND_NS, Entry, EntryKind, Stream, decode_fact
from recorder.simulator.ledger import Line, digest, read_ledger
from recorder.venue.protocol import parse_channel

PROJECT = Path(__file__).resolve().parents[2]
WITHIN_S = 60.0
"""For what takes a second or two: a hang is meant, and not a machine that is busy elsewhere."""
SLACK_NS = 150_000_000
"""Between two processes' clocks, anchored apart, and on the way through sockets on a busy machine."""
ACKNOWLEDGED = b'{"message":"Subscribe received'
MARKETS = ("SOL-PERP", "BTC-PERP", "ETH-PERP", "1MBONK-PERP")
INDEX = {"SOL-PERP": 0, "BTC-PERP": 1, "ETH-PERP": 2, "1MBONK-PERP": 4}


def wait_until(happened: Callable[[], object], within_s: float = WITHIN_S, what: str = "it did not happen") -> None:
    """
    Wait for what another process does.
    """
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, f"within {within_s:g} s: {what}"
        time.sleep(0.05)


class Child:
    """
    The command line as a process; its words go to a file.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *arguments: str | Path,
        before: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        program: Sequence[str | Path] = ("-m", "recorder"),
    ) -> None:
        """
        Args:
            folder: for its log.
            name: of the log.
            arguments: of the command line.
            before: a command that runs it (`faketime`, `strace`, `ip netns exec …`).
            environment: added to ours.
            program: what Python runs.
        """
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as words:
            self.process = subprocess.Popen(
                [*before, sys.executable, *program, *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=words,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", **(environment or {})},
            )

    @property
    def pid(self) -> int:
        """
        Of the process, or of what runs it.
        """
        return self.process.pid

    @property
    def said(self) -> str:
        """
        Its log so far.
        """
        return self.log.read_text(encoding="utf-8", errors="replace")

    def line(self) -> str:
        """
        The next line it prints.
        """
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def signal(self, number: int) -> None:
        """
        Send it one.
        """
        self.process.send_signal(number)

    def stop(self, within_s: float = 30.0) -> int:
        """
        Ask it to end; its exit code.
        """
        self.process.terminate()
        return self.wait(within_s)

    def kill(self) -> None:
        """
        SIGKILL, and wait.
        """
        self.process.kill()
        self.wait(10)

    def wait(self, within_s: float) -> int:
        """
        For its end.
        """
        code = self.process.wait(within_s)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    @property
    def alive(self) -> bool:
        """
        Whether it runs.
        """
        return self.process.poll() is None


def memory_kb(pid: int, name: str = "VmRSS") -> int:
    """
    Resident memory now (`VmRSS`), or the most there ever was (`VmHWM`), in KiB.
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))


def descriptors(pid: int) -> int:
    """
    Open files and sockets.
    """
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int) -> int:
    """
    Of a process.
    """
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


class Bench:
    """
    A venue with a ledger, a root, and what records into it; everything is ended by `close`.
    """

    def __init__(
        self, folder: Path, *, tick_ms: int = 50, markets: Sequence[str] = MARKETS, venue: Sequence[str] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.root, self.ledger = folder, folder / "root", folder / "ledger"
        self.markets = tuple(markets)
        self._children: list[Child] = []
        self.venue = self.child(
            "venue",
            *("simulate", "--port", "0", "--tick-ms", str(tick_ms), "--ledger", self.ledger),
            *("--markets", ",".join(self.markets), *venue),
        )
        self.url = self.venue.line().split()[-1]

    @property
    def port(self) -> int:
        """
        Of the venue.
        """
        return int(self.url.split(":")[2].split("/")[0])

    def child(self, name: str, *arguments: str | Path, **options: object) -> Child:
        """
        A process that `close` ends.
        """
        child = Child(self.folder, name, *arguments, **options)  # type: ignore[arg-type]
        self._children.append(child)
        return child

    def config(self, name: str = "config", *, url: str = "", extra: str = "", venue: str = "") -> Path:
        """
        A configuration file of all markets.
        """
        path = self.folder / f"{name}.toml"
        named = ", ".join(f'"{market}"' for market in self.markets)
        path.write_text(
            f'[venue]\nname = "loopback"\nnetwork = "mainnet-beta"\nurl = "{url or self.url}"\n{venue}\n'
            f'[markets]\nperp = [{named}]\n[storage]\nroot = "{self.root}"\n[seal]\nenabled = false\n'
            f'[metrics]\nlisten = ""\n{extra}\n',
            encoding="utf-8",
        )
        return path

    def recorder(self, config: Path, *options: str, name: str = "recorder", **more: object) -> Child:
        """
        A recorder; `recording` waits for it.
        """
        return self.child(name, "run", config, *options, **more)

    def entries(self) -> list[Entry]:
        """
        All that is committed.
        """
        if not (self.root / JOURNAL).is_dir():
            return []
        return list(read_merged(segments(self.root / JOURNAL), start=0, end=1 << 62))

    def frames(self) -> list[Entry]:
        """
        Data frames among them.
        """
        return [entry for entry in self.entries() if entry.kind == EntryKind.FRAME and b'"data":' in entry.payload]

    def facts(self, *kinds: type) -> list[object]:
        """
        The facts of these kinds, in order.
        """
        told = [decode_fact(entry.payload) for entry in self.entries() if entry.kind == EntryKind.FACT]
        return [fact for fact in told if isinstance(fact, kinds)]

    def recording(self, child: Child, *, than: int | None = None, within_s: float = WITHIN_S) -> None:
        """
        Until more data frames are committed than there were.
        """
        before = len(self.frames()) if than is None else than

        def more() -> bool:
            assert child.alive, child.said[-2000:]
            return len(self.frames()) > before

        wait_until(more, within_s, f"no frame was committed: {child.said[-2000:]}")

    def carrying(self, child: Child, *, within_s: float = WITHIN_S) -> None:
        """
        Until the venue has acknowledged every stream: what it publishes from here on it also sends.
        """

        def acknowledged() -> bool:
            assert child.alive, child.said[-2000:]
            acks = {entry.payload for entry in self.entries() if entry.payload.startswith(ACKNOWLEDGED)}
            return len(acks) >= 2 * len(self.markets)

        wait_until(acknowledged, within_s, f"not all of it was acknowledged: {child.said[-2000:]}")
        self.recording(child, within_s=within_s)

    def seal(self, **options: object) -> None:
        """
        All hours, the open one too; by a process of its own, as the recorder does it.
        """
        sealer = self.child("seal", "seal", self.root, "--open", **options)
        assert sealer.process.stdout is not None
        sealer.process.stdout.read()
        assert sealer.wait(120) == 0, sealer.said

    def account(self, **options: object) -> "Account":
        """
        See `account`.
        """
        return account(self.root, self.ledger, self.markets, **options)  # type: ignore[arg-type]

    def close(self) -> None:
        """
        End everything.
        """
        for child in self._children:
            if child.alive:
                with contextlib.suppress(ProcessLookupError):
                    child.signal(signal.SIGCONT)
                child.process.kill()
            child.wait(10)


@contextlib.contextmanager
def bench(folder: Path, **options: object) -> Iterator[Bench]:
    """
    For as long as the block lasts.
    """
    made = Bench(folder, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


# ---- the account


class Account(msgspec.Struct):
    """
    Where everything is that the venue published of some markets while somebody should have recorded.
    """

    published: int = 0
    """Books and fills."""
    stored: int = 0
    covered: int = 0
    """Not stored, and inside an event that says so."""
    suspect: int = 0
    """Not stored, in no event, at a time that coverage does not vouch for; where `doubted`."""
    unverifiable: int = 0
    """Fills before the first or after the last of their market that was stored, outside any event."""
    twice: int = 0
    """Rows beyond the times that the venue sent their payload to one client."""
    unexplained: list[str] = []
    events: dict[str, int] = {}
    """How many of each kind."""


def account(
    root: Path,
    ledger: Path,
    markets: Sequence[str],
    *,
    since: int = 0,
    until: int = 1 << 62,
    slack_ns: int = SLACK_NS,
    doubted: bool = False,
) -> Account:
    """
    Hold a sealed root against the venue's ledger.

    Books that nobody was there to hear count as well: at each tick of the publisher every market has one.

    Args:
        root: sealed.
        ledger: of the venue.
        markets: that were asked for, books and trades.
        since: of the venue's time, ns; when the first recorder had subscribed.
        until: when the last one was asked to stop.
        slack_ns: by which an event may miss the instant a frame was sent.
        doubted: the venue itself breaks at random, so that of some books nobody can say more than that they may be
            missing: what coverage calls suspect or missing is told apart. Else it is unexplained.
    """
    lake = read_lake(root)
    kept: dict[tuple[str, str], int] = {}
    rows: dict[tuple[str, str], int] = {}
    came: dict[tuple[str, str], int] = {}
    for entry in read_merged(segments(root / JOURNAL), start=0, end=1 << 62):
        if (entry.run, entry.seq) in lake.rows or (entry.run, entry.seq) in lake.raw:
            key = _channel(entry.payload), digest(entry.payload.decode("utf-8", "replace"))
            kept[key] = kept.get(key, 0) + 1
            came.setdefault(key, entry.recv_ts)
            if (entry.run, entry.seq) in lake.rows:
                rows[key] = rows.get(key, 0) + 1
    names = {INDEX[market]: market for market in markets}
    told = Account()
    for mark in lake.marks:
        told.events[mark.kind] = told.events.get(mark.kind, 0) + 1
    lines = read_ledger(ledger)
    told.twice = _beyond(rows, lines)
    lines = [line for line in lines if since <= line.t_ns <= until]
    meant: dict[tuple[str, str], tuple[Stream, int, int | None]] = {}
    spoken: dict[str, list[int]] = {}
    for line in lines:
        if line.what not in {"sent", "dropped", "unheard", "withheld"} or line.channel is None:
            continue
        parsed = parse_channel(line.channel)
        if parsed is None or parsed.market_index not in names:
            continue
        books = parsed.channel == "orderbook"
        if books and line.what == "withheld":
            continue  # a tick at which nobody was sent anything tells
        stream = Stream("perp", names[parsed.market_index], parsed.channel, 1 if books else None)
        if books and line.what != "unheard":
            spoken.setdefault(line.channel, []).append(line.t_ns)
        # A fill is told by its id: its line `unheard` has no digest.
        key = (line.channel, line.sha or "") if books else (line.channel, f"fill {line.fill_id}")
        before = meant.get(key)
        meant[key] = (stream, line.t_ns if before is None else before[1], line.fill_id)
        if line.sha is not None and (line.channel, line.sha) in kept:
            kept[key] = 1
    for index, market in names.items():
        channel = f"orderbook_perp_{index}_grouped_1"
        times = sorted(spoken.get(channel, []))
        ticks = [line.t_ns for line in lines if line.what == "tick"]
        for number, at in enumerate(ticks[:-1]):
            if bisect_left(times, at) == bisect_left(times, ticks[number + 1]):
                meant[channel, f"tick {at}"] = (Stream("perp", market, "orderbook", 1), at, None)
    stored_fills: dict[str, list[int]] = {}
    for key, (stream, _, fill) in meant.items():
        if fill is not None and kept.get(key):
            stored_fills.setdefault(stream.symbol, []).append(fill)
    stored_at: dict[Stream, list[int]] = {}
    for key, (stream, at, _) in meant.items():
        if kept.get(key):
            stored_at.setdefault(stream, []).append(at)
    heard = sorted(
        (line.t_ns, came[key]) for line in lines if (key := (line.channel or "", line.sha or "")) in came and line.sha
    )
    told.published = len(meant)
    for key, (stream, at, fill) in meant.items():
        if kept.get(key):
            told.stored += 1
        elif (
            covering(lake.marks, stream, at, slack_ns)
            or covering(lake.marks, stream, _due(heard, at), slack_ns)
            or _let_go(lake.marks, stream, at, stored_at.get(stream, []))
        ):
            told.covered += 1
        elif fill is not None and not _between(fill, stored_fills.get(stream.symbol, [])):
            told.unverifiable += 1
        elif doubted and any(a - slack_ns <= at <= b + slack_ns for a, b in lake.doubts.get(_place(stream), ())):
            told.suspect += 1
        else:
            told.unexplained.append(f"{stream.label()} at {at}: {key[1]}")
    return told


def covering(marks: list[Mark], stream: Stream, at: int, slack_ns: int) -> list[Mark]:
    """
    The events that say that a frame of a stream may be missing at an instant. All connections carry all streams.
    """
    kinds = (FILLS_MISSING if stream.channel == "trades" else BOOKS_MISSING) | {"disk_full", "unsubscribed"}
    return [
        mark
        for mark in marks
        if mark.kind in kinds
        and mark.start - slack_ns <= at <= mark.end + slack_ns
        and (mark.symbol is None or (mark.symbol, mark.channel) == (stream.symbol, channel_of(stream)))
    ]


def _beyond(rows: dict[tuple[str, str], int], lines: list[Line]) -> int:
    """
    Rows that a venue which repeats itself does not explain: what one client was sent twice is in the lake twice.
    """
    sent: dict[tuple[str, str, int | None], int] = {}
    for line in lines:
        if line.what == "sent" and line.channel is not None and line.sha is not None:
            key = line.channel, line.sha, line.client
            sent[key] = sent.get(key, 0) + 1
    most: dict[tuple[str, str], int] = {}
    for (channel, sha, _), count in sent.items():
        most[channel, sha] = max(most.get((channel, sha), 1), count)
    return sum(max(count - most.get(key, 1), 0) for key, count in rows.items())


def _let_go(marks: list[Mark], stream: Stream, at: int, stored: list[int]) -> bool:
    """
    Whether a stream was taken out in an earlier hour and had not come back: an hour in which it is not asked for has
    no row of it, and no event.
    """
    gone = [m.end for m in marks if m.kind == "unsubscribed" and (m.symbol, m.channel) == _place(stream)]
    return any(end % HOUR_NS == 0 and end <= at and not any(end <= each <= at for each in stored) for end in gone)


def _due(heard: list[tuple[int, int]], sent: int) -> int:
    """
    When a frame would have come that was sent then: not before what had been sent before it, where the way was slow.
    Of (sent, came), in order.
    """
    before = heard[: bisect_left(heard, (sent, 0))]
    return max(sent, before[-1][1] if before else 0)


def _place(stream: Stream) -> tuple[str, str]:
    return stream.symbol, channel_of(stream) or ""


def _between(fill: int, stored: list[int]) -> bool:
    return bool(stored) and min(stored) < fill < max(stored)


def _channel(payload: bytes) -> str:
    return payload[12 : payload.find(b'"', 12)].decode("ascii", "replace")


def slope_mb_h(points: Sequence[tuple[float, float]]) -> float:
    """
    Growth by least squares of (s, MB).
    """
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def heard_late_s(frames: Sequence[Entry], ledger: Path) -> list[float]:
    """
    How long after it was sent each frame came, in order of receipt; of frames that were sent once.
    """
    sent: dict[str, int] = {}
    for line in read_ledger(ledger):
        if line.what == "sent" and line.sha is not None:
            sent.setdefault(line.sha, line.t_ns)
    return [
        (entry.recv_ts - sent[sha]) / SECOND_NS
        for entry in frames
        if (sha := digest(entry.payload.decode("utf-8", "replace"))) in sent
    ]
