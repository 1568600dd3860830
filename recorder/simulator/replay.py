"""
A file of captured frames as something to send again: which frames, when, and which markets they speak of.

A capture holds lines `{"recv_ts_ns": …, "frame": "…"}`, plain or compressed with zstd. By default only its data frames
are sent, because the simulator answers requests and beats by itself; verbatim, all of them.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import zstandard

from recorder.errors import ForeignFile
from recorder.records import SECOND_NS
from recorder.simulator.markets import SimMarket, market_named
from recorder.venue.protocol import FrameKind, peek

_NO_CAPTURE = "give a file of captured frames, plain or .zst"


class _Line(msgspec.Struct):
    recv_ts_ns: int
    frame: str


class CapturedFrame(msgspec.Struct, frozen=True, gc=False):
    """
    A frame to send again.
    """

    offset_ns: int
    """After the first frame of the capture; never less than that of the frame before."""
    text: str
    kind: FrameKind
    channel: str
    """Channel name of a data frame, else empty."""


class Due(msgspec.Struct, frozen=True, gc=False):
    """
    A frame of a history, and when it is due.
    """

    offset_ns: int
    """After the history's beginning."""
    payload: bytes
    channel: str | None
    """Channel name of a data frame; None for what goes to everybody."""


class Timeline(Protocol):
    """
    A history that all clients hear together, as they hear the venue.
    """

    @property
    def markets(self) -> Sequence[SimMarket]:
        """
        That may be asked for.
        """

    @property
    def ungrouped(self) -> bool:
        """
        Whether books are ungrouped unless asked for otherwise, as old servers had it.
        """

    def batches(self) -> Iterator[list[Due]]:
        """
        All frames in order. It may block.
        """


def read_capture(path: Path, *, verbatim: bool = False) -> list[CapturedFrame]:
    """
    The frames of a capture that are to be sent, in order.

    Raises:
        ForeignFile: not a capture, or nothing in it to send.
    """
    frames: list[CapturedFrame] = []
    first: int | None = None
    offset = 0
    decoder = msgspec.json.Decoder(_Line)
    for number, text in enumerate(_lines(path), 1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ForeignFile(path, f"line {number} is no captured frame: {error}", _NO_CAPTURE) from None
        first = line.recv_ts_ns if first is None else first
        offset = max(offset, line.recv_ts_ns - first)
        seen = peek(line.frame.encode("utf-8", "surrogatepass"))
        if verbatim or seen.kind not in {FrameKind.ACK, FrameKind.ERROR, FrameKind.HEARTBEAT}:
            channel = seen.name if seen.kind == FrameKind.DATA else ""
            frames.append(CapturedFrame(offset, line.frame, seen.kind, channel))
    if not frames:
        raise ForeignFile(path, "holds no frames", _NO_CAPTURE)
    return frames


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            if file.peek(4)[:4] == zstandard.FRAME_HEADER:
                inflated = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
                with io.TextIOWrapper(inflated, encoding="utf-8") as lines:
                    yield from lines
            else:
                with io.TextIOWrapper(file, encoding="utf-8") as lines:
                    yield from lines
    except (OSError, zstandard.ZstdError, UnicodeDecodeError) as error:
        raise ForeignFile(path, str(error), _NO_CAPTURE) from None


def markets_of(frames: list[CapturedFrame]) -> list[SimMarket]:
    """
    The markets that book frames name, in order of appearance, so that subscribing to them is acknowledged.
    """
    markets: dict[str, SimMarket] = {}
    for frame in frames:
        seen = peek(frame.text.encode("utf-8", "surrogatepass"))
        if seen.channel is None or seen.market_name is None:
            continue
        stream = f"{seen.channel.market_type} {seen.channel.market_index}"
        if stream not in markets:
            markets[stream] = market_named(seen.channel.market_type, seen.market_name, seen.channel.market_index)
    return list(markets.values())


def due_after(frame: CapturedFrame, *, speed: float) -> float:
    """
    Seconds from the beginning of a replay at which a frame is due; 0 for a speed of 0, as fast as possible.
    """
    return frame.offset_ns / SECOND_NS / speed if speed > 0 else 0.0
