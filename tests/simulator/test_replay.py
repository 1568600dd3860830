"""
Captures as something to send again.
"""

import json
from pathlib import Path

import pytest
import zstandard

from recorder.errors import ForeignFile
from recorder.simulator.replay import due_after, markets_of, read_capture
from recorder.venue.protocol import FrameKind

FIXTURES = Path(__file__).parents[1] / "fixtures"
CAPTURES = sorted(FIXTURES.glob("dlob-real-server*.jsonl.zst"))


def captured(path):
    """
    The lines of a capture, read plainly.
    """
    text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True).read()
    return [json.loads(line) for line in text.decode().splitlines()]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_all_data_frames_of_a_capture_are_sent_in_order_and_nothing_of_our_own(path):
    """
    Acks, errors and heartbeats are left out, because the simulator makes its own.
    """
    frames = read_capture(path)

    expected = [line["frame"] for line in captured(path) if "data" in json.loads(line["frame"])]
    assert [frame.text for frame in frames] == expected
    assert {frame.kind for frame in frames} == {FrameKind.DATA}
    assert [frame.offset_ns for frame in frames] == sorted(frame.offset_ns for frame in frames)


def test_verbatim_leaves_nothing_out():
    """
    Also from a plain file.
    """
    lines = captured(CAPTURES[0])

    frames = read_capture(CAPTURES[0], verbatim=True)

    assert [frame.text for frame in frames] == [line["frame"] for line in lines]
    assert frames[-1].offset_ns == lines[-1]["recv_ts_ns"] - lines[0]["recv_ts_ns"]


def test_a_plain_file_is_read_like_a_compressed_one(tmp_path):
    """
    The kind is told by the file's first bytes, not by its name.
    """
    path = tmp_path / "capture.zst"
    path.write_text("".join(json.dumps(line) + "\n\n" for line in captured(CAPTURES[0])), encoding="utf-8")

    assert read_capture(path) == read_capture(CAPTURES[0])


def test_time_never_runs_backwards_in_a_replay(tmp_path):
    """
    A capture made across a clock step keeps its order.
    """
    path = tmp_path / "capture"
    path.write_text(
        "".join(
            json.dumps({"recv_ts_ns": ts, "frame": '{"channel":"trades_perp_0","data":"{}"}'}) + "\n"
            for ts in (5, 9, 2, 7)
        )
    )

    assert [frame.offset_ns for frame in read_capture(path)] == [0, 4, 4, 4]


def test_the_markets_spoken_of_can_be_subscribed_to():
    """
    As books name them, perps and spot.
    """
    path = FIXTURES / "dlob-real-server.jsonl.zst"

    markets = {(market.market_type, market.symbol, market.index) for market in markets_of(read_capture(path))}

    assert markets == {
        ("perp", "SOL-PERP", 0),
        ("perp", "BTC-PERP", 1),
        ("perp", "ETH-PERP", 2),
        ("perp", "1MBONK-PERP", 4),
        ("spot", "USDC", 0),
        ("spot", "SOL", 1),
        ("spot", "USDT", 5),
        ("spot", "BONK", 32),
    }


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 3.0), (2.0, 1.5), (0.5, 6.0), (0.0, 0.0)])
def test_speed_divides_the_captures_own_pace(speed, seconds):
    """
    Zero is as fast as possible.
    """
    frame = read_capture(CAPTURES[0])[0]

    assert due_after(type(frame)(3_000_000_000, "", FrameKind.DATA, ""), speed=speed) == seconds


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b'{"recv_ts_ns": 1}\n',
        b'{"recv_ts_ns": "x", "frame": ""}\n',
        b"\xff\xfe\n",
        b"\x28\xb5\x2f\xfd garbage",
        zstandard.compress(b'{"recv_ts_ns": 1, "frame": "{}"}\n' * 1000)[:-8],
    ],
)
def test_what_is_no_capture_is_refused_in_one_line(tmp_path, content):
    """
    Empty, foreign, damaged or cut short.
    """
    path = tmp_path / "capture"
    path.write_bytes(content)

    with pytest.raises(ForeignFile, match="give a file of captured frames"):
        read_capture(path)


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    """
    So is a directory.
    """
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ForeignFile):
            read_capture(path)
