"""
Nothing from outside may raise what nobody expects: `python tests/faults/fuzz.py --inputs 10000000 [--seed N]`.

Three targets, each with inputs made by changing good ones: frames through `peek` and `decode`, journals through the
segment reader, and whole conversations through the session's state machine. Prints how many of each, and how fast.
"""

import argparse
import json
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from captures import CAPTURES, capture
from recorder.capture.session import Abort, Note, Send, Session, SessionSettings
from recorder.errors import RecorderError
from recorder.journal.entry import encode_entry, encode_header
from recorder.journal.names import SEGMENT_SUFFIX, run_name, segment_name
from recorder.journal.reader import Damage, read_segment
from recorder.records import SECOND_NS, EntryKind, SegmentHeader, Stream
from recorder.venue.normalize import decode
from recorder.venue.protocol import FrameKind, Peek, ack_text, peek

START = 1_795_000_000 * SECOND_NS
RUN = run_name(START, "abcdef")
MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of its own is made there
INTERESTING = (b"\x00", b"\xff", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b"e999", b"null", b"1e-400")
STREAMS = [
    Stream("perp", name, channel, 1 if channel == "orderbook" else None)
    for name in ("SOL-PERP", "BTC-PERP", "ETH-PERP")
    for channel in ("orderbook", "trades")
]


def changed(good: bytes, chance: random.Random) -> bytes:
    """
    A few changes: bits, bytes, pieces taken out, doubled, swapped in from elsewhere, or the end cut off.
    """
    data = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[at % len(data)] = chance.randrange(256)
            case 2:
                del data[at : at + chance.choice((1, 2, 8, 64))]
            case 3:
                data[at:at] = data[at : at + chance.choice((1, 8, 64))]
            case 4:
                data[at:at] = chance.choice(INTERESTING) * chance.choice((1, 1, 3, 40))
            case 5:
                other = chance.randrange(len(data) + 1)
                data[at : at + 16] = data[other : other + 16]
            case _:
                del data[at:]
    return bytes(data)


# ---- frames


