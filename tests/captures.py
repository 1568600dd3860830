"""
The captured frames of `tests/fixtures/`, for tests of any stage.
"""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

FIXTURES = Path(__file__).parent / "fixtures"

MAY_2026 = "dlob-real-server"
LEGACY = "dlob-real-server-legacy-2025-09"
TWO_FEEDS = "dlob-real-server-two-feeds"
CAPTURES = (MAY_2026, LEGACY, TWO_FEEDS)


class Captured(NamedTuple):
    """
    One frame as it arrived.
    """

    recv_ts: int
    frame: bytes


@cache
def capture(name: str) -> tuple[Captured, ...]:
    """
    All frames of a capture, in order of arrival.
    """
    with (FIXTURES / f"{name}.jsonl.zst").open("rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        return tuple(
            Captured(recv_ts=line["recv_ts_ns"], frame=line["frame"].encode()) for line in map(json.loads, lines)
        )


@cache
def samples() -> tuple[dict[str, Any], ...]:
    """
    `samples.json` as it is: shape, note, frame, decoded, close code.
    """
    return tuple(json.loads((FIXTURES / "samples.json").read_bytes()))


@cache
def sample_frames() -> dict[str, bytes]:
    """
    The frames of `samples.json` by shape. What was cut for length is rebuilt from its shortened decoded form.
    """
    frames = {}
    for sample in samples():
        if "frame" not in sample:
            continue
        text = sample["frame"]
        if "...[cut" in text:
            data = dict(sample["decoded"]["data"])
            for side in ("bids", "asks"):
                data[side] = [level for level in data[side] if isinstance(level, dict)]
            text = json.dumps(
                {"channel": sample["decoded"]["channel"], "data": json.dumps(data, separators=(",", ":"))},
                separators=(",", ":"),
            )
        frames[sample["shape"]] = text.encode()
    return frames
