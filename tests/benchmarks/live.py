"""
Capture at live load, and at five times that: the real `run` against the real `simulate`, over a socket.

The venue sends a book of each market each 400 ms, in bursts. After a warm-up, CPU is counted by the kernel, loop lag is
that of the recorder's own telemetry, and every frame of the simulator's ledger is looked for in the journal. The plain
recorder then hears the same venue, for no longer than a minute: its memory grows by the frame.
"""

import hashlib
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from bench import Bench
from load import TICK_MS, is_data, recorder_config
from processes import CLIENT_CORE, HERE, SOURCE_CORE, Child, child, outcome
from table import Measured

from recorder.journal.reader import read_merged, segments
from recorder.lake.layout import JOURNAL
from recorder.records import EntryKind, Telemetry, decode_fact
from recorder.simulator.ledger import read_ledger

PLAIN_LIMIT_S = 60.0
SLOPE_WARM_UP = 0.2
"""Share of a soak that the slope of memory leaves out."""
SLOPE_MINUTES = 5
"""A shorter run has no slope worth telling."""


class Minute(msgspec.Struct, frozen=True):
    """
    A row of telemetry, on the recorder's clock.
    """

    recv_ts: int
    said: Telemetry


class Heard(msgspec.Struct):
    """
    What a run of the recorder came to.
    """

    cpu_percent: float
    """Of one core, after the warm-up."""
    rss_mb: tuple[float, float]
    """At the begin and end of that time."""
    frames: int
    lasted_s: float
    lost: int
    minutes: list[Minute]
    durable: dict[str, float]
    """Of all frames: p50 and p99."""

    @property
    def settled(self) -> list[Minute]:
        """
        All rows but the first, in which it connects; that one, if there is no other.
        """
        return self.minutes[1:] or self.minutes