def good_frames() -> list[bytes]:
    """
    Of all servers that were captured, and the answers there are.
    """
    frames = [captured.frame for name in CAPTURES for captured in list(capture(name))[:200]]
    # Most of the usual size: those of old servers are six times as large, and cost as much more.
    small = [frame for frame in frames if len(frame) < 4500]
    large = [frame for frame in frames if len(frame) >= 4500]
    return [
        *small,
        *large[:: max(1, 20 * len(large) // max(1, len(small)))],
        b'{"channel":"heartbeat"}',
        b'{"message":"Subscribe received for channel: orderbook"}',
        b'{"error":"x"}',
    ]


def fuzz_frames(chance: random.Random) -> Iterator[None]:
    """
    Whatever comes is something: `peek` and `decode` give an answer and raise nothing.
    """
    good = good_frames()
    while True:
        payload = changed(chance.choice(good), chance)
        seen = peek(payload)
        assert isinstance(seen.kind, FrameKind)
        decoded = decode(payload, size_exponent=chance.choice((None, 9, 5)))
        assert decoded is not None
        yield


# ---- journals


def good_segment(chance: random.Random) -> bytes:
    """
    A small one, as the writer writes it: zstd frames of entries.
    """
    header = SegmentHeader(1, RUN, "host", "0", "test", "mainnet-beta", STREAMS)
    compressor = zstandard.ZstdCompressor(level=1)
    out, seq, at = [], 1, START
    for number in range(3):
        entries = [encode_header(header, seq=seq, recv_ts=at)] if not number else []
        for _ in range(4):
            payload = chance.randbytes(chance.choice((0, 30, 300)))
            entries.append(encode_entry(EntryKind.FRAME, 0, 1, seq, at, payload))
            seq, at = seq + 1, at + 1000
        out.append(compressor.compress(b"".join(entries)))
    return b"".join(out)


def fuzz_journals(chance: random.Random) -> Iterator[None]:
    """
    A damaged segment gives entries of its run and damages with their place, or is refused in words.
    """
    # In memory, where there is such a folder: a file that is cut off and written anew is flushed by ext4 each time.
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        run = Path(folder) / RUN
        run.mkdir()
        path = run / segment_name(START)
        assert path.name.endswith(SEGMENT_SUFFIX)
        good = [good_segment(chance) for _ in range(16)]
        while True:
            path.write_bytes(changed(chance.choice(good), chance))
            damages: list[Damage] = []
            words = ""
            try:
                for entry in read_segment(path, on_damage=damages.append):
                    assert entry.run == RUN
                    assert len(entry.payload) < 1 << 20
            except RecorderError as error:
                words = str(error)
            assert words.isprintable()
            assert all(damage.offset >= 0 and damage.reason.isprintable() for damage in damages)
            yield


# ---- conversations


def any_frame(chance: random.Random) -> Peek:
    """
    Something the venue might say.
    """
    stream = chance.choice(STREAMS)
    match chance.randrange(6):
        case 0:
            return Peek(FrameKind.HEARTBEAT, name="heartbeat")
        case 1:
            return Peek(FrameKind.ACK, text=ack_text(stream))
        case 2:
            return Peek(
                FrameKind.ERROR, name=chance.choice(("orderbook", "trades", "", "x")), text="Error subscribing to"
            )
        case 3:
            return Peek(FrameKind.UNKNOWN, name="?", text="?")
        case 4:
            return Peek(FrameKind.UNDECODABLE, text="?")
        case _:
            return Peek(FrameKind.DATA, name="x")


def fuzz_sessions(chance: random.Random) -> Iterator[None]:
    """
    Each step of a conversation is one input. Whatever is heard in whatever order: nothing is raised, nothing is sent
    while it is closed, every wait is within its bounds, and what it carries is what it was given.
    """
    while True:
        session = Session(STREAMS[: chance.randrange(1, 7)], SessionSettings(), chance, probation=chance.random() < 0.2)
        carried = set(session.streams)
        now, is_open = SECOND_NS, False
        for _ in range(200):
            now += chance.choice((0, 1_000_000, 20_000_000, 200_000_000, SECOND_NS, 5 * SECOND_NS, 60 * SECOND_NS))
            step = chance.randrange(12)
            actions = []
            if step == 0 and not is_open:
                actions, is_open = session.opened(now), True
            elif step == 1:
                code = chance.choice((None, 1000, 1003, 1006, 1008))
                wait_s = session.ended(now, opened=is_open, close_code=code)
                assert 0 <= wait_s <= (300 if code == 1003 else 30)
                is_open = False
            elif step == 2:
                stream = chance.choice(STREAMS)
                session.add(stream, new=chance.random() < 0.5)
                carried.add(stream)
            elif step == 3:
                stream = chance.choice(STREAMS)
                session.remove(stream)
                carried.discard(stream)
            elif step < 6:
                actions = session.tick(now)
            elif is_open:
                actions = session.heard(now, any_frame(chance), chance.choice([None, *STREAMS]))
            assert set(session.streams) == carried
            assert set(session.live()) <= carried
            for action in actions:
                if isinstance(action, Send):
                    assert is_open
                    assert msgspec.json.decode(action.text)["type"] in {"subscribe", "unsubscribe"}
                elif isinstance(action, Abort):
                    is_open = False
                    session.ended(now, opened=True)
                else:
                    assert isinstance(action, Note) or action.stream in carried
            yield


TARGETS: dict[str, tuple[Callable[[random.Random], Iterator[None]], float]] = {
    "frames": (fuzz_frames, 0.46),
    "journals": (fuzz_journals, 0.04),
    "sessions": (fuzz_sessions, 0.5),
}
"""With the share of inputs each has: a journal costs a file."""


def fuzz(
    *, inputs: int, seed: int, within_s: float = float("inf"), say: Callable[[str], None] = lambda _: None
) -> dict[str, int]:
    """
    Feed all targets; how many inputs each had.

    Args:
        inputs: all together.
        seed: of all changes.
        within_s: stop earlier, after this long.
        say: is told how far it is, each 100,000 inputs of a target and at its end.
    """
    done: dict[str, int] = {}
    for name, (target, share) in TARGETS.items():
        began, count, feed = time.monotonic(), 0, target(random.Random(f"{seed} {name}"))
        for _ in range(round(inputs * share)):
            if count % 64 == 0 and time.monotonic() - began > within_s * share:
                break
            next(feed)
            count += 1
            if count % 100_000 == 0:
                say(f"{count:,} {name} after {time.monotonic() - began:.0f} s")
        feed.close()  # type: ignore[attr-defined]
        done[name] = count
        say(f"{count:,} {name} in {time.monotonic() - began:.0f} s")
    return done


def main() -> None:
    """
    Say how many, and how long it took.
    """
    parser = argparse.ArgumentParser(description="Fuzz decoding, journal reading and the session.")
    parser.add_argument("--inputs", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--within", type=float, default=float("inf"), help="Seconds.")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    done = fuzz(inputs=options.inputs, seed=seed, within_s=options.within, say=lambda words: print(words, flush=True))
    took_s = time.monotonic() - began
    print(
        json.dumps(
            {**done, "all": sum(done.values()), "seconds": round(took_s), "per_s": round(sum(done.values()) / took_s)}
        )
    )


if __name__ == "__main__":
    main()
