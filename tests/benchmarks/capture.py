"""
Capture as fast as one core can: socket, journal synced every 100 ms, live monitor, and nothing may be missing.

The real `drift-recorder run` in a process pinned to one core hears the firehose on the other. Its speed is that of the
receive times in its own journal, first frame to last, and the journal must hold every frame sent, in order.
"""

from pathlib import Path

from bench import Bench
from load import Frame, is_data, recorder_config, wanted, write_frames
from processes import CLIENT_CORE, HERE, SOURCE_CORE, Child, child, outcome
from table import Measured

from recorder.journal.reader import read_merged, segments
from recorder.lake.layout import JOURNAL
from recorder.records import EntryKind

_TIMEOUT_S = 120.0


def measure(bench: Bench) -> list[Measured]:
    """
    With and without compression, ours and the plain recorder in turns.
    """
    sizes = bench.sizes
    sent = [frame for frame in bench.frames(sizes.markets, sizes.capture_books) if is_data(frame[1])]
    frames = bench.folder / "firehose"
    write_frames(frames, sent)
    mean = sum(len(payload) for _, payload in sent) / len(sent)
    markets, requests = str(sizes.markets), str(len(wanted(sizes.markets)))
    lost = 0
    results: list[Measured] = []
    for name, flags in (("", []), (", permessage-deflate", ["--deflate"])):
        result = Measured(f"capture on one core{name}")
        limits: list[float] = []
        cpu_us: list[float] = []
        with child(HERE / "firehose.py", frames, "--requests", requests, *flags, core=SOURCE_CORE) as source:
            url = source.line("listening on ", _TIMEOUT_S)
            for number in range(sizes.rounds):
                bench.say(f"capture{name}: round {number + 1} of {sizes.rounds}")
                speed, cpu_s, missing = _ours(bench, source, url, sent)
                result.ours.append(speed)
                cpu_us.append(cpu_s / len(sent) * 1e6)
                lost += missing
                told = outcome("plain.py", "listen", url, "--markets", markets, "--count", str(sizes.plain_books))
                result.plain.append((told["frames"] - 1) / told["lasted_s"])
                source.line("gone", _TIMEOUT_S)
                told = outcome("drain.py", url, "--markets", markets, *flags)
                source.line("gone", _TIMEOUT_S)
                limits.append(len(sent) / told["lasted_s"])
        result.note = (
            f"{len(sent):,} frames of {sizes.markets} markets, {mean:,.0f} bytes each; ours took {min(cpu_us):.0f} to "
            f"{max(cpu_us):.0f} µs of CPU a frame; the source alone sends {max(limits):,.0f} frames/s; the plain "
            f"recorder heard the first {min(sizes.plain_books, len(sent)):,}"
        )
        results.append(result)
    compared = f"every journal was read back and compared with all {len(sent):,} frames sent"
    results.append(Measured("capture on one core, frames lost", [lost], note=compared))
    return results


def _ours(bench: Bench, source: Child, url: str, sent: list[Frame]) -> tuple[float, float, int]:
    """
    Frames a second, CPU seconds, and frames missing from the journal.
    """
    with bench.room() as folder:
        root, config = folder / "root", folder / "config.toml"
        config.write_text(
            recorder_config(root, url, markets=bench.sizes.markets, subscribe_interval_ms=0), encoding="utf-8"
        )
        with child("-m", "recorder", "run", config, core=CLIENT_CORE) as recorder:
            source.line("begin", _TIMEOUT_S, partner=recorder)
            before_s = recorder.cpu_s
            source.line("done", _TIMEOUT_S, partner=recorder)
            cpu_s = recorder.cpu_s - before_s
            recorder.stop()
            source.line("gone", _TIMEOUT_S)
        return _compared(root, sent, cpu_s)


def _compared(root: Path, sent: list[Frame], cpu_s: float) -> tuple[float, float, int]:
    heard = [
        entry
        for entry in read_merged(segments(root / JOURNAL), start=0, end=1 << 62)
        if entry.kind == EntryKind.FRAME and is_data(entry.payload)
    ]
    missing = abs(len(sent) - len(heard))
    missing += sum(entry.payload != payload for entry, (_, payload) in zip(heard, sent, strict=False))
    return (len(heard) - 1) / ((heard[-1].recv_ts - heard[0].recv_ts) / 1e9), cpu_s, missing