def measure(bench: Bench) -> list[Measured]:
    """
    Live load, the plain recorder on it, and five times the load.
    """
    sizes = bench.sizes
    for_s = sizes.soak_minutes * 60 or sizes.live_s
    bench.say(f"live load for {for_s:.0f} s")
    ours = _ours(bench, TICK_MS, for_s)
    if sizes.soak_minutes:
        bench.say(series(ours))
    bench.say("live load, the plain recorder")
    plain = _plain(bench, min(for_s, PLAIN_LIMIT_S))
    bench.say("five times live load")
    fivefold = _ours(bench, TICK_MS // 5, min(for_s, sizes.live_s))
    slope = slope_mb_h([(m.recv_ts / 1e9, m.said.rss_bytes / 1e6) for m in ours.minutes])
    plain_slope = least_squares(plain["memory"]) * 3600
    per_s = ours.frames / ours.lasted_s
    lags = [m.said.loop_lag_p99_ms for m in ours.settled]
    peaks = [m.said.loop_lag_max_ms for m in ours.settled]
    five = [m.said.loop_lag_p99_ms for m in fivefold.settled]
    return [
        Measured(
            "live load, CPU of one core",
            [ours.cpu_percent],
            [plain["cpu_share"] * 100],
            note=f"{sizes.markets} markets, {per_s:.0f} frames/s for {for_s:.0f} s after a warm-up",
        ),
        Measured("live load, memory", [ours.rss_mb[1]], [plain["peak_mb"]], note=_memory_note(ours, plain, for_s)),
        Measured(
            "live load, growth of memory",
            [] if slope is None else [slope],
            [plain_slope],
            note=(
                f"not told by {for_s:.0f} s: use --soak 30"
                if slope is None
                else f"least squares over {len(ours.minutes)} minutes, without the first fifth"
            ),
        ),
        Measured("live load, receipt to durable, p50", [ours.durable["p50_ms"]]),
        Measured("live load, receipt to durable, p99", [ours.durable["p99_ms"]], note="commits each 100 ms"),
        Measured(
            "live load, event loop lag, p99", [max(lags)], [_quantile(plain["lags_ms"], 0.99)], note="the worst minute"
        ),
        Measured("live load, event loop lag, max", [max(peaks)], [plain["lags_ms"][-1]]),
        Measured("live load, frames lost", [ours.lost], note="of all in the venue's ledger"),
        Measured(
            "5 × live load, event loop lag, p99",
            [max(five)],
            note=f"{fivefold.frames / fivefold.lasted_s:.0f} frames/s, {fivefold.cpu_percent:.0f} % of one core",
        ),
        Measured("5 × live load, frames lost", [fivefold.lost]),
    ]


def _memory_note(ours: Heard, plain: dict[str, Any], for_s: float) -> str:
    return (
        f"ours {ours.rss_mb[0]:.0f} MB at first, {ours.rss_mb[1]:.0f} MB after {for_s:.0f} s; "
        f"the plain recorder's after {plain['frames']:,} frames"
    )


def _simulator(markets: int, tick_ms: int, ledger: Path) -> tuple[str | Path, ...]:
    return (
        *("-m", "recorder", "simulate", "--port", "0", "--markets", str(markets)),
        *("--tick-ms", str(tick_ms), "--ledger", ledger),
    )


def _ours(bench: Bench, tick_ms: int, for_s: float) -> Heard:
    sizes = bench.sizes
    with bench.room() as folder:
        root, config = folder / "root", folder / "config.toml"
        ledger, report = folder / "ledger", folder / "report"
        with child(*_simulator(sizes.markets, tick_ms, ledger), core=SOURCE_CORE) as venue:
            url = venue.line("listening on ")
            config.write_text(recorder_config(root, url, markets=sizes.markets, seal=True), encoding="utf-8")
            with child(HERE / "probe.py", report, "run", config, core=CLIENT_CORE) as recorder:
                recorder.line("first commit")
                _rest(recorder, sizes.live_warm_up_s)
                begun, cpu_s, rss_mb = time.monotonic(), recorder.cpu_s, recorder.rss_mb
                _rest(recorder, for_s)
                lasted_s, spent_s = time.monotonic() - begun, recorder.cpu_s - cpu_s
                rss = (rss_mb, recorder.rss_mb)
                asked_ns = time.time_ns()
                recorder.stop()
            venue.stop()
        return _heard(root, ledger, report, asked_ns, Heard(100 * spent_s / lasted_s, rss, 0, 0, 0, [], {}))


def _rest(running: Child, seconds: float) -> None:
    """
    Let it work, and notice if it ends.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))
        if running.process.poll() is not None:
            raise running.failure(f"ended early, with exit code {running.process.returncode}")


def _heard(root: Path, ledger: Path, report: Path, asked_ns: int, heard: Heard) -> Heard:
    """
    Read the journal, and compare it with the ledger.
    """
    kept: Counter[str] = Counter()
    first = last = 0
    for entry in read_merged(segments(root / JOURNAL), start=0, end=1 << 62):
        if entry.kind == EntryKind.FACT:
            fact = decode_fact(entry.payload)
            if isinstance(fact, Telemetry):
                heard.minutes.append(Minute(entry.recv_ts, fact))
        elif entry.kind == EntryKind.FRAME and is_data(entry.payload):
            # As the ledger names a frame's text, which may be no UTF-8 on other occasions.
            kept[hashlib.sha256(entry.payload).hexdigest()[:16]] += 1
            first, last = first or entry.recv_ts, entry.recv_ts
    heard.frames, heard.lasted_s = kept.total(), (last - first) / 1e9
    # What was sent after we said goodbye is nobody's loss; what the venue dropped, because we were slow, is ours.
    due = [line for line in read_ledger(ledger) if line.seq and line.t_ns < asked_ns]
    sent = Counter(line.sha for line in due if line.what == "sent")
    heard.lost = (sent - kept).total() + sum(line.what == "dropped" for line in due)
    heard.durable = json.loads(report.read_text(encoding="utf-8"))
    return heard


def _plain(bench: Bench, for_s: float) -> dict[str, Any]:
    sizes = bench.sizes
    with bench.room() as folder:
        with child(*_simulator(sizes.markets, TICK_MS, folder / "ledger"), core=SOURCE_CORE) as venue:
            url = venue.line("listening on ")
            told = outcome(
                *("plain.py", "listen", url, "--markets", str(sizes.markets)),
                *("--after", str(sizes.live_warm_up_s), "--for", str(for_s)),
            )
            venue.stop()
        return told


def slope_mb_h(memory: Sequence[tuple[float, float]]) -> float | None:
    """
    Growth of memory by least squares after the warm-up, of (seconds, MB); None of a run too short to tell.
    """
    settled = memory[max(1, round(len(memory) * SLOPE_WARM_UP)) :]
    return least_squares(settled) * 3600 if len(settled) >= SLOPE_MINUTES else None


def least_squares(points: Sequence[Sequence[float]]) -> float:
    """
    Slope of (x, y).
    """
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def series(heard: Heard) -> str:
    """
    A line a minute.
    """
    lines = ["minute  frames/s   CPU %  RSS MB  lag p99 ms  lag max ms  commit p99 ms  queue max kB"]
    before = heard.minutes[0].recv_ts - 60_000_000_000
    for number, minute in enumerate(heard.minutes, 1):
        said, lasted_s = minute.said, max((minute.recv_ts - before) / 1e9, 0.001)
        before = minute.recv_ts
        lines.append(
            f"{number:6}  {said.frames / lasted_s:8.0f}  {100 * said.cpu_s / lasted_s:6.1f}"
            f"  {said.rss_bytes / 1e6:6.1f}  {said.loop_lag_p99_ms:10.1f}  {said.loop_lag_max_ms:10.1f}"
            f"  {said.commit_p99_ms:13.1f}  {said.queue_max_bytes / 1e3:12.0f}"
        )
    return "\n".join(lines)


def _quantile(ordered: list[float], q: float) -> float:
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else 0.0
